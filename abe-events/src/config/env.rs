//! The environment, laid over what the files say: `ABE_EVENT_` and the key in capitals, `__` where a file nests.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::Config;
use super::apply::{Findings, did_you_mean, names_at};
use super::keys::{Key, POLICY, ROOT};
use super::nearest::nearest;
use super::tree::Scalar;
use crate::policy::PolicyPatch;

/// What every variable of ours begins with.
pub(super) const PREFIX: &str = "ABE_EVENT_";

/// The variable that names the file; it is read before anything else.
pub(super) const FILE: &str = "ABE_EVENT_CONFIG";

/// A handler's name as it stands in a variable: capitals, and one `_` for every run of other characters.
///
/// `orders::bill`, `orders.bill` and `orders__bill` all are `ORDERS_BILL`.
pub(super) fn handler_form(name: &str) -> String {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_ascii_uppercase()
}

/// Variables of ours by name; one that is not Unicode is a finding.
pub(super) fn collect(env: Vec<(OsString, OsString)>, findings: &mut Findings) -> BTreeMap<String, String> {
    let mut known = BTreeMap::new();
    for (name, value) in env {
        if let Ok(name) = name.into_string()
            && name.starts_with(PREFIX)
        {
            match value.into_string() {
                Ok(value) => drop(known.insert(name, value)),
                Err(_) => findings.push(format!("{name} is not UTF-8")),
            }
        }
    }
    known
}

/// Lays variables over a configuration.
pub(super) fn apply(config: &mut Config, variables: &BTreeMap<String, String>, findings: &mut Findings) {
    for (variable, text) in variables.iter().filter(|(name, _)| *name != FILE) {
        let value = Scalar::Env(text.clone());
        let words: Vec<String> = variable[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // Case is part of the name: `ABE_EVENT_url` is nobody's.
        let told = match &words[..] {
            _ if variable.bytes().any(|byte| byte.is_ascii_lowercase()) => unknown(variable),
            ["handlers", inner @ ..] => handler(config, variable, inner, &value),
            ["defaults", path @ ..] => set(POLICY, &mut config.defaults, &path.join("."), variable, &value),
            path => set(ROOT, config, &path.join("."), variable, &value),
        };
        if let Err(text) = told {
            findings.push(text);
        }
    }
}

fn set<T>(keys: &[Key<T>], target: &mut T, path: &str, variable: &str, value: &Scalar) -> Result<(), String> {
    let key = keys.iter().find(|key| key.path == path).ok_or_else(|| unknown(variable).err().unwrap_or_default())?;
    (key.set)(target, value).ok_or_else(|| format!("{variable} is {value}, expected {}", key.expected))
}

/// `HANDLERS__ORDERS_BILL__RETRY__MIN`: the key is read from the end, what stands before it is the name.
fn handler(config: &mut Config, variable: &str, words: &[&str], value: &Scalar) -> Result<(), String> {
    let two_words = words.len() >= 3 && {
        let (section, last) = (words[words.len() - 2], words[words.len() - 1]);
        let names = names_at(POLICY, &format!("{section}."), &[]);
        names.contains(&last) || (!names.is_empty() && !POLICY.iter().any(|key| key.path == last))
    };
    let (name, path) = words.split_at(words.len().saturating_sub(if two_words { 2 } else { 1 }));
    let form = handler_form(&name.join("_"));
    if form.is_empty() {
        return Err(format!("{variable}: expected {PREFIX}HANDLERS__<NAME>__<KEY>, such as {PREFIX}HANDLERS__ORDERS_BILL__TIMEOUT"));
    }
    let path = path.join(".");
    if !POLICY.iter().any(|key| key.path == path) {
        let known: Vec<String> = POLICY.iter().map(|key| spelled(key.path)).collect();
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let given = spelled(&path);
        return Err(format!("unknown key {} in {}: {}", shown(&given), shown(variable), did_you_mean(&given, &known)));
    }
    let patch = config.env_handlers.entry(form).or_insert(PolicyPatch::NONE);
    set(POLICY, patch, &path, variable, value)
}

/// A key's path as it stands in a variable.
fn spelled(path: &str) -> String {
    path.replace('.', "__").to_uppercase()
}

fn unknown(variable: &str) -> Result<(), String> {
    // Without the prefix, which would make any two variables alike.
    let mut known: Vec<String> = ROOT.iter().map(|key| spelled(key.path)).collect();
    known.extend(POLICY.iter().map(|key| format!("DEFAULTS__{}", spelled(key.path))));
    known.push(FILE[PREFIX.len()..].into());
    Err(match nearest(&variable[PREFIX.len()..], known.iter().map(String::as_str)) {
        Some(near) => format!("unknown variable {}: did you mean {PREFIX}{near}?", shown(variable)),
        None => {
            let known: Vec<String> = known.iter().map(|name| format!("{PREFIX}{name}")).collect();
            format!("unknown variable {}: known are {}, and {PREFIX}HANDLERS__<NAME>__<KEY>", shown(variable), known.join(", "))
        }
    })
}

fn shown(variable: &str) -> String {
    variable.chars().take(100).flat_map(char::escape_default).collect()
}
