//! The statements, with the schema's name in them: made once, so that each is prepared once per connection.

use sqlx::SqlSafeStr;
use sqlx::SqlStr;

/// All there are.
#[derive(Debug)]
pub(super) struct Statements {
    pub(super) find_subscriber: SqlStr,
    pub(super) make_subscriber: SqlStr,
    pub(super) reserve: SqlStr,
    pub(super) is_done: SqlStr,
    pub(super) renew: SqlStr,
    pub(super) record: SqlStr,
    pub(super) release: SqlStr,
    pub(super) prune: SqlStr,
    pub(super) begin: SqlStr,
    pub(super) which_done: SqlStr,
    pub(super) is_recorded: SqlStr,
    pub(super) publish: SqlStr,
    pub(super) waiting: SqlStr,
    pub(super) backlog: SqlStr,
    pub(super) take_lane: SqlStr,
    pub(super) keep_lane: SqlStr,
    pub(super) leave_lane: SqlStr,
    pub(super) settle: SqlStr,
    pub(super) log_events: SqlStr,
    pub(super) log_counts: SqlStr,
    pub(super) log_withdraw: SqlStr,
    pub(super) log_fates: SqlStr,
    pub(super) log_find: SqlStr,
    pub(super) log_fates_of: SqlStr,
    pub(super) log_prune: SqlStr,
}

/// A time so many milliseconds, the parameter, from now.
macro_rules! after {
    ($parameter:literal) => {
        concat!("clock_timestamp() + $", $parameter, " * interval '1 millisecond'")
    };
}

const RESERVE: &str = concat!(
    "INSERT INTO {s}.abe_inbox AS i (subscriber, key, token, done, expires) VALUES ($1, $2, $3, false, ",
    after!(4),
    ") ",
    "ON CONFLICT (subscriber, key) DO UPDATE SET token = excluded.token, done = false, expires = excluded.expires ",
    "WHERE i.expires <= clock_timestamp()"
);

const RENEW: &str = concat!(
    "UPDATE {s}.abe_inbox AS i SET expires = ",
    after!(4),
    " FROM unnest($2::bytea[], $3::bigint[]) AS h (key, token) ",
    "WHERE NOT i.done AND i.subscriber = $1 AND i.key = h.key AND i.token = h.token"
);

/// Inserted where a reservation was undone by a crash. In the order of keys, as every statement that has several: no two wait
/// for each other.
const RECORD: &str = concat!(
    "INSERT INTO {s}.abe_inbox AS i (subscriber, key, token, done, expires) ",
    "SELECT $1, h.key, h.token, true, ",
    after!(4),
    " FROM unnest($2::bytea[], $3::bigint[]) AS h (key, token) ORDER BY h.key ",
    "ON CONFLICT (subscriber, key) DO UPDATE SET done = true, expires = excluded.expires WHERE i.token = excluded.token"
);

const RELEASE: &str = "DELETE FROM {s}.abe_inbox AS i USING unnest($2::bytea[], $3::bigint[]) AS h (key, token) \
     WHERE NOT i.done AND i.subscriber = $1 AND i.key = h.key AND i.token = h.token";

const PRUNE: &str = "DELETE FROM {s}.abe_inbox WHERE (subscriber, key) IN (SELECT subscriber, key FROM {s}.abe_inbox \
     WHERE expires <= clock_timestamp() ORDER BY expires LIMIT $1 FOR UPDATE SKIP LOCKED)";

const BEGIN: &str = concat!(
    "INSERT INTO {s}.abe_inbox AS i (subscriber, key, token, done, expires) ",
    "SELECT $1, h.key, $2, true, ",
    after!(4),
    " FROM unnest($3::bytea[]) AS h (key) ORDER BY h.key ",
    "ON CONFLICT (subscriber, key) DO UPDATE SET token = excluded.token, done = true, expires = excluded.expires ",
    "WHERE i.expires <= clock_timestamp() RETURNING key"
);

const PUBLISH: &str = "INSERT INTO {s}.abe_outbox (id, topic, version, time_ms, key, attributes, payload, delay_ms) \
     SELECT m.* FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bytea[], $6::text[], $7::bytea[], $8::bigint[]) AS m";

const WAITING: &str = "SELECT seq, attempts, id, topic, version, time_ms, key, attributes, payload, delay_ms FROM {s}.abe_outbox AS one \
     WHERE retry <= clock_timestamp() AND (key IS NULL OR NOT EXISTS (SELECT 1 FROM {s}.abe_outbox AS earlier \
     WHERE earlier.attempts > 0 AND earlier.key = one.key AND earlier.seq < one.seq AND earlier.retry > clock_timestamp())) \
     ORDER BY seq LIMIT $1";

const BACKLOG: &str = "SELECT count(*), count(*) FILTER (WHERE attempts > 0), \
     coalesce((extract(epoch FROM clock_timestamp() - min(stored)) * 1000)::bigint, 0) \
     FROM (SELECT attempts, stored FROM {s}.abe_outbox ORDER BY seq LIMIT $1) AS counted";

const TAKE_LANE: &str = concat!(
    "INSERT INTO {s}.abe_relay AS r (lane, token, until) VALUES ($1, 1, ",
    after!(2),
    ") ",
    "ON CONFLICT (lane) DO UPDATE SET token = r.token + 1, until = excluded.until WHERE r.until <= clock_timestamp() RETURNING token"
);

const KEEP_LANE: &str = concat!("UPDATE {s}.abe_relay SET until = ", after!(3), " WHERE lane = $1 AND token = $2");

/// The lane's row is written first, and so locked: nobody can take the lane over until the rest is done.
const SETTLE: &str = concat!(
    "WITH kept AS (UPDATE {s}.abe_relay SET until = ",
    after!(3),
    " WHERE lane = $1 AND token = $2 RETURNING 1), ",
    "gone AS (DELETE FROM {s}.abe_outbox WHERE seq = ANY($4::bigint[]) AND EXISTS (SELECT 1 FROM kept)), ",
    "put_back AS (UPDATE {s}.abe_outbox AS o SET attempts = o.attempts + 1, error = h.error, ",
    "retry = clock_timestamp() + h.after * interval '1 millisecond' ",
    "FROM unnest($5::bigint[], $6::bigint[], $7::text[]) AS h (seq, after, error) ",
    "WHERE o.seq = h.seq AND EXISTS (SELECT 1 FROM kept)) ",
    "SELECT count(*) FROM kept"
);

/// The same id again is the same event. In the order of ids, so that no two wait for each other.
const LOG_EVENTS: &str = "INSERT INTO {s}.abe_event (id, topic, version, time_ms, key, attributes, payload, correlation) \
     SELECT m.* FROM unnest($1::text[], $2::text[], $3::int[], $4::bigint[], $5::bytea[], $6::text[], $7::bytea[], $8::text[]) \
     AS m (id, topic, version, time_ms, key, attributes, payload, correlation) ORDER BY m.id ON CONFLICT (id) DO NOTHING";

const LOG_COUNTS: &str = "UPDATE {s}.abe_event AS e SET deliveries = coalesce(e.deliveries, 0) + h.count \
     FROM unnest($1::text[], $2::bigint[]) AS h (id, count) WHERE e.id = h.id";

/// Published before under the same id, it stays.
const LOG_WITHDRAW: &str = "DELETE FROM {s}.abe_event AS e WHERE id = ANY($1::text[]) AND deliveries IS NULL \
     AND NOT EXISTS (SELECT 1 FROM {s}.abe_fate WHERE event = e.seq)";

const LOG_FATES: &str = "INSERT INTO {s}.abe_fate AS f (event, subscriber, status, retries, error, at) \
     SELECT e.seq, $1, h.status, h.retries, h.error, clock_timestamp() \
     FROM unnest($2::text[], $3::smallint[], $4::int[], $5::text[]) AS h (id, status, retries, error) \
     JOIN {s}.abe_event AS e ON e.id = h.id ORDER BY e.seq \
     ON CONFLICT (event, subscriber) DO UPDATE SET status = excluded.status, retries = excluded.retries, \
     error = coalesce(excluded.error, f.error), at = excluded.at";

