-- Schema 1. Everything is prefixed, so that it can live in a program's own database beside its tables.

-- What is being carried, once however many subscriptions take it. AUTOINCREMENT: a number is never used again, not even
-- after the last row was deleted, so what `claimed` passed over stays passed over.
CREATE TABLE abe_message (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL,
    topic      TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    time_ms    INTEGER NOT NULL,
    key        TEXT,
    attributes TEXT,               -- a JSON list of names and values, where there is more than the columns tell
    payload    BLOB    NOT NULL,
    shared     INTEGER NOT NULL    -- whether abe_sharing counts the subscriptions that still need it
) STRICT;

CREATE TABLE abe_sharing (
    seq       INTEGER PRIMARY KEY,
    remaining INTEGER NOT NULL
) STRICT;

CREATE TABLE abe_subscription (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    group_name TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    ordered    INTEGER NOT NULL,
    claimed    INTEGER NOT NULL DEFAULT 0,  -- the backlog up to here has been handed out
    tokens     INTEGER NOT NULL DEFAULT 0,  -- the last token given
    pending    INTEGER NOT NULL DEFAULT 0,
    unsettled  INTEGER NOT NULL DEFAULT 0,
    delayed    INTEGER NOT NULL DEFAULT 0,
    bytes      INTEGER NOT NULL DEFAULT 0,
    accepted   INTEGER NOT NULL DEFAULT 0,
    UNIQUE (group_name, name)
) STRICT;

CREATE TABLE abe_pattern (
    subscription INTEGER NOT NULL,
    pattern      TEXT    NOT NULL,
    PRIMARY KEY (subscription, pattern)
) STRICT, WITHOUT ROWID;

-- What was published and has no story yet. Rows up to `claimed` are under a lease of abe_lease, the others wait.
CREATE TABLE abe_backlog (
    subscription INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    PRIMARY KEY (subscription, seq)
) STRICT, WITHOUT ROWID;

-- A piece of the backlog in one consumer's hands, all on their first attempt.
CREATE TABLE abe_lease (
    subscription INTEGER NOT NULL,
    token        INTEGER NOT NULL,
    first        INTEGER NOT NULL,
    last         INTEGER NOT NULL,
    remaining    INTEGER NOT NULL,
    until        INTEGER NOT NULL,  -- milliseconds since 1970 by this machine's clock, as all times here
    PRIMARY KEY (subscription, token)
) STRICT, WITHOUT ROWID;
CREATE INDEX abe_lease_until ON abe_lease (subscription, until);

-- What has a story: retried, released, delayed, handed out again, or with a key that order is kept for.
CREATE TABLE abe_delivery (
    subscription INTEGER NOT NULL,
    seq          INTEGER NOT NULL,
    due          INTEGER,            -- when it may be handed out, or its lease ends; NULL behind an earlier one of its key
    token        INTEGER,            -- who holds it
    delayed      INTEGER NOT NULL,   -- whether it waits for its time
    attempts     INTEGER NOT NULL,
    key          TEXT,               -- the key it stands in line for
    failures     TEXT,
    PRIMARY KEY (subscription, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX abe_delivery_due ON abe_delivery (subscription, due, seq) WHERE due IS NOT NULL;
CREATE INDEX abe_delivery_line ON abe_delivery (subscription, key, seq) WHERE key IS NOT NULL;

CREATE TABLE abe_dead_letter (
    number     INTEGER PRIMARY KEY AUTOINCREMENT,
    group_name TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    topic      TEXT    NOT NULL,
    version    INTEGER NOT NULL,
    time_ms    INTEGER NOT NULL,
    key        TEXT,
    attributes TEXT,
    payload    BLOB    NOT NULL,
    attempts   INTEGER NOT NULL,
    failures   TEXT    NOT NULL,
    at_ms      INTEGER NOT NULL,
    UNIQUE (group_name, name, id)
) STRICT;
CREATE INDEX abe_dead_letter_topic ON abe_dead_letter (topic);
CREATE INDEX abe_dead_letter_id ON abe_dead_letter (id);
