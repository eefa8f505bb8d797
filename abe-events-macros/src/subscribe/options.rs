//! What `#[subscribe(...)]` says, checked.

use proc_macro2::{Group, Ident};
use quote::ToTokens;
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Error, Expr, LitStr, Token, token};

use super::policy::Policy;
use crate::args::{Argument, Arguments, Value};
use crate::errors::Errors;
use crate::item::Function;
use crate::krate::Krate;
use crate::names::{fault_of, fault_of_pattern};
use crate::values::{Callable, literal};

/// What `#[subscribe(...)]` knows.
pub(crate) const KEYS: [&str; 19] = [
    "topic",
    "topics",
    "name",
    "group",
    "filter",
    "filter_meta",
    "headers",
    "batch",
    "max_wait",
    "bytes",
    "idempotent",
    "retry",
    "timeout",
    "concurrency",
    "ordered",
    "when_full",
    "dead_letter",
    "blocking",
    "crate",
];

/// The options of a handler.
pub(crate) struct Options {
    pub(crate) krate: Krate,
    pub(crate) name: Option<LitStr>,
    pub(crate) group: Option<LitStr>,
    pub(crate) topics: Vec<LitStr>,
    pub(crate) filter: Option<Callable>,
    pub(crate) filter_meta: Option<Callable>,
    pub(crate) headers: Vec<HeaderRule>,
    pub(crate) policy: Policy,
    /// The key `blocking`, if it is given.
    pub(crate) blocking: Option<Ident>,
}

/// A condition on a header.
pub(crate) enum HeaderRule {
    OneOf(LitStr, Vec<LitStr>),
    Present(LitStr),
    Absent(LitStr),
}

impl Options {
    /// Checks every argument; what is wrong is noted and left out.
    pub(crate) fn new(mut arguments: Arguments, errors: &mut Errors) -> Self {
        let krate = Krate::new(arguments.take("crate").and_then(|argument| errors.note(argument.path())));
        let name = arguments.take("name").and_then(|argument| named(&argument, "name", errors));
        let group = arguments.take("group").and_then(|argument| named(&argument, "group", errors));
        let topics = topics(&mut arguments, errors);
        let filter = arguments.take("filter").and_then(|argument| errors.note(argument.callable("&Event")));
        let filter_meta = arguments.take("filter_meta").and_then(|argument| errors.note(argument.callable("&Meta")));
        let headers = arguments.take("headers").map(|argument| headers(&argument, errors)).unwrap_or_default();
        let policy = Policy::new(&mut arguments, errors);
        let blocking = arguments.take("blocking").and_then(|argument| errors.note(argument.bare().map(|()| argument.key.clone())));
        Self { krate, name, group, topics, filter, filter_meta, headers, policy, blocking }
    }

    /// Checks what depends on the function.
    pub(crate) fn check_with(&self, function: &Function, errors: &mut Errors) {
        if let (Some(key), Some(_)) = (&self.blocking, &function.sig.asyncness) {
            errors.at(key, "`blocking` is for a function that is not `async`: it moves it to the blocking pool");
        }
    }
}

fn named(argument: &Argument, what: &str, errors: &mut Errors) -> Option<LitStr> {
    let text = errors.note(argument.text())?;
    match fault_of(what, &text.value().replace("::", ".")) {
        Some(fault) => {
            errors.at(text, fault);
            None
        }
        None => Some(text),
    }
}

fn topics(arguments: &mut Arguments, errors: &mut Errors) -> Vec<LitStr> {
    let (one, several) = (arguments.take("topic"), arguments.take("topics"));
    if let (Some(_), Some(several)) = (&one, &several) {
        errors.at(&several.key, "`topic` and `topics` exclude each other: put all into `topics = [...]`");
    }
    let mut topics: Vec<LitStr> = one.into_iter().filter_map(|argument| errors.note(argument.text())).collect();
    if let Some(several) = several {
        match texts(&several) {
            Ok(texts) => topics.extend(texts),
            Err(error) => errors.push(error),
        }
    }
    for (at, topic) in topics.iter().enumerate() {
        if let Some(fault) = fault_of_pattern(&topic.value()) {
            errors.at(topic, fault);
        } else if topics[..at].iter().any(|before| before.value() == topic.value()) {
            errors.at(topic, format_args!("topic `{}` is given twice", topic.value()));
        }
    }
    topics
}

fn texts(argument: &Argument) -> syn::Result<Vec<LitStr>> {
    let message = format!("`{}` takes a list of strings, such as `[\"order.created\", \"order.paid\"]`", argument.key);
    let Value::Is(value) = &argument.value else { return Err(Error::new_spanned(&argument.key, message)) };
    list(value).ok_or_else(|| Error::new_spanned(value, message))
}

fn list(value: &Expr) -> Option<Vec<LitStr>> {
    let Expr::Array(array) = value else { return None };
    let texts: Option<Vec<LitStr>> = array.elems.iter().map(text).collect();
    texts.filter(|texts| !texts.is_empty())
}

fn text(value: &Expr) -> Option<LitStr> {
    match literal(value) {
        Some(syn::Lit::Str(text)) => Some(text.clone()),
        _ => None,
    }
}

fn headers(argument: &Argument, errors: &mut Errors) -> Vec<HeaderRule> {
    let Value::List(group) = &argument.value else {
        errors.at(&argument.key, "`headers` takes rules: `headers(\"tenant\" = \"a\", \"source\", !\"test\")`");
        return Vec::new();
    };
    let rules = errors.note(rules(group)).unwrap_or_default();
    for (at, rule) in rules.iter().enumerate() {
        let name = rule.name();
        if name.value().is_empty() {
            errors.at(name, "a header's name must not be empty");
        } else if rules[..at].iter().any(|before| before.name().value() == name.value()) {
            errors.at(name, format_args!("header `{}` is given twice; several values are `= [\"a\", \"b\"]`", name.value()));
        }
    }
    rules
}

fn rules(group: &Group) -> syn::Result<Vec<HeaderRule>> {
    let rule = |input: ParseStream<'_>| {
        let absent = input.parse::<Option<Token![!]>>()?.is_some();
        let name: LitStr = input.parse().map_err(|error| Error::new(error.span(), "expected a header's name, as a string"))?;
        if absent {
            return Ok(HeaderRule::Absent(name));
        }
        if input.parse::<Option<Token![=]>>()?.is_none() {
            return Ok(HeaderRule::Present(name));
        }
        let several = input.peek(token::Bracket);
        let value: Expr = input.parse()?;
        let values = if several { list(&value) } else { text(&value).map(|text| vec![text]) };
        let values =
            values.ok_or_else(|| Error::new_spanned(value.to_token_stream(), "a header's value is a string or a list of strings"))?;
        Ok(HeaderRule::OneOf(name, values))
    };
    let parse = |input: ParseStream<'_>| Punctuated::<HeaderRule, Token![,]>::parse_terminated_with(input, rule);
    Ok(parse.parse2(group.stream())?.into_iter().collect())
}

impl HeaderRule {
    fn name(&self) -> &LitStr {
        match self {
            Self::OneOf(name, _) | Self::Present(name) | Self::Absent(name) => name,
        }
    }
}
