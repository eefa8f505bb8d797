WITH first AS MATERIALIZED (
    SELECT d.ctid AS at, d.place, d.bytes, d.line, d.token IS NOT NULL AS held FROM {s}.delivery AS d
    WHERE d.subscription = $1 AND NOT d.parked AND NOT d.lined AND d.until <= clock_timestamp() AND {since}
      -- Order per key: never while an earlier one is there, in whatever state.
      AND (d.line IS NULL OR NOT EXISTS (
          SELECT 1 FROM {s}.delivery AS e WHERE e.subscription = d.subscription AND e.line = d.line AND e.place < d.place))
    ORDER BY d.place LIMIT $2 FOR UPDATE OF d SKIP LOCKED
), rival AS MATERIALIZED (
    -- One with a later place may have been committed before, and be in somebody's hands: it is locked, and so seen as it is
    -- now. If somebody else has it locked, it may just be handed out.
    -- OFFSET 0: each key is looked up, and no plan reads all keys for each.
    SELECT f.place, e.until <= clock_timestamp() AS free FROM first AS f CROSS JOIN LATERAL (
        SELECT o.until FROM {s}.delivery AS o
        WHERE o.subscription = $1 AND o.line = f.line AND o.place > f.place AND NOT o.parked AND NOT o.lined
        OFFSET 0 FOR UPDATE OF o SKIP LOCKED) AS e
), free AS (
    SELECT f.at, f.place, f.bytes, f.held FROM first AS f
    WHERE f.line IS NULL OR {alone} (SELECT count(*) FROM rival AS r WHERE r.place = f.place AND r.free) =
        (SELECT count(*) FROM {s}.delivery AS e
         WHERE e.subscription = $1 AND e.line = f.line AND e.place > f.place AND NOT e.parked AND NOT e.lined)
), taken AS MATERIALIZED (
    SELECT at, held FROM (
        SELECT at, held, sum(bytes) OVER (ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM free
    ) AS f WHERE coalesce(before, 0) < $3
), claimed AS (
    -- By where the row is: a plan made while the table was nearly empty would otherwise read the queue once for each row.
    UPDATE {s}.delivery AS d SET until = clock_timestamp() + $4 * interval '1 microsecond', token = $5, attempts = d.attempts + 1
    FROM taken WHERE d.ctid = taken.at
    RETURNING d.place, d.attempts, d.failures, d.bytes, taken.held, d.seq
)
SELECT c.place, c.attempts, c.failures, c.bytes, c.held, m.id, m.topic, m.version, m.time_ms, m.key, m.attributes, m.payload
-- OFFSET 0 lets no plan begin with the messages.
FROM claimed AS c CROSS JOIN LATERAL (SELECT * FROM {s}.message WHERE seq = c.seq OFFSET 0) AS m
