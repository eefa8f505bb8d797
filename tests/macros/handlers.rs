//! `#[subscribe]`: parameters, filters, return values, descriptors.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use abe_events::broker::FailureKind;
use abe_events::handler::{Ended, Extractor, HandlerDescriptor, HeaderRule, InboxKey, Meta, Resolver, States};
use abe_events::policy::{Backoff, WhenFull};
use abe_events::{Batch, Context, Error, Headers, Message, Outcome, Result, State, event, handlers, subscribe};

use crate::events::{Any, OrderCreated, Ping, Tick};
use crate::script::{Script, bind, json, pause, typed};

#[event(topic = "order.billed")]
#[derive(Clone)]
pub(crate) struct OrderBilled {
    pub order_id: u64,
}

fn order(order_id: u64, total: f64) -> Message {
    typed(OrderCreated { order_id, user_id: 1, total })
}

fn only(handlers: &'static [&'static HandlerDescriptor]) -> &'static HandlerDescriptor {
    handlers[0]
}

#[derive(Default)]
struct Sum(AtomicU64);

struct Attempt(u32);

impl Extractor for Attempt {
    type Prepared = ();

    fn prepare(_: &mut Resolver<'_>) -> Option<()> {
        Some(())
    }

    fn extract(_: &(), meta: Meta<'_>) -> Result<Self> {
        match meta.attempt {
            9 => Err(Error::permanent("nine is enough")),
            attempt => Ok(Self(attempt)),
        }
    }
}

type Orders = OrderCreated;

#[subscribe(filter = |order| order.total > 100.0)]
async fn lends(order: &Orders, sum: &Sum, context: &Context, attempt: &Attempt) -> Result<()> {
    pause().await;
    assert_eq!(context.attempt(), attempt.0);
    sum.0.fetch_add(order.order_id, Ordering::Relaxed);
    Ok(())
}

#[subscribe]
async fn owns(order: OrderCreated, State(sum): State<Sum>, context: Context, nothing: Option<State<u8>>, _headers: Headers) {
    assert!(nothing.is_none() && context.topic().as_str() == "order.created");
    sum.0.fetch_add(order.order_id, Ordering::Relaxed);
}

#[subscribe]
fn shares(order: Arc<OrderCreated>, sum: &Sum) {
    sum.0.fetch_add(order.order_id, Ordering::Relaxed);
}

#[subscribe(blocking)]
fn blocks(order: &OrderCreated, sum: &Sum) -> Result<(), String> {
    assert_ne!(std::thread::current().name(), Some("the test's"));
    sum.0.fetch_add(order.order_id, Ordering::Relaxed);
    if order.order_id == 13 { Err("unlucky".into()) } else { Ok(()) }
}

#[subscribe]
async fn batches(orders: &Batch<OrderCreated>, sum: &Sum) {
    sum.0.fetch_add(orders.iter().map(|order| order.order_id).sum(), Ordering::Relaxed);
}

