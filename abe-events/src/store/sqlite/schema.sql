-- Schema 1 of the store. Everything is prefixed, so that it can live in a program's own database beside its tables, and
-- beside those of the broker.

-- Subscriptions that remember what they handled.
CREATE TABLE abe_subscriber (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    group_name TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    UNIQUE (group_name, name)
) STRICT;

-- Absent, in progress (`done` 0) or applied (1). Past its time a row counts as absent, whether it is removed yet or not.
CREATE TABLE abe_inbox (
    subscriber INTEGER NOT NULL,
    key        BLOB    NOT NULL,
    token      INTEGER NOT NULL,   -- who reserved it
    done       INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL,   -- milliseconds since 1970 by this machine's clock, as all times here
    PRIMARY KEY (subscriber, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX abe_inbox_expires ON abe_inbox (expires_ms);

-- What committed transactions have published and the relay has not yet. AUTOINCREMENT: a number is never used again.
CREATE TABLE abe_outbox (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL,
    topic      TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    time_ms    INTEGER NOT NULL,
    key        TEXT,
    attributes TEXT,               -- a JSON list of names and values, where there is more than the columns tell
    payload    BLOB    NOT NULL,
    delay_ms   INTEGER NOT NULL,
    stored_ms  INTEGER NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,  -- how often the broker refused it
    retry_ms   INTEGER NOT NULL DEFAULT 0,  -- not to be tried before
    error      TEXT
) STRICT;
CREATE INDEX abe_outbox_refused ON abe_outbox (key, seq) WHERE attempts > 0;

-- Who relays.
CREATE TABLE abe_relay (
    lane     INTEGER PRIMARY KEY,
    token    INTEGER NOT NULL,
    until_ms INTEGER NOT NULL
) STRICT;
