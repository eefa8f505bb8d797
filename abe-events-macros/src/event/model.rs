//! An event's contract: everything the expansion needs, checked.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Lit, LitInt, Path, Result};

use super::derives::Derives;
use super::fields::Fields;
use crate::args::{Argument, Arguments, Value};
use crate::errors::Errors;
use crate::item::doc_of;
use crate::krate::Krate;
use crate::names::fault_of;
use crate::values::{Callable, literal};

/// What `#[event(...)]` knows.
pub(crate) const KEYS: [&str; 8] = ["topic", "version", "key", "upcast_from", "upcast_with", "codec", "serde", "crate"];

/// A contract. When mistakes were noted it holds stand-ins for what was wrong, so that handlers of the event do not fail as well.
pub(crate) struct Contract {
    /// The item without our marks.
    pub(crate) item: DeriveInput,
    pub(crate) krate: Krate,
    pub(crate) topic: String,
    pub(crate) version: u32,
    pub(crate) key: Option<Key>,
    pub(crate) upcast: Option<Upcast>,
    /// `None` for JSON.
    pub(crate) codec: Option<Path>,
    pub(crate) derives: Derives,
    /// Whether missing derives of serde are added.
    pub(crate) serde: bool,
    pub(crate) fields: Fields,
    pub(crate) doc: String,
}

/// What order and partition follow.
pub(crate) enum Key {
    /// A field, by name or number.
    Field(Box<syn::Member>),
    /// `|event| expression`.
    Closure(Box<syn::ExprClosure>),
}

/// How an older version becomes this one.
pub(crate) struct Upcast {
    pub(crate) from: Path,
    /// `None` for `From`.
    pub(crate) with: Option<Path>,
}

impl Contract {
    /// Checks everything; an item that can be no event at all comes back.
    pub(crate) fn new(
        arguments: &mut Arguments,
        mut item: DeriveInput,
        errors: &mut Errors,
    ) -> std::result::Result<Self, Box<DeriveInput>> {
        // What could not be read may have been the topic.
        let all_read = errors.is_empty();
        let krate = Krate::new(arguments.take("crate").and_then(|argument| errors.note(argument.path())));
        let topic = topic(arguments.take("topic"), all_read, errors).unwrap_or_else(|| "invalid".to_owned());
        let version = arguments.take("version").and_then(|argument| errors.note(version(&argument))).unwrap_or(1);
        let key = arguments.take("key").and_then(|argument| errors.note(key(&argument)));
        let upcast = upcast(arguments, errors);
        let codec = arguments.take("codec").and_then(|argument| errors.note(argument.path()));
        let serde = arguments.take("serde").and_then(|argument| errors.note(argument.boolean())).unwrap_or(true);
        let fields = Fields::take_marks(&mut item, errors);
        if !can_be_event(&item, errors) {
            return Err(Box::new(item));
        }
        let derives = Derives::of(&item, fields.any_sensitive(), errors);
        let doc = doc_of(&item.attrs);
        Ok(Self { item, krate, topic, version, key, upcast, codec, derives, serde, fields, doc })
    }
}

fn can_be_event(item: &DeriveInput, errors: &mut Errors) -> bool {
    if let Data::Union(data) = &item.data {
        errors.at(data.union_token, "an event is a struct or an enum");
        return false;
    }
    let generics = &item.generics;
    if !generics.params.is_empty() || generics.where_clause.is_some() {
        let tokens = if generics.params.is_empty() { quote::quote!(#generics.where_clause) } else { quote::quote!(#generics) };
        errors.at(tokens, "an event cannot be generic: a contract is one type");
        return false;
    }
    true
}

fn topic(argument: Option<Argument>, all_read: bool, errors: &mut Errors) -> Option<String> {
    let Some(argument) = argument else {
        if all_read {
            errors.push(Error::new(Span::call_site(), "`topic` is missing: write `#[event(topic = \"order.created\")]`"));
        }
        return None;
    };
    let text = errors.note(argument.text())?;
    match fault_of("topic", &text.value()) {
        Some(fault) if text.value().contains(['*', '>']) => {
            errors.at(text, format_args!("{fault}; wildcards belong into `#[subscribe(topic = ...)]`"));
            None
        }
        Some(fault) => {
            errors.at(text, fault);
            None
        }
        None => Some(text.value()),
    }
}

fn version(argument: &Argument) -> Result<u32> {
    let refuse = |span: Span| Err(Error::new(span, "`version` is `\"vN\"` or an integer, with N from 1 to 65535, such as `\"v2\"`"));
    let Value::Is(value) = &argument.value else { return refuse(argument.key.span()) };
    let number = match literal(value) {
        Some(Lit::Int(number)) => number.base10_parse::<u32>().ok(),
        Some(Lit::Str(text)) => {
            let text = text.value();
            let digits = text.strip_prefix('v').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            digits.and_then(|digits| digits.parse().ok())
        }
        _ => None,
    };
    match number {
        Some(number @ 1..=65_535) => Ok(number),
        _ => refuse(value.span()),
    }
}

fn key(argument: &Argument) -> Result<Key> {
    if let Value::Is(value) = &argument.value
        && let Some(Lit::Int(number)) = literal(value)
    {
        return Ok(Key::Field(Box::new(syn::Member::Unnamed(index(number)?))));
    }
    match argument.callable("&Self")? {
        Callable::Closure(closure) => Ok(Key::Closure(Box::new(closure))),
        Callable::Function(path) => match path.path.get_ident() {
            Some(field) => Ok(Key::Field(Box::new(syn::Member::Named(field.clone())))),
            None => Err(Error::new_spanned(path, "`key` takes a field or a closure: write `key = |event| ...`")),
        },
    }
}

fn index(number: &LitInt) -> Result<syn::Index> {
    Ok(syn::Index { index: number.base10_parse()?, span: number.span() })
}

fn upcast(arguments: &mut Arguments, errors: &mut Errors) -> Option<Upcast> {
    let from = arguments.take("upcast_from");
    let with = arguments.take("upcast_with");
    let Some(from) = from else {
        if let Some(with) = with {
            errors.at(with.key, "`upcast_with` needs `upcast_from`, the older version's type");
        }
        return None;
    };
    let from = errors.note(from.path());
    let with = with.and_then(|with| errors.note(with.path()));
    Some(Upcast { from: from?, with })
}
