//! Values of arguments: text, numbers, durations, sizes, flags, paths and closures.

use std::ops::RangeInclusive;

use quote::ToTokens;
use syn::{Error, Expr, ExprClosure, ExprLit, ExprPath, Lit, LitStr, Path, Result};

use crate::args::{Argument, Value};

impl Argument {
    fn expected<T>(&self, what: &str) -> Result<T> {
        let message = format!("`{}` takes {what}", self.key);
        Err(match &self.value {
            Value::Flag => Error::new_spanned(&self.key, message),
            Value::Is(value) => Error::new_spanned(value, message),
            Value::List(group) => Error::new(group.span(), message),
        })
    }

    fn literal(&self) -> Option<&Lit> {
        match &self.value {
            Value::Is(value) => literal(value),
            _ => None,
        }
    }

    /// `key = "text"`.
    pub(crate) fn text(&self) -> Result<LitStr> {
        match self.literal() {
            Some(Lit::Str(text)) => Ok(text.clone()),
            _ => self.expected("a string literal"),
        }
    }

    /// `key = 5`.
    pub(crate) fn integer(&self, range: RangeInclusive<u64>) -> Result<u64> {
        let what = format!("an integer from {} to {}", range.start(), range.end());
        match self.literal() {
            Some(Lit::Int(number)) => match number.base10_parse::<u64>() {
                Ok(value) if range.contains(&value) => Ok(value),
                _ => self.expected(&what),
            },
            _ => self.expected(&what),
        }
    }

    /// `key = "5s"`, in milliseconds, longer than 0.
    pub(crate) fn duration(&self) -> Result<u64> {
        let what = "a duration longer than 0, such as \"250ms\", \"5s\", \"10m\" or \"24h\"";
        match self.literal() {
            Some(Lit::Str(text)) => match milliseconds(&text.value()) {
                Some(ms) if ms > 0 => Ok(ms),
                _ => self.expected(what),
            },
            _ => self.expected(what),
        }
    }

    /// `key = "30s"` or `key = "none"`, which is 0.
    pub(crate) fn duration_or_none(&self) -> Result<u64> {
        match self.literal() {
            Some(Lit::Str(text)) if text.value() == "none" => Ok(0),
            Some(Lit::Str(text)) if milliseconds(&text.value()).is_some_and(|ms| ms > 0) => self.duration(),
            _ => self.expected("a duration longer than 0, such as \"250ms\" or \"30s\", or \"none\""),
        }
    }

    /// `key = 4096` or `key = "1MiB"`.
    pub(crate) fn bytes(&self) -> Result<u64> {
        let value = match self.literal() {
            Some(Lit::Int(number)) => number.base10_parse().ok(),
            Some(Lit::Str(text)) => bytes(&text.value()),
            _ => None,
        };
        match value {
            Some(value) if value > 0 => Ok(value),
            _ => self.expected("a number of bytes from 1, such as 65536, \"64KiB\" or \"1MiB\""),
        }
    }

    /// `key`, `key = true` or `key = false`.
    pub(crate) fn flag(&self) -> Result<bool> {
        match (&self.value, self.literal()) {
            (Value::Flag, _) => Ok(true),
            (_, Some(Lit::Bool(value))) => Ok(value.value),
            _ => self.expected("no value, or `true` or `false`"),
        }
    }

    /// `key = true` or `key = false`.
    pub(crate) fn boolean(&self) -> Result<bool> {
        match self.literal() {
            Some(Lit::Bool(value)) => Ok(value.value),
            _ => self.expected("`true` or `false`"),
        }
    }

    /// `key` alone.
    pub(crate) fn bare(&self) -> Result<()> {
        match &self.value {
            Value::Flag => Ok(()),
            _ => self.expected("no value"),
        }
    }

    /// `key = word`, one of those allowed.
    pub(crate) fn word(&self, allowed: &[&str]) -> Result<String> {
        if let Value::Is(value) = &self.value
            && let Some(word) = allowed.iter().find(|word| value.to_token_stream().to_string() == **word)
        {
            return Ok((*word).to_owned());
        }
        self.expected(&allowed.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or "))
    }

    /// `key = a::b`.
    pub(crate) fn path(&self) -> Result<Path> {
        match &self.value {
            Value::Is(value) => match &**value {
                Expr::Path(ExprPath { attrs, qself: None, path }) if attrs.is_empty() => Ok(path.clone()),
                _ => self.expected("a path"),
            },
            _ => self.expected("a path"),
        }
    }

    /// `key = |event| ...` or `key = a::function`, with `inputs` parameters.
    pub(crate) fn callable(&self, on: &str) -> Result<Callable> {
        let Value::Is(value) = &self.value else { return self.expected(&format!("a closure or function on `{on}`")) };
        match &**value {
            Expr::Closure(closure) if closure.inputs.len() != 1 => {
                let message = format!("this closure takes one parameter, `{on}`");
                Err(Error::new_spanned(closure, message))
            }
            Expr::Closure(closure) => Ok(Callable::Closure(closure.clone())),
            Expr::Path(path) => Ok(Callable::Function(path.clone())),
            Expr::Lit(ExprLit { lit: Lit::Str(_), .. }) => {
                let key = &self.key;
                Err(Error::new_spanned(value, format!("`{key}` takes Rust, not text: write `{key} = |event| ...`")))
            }
            _ => self.expected(&format!("a closure or function on `{on}`")),
        }
    }
}

/// Something to call with one argument.
pub(crate) enum Callable {
    Closure(ExprClosure),
    Function(ExprPath),
}

impl ToTokens for Callable {
    fn to_tokens(&self, tokens: &mut proc_macro2::TokenStream) {
        match self {
            Self::Closure(closure) => closure.to_tokens(tokens),
            Self::Function(path) => path.to_tokens(tokens),
        }
    }
}

/// The literal that an expression is.
pub(crate) fn literal(value: &Expr) -> Option<&Lit> {
    match value {
        Expr::Lit(ExprLit { attrs, lit }) if attrs.is_empty() => Some(lit),
        // A literal that came through `macro_rules!` stands in an invisible group.
        Expr::Group(group) => literal(&group.expr),
        _ => None,
    }
}

/// `<int>(ms|s|m|h)` in milliseconds.
fn milliseconds(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    number.checked_mul(match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    })
}

/// `<int>(B|KiB|MiB|GiB)` in bytes.
fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    number.checked_mul(match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    })
}

fn split(text: &str) -> Option<(u64, &str)> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    Some((text[..at].parse().ok()?, &text[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_have_units() {
        assert_eq!([milliseconds("250ms"), milliseconds("5s"), milliseconds("24h")], [Some(250), Some(5_000), Some(86_400_000)]);
        assert_eq!([milliseconds("5"), milliseconds("5 s"), milliseconds("-5s"), milliseconds("1.5s")], [None; 4]);
        assert_eq!([bytes("1MiB"), bytes("64KiB"), bytes("1MB")], [Some(1 << 20), Some(65_536), None]);
        assert_eq!(milliseconds("99999999999999999999h"), None);
    }
}
