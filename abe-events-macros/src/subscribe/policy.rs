//! The part of `#[subscribe(...)]` that is policy: retries, timeout, batches, order, duplicates.

use proc_macro2::Ident;
use quote::{ToTokens, format_ident};
use syn::{Error, Expr, Result};

use crate::args::{Argument, Arguments, Value};
use crate::errors::Errors;
use crate::values::Callable;

const RETRY_KEYS: [&str; 5] = ["attempts", "backoff", "min", "max", "jitter"];
const IDEMPOTENT_KEYS: [&str; 2] = ["key", "window"];

/// What is given of a policy.
#[derive(Default)]
pub(crate) struct Policy {
    /// Fields of the facade's `PolicyPatch`.
    pub(crate) fields: Vec<(&'static str, Setting)>,
    /// What a duplicate is recognised by.
    pub(crate) idempotency_key: Option<Callable>,
    /// The key that needs a `Batch<T>`.
    pub(crate) needs_batch: Option<Ident>,
    /// The key that needs an event with a key.
    pub(crate) needs_key: Option<Ident>,
}

/// A value of a policy's field.
pub(crate) enum Setting {
    Number(u64),
    Flag(bool),
    /// A variant of an enum of the facade.
    Variant(&'static str, Ident),
}

impl Policy {
    /// Takes the arguments that are policy.
    pub(crate) fn new(arguments: &mut Arguments, errors: &mut Errors) -> Self {
        let mut policy = Self::default();
        policy.batch(arguments, errors);
        policy.number("concurrency", arguments.take("concurrency"), |argument| argument.integer(1..=65_536), errors);
        policy.number("timeout_ms", arguments.take("timeout"), Argument::duration_or_none, errors);
        if let Some(argument) = arguments.take("dead_letter") {
            policy.flag("dead_letter", errors.note(argument.boolean()));
        }
        if let Some(argument) = arguments.take("when_full") {
            policy.word("when_full", "WhenFull", &argument, &["wait", "fail", "shed"], errors);
        }
        if let Some(argument) = arguments.take("ordered") {
            policy.flag("ordered", errors.note(ordered(&argument)));
            policy.needs_key = Some(argument.key);
        }
        if let Some(argument) = arguments.take("retry") {
            policy.retry(&argument, errors);
        }
        if let Some(argument) = arguments.take("idempotent") {
            policy.idempotent(&argument, errors);
        }
        policy
    }

    fn batch(&mut self, arguments: &mut Arguments, errors: &mut Errors) {
        for key in ["batch", "max_wait", "bytes"] {
            if let Some(argument) = arguments.take(key) {
                self.needs_batch.get_or_insert_with(|| argument.key.clone());
                match key {
                    "batch" => self.number("batch", Some(argument), |argument| argument.integer(1..=100_000), errors),
                    "max_wait" => self.number("max_wait_ms", Some(argument), Argument::duration, errors),
                    _ => self.number("batch_bytes", Some(argument), Argument::bytes, errors),
                }
            }
        }
    }

    fn retry(&mut self, argument: &Argument, errors: &mut Errors) {
        let Some(mut list) = nested(argument, "`retry`", &RETRY_KEYS, "retry(attempts = 5, min = \"100ms\", max = \"30s\")", errors) else {
            return;
        };
        self.number("attempts", list.take("attempts"), |argument| argument.integer(1..=u64::from(u32::MAX)), errors);
        if let Some(backoff) = list.take("backoff") {
            self.word("backoff", "Backoff", &backoff, &["fixed", "exponential"], errors);
        }
        let min = list.take("min").and_then(|argument| errors.note(argument.duration()));
        let max = list.take("max").and_then(|argument| Some((errors.note(argument.duration())?, argument)));
        if let (Some(min), Some((max, argument))) = (min, &max)
            && max < &min
            && let Value::Is(value) = &argument.value
        {
            errors.at(value, "`max` is shorter than `min`");
        }
        self.fields.extend(min.map(|ms| ("retry_min_ms", Setting::Number(ms))));
        self.fields.extend(max.map(|(ms, _)| ("retry_max_ms", Setting::Number(ms))));
        if let Some(jitter) = list.take("jitter") {
            self.flag("jitter", errors.note(jitter.flag()));
        }
    }

    fn idempotent(&mut self, argument: &Argument, errors: &mut Errors) {
        if !matches!(argument.value, Value::List(_)) {
            self.flag("idempotent", errors.note(argument.flag()));
            return;
        }
        let Some(mut list) = nested(argument, "`idempotent`", &IDEMPOTENT_KEYS, "idempotent(window = \"24h\")", errors) else { return };
        self.flag("idempotent", Some(true));
        self.number("window_ms", list.take("window"), Argument::duration, errors);
        self.idempotency_key = list.take("key").and_then(|argument| errors.note(argument.callable("&Event")));
    }

    fn number(&mut self, field: &'static str, argument: Option<Argument>, read: impl Fn(&Argument) -> Result<u64>, errors: &mut Errors) {
        let value = argument.and_then(|argument| errors.note(read(&argument)));
        self.fields.extend(value.map(|value| (field, Setting::Number(value))));
    }

    fn flag(&mut self, field: &'static str, value: Option<bool>) {
        self.fields.extend(value.map(|value| (field, Setting::Flag(value))));
    }

    fn word(&mut self, field: &'static str, of: &'static str, argument: &Argument, words: &[&str], errors: &mut Errors) {
        let Some(word) = errors.note(argument.word(words)) else { return };
        let (first, rest) = word.split_at(1);
        self.fields.push((field, Setting::Variant(of, format_ident!("{}{rest}", first.to_ascii_uppercase()))));
    }
}

fn nested(argument: &Argument, owner: &str, known: &[&str], example: &str, errors: &mut Errors) -> Option<Arguments> {
    let Value::List(group) = &argument.value else {
        errors.at(&argument.key, format_args!("write `{example}`"));
        return None;
    };
    if group.stream().is_empty() {
        errors.push(Error::new(group.span(), format!("{owner} says nothing; write `{example}`")));
        return None;
    }
    Some(Arguments::parse(owner, known, group.stream(), errors))
}

/// A flag only: the broker keeps the order, by the key that was written when the event was published, and a handler's own
/// would come too late.
fn ordered(argument: &Argument) -> Result<bool> {
    argument.flag().map_err(|_| match &argument.value {
        Value::Is(value) => Error::new_spanned(value, with_key(value)),
        _ => Error::new_spanned(&argument.key, "`ordered` has no value: it follows the event's own key"),
    })
}

/// Why `ordered` takes no key, and where the one that was meant belongs.
fn with_key(value: &Expr) -> String {
    let key = match value {
        Expr::Path(field) => field.to_token_stream().to_string(),
        Expr::Closure(_) => "|event| ...".to_owned(),
        // That would be no key of an event either.
        _ => "...".to_owned(),
    };
    format!(
        "`ordered` takes no key: the order is kept by the broker, which knows only the key an event was published with; \
         put `key = {key}` into its `#[event(...)]`, and write `ordered` here"
    )
}
