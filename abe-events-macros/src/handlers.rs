//! `handlers![a, module::b]`: a list of handlers by the paths of their functions.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::parse::{ParseStream, Parser};
use syn::punctuated::Punctuated;
use syn::{Path, PathArguments, Token};

/// Expands `$crate; a, module::b`.
pub(crate) fn handlers(input: TokenStream) -> TokenStream {
    let parse = |input: ParseStream<'_>| {
        let facade = Path::parse_mod_style(input)?;
        input.parse::<Token![;]>()?;
        let paths = Punctuated::<Path, Token![,]>::parse_terminated(input)?;
        Ok((facade, paths))
    };
    match parse.parse2(input).and_then(|(facade, paths)| expand(&facade, paths)) {
        Ok(tokens) => tokens,
        Err(error) => error.to_compile_error(),
    }
}

fn expand(facade: &Path, paths: Punctuated<Path, Token![,]>) -> syn::Result<TokenStream> {
    let statics = paths.into_iter().map(descriptor_of).collect::<syn::Result<Vec<_>>>()?;
    Ok(quote! {{
        static HANDLERS: &[&'static #facade::handler::HandlerDescriptor] = &[#(&#statics),*];
        HANDLERS
    }})
}

/// `module::bill` names `module::__abe_handler_bill`.
fn descriptor_of(mut path: Path) -> syn::Result<Path> {
    match path.segments.last_mut() {
        Some(last) if matches!(last.arguments, PathArguments::None) => {
            let span = last.ident.span();
            last.ident = format_ident!("__abe_handler_{}", last.ident, span = span);
            Ok(path)
        }
        _ => Err(syn::Error::new_spanned(path, "a handler is named by the path of its function, such as `orders::bill`")),
    }
}
