//! `#[event]` on an enum without a topic: a union of events, to subscribe to several topics with types.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Field, Ident};

use crate::args::Arguments;
use crate::errors::Errors;
use crate::krate::{Krate, local, located};

/// Expands a union.
pub(crate) fn expand(mut arguments: Arguments, item: DeriveInput, mut errors: Errors) -> TokenStream {
    let krate = Krate::new(arguments.take("crate").and_then(|argument| errors.note(argument.path())));
    let variants = variants(&item, &mut errors);
    if !item.generics.params.is_empty() {
        errors.at(&item.generics, "a union of events cannot be generic");
    }
    if !errors.is_empty() {
        return quote!(#errors #item);
    }
    let implementation = implementation(&item.ident, &variants, &krate);
    quote!(#item #implementation)
}

/// A variant and the event it holds.
struct Variant<'a> {
    name: &'a Ident,
    field: &'a Field,
}

fn variants<'a>(item: &'a DeriveInput, errors: &mut Errors) -> Vec<Variant<'a>> {
    let Data::Enum(data) = &item.data else { return Vec::new() };
    if data.variants.is_empty() {
        errors.at(&item.ident, "a union of events needs a variant for each event");
    }
    let mut variants = Vec::new();
    for variant in &data.variants {
        match variant.fields.iter().next() {
            Some(field) if variant.fields.len() == 1 => variants.push(Variant { name: &variant.ident, field }),
            _ => errors.at(
                &variant.ident,
                "each variant of a union holds exactly one event, as `Created(OrderCreated)`; an enum that is itself an event has a `topic`",
            ),
        }
    }
    variants
}

fn implementation(name: &Ident, variants: &[Variant<'_>], krate: &Krate) -> TokenStream {
    let span = located(name.span());
    let (root, private) = (krate.root(span), krate.private(span));
    let (message, value) = (local("message", span), local("value", span));
    let descriptors: Vec<TokenStream> = variants
        .iter()
        .map(|variant| {
            let (ty, at) = (&variant.field.ty, located(variant.field.ty.span()));
            let (root, private) = (krate.root(at), krate.private(at));
            quote_spanned!(at=> <<#ty as #private::UnionVariant>::Event as #root::Event>::DESCRIPTOR)
        })
        .collect();
    let arms = variants.iter().zip(&descriptors).map(|(variant, descriptor)| {
        let (ty, at, name) = (&variant.field.ty, located(variant.field.ty.span()), variant.name);
        let private = krate.private(at);
        let member = variant.field.ident.as_ref().map_or_else(|| quote_spanned!(at=> 0), |field| quote!(#field));
        quote_spanned! {at=>
            if #message.topic().as_str() == #descriptor.topic {
                let #value = <#ty as #private::UnionVariant>::open(#message)?;
                return ::core::result::Result::Ok(::std::sync::Arc::new(Self::#name { #member: #value }));
            }
        }
    });
    quote_spanned! {span=>
        #[automatically_derived]
        impl #root::Incoming for #name {
            const KEYED: bool = true #(&& #descriptors.has_key)*;

            fn contracts() -> ::std::vec::Vec<&'static #root::EventDescriptor> {
                ::std::vec![#(#descriptors),*]
            }

            fn open(#message: &#root::Message) -> ::core::result::Result<::std::sync::Arc<Self>, #root::Unreadable> {
                #(#arms)*
                ::core::result::Result::Err(#root::Unreadable::OtherTopic(#message.topic().clone()))
            }
        }
        const _: () = #private::check_union(&[#(#descriptors),*]);
    }
}
