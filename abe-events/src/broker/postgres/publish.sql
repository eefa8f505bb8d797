WITH base AS MATERIALIZED (
    -- One block of places, if the caller knows the subscriptions of today.
    SELECT nextval('{s}.block') << 20 AS at FROM {s}.epoch WHERE n = $1
), carried AS (
    INSERT INTO {s}.message (seq, id, topic, version, time_ms, key, attributes, payload)
    SELECT b.at + m.ord - 1, m.id, m.topic, m.version, m.time_ms, m.key, m.attributes, m.payload
    FROM base AS b, unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bytea[], $7::text[], $8::bytea[])
        WITH ORDINALITY AS m (id, topic, version, time_ms, key, attributes, payload, ord)
), counted AS (
    INSERT INTO {s}.sharing (seq, remaining)
    SELECT b.at + c.ord - 1, c.takers FROM base AS b, unnest($9::int[]) WITH ORDINALITY AS c (takers, ord) WHERE c.takers > 1
), given AS (
    INSERT INTO {s}.delivery (subscription, place, seq, bytes, shared, parked, due, line, later, lined)
    SELECT d.subscription, b.at + d.message - 1, b.at + d.message - 1, d.bytes, d.shared, d.delay IS NOT NULL,
           clock_timestamp() + d.delay * interval '1 microsecond', d.line, d.later, {behind}
    FROM base AS b, unnest($10::bigint[], $11::int[], $12::bigint[], $13::boolean[], $14::bigint[], $15::bytea[], $16::bytea[], $17::boolean[])
        AS d (message, subscription, bytes, shared, delay, line, later, behind)
    RETURNING lined
)
SELECT b.at, (SELECT count(*) FROM given WHERE lined) FROM base AS b
