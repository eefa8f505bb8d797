//! Golden expansions: `tests/expand/<name>.rs` holds what each input becomes. `ABE_BLESS=1` writes them anew.

use std::path::PathBuf;

use proc_macro2::TokenStream;

use crate::test::test as bus_test;
use crate::{event, handlers, subscribe};

type Expand = fn(TokenStream, TokenStream) -> TokenStream;

/// Compares an expansion with its file, and proves that a given facade path leaves no default one behind.
fn golden(name: &str, expand: Expand, arguments: &str, item: &str) {
    let parse = |text: &str| -> TokenStream { text.parse().unwrap() };
    let expanded = pretty(&expand(parse(arguments), parse(item)));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/expand").join(format!("{name}.rs"));
    if std::env::var_os("ABE_BLESS").is_some() {
        std::fs::write(&path, &expanded).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(golden == expanded, "{} differs; look at it with ABE_BLESS=1 and git diff:\n{expanded}", path.display());

    let comma = if arguments.is_empty() { "" } else { ", " };
    let renamed = pretty(&expand(parse(&format!("{arguments}{comma}crate = my::facade")), parse(item)));
    assert!(!renamed.contains("abe_events"), "{name}: the default facade in\n{renamed}");
    assert!(renamed.contains("my::facade"));
}

fn pretty(tokens: &TokenStream) -> String {
    match syn::parse2(tokens.clone()) {
        Ok(file) => prettyplease::unparse(&file),
        Err(error) => panic!("not Rust: {error}\n{tokens}"),
    }
}

#[test]
fn event_with_everything() {
    let arguments = "topic = \"order.created\", version = \"v2\", key = user_id, upcast_from = OrderCreatedV1";
    let item = "/// A customer placed an order.\n#[derive(Clone)] pub struct OrderCreated { pub user_id: u64, pub total: f64 }";
    golden("event", event::event, arguments, item);
}

#[test]
fn event_with_sensitive_fields() {
    let arguments = "topic = \"signup\", key = |signup| signup.name.len(), upcast_from = V1, upcast_with = convert, version = 2";
    let item = "enum Signup { Named { name: String, #[event(sensitive)] password: String }, Anonymous(#[event(public)] u8), None }";
    golden("event_sensitive", event::event, arguments, item);
}

#[test]
fn union() {
    golden("union", event::event, "", "pub enum OrderEvent { Created(OrderCreated), Paid(Arc<OrderPaid>) }");
}

#[test]
fn data() {
    golden("data", event::data, "", "pub struct Card { #[event(sensitive)] number: String }");
}

#[test]
fn subscribe_plain() {
    golden("subscribe", subscribe::subscribe, "", "async fn bill(order: OrderCreated) -> Result<()> { Ok(()) }");
}

#[test]
fn subscribe_with_everything() {
    let arguments = r#"name = "billing", group = "shop", topics = ["order.>"], filter = |order| order.total > 1.0, filter_meta = recent,
        headers("tenant" = "a", "kind" = ["x", "y"], "source", !"test"), batch = 50, max_wait = "5s", bytes = "1MiB",
        idempotent(key = |order| order.id, window = "24h"), retry(attempts = 5, backoff = fixed, min = "100ms", max = "30s", jitter),
        timeout = "none", concurrency = 4, ordered, when_full = fail, dead_letter = false"#;
    let item = "/// Bills.\npub(crate) async fn bill(orders: &Batch<OrderCreated>, State(ledger): State<Ledger>, pool: &Pool) -> Result<()> { Ok(()) }";
    golden("subscribe_everything", subscribe::subscribe, arguments, item);
}

#[test]
fn subscribe_blocking() {
    golden("subscribe_blocking", subscribe::subscribe, "blocking, idempotent(key = key_of)", "fn bill(order: &OrderCreated) {}");
}

#[test]
fn test_with_a_bus() {
    golden("test", bus_test, "", "#[should_panic] async fn bills(bus: TestBus) -> Result<()> { Ok(()) }");
}

#[test]
fn a_list_of_handlers_uses_the_facade_it_is_given() {
    let expanded = handlers::handlers("my :: facade ; bill, orders :: ship".parse().unwrap()).to_string();
    assert!(!expanded.contains("abe_events") && expanded.contains("orders :: __abe_handler_ship"), "{expanded}");
}

#[test]
fn the_item_survives_any_mistake() {
    let cases: [(Expand, &str); 4] = [
        (event::event, "pub struct Order { password : String , }"),
        (subscribe::subscribe, "fn bill (self , order : & mut Order) { let half = ; }"),
        (subscribe::subscribe, "struct NoFunction ;"),
        (bus_test, "fn not_async () { }"),
    ];
    for (expand, item) in cases {
        let expanded = expand("nonsense = , topic = 5, = x".parse().unwrap(), item.parse().unwrap()).to_string();
        let item = item.parse::<TokenStream>().unwrap().to_string();
        assert!(expanded.contains(&item) && expanded.contains("compile_error"), "{expanded}");
    }
}
