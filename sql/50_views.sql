/* ------------------------------------------------------------------------
 * Looking at it
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda.lifecycle_moves(
	OUT from_state text, OUT to_state text, OUT made_by text, OUT happens text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'eda_lifecycle_moves' LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 30;
COMMENT ON FUNCTION eda.lifecycle_moves() IS 'The table of legal moves; read the view eda.lifecycle.';

CREATE VIEW eda.lifecycle AS SELECT * FROM eda.lifecycle_moves();
COMMENT ON VIEW eda.lifecycle IS 'Which state an event may move to from which, who makes the move, and when.';

CREATE VIEW eda.event_state AS
SELECT e.id, t.event_id, e.event_type, e.flow_type, e.flow_id,
	t.state::text AS state, t.prev_state::text AS prev_state, t.version, t.attempt,
	greatest(et.max_attempts - (t.attempt - t.attempt_base), 0) AS attempts_left,
	t.attempt - t.attempt_base - (t.state IN ('being_processed', 'succeeded'))::integer AS attempts_failed,
	(SELECT w.wake_at FROM eda.transition w
	 WHERE w.segment = e.segment AND w.event_id = e.id AND w.state = 'awaiting_processing'
	 ORDER BY w.version DESC LIMIT 1) AS attempt_scheduled_at,
	CASE WHEN t.state IN ('dispatched', 'being_processed') THEN t.wake_at END AS attempt_due_at,
	CASE WHEN t.state = 'being_processed' THEN t.wake_at END AS lease_until,
	CASE WHEN t.state = 'being_processed' THEN t.token END AS token,
	t.wake_at, t.expires_at, t.suspended_by, t.worker,
	t.detail ->> 'error' AS error, t.detail,
	e.payload, e.headers, e.correlation_id, e.parent_id, e.on_fail_event_type,
	e.created_at, t.at AS changed_at
FROM eda.event e
CROSS JOIN LATERAL (
	SELECT * FROM eda.transition t
	WHERE t.segment = e.segment AND t.event_id = e.id
	ORDER BY t.version DESC LIMIT 1) t
JOIN eda.event_type et ON et.id = t.type;
COMMENT ON VIEW eda.event_state IS 'Each event with its current transition.  Ask by id, flow_id or parent_id: the log may be large.';
COMMENT ON COLUMN eda.event_state.attempts_left IS 'How often the event may still be acquired.';
COMMENT ON COLUMN eda.event_state.attempts_failed IS 'Attempts that ended with an error or a lost lease, since the last redrive.';
COMMENT ON COLUMN eda.event_state.attempt_scheduled_at IS 'When the current or next attempt was to begin.';
COMMENT ON COLUMN eda.event_state.attempt_due_at IS 'When the current attempt must be over: dispatch timeout, or end of the lease.';

CREATE VIEW eda.dead_letter AS
SELECT e.id, t.event_id, e.event_type, e.flow_type, e.flow_id, t.state::text AS state, t.at AS died_at,
	t.attempt, t.detail ->> 'error' AS error, t.detail ->> 'stack' AS stack,
	e.payload, e.headers, e.correlation_id, e.parent_id, e.created_at
FROM eda.transition t
JOIN eda.event e ON e.segment = t.segment AND e.id = t.event_id
WHERE t.state IN ('failed', 'expired')
AND NOT EXISTS (
	SELECT FROM eda.transition later
	WHERE later.segment = t.segment AND later.event_id = t.event_id AND later.version = t.version + 1);
COMMENT ON VIEW eda.dead_letter IS 'Events that ended failed or expired and were not redriven.';

CREATE VIEW eda.error_log AS
SELECT t.at, t.event_id, et.event_type, et.flow_type, e.flow_id, t.attempt, t.version, t.state::text AS moved_to,
	t.worker, t.detail ->> 'error' AS error, t.detail ->> 'stack' AS stack
FROM eda.transition t
JOIN eda.event e ON e.segment = t.segment AND e.id = t.event_id
JOIN eda.event_type et ON et.id = t.type
WHERE t.detail ? 'error';
COMMENT ON VIEW eda.error_log IS 'Every attempt that ended with an error, with the state it led to.';

CREATE FUNCTION eda.history(
	event_id uuid,
	OUT version integer, OUT state text, OUT prev_state text, OUT at timestamptz, OUT took interval,
	OUT attempt integer, OUT token integer, OUT wake_at timestamptz, OUT expires_at timestamptz,
	OUT worker text, OUT suspended_by text, OUT detail jsonb)
RETURNS SETOF record
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT t.version, t.state::text, t.prev_state::text, t.at, t.at - lag(t.at) OVER (ORDER BY t.version),
		t.attempt, t.token, t.wake_at, t.expires_at, t.worker, t.suspended_by, t.detail
	FROM eda.transition t WHERE t.event_id = history.event_id ORDER BY t.version;
$$;
COMMENT ON FUNCTION eda.history(uuid) IS 'The life of an event, a row a step; took is the time since the step before.';

CREATE FUNCTION eda.type_metrics(
	OUT type integer, OUT counts bigint[], OUT oldest_due_at timestamptz, OUT last_minute bigint[])
RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'eda_type_metrics' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 50;
COMMENT ON FUNCTION eda.type_metrics() IS
	'The engine''s counters: events by state in the order of the enum, and transitions into each state in the last minute.';

CREATE VIEW eda.queue_metrics AS
SELECT et.flow_type, et.event_type, s.state::text AS state,
	coalesce(m.counts[s.n], 0) AS events,
	coalesce(m.last_minute[s.n], 0) AS last_minute,
	CASE WHEN s.state IN ('awaiting_processing', 'dispatched') AND m.counts[s.n] > 0
		THEN greatest(eda.clock() - m.oldest_due_at, interval '0') END AS oldest_due_age
FROM eda.event_type et
CROSS JOIN unnest(enum_range(NULL::eda.state)) WITH ORDINALITY s(state, n)
LEFT JOIN eda.type_metrics() m ON m.type = et.id;
COMMENT ON VIEW eda.queue_metrics IS
	'Events by flow type, event type and state, moves into that state in the last minute, and how long the oldest due event has waited; read from counters, so it costs the same at any size.';

CREATE FUNCTION eda.engine_info(
	OUT state text, OUT pid integer, OUT started_at timestamptz, OUT last_tick_at timestamptz,
	OUT ticks bigint, OUT transitions_read bigint, OUT transitions_made bigint,
	OUT last_tick_ms double precision, OUT max_tick_ms double precision,
	OUT queued integer, OUT handed_out integer, OUT waiting_workers integer, OUT parked integer, OUT held_back integer,
	OUT last_error text, OUT last_error_at timestamptz)
RETURNS record
	AS 'MODULE_PATHNAME', 'eda_engine_info' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.engine_info() IS 'What the engine of this database says of itself; read the view eda.engine_status.';

CREATE VIEW eda.engine_status AS SELECT * FROM eda.engine_info();
COMMENT ON VIEW eda.engine_status IS 'Whether the engine of this database runs, what it does, and its last error.';
COMMENT ON COLUMN eda.engine_status.queued IS 'Dispatched events that wait for a worker.';
COMMENT ON COLUMN eda.engine_status.handed_out IS 'Events that a worker was handed and whose acquire has not committed yet.';
COMMENT ON COLUMN eda.engine_status.parked IS 'Events that are due but written to by an open transaction.';
COMMENT ON COLUMN eda.engine_status.held_back IS 'Events whose move raises an error; tried again from time to time.';
