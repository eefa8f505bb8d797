//! `#[event]` and `#[data]`: as written, checked, expanded.

mod debug;
mod derives;
mod expand;
mod fields;
mod model;
mod union;

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput};

use self::derives::Derives;
use self::fields::Fields;
use self::model::Contract;
use crate::args::Arguments;
use crate::errors::Errors;
use crate::krate::Krate;

/// Expands `#[event(...)]`.
pub(crate) fn event(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let mut arguments = Arguments::parse("`#[event]`", &model::KEYS, arguments, &mut errors);
    let Ok(item) = syn::parse2::<DeriveInput>(item.clone()) else { return not_an_item(&item, "#[event]", &errors) };
    if matches!(item.data, Data::Enum(_)) && arguments.rest().all(|argument| argument.key == "crate") && errors.is_empty() {
        return union::expand(arguments, item, errors);
    }
    match Contract::new(&mut arguments, item, &mut errors) {
        Ok(contract) => expand::expand(&contract, &errors),
        Err(item) => quote!(#errors #item),
    }
}

/// Expands `#[data]`.
pub(crate) fn data(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let mut arguments = Arguments::parse("`#[data]`", &["crate"], arguments, &mut errors);
    let krate = Krate::new(arguments.take("crate").and_then(|argument| errors.note(argument.path())));
    let Ok(mut item) = syn::parse2::<DeriveInput>(item.clone()) else { return not_an_item(&item, "#[data]", &errors) };
    if let Data::Union(union) = &item.data {
        errors.at(union.union_token, "`#[data]` is for structs and enums");
        return quote!(#errors #item);
    }
    let fields = Fields::take_marks(&mut item, &mut errors);
    let derives = Derives::of(&item, fields.any_sensitive(), &mut errors);
    let debug = (!derives.debug()).then(|| debug::implementation(&item, &fields));
    let derive = derives.missing(&item, &krate);
    quote!(#errors #derive #item #debug)
}

fn not_an_item(item: &TokenStream, attribute: &str, errors: &Errors) -> TokenStream {
    let error = syn::Error::new_spanned(item, format!("`{attribute}` goes above a struct or an enum")).to_compile_error();
    quote!(#errors #error #item)
}
