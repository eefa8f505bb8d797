//! The path of the facade in generated code, which `crate = path` can change.

use proc_macro2::{Ident, Span, TokenStream};
use quote::quote_spanned;
use syn::Path;

/// Where the facade is.
pub(crate) struct Krate(Option<Path>);

impl Krate {
    pub(crate) fn new(given: Option<Path>) -> Self {
        Self(given)
    }

    /// The facade's root, with every token at `span`: one token elsewhere would move a diagnostic away from it.
    pub(crate) fn root(&self, span: Span) -> TokenStream {
        let Some(path) = &self.0 else { return quote_spanned!(span=> ::abe_events) };
        let leading = path.leading_colon.map(|_| quote_spanned!(span=> ::));
        let segments = path.segments.iter().map(|segment| {
            // Resolved where the user wrote it, shown where it is used.
            let mut ident = segment.ident.clone();
            ident.set_span(segment.ident.span().located_at(span));
            ident
        });
        quote_spanned!(span=> #leading #(#segments)::*)
    }

    /// What generated code uses of the facade.
    pub(crate) fn private(&self, span: Span) -> TokenStream {
        let root = self.root(span);
        quote_spanned!(span=> #root::__private)
    }

    /// The same as text, for serde's `crate` attribute.
    pub(crate) fn private_text(&self) -> String {
        self.private(Span::call_site()).to_string().replace(' ', "")
    }
}

/// Generated code at the place of a user's token; lints still see it as generated.
pub(crate) fn located(span: Span) -> Span {
    Span::call_site().located_at(span)
}

/// A local name that the user's code cannot see. The prefix is for constants: they are matched in patterns by name alone.
pub(crate) fn local(name: &str, span: Span) -> Ident {
    Ident::new(&format!("__abe_{name}"), Span::mixed_site().located_at(span))
}
