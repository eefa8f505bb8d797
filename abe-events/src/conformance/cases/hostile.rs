//! What comes in by mistake or by malice: it comes out byte for byte, or is refused by a clear error. Nothing in between.

use std::time::{Duration, SystemTime};

use crate::{Error, ErrorKind, HEADER_BYTES_MAX, HEADER_COUNT_MAX, Headers, Message, NAME_BYTES_MAX, Topic};

use crate::conformance::bench::{Bench, Check, Got, ensure, message, numbered, single, within};
use crate::conformance::cases::delivery::unchanged;

/// How many inputs there are at least; a list that shrinks is noticed.
const INPUTS_MIN: usize = 150;

/// S13: hostile payloads, keys, ids, headers, times and sizes come back as they were or are refused with a reason, names
/// that somebody would act on are refused, and what follows is not disturbed.
pub(crate) async fn hostile_inputs(bench: &Bench) -> Check {
    let topic = bench.topic("hostile")?;
    let consumer = bench.consumer(&bench.spec("reader", &topic)?).await?;
    let mut inputs: Vec<Result<Message, Error>> = Vec::new();
    inputs.extend(payloads(bench).into_iter().map(|payload| Ok(message(&topic, payload))));
    inputs.extend(texts().map(|text| Ok(message(&topic, "a hostile key").with_key(Some(text.as_str().into())))));
    inputs.extend(texts().map(|text| text.parse().map(|id| message(&topic, "a hostile id").with_id(id))));
    inputs.extend(texts().map(|text| header("hostile", &text).map(|headers| message(&topic, "a hostile value").with_headers(headers))));
    inputs.extend(texts().map(|text| header(&text, "value").map(|headers| message(&topic, "a hostile name").with_headers(headers))));
    inputs.extend(full_headers().map(|headers| headers.map(|headers| message(&topic, "many headers").with_headers(headers))));
    inputs.extend(times().map(|time| Ok(message(&topic, "a hostile time").with_time(time))));
    ensure!(inputs.len() >= INPUTS_MIN, "only {} inputs", inputs.len());

    let mut sent = Vec::new();
    for input in inputs {
        match input {
            Ok(message) => sent.extend(stored(bench, message).await?),
            Err(error) => explained(&error)?,
        }
    }
    let got: Vec<Got> = bench.read(&*consumer, sent.len(), bench.patience()).await?;
    ensure!(got.len() == sent.len(), "{} of {} stored messages came", got.len(), sent.len());
    got.iter().try_for_each(|got| unchanged(&sent, got))?;

    for name in names() {
        match Topic::new(&name) {
            Err(error) => explained(&error)?,
            Ok(_) => ensure!(false, "a topic named {name:?} is let through"),
        }
    }
    let good = numbered(&topic, 10);
    bench.publish(&good).await?;
    bench.read_exactly(&*consumer, &good).await.map(drop)
}

/// The message, if the broker stored it; nothing, if it said why not.
async fn stored(bench: &Bench, message: Message) -> Check<Option<Message>> {
    let shown = format!("{:?}", message.payload());
    match within(&shown, bench.patience(), bench.broker.publish(single(message.clone()))).await? {
        Ok(published) => {
            ensure!(published.deliveries == 1, "stored {} times: {shown}", published.deliveries);
            Ok(Some(message))
        }
        Err(failure) => {
            ensure!(failure.stored == 0, "refused and stored: {shown}");
            explained(&failure.error)?;
            Ok(None)
        }
    }
}

/// A refusal says that nothing was stored, and why, in text that can be printed.
fn explained(error: &Error) -> Check {
    let refusals = [ErrorKind::InvalidName, ErrorKind::TooLarge, ErrorKind::Encode, ErrorKind::NotStored];
    let text = error.to_string();
    ensure!(refusals.contains(&error.kind()), "refused as {:?}: {text}", error.kind());
    ensure!(text.len() > 10 && text.len() < 2_000, "a refusal of {} bytes: {text:.100}", text.len());
    ensure!(!text.chars().any(|c| c.is_control() && c != '\n'), "a refusal that cannot be printed: {text:?}");
    Ok(())
}

fn payloads(bench: &Bench) -> Vec<Vec<u8>> {
    let largest = bench.broker.capabilities().payload_bytes_max.min(1024 * 1024);
    let mut all: Vec<Vec<u8>> = JSON.iter().map(|text| text.as_bytes().to_vec()).collect();
    all.extend(texts().map(String::into_bytes));
    all.extend(BYTES.iter().map(|bytes| bytes.to_vec()));
    all.extend((0..=255).step_by(17).map(|byte| vec![byte; 3]));
    all.extend([b"[".repeat(100_000), b"{\"a\":".repeat(10_000), [b"[".repeat(200), b"]".repeat(200)].concat(), b"9".repeat(10_000)]);
    all.extend([vec![0; largest], vec![0xff; largest], vec![b'"'; largest], vec![b'\\'; largest], vec![b'a'; largest + 1]]);
    all
}

