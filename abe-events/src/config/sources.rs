//! Where configuration comes from, and in which order: files first, the environment over them.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::apply::{self, Findings};
use super::tree::{self, Node, SECTION};
use super::{Config, env};
use crate::error::{Error, ErrorKind, Result};
use crate::policy::PolicyPatch;

/// The files that are looked for, in this order.
const FILES: [&str; 3] = ["config.yaml", "config.yml", "config.toml"];

/// The largest file that is read; a configuration is a few kilobytes.
const FILE_BYTES_MAX: u64 = 512 * 1024;

/// Where a [`Config`] is read from; by itself nowhere.
///
/// ```
/// use abe_events::config::Sources;
///
/// let config = Sources::new()
///     .text("config.toml", "[event]\nurl = \"sqlite://orders.db\"\noutput_buffer = 128")
///     .env([("ABE_EVENT_OUTPUT_BUFFER", "256")])
///     .read()
///     .unwrap();
/// assert_eq!((config.url.as_str(), config.output_buffer), ("sqlite://orders.db", Some(256)));
/// ```
#[derive(Clone, Default)]
#[must_use = "nothing is read before `.read()`"]
pub struct Sources {
    path: Option<PathBuf>,
    directory: Option<PathBuf>,
    text: Option<(String, String)>,
    env: Vec<(OsString, OsString)>,
}

impl Sources {
    /// No source at all: reads as [`Config::default`].
    pub fn new() -> Self {
        Self::default()
    }

    /// The files of the working directory and the environment of this process.
    pub fn process() -> Self {
        Self::new().directory(".").env(std::env::vars_os())
    }

    /// This file and no other; it must exist. Wins over `ABE_EVENT_CONFIG`.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The directory in which `config.yaml`, `config.yml` and `config.toml` are looked for.
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// A text in place of a file; the name's ending tells YAML from TOML.
    pub fn text(mut self, file_name: impl Into<String>, text: impl Into<String>) -> Self {
        self.text = Some((file_name.into(), text.into()));
        self
    }

    /// Variables; those that do not begin with `ABE_EVENT_` are not looked at.
    pub fn env<K: Into<OsString>, V: Into<OsString>>(mut self, variables: impl IntoIterator<Item = (K, V)>) -> Self {
        self.env.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Reads all sources.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Config`]: a file that is named but cannot be read, is no YAML or TOML, or two files that both have a
    /// section `event`; else every unknown key and every value that is not allowed, together.
    pub fn read(self) -> Result<Config> {
        let mut findings = Findings::default();
        let variables = env::collect(self.env, &mut findings);
        let named = self.path.or_else(|| variables.get(env::FILE).map(PathBuf::from));
        let found = match (self.text, named) {
            (Some((name, text)), _) => parse(&name, &text)?.map(|node| (name, node)),
            (None, Some(path)) if path.as_os_str().is_empty() => None,
            (None, Some(path)) => {
                let name = path.display().to_string();
                parse(&name, &read_file(&path)?)?.map(|node| (name, node))
            }
            (None, None) => search(self.directory.as_deref())?,
        };
        let mut config = Config::default();
        if let Some((name, node)) = found {
            apply::file(&mut config, &name, &node, &mut findings);
        }
        env::apply(&mut config, &variables, &mut findings);
        for (name, patch) in &mut config.handlers {
            if let Some(over) = config.env_handlers.get(&env::handler_form(name)) {
                overlay(patch, over);
            }
        }
        config.defaults.buffer = config.defaults.buffer.or(config.output_buffer);
        apply::check_pairs(&config, &mut findings);
        findings.into_result().map(|()| config)
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The text and the variables may hold passwords.
        f.debug_struct("Sources").field("path", &self.path).field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// The one file of a directory that has a section for us.
fn search(directory: Option<&Path>) -> Result<Option<(String, Node)>> {
    let Some(directory) = directory else { return Ok(None) };
    let mut found: Option<(String, Node)> = None;
    for name in FILES {
        let path = directory.join(name);
        if !path.is_file() {
            continue;
        }
        let node = parse(name, &read_file(&path)?)
            .map_err(|error| error.context(format_args!("{} names another file, or, empty, none", env::FILE)))?;
        match (node, &found) {
            (Some(_), Some((first, _))) => {
                return Err(config_error(format!(
                    "both {first} and {name} have a section `{SECTION}`; keep one, or name it by {}",
                    env::FILE
                )));
            }
            (Some(node), None) => found = Some((name.into(), node)),
            (None, _) => {}
        }
    }
    Ok(found)
}

fn read_file(path: &Path) -> Result<String> {
    let shown = path.display();
    let fail = |error: std::io::Error| config_error(format!("{shown}: cannot be read: {error}"));
    let mut bytes = Vec::new();
    std::fs::File::open(path).map_err(fail)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(fail)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(config_error(format!("{shown}: is larger than {FILE_BYTES_MAX} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        config_error(format!("{shown}:{line}: is not UTF-8"))
    })
}

fn parse(name: &str, text: &str) -> Result<Option<Node>> {
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    // Some editors begin a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(config_error(format!("{name}: is larger than {FILE_BYTES_MAX} bytes")));
    }
    let parsed = match ending.as_str() {
        // JSON is YAML.
        "yaml" | "yml" | "json" => tree::from_yaml(text),
        "toml" => tree::from_toml(text),
        _ => return Err(config_error(format!("{name}: the name must end in .yaml, .yml, .json or .toml"))),
    };
    parsed.map_err(|wrong| {
        let line = wrong.line.map(|line| format!("{line}: ")).unwrap_or_else(|| " ".into());
        config_error(format!("{name}:{line}{}", wrong.why))
    })
}

fn config_error(text: String) -> Error {
    Error::new(ErrorKind::Config, text)
}

/// Lays what is given of one patch over another.
pub(crate) fn overlay(to: &mut PolicyPatch, over: &PolicyPatch) {
    macro_rules! lay {
        ($($field:ident)*) => {{
            // Named one by one without `..`, so that a new field cannot be forgotten.
            let PolicyPatch { $($field),* } = *over;
            $(to.$field = $field.or(to.$field);)*
        }};
    }
    lay!(attempts backoff retry_min_ms retry_max_ms jitter timeout_ms concurrency batch max_wait_ms batch_bytes ordered
         idempotent window_ms buffer buffer_bytes when_full dead_letter);
}
