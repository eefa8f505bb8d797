//! From a contract to code.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{DeriveInput, Pat};

use super::debug;
use super::model::{Contract, Key};
use crate::errors::Errors;
use crate::krate::{local, located};

/// The item, its implementation, and, when nothing is wrong, its registration.
pub(crate) fn expand(contract: &Contract, errors: &Errors) -> TokenStream {
    let Contract { item, krate, derives, fields, .. } = contract;
    let private = krate.private(located(item.ident.span()));
    let derive = contract.serde.then(|| derives.missing(item, krate));
    let debug = (!derives.debug()).then(|| debug::implementation(item, fields));
    let documented = documented(contract);
    let implementation = implementation(contract);
    let checks = [upcast_check(contract), codec_check(contract)];
    let checks = checks.iter().flatten();
    let registration = errors.is_empty().then(|| {
        let name = &item.ident;
        let root = krate.root(located(name.span()));
        quote_spanned!(located(name.span())=> #private::register!(event <#name as #root::Event>::DESCRIPTOR);)
    });
    quote! {
        #errors
        #derive
        #documented
        #debug
        #implementation
        #(#checks)*
        #registration
    }
}

/// The item with a line about its contract at the end of its documentation.
fn documented(contract: &Contract) -> DeriveInput {
    let mut item = contract.item.clone();
    let line = format!(" Event `{}`, version {}.", contract.topic, contract.version);
    if !contract.doc.is_empty() {
        item.attrs.push(syn::parse_quote!(#[doc = ""]));
    }
    item.attrs.push(syn::parse_quote!(#[doc = #line]));
    item
}

fn implementation(contract: &Contract) -> TokenStream {
    let Contract { item, krate, topic, version, doc, fields, .. } = contract;
    let (name, span) = (&item.ident, located(item.ident.span()));
    let (root, private) = (krate.root(span), krate.private(span));
    let text = name.unraw().to_string();
    let sensitive = fields.names();
    let key = key(contract);
    let has_key = key.is_some();
    let (codec, decode, oldest) = (codec(contract), decode(contract), oldest(contract));
    quote_spanned! {span=>
        #[automatically_derived]
        impl #root::Event for #name {
            const DESCRIPTOR: &'static #root::EventDescriptor = {
                static DESCRIPTOR: #root::EventDescriptor = #root::EventDescriptor {
                    topic: #topic,
                    version: #version,
                    name: #text,
                    doc: #doc,
                    at: #private::here!(),
                    type_id: ::core::any::TypeId::of::<#name>(),
                    oldest: #oldest,
                    content_type: #private::content_type::<#name>(),
                    has_key: #has_key,
                    sensitive: &[#(#sensitive),*],
                    check: #private::check::<#name>,
                };
                &DESCRIPTOR
            };

            type Codec = #codec;

            #key

            #decode
        }
    }
}

fn key(contract: &Contract) -> Option<TokenStream> {
    let (expression, span) = match contract.key.as_ref()? {
        Key::Field(field) => {
            let span = located(field.span());
            (quote_spanned!(span=> &self.#field), span)
        }
        Key::Closure(closure) => {
            let span = located(closure.body.span());
            let (body, event) = (&closure.body, local("event", span));
            let input = match closure.inputs.first() {
                Some(Pat::Type(typed)) => quote!(#typed),
                Some(pattern) => quote_spanned!(span=> #pattern: &Self),
                None => quote_spanned!(span=> _: &Self),
            };
            // Not a closure: `return` and `?` would mean the function anyway, and its parameter needs its type.
            (quote_spanned!(span=> &{ let #event = self; let #input = #event; #body }), span)
        }
    };
    let private = contract.krate.private(span);
    Some(quote_spanned! {span=>
        fn key(&self) -> ::core::option::Option<#private::CompactString> {
            ::core::option::Option::Some(#private::key_text(#expression))
        }
    })
}

fn codec(contract: &Contract) -> TokenStream {
    match &contract.codec {
        Some(codec) => quote!(#codec),
        None => {
            let root = contract.krate.root(located(contract.item.ident.span()));
            quote!(#root::Json)
        }
    }
}

fn decode(contract: &Contract) -> TokenStream {
    let span = located(contract.item.ident.span());
    let (root, private, version) = (contract.krate.root(span), contract.krate.private(span), contract.version);
    let (given, bytes, old) = (local("version", span), local("bytes", span), local("old", span));
    let older = contract.upcast.as_ref().map(|upcast| {
        let (from, at) = (&upcast.from, located(upcast.from.span()));
        let private = contract.krate.private(at);
        let converted = match &upcast.with {
            Some(with) => {
                let at = located(with.span());
                let private = contract.krate.private(at);
                quote_spanned!(at=> #private::upcast::<Self, #from, _>(#with, #old))
            }
            None => quote_spanned!(at=> ::core::result::Result::Ok(<Self as ::core::convert::From<#from>>::from(#old))),
        };
        quote_spanned! {at=>
            if #given < #version {
                let #old = #private::read_older::<Self, #from>(#given, #bytes)?;
                return #converted;
            }
        }
    });
    quote_spanned! {span=>
        fn decode(#given: u32, #bytes: &[u8]) -> ::core::result::Result<Self, #root::Unreadable> {
            #older
            #private::read(#given, #bytes)
        }
    }
}

/// A function, not a constant: a cycle of upcasts then ends in our own check and not in rustc's words about cycles.
fn oldest(contract: &Contract) -> TokenStream {
    let span = located(contract.item.ident.span());
    match &contract.upcast {
        Some(upcast) => {
            let (from, at) = (&upcast.from, located(upcast.from.span()));
            let root = contract.krate.root(at);
            quote_spanned!(at=> || (<#from as #root::Event>::DESCRIPTOR.oldest)())
        }
        None => {
            let version = contract.version;
            quote_spanned!(span=> || #version)
        }
    }
}

fn upcast_check(contract: &Contract) -> Option<TokenStream> {
    let upcast = contract.upcast.as_ref()?;
    let (name, from, span) = (&contract.item.ident, &upcast.from, located(upcast.from.span()));
    let private = contract.krate.private(span);
    Some(quote_spanned!(span=> const _: () = #private::check_upcast::<#name, #from>();))
}

fn codec_check(contract: &Contract) -> Option<TokenStream> {
    let span = located(contract.codec.as_ref()?.span());
    let (name, private) = (&contract.item.ident, contract.krate.private(span));
    Some(quote_spanned!(span=> const _: () = #private::check_codec::<#name>();))
}