/// Text that means something to somebody: a shell, SQL, a format, a protocol, a terminal, a sorter.
fn texts() -> impl Iterator<Item = String> {
    let long = ["x".repeat(1_024), "é".repeat(600), "x".repeat(20_000)];
    TEXTS.iter().map(|text| (*text).to_owned()).chain(long)
}

fn header(name: &str, value: &str) -> Result<Headers, Error> {
    let mut headers = Headers::new();
    headers.insert(name, value)?;
    Ok(headers)
}

/// The most headers, the largest value, and one more of each.
fn full_headers() -> impl Iterator<Item = Result<Headers, Error>> {
    [(HEADER_COUNT_MAX, 1), (HEADER_COUNT_MAX + 1, 1), (1, HEADER_BYTES_MAX - 8), (1, HEADER_BYTES_MAX + 1)].into_iter().map(
        |(count, bytes)| {
            let mut headers = Headers::new();
            (0..count).try_for_each(|n| headers.insert(&format!("h{n}"), &"v".repeat(bytes)))?;
            Ok(headers)
        },
    )
}

fn times() -> impl Iterator<Item = SystemTime> {
    let epoch = SystemTime::UNIX_EPOCH;
    [0, 1, 999, 4_102_444_800_000, 253_402_300_799_999].into_iter().filter_map(move |ms| epoch.checked_add(Duration::from_millis(ms)))
}

/// Names no topic may have: a broker would take them for a wildcard, an order or a path.
fn names() -> impl Iterator<Item = String> {
    let long = ["x".repeat(NAME_BYTES_MAX + 1), format!("{}.b", "x".repeat(65)), "a.".repeat(150)];
    NAMES.iter().map(|name| (*name).to_owned()).chain(long)
}

const JSON: &[&str] = &[
    "",
    " ",
    "null",
    "{\"a\":1,\"a\":2}",
    "{\"a\":1,\"A\":2}",
    "123456789012345678901234567890",
    "1000000000000000000000000000000",
    "1.0e2",
    "-0",
    "-0.0",
    "1e999",
    "0.1000000000000000055511151231257827",
    "NaN",
    "[1,]",
    "{\"a\":\"\\u0000\"}",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\u{feff}{\"a\":1}",
    "{\"b\":1,\"a\":2}",
    "{ \"spaces\" : [ 1 , 2 ] }\r\n",
    "{\"__proto__\":{\"polluted\":true}}",
    "{\"specversion\":\"1.0\",\"type\":\"x\",\"source\":\"y\",\"id\":\"z\"}",
    "{\"version\":\"v1\",\"type\":\"x\",\"data\":{},\"meta\":{}}",
    "{\"a\":1}{\"b\":2}",
    "{\"a\":1} // comment",
];

const BYTES: &[&[u8]] = &[
    b"\x00",
    b"\x00\x00\x00\x00",
    b"text\x00text",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xff\xfe{\x00}\x00",
    b"\xc3\x28",
    b"\xe2\x82",
    b"\x1f\x8b\x08\x00",
    b"PGCOPY\n\xff\r\n\x00",
    b"\\x00ff",
    b"\\.\n",
    b"*1\r\n$4\r\nPING\r\n",
    b"AMQP\x00\x00\x09\x01",
    b"PUB $JS.API.STREAM.DELETE.ORDERS 0\r\n\r\n",
    b"SQLite format 3\x00",
];

const TEXTS: &[&str] = &[
    "",
    " ",
    "'; DROP TABLE abe_message; --",
    "\" OR \"\"=\"",
    "$1",
    "?1",
    ":name",
    "%s%n%p",
    "{0}{}",
    "${jndi:ldap://localhost/a}",
    "$(reboot)",
    "`id`",
    "../../../etc/passwd",
    "C:\\nul",
    "a\0b",
    "\0",
    "line\nline",
    "cr\rlf\n",
    "Header: value\r\nInjected: yes",
    "\u{1b}[31mred\u{1b}[0m",
    "\u{7}",
    "tab\tbed",
    "\u{200b}\u{200d}",
    "\u{202e}desrever",
    "e\u{301} is not \u{e9}",
    "\u{fdfa}",
    "👩‍👩‍👧‍👦",
    "\u{10ffff}",
    "ß ſ K İ ı",
    "NULL",
    "true",
    "0x1F",
    "-1",
    "\\",
    "\\x41",
    "\\u0041",
    "%41%00",
    "a=b&c=d;e",
    "<script>alert(1)</script>",
    "*",
    ">",
    "$JS.API.STREAM.DELETE.ORDERS",
    "x-death",
];

const NAMES: &[&str] = &[
    "",
    " ",
    ".",
    "a.",
    ".a",
    "a..b",
    "a b",
    "a\tb",
    "a\r\nb",
    "a\0b",
    "*",
    ">",
    "a.*",
    "a.>",
    "#",
    "$JS.API.STREAM.DELETE.ORDERS",
    "$SYS",
    "_INBOX.x",
    "a/b",
    "../b",
    "a'b",
    "a\"b",
    "grüße",
    "a;b",
    "a%2eb",
    "\u{202e}a",
];
