WITH free AS MATERIALIZED (
    SELECT d.place, d.bytes, d.token IS NOT NULL AS held FROM {s}.delivery AS d
    WHERE d.subscription = $1 AND NOT d.parked AND NOT d.lined AND d.until <= clock_timestamp() AND {since}
      -- Order per key: never while an earlier one is there, in whatever state.
      AND (d.line IS NULL OR NOT EXISTS (
          SELECT 1 FROM {s}.delivery AS e WHERE e.subscription = d.subscription AND e.line = d.line AND e.place < d.place))
    ORDER BY d.place LIMIT $2 FOR UPDATE OF d SKIP LOCKED
), taken AS (
    SELECT place, held FROM (
        SELECT place, held, sum(bytes) OVER (ORDER BY place ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM free
    ) AS f WHERE coalesce(before, 0) < $3
)
UPDATE {s}.delivery AS d SET until = clock_timestamp() + $4 * interval '1 microsecond', token = $5, attempts = d.attempts + 1
FROM taken, {s}.message AS m
WHERE d.subscription = $1 AND d.place = taken.place AND NOT d.parked AND NOT d.lined AND m.seq = d.seq
RETURNING d.place, d.attempts, d.failures, d.bytes, taken.held, m.id, m.topic, m.version, m.time_ms, m.key, m.attributes, m.payload
