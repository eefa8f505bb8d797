//! JSON as far as envelopes need it: members unread, payloads byte for byte, nesting bounded before anything is decoded.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};

/// The deepest nesting that is read, as in `serde_json`; deeper payloads travel as base64.
pub(super) const DEPTH_MAX: usize = 128;

/// More members than any envelope has.
const MEMBERS_MAX: usize = 256;

/// The members of an object, in order, with their values as they were written.
pub(super) struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    /// Reads an object.
    pub(super) fn parse(text: &'a str) -> Result<Self> {
        if depth(text.as_bytes()) > DEPTH_MAX {
            return Err(malformed(format!("JSON is nested deeper than {DEPTH_MAX}")));
        }
        // Of what is no object, the parser's message would show the contents.
        if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
            return Err(malformed("not a JSON object"));
        }
        serde_json::from_str(text).map_err(|error| malformed("not a JSON object that can be read").with_source(error))
    }

    pub(super) fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members: Vec<(String, &'de RawValue)> = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if members.iter().any(|(known, _)| *known == name) {
                        // Two readers that pick another one each would see two messages.
                        return Err(A::Error::custom(format_args!("member {} stands twice", shorten(&name))));
                    }
                    if members.len() == MEMBERS_MAX {
                        return Err(A::Error::custom(format_args!("more than {MEMBERS_MAX} members")));
                    }
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// A single value as text: `None` for `null`.
pub(super) fn scalar<'a>(name: &str, value: &'a RawValue) -> Result<Option<Cow<'a, str>>> {
    let raw = value.get();
    match raw.as_bytes().first() {
        Some(b'n') => Ok(None),
        Some(b'"') => string(name, raw).map(|text| Some(text.into())),
        Some(b'{' | b'[') | None => Err(malformed(format!("{} is no single value", shorten(name)))),
        Some(_) => Ok(Some(raw.into())),
    }
}

/// Whether it is an object or a list.
pub(super) fn is_nested(value: &RawValue) -> bool {
    value.get().starts_with(['{', '['])
}

pub(super) fn string(name: &str, raw: &str) -> Result<String> {
    serde_json::from_str(raw).map_err(|_| malformed(format!("{} is no text that can be read", shorten(name))))
}

/// Appends a text as a JSON string.
pub(super) fn push_string(json: &mut Vec<u8>, text: &str) {
    json.push(b'"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend_from_slice(&[b'\\', c as u8]),
            _ if c.is_control() => json.extend_from_slice(format!("\\u{:04x}", u32::from(c)).as_bytes()),
            _ => json.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    json.push(b'"');
}

/// Appends `"name":`, with a comma before all but the first.
pub(super) fn push_name(json: &mut Vec<u8>, name: &str) {
    if !json.ends_with(b"{") {
        json.push(b',');
    }
    push_string(json, name);
    json.push(b':');
}

/// Whether bytes can stand within a JSON text and be cut out again exactly as they are.
pub(super) fn is_embeddable(bytes: &[u8]) -> bool {
    // One level is the envelope's own.
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    depth(bytes) < DEPTH_MAX && serde_json::from_str::<&RawValue>(text).is_ok_and(|raw| raw.get().len() == text.len())
}

/// How deep brackets are nested; of text that is no JSON, an upper bound.
fn depth(bytes: &[u8]) -> usize {
    let (mut deepest, mut depth, mut in_string, mut escaped) = (0usize, 0usize, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A text of a foreign message for an error: cut, quoted, control characters escaped.
pub(super) fn shorten(text: &str) -> String {
    let cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() { format!("{cut:?}…") } else { format!("{cut:?}") }
}

pub(super) fn malformed(why: impl Into<String>) -> Error {
    Error::new(ErrorKind::Decode, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_written_as_serde_json_reads_them() {
        for text in ["", "a", "\"\\\n\r\t\0\u{7f}\u{85}\u{2028}", "ключ 🔑", "\\\"end\\"] {
            let mut json = Vec::new();
            push_string(&mut json, text);
            assert_eq!(serde_json::from_slice::<String>(&json).unwrap(), text);
        }
    }

    #[test]
    fn only_json_without_a_margin_is_embedded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for good in ["null", "1e999", "{\"a\":1,\"a\": 2}", "\"\\ud800\"", "[ 1 ]", &nested(127)] {
            assert!(is_embeddable(good.as_bytes()), "{good}");
        }
        for bad in
            [&b""[..], b" 1", b"1 ", b"{", b"1 2", b"\xff", b"\"\xff\"", b"nul", b"{'a':1}", b"\xef\xbb\xbf1", nested(128).as_bytes()]
        {
            assert!(!is_embeddable(bad), "{bad:?}");
        }
        assert_eq!(depth(br#"{"a\"[[[":[{"}}":[]}]}"#), 4);
    }
}
