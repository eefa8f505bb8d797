//! The house, as tests: sizes, floors, documentation, and what must not lie around.
//!
//! Each check reads text and answers findings, so that the tests at the end can hand it a bad sample. Nothing is parsed
//! beyond what a check needs: comments and strings are blanked out, the rest is looked at line by line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who may import whom: a module sees its own floor and those below. The longest name that fits counts.
const FLOORS: &[(&str, u8)] = &[
    ("config::nearest", 0),
    ("error", 0),
    ("mutant", 0),
    ("codec", 0),
    ("event", 0),
    ("message", 0),
    ("panics", 0),
    ("policy", 0),
    ("sync", 0),
    ("topic", 0),
    ("wire", 0),
    ("broker", 1),
    ("contract", 1),
    ("handler", 1),
    ("lane_scope", 1),
    ("publisher", 1),
    ("register", 1),
    ("sql", 1),
    ("broker::kafka", 2),
    ("inbox", 2),
    ("broker::memory", 2),
    ("broker::nats", 2),
    ("broker::postgres", 2),
    ("broker::rabbitmq", 2),
    ("broker::redis", 2),
    ("broker::sqlite", 2),
    ("idempotency", 2),
    ("store", 2),
    ("config", 3),
    ("connect", 3),
    ("registry", 3),
    ("runtime", 4),
    ("__private", 5),
    ("cli", 5),
    ("conformance", 5),
    ("doctests", 5),
    ("ops", 5),
    ("private", 5),
    ("testing", 5),
];

/// Brokers, by module. None of them may name another.
const BROKERS: &[&str] = &["kafka", "memory", "nats", "postgres", "rabbitmq", "redis", "sqlite"];

/// What lies at the top beside files whose name begins with a dot.
const TOP: &[&str] = &[
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "abe-events",
    "abe-events-macros",
    "docs",
    "examples",
    "tests",
];

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Left-overs that must not be committed, as code.
const LEFTOVERS: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore"];

/// Macros whose body is the user's program rather than ours.
const QUOTES: &[&str] = &["quote!", "quote_spanned!", "parse_quote!"];

// ---------------------------------------------------------------------------------------------------- the tree

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files git knows or would add, or without git all but build output; paths from the root, with `/`.
fn files() -> Vec<String> {
    let listed = Command::new("git").args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(root()).output();
    let mut found: Vec<String> = match listed {
        Ok(listed) if listed.status.success() => String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect(),
        _ => walk(&root(), ""),
    };
    found.retain(|path| root().join(path).is_file());
    found
}

fn walk(directory: &Path, prefix: &str) -> Vec<String> {
    let (mut found, Ok(entries)) = (Vec::new(), std::fs::read_dir(directory)) else { return Vec::new() };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.path().is_dir() {
            true if matches!(name.as_str(), "target" | ".git" | "wip") => {}
            true => found.extend(walk(&entry.path(), &format!("{prefix}{name}/"))),
            false => found.push(format!("{prefix}{name}")),
        }
    }
    found
}

/// All text files that pass a test of their path.
fn texts(wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let read = |path: String| Some((std::fs::read_to_string(root().join(&path)).ok()?, path));
    files().into_iter().filter(|path| wanted(path)).filter_map(read).map(|(text, path)| (path, text)).collect()
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

/// Fixtures are a user's program with a fault in it: they keep no house.
fn is_fixture(path: &str) -> bool {
    path.starts_with("tests/") && ["/ui/", "/expand/"].iter().any(|folder| path.contains(folder))
}

fn clean(findings: Vec<String>) {
    assert!(findings.is_empty(), "{} findings:\n  {}", findings.len(), findings.join("\n  "));
}

// ---------------------------------------------------------------------------------------------------- reading Rust

/// The source with comments, strings and characters blanked out, line by line as long as before.
fn code_of(source: &str) -> String {
    let bytes: Vec<char> = source.chars().collect();
    let (mut out, mut at) = (String::with_capacity(source.len()), 0);
    while at < bytes.len() {
        let end = match bytes[at] {
            '/' if bytes.get(at + 1) == Some(&'/') => end_of_line(&bytes, at),
            '/' if bytes.get(at + 1) == Some(&'*') => end_of_block(&bytes, at),
            '"' => end_of_text(&bytes, at),
            'r' if !bytes[..at].last().is_some_and(|c| c.is_alphanumeric() || *c == '_') => end_of_raw(&bytes, at),
            '\'' => end_of_char(&bytes, at),
            _ => at,
        };
        if end == at {
            out.push(bytes[at]);
            at += 1;
        } else {
            out.extend(bytes[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    out
}

fn end_of_line(text: &[char], at: usize) -> usize {
    text[at..].iter().position(|c| *c == '\n').map_or(text.len(), |length| at + length)
}

fn end_of_block(text: &[char], at: usize) -> usize {
    let (mut depth, mut next) = (0, at);
    while next + 1 < text.len() {
        match (text[next], text[next + 1]) {
            ('/', '*') => (depth, next) = (depth + 1, next + 2),
            ('*', '/') if depth == 1 => return next + 2,
            ('*', '/') => (depth, next) = (depth - 1, next + 2),
            _ => next += 1,
        }
    }
    text.len()
}

fn end_of_text(text: &[char], at: usize) -> usize {
    let mut next = at + 1;
    while next < text.len() && text[next] != '"' {
        next += if text[next] == '\\' { 2 } else { 1 };
    }
    (next + 1).min(text.len())
}

fn end_of_raw(text: &[char], at: usize) -> usize {
    let hashes = text[at + 1..].iter().take_while(|c| **c == '#').count();
    if text.get(at + 1 + hashes) != Some(&'"') {
        return at;
    }
    let mut next = at + 2 + hashes;
    while next < text.len() {
        if text[next] == '"' && text[next + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return next + 1 + hashes;
        }
        next += 1;
    }
    text.len()
}

/// A character literal; a lifetime has no closing quote and is left as it is.
fn end_of_char(text: &[char], at: usize) -> usize {
    match (text.get(at + 1), text.get(at + 2)) {
        (Some('\\'), _) => text[at + 3..].iter().position(|c| *c == '\'').map_or(at, |length| at + 4 + length),
        (Some(_), Some('\'')) => at + 3,
        _ => at,
    }
}

fn code_lines(code: &str) -> usize {
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

/// The text from a `{` to the `}` that closes it.
fn braces(code: &str, open: usize) -> &str {
    let mut depth = 0_usize;
    for (at, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 1 => return &code[open..=open + at],
            '}' => depth -= 1,
            _ => {}
        }
    }
    &code[open..]
}

/// Name, line and body of each function.
fn functions(code: &str) -> Vec<(&str, usize, &str)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let name = code[at + 3..].split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
        let a_word = code[..at].chars().next_back().is_none_or(|c| !(c.is_alphanumeric() || c == '_'));
        let Some(open) = code[at..].find(['{', ';']).map(|length| at + length) else { continue };
        if a_word && !name.is_empty() && code[open..].starts_with('{') {
            found.push((name, code[..at].lines().count().max(1), braces(code, open)));
        }
    }
    found
}

/// Code lines of a function's body, without those of quoted programs.
fn own_lines(body: &str) -> usize {
    let quoted: usize = QUOTES
        .iter()
        .flat_map(|quote| body.match_indices(quote))
        .filter_map(|(at, _)| body[at..].find('{').map(|length| code_lines(braces(body, at + length)).saturating_sub(2)))
        .sum();
    code_lines(body).saturating_sub(quoted)
}

// ---------------------------------------------------------------------------------------------------- checks

fn check_opening(path: &str, source: &str) -> Vec<String> {
    if source.starts_with("//! ") { Vec::new() } else { vec![format!("{path}: does not open with `//!`")] }
}

fn check_sizes(path: &str, source: &str) -> Vec<String> {
    let code = code_of(source);
    let mut findings = Vec::new();
    let lines = code_lines(&code);
    if lines > FILE_LINES_MAX {
        findings.push(format!("{path}: {lines} code lines, at most {FILE_LINES_MAX}"));
    }
    for (name, line, body) in functions(&code) {
        let lines = own_lines(body);
        if lines > FUNCTION_LINES_MAX {
            findings.push(format!("{path}:{line}: fn {name} has {lines} code lines, at most {FUNCTION_LINES_MAX}"));
        }
    }
    findings
}

fn check_fences(path: &str, text: &str) -> Vec<String> {
    let fence =
        |line: &str| line.trim_start_matches(['/', '!', ' ', '*', '>']).strip_prefix("```").is_some_and(|info| info.contains("ignore"));
    let bad = text.lines().enumerate().filter(|(_, line)| fence(line));
    bad.map(|(at, _)| format!("{path}:{}: an example nobody compiles", at + 1)).collect()
}

fn check_leftovers(path: &str, source: &str) -> Vec<String> {
    let code = code_of(source);
    let found =
        |leftover: &&&str| code.match_indices(**leftover).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'));
    LEFTOVERS.iter().filter(found).map(|leftover| format!("{path}: {leftover}")).collect()
}

/// Places of one machine, and registries other than the public one.
fn check_places(path: &str, text: &str) -> Vec<String> {
    let machine = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/")];
    let mut findings = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for place in machine {
            let absolute =
                |found: usize| !line[..found].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '}' | '*'));
            if line.match_indices(place).any(|(found, _)| absolute(found)) {
                findings.push(format!("{path}:{}: {place} is a place on one machine", at + 1));
            }
        }
        let registry = path.ends_with("Cargo.lock") && line.starts_with("source = ");
        if registry && line != "source = \"registry+https://github.com/rust-lang/crates.io-index\"" {
            findings.push(format!("{path}:{}: {line} is not the public registry", at + 1));
        }
        let settings = ["[source", "[registr", "replace-with", "registry ="];
        if path.ends_with(".toml") && settings.iter().any(|setting| line.trim_start().starts_with(setting)) {
            findings.push(format!("{path}:{}: registry settings belong to a machine, not to the project", at + 1));
        }
    }
    findings
}

/// The module a file of `abe-events/src` holds: `broker/memory/mod.rs` is `broker::memory`.
fn module_of(path: &str) -> Option<String> {
    let inner = path.strip_prefix("abe-events/src/")?.strip_suffix(".rs")?;
    (inner != "lib").then(|| inner.strip_suffix("/mod").unwrap_or(inner).replace('/', "::"))
}

fn floor_of(module: &str) -> Option<u8> {
    let fits = |name: &str| module == name || module.strip_prefix(name).is_some_and(|rest| rest.starts_with("::"));
    FLOORS.iter().filter(|(name, _)| fits(name)).max_by_key(|(name, _)| name.len()).map(|(_, floor)| *floor)
}

/// Which module each name at the crate's root comes from, read from the `pub use` lines of `lib.rs`.
fn root_names(lib: &str) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for (_, statement) in code_of(lib).match_indices("pub use self::").map(|(at, _)| (at, code_of(lib)[at + 14..].to_owned())) {
        let statement = statement.split(';').next().unwrap_or_default();
        let Some((module, items)) = statement.rsplit_once("::") else { continue };
        for item in items.trim_matches(['{', '}', ' ']).split(',') {
            names.insert(item.trim().to_owned(), module.to_owned());
        }
    }
    names
}

/// Paths that begin with `crate::`, with the group of a `use` resolved one level deep.
fn crate_paths(code: &str) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    // `$crate::` is a path of the user's program.
    for (at, _) in code.match_indices("crate::").filter(|(at, _)| !code[..*at].ends_with('$')) {
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + 7..];
        let end = rest.find(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':'))).unwrap_or(rest.len());
        let path = rest[..end].trim_end_matches(':');
        if rest[end..].starts_with('{') {
            let group = braces(rest, end);
            let items = group[1..group.len() - 1].split(',').map(str::trim).filter(|item| !item.is_empty());
            paths.extend(items.map(|item| (line, format!("{path}::{item}").trim_start_matches(':').to_owned())));
        } else {
            paths.push((line, path.to_owned()));
        }
    }
    paths
}

fn check_floors(path: &str, source: &str, root_names: &BTreeMap<String, String>) -> Vec<String> {
    let Some(module) = module_of(path) else { return Vec::new() };
    let Some(floor) = floor_of(&module) else { return vec![format!("{path}: give {module} a floor in tests/tidy.rs")] };
    let mut findings = Vec::new();
    for (line, used) in crate_paths(&code_of(source)) {
        let first = used.split("::").next().unwrap_or_default();
        let target = root_names.get(first).cloned().unwrap_or_else(|| used.clone());
        match floor_of(&target) {
            Some(other) if other > floor => {
                findings.push(format!("{path}:{line}: {module} (floor {floor}) imports crate::{used} (floor {other})"));
            }
            _ => {}
        }
    }
    findings
}

fn check_brokers(path: &str, source: &str) -> Vec<String> {
    let Some(module) = module_of(path) else { return Vec::new() };
    let Some(own) = BROKERS.iter().find(|name| module.starts_with(&format!("broker::{name}"))) else { return Vec::new() };
    let code = code_of(source);
    let strangers =
        BROKERS.iter().filter(|name| *name != own).map(|name| format!("broker::{name}")).chain(["registry".into(), "runtime".into()]);
    let named = |stranger: &String| ["crate::", "super::"].iter().any(|from| code.contains(&format!("{from}{stranger}")));
    strangers.filter(named).map(|stranger| format!("{path}: names {stranger}")).collect()
}

fn check_top(entries: &[String]) -> Vec<String> {
    let extra = entries.iter().filter(|entry| !entry.starts_with('.') && !TOP.contains(&entry.as_str()));
    let missing = TOP.iter().filter(|wanted| !entries.iter().any(|entry| entry == *wanted));
    let extra = extra.map(|entry| format!("{entry} does not belong at the top"));
    extra.chain(missing.map(|wanted| format!("{wanted} is missing at the top"))).collect()
}

/// Targets in `examples/` or `tests/`: a file, or a folder with a `main.rs`.
fn check_attached(folder: &str, paths: &[String], manifest: &str) -> Vec<String> {
    let is_target =
        |rest: &str| rest.ends_with(".rs") && (!rest.contains('/') || (rest.ends_with("/main.rs") && rest.matches('/').count() == 1));
    let targets = paths.iter().filter(|path| path.strip_prefix(folder).is_some_and(is_target));
    let loose = targets.filter(|path| !manifest.contains(&format!("\"../{path}\"")));
    loose.map(|path| format!("{path} is not attached in abe-events/Cargo.toml, so nobody builds it")).collect()
}

fn check_listed(paths: &[String], readme: &str) -> Vec<String> {
    let name = |path: &str| path.strip_prefix("examples/")?.split(['/', '.']).next().map(str::to_owned);
    let names = paths.iter().filter(|path| is_rust(path)).filter_map(|path| name(path));
    names.filter(|name| !readme.contains(name.as_str())).map(|name| format!("examples/README.md does not name {name}")).collect()
}

// ---------------------------------------------------------------------------------------------------- the tree, checked

fn check_rust(check: impl Fn(&str, &str) -> Vec<String>) {
    let sources = texts(|path| is_rust(path) && !is_fixture(path));
    assert!(!sources.is_empty(), "no source was found, so nothing was checked");
    clean(sources.iter().flat_map(|(path, source)| check(path, source)).collect());
}

#[test]
fn every_module_opens_with_what_it_is() {
    check_rust(check_opening);
}

#[test]
fn files_and_functions_stay_small() {
    check_rust(check_sizes);
}

#[test]
fn nothing_is_left_over() {
    check_rust(check_leftovers);
}

#[test]
fn every_example_is_compiled() {
    let written = texts(|path| is_rust(path) || path.ends_with(".md"));
    clean(written.iter().flat_map(|(path, text)| check_fences(path, text)).collect());
}

#[test]
fn nothing_names_a_machine() {
    clean(texts(|_| true).iter().flat_map(|(path, text)| check_places(path, text)).collect());
}

#[test]
fn imports_point_down() {
    let lib = std::fs::read_to_string(root().join("abe-events/src/lib.rs")).expect("a library");
    let names = root_names(&lib);
    assert_eq!(names.get("ErrorKind").map(String::as_str), Some("error"), "the root's names are read");
    check_rust(|path, source| check_floors(path, source, &names));
}

#[test]
fn brokers_do_not_know_each_other() {
    check_rust(check_brokers);
}

#[test]
fn the_top_is_as_designed() {
    let mut entries: Vec<String> = files().iter().filter_map(|path| path.split('/').next().map(str::to_owned)).collect();
    entries.dedup();
    clean(check_top(&entries));
}

#[test]
fn tests_and_examples_are_attached_and_listed() {
    let manifest = std::fs::read_to_string(root().join("abe-events/Cargo.toml")).expect("a manifest");
    let readme = std::fs::read_to_string(root().join("examples/README.md")).unwrap_or_default();
    let paths = files();
    let own: Vec<String> = paths.iter().filter(|path| !path.contains("/downstream/") && !path.contains("/peers/")).cloned().collect();
    let mut findings = check_attached("tests/", &own, &manifest);
    findings.extend(check_attached("examples/", &own, &manifest));
    findings.extend(check_listed(&paths, &readme));
    clean(findings);
}

// ---------------------------------------------------------------------------------------------------- the checks, checked

#[test]
fn code_is_told_from_comments_and_texts() {
    let source = "let a = \"fn no() {\"; // fn no() {\n/* fn /* no */ { */ let b = 'x'; let c: &'static str = r#\"\"{\"#;";
    let code = code_of(source);
    assert!(!code.contains("no") && !code.contains('{'), "{code}");
    assert!(code.contains("let b") && code.contains("&'static str") && code.lines().count() == 2, "{code}");
    assert_eq!(code_lines(&code_of("//! a\n\nlet a = 1; // b\n/* c\nd */\n")), 1);
}

#[test]
fn a_bad_sample_is_found() {
    assert_eq!(check_opening("a.rs", "use b;").len(), 1);
    assert_eq!(check_leftovers("a.rs", "fn f() { todo!() }\n#[ignore]\nfn g() {}").len(), 2);
    assert!(check_leftovers("a.rs", "// todo!\nlet a = \"dbg!\";").is_empty());
    assert_eq!(check_fences("a.rs", "/// ``\u{60}ignore\n/// ``\u{60}").len(), 1);
    assert_eq!(check_fences("a.md", "``\u{60}rust,ignore").len(), 1);
    assert_eq!(check_places("a.md", concat!("see /wo", "rk/a and \"/ho", "me/b\"")).len(), 2);
    assert!(check_places("a.md", concat!("https://example.com/wo", "rk/a ./ho", "me/b")).is_empty());
    assert_eq!(check_places("Cargo.lock", "source = \"registry+https://mirror.example/index\"").len(), 1);
    assert_eq!(check_places(".cargo/config.toml", "[source.crates-io]\nreplace-with = \"mirror\"").len(), 2);
}

#[test]
fn a_large_file_or_function_is_found() {
    let line = "    call();\n";
    assert_eq!(check_sizes("a.rs", &line.repeat(501)).len(), 1);
    assert!(check_sizes("a.rs", &"// a\n\n".repeat(600)).is_empty());
    let function = |lines: usize, body: &str| format!("fn long() {{\n{}}}\n", body.repeat(lines));
    assert_eq!(check_sizes("a.rs", &function(70, line)).len(), 1);
    assert!(check_sizes("a.rs", &function(68, line)).is_empty());
    let quoted = format!("fn expand() {{\n    quote! {{\n{}    }}\n}}\n", line.repeat(200));
    assert!(check_sizes("a.rs", &quoted).is_empty(), "{:?}", check_sizes("a.rs", &quoted));
}

#[test]
fn an_import_that_points_up_is_found() {
    let names = root_names("pub use self::error::{Error, ErrorKind};\npub use self::runtime::Runtime;");
    let check = |path, source| check_floors(path, source, &names).len();
    assert_eq!(check("abe-events/src/topic.rs", "use crate::broker::Broker;"), 1);
    assert_eq!(check("abe-events/src/topic.rs", "use crate::{error::Result, runtime::start};"), 1);
    assert_eq!(check("abe-events/src/broker/mod.rs", "use crate::Runtime;"), 1);
    assert_eq!(check("abe-events/src/broker/mod.rs", "use crate::broker::memory::MemoryBroker;"), 1);
    assert_eq!(check("abe-events/src/runtime/mod.rs", "use crate::{Error, broker::Broker, registry};"), 0);
    assert_eq!(check("abe-events/src/error.rs", "$crate::runtime::start(); // crate::runtime"), 0);
    assert_eq!(check("abe-events/src/utils.rs", ""), 1);
    assert_eq!(check_brokers("abe-events/src/broker/nats/mod.rs", "use crate::broker::redis::X;\nuse crate::runtime::Y;").len(), 2);
    assert!(check_brokers("abe-events/src/broker/nats/mod.rs", "use super::nats; // crate::broker::redis").is_empty());
}

#[test]
fn a_loose_target_or_a_stray_entry_is_found() {
    let paths: Vec<String> = ["examples/a.rs", "examples/b/main.rs", "examples/b/part.rs", "tests/c.rs"].map(str::to_owned).into();
    assert_eq!(check_attached("examples/", &paths, "path = \"../examples/a.rs\"").len(), 1);
    assert_eq!(check_attached("tests/", &paths, "path = \"../tests/c.rs\"").len(), 0);
    assert_eq!(check_listed(&paths, "* `a`").len(), 2);
    let entries: Vec<String> = TOP.iter().map(|entry| (*entry).to_owned()).chain(["NOTES.md".to_owned(), ".github".to_owned()]).collect();
    assert_eq!(check_top(&entries), ["NOTES.md does not belong at the top"]);
    assert_eq!(check_top(&entries[1..]).len(), 2);
}
