//! One error type: what kind it is, what happened, what caused it, and whether trying again can help.

use std::fmt;

/// An error of any origin, as handlers may return it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// `Result` with this crate's [`Error`]; the usual return type of a handler.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in a handler or in the framework.
///
/// `?` turns every [`std::error::Error`] into one (kind [`ErrorKind::Other`], retryable), as `anyhow` does,
/// which is why this type does not itself implement [`std::error::Error`]; [`BoxError`] is one `.into()` away.
///
/// ```
/// use abe_events::{Error, ErrorKind, Result};
///
/// fn parse(text: &str) -> Result<u32> {
///     Ok(text.parse::<u32>()?) // any error, by `?`
/// }
/// assert_eq!(parse("x").unwrap_err().kind(), ErrorKind::Other);
/// assert!(!Error::permanent("card was reported stolen").is_retryable());
/// ```
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    source: Option<BoxError>,
}

/// The meaning of an [`Error`], for code that decides by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An error of the user's own code, or one that has no better name. Retryable.
    Other,
    /// The handler said that trying again cannot help: the message goes to dead letters at once.
    Permanent,
    /// Configuration text or a builder call is wrong; nothing was started.
    Config,
    /// The runtime refused to start; the message lists every finding and its cure.
    Start,
    /// A topic, name, key or header is not allowed.
    InvalidName,
    /// The payload, its headers or a batch is larger than the limit.
    TooLarge,
    /// Bytes that are not the event they claim to be.
    Decode,
    /// An event that cannot be turned into bytes.
    Encode,
    /// Certainly not published: safe to publish again, with any id.
    NotStored,
    /// May or may not be published: publish again with the same id.
    Unknown,
    /// The queue is full and the policy is to fail rather than to wait.
    Full,
    /// The lease was lost: another delivery of the same message may be running, and nothing was changed.
    LeaseLost,
    /// The runtime, broker or subscription is closed.
    Closed,
    /// Something did not end in its time.
    Timeout,
    /// The broker or this build cannot do what was asked; the message names the cure.
    Unsupported,
    /// The broker failed.
    Broker,
}

impl Error {
    /// An error with a kind and a message; messages are lower-case fragments without a full stop.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), source: None }))
    }

    /// An error that trying again cannot cure: the message goes to dead letters on this attempt.
    ///
    /// Takes a text or any error.
    pub fn permanent(cause: impl Into<BoxError>) -> Self {
        let cause = cause.into();
        Self(Box::new(Inner { kind: ErrorKind::Permanent, message: cause.to_string(), source: cause.source().is_some().then_some(cause) }))
    }

    /// An ordinary, retryable handler error with a text of its own.
    pub fn msg(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Other, message)
    }

    /// The same error with its cause attached.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The same error told with what was being done, as `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether doing the same again may work. A handler's error is another matter: every one is retried by policy, except
    /// [`ErrorKind::Permanent`].
    pub fn is_retryable(&self) -> bool {
        use ErrorKind as K;
        match self.0.kind {
            K::Other | K::NotStored | K::Unknown | K::Full | K::Timeout | K::Broker => true,
            K::Permanent | K::Config | K::Start | K::InvalidName | K::TooLarge | K::Decode | K::Encode => false,
            K::LeaseLost | K::Closed | K::Unsupported => false,
        }
    }

    /// The cause, if one is known.
    pub fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut next = self.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !self.0.message.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            next = cause.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `fn main() -> Result<()>` prints Debug: make that the readable form.
        write!(f, "{self} ({:?})", self.0.kind)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Error {
    fn from(error: E) -> Self {
        Self(Box::new(Inner {
            kind: ErrorKind::Other,
            message: error.to_string(),
            source: error.source().is_some().then(|| Box::new(error) as BoxError),
        }))
    }
}

impl From<Error> for BoxError {
    fn from(error: Error) -> Self {
        Box::new(Boxed(error))
    }
}

/// [`Error`] as a [`std::error::Error`], for the way out into other error types.
struct Boxed(Error);

impl fmt::Display for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Boxed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl std::error::Error for Boxed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// How a handler's own error type tells whether trying again can help.
///
/// One line makes an error type fit for handlers: `impl Classify for BillingError {}`.
/// Errors taken over by `?` into [`Error`] need nothing, and are retryable.
///
/// ```
/// use abe_events::Classify;
///
/// #[derive(Debug)]
/// enum BillingError { CardStolen, GatewayDown }
/// impl std::fmt::Display for BillingError {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { write!(f, "{self:?}") }
/// }
/// impl Classify for BillingError {
///     fn is_permanent(&self) -> bool { matches!(self, Self::CardStolen) }
/// }
/// assert!(BillingError::CardStolen.is_permanent());
/// assert!(!BillingError::GatewayDown.is_permanent());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the error of a `#[subscribe]` handler",
    label = "not an error that handlers may return",
    note = "return `abe_events::Result<_>` (it takes any error by `?`), or say `impl abe_events::Classify for {Self} {{}}`"
)]
pub trait Classify: fmt::Display {
    /// `true` sends the message to dead letters at once; `false`, the default, retries it by policy.
    fn is_permanent(&self) -> bool {
        false
    }
}

impl Classify for Error {
    fn is_permanent(&self) -> bool {
        self.kind() == ErrorKind::Permanent
    }
}

impl Classify for BoxError {}
impl Classify for String {}
impl Classify for &'static str {}
impl Classify for std::io::Error {}
impl Classify for fmt::Error {}
impl Classify for std::convert::Infallible {}
