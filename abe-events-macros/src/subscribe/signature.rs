//! The function below `#[subscribe]`: its message, its extractors, its kind.

use proc_macro2::{Ident, TokenStream, TokenTree};
use quote::ToTokens;
use syn::{FnArg, ReturnType, Safety, Type};

use crate::errors::Errors;
use crate::item::Function;

/// More parameters than this are a type of their own.
const EXTRACTORS_MAX: usize = 7;

/// A function that can be a handler.
pub(crate) struct Handler<'a> {
    pub(crate) function: &'a Function,
    pub(crate) message: Parameter<'a>,
    pub(crate) extractors: Vec<Parameter<'a>>,
}

/// A parameter: its type, without the reference if it is one.
pub(crate) struct Parameter<'a> {
    pub(crate) ty: &'a Type,
    pub(crate) lent: bool,
    /// `&mut`: an extractor that the call has for itself.
    pub(crate) mutable: bool,
}

impl<'a> Handler<'a> {
    /// Checks a function; `None` when something was noted.
    pub(crate) fn new(function: &'a Function, errors: &mut Errors) -> Option<Self> {
        let sig = &function.sig;
        check_kind(function, errors);
        if let Some(variadic) = &sig.variadic {
            errors.at(variadic, "a handler cannot be variadic");
        }
        if let ReturnType::Type(_, ty) = &sig.output
            && let Some(token) = find_impl(ty.to_token_stream())
        {
            errors.at(token, "a handler's return type must be named: `impl Trait` is not");
        }
        let mut parameters = Vec::new();
        for (index, input) in sig.inputs.iter().enumerate() {
            match input {
                FnArg::Receiver(receiver) => errors.at(receiver, "a handler is a free function: it has no `self`; take `State<S>` instead"),
                FnArg::Typed(typed) => parameters.extend(parameter(&typed.ty, index == 0, errors)),
            }
        }
        if sig.inputs.is_empty() {
            errors.at(&sig.ident, "a handler takes the event as its first parameter: `async fn handle(event: &OrderCreated)`");
        }
        if let Some(beyond) = parameters.get(1 + EXTRACTORS_MAX) {
            let message = format!(
                "a handler takes at most {EXTRACTORS_MAX} parameters after its message; put some into a state or an extractor of your own"
            );
            errors.at(beyond.ty, message);
        }
        let mut parameters = parameters.into_iter();
        Some(Self { function, message: parameters.next()?, extractors: parameters.collect() })
    }
}

fn check_kind(function: &Function, errors: &mut Errors) {
    let sig = &function.sig;
    for attribute in &function.attrs {
        if attribute.path().segments.last().is_some_and(|last| last.ident == "subscribe") {
            errors.at(attribute, "a function is one handler: for another subscription write another function, or use `topics = [...]`");
        }
    }
    if let Safety::Unsafe(token) = &sig.safety {
        errors.at(token, "a handler cannot be `unsafe`: nobody would promise what it asks for");
    }
    if let Some(abi) = &sig.abi {
        errors.at(abi, "a handler cannot be `extern`");
    }
    if !sig.generics.params.is_empty() {
        errors.at(&sig.generics, "a handler cannot be generic: it is one function for one subscription");
    }
    if let Some(bounds) = &sig.generics.where_clause {
        errors.at(bounds, "a handler cannot have a `where` clause");
    }
}

fn parameter<'a>(ty: &'a Type, is_message: bool, errors: &mut Errors) -> Option<Parameter<'a>> {
    if let Some(token) = find_impl(ty.to_token_stream()) {
        errors.at(token, "a handler's parameters must be named types: `impl Trait` is not");
        return None;
    }
    if let Some(token) = extractor_name(ty).filter(|_| is_message) {
        let message =
            format!("a handler's first parameter is its message; `{token}` comes after it: `async fn handle(event: &OrderCreated, ...)`");
        errors.at(token, message);
        return None;
    }
    match ty {
        // A type that came through `macro_rules!` stands in an invisible group.
        Type::Group(group) => parameter(&group.elem, is_message, errors),
        Type::Paren(paren) => parameter(&paren.elem, is_message, errors),
        Type::Reference(reference) => {
            if let Some(token) = reference.mutability.as_ref().filter(|_| is_message) {
                errors.at(token, "a handler's message is shared with other handlers: take `&T`, `Arc<T>` or `T`");
                return None;
            }
            Some(Parameter { ty: &reference.elem, lent: true, mutable: reference.mutability.is_some() })
        }
        _ => Some(Parameter { ty, lent: false, mutable: false }),
    }
}

/// The name of an extractor that cannot be an event's, since no event has arguments. Aliases of it are noticed by their type.
fn extractor_name(ty: &Type) -> Option<&Ident> {
    let ty = if let Type::Reference(reference) = ty { &reference.elem } else { ty };
    let Type::Path(path) = ty else { return None };
    let last = path.path.segments.last()?;
    (!last.arguments.is_none() && (last.ident == "Tx" || last.ident == "State")).then_some(&last.ident)
}

/// The first `impl` within a type.
fn find_impl(tokens: TokenStream) -> Option<TokenTree> {
    tokens.into_iter().find_map(|token| match &token {
        TokenTree::Ident(ident) if ident == "impl" => Some(token),
        TokenTree::Group(group) => find_impl(group.stream()),
        _ => None,
    })
}
