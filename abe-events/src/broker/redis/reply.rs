//! What the server answers, as what it is meant to be; what cannot be read is taken for nothing.

use ::redis::Value;

/// Bytes.
pub(super) fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::BulkString(bytes) => bytes,
        Value::SimpleString(text) => text.as_bytes(),
        _ => &[],
    }
}

/// Text.
pub(super) fn text(value: &Value) -> String {
    String::from_utf8_lossy(bytes(value)).into_owned()
}

/// A number, or a text that holds one.
pub(super) fn number(value: Option<&Value>) -> i64 {
    match value {
        Some(Value::Int(number)) => *number,
        Some(value) => std::str::from_utf8(bytes(value)).ok().and_then(|text| text.parse().ok()).unwrap_or(0),
        None => 0,
    }
}

/// A list.
pub(super) fn list(value: Option<&Value>) -> &[Value] {
    match value {
        Some(Value::Array(values)) => values,
        _ => &[],
    }
}
