//! The server: connections, statements, and what each costs in time at most.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection, Encode, Postgres, Type};

use super::config::PostgresBrokerBuilder;
use super::error::Fault;

/// How long a connection may have been idle before it is asked whether it is still there.
const IDLE: Duration = Duration::from_secs(1);

/// How we plan: every statement of ours finds its rows by an index, however the tables looked when the server last counted.
pub(super) const PLANNING: [(&str, &str); 4] =
    [("enable_seqscan", "off"), ("enable_hashjoin", "off"), ("enable_mergejoin", "off"), ("jit", "off")];

/// A statement with the schema in it.
pub(super) type Sql = Arc<str>;

/// Values for a statement.
#[derive(Default)]
pub(super) struct Values {
    pub(super) list: PgArguments,
    unfit: Option<sqlx::Error>,
}

impl Values {
    pub(super) fn and<'v, T: Encode<'v, Postgres> + Type<Postgres> + 'v>(mut self, value: T) -> Self {
        if let Err(error) = self.list.add(value) {
            self.unfit.get_or_insert(sqlx::Error::Encode(error));
        }
        self
    }
}

/// The server, as all parts of a broker use it.
#[derive(Debug, Clone)]
pub(super) struct Db {
    pub(super) pool: PgPool,
    pub(super) schema: Arc<str>,
    /// Whether sessions keep nothing between transactions.
    pooler: bool,
    timeout: Duration,
}

impl Db {
    pub(super) fn new(builder: &PostgresBrokerBuilder) -> Self {
        let url = &builder.url;
        let pool = PgPoolOptions::new()
            .max_connections(url.connections)
            .acquire_timeout(url.connect_timeout)
            .idle_timeout(Duration::from_secs(300))
            .max_lifetime(Duration::from_secs(3_600))
            .test_before_acquire(false)
            .before_acquire(|connection, known| {
                Box::pin(async move {
                    // One that outlived its server is noticed before anything is sent, so that the outcome stays certain.
                    if known.idle_for > IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options(builder));
        Self { pool, schema: url.schema.as_str().into(), pooler: url.pooler, timeout: builder.timeout }
    }

    /// A statement with `{s}` replaced by the schema, which needs no escape.
    pub(super) fn sql(&self, text: &str) -> Sql {
        text.replace("{s}", &format!("\"{}\"", self.schema)).into()
    }

    /// Runs one statement in a transaction of its own, and answers its rows.
    pub(super) async fn run(&self, sql: &Sql, values: Values) -> Result<Vec<PgRow>, Fault> {
        if let Some(error) = values.unfit {
            return Err(Fault::Unsent(error));
        }
        let mut connection = self.pool.acquire().await.map_err(Fault::Unsent)?;
        let ran = if self.pooler {
            tokio::time::timeout(self.timeout, pooled(&mut connection, sql, values.list)).await
        } else {
            tokio::time::timeout(self.timeout, single(&mut connection, sql, values.list)).await
        };
        match ran {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(fault)) if fault.is_refused() => return Err(fault),
            _ => {}
        }
        // Whatever state it is in, nobody shall find it so.
        connection.close_on_drop();
        match ran {
            Ok(Err(fault)) => Err(fault),
            _ => Err(Fault::Cut(None)),
        }
    }
}

fn options(builder: &PostgresBrokerBuilder) -> PgConnectOptions {
    let url = &builder.url;
    let mut options = url.options.clone().disable_statement_logging().extra_float_digits(None);
    if url.options.get_application_name().is_none() {
        options = options.application_name("abe-events");
    }
    if url.pooler {
        // A pooler passes on no options, and the next transaction may come to another session.
        return options.statement_cache_capacity(0);
    }
    let seconds = builder.timeout.as_millis().to_string();
    options.options(PLANNING).options([("statement_timeout", seconds.as_str()), ("idle_in_transaction_session_timeout", seconds.as_str())])
}

/// The server commits by itself. All rows are read: the commit is over only when the server is ready for more.
async fn single(connection: &mut PgConnection, sql: &Sql, values: PgArguments) -> Result<Vec<PgRow>, Fault> {
    sqlx::query_with(AssertSqlSafe(sql.clone()), values).fetch_all(connection).await.map_err(Fault::of)
}

/// Without anything that outlives a transaction: what is prepared is prepared within.
async fn pooled(connection: &mut PgConnection, sql: &Sql, values: PgArguments) -> Result<Vec<PgRow>, Fault> {
    let mut tx = connection.begin().await.map_err(Fault::Unsent)?;
    let rows = sqlx::query_with(AssertSqlSafe(sql.clone()), values).persistent(false).fetch_all(&mut *tx).await;
    let rows = rows.map_err(|error| if matches!(error, sqlx::Error::Database(_)) { Fault::of(error) } else { Fault::Unsent(error) })?;
    tx.commit().await.map_err(Fault::of)?;
    Ok(rows)
}
