-- Whatever the other tests have done, they made every move of the lifecycle, and no other, and every event's history is sound.
--
-- This runs after all others: it reads what they have left in the database.
SELECT from_state, to_state, happens FROM eda.lifecycle
WHERE NOT EXISTS (SELECT FROM eda.transition t WHERE t.prev_state::text IS NOT DISTINCT FROM from_state AND t.state::text = to_state);
SELECT DISTINCT prev_state, state FROM eda.transition t
WHERE NOT EXISTS (SELECT FROM eda.lifecycle WHERE t.prev_state::text IS NOT DISTINCT FROM from_state AND t.state::text = to_state);
-- Every event has the versions 1, 2, 3 and so on, and times that never go back.
SELECT count(*) > 100 AS many, bool_and(first = 1 AND last = n) AS without_gaps FROM (
	SELECT min(version) AS first, max(version) AS last, count(*) AS n FROM eda.transition GROUP BY event_id) x;
SELECT count(*) FROM (
	SELECT at, prev_state, state, lag(at) OVER w AS at_before, lag(state) OVER w AS state_before FROM eda.transition
	WINDOW w AS (PARTITION BY event_id ORDER BY version)) x
WHERE at < at_before OR prev_state IS DISTINCT FROM state_before;
-- Each transition follows from the one before.
SELECT count(*) FROM (
	SELECT t.*, lag(attempt) OVER w AS attempt_before, lag(token) OVER w AS token_before, lag(attempt_base) OVER w AS base_before
	FROM eda.transition t WINDOW w AS (PARTITION BY event_id ORDER BY version)) t
WHERE (state = 'being_processed' AND prev_state = 'dispatched' AND (attempt <> attempt_before + 1 OR token <> version))
	OR (state = 'being_processed' AND prev_state = 'being_processed' AND (attempt <> attempt_before OR token <> token_before))
	OR (state = 'succeeded' AND token IS DISTINCT FROM token_before)
	OR (state IN ('succeeded', 'failed', 'expired', 'canceled') AND wake_at IS NOT NULL)
	OR (state IN ('awaiting_processing', 'being_processed') AND wake_at IS NULL)
	OR (attempt_base <> base_before AND (prev_state NOT IN ('failed', 'expired') OR attempt_base <> attempt))
	OR (state = 'suspended') <> (suspended_by IS NOT NULL)
	OR attempt - attempt_base < 0;
-- No attempt succeeded twice, and no event was tried more often than its type allows.
SELECT count(*) FROM (SELECT FROM eda.transition WHERE state = 'succeeded' GROUP BY event_id HAVING count(*) > 1) x;
SELECT eda.move_clock('0') - now() < '1 min' AS clock_in_step;
SELECT state, last_error FROM eda.engine_status;
