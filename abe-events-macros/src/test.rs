//! `#[abe_events::test]`: an async test with a bus of its own.

use proc_macro2::{Span, TokenStream};
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;

use crate::args::Arguments;
use crate::errors::Errors;
use crate::item::Function;
use crate::krate::{Krate, located};

/// Expands the attribute.
pub(crate) fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let mut arguments = Arguments::parse("`#[abe_events::test]`", &["crate"], arguments, &mut errors);
    let krate = Krate::new(arguments.take("crate").and_then(|argument| errors.note(argument.path())));
    let function: Function = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(error) => {
            let error = error.to_compile_error();
            return quote!(#item #error);
        }
    };
    check(&function, &mut errors);
    if !errors.is_empty() {
        return quote!(#errors #function);
    }
    let Function { attrs, vis, sig, body } = &function;
    let (name, span) = (&sig.ident, located(sig.ident.span()));
    let private = krate.private(span);
    let run = quote_spanned! {span=>
        #private::run_test(::core::concat!(::core::module_path!(), "::", ::core::stringify!(#name)), #name)
    };
    quote! {
        #[::core::prelude::v1::test]
        #(#attrs)*
        #vis fn #name() {
            #sig #body
            #run
        }
    }
}

fn check(function: &Function, errors: &mut Errors) {
    let sig = &function.sig;
    if sig.asyncness.is_none() {
        errors.at(sig.fn_token, "a test with a bus is an `async fn`");
    }
    if sig.inputs.len() != 1 {
        let span = if sig.inputs.is_empty() { sig.ident.span() } else { sig.inputs.span() };
        errors.push(syn::Error::new(Span::call_site().located_at(span), "a test takes one parameter, its `TestBus`"));
    }
    if !sig.generics.params.is_empty() {
        errors.at(&sig.generics, "a test cannot be generic");
    }
}
