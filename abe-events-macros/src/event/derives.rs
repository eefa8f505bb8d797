//! Which of serde's derives an item has already, and the others.

use proc_macro2::TokenStream;
use quote::quote_spanned;
use syn::punctuated::Punctuated;
use syn::{DeriveInput, Path, Token};

use crate::errors::Errors;
use crate::krate::{Krate, located};

/// The derives below our attribute; those above it are expanded already and cannot be seen.
pub(crate) struct Derives {
    serialize: bool,
    deserialize: bool,
    debug: bool,
}

impl Derives {
    /// Looks at an item's derives; `Debug` on an item with sensitive fields is a mistake.
    pub(crate) fn of(item: &DeriveInput, sensitive: bool, errors: &mut Errors) -> Self {
        let mut derives = Self { serialize: false, deserialize: false, debug: false };
        for attribute in item.attrs.iter().filter(|attribute| attribute.path().is_ident("derive")) {
            // What cannot be parsed is rustc's to report.
            let paths = attribute.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated).unwrap_or_default();
            for path in paths {
                let Some(last) = path.segments.last() else { continue };
                derives.serialize |= last.ident == "Serialize";
                derives.deserialize |= last.ident == "Deserialize";
                derives.debug |= last.ident == "Debug";
                if last.ident == "Debug" && sensitive {
                    errors.at(&path, "`Debug` would show the sensitive fields; leave it out, it is written for this type without them");
                }
            }
        }
        derives
    }

    /// Whether `Debug` is derived, rightly or not.
    pub(crate) fn debug(&self) -> bool {
        self.debug
    }

    /// Those missing, through the facade, so that the user's manifest needs no serde.
    pub(crate) fn missing(&self, item: &DeriveInput, krate: &Krate) -> TokenStream {
        let span = located(item.ident.span());
        let private = krate.private(span);
        let serialize = (!self.serialize).then(|| quote_spanned!(span=> #private::serde::Serialize,));
        let deserialize = (!self.deserialize).then(|| quote_spanned!(span=> #private::serde::Deserialize,));
        if serialize.is_none() && deserialize.is_none() {
            return TokenStream::new();
        }
        let path = proc_macro2::Literal::string(&format!("{}::serde", krate.private_text()));
        quote_spanned! {span=>
            #[derive(#serialize #deserialize)]
            #[serde(crate = #path)]
        }
    }
}
