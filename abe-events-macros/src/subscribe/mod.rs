//! `#[subscribe]`: as written, checked, expanded.

mod expand;
mod options;
mod policy;
mod signature;

use proc_macro2::TokenStream;
use quote::quote;

use self::options::Options;
use self::signature::Handler;
use crate::args::Arguments;
use crate::errors::Errors;
use crate::item::Function;

/// Expands `#[subscribe(...)]`.
pub(crate) fn subscribe(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let mut errors = Errors::default();
    let arguments = Arguments::parse("`#[subscribe]`", &options::KEYS, arguments, &mut errors);
    let options = Options::new(arguments, &mut errors);
    let function: Function = match syn::parse2(item.clone()) {
        Ok(function) => function,
        Err(_) => {
            let error = syn::Error::new_spanned(&item, "`#[subscribe]` goes above a free function").to_compile_error();
            return quote!(#errors #error #item);
        }
    };
    let handler = Handler::new(&function, &mut errors);
    options.check_with(&function, &mut errors);
    match handler {
        Some(handler) if errors.is_empty() => expand::expand(&options, &handler),
        _ => quote!(#errors #function),
    }
}
