//! Lists of `key = value`, `key(...)` and `key`, as written.

use proc_macro2::{Group, Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::ext::IdentExt;
use syn::parse::{ParseStream, Parser};
use syn::{Expr, Lit, Token};

use crate::errors::Errors;
use crate::names::nearest;

/// One argument as written.
pub(crate) struct Argument {
    pub(crate) key: Ident,
    pub(crate) value: Value,
}

/// What stands after a key.
pub(crate) enum Value {
    /// Nothing.
    Flag,
    /// `= expression`.
    Is(Box<Expr>),
    /// `(...)`.
    List(Group),
}

/// Arguments by key; each known, and given once.
pub(crate) struct Arguments(Vec<Argument>);

impl Arguments {
    /// Parses arguments; what cannot be parsed is noted and skipped, so that the others are still checked.
    pub(crate) fn parse(owner: &str, known: &[&str], tokens: TokenStream, errors: &mut Errors) -> Self {
        let mut list: Vec<Argument> = Vec::new();
        let mut parse = |input: ParseStream<'_>| {
            while !input.is_empty() {
                match argument(input, owner, known) {
                    Ok(argument) => match list.iter().any(|before| before.key == argument.key) {
                        true => errors.at(&argument.key, format_args!("`{}` is given twice", argument.key)),
                        false => list.push(argument),
                    },
                    Err(error) => {
                        errors.push(error);
                        skip_to_comma(input);
                    }
                }
                if !input.is_empty() {
                    input.parse::<Token![,]>()?;
                }
            }
            Ok(())
        };
        let parsed = (|input: ParseStream<'_>| parse(input)).parse2(tokens);
        if let Err(error) = parsed {
            errors.push(error);
        }
        Self(list)
    }

    /// Takes an argument out.
    pub(crate) fn take(&mut self, key: &str) -> Option<Argument> {
        let at = self.0.iter().position(|argument| argument.key == key)?;
        Some(self.0.remove(at))
    }

    /// What was not taken out.
    pub(crate) fn rest(&self) -> impl Iterator<Item = &Argument> {
        self.0.iter()
    }
}

fn argument(input: ParseStream<'_>, owner: &str, known: &[&str]) -> syn::Result<Argument> {
    if input.peek(Lit) {
        let first = known.first().copied().unwrap_or_default();
        let literal: Lit = input.parse()?;
        return Err(syn::Error::new_spanned(&literal, format!("write `{first} = {}`", literal.to_token_stream())));
    }
    let key = input.call(Ident::parse_any).map_err(|error| syn::Error::new(error.span(), format!("expected {}", one_of(known))))?;
    if !known.iter().any(|name| key == name) {
        let message = match nearest(&key.to_string(), known) {
            Some(near) => format!("unknown key `{key}` in {owner}; did you mean `{near}`?"),
            None => format!("unknown key `{key}` in {owner}; known are {}", one_of(known)),
        };
        return Err(syn::Error::new_spanned(key, message));
    }
    let value = if input.parse::<Option<Token![=]>>()?.is_some() {
        if input.is_empty() || input.peek(Token![,]) {
            return Err(syn::Error::new_spanned(&key, format!("`{key} =` has no value")));
        }
        let value = input.cursor().token_stream();
        Value::Is(Box::new(input.parse().map_err(|error| unfinished(&key, value, &error))?))
    } else if input.peek(syn::token::Paren) {
        Value::List(input.parse()?)
    } else {
        Value::Flag
    };
    if !input.is_empty() && !input.peek(Token![,]) {
        return Err(input.error("expected `,`"));
    }
    Ok(Argument { key, value })
}

/// An expression that ends too early has no token of its own to report: the whole of it is underlined.
fn unfinished(key: &Ident, value: TokenStream, error: &syn::Error) -> syn::Error {
    let is_comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
    let value: TokenStream = value.into_iter().take_while(|token| !is_comma(token)).collect();
    syn::Error::new_spanned(value, format!("the value of `{key}` is not a Rust expression: {error}"))
}

fn skip_to_comma(input: ParseStream<'_>) {
    while !input.is_empty() && !input.peek(Token![,]) {
        if input.parse::<TokenTree>().is_err() {
            return;
        }
    }
}

fn one_of(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
