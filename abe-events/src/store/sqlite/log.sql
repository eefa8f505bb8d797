-- Step 2: the event log.

CREATE TABLE abe_event (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT    NOT NULL UNIQUE,
    topic       TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    time_ms     INTEGER NOT NULL,
    key         TEXT,
    attributes  TEXT,
    payload     BLOB    NOT NULL,
    correlation TEXT    NOT NULL,
    stored_ms   INTEGER NOT NULL,
    deliveries  INTEGER              -- how many subscriptions took it; NULL as long as that is not known
) STRICT;
CREATE INDEX abe_event_topic ON abe_event (topic, seq);
CREATE INDEX abe_event_correlation ON abe_event (correlation, seq);
CREATE INDEX abe_event_stored ON abe_event (stored_ms);

-- What became of an event in a subscription: 0 pending, 1 processed, 2 failed.
CREATE TABLE abe_fate (
    event      INTEGER NOT NULL,
    subscriber INTEGER NOT NULL,
    status     INTEGER NOT NULL,
    retries    INTEGER NOT NULL,
    error      TEXT,
    at_ms      INTEGER NOT NULL,
    PRIMARY KEY (event, subscriber)
) STRICT, WITHOUT ROWID;
CREATE INDEX abe_fate_failed ON abe_fate (event) WHERE status = 2;
