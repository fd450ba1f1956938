/*
 * verify.sql
 *		Proves from the histories that every ride followed the rules.  The query
 *		returns one row for each violation of a rule, and no row if there is none.
 *
 * Run it when all rides have ended.  It does not rely on the engine's counters: it
 * reads the log, the rules in eda.lifecycle and eda.event_type, and the ledger that
 * the workers wrote.
 */
WITH event AS MATERIALIZED (
	SELECT * FROM eda.event WHERE flow_type = 'FLOW_B'
), life AS MATERIALIZED (
	SELECT t.*, e.flow_id AS ride, e.event_type AS step, e.id AS known_id, e.expires_at AS published_expires_at,
		et.max_attempts,
		lag(t.version) OVER w AS last_version, lag(t.state) OVER w AS last_state, lag(t.at) OVER w AS last_at,
		lag(t.attempt) OVER w AS last_attempt, lag(t.attempt_base) OVER w AS last_base,
		lag(t.token) OVER w AS last_token, lag(t.wake_at) OVER w AS last_wake_at,
		lead(t.version) OVER w IS NULL AS is_last
	FROM eda.transition t
	LEFT JOIN event e ON e.id = t.event_id
	LEFT JOIN eda.event_type et ON et.id = t.type
	WHERE et.flow_type = 'FLOW_B' OR et.id IS NULL
	WINDOW w AS (PARTITION BY t.event_id ORDER BY t.version)
), stand AS MATERIALIZED (
	SELECT * FROM life WHERE is_last
), step (step, place, next) AS (
	VALUES ('RIDE_REQUESTED', 1, 'DRIVER_MATCHED'), ('DRIVER_MATCHED', 2, 'DRIVER_ARRIVED'),
		('DRIVER_ARRIVED', 3, 'TRIP_STARTED'), ('TRIP_STARTED', 4, 'TRIP_COMPLETED'),
		('TRIP_COMPLETED', 5, 'PAYMENT_PROCESSED'), ('PAYMENT_PROCESSED', 6, NULL)
), violation (rule, ride, event_id, version, what) AS (

	/* ---- each history by itself ---- */

	SELECT 'an event and its transitions belong together', ride, event_id, version,
		CASE WHEN known_id IS NULL THEN 'a transition without an event' ELSE 'the event type differs from that of the event' END
	FROM life l LEFT JOIN eda.event_type et ON et.id = l.type
	WHERE known_id IS NULL OR et.event_type IS DISTINCT FROM l.step
	UNION ALL
	SELECT 'an event has a history', e.flow_id, e.id, NULL, 'no transition'
	FROM event e WHERE NOT EXISTS (SELECT FROM stand s WHERE s.event_id = e.id)
	UNION ALL
	SELECT 'an event and its history are in one leaf', e.flow_id, e.id, l.version, format('%s and %s', e.segment, l.segment)
	FROM event e JOIN life l ON l.event_id = e.id WHERE l.segment <> e.segment
	UNION ALL
	SELECT 'versions run 1, 2, 3, ...', ride, event_id, version, format('follows %s', coalesce(last_version, 0))
	FROM life WHERE version <> coalesce(last_version, 0) + 1
	UNION ALL
	SELECT 'each transition starts from the state of the one before', ride, event_id, version,
		format('from %s, but it was %s', prev_state, last_state)
	FROM life WHERE prev_state IS DISTINCT FROM last_state
	UNION ALL
	SELECT 'every move is legal', ride, event_id, version, format('from %s to %s', prev_state, state)
	FROM life l WHERE NOT EXISTS (
		SELECT FROM eda.lifecycle m
		WHERE m.from_state IS NOT DISTINCT FROM l.prev_state::text AND m.to_state = l.state::text)
	UNION ALL
	SELECT 'time goes forward', ride, event_id, version, format('%s, after %s', at, last_at)
	FROM life WHERE at < last_at
	UNION ALL
	SELECT 'no event is dispatched before it is due', ride, event_id, version, format('dispatched at %s, due at %s', at, last_wake_at)
	FROM life WHERE state = 'dispatched' AND at < last_wake_at
	UNION ALL
	SELECT 'no event expires early', ride, event_id, version,
		format('expired at %s, not %s', at, coalesce(expires_at, published_expires_at))
	FROM life WHERE state = 'expired' AND prev_state <> 'suspended'
		AND at < coalesce(expires_at, published_expires_at)
	UNION ALL
	SELECT 'an acquire adds one attempt, and a release takes it back', ride, event_id, version,
		format('attempt %s after %s', attempt, last_attempt)
	FROM life WHERE attempt <> coalesce(last_attempt, 0)
		+ CASE WHEN prev_state = 'dispatched' AND state = 'being_processed' THEN 1
			WHEN prev_state = 'being_processed' AND state IN ('awaiting_processing', 'suspended', 'expired')
				AND NOT coalesce(detail ? 'error', false) THEN -1 ELSE 0 END
	UNION ALL
	SELECT 'only a redrive grants attempts again', ride, event_id, version,
		format('attempt_base %s after %s', attempt_base, last_base)
	FROM life WHERE attempt_base <> CASE WHEN last_state IN ('failed', 'expired') THEN last_attempt
		ELSE coalesce(last_base, 0) END
	UNION ALL
	SELECT 'an event has no more attempts than allowed', ride, event_id, version,
		format('attempt %s of %s', attempt - attempt_base, max_attempts)
	FROM life WHERE attempt - attempt_base > max_attempts
	UNION ALL
	SELECT 'an event fails when its attempts are used up, or with a permanent error', ride, event_id, version,
		format('after attempt %s of %s: %s', attempt - attempt_base, max_attempts, detail ->> 'error')
	FROM life WHERE state = 'failed' AND prev_state = 'being_processed' AND attempt - attempt_base < max_attempts
		AND NOT coalesce(detail ->> 'error' LIKE 'permanent: %', false)
	UNION ALL
	SELECT 'a failed event has an error', ride, event_id, version, 'no error'
	FROM life WHERE state = 'failed' AND NOT coalesce(detail ? 'error', false)

	/* ---- leases ---- */

	UNION ALL
	SELECT 'the token is the version that opened the lease', ride, event_id, version, format('token %s', token)
	FROM life WHERE state = 'being_processed' AND prev_state = 'dispatched' AND token IS DISTINCT FROM version
	UNION ALL
	SELECT 'a heartbeat keeps the token', ride, event_id, version, format('%s, not %s', token, last_token)
	FROM life WHERE state = 'being_processed' AND prev_state = 'being_processed' AND token IS DISTINCT FROM last_token
	UNION ALL
	SELECT 'only the holder of the token ends an attempt with success', ride, event_id, version,
		format('token %s, not %s', token, last_token)
	FROM life WHERE state = 'succeeded' AND token IS DISTINCT FROM last_token
	UNION ALL
	SELECT 'an attempt is ended with its token, or by the engine or an operator', ride, event_id, version,
		format('token %s, not %s', token, last_token)
	FROM life WHERE prev_state = 'being_processed' AND state <> 'being_processed' AND token <> last_token
	UNION ALL
	SELECT 'without a lease there is no token', ride, event_id, version, format('token %s', token)
	FROM life WHERE token IS NOT NULL AND state <> 'being_processed' AND prev_state IS DISTINCT FROM 'being_processed'
	UNION ALL
	SELECT 'the engine ends an attempt only when its lease has ended', ride, event_id, version,
		format('ended at %s, lease until %s', at, last_wake_at)
	FROM life WHERE prev_state = 'being_processed' AND token IS NULL AND state <> 'canceled' AND at < last_wake_at
	UNION ALL
	SELECT 'a lease has an end', ride, event_id, version, 'no end'
	FROM life WHERE state = 'being_processed' AND (wake_at IS NULL OR wake_at <= at)

	/* ---- each ride ---- */

	UNION ALL
	SELECT 'every event reaches a final state', ride, event_id, version, state::text
	FROM stand WHERE state NOT IN ('succeeded', 'failed', 'expired', 'canceled')
	UNION ALL
	SELECT 'a step is published once', flow_id, NULL, NULL, format('%s times %s', count(*), event_type)
	FROM event GROUP BY flow_id, event_type HAVING count(*) > 1
	UNION ALL
	SELECT 'a step succeeds at most once', ride, NULL, NULL, format('%s times %s', count(*), step)
	FROM life WHERE state = 'succeeded' GROUP BY ride, step HAVING count(*) > 1
	UNION ALL
	SELECT 'a ride begins with a request', flow_id, NULL, NULL, format('begins with %s', min(event_type))
	FROM event WHERE parent_id IS NULL GROUP BY flow_id HAVING count(*) <> 1 OR min(event_type) <> 'RIDE_REQUESTED'
	UNION ALL
	SELECT 'a ride has a first event', flow_id, NULL, NULL, 'every event has a parent'
	FROM event GROUP BY flow_id HAVING bool_and(parent_id IS NOT NULL)
	UNION ALL
	SELECT 'a step that succeeded published the next one, once', s.ride, s.event_id, s.version,
		format('%s of %s', count(c.id), p.next)
	FROM life s JOIN step p USING (step)
	LEFT JOIN event c ON c.parent_id = s.event_id AND c.event_type = p.next AND c.flow_id = s.ride
	WHERE s.state = 'succeeded'
	GROUP BY s.ride, s.event_id, s.version, p.next HAVING count(c.id) <> (p.next IS NOT NULL)::integer
	UNION ALL
	SELECT 'only the success of a step publishes the next one', c.flow_id, c.id, NULL,
		format('%s after %s, which is %s', c.event_type, coalesce(s.step, 'an unknown event'), s.state)
	FROM event c LEFT JOIN stand s ON s.event_id = c.parent_id LEFT JOIN step p ON p.step = s.step
	WHERE c.parent_id IS NOT NULL
	AND (s.state IS DISTINCT FROM 'succeeded' OR p.next IS DISTINCT FROM c.event_type OR s.ride IS DISTINCT FROM c.flow_id)
	UNION ALL
	SELECT 'a success and the next step are one transaction', c.ride, c.event_id, c.version,
		format('published by transaction %s, its parent succeeded in %s', c.xid, s.xid)
	FROM life c JOIN event e ON e.id = c.event_id
	JOIN life s ON s.event_id = e.parent_id AND s.state = 'succeeded'
	WHERE c.version = 1 AND c.xid <> s.xid
	UNION ALL
	SELECT 'a payload includes that of the step before', c.flow_id, c.id, NULL, format('%s does not include %s', c.payload, e.payload)
	FROM event c JOIN event e ON e.id = c.parent_id WHERE NOT c.payload @> e.payload
	UNION ALL
	SELECT 'a ride is paid, or its last step failed, expired or was canceled', ride, event_id, version, format('%s is %s', step, state)
	FROM (SELECT DISTINCT ON (s.ride) s.* FROM stand s JOIN step p USING (step) ORDER BY s.ride, p.place DESC) s
	WHERE NOT (step = 'PAYMENT_PROCESSED' AND state = 'succeeded') AND state NOT IN ('failed', 'expired', 'canceled')

	/* ---- the ledger: one row for each step that succeeded ---- */

	UNION ALL
	SELECT 'a step that succeeded is in the ledger once', l.ride, l.event_id, l.version, format('%s rows', count(g.event_id))
	FROM life l LEFT JOIN ride.ledger g ON g.ride = l.ride AND g.step = l.step AND g.event_id = l.event_id
	WHERE l.state = 'succeeded'
	GROUP BY l.ride, l.event_id, l.version HAVING count(g.event_id) <> 1
	UNION ALL
	SELECT 'the ledger has no other rows', g.ride, g.event_id, NULL, format('%s by %s, in transaction %s', g.step, g.worker, g.xid)
	FROM ride.ledger g
	WHERE NOT EXISTS (
		SELECT FROM life l
		WHERE l.event_id = g.event_id AND l.ride = g.ride AND l.step = g.step AND l.state = 'succeeded'
		AND l.token = g.token AND l.attempt = g.attempt AND l.xid = g.xid)
)
SELECT * FROM violation ORDER BY ride, event_id, version, rule;
