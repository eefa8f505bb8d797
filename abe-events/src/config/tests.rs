//! Every key, every mistake's message, and that no text at all makes it panic.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::error::ErrorKind;
use crate::policy::{Backoff, Policy, WhenFull};

const FULL: &str = "
server: {port: 80}
event:
  url: postgres://ann:hunter2@db/shop
  store: sqlite://orders.db
  output_buffer: 128
  group: shop
  shutdown_grace: 5s
  max_hops: 7
  payload_bytes_max: 1000
  defaults:
    timeout: none
    retry: {attempts: 7, backoff: fixed, min: 1s, max: 2m, jitter: false}
  handlers:
    orders::bill: {concurrency: 4, batch: 50, max_wait: 5s, bytes: 9, idempotent: {window: 7d}}
    ship: {ordered: true, when_full: shed, dead_letter: false, output_buffer: 9, buffer_bytes: 10, idempotent: false}
";

fn yaml(section: &str) -> crate::Result<Config> {
    Config::parse("config.yaml", &format!("event:\n{section}"))
}

fn env(variables: &[(&str, &str)]) -> crate::Result<Config> {
    Sources::new().env(variables.iter().copied()).read()
}

#[track_caller]
fn assert_error(result: crate::Result<Config>, expected: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn every_key_is_read() {
    let config = Config::parse("config.yaml", FULL).unwrap();
    assert_eq!((config.url.as_str(), config.store.as_deref()), ("postgres://ann:hunter2@db/shop", Some("sqlite://orders.db")));
    assert_eq!((config.output_buffer, config.defaults.buffer, config.group.as_str()), (Some(128), Some(128), "shop"));
    assert_eq!((config.shutdown_grace, config.max_hops, config.payload_bytes_max), (Duration::from_secs(5), 7, 1000));
    let defaults = PolicyPatch {
        attempts: Some(7),
        backoff: Some(Backoff::Fixed),
        retry_min_ms: Some(1_000),
        retry_max_ms: Some(120_000),
        jitter: Some(false),
        timeout_ms: Some(0),
        buffer: Some(128),
        ..PolicyPatch::NONE
    };
    assert_eq!(config.defaults, defaults);
    let bill = PolicyPatch {
        concurrency: Some(4),
        batch: Some(50),
        max_wait_ms: Some(5_000),
        batch_bytes: Some(9),
        idempotent: Some(true),
        window_ms: Some(604_800_000),
        ..PolicyPatch::NONE
    };
    assert_eq!(config.for_handler("orders::bill"), Some(&bill));
    let ship = PolicyPatch {
        ordered: Some(true),
        when_full: Some(WhenFull::Shed),
        dead_letter: Some(false),
        buffer: Some(9),
        buffer_bytes: Some(10),
        idempotent: Some(false),
        ..PolicyPatch::NONE
    };
    assert_eq!(config.for_handler("ship"), Some(&ship));
    assert_eq!(Policy::resolve([&config.defaults]).timeout, None);
}

#[test]
fn toml_says_the_same() {
    let toml = r#"
[server]
port = 80
[event]
url = "postgres://ann:hunter2@db/shop"
store = "sqlite://orders.db"
output_buffer = 128
group = "shop"
shutdown_grace = "5s"
max_hops = 7
payload_bytes_max = 1_000
[event.defaults]
timeout = "none"
retry = { attempts = 0x7, backoff = "fixed", min = "1s", max = "2m", jitter = false }
[event.handlers."orders::bill"]
concurrency = 4
batch = 50
max_wait = "5s"
bytes = 9
idempotent.window = "7d"
[event.handlers.ship]
ordered = true
when_full = "shed"
dead_letter = false
output_buffer = 9
buffer_bytes = 10
idempotent = false
"#;
    let (mut yaml, mut toml) = (Config::parse("config.yaml", FULL).unwrap(), Config::parse("config.toml", toml).unwrap());
    (yaml.given, toml.given) = Default::default();
    assert_eq!(yaml, toml);
}

#[test]
fn nothing_given_is_the_default() {
    for text in [
        "",
        "# nothing",
        "other: 1",
        "event:",
        "event: {}",
        "event:\n  defaults:\n  handlers:\n",
        "event: {handlers: {a: }, defaults: {retry: }}",
    ] {
        let config = Config::parse("config.yaml", text).unwrap();
        assert_eq!(Config { handlers: BTreeMap::new(), given: BTreeMap::new(), ..config }, Config::default(), "{text}");
    }
    assert_eq!(env(&[("PATH", "/bin"), ("ABE_EVENTS_X", "1"), ("ABE_EVENT_CONFIG", "")]).unwrap(), Config::default());
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = Sources::new()
        .text("config.yaml", FULL)
        .env([
            ("ABE_EVENT_URL", "memory://"),
            ("ABE_EVENT_DEFAULTS__RETRY__ATTEMPTS", "9"),
            ("ABE_EVENT_DEFAULTS__TIMEOUT", "90s"),
            ("ABE_EVENT_HANDLERS__ORDERS_BILL__BATCH", "51"),
            ("ABE_EVENT_HANDLERS__ORDERS__BILL__RETRY__MIN", "5s"),
            ("ABE_EVENT_HANDLERS__ORDERS__RETRY__TIMEOUT", "6s"),
            ("ABE_EVENT_HANDLERS__SHIP__IDEMPOTENT__WINDOW", "1h"),
            ("ABE_EVENT_HANDLERS__RETRY__ORDERED", "true"),
        ])
        .read()
        .unwrap();
    assert_eq!((config.url.as_str(), config.defaults.attempts, config.defaults.timeout_ms), ("memory://", Some(9), Some(90_000)));
    let bill = config.for_handler("orders::bill").unwrap();
    assert_eq!((bill.batch, bill.concurrency, bill.retry_min_ms), (Some(51), Some(4), Some(5_000)));
    assert_eq!(config.for_handler("orders::retry").unwrap().timeout_ms, Some(6_000));
    assert_eq!(config.for_handler("orders__retry"), config.for_handler("orders.retry"));
    assert_eq!(config.for_handler("ship").unwrap().idempotent, Some(true));
    assert_eq!(config.for_handler("retry").unwrap().ordered, Some(true));
    assert_eq!(config.unknown_handlers(&["orders.bill", "orders::retry", "ship", "retry"]), []);
}

#[test]
fn handlers_that_nobody_knows_are_told_with_the_nearest() {
    let config = Sources::new()
        .text("config.yaml", "event:\n  handlers:\n    orders::bil: {}\n    ship: {}\n    elsewhere: {}\n")
        .env([("ABE_EVENT_HANDLERS__ORDERS_BIL__BATCH", "2"), ("ABE_EVENT_HANDLERS__SHIPS__BATCH", "2")])
        .read()
        .unwrap();
    let told: Vec<String> = config.unknown_handlers(&["orders.bill", "orders.ship"]).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "config.yaml:5: no handler is called \"elsewhere\"",
            "config.yaml:3: no handler is called \"orders.bil\", did you mean \"orders.bill\"?",
            "config.yaml:4: no handler is called \"ship\", did you mean \"orders.ship\"?",
            "the environment: no handler is called \"SHIPS\", did you mean \"orders.ship\"?",
        ]
    );
}

#[test]
fn an_unknown_key_is_told_with_place_and_nearest() {
    assert_error(yaml("  ulr: x"), "config.yaml:2: unknown key event.ulr: did you mean `url`?");
    assert_error(
        yaml("  broker: x"),
        "config.yaml:2: unknown key event.broker: known are url, store, event_log, store_first, output_buffer, group, shutdown_grace, max_hops, payload_bytes_max, defaults, handlers",
    );
    assert_error(yaml("  default: {}"), "config.yaml:2: unknown key event.default: did you mean `defaults`?");
    assert_error(
        yaml("  defaults:\n    retry:\n      atempts: 1"),
        "config.yaml:4: unknown key event.defaults.retry.atempts: did you mean `attempts`?",
    );
    assert_error(
        yaml("  handlers:\n    orders::bill:\n      max-wait: 1s"),
        "config.yaml:4: unknown key event.handlers.\"orders::bill\".max-wait: did you mean `max_wait`?",
    );
    assert_error(
        Config::parse("config.toml", "[event]\nurl = \"memory://\"\noutputBuffer = 5"),
        "config.toml:3: unknown key event.outputBuffer: did you mean `output_buffer`?",
    );
    assert_error(
        Config::parse("config.toml", "[event.handlers.orders.bill]\nbatch = 5"),
        "2 mistakes in the configuration:
  config.toml:1: event.handlers.orders: a handler's name with dots is quoted, as \"orders.bill\"
  config.toml:1: unknown key event.handlers.orders.bill: known are retry, timeout, concurrency, batch, max_wait, bytes, ordered, idempotent, when_full, dead_letter, output_buffer, buffer_bytes",
    );
}

/// Key, value in YAML, and what is said of it.
const WRONG_VALUES: &[(&str, &str, &str)] = &[
    ("url", "5", "5, expected a URL such as `memory://` or `sqlite://orders.db`"),
    ("url", "ann:hunter2@db", "\"***@db\", expected a URL such as `memory://` or `sqlite://orders.db`"),
    ("url", "redis:/ann hunter2@db", "\"***@db\", expected a URL such as `memory://` or `sqlite://orders.db`"),
    ("url", "", "empty, expected a URL such as `memory://` or `sqlite://orders.db`"),
    ("store", "[a]", "a list, expected a URL such as `sqlite://orders.db` or `postgres://host/db`"),
    ("output_buffer", "0", "0, expected an integer from 1 to 1048576"),
    ("output_buffer", "\"64\"", "\"64\", expected an integer from 1 to 1048576"),
    ("output_buffer", "6.5", "6.5, expected an integer from 1 to 1048576"),
    ("output_buffer", "-1", "-1, expected an integer from 1 to 1048576"),
    (
        "output_buffer",
        "1000000000000000000000000000000000000000000",
        "1000000000000000000000000000000000000000000, expected an integer from 1 to 1048576",
    ),
    ("group", "a b", "\"a b\", expected a name of ASCII letters, digits, `_`, `-` and `.`, up to 200 bytes"),
    ("shutdown_grace", "30", "30, expected a duration up to 365d, such as `30s`"),
    ("shutdown_grace", "30sec", "\"30sec\", expected a duration up to 365d, such as `30s`"),
    ("max_hops", "{a: 1}", "a section, expected an integer from 1 to 10000"),
    ("payload_bytes_max", "1073741825", "1073741825, expected a number of bytes from 1 to 1073741824"),
    (
        "defaults",
        "5",
        "5, expected a section with retry, timeout, concurrency, batch, max_wait, bytes, ordered, idempotent, when_full, dead_letter, output_buffer, buffer_bytes",
    ),
    ("handlers", "[bill]", "a list, expected a section of handler names, each with a policy"),
];

/// The same under `defaults`.
const WRONG_POLICY: &[(&str, &str, &str)] = &[
    ("retry", "5", "5, expected a section with attempts, backoff, min, max, jitter"),
    ("timeout", "0s", "\"0s\", expected a duration longer than 0 and up to 365d, such as `30s`, or `none`"),
    ("timeout", "", "empty, expected a duration longer than 0 and up to 365d, such as `30s`, or `none`"),
    ("concurrency", "65537", "65537, expected an integer from 1 to 65536"),
    ("batch", "0", "0, expected an integer from 1 to 100000"),
    ("max_wait", "5 s", "\"5 s\", expected a duration longer than 0 and up to 365d, such as `250ms`, `30s`, `5m`, `24h` or `7d`"),
    ("bytes", "0", "0, expected a number of bytes from 1 to 1099511627776"),
    ("ordered", "yes", "\"yes\", expected `true` or `false`"),
    ("idempotent", "24h", "\"24h\", expected `true`, `false` or `{window: 24h}`"),
    ("when_full", "drop", "\"drop\", expected `wait`, `fail` or `shed`"),
    ("dead_letter", "1", "1, expected `true` or `false`"),
    ("buffer_bytes", "16MiB", "\"16MiB\", expected a number of bytes from 1 to 1099511627776"),
];

#[test]
fn a_value_that_is_not_allowed_is_told_with_what_is() {
    for (key, value, expected) in WRONG_VALUES {
        assert_error(yaml(&format!("  {key}: {value}")), &format!("config.yaml:2: event.{key} is {expected}"));
    }
    for (key, value, expected) in WRONG_POLICY {
        assert_error(yaml(&format!("  defaults:\n    {key}: {value}")), &format!("config.yaml:3: event.defaults.{key} is {expected}"));
    }
    for (key, value, expected) in [
        ("attempts", "0", "0, expected an integer from 1 to 4294967295"),
        ("backoff", "linear", "\"linear\", expected `fixed` or `exponential`"),
        ("min", "366d", "\"366d\", expected a duration longer than 0 and up to 365d, such as `250ms`, `30s`, `5m`, `24h` or `7d`"),
        ("jitter", "\"true\"", "\"true\", expected `true` or `false`"),
    ] {
        let text = format!("  handlers:\n    a:\n      retry:\n        {key}: {value}");
        assert_error(yaml(&text), &format!("config.yaml:5: event.handlers.a.retry.{key} is {expected}"));
    }
    assert_error(
        yaml("  handlers:\n    a b: {}"),
        "config.yaml:3: event.handlers.\"a b\": name \"a b\": contains ' '; allowed are ASCII letters, digits, `_`, `-` and `.`",
    );
    assert_error(yaml("  handlers:\n    a::b: {}\n    a.b: {}"), "config.yaml:4: event.handlers.\"a.b\" stands twice, first on line 3");
    assert_error(yaml("  defaults: {retry: {min: 2m, max: 90s}}"), "event.defaults.retry: min 2m is longer than max 90s");
    assert_error(
        Config::parse("c.yaml", "event: 5"),
        "c.yaml: event is 5, expected a section with url, store, event_log, store_first, output_buffer, group, shutdown_grace, max_hops, payload_bytes_max, defaults, handlers",
    );
}

#[test]
fn a_mistaken_variable_is_told() {
    for (name, value, expected) in [
        ("ABE_EVENT_OUTPUT_BUFER", "5", "unknown variable ABE_EVENT_OUTPUT_BUFER: did you mean ABE_EVENT_OUTPUT_BUFFER?"),
        ("ABE_EVENT_DEFAULTS_TIMEOUT", "5s", "unknown variable ABE_EVENT_DEFAULTS_TIMEOUT: did you mean ABE_EVENT_DEFAULTS__TIMEOUT?"),
        ("ABE_EVENT_CONFIGS", "x", "unknown variable ABE_EVENT_CONFIGS: did you mean ABE_EVENT_CONFIG?"),
        ("ABE_EVENT_url", "x", "unknown variable ABE_EVENT_url: did you mean ABE_EVENT_URL?"),
        ("ABE_EVENT_MAX_HOPS", "", "ABE_EVENT_MAX_HOPS is \"\", expected an integer from 1 to 10000"),
        ("ABE_EVENT_URL", "redis:hunter2@h", "ABE_EVENT_URL is \"***@h\", expected a URL such as `memory://` or `sqlite://orders.db`"),
        ("ABE_EVENT_DEFAULTS__ORDERED", "TRUE", "ABE_EVENT_DEFAULTS__ORDERED is \"TRUE\", expected `true` or `false`"),
        (
            "ABE_EVENT_HANDLERS__TIMEOUT",
            "5s",
            "ABE_EVENT_HANDLERS__TIMEOUT: expected ABE_EVENT_HANDLERS__<NAME>__<KEY>, such as ABE_EVENT_HANDLERS__ORDERS_BILL__TIMEOUT",
        ),
        (
            "ABE_EVENT_HANDLERS__A__RETRY__ATEMPTS",
            "5",
            "unknown key RETRY__ATEMPTS in ABE_EVENT_HANDLERS__A__RETRY__ATEMPTS: did you mean `RETRY__ATTEMPTS`?",
        ),
        ("ABE_EVENT_HANDLERS__A__TIMEOUTS", "5", "unknown key TIMEOUTS in ABE_EVENT_HANDLERS__A__TIMEOUTS: did you mean `TIMEOUT`?"),
        (
            "ABE_EVENT_HANDLERS__A__TIMEOUT",
            "5",
            "ABE_EVENT_HANDLERS__A__TIMEOUT is \"5\", expected a duration longer than 0 and up to 365d, such as `30s`, or `none`",
        ),
    ] {
        assert_error(env(&[(name, value)]), expected);
    }
    assert!(env(&[("ABE_EVENT_TRANSPORT", "x")]).unwrap_err().to_string().contains("known are ABE_EVENT_URL, "));
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_not_utf_8_is_told() {
    let latin = std::os::unix::ffi::OsStringExt::from_vec(vec![0xe9]);
    assert_error(
        Sources::new().env([("ABE_EVENT_GROUP".into(), latin)] as [(std::ffi::OsString, std::ffi::OsString); 1]).read(),
        "ABE_EVENT_GROUP is not UTF-8",
    );
}

#[test]
fn mistakes_of_all_sources_are_told_together() {
    let error =
        Sources::new().text("config.yaml", "event:\n  ulr: a\n  max_hops: 0\n").env([("ABE_EVENT_MAX_HOPS", "x")]).read().unwrap_err();
    assert!(error.to_string().starts_with("3 mistakes in the configuration:\n  config.yaml:2: "), "{error}");
    let many: String = (0..50).map(|n| format!("  zzzzzzzz{n}: 1\n")).collect();
    let error = yaml(&many).unwrap_err().to_string();
    assert!(error.starts_with("50 mistakes") && error.ends_with("and 30 more"), "{error}");
}

#[test]
fn a_file_that_cannot_be_parsed_is_told_by_line_without_quoting_it() {
    for (name, text, place) in [
        ("config.yaml", "event:\n  url: \"postgres://ann:hunter2@db\n", "config.yaml:"),
        ("config.yaml", "event:\n  url: postgres://ann:hunter2@db\n bad: [\n", "config.yaml:"),
        ("config.yaml", "event:\n  url: a://b\n  url: postgres://ann:hunter2@db\n", "config.yaml:3: "),
        ("config.yaml", "event: {}\n---\nevent: {}\n", "config.yaml:"),
        ("config.yaml", "- 1\n", "config.yaml:"),
        ("config.toml", "[event]\nurl = postgres://ann:hunter2@db\n", "config.toml:2: "),
        ("config.toml", "[event]\nurl = \"postgres://ann:hunter2@db\n", "config.toml:2: "),
        ("config.toml", "[event]\nurl = 'a://b'\nurl = 'postgres://ann:hunter2@db'\n", "config.toml:3: "),
        ("config.ini", "", "config.ini: the name must end in .yaml, .yml, .json or .toml"),
    ] {
        let error = Config::parse(name, text).unwrap_err().to_string();
        assert!(error.starts_with(place) && !error.contains("hunter2") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn credentials_are_in_no_debug_form() {
    let config = Config::parse("config.yaml", FULL).unwrap();
    let sources = Sources::new().text("config.yaml", FULL).env([("ABE_EVENT_URL", "redis://:hunter2@h")]);
    for text in [format!("{config:?}"), format!("{config:#?}"), format!("{sources:?}")] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn files_are_found_in_order_and_two_sections_are_refused() {
    let directory = std::env::temp_dir().join(format!("abe-events-config-{}", crate::Id::new()));
    std::fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, text: &[u8]| std::fs::write(directory.join(name), text).unwrap();
    let read = |env: &[(&str, &str)]| Sources::new().directory(&directory).env(env.iter().copied()).read();
    assert_eq!(read(&[]).unwrap(), Config::default());
    write("config.yaml", b"server: {}");
    write("config.toml", b"\xef\xbb\xbf[event]\ngroup = 'b'");
    assert_eq!(read(&[]).unwrap().group.as_str(), "b");
    write("config.yml", b"event: {group: a}");
    assert_error(read(&[]), "both config.yml and config.toml have a section `event`; keep one, or name it by ABE_EVENT_CONFIG");
    let other = directory.join("other.yaml");
    let named = [("ABE_EVENT_CONFIG", other.to_str().unwrap())];
    assert!(read(&named).unwrap_err().to_string().contains("other.yaml: cannot be read: "));
    write("other.yaml", b"event: {group: c}");
    assert_eq!(read(&named).unwrap().group.as_str(), "c");
    assert_eq!(Sources::new().path(directory.join("config.yml")).env(named).read().unwrap().group.as_str(), "a");
    assert_eq!(read(&[("ABE_EVENT_CONFIG", "")]).unwrap(), Config::default());
    write("other.yaml", b"event:\n  group: \xff");
    assert!(read(&named).unwrap_err().to_string().ends_with("other.yaml:2: is not UTF-8"));
    write("other.yaml", &vec![b'#'; 1024 * 1024 + 1]);
    assert!(read(&named).unwrap_err().to_string().ends_with("other.yaml: is larger than 524288 bytes"));
    std::fs::remove_dir_all(&directory).unwrap();
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}", toml in any::<bool>()) {
        let name = if toml { "c.toml" } else { "c.yaml" };
        let _ = Config::parse(name, &text);
        let _ = Config::parse(name, &format!("event:\n  {text}"));
        let _ = redact_url(&text);
    }

    #[test]
    fn no_mutation_of_a_good_file_makes_it_panic(at in 0..FULL.len(), cut in 0usize..20, with in "[-{}\\[\\]&*:,#\"' \n\ta0]{0,6}") {
        let mut text = FULL.as_bytes().to_vec();
        text.splice(at..(at + cut).min(FULL.len()), with.bytes());
        let _ = Config::parse("c.yaml", &String::from_utf8_lossy(&text));
    }

    #[test]
    fn no_variable_makes_it_panic(name in "[A-Z_]{0,40}|.{0,20}", value in ".{0,40}") {
        for name in [format!("ABE_EVENT_{name}"), format!("ABE_EVENT_HANDLERS__{name}"), name] {
            let _ = env(&[(&name, &value)]);
        }
    }

    #[test]
    fn a_password_is_never_shown(password in "[a-zA-Z0-9@/?#:&=%+.\"' -]{0,20}", tail in "[a-z0-9/?=&#]{0,20}") {
        let password = format!("{password}s3cr3tW0rd");
        let shown = redact_url(&format!("postgres://ann:{password}@db/{tail}"));
        prop_assert!(!shown.contains("s3cr3tW0rd"), "{}", shown);
    }
}