#[test]
fn every_form_of_parameter_is_passed() {
    for handler in handlers![lends, owns, shares, blocks, batches] {
        let mut states = States::default();
        let sum = Arc::new(Sum::default());
        states.insert(sum.clone());
        let json = json("order.created", 3, r#"{"order_id":7,"user_id":1,"total":200.0}"#);
        let script = Script::new(vec![order(5, 200.0), json]).play(&bind(handler, &states));
        assert_eq!(script.endings(), [Ended::Success, Ended::Success], "{handler:?}");
        assert_eq!(sum.0.load(Ordering::Relaxed), 12, "{handler:?}");
    }
}

#[test]
fn a_handler_stays_a_function() {
    let sum = Sum::default();
    shares(Arc::new(OrderCreated { order_id: 4, user_id: 1, total: 1.0 }), &sum);
    assert_eq!(sum.0.load(Ordering::Relaxed), 4);
}

#[test]
fn what_is_missing_is_noted_once_for_each_parameter() {
    let states = States::default();
    let mut resolver = Resolver::new(&states);
    assert!((only(handlers![lends]).bind)(&mut resolver).is_none());
    let missing = resolver.into_missing();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert!(missing[0].contains("Sum"));
}

#[test]
fn a_failed_extraction_fails_the_attempt() {
    let mut states = States::default();
    states.insert(Arc::new(Sum::default()));
    let script = Script::with_attempts(vec![(order(5, 200.0), 9)]).play(&bind(only(handlers![lends]), &states));
    assert_eq!(script.ending(), Ended::failed(FailureKind::Permanent, "nine is enough"));
}

#[test]
fn a_filter_sees_the_event_and_a_filter_on_meta_the_message() {
    #[subscribe(filter_meta = |meta| meta.attempt == 1, filter = wanted)]
    async fn filtered(_order: &OrderCreated) {}
    fn wanted(order: &OrderCreated) -> bool {
        order.total > 10.0
    }
    let script = Script::with_attempts(vec![(order(1, 1.0), 1), (order(2, 20.0), 1), (order(3, 20.0), 2)]);
    assert_eq!(script.play_with(only(handlers![filtered])).endings(), [Ended::Filtered, Ended::Success, Ended::Filtered]);
    assert!(only(handlers![filtered]).spec.filtered);
}

#[test]
fn returned_events_are_published_before_the_message_is_done() {
    #[subscribe]
    async fn returns(order: &OrderCreated) -> Result<(OrderBilled, Ping), String> {
        Ok((OrderBilled { order_id: order.order_id }, serde_ping()))
    }
    fn serde_ping() -> Ping {
        <Ping as abe_events::Event>::decode(1, b"[1,2]").unwrap()
    }
    let script = Script::new(vec![order(7, 1.0)]).play_with(only(handlers![returns]));
    assert_eq!(script.calls, ["attempt_starts", "attempt_ends", "publish", "done"]);
    let published: Vec<_> = script.published.iter().map(|message| (message.topic().as_str(), message.key(), message.hops())).collect();
    assert_eq!(published, [("order.billed", None, 1), ("ping", Some("1-2"), 1)]);
    let publishes: Vec<_> = (only(handlers![returns]).publishes)().iter().map(|event| event.topic).collect();
    assert_eq!(publishes, ["order.billed", "ping"]);

    let mut script = Script::new(vec![order(7, 1.0)]);
    script.refuse_publish = true;
    assert_eq!(script.play_with(only(handlers![returns])).ending(), Ended::failed(FailureKind::Publish, "the broker is away"));
}

#[test]
fn an_option_and_a_vector_publish_what_they_hold() {
    #[subscribe]
    async fn maybe(order: &OrderCreated) -> Option<OrderBilled> {
        (order.order_id > 1).then_some(OrderBilled { order_id: order.order_id })
    }
    #[subscribe]
    async fn many(order: &OrderCreated) -> Vec<OrderBilled> {
        (0..order.order_id).map(|order_id| OrderBilled { order_id }).collect()
    }
    let count = |handler| Script::new(vec![order(1, 1.0), order(3, 1.0)]).play_with(handler).published.len();
    assert_eq!((count(only(handlers![maybe])), count(only(handlers![many]))), (1, 4));
}

#[test]
fn an_outcome_settles_as_it_says() {
    #[subscribe]
    async fn decides(order: &OrderCreated) -> Outcome {
        match order.order_id {
            1 => Outcome::ack(),
            2 => Outcome::retry_after(Duration::from_secs(5)).because("later"),
            _ => Outcome::reject("no"),
        }
    }
    let endings = Script::new(vec![order(1, 1.0), order(2, 1.0), order(3, 1.0)]).play_with(only(handlers![decides])).endings();
    let later = Ended::Failed { kind: FailureKind::Error, text: "later".into(), after: Some(Duration::from_secs(5)) };
    assert_eq!(endings, [Ended::Success, later, Ended::failed(FailureKind::Rejected, "no")]);
}

#[test]
fn a_union_and_a_raw_message_are_handled() {
    #[subscribe]
    async fn any(event: &Any) -> Result<()> {
        match event {
            Any::Ping(_) => Err(Error::msg("ping")),
            Any::Order(order) => Err(Error::msg(order.order_id.to_string())),
        }
    }
    #[subscribe(topics = ["order.>", "tick"])]
    async fn raw(message: &Message, owned: Message) -> Result<()> {
        Err(Error::msg(format!("{} {}", message.topic(), owned.version())))
    }
    let texts = |handler: &HandlerDescriptor, message| match Script::new(vec![message]).play_with(handler).ending() {
        Ended::Failed { text, .. } => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(texts(only(handlers![any]), order(7, 1.0)), "7");
    assert_eq!(texts(only(handlers![raw]), order(7, 1.0)), "order.created 3");
    assert_eq!(texts(only(handlers![any]), typed(Tick)), "topic tick is none of those the handler's parameter stands for");
    assert_eq!(only(handlers![raw]).spec.topics, ["order.>", "tick"]);
    assert!((only(handlers![raw]).contracts)().is_empty());
}

#[test]
fn duplicates_are_recognised_by_id_or_by_expression() {
    #[subscribe(idempotent)]
    async fn by_id(_order: &OrderCreated) {}
    #[subscribe(idempotent(key = |order| order.order_id, window = "1h"))]
    async fn by_key(_order: &OrderCreated) {}

    let first = order(1, 1.0);
    let mut script = Script::new(vec![first.clone(), order(1, 1.0)]);
    script.idempotent = true;
    let key = InboxKey::Id(first.id().clone());
    let script = script.play_with(only(handlers![by_id]));
    assert_eq!(script.endings(), [Ended::Success, Ended::Success]);
    assert_eq!(script.done[0].1, Some(key));

    let mut script = Script::new(vec![order(1, 1.0), order(1, 1.0), order(2, 1.0)]);
    script.idempotent = true;
    script.busy.insert(InboxKey::Text("2".into()));
    let script = script.play_with(only(handlers![by_key]));
    assert_eq!(script.endings(), [Ended::Success, Ended::Duplicate, Ended::Busy]);
    assert_eq!(script.done[1].1, None);
}

/// Bills orders.
#[subscribe(
    name = "billing", group = "shop", topic = "order.created", batch = 50, max_wait = "5s", bytes = "1MiB", concurrency = 4, ordered,
    timeout = "none", when_full = fail, dead_letter = false, idempotent(window = "24h"),
    retry(attempts = 5, backoff = fixed, min = "100ms", max = "30s", jitter = false),
    headers("tenant" = "a", "kind" = ["x", "y"], "source", !"test")
)]
async fn everything(orders: Batch<OrderCreated>, _sum: State<Sum>, _context: &Context) {
    drop(orders);
}

