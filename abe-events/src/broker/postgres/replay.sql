WITH meant AS MATERIALIZED (
    -- Its subscription is never removed; a letter of one that somebody else took away stays where it is.
    SELECT l.* FROM {s}.dead_letter AS l JOIN {s}.subscription AS known ON known.group_name = l.group_name AND known.name = l.name
    WHERE {wanted} FOR UPDATE OF l
), placed AS MATERIALIZED (
    SELECT nextval('{s}.block') << 20 AS place, s.number AS subscription, s.ordered, 128 + length(o.payload) AS bytes, o.*
    FROM (SELECT * FROM meant ORDER BY number) AS o JOIN {s}.subscription AS s ON s.group_name = o.group_name AND s.name = o.name
), carried AS (
    INSERT INTO {s}.message (seq, id, topic, version, time_ms, key, attributes, payload)
    SELECT place, id, topic, version, time_ms, key, attributes, payload FROM placed
), given AS (
    INSERT INTO {s}.delivery (subscription, place, seq, bytes, shared, line)
    SELECT subscription, place, place, bytes, false, CASE WHEN ordered THEN key END FROM placed
    RETURNING subscription, bytes
), gone AS (
    DELETE FROM {s}.dead_letter AS l USING meant WHERE l.number = meant.number
)
SELECT subscription, bytes FROM given
