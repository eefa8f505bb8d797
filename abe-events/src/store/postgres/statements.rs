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
     FROM (SELECT attempts, stored FROM {s}.abe_outbox ORDER BY seq LIMIT $1) AS some";

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
        }
    }
}
