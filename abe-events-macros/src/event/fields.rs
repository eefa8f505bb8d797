//! Marks on fields: `#[event(sensitive)]`, `#[event(public)]`, and the names that need one of them.

use syn::{Attribute, Data, DeriveInput, Field, Fields as SynFields, Ident, Index, Member};

use crate::errors::Errors;

/// Words at the end of a name that make it a secret's, and what may stand behind them.
const SECRETS: [&str; 20] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "jwt",
    "api_key",
    "apikey",
    "private_key",
    "signing_key",
    "encryption_key",
    "access_key",
    "credentials",
    "credit_card",
    "card_number",
    "cvv",
    "cvc",
    "ssn",
    "iban",
];
const ENDINGS: [&str; 8] = ["_hash", "_digest", "_value", "_text", "_plain", "_plaintext", "_raw", "s"];

/// Which fields must not be shown.
pub(crate) struct Fields {
    /// One list per variant; a struct has one.
    variants: Vec<Vec<Member>>,
    names: Vec<String>,
}

impl Fields {
    /// Takes the marks off the item and checks the names of unmarked fields.
    pub(crate) fn take_marks(item: &mut DeriveInput, errors: &mut Errors) -> Self {
        let mut found = Self { variants: Vec::new(), names: Vec::new() };
        match &mut item.data {
            Data::Struct(data) => found.take(None, &mut data.fields, errors),
            Data::Enum(data) => {
                for variant in &mut data.variants {
                    found.take(Some(&variant.ident), &mut variant.fields, errors);
                }
            }
            Data::Union(_) => {}
        }
        found
    }

    fn take(&mut self, variant: Option<&Ident>, fields: &mut SynFields, errors: &mut Errors) {
        let mut sensitive = Vec::new();
        for (index, field) in fields.iter_mut().enumerate() {
            let mark = mark_of(field, errors);
            let member = field.ident.clone().map_or_else(|| Member::Unnamed(Index::from(index)), Member::Named);
            if let (None, Some(name)) = (mark, &field.ident)
                && is_secret(&name.to_string())
            {
                errors.at(
                    name,
                    format_args!(
                        "`{name}` is named like a secret: mark it `#[event(sensitive)]` to keep it out of logs, `Debug` and error texts, or `#[event(public)]` if it is none"
                    ),
                );
            }
            if mark == Some(Mark::Sensitive) {
                let name = match &member {
                    Member::Named(name) => name.to_string(),
                    Member::Unnamed(index) => index.index.to_string(),
                };
                self.names.push(variant.map_or(name.clone(), |variant| format!("{variant}.{name}")));
                sensitive.push(member);
            }
        }
        self.variants.push(sensitive);
    }

    /// Whether anything is sensitive.
    pub(crate) fn any_sensitive(&self) -> bool {
        !self.names.is_empty()
    }

    /// Whether a field is, by its variant's number.
    pub(crate) fn is_sensitive(&self, variant: usize, member: &Member) -> bool {
        self.variants.get(variant).is_some_and(|members| members.contains(member))
    }

    /// The sensitive fields' names, `Variant.field` in an enum.
    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Mark {
    Sensitive,
    Public,
}

/// Takes the mark off a field.
fn mark_of(field: &mut Field, errors: &mut Errors) -> Option<Mark> {
    let mut mark = None;
    let mut attrs: Vec<Attribute> = std::mem::take(&mut field.attrs);
    attrs.retain(|attribute| {
        // Also when the user names it by its path, `abe_events::event`.
        if attribute.path().segments.last().is_none_or(|last| last.ident != "event") {
            return true;
        }
        match attribute.parse_args::<Ident>() {
            Ok(word) if word == "sensitive" => mark = Some(Mark::Sensitive),
            Ok(word) if word == "public" => mark = Some(Mark::Public),
            _ => errors.at(attribute, "a field is marked `#[event(sensitive)]` or `#[event(public)]`"),
        }
        false
    });
    field.attrs = attrs;
    mark
}

/// Whether a name ends with the whole words of a secret: `user_password`, `api_keys`, `token_hash`, but not `token_count`.
fn is_secret(name: &str) -> bool {
    let name = name.trim_start_matches("r#").to_ascii_lowercase();
    let ends = |name: &str| {
        SECRETS.iter().any(|secret| name.strip_suffix(secret).is_some_and(|before| before.is_empty() || before.ends_with('_')))
    };
    ends(&name) || ENDINGS.iter().any(|ending| name.strip_suffix(ending).is_some_and(ends))
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn a_secret_is_named_by_its_last_words() {
        for name in ["password", "user_password", "access_token", "api_key", "api_keys", "token_hash", "client_secret", "tokens"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["token_count", "password_changed_at", "secretary", "key", "idempotency_key", "tokenizer", "secret_id"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
