//! The parameters of a handler after its message: prepared once at start, extracted for each call.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use super::meta::{Context, Meta};
use super::resolve::Resolver;
use crate::error::Result;
use crate::message::{Headers, Message};

/// What a handler's parameters after the first may be.
///
/// [`Context`], [`State<S>`], [`Message`], [`Headers`], an `Option` of any of them, and types of the user's own:
///
/// ```
/// use abe_events::handler::{Extractor, Meta, Resolver};
/// use abe_events::{Error, Result};
///
/// struct Tenant(String);
///
/// impl Extractor for Tenant {
///     type Prepared = ();
///     fn prepare(_: &mut Resolver<'_>) -> Option<()> {
///         Some(())
///     }
///     fn extract(_: &(), meta: Meta<'_>) -> Result<Self> {
///         let tenant = meta.message().headers().get("tenant").ok_or_else(|| Error::permanent("no header `tenant`"))?;
///         Ok(Self(tenant.to_owned()))
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an extractor",
    label = "a handler's parameters after the first are extractors",
    note = "extractors are `Context`, `State<S>` (or `&S`), `Message`, `Headers`, with a store `Tx<Db>`, `Option` of these, and what implements `abe_events::handler::Extractor`"
)]
pub trait Extractor: Sized + Send + 'static {
    /// What is looked up once, at start.
    type Prepared: Send + Sync + 'static;

    /// Looks up what is needed; `None` when it is missing, after [`Resolver::note_missing`] or through [`Resolver::state`].
    fn prepare(resolver: &mut Resolver<'_>) -> Option<Self::Prepared>;

    /// The parameter for one call; in a batch, `meta` stands for its first message.
    ///
    /// # Errors
    ///
    /// An error fails the attempt as if the handler had returned it.
    fn extract(prepared: &Self::Prepared, meta: Meta<'_>) -> Result<Self>;
}

/// A state of the runtime: what `Runtime::builder().state(..)` was given.
///
/// ```
/// # use std::sync::Arc;
/// # use abe_events::State;
/// # struct Ledger { name: &'static str }
/// let state = State(Arc::new(Ledger { name: "main" }));
/// assert_eq!(state.name, "main");
/// ```
#[derive(Debug)]
pub struct State<S>(pub Arc<S>);

impl<S> Clone for State<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S> Deref for State<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}

impl<S: Send + Sync + 'static> Extractor for State<S> {
    type Prepared = Arc<S>;

    fn prepare(resolver: &mut Resolver<'_>) -> Option<Arc<S>> {
        resolver.state()
    }

    fn extract(prepared: &Arc<S>, _: Meta<'_>) -> Result<Self> {
        Ok(Self(prepared.clone()))
    }
}

/// An extractor that needs nothing of the runtime.
macro_rules! of_meta {
    ($($extractor:ty: $extract:expr;)+) => {$(
        impl Extractor for $extractor {
            type Prepared = ();

            fn prepare(_: &mut Resolver<'_>) -> Option<()> {
                Some(())
            }

            fn extract(_: &(), meta: Meta<'_>) -> Result<Self> {
                Ok($extract(meta))
            }
        }
    )+};
}

of_meta! {
    Context: Context::new;
    Message: |meta: Meta<'_>| meta.message().clone();
    Headers: |meta: Meta<'_>| meta.message().headers().clone();
}

/// `None` when what is asked for is missing at start, or its extraction fails.
impl<X: Extractor> Extractor for Option<X> {
    type Prepared = Option<X::Prepared>;

    fn prepare(resolver: &mut Resolver<'_>) -> Option<Self::Prepared> {
        Some(resolver.quietly(X::prepare))
    }

    fn extract(prepared: &Self::Prepared, meta: Meta<'_>) -> Result<Self> {
        Ok(prepared.as_ref().and_then(|prepared| X::extract(prepared, meta).ok()))
    }
}

/// A prepared extractor, as a bound handler keeps it. It names no trait, so a parameter that is no extractor is reported
/// once, where it stands.
pub struct Prepared<X>(Box<dyn Fn(Meta<'_>) -> Result<X> + Send + Sync>);

impl<X> Prepared<X> {
    /// The parameter for one call.
    ///
    /// # Errors
    ///
    /// What the extractor says.
    pub fn extract(&self, meta: Meta<'_>) -> Result<X> {
        (self.0)(meta)
    }
}

impl<X> fmt::Debug for Prepared<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prepared")
    }
}

/// Prepares an extractor that the handler takes by value.
pub fn prepare<X: Extractor>(resolver: &mut Resolver<'_>) -> Option<Prepared<X>> {
    let prepared = X::prepare(resolver)?;
    Some(Prepared(Box::new(move |meta| X::extract(&prepared, meta))))
}

/// Decides what a parameter `&X` is: an extractor if `X` is one, else a state.
///
/// The two traits below differ by one reference, so method lookup prefers [`LentExtractor`]; that works because
/// generated code calls it with a concrete type.
#[derive(Debug)]
pub struct Lent<X>(PhantomData<fn() -> X>);

impl<X> Lent<X> {
    /// For the macro.
    #[expect(clippy::new_without_default, reason = "only generated code makes one")]
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

/// `&X` where `X` is an extractor.
pub trait LentExtractor<X: Extractor> {
    /// Prepares it.
    fn prepare_lent(&self, resolver: &mut Resolver<'_>) -> Option<Prepared<X>> {
        prepare(resolver)
    }
}

impl<X: Extractor> LentExtractor<X> for Lent<X> {}

/// `&X` where `X` is not an extractor: a state.
pub trait LentState<X> {
    /// Prepares it.
    fn prepare_lent(&self, resolver: &mut Resolver<'_>) -> Option<Prepared<State<X>>>
    where
        X: Send + Sync + 'static,
    {
        prepare(resolver)
    }
}

impl<X> LentState<X> for &Lent<X> {}

/// Whether a parameter is a transaction, asked of a concrete type: of those that are, `Lent` has a constant of the same
/// name itself, and that one is found first.
pub trait NoTransaction {
    /// It is none.
    const TRANSACTION: bool = false;
}

impl<X> NoTransaction for Lent<X> {}
