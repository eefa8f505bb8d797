), alone AS (
    DELETE FROM {s}.message AS m USING gone WHERE m.seq = gone.seq AND NOT gone.shared
), less AS (
    SELECT seq, count(*) AS n FROM gone WHERE shared GROUP BY seq
), held AS MATERIALIZED (
    -- In one order, so that two who settle the same messages wait for each other in none.
    SELECT c.seq, c.remaining, less.n FROM {s}.sharing AS c JOIN less ON less.seq = c.seq ORDER BY c.seq FOR UPDATE OF c
), fewer AS (
    UPDATE {s}.sharing AS c SET remaining = c.remaining - held.n FROM held WHERE c.seq = held.seq AND held.remaining > held.n
), finished AS (
    DELETE FROM {s}.sharing AS c USING held WHERE c.seq = held.seq AND held.remaining <= held.n
), last AS (
    DELETE FROM {s}.message AS m USING held WHERE m.seq = held.seq AND held.remaining <= held.n
)
SELECT subscription, place, line FROM gone
