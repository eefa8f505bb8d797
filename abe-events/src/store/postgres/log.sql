-- Step 2: the event log.

CREATE TABLE {s}.abe_event (
    seq         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id          text        NOT NULL UNIQUE,
    topic       text        NOT NULL,
    version     integer     NOT NULL,
    time_ms     bigint      NOT NULL,
    key         bytea,
    attributes  text,
    payload     bytea       NOT NULL,
    correlation text        NOT NULL,
    stored      timestamptz NOT NULL DEFAULT clock_timestamp(),
    deliveries  bigint                   -- how many subscriptions took it; NULL as long as that is not known
) WITH (fillfactor = 90);
CREATE INDEX abe_event_topic ON {s}.abe_event (topic, seq);
CREATE INDEX abe_event_correlation ON {s}.abe_event (correlation, seq);
CREATE INDEX abe_event_stored ON {s}.abe_event (stored);

-- What became of an event in a subscription: 0 pending, 1 processed, 2 failed.
CREATE TABLE {s}.abe_fate (
    event      bigint      NOT NULL,
    subscriber bigint      NOT NULL,
    status     smallint    NOT NULL,
    retries    integer     NOT NULL,
    error      text,
    at         timestamptz NOT NULL,
    PRIMARY KEY (event, subscriber)
) WITH (fillfactor = 90);
CREATE INDEX abe_fate_failed ON {s}.abe_fate (event) WHERE status = 2;
