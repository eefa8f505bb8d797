WITH due AS MATERIALIZED (
    -- A scalar subquery, so that the index is read up to now and no further.
    SELECT d.ctid AS at FROM {s}.delivery AS d
    WHERE d.subscription = $1 AND d.parked AND d.due <= (SELECT clock_timestamp())
    ORDER BY d.due LIMIT $2 FOR UPDATE SKIP LOCKED
), gone AS (
    -- What was published with a delay takes its place in line now; what was tried before has kept it.
    UPDATE {s}.delivery AS d SET parked = false, due = NULL, until = '-infinity', line = coalesce(d.line, d.later), later = NULL,
        place = CASE WHEN d.later IS NULL THEN d.place ELSE nextval('{s}.block') << 20 END,
        lined = d.later IS NOT NULL AND (SELECT true FROM {s}.delivery AS e
            WHERE e.subscription = d.subscription AND e.line = d.later LIMIT 1) IS NOT NULL
    FROM due WHERE d.ctid = due.at RETURNING 1
)
SELECT (SELECT count(*) FROM gone),
       (SELECT ceil(extract(epoch FROM d.due - clock_timestamp()) * 1000000)::bigint FROM {s}.delivery AS d
        WHERE d.subscription = $1 AND d.parked AND d.due > (SELECT clock_timestamp()) ORDER BY d.due LIMIT 1)
