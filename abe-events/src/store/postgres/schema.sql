-- Schema 1 of the store. `{s}` is the schema's name; everything is prefixed, because the broker's tables may be there too.

-- Subscriptions that remember what they handled.
CREATE TABLE {s}.abe_subscriber (
    number     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    group_name text   NOT NULL,
    name       text   NOT NULL,
    UNIQUE (group_name, name)
);

-- Absent, in progress (not `done`) or applied. Past its time a row counts as absent, whether it is removed yet or not.
CREATE TABLE {s}.abe_inbox (
    subscriber bigint      NOT NULL,
    key        bytea       NOT NULL,
    token      bigint      NOT NULL,   -- who reserved it
    done       boolean     NOT NULL,
    expires    timestamptz NOT NULL,   -- by the database's clock, as all times here
    PRIMARY KEY (subscriber, key)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE INDEX abe_inbox_expires ON {s}.abe_inbox (expires);

-- What committed transactions have published and the relay has not yet. Rows may become visible out of order, so that
-- whoever reads them asks what is there, and never where it was.
CREATE TABLE {s}.abe_outbox (
    seq        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         text        NOT NULL,
    topic      text        NOT NULL,
    version    integer     NOT NULL,
    time_ms    bigint      NOT NULL,
    key        bytea,                  -- UTF-8; bytes, because a text may hold no zero
    attributes text,                   -- a JSON list of names and values, where there is more than the columns tell
    payload    bytea       NOT NULL,
    delay_ms   bigint      NOT NULL,
    stored     timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts   integer     NOT NULL DEFAULT 0,             -- how often the broker refused it
    retry      timestamptz NOT NULL DEFAULT '-infinity',   -- not to be tried before
    error      text
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX abe_outbox_refused ON {s}.abe_outbox (key, seq) WHERE attempts > 0;

-- Who relays.
CREATE TABLE {s}.abe_relay (
    lane  bigint      PRIMARY KEY,
    token bigint      NOT NULL,
    until timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Publishing from any language, in the caller's transaction: the event exists if and when that commits. Answers its id.
CREATE FUNCTION {s}.publish(
    topic text, payload bytea, key text DEFAULT NULL, version integer DEFAULT 1, delay interval DEFAULT '0', id text DEFAULT NULL
) RETURNS text LANGUAGE plpgsql SET search_path = pg_catalog AS $$
DECLARE
    wanted text := id;
BEGIN
    IF topic IS NULL OR length(topic) > 249 OR topic !~ '^[A-Za-z0-9:/_-]+(\.[A-Za-z0-9:/_-]+)*$' OR topic LIKE '\_%' THEN
        RAISE EXCEPTION 'topic % is not allowed: ASCII letters, digits, - _ : / and dots between', quote_nullable(topic) USING ERRCODE = '22023';
    END IF;
    IF payload IS NULL OR version IS NULL OR version < 1 OR delay IS NULL OR delay < '0' THEN
        RAISE EXCEPTION 'payload, version from 1 and a delay from 0 are needed' USING ERRCODE = '22023';
    END IF;
    IF octet_length(key) > 1024 OR wanted = '' OR octet_length(wanted) > 200 OR wanted ~ '[[:cntrl:]]' THEN
        RAISE EXCEPTION 'a key has at most 1024 bytes, an id 1 to 200 without control characters' USING ERRCODE = '22023';
    END IF;
    -- Without one it is a random UUID; those of version 7 are a matter of whoever makes many.
    wanted := coalesce(wanted, gen_random_uuid()::text);
    INSERT INTO {s}.abe_outbox (id, topic, version, time_ms, key, payload, delay_ms)
    VALUES (wanted, topic, version, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, convert_to(key, 'UTF8'), payload,
            (extract(epoch FROM delay) * 1000)::bigint);
    RETURN wanted;
END
$$;

-- The same for a payload that is at hand as text: JSON, most often.
CREATE FUNCTION {s}.publish(
    topic text, payload text, key text DEFAULT NULL, version integer DEFAULT 1, delay interval DEFAULT '0', id text DEFAULT NULL
) RETURNS text LANGUAGE sql SET search_path = pg_catalog AS $$
    SELECT {s}.publish(topic, convert_to(payload, 'UTF8'), key, version, delay, id)
$$;
