//! Publishing transactions that begin, publish, wait, commit and abort in every order, while somebody reads: no message is
//! passed over, none is made up, and order per key holds.
//!
//! `ABE_SCHEDULES` sets how many schedules (300), `ABE_SCHEDULE_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use tokio::sync::oneshot;

use super::super::claim::Ask;
use super::super::db::Values;
use super::super::publish::{Arranged, Publish, Statements};
use super::super::routes::Routes;
use super::super::settle::Settle;
use super::*;
use crate::broker::fate::{Came, Fate};
use crate::broker::stored::Stored;

/// Keys of a subscription, in whose lines something is put.
type Keys = Vec<(i32, Vec<u8>)>;

/// Transactions of a schedule.
const WRITERS: usize = 4;

/// A step of a transaction.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step {
    Begin,
    /// Takes a transaction number, and nothing else yet.
    Number,
    Publish,
    Sleep,
    Commit,
    Abort,
}

/// A message of a schedule: when it was published and committed, in steps.
#[derive(Debug, Clone, Default)]
struct Fact {
    key: String,
    published: usize,
    committed: Option<usize>,
}

/// What the reader has seen.
#[derive(Debug, Default)]
struct Reader {
    held: BTreeMap<String, Vec<claim::Claimed>>,
    /// In the order in which they ended.
    done: Vec<String>,
}

struct Stage {
    broker: PostgresBroker,
    live: Arc<Live>,
    sql: Statements,
    routes: Routes,
    lines: Lines,
    connections: Vec<PgConnection>,
    random: fastrand::Rng,
    step: usize,
    facts: BTreeMap<String, Fact>,
    reader: Reader,
    ordered: bool,
}

fn steps(random: &mut fastrand::Rng) -> Vec<Step> {
    let mut steps = vec![Step::Begin];
    if random.bool() {
        steps.push(Step::Number);
    }
    for _ in 0..random.usize(1..=2) {
        if random.u8(..) < 16 {
            steps.push(Step::Sleep);
        }
        steps.push(Step::Publish);
    }
    steps.push(if random.u8(..4) == 0 { Step::Abort } else { Step::Commit });
    steps
}

impl Stage {
    async fn new(ground: &Ground, ordered: bool, seed: u64) -> Self {
        let broker = ground.open().await;
        let mut wanted = spec(if ordered { "ordered" } else { "plain" }, 600_000);
        wanted.ordered = ordered;
        drop(broker.subscribe(&wanted).await.unwrap());
        let live = broker.lives.all().remove(0);
        let mut routes = Routes::new(&broker.db);
        routes.read(&broker.db).await.unwrap();
        let mut connections = Vec::new();
        for _ in 0..WRITERS {
            connections.push(PgConnection::connect(&ground.url).await.unwrap());
        }
        let (sql, lines) = (Statements::new(&broker.db), Lines::new(&broker.db));
        let random = fastrand::Rng::with_seed(seed);
        Self { live, sql, routes, lines, connections, random, step: 0, facts: BTreeMap::new(), reader: Reader::default(), broker, ordered }
    }

    /// One step of a transaction; `mine` are the messages it has published so far, and the lines they stand in.
    async fn act(&mut self, at: usize, step: Step, mine: &mut Vec<String>, lined: &mut Keys) {
        self.step += 1;
        let text = match step {
            Step::Begin => "BEGIN",
            Step::Number => "SELECT pg_current_xact_id()::text",
            Step::Sleep => "SELECT pg_sleep(0.003)::text",
            Step::Commit => "COMMIT",
            Step::Abort => "ROLLBACK",
            Step::Publish => {
                let key = ["a", "b"][self.random.usize(..2)];
                return self.publish(at, key, mine, lined).await;
            }
        };
        sqlx::raw_sql(text).execute(&mut self.connections[at]).await.unwrap();
        match step {
            Step::Commit => {
                mine.iter().for_each(|id| self.facts.get_mut(id).unwrap().committed = Some(self.step));
                // A publisher looks again after its commit; one that died does not, and the sweep makes up for it.
                if !lined.is_empty() && self.random.u8(..5) > 0 {
                    self.lines.advance(&self.broker.db, std::mem::take(lined)).await;
                }
            }
            Step::Abort => mine.iter().for_each(|id| drop(self.facts.remove(id))),
            _ => {}
        }
    }

