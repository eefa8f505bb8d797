//! `sqlite://path?synchronous=full`: a relative path, or with a third slash an absolute one.

use std::path::PathBuf;

use crate::broker::sqlite::{SqliteBroker, SqliteBrokerBuilder, Synchronous};
use crate::config::nearest::nearest;
use crate::error::{Error, ErrorKind, Result};

const PARAMETERS: [&str; 1] = ["synchronous"];
const SYNCHRONOUS: [&str; 2] = ["normal", "full"];

/// What a URL says of how to open the file.
pub(super) fn builder(url: &str) -> Result<SqliteBrokerBuilder> {
    let (path, synchronous) = parse(url)?;
    Ok(SqliteBroker::builder(path).synchronous(synchronous))
}

/// The file of a URL, and when a commit counts as done. No error repeats the path, or a value.
pub(super) fn parse(url: &str) -> Result<(PathBuf, Synchronous)> {
    let Some(rest) = url.strip_prefix("sqlite://") else {
        return Err(refuse("the sqlite broker's URL is `sqlite://path`, relative, or `sqlite:///path`, absolute".into()));
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = path_of(path)?;
    let mut synchronous = Synchronous::default();
    let mut seen = Vec::new();
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        if !PARAMETERS.contains(&name) {
            return Err(refuse(format!("the sqlite broker has no parameter {}{}", quoted(name), meant(name, &PARAMETERS))));
        }
        if seen.contains(&name) {
            return Err(refuse(format!("the parameter {name} stands twice in the sqlite broker's URL")));
        }
        seen.push(name);
        synchronous = match value {
            "full" => Synchronous::Full,
            "normal" => Synchronous::Normal,
            _ => return Err(refuse(format!("synchronous is `normal` or `full`{}", meant(value, &SYNCHRONOUS)))),
        };
    }
    Ok((path, synchronous))
}

/// What stands in for a path, with `%41` as in every URL.
fn path_of(text: &str) -> Result<PathBuf> {
    let path = crate::wire::decode_header_value(text).ok_or_else(|| refuse("the sqlite broker's path is no UTF-8".into()))?;
    if path.is_empty() || path.starts_with(':') || path.starts_with("file:") || path.contains("mode=memory") {
        return Err(refuse("the sqlite broker needs a path to a file, as in `sqlite://events.db`; in memory there is `memory://`".into()));
    }
    if path.contains('\0') || path.contains('#') {
        return Err(refuse("the sqlite broker's path holds a character that no path should: NUL or `#`".into()));
    }
    Ok(PathBuf::from(path.as_ref()))
}

fn refuse(text: String) -> Error {
    Error::new(ErrorKind::Config, text)
}

fn meant(given: &str, known: &[&'static str]) -> String {
    nearest(given, known.iter().copied())
        .map_or_else(|| format!("; it has {}", known.join(", ")), |near| format!("; did you mean `{near}`?"))
}

fn quoted(name: &str) -> String {
    format!("{:?}", name.chars().take(40).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_asks_for_is_understood() {
        for (url, shown) in [
            ("sqlite://orders.db", "Full"),
            ("sqlite:///var/lib/orders.db?synchronous=full", "Full"),
            ("sqlite://data/my%20orders.db?synchronous=normal", "Normal"),
        ] {
            let builder = builder(url).unwrap();
            assert!(format!("{builder:?}").contains(shown) && !format!("{builder:?}").contains("orders"), "{builder:?}");
        }
    }

    #[test]
    fn what_it_cannot_mean_is_told_without_the_path() {
        for (url, said) in [
            ("sqlite:orders-hunter2.db", "sqlite:///path"),
            ("sqlite://", "path to a file"),
            ("sqlite://:memory:", "memory://"),
            ("sqlite://?mode=memory", "path to a file"),
            ("sqlite://file:hunter2?mode=memory", "memory://"),
            ("sqlite://hunter2.db?mode=memory", "no parameter \"mode\""),
            ("sqlite://hunter2.db?synchronus=full", "did you mean `synchronous`?"),
            ("sqlite://hunter2.db?synchronous=ful", "did you mean `full`?"),
            ("sqlite://hunter2.db?synchronous=off", "it has normal, full"),
            ("sqlite://hunter2.db?synchronous=full&synchronous=normal", "twice"),
            ("sqlite://hunter2%00.db", "NUL"),
        ] {
            let error = builder(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(said) && !error.to_string().contains("hunter2"), "{url}: {error}");
        }
    }
}
