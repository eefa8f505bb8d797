//! `Debug` for types with sensitive fields, which shows `[sensitive]` in their place.

use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::{Data, DeriveInput, Fields as SynFields, Index, Member};

use super::fields::Fields;
use crate::krate::{local, located};

/// The implementation; nothing for a type without sensitive fields.
pub(crate) fn implementation(item: &DeriveInput, fields: &Fields) -> TokenStream {
    if !fields.any_sensitive() {
        return TokenStream::new();
    }
    let span = located(item.ident.span());
    let arms: Vec<TokenStream> = match &item.data {
        Data::Struct(data) => vec![arm(&item.ident, None, 0, &data.fields, fields)],
        Data::Enum(data) => {
            let variants = data.variants.iter().enumerate();
            variants.map(|(at, variant)| arm(&variant.ident, Some(&variant.ident), at, &variant.fields, fields)).collect()
        }
        Data::Union(_) => Vec::new(),
    };
    let (name, (generics, arguments, bounds)) = (&item.ident, item.generics.split_for_impl());
    quote_spanned! {span=>
        #[automatically_derived]
        impl #generics ::core::fmt::Debug for #name #arguments #bounds {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                match self {
                    #(#arms)*
                }
            }
        }
    }
}

/// The arm of a struct or of a variant.
fn arm(shown: &syn::Ident, variant: Option<&syn::Ident>, at: usize, of: &SynFields, fields: &Fields) -> TokenStream {
    let span = located(shown.span());
    let text = shown.to_string();
    let path = variant.map(|variant| quote_spanned!(span=> ::#variant));
    let (mut patterns, mut calls) = (Vec::new(), Vec::new());
    for (index, field) in of.iter().enumerate() {
        let member = field.ident.clone().map_or_else(|| Member::Unnamed(Index::from(index)), Member::Named);
        let sensitive = fields.is_sensitive(at, &member);
        let bound = local(&format!("field{index}"), span);
        let name = field.ident.as_ref().map(|name| name.to_string().trim_start_matches("r#").to_owned());
        let name = name.map(|name| quote_spanned!(span=> #name,));
        if sensitive {
            patterns.push(quote_spanned!(span=> #member: _));
            calls.push(quote_spanned!(span=> .field(#name &::core::format_args!("[sensitive]"))));
        } else {
            patterns.push(quote_spanned!(span=> #member: #bound));
            calls.push(quote_spanned!(span=> .field(#name #bound)));
        }
    }
    let builder = match of {
        SynFields::Named(_) => quote_spanned!(span=> f.debug_struct(#text)),
        SynFields::Unnamed(_) | SynFields::Unit => quote_spanned!(span=> f.debug_tuple(#text)),
    };
    quote_spanned!(span=> Self #path { #(#patterns),* } => #builder #(#calls)*.finish(),)
}