    async fn publish(&mut self, at: usize, key: &str, mine: &mut Vec<String>, lined: &mut Keys) {
        let message = message(Some(key));
        let id = message.id().to_string();
        let works = [Publish::new(vec![Stored::of(&message).unwrap()], Duration::ZERO, oneshot::channel().0)];
        let epoch = self.routes.epoch.unwrap();
        let Arranged { text, values, outcome, keys } = Arranged::new(&self.sql, &mut self.routes, epoch, &works);
        let query = sqlx::query_with(AssertSqlSafe(text.clone()), values.list);
        let rows = query.fetch_all(&mut self.connections[at]).await.unwrap();
        lined.extend(outcome.of(keys, &rows).unwrap().expect("nobody subscribes meanwhile").lined);
        self.facts.insert(id.clone(), Fact { key: key.to_owned(), published: self.step, committed: None });
        mine.push(id);
    }

    /// Takes some, and judges what came.
    async fn read(&mut self, max: usize, cursor: &mut i64) -> usize {
        let ask = Ask { max, bytes_max: usize::MAX / 2, lease: Duration::from_secs(600), reply: oneshot::channel().0 };
        let found = self.broker.claims.claim(&self.live, &[ask], cursor).await.unwrap();
        let count = found.rows.len();
        for claimed in found.rows {
            let (id, key) = (claimed.message.id().to_string(), claimed.message.key().unwrap().to_owned());
            let fact = self.facts.get(&id).unwrap_or_else(|| panic!("{id} was aborted or never published"));
            assert!(fact.committed.is_some(), "{id} is not committed");
            let before = self.reader.held.entry(key.clone()).or_default();
            assert!(!self.ordered || before.is_empty(), "two of {key} are handed out at once");
            before.push(claimed);
            if self.ordered {
                self.nothing_earlier_is_open(&id);
            }
        }
        count
    }

    /// Whatever was committed before this one was published, has ended before this one is handed out.
    fn nothing_earlier_is_open(&self, id: &str) {
        let fact = &self.facts[id];
        let earlier = |other: &Fact| other.key == fact.key && other.committed.is_some_and(|committed| committed < fact.published);
        let open = self.facts.iter().find(|(other, known)| earlier(known) && !self.reader.done.contains(other));
        assert!(open.is_none(), "{id} is handed out before {open:?}");
    }

    /// Settles what is held of a key: done, or back to be tried again.
    async fn settle(&mut self, key: &str) {
        let Some(held) = self.reader.held.remove(key) else { return };
        let back = self.random.u8(..4) == 0;
        let fate = |_: &claim::Claimed| if back { Fate::Release { after: Duration::ZERO, counted: true } } else { Fate::Ack };
        let items = held.iter().map(|claimed| (claimed.held, fate(claimed))).collect();
        let (reply, answer) = oneshot::channel();
        self.broker.settles.push(Settle::new(self.live.clone(), items, reply)).unwrap();
        let came = answer.await.unwrap().unwrap();
        assert!(came.iter().all(|came| matches!(came, Came::Done)), "{came:?}");
        if !back {
            self.reader.done.extend(held.into_iter().map(|claimed| claimed.message.id().to_string()));
        }
    }

    async fn read_a_little(&mut self, cursor: &mut i64) {
        match self.random.u8(..6) {
            0 => drop(self.read(1, cursor).await),
            1 => drop(self.read(10, cursor).await),
            2 => self.settle("a").await,
            3 => self.settle("b").await,
            _ => {}
        }
    }

