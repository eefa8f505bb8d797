//! Settling: verdicts carried out by whoever holds the token, and nobody else. What several consumers settle while a group
//! is under way shares the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sqlx::Row;
use sqlx::postgres::PgRow;
use tokio::sync::oneshot;

use super::super::fate::{Came, Fate};
use super::super::seat;
use super::config::Acks;
use super::db::{Db, Sql, Values};
use super::error::Fault;
use super::line::Lines;
use super::live::{Live, Lives};
use super::publish::micros;
use super::queue::{Queue, Served, Work};
use crate::error::{Error, Result};

/// How many verdicts of several calls one statement carries out.
pub(super) const GROUP_MAX: usize = 2_048;

/// A delivery as its consumer holds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) place: i64,
    /// The token it was handed out with.
    pub(super) token: i64,
    pub(super) attempt: u32,
    pub(super) bytes: i64,
}

impl seat::Held for Held {
    fn place(&self) -> i64 {
        self.place
    }

    fn attempt(&self) -> u32 {
        self.attempt
    }
}

/// Verdicts of one call.
#[derive(Debug)]
pub(super) struct Settle {
    live: Arc<Live>,
    items: Vec<(Held, Fate)>,
    reply: Option<oneshot::Sender<Result<Vec<Came>>>>,
}

impl Settle {
    pub(super) fn new(live: Arc<Live>, items: Vec<(Held, Fate)>, reply: oneshot::Sender<Result<Vec<Came>>>) -> Self {
        Self { live, items, reply: Some(reply) }
    }

    /// Gives back what nobody took.
    pub(super) fn unasked(live: Arc<Live>, items: Vec<(Held, Fate)>) -> Self {
        Self { live, items, reply: None }
    }
}

impl Work for Settle {
    fn rows(&self) -> usize {
        self.items.len()
    }

    fn bytes(&self) -> usize {
        self.items.len() * 64
    }
}

/// A statement in its two forms: the second is for the rows that the first did not find.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) found: Sql,
    moved: Sql,
}

/// The statements.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) ack: Text,
    pub(super) back: Text,
    pub(super) bury: Text,
}

/// Where the rows are that somebody holds. `OFFSET 0` lets each be looked up by its place: a join would be planned by what the
/// server last counted, which is nothing where the queue was empty then, and would read the queue once for each row.
const MINE: &str = "mine AS MATERIALIZED ( SELECT e.at, u.* FROM unnest($1::int[], $2::bigint[], $3::bigint[]{more}) \
    AS u (subscription, place, token{names}) CROSS JOIN LATERAL ( SELECT d.ctid AS at FROM {s}.delivery AS d \
    WHERE d.subscription = u.subscription AND d.place = u.place AND NOT d.parked AND NOT d.lined OFFSET 0 ) AS e )";

/// By where the row is, if it is still the one that was found. The place and the token are asked for once more, for the row may
/// just have become another's; without the conditions of an index, which would let a plan begin with the whole of it.
const FOUND: &str = "mine AS u WHERE d.ctid = u.at AND d.subscription = u.subscription AND d.place = u.place AND {mine}";

/// By its place: for a row that was found and has been moved meanwhile, as by a renewal.
const MOVED: &str = "unnest($1::int[], $2::bigint[], $3::bigint[]{more}) AS u (subscription, place, token{names}) \
    WHERE d.subscription = u.subscription AND d.place = u.place AND NOT d.parked AND NOT d.lined AND {mine}";

const GONE: &str = "gone AS ( DELETE FROM {s}.delivery AS d USING {from}{relaxed} \
    RETURNING d.subscription, d.place, d.seq, d.shared, d.line, d.attempts{columns}";

const BURIED: &str = "), buried AS ( INSERT INTO {s}.dead_letter AS l \
    (group_name, name, id, topic, version, time_ms, key, attributes, payload, attempts, failures, at_ms) \
    SELECT DISTINCT ON (s.number, m.id) s.group_name, s.name, m.id, m.topic, m.version, m.time_ms, m.key, m.attributes, m.payload, \
    gone.attempts, gone.failures, gone.at_ms FROM gone CROSS JOIN LATERAL (SELECT * FROM {s}.message WHERE seq = gone.seq OFFSET 0) AS m \
    JOIN {s}.subscription AS s ON s.number = gone.subscription ORDER BY s.number, m.id, gone.place DESC \
    ON CONFLICT (group_name, name, id) DO UPDATE SET number = excluded.number, topic = excluded.topic, version = excluded.version, \
    time_ms = excluded.time_ms, key = excluded.key, attributes = excluded.attributes, payload = excluded.payload, \
    attempts = excluded.attempts, failures = excluded.failures, at_ms = excluded.at_ms ";