#[test]
fn a_descriptor_says_everything_that_was_given() {
    let handler = only(handlers![everything]);
    let (spec, policy) = (handler.spec, handler.spec.policy);
    assert_eq!((spec.name, spec.name_given, spec.group, spec.doc), ("billing", true, Some("shop"), "Bills orders."));
    assert_eq!((spec.topics, spec.takes_batch, spec.blocking, spec.filtered), (&["order.created"][..], true, false, false));
    assert_eq!(spec.params, ["Batch<OrderCreated>", "State<Sum>", "&Context"]);
    assert_eq!((policy.batch, policy.max_wait_ms, policy.batch_bytes), (Some(50), Some(5_000), Some(1 << 20)));
    assert_eq!((policy.concurrency, policy.ordered, policy.timeout_ms), (Some(4), Some(true), Some(0)));
    assert_eq!((policy.when_full, policy.dead_letter), (Some(WhenFull::Fail), Some(false)));
    assert_eq!((policy.idempotent, policy.window_ms), (Some(true), Some(86_400_000)));
    assert_eq!((policy.attempts, policy.backoff, policy.jitter), (Some(5), Some(Backoff::Fixed), Some(false)));
    assert_eq!((policy.retry_min_ms, policy.retry_max_ms), (Some(100), Some(30_000)));
    let rules = [
        HeaderRule::OneOf("tenant", &["a"]),
        HeaderRule::OneOf("kind", &["x", "y"]),
        HeaderRule::Present("source"),
        HeaderRule::Absent("test"),
    ];
    assert_eq!(spec.headers, rules);
    assert_eq!(only(handlers![owns]).spec.name, "macros::handlers::owns");
    assert!(spec.at.file.ends_with("handlers.rs"));
}