    /// One schedule, from begin to empty tables.
    async fn play(&mut self) {
        (self.facts, self.reader, self.step) = (BTreeMap::new(), Reader::default(), 0);
        let mut cursor = i64::MIN;
        let mut plans: Vec<Vec<Step>> = (0..WRITERS).map(|_| steps(&mut self.random)).collect();
        plans.iter_mut().for_each(|plan| plan.reverse());
        let mut mine: Vec<(Vec<String>, Keys)> = vec![Default::default(); WRITERS];
        loop {
            let open: Vec<usize> = (0..WRITERS).filter(|at| !plans[*at].is_empty()).collect();
            let Some(at) = self.random.choice(&open).copied() else { break };
            let step = plans[at].pop().unwrap();
            let (mut ids, mut lined) = std::mem::take(&mut mine[at]);
            self.act(at, step, &mut ids, &mut lined).await;
            mine[at] = (ids, lined);
            self.read_a_little(&mut cursor).await;
        }
        // Whoever died is made up for by the sweep; a few rounds, as each can free only the first of a line.
        for _ in 0..1_000 {
            self.settle("a").await;
            self.settle("b").await;
            if self.ordered && self.random.u8(..3) == 0 {
                self.lines.sweep(&self.broker.db, self.live.number).await;
            }
            if self.read(10, &mut cursor).await == 0 && self.reader.held.is_empty() && self.reader.done.len() == self.facts.len() {
                break;
            }
        }
        let (done, all): (BTreeSet<&String>, BTreeSet<&String>) = (self.reader.done.iter().collect(), self.facts.keys().collect());
        assert_eq!(
            (done.len(), self.reader.done.len()),
            (all.len(), all.len()),
            "missing: {:?}",
            all.difference(&done).collect::<Vec<_>>()
        );
    }
}

async fn play_all(name: &str, ordered: bool, count: usize) {
    let Some(ground) = Ground::new(name) else { return };
    let seed = std::env::var("ABE_SCHEDULE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    let mut stage = Stage::new(&ground, ordered, seed).await;
    for schedule in 0..count {
        if let Err(panic) = futures_util::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(stage.play())).await {
            eprintln!("schedule {schedule} of ABE_SCHEDULE_SEED={seed}, {name}");
            std::panic::resume_unwind(panic);
        }
    }
    let Stage { broker, connections, .. } = stage;
    drop(connections);
    broker.close().await.unwrap();
    ground.assert_empty();
}

fn count() -> usize {
    std::env::var("ABE_SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(300)
}

#[tokio::test]
async fn i24_no_message_is_passed_over_however_transactions_commit() {
    play_all("plain", false, count()).await;
}

#[tokio::test]
async fn i24_order_per_key_holds_however_transactions_commit() {
    play_all("ordered", true, count()).await;
}

/// One claims the later of a key while the earlier is not committed yet; it is committed before the claim is. Whoever claims
/// meanwhile, or right after, sees in its snapshot that nobody holds anything, and must not believe it.
#[tokio::test]
async fn two_who_claim_at_once_hold_no_two_of_a_key() {
    let Some(ground) = Ground::new("rivals") else { return };
    let mut stage = Stage::new(&ground, true, 1).await;
    let (mut mine, mut lined) = Default::default();
    stage.act(0, Step::Begin, &mut mine, &mut lined).await;
    stage.publish(0, "a", &mut mine, &mut lined).await;
    let (mut later, mut cursor) = (Vec::new(), i64::MIN);
    stage.publish(1, "a", &mut later, &mut lined).await;
    stage.facts.get_mut(&later[0]).unwrap().committed = Some(stage.step);
    // Another process, in the middle of its claim.
    sqlx::raw_sql("BEGIN").execute(&mut stage.connections[2]).await.unwrap();
    let values = Values::default().and(stage.live.number).and(10_i64).and(i64::MAX).and(600_000_000_i64).and(77_i64).and(i64::MIN);
    let query = sqlx::query_with(AssertSqlSafe(stage.broker.claims.claim.clone()), values.list);
    let rows = query.fetch_all(&mut stage.connections[2]).await.unwrap();
    assert_eq!(rows.len(), 1, "the later one is the first there is");
    let place: i64 = rows[0].try_get(0).unwrap();
    stage.act(0, Step::Commit, &mut mine, &mut lined).await;
    assert_eq!(stage.read(10, &mut cursor).await, 0, "while the other claims");
    sqlx::raw_sql("COMMIT").execute(&mut stage.connections[2]).await.unwrap();
    assert_eq!(stage.read(10, &mut cursor).await, 0, "while the other holds it");
    let (reply, answer) = oneshot::channel();
    let held = Held { place, token: 77, attempt: 1, bytes: 0 };
    stage.broker.settles.push(Settle::new(stage.live.clone(), vec![(held, Fate::Ack)], reply)).unwrap();
    assert!(matches!(answer.await.unwrap().unwrap()[..], [Came::Done]));
    stage.reader.done.append(&mut later);
    stage.lines.sweep(&stage.broker.db, stage.live.number).await;
    assert_eq!(stage.read(10, &mut cursor).await, 1, "when the other is done");
    stage.broker.close().await.unwrap();
}