const BACK: &str = "UPDATE {s}.delivery AS d SET token = NULL, until = '-infinity', parked = u.delay IS NOT NULL, \
    due = clock_timestamp() + u.delay * interval '1 microsecond', attempts = greatest(d.attempts - u.uncounted, 0), \
    failures = coalesce(u.failures, d.failures) FROM {from} RETURNING d.subscription, d.place, NULL::bytea";

const RENEW: &str = "UPDATE {s}.delivery AS d SET until = clock_timestamp() + $4 * interval '1 microsecond' FROM {from} RETURNING d.place";

/// What a verdict asks of its row.
fn mine() -> &'static str {
    if crate::mutant::is("postgres-token-unchecked") { "true" } else { "d.token = u.token" }
}

impl Text {
    /// `more` are the parameters after subscription, place and token, and `names` what they are called.
    fn new(db: &Db, text: &str, more: &str, names: &str) -> Self {
        let (before_found, before_moved) = if text.starts_with("gone") { (", ", "WITH ") } else { (" ", "") };
        let form = |begin: &str, from: &str| {
            let text = format!("{begin}{text}").replace("{from}", from);
            db.sql(&text.replace("{more}", more).replace("{names}", names).replace("{mine}", mine()))
        };
        Self { found: form(&format!("WITH {MINE}{before_found}"), FOUND), moved: form(before_moved, MOVED) }
    }
}

impl Statements {
    pub(super) fn new(db: &Db, acks: Acks) -> Self {
        let relaxed = match acks {
            Acks::Durable => "",
            Acks::Relaxed => " AND (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL",
        };
        let gone = |columns: &str, relaxed: &str| GONE.replace("{columns}", columns).replace("{relaxed}", relaxed);
        let rest = include_str!("settle.sql");
        let ack = format!("{} {rest}", gone("", relaxed));
        let bury = format!("{} {BURIED} {rest}", gone(", u.failures, u.at_ms", ""));
        Self {
            ack: Text::new(db, &ack, "", ""),
            back: Text::new(db, BACK, ", $4::bigint[], $5::int[], $6::text[]", ", delay, uncounted, failures"),
            bury: Text::new(db, &bury, ", $4::text[], $5::bigint[]", ", failures, at_ms"),
        }
    }
}

/// An item of a group: which call, which of its items.
type At = (usize, usize);

/// The task that carries out verdicts.
pub(super) struct Settler {
    pub(super) db: Db,
    pub(super) queue: Arc<Queue<Settle>>,
    pub(super) lives: Arc<Lives>,
    pub(super) lines: Lines,
    pub(super) acks: Acks,
}

/// A group under way.
struct Group {
    works: Vec<Settle>,
    came: Vec<Vec<Came>>,
    /// The keys whose first has ended.
    ended: Vec<(i32, Vec<u8>)>,
    wake: BTreeSet<i32>,
}

impl Settler {
    pub(super) async fn run(self) {
        let _served = Served(&*self.queue);
        let sql = Statements::new(&self.db, self.acks);
        loop {
            let works = self.queue.next().await;
            if works.is_empty() {
                return;
            }
            let came = works.iter().map(|work| work.items.iter().map(|_| Came::Lost).collect()).collect();
            let mut group = Group { works, came, ended: Vec::new(), wake: BTreeSet::new() };
            let changing = self.lives.changing();
            self.carry_out(&sql, &mut group).await;
            drop(changing);
            let Group { works, came, ended, mut wake } = group;
            for (work, came) in works.into_iter().zip(came) {
                answer(work, came);
            }
            if !ended.is_empty() {
                wake.extend(self.lines.advance(&self.db, ended).await);
            }
            wake.into_iter().for_each(|number| self.lives.wake(number));
        }
    }

    async fn carry_out(&self, sql: &Statements, group: &mut Group) {
        let (mut acks, mut backs, mut deads): (Vec<At>, Vec<At>, Vec<At>) = Default::default();
        for (work, settle) in group.works.iter().enumerate() {
            for (item, (_, fate)) in settle.items.iter().enumerate() {
                match fate {
                    Fate::Ack => acks.push((work, item)),
                    Fate::Retry { .. } | Fate::Release { .. } => backs.push((work, item)),
                    Fate::Dead { .. } => deads.push((work, item)),
                }
            }
        }
        if !acks.is_empty() {
            self.statement(&sql.ack, group, acks).await;
        }
        if !backs.is_empty() {
            self.statement(&sql.back, group, backs).await;
        }
        if !deads.is_empty() && self.statement(&sql.bury, group, deads.clone()).await {
            // One that cannot be stored keeps no other from being stored.
            for dead in deads {
                self.statement(&sql.bury, group, vec![dead]).await;
            }
        }
    }

    /// A statement for these items, and its other form for those it did not find, if there are any; says whether the server
    /// refused one and it may be tried with fewer.
    async fn statement(&self, text: &Text, group: &mut Group, mut list: Vec<At>) -> bool {
        for sql in [&text.found, &text.moved] {
            let outcome = self.db.run(sql, group.values(&list)).await;
            let outcome = outcome.and_then(|rows| rows.iter().map(read).collect::<Result<Vec<_>, _>>().map_err(Fault::of));
            match outcome {
                Ok(rows) => group.note(&list, rows),
                Err(fault) => {
                    let error = fault.failed();
                    for (work, item) in &list {
                        group.came[*work][*item] = Came::Failed(Error::new(error.kind(), error.to_string()));
                    }
                    return fault.is_refused() && list.len() > 1;
                }
            }
            list.retain(|(work, item)| matches!(group.came[*work][*item], Came::Lost));
            if list.is_empty() {
                break;
            }
        }
        false
    }
}

type Row3 = (i32, i64, Option<Vec<u8>>);

fn read(row: &PgRow) -> Result<Row3, sqlx::Error> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}

impl Group {
    fn values(&self, list: &[At]) -> Values {
        let items = || list.iter().map(|(work, item)| (&self.works[*work].live, &self.works[*work].items[*item]));
        let mut values = Values::default()
            .and(items().map(|(live, _)| live.number).collect::<Vec<_>>())
            .and(items().map(|(_, (held, _))| held.place).collect::<Vec<_>>())
            .and(items().map(|(_, (held, _))| held.token).collect::<Vec<_>>());
        let (mut texts, mut times, mut delays, mut uncounted) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (_, (_, fate)) in items() {
            match fate {
                Fate::Ack => return values,
                Fate::Dead { failures, at_ms } => {
                    texts.push(Some(failures.as_str()));
                    times.push(*at_ms);
                }
                Fate::Retry { after, failures } => {
                    texts.push(Some(failures.as_str()));
                    delays.push(micros(*after));
                    uncounted.push(0_i32);
                }
                Fate::Release { after, counted } => {
                    texts.push(None);
                    delays.push(micros(*after));
                    uncounted.push(i32::from(!counted));
                }
            }
        }
        values = if delays.is_empty() { values.and(texts).and(times) } else { values.and(delays).and(uncounted).and(texts) };
        values
    }

    /// Those that were found have been settled, and are counted so.
    fn note(&mut self, list: &[At], rows: Vec<Row3>) {
        let mut found: BTreeMap<(i32, i64), Option<Vec<u8>>> =
            rows.into_iter().map(|(subscription, place, line)| ((subscription, place), line)).collect();
        for (work, item) in list {
            let settle = &self.works[*work];
            let (held, fate) = &settle.items[*item];
            let Some(line) = found.remove(&(settle.live.number, held.place)) else { continue };
            self.came[*work][*item] = Came::Done;
            let counters = &settle.live.counters;
            counters.unsettled.fetch_sub(1, Ordering::Relaxed);
            match fate {
                Fate::Ack | Fate::Dead { .. } => {
                    counters.bytes.fetch_sub(held.bytes, Ordering::Relaxed);
                    counters.ended.fetch_add(1, Ordering::Relaxed);
                }
                Fate::Retry { after, .. } | Fate::Release { after, .. } if after.is_zero() => {
                    counters.ready.fetch_add(1, Ordering::Relaxed);
                    self.wake.insert(settle.live.number);
                }
                Fate::Retry { after, .. } | Fate::Release { after, .. } => {
                    counters.delayed.fetch_add(1, Ordering::Relaxed);
                    settle.live.due_in(*after + Duration::from_millis(1));
                }
            }
            self.ended.extend(line.map(|line| (settle.live.number, line)));
        }
    }
}

fn answer(work: Settle, came: Vec<Came>) {
    if let Some(reply) = work.reply {
        let _ = reply.send(Ok(came));
        return;
    }
    let failed = came.into_iter().find_map(|came| if let Came::Failed(error) = came { Some(error) } else { None });
    if let Some(error) = failed {
        tracing::warn!(%error, "deliveries could not be given back; they come again when their lease ends");
    }
}

/// Renews leases; answers the places of those that are alive.
pub(super) async fn renew(db: &Db, subscription: i32, held: &[Held], lease: Duration) -> Result<BTreeSet<i64>, Fault> {
    let Text { found, moved } = Text::new(db, RENEW, "", "");
    let (mut held, mut alive) = (held.to_vec(), BTreeSet::new());
    for sql in [found, moved] {
        let values = Values::default()
            .and(vec![subscription; held.len()])
            .and(held.iter().map(|held| held.place).collect::<Vec<_>>())
            .and(held.iter().map(|held| held.token).collect::<Vec<_>>())
            .and(micros(lease).unwrap_or(0));
        for row in db.run(&sql, values).await? {
            alive.insert(row.try_get(0).map_err(Fault::of)?);
        }
        held.retain(|held| !alive.contains(&held.place));
        if held.is_empty() {
            break;
        }
    }
    Ok(alive)
}