const LOG_FIND: &str = "SELECT * FROM (SELECT seq, id, topic, version, time_ms, key, attributes, payload, \
     (extract(epoch FROM stored) * 1000)::bigint AS stored_ms, deliveries, \
     CASE WHEN EXISTS (SELECT 1 FROM {s}.abe_fate WHERE event = seq AND status = 2) THEN 2 \
     WHEN NOT EXISTS (SELECT 1 FROM {s}.abe_fate WHERE event = seq AND status = 0) \
     AND (SELECT count(*) FROM {s}.abe_fate WHERE event = seq AND status = 1) >= coalesce(deliveries, 1) THEN 1 ELSE 0 END AS status \
     FROM {s}.abe_event WHERE seq > $1 AND ($2::text IS NULL OR id = $2) AND ($3::text IS NULL OR topic = $3) \
     AND ($4::text IS NULL OR correlation = $4) \
     AND ($5::bigint IS NULL OR stored >= 'epoch'::timestamptz + $5 * interval '1 millisecond') \
     AND ($6::bigint IS NULL OR stored < 'epoch'::timestamptz + $6 * interval '1 millisecond')) AS e \
     WHERE $7::smallint IS NULL OR status = $7 ORDER BY seq LIMIT $8";

const LOG_FATES_OF: &str = "SELECT event, group_name, name, status, retries, error, (extract(epoch FROM at) * 1000)::bigint \
     FROM {s}.abe_fate JOIN {s}.abe_subscriber ON number = subscriber WHERE event = ANY($1::bigint[]) ORDER BY event, number";

const LOG_PRUNE: &str = "WITH old AS MATERIALIZED (SELECT seq FROM {s}.abe_event \
     WHERE stored <= clock_timestamp() - $1 * interval '1 millisecond' ORDER BY stored LIMIT $2 FOR UPDATE SKIP LOCKED), \
     fates AS (DELETE FROM {s}.abe_fate WHERE event IN (SELECT seq FROM old)), \
     gone AS (DELETE FROM {s}.abe_event WHERE seq IN (SELECT seq FROM old) RETURNING 1) SELECT count(*) FROM gone";

impl Statements {
    /// The statements for a schema, whose name is an identifier without quotes.
    pub(super) fn new(schema: &str) -> Self {
        let schema = format!("\"{schema}\"");
        let of = |text: &str| sqlx::AssertSqlSafe(text.replace("{s}", &schema)).into_sql_str();
        // Who ignores the fence is to be caught by a test.
        let fenced = |text: &str| {
            of(&if crate::mutant::is("relay-fence-ignored") { text.replace("AND token = $2", "AND token >= $2") } else { text.to_owned() })
        };
        Self {
            find_subscriber: of("SELECT number FROM {s}.abe_subscriber WHERE group_name = $1 AND name = $2"),
            make_subscriber: of("INSERT INTO {s}.abe_subscriber (group_name, name) VALUES ($1, $2) ON CONFLICT DO NOTHING"),
            reserve: of(RESERVE),
            is_done: of("SELECT done FROM {s}.abe_inbox WHERE subscriber = $1 AND key = $2"),
            renew: of(RENEW),
            record: of(RECORD),
            release: of(RELEASE),
            prune: of(PRUNE),
            begin: of(BEGIN),
            which_done: of("SELECT key FROM {s}.abe_inbox WHERE done AND subscriber = $1 AND key = ANY($2::bytea[])"),
            is_recorded: of("SELECT count(*) FROM {s}.abe_inbox WHERE subscriber = $1 AND token = $2 AND key = ANY($3::bytea[])"),
            publish: of(PUBLISH),
            waiting: of(WAITING),
            backlog: of(BACKLOG),
            take_lane: of(TAKE_LANE),
            keep_lane: fenced(KEEP_LANE),
            leave_lane: of("UPDATE {s}.abe_relay SET until = '-infinity' WHERE lane = $1 AND token = $2"),
            settle: fenced(SETTLE),
            log_events: of(LOG_EVENTS),
            log_counts: of(LOG_COUNTS),
            log_withdraw: of(LOG_WITHDRAW),
            log_fates: of(LOG_FATES),
            log_find: of(LOG_FIND),
            log_fates_of: of(LOG_FATES_OF),
            log_prune: of(LOG_PRUNE),
        }
    }
}
