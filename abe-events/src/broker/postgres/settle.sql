), alone AS (
    -- Arrays instead of joins wherever the rows of a large table are meant, for the same reason.
    DELETE FROM {s}.message AS m WHERE m.seq = ANY (ARRAY(SELECT seq FROM gone WHERE NOT shared))
), less AS (
    SELECT seq, count(*) AS n FROM gone WHERE shared GROUP BY seq
), held AS MATERIALIZED (
    -- In one order, so that two who settle the same messages wait for each other in none.
    SELECT c.seq, c.remaining, l.n FROM (SELECT seq, n FROM less ORDER BY seq) AS l CROSS JOIN LATERAL (
        SELECT o.seq, o.remaining FROM {s}.sharing AS o WHERE o.seq = l.seq OFFSET 0 FOR UPDATE OF o) AS c
), fewer AS (
    UPDATE {s}.sharing AS c SET remaining = c.remaining - held.n FROM held
    WHERE c.seq = held.seq AND held.remaining > held.n AND c.seq = ANY (ARRAY(SELECT seq FROM held))
), finished AS (
    DELETE FROM {s}.sharing AS c WHERE c.seq = ANY (ARRAY(SELECT seq FROM held WHERE remaining <= n))
), last AS (
    DELETE FROM {s}.message AS m WHERE m.seq = ANY (ARRAY(SELECT seq FROM held WHERE remaining <= n))
)
SELECT subscription, place, line FROM gone