//! From a handler to code.

use proc_macro2::{Ident, Literal, Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::ext::IdentExt;
use syn::spanned::Spanned;
use syn::{Pat, ReturnType};

use super::options::{HeaderRule, Options};
use super::policy::Setting;
use super::signature::Handler;
use crate::item::doc_of;
use crate::krate::{local, located};
use crate::values::Callable;

/// The function as it was, its descriptor, the checks that need types, and its registration.
pub(crate) fn expand(options: &Options, handler: &Handler<'_>) -> TokenStream {
    let function = handler.function;
    let name = &function.sig.ident;
    let span = located(name.span());
    let private = options.krate.private(span);
    let (vis, descriptor) = (&function.vis, format_ident!("__abe_handler_{}", name, span = span));
    let (spec, bind, publishes) = (spec(options, handler), bind(options, handler), publishes(options, handler));
    let message = handler.message.ty;
    let at = located(message.span());
    let contracts = {
        let private = options.krate.private(at);
        quote_spanned!(at=> #private::contracts::<#message>)
    };
    let checks = checks(options, handler);
    quote_spanned! {span=>
        #function

        #[doc(hidden)]
        #[allow(non_upper_case_globals)]
        #vis static #descriptor: #private::HandlerDescriptor = #private::HandlerDescriptor {
            spec: #spec,
            contracts: #contracts,
            publishes: #publishes,
            bind: #bind,
        };
        #checks
        #private::register!(handler &#descriptor);
    }
}

/// The static part: one literal over the defaults.
fn spec(options: &Options, handler: &Handler<'_>) -> TokenStream {
    let function = handler.function;
    let span = located(function.sig.ident.span());
    let private = options.krate.private(span);
    let (message, at) = (handler.message.ty, located(handler.message.ty.span()));
    let mut fields = Vec::new();
    let mut field = |name: &str, value: TokenStream| {
        let name = Ident::new(name, span);
        fields.push(quote_spanned!(span=> #name: #value));
    };
    match &options.name {
        Some(name) => {
            field("name", quote!(#name));
            field("name_given", quote!(true));
        }
        None => {
            let name = format!("::{}", function.sig.ident.unraw());
            field("name", quote_spanned!(span=> ::core::concat!(::core::module_path!(), #name)));
        }
    }
    if let Some(group) = &options.group {
        field("group", quote_spanned!(span=> ::core::option::Option::Some(#group)));
    }
    if !options.topics.is_empty() {
        let topics = &options.topics;
        field("topics", quote!(&[#(#topics),*]));
    }
    if !options.policy.fields.is_empty() {
        field("policy", policy(options, span));
    }
    if !options.headers.is_empty() {
        let rules = options.headers.iter().map(|rule| header_rule(rule, &private));
        field("headers", quote!(&[#(#rules),*]));
    }
    if options.filter.is_some() || options.filter_meta.is_some() {
        field("filtered", quote!(true));
    }
    field("takes_batch", {
        let private = options.krate.private(at);
        let names_topics = !options.topics.is_empty();
        quote_spanned!(at=> #private::takes_batch::<#message>(#names_topics))
    });
    if options.blocking.is_some() {
        field("blocking", quote!(true));
    }
    let parameters = parameter_texts(handler);
    field("params", quote!(&[#(#parameters),*]));
    let doc = doc_of(&function.attrs);
    if !doc.is_empty() {
        field("doc", quote!(#doc));
    }
    field("at", quote_spanned!(span=> #private::here!()));
    quote_spanned!(span=> #private::Spec { #(#fields,)* ..#private::Spec::DEFAULT })
}

fn policy(options: &Options, span: Span) -> TokenStream {
    let private = options.krate.private(span);
    let fields = options.policy.fields.iter().map(|(name, setting)| {
        let name = Ident::new(name, span);
        let value = match setting {
            Setting::Number(number) => Literal::u64_unsuffixed(*number).into_token_stream(),
            Setting::Flag(flag) => quote!(#flag),
            Setting::Variant(of, variant) => {
                let of = Ident::new(of, span);
                quote_spanned!(span=> #private::#of::#variant)
            }
        };
        quote_spanned!(span=> #name: ::core::option::Option::Some(#value))
    });
    quote_spanned!(span=> #private::PolicyPatch { #(#fields,)* ..#private::PolicyPatch::NONE })
}

fn header_rule(rule: &HeaderRule, private: &TokenStream) -> TokenStream {
    match rule {
        HeaderRule::OneOf(name, values) => quote!(#private::HeaderRule::OneOf(#name, &[#(#values),*])),
        HeaderRule::Present(name) => quote!(#private::HeaderRule::Present(#name)),
        HeaderRule::Absent(name) => quote!(#private::HeaderRule::Absent(#name)),
    }
}

/// The parameters' types as the user reads them.
fn parameter_texts(handler: &Handler<'_>) -> Vec<String> {
    let all = std::iter::once(&handler.message).chain(&handler.extractors);
    all.map(|parameter| {
        let text = parameter.ty.to_token_stream().to_string();
        let text = text.replace(" :: ", "::").replace(" < ", "<").replace(" >", ">").replace(" ,", ",");
        if parameter.lent { format!("&{text}") } else { text }
    })
    .collect()
}

/// The one function that holds all of the user's types, each spanned at its own token: what does not fit is then
/// reported there, and once.
fn bind(options: &Options, handler: &Handler<'_>) -> TokenStream {
    let span = located(handler.function.sig.ident.span());
    let private = options.krate.private(span);
    let resolver = local("resolver", span);
    let names: Vec<Ident> =
        handler.extractors.iter().enumerate().map(|(at, of)| local(&format!("extractor{at}"), located(of.ty.span()))).collect();
    let prepared = handler.extractors.iter().zip(&names).map(|(extractor, name)| {
        let (ty, at) = (extractor.ty, located(extractor.ty.span()));
        let private = options.krate.private(at);
        // A state is shared, so that only an extractor can be lent mutably.
        if extractor.lent && !extractor.mutable {
            quote_spanned!(at=> let #name = (&#private::Lent::<#ty>::new()).prepare_lent(#resolver);)
        } else {
            quote_spanned!(at=> let #name = #private::prepare::<#ty>(#resolver);)
        }
    });
    let worker = worker(options, handler, &names);
    quote_spanned! {span=>
        {
            fn bind(#resolver: &mut #private::Resolver<'_>) -> ::core::option::Option<#private::BoxWorker> {
                #[allow(unused_imports)]
                use #private::{LentExtractor as _, LentState as _};
                #(#prepared)*
                #(let #names = #names?;)*
                ::core::option::Option::Some(#worker)
            }
            bind
        }
    }
}

fn worker(options: &Options, handler: &Handler<'_>, names: &[Ident]) -> TokenStream {
    let function = handler.function;
    let chain = match &function.sig.output {
        ReturnType::Type(_, ty) => located(ty.span()),
        ReturnType::Default => located(function.sig.ident.span()),
    };
    let (ty, at) = (handler.message.ty, located(handler.message.ty.span()));
    let private = options.krate.private(at);
    let worker = quote_spanned!(at=> #private::worker::<#ty>());
    let filter = options.filter.as_ref().map(|filter| quote_spanned!(chain=> .filter(#filter)));
    let filter_meta = options.filter_meta.as_ref().map(|filter| quote_spanned!(chain=> .filter_meta(#filter)));
    let key = options.policy.idempotency_key.as_ref().map(|key| {
        let key = text_key(options, key);
        quote_spanned!(chain=> .idempotency_key(#key))
    });
    let by_value = (!handler.message.lent).then(|| quote_spanned!(at=> .by_value()));
    let glue = glue(options, handler, names);
    quote_spanned!(chain=> #worker #filter #filter_meta #key #by_value.run(#glue))
}

/// The user's key expression, as text.
fn text_key(options: &Options, key: &Callable) -> TokenStream {
    let span = located(key.span());
    let private = options.krate.private(span);
    match key {
        Callable::Closure(closure) => {
            let (body, input) = (&closure.body, closure.inputs.first());
            let input = input.map(|input: &Pat| quote!(#input));
            quote_spanned!(span=> |#input| #private::key_text(&#body))
        }
        Callable::Function(path) => {
            let event = local("event", span);
            quote_spanned!(span=> |#event| #private::key_text(&#path(#event)))
        }
    }
}

/// The closure that calls the function with its parameters.
fn glue(options: &Options, handler: &Handler<'_>, names: &[Ident]) -> TokenStream {
    let sig = &handler.function.sig;
    let (function, span) = (&sig.ident, located(sig.ident.span()));
    let (message, meta) = (local("message", span), local("meta", span));
    let extracted = handler.extractors.iter().zip(names).map(|(extractor, name)| {
        let mutable = extractor.mutable.then(|| quote_spanned!(span=> mut));
        quote_spanned!(span=> let #mutable #name = #name.extract(#meta)?;)
    });
    let first = if handler.message.lent { quote_spanned!(span=> &#message) } else { quote_spanned!(span=> #message) };
    let rest = handler.extractors.iter().zip(names).map(|(extractor, name)| match (extractor.lent, extractor.mutable) {
        (true, true) => quote_spanned!(span=> &mut #name),
        (true, false) => quote_spanned!(span=> &#name),
        _ => quote_spanned!(span=> #name),
    });
    let call = quote_spanned!(span=> #function(#first #(, #rest)*));
    let any_lent = handler.message.lent || handler.extractors.iter().any(|extractor| extractor.lent);
    let future = if options.blocking.is_some() {
        let private = options.krate.private(span);
        quote_spanned!(span=> #private::blocking(move || #call))
    } else if sig.asyncness.is_none() {
        quote_spanned!(span=> ::core::future::ready(#call))
    } else if any_lent {
        // What is lent lives in the future.
        quote_spanned!(span=> async move { #call.await })
    } else {
        call
    };
    quote_spanned! {span=>
        move |#message, #meta| {
            #(#extracted)*
            ::core::result::Result::Ok(#future)
        }
    }
}

fn publishes(options: &Options, handler: &Handler<'_>) -> TokenStream {
    let (message, at) = (handler.message.ty, handler.message.ty.span());
    let (ty, span) = match &handler.function.sig.output {
        ReturnType::Type(_, ty) => (quote!(#ty), located(ty.span())),
        ReturnType::Default => (quote_spanned!(located(at)=> ()), located(at)),
    };
    let private = options.krate.private(span);
    quote_spanned! {span=>
        || {
            #[allow(unused_imports)]
            use #private::{ReturnsAnything as _, ReturnsOutcome as _};
            (&#private::Returned::<#message, #ty>::new()).publishes()
        }
    }
}

/// Checks that need the types, as items: an inline constant would wait for the build.
fn checks(options: &Options, handler: &Handler<'_>) -> TokenStream {
    let message = handler.message.ty;
    let check = |key: &Ident, check: &str| {
        let span = located(key.span());
        let (private, check) = (options.krate.private(span), Ident::new(check, span));
        quote_spanned!(span=> const _: () = #private::#check::<#message>();)
    };
    let batch = options.policy.needs_batch.as_ref().map(|key| check(key, "check_batch"));
    let ordered = options.policy.needs_key.as_ref().map(|key| check(key, "check_ordered"));
    let transactions = check_transactions(options, handler);
    quote!(#batch #ordered #transactions)
}

/// Whether a parameter is a `Tx` that nothing could be done with. Its type is asked, not its name: there are aliases.
fn check_transactions(options: &Options, handler: &Handler<'_>) -> Option<TokenStream> {
    let span = located(handler.extractors.first()?.ty.span());
    let asynchronous = handler.function.sig.asyncness.is_some();
    let checks = (1..=handler.extractors.len()).filter_map(|count| {
        let until = handler.extractors.get(..count)?;
        let extractor = until.last()?;
        let (at, shared) = (located(extractor.ty.span()), extractor.lent && !extractor.mutable);
        let private = options.krate.private(at);
        let transactions = until.iter().map(|extractor| {
            let ty = extractor.ty;
            quote_spanned!(at=> #private::Lent::<#ty>::TRANSACTION)
        });
        Some(quote_spanned!(at=> #private::check_transaction(&[#(#transactions),*], #shared, #asynchronous);))
    });
    let private = options.krate.private(span);
    Some(quote_spanned! {span=>
        const _: () = {
            #[allow(unused_imports)]
            use #private::NoTransaction as _;
            #(#checks)*
        };
    })
}
