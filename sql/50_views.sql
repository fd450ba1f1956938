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

-- event_id is the event's own, not the transition's: a question by that name is to find the index, too.
CREATE VIEW eda.event_state AS
SELECT e.id, e.id AS event_id, e.event_type, e.flow_type, e.flow_id,
	t.state::text AS state, t.prev_state::text AS prev_state, t.version, t.attempt,
	greatest(et.max_attempts - (t.attempt - t.attempt_base), 0) AS attempts_left,
	t.attempt - t.attempt_base - (t.state IN ('being_processed', 'succeeded')
		OR t.state = 'canceled' AND t.prev_state = 'being_processed')::integer AS attempts_failed,
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
COMMENT ON VIEW eda.event_state IS 'Each event with its current transition.  Ask by id or event_id, flow_id or parent_id: the log may be large.';
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

-- A plain join: ORDER BY at DESC LIMIT n walks the index of errors, and a question by flow_id that of the events.
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
	'The engine''s counters: events by state in the order of the enum, and the moves of the last minute: into each state, and last the attempts that are followed by another.';

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
	'Events by flow type, event type and state, moves into that state in the last minute, and how long the oldest due event has waited; read from the engine''s counters, so it costs the same at any size, and stands still while there is no engine.';

CREATE FUNCTION eda.type_counters(
	OUT type integer, OUT transitions bigint[], OUT attempts bigint, OUT retries bigint, OUT rescues bigint, OUT redrives bigint,
	OUT bounds double precision[],
	OUT due_to_acquired bigint[], OUT due_to_acquired_sum double precision,
	OUT acquired_to_done bigint[], OUT acquired_to_done_sum double precision)
RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'eda_type_counters' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 50;
COMMENT ON FUNCTION eda.type_counters() IS
	'Totals of each event type since the engine started: transitions by state in the order of the enum; attempts begun, followed by another one, and ended by the engine; redrives; and how many attempts took at most so many seconds, from being due to their acquire and from there to their end.';

CREATE FUNCTION eda.engine_info(
	OUT state text, OUT pid integer, OUT started_at timestamptz, OUT last_tick_at timestamptz,
	OUT ticks bigint, OUT transitions_read bigint, OUT transitions_made bigint,
	OUT last_tick_ms double precision, OUT max_tick_ms double precision, OUT total_tick_ms double precision,
	OUT queued integer, OUT handed_out integer, OUT waiting_workers integer, OUT parked integer, OUT held_back integer,
	OUT last_error text, OUT last_error_at timestamptz,
	OUT broker text, OUT broker_server text, OUT broker_error text, OUT broker_notice text,
	OUT broker_unacknowledged integer, OUT broker_published bigint, OUT broker_resent bigint,
	OUT broker_reconnects bigint)
RETURNS record
	AS 'MODULE_PATHNAME', 'eda_engine_info' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.engine_info() IS 'What the engine of this database says of itself; read the view eda.engine_status.';

CREATE VIEW eda.engine_status AS SELECT * FROM eda.engine_info();
COMMENT ON VIEW eda.engine_status IS 'Whether the engine of this database runs, what it does, and its last error.';
COMMENT ON COLUMN eda.engine_status.queued IS 'Dispatched events that wait for a worker.';
COMMENT ON COLUMN eda.engine_status.handed_out IS 'Events that a worker was handed and whose acquire has not committed yet.';
COMMENT ON COLUMN eda.engine_status.broker IS
	'off: no eda.nats_url; connecting; ready; unreachable; refused: not let in; blocked: the stream takes nothing.';
COMMENT ON COLUMN eda.engine_status.broker_server IS 'Where it is connected to, and the server''s version.';
COMMENT ON COLUMN eda.engine_status.broker_error IS 'Why it is not ready, or was not the last time.';
COMMENT ON COLUMN eda.engine_status.broker_notice IS
	'How the stream differs from the settings, or an event type''s subject from the stream''s.';
COMMENT ON COLUMN eda.engine_status.broker_unacknowledged IS 'Messages that the broker has not acknowledged yet.';
COMMENT ON COLUMN eda.engine_status.broker_published IS 'Messages it has acknowledged since the engine started.';
COMMENT ON COLUMN eda.engine_status.broker_resent IS 'Messages sent again because no acknowledgement came.';
COMMENT ON COLUMN eda.engine_status.broker_reconnects IS 'Connections after the first.';
COMMENT ON COLUMN eda.engine_status.parked IS 'Events that are due but written to by an open transaction.';
COMMENT ON COLUMN eda.engine_status.held_back IS 'Events whose move raises an error; tried again from time to time.';

-- the columns of the views, one by one
COMMENT ON COLUMN eda.event_state.id IS 'The event''s id.';
COMMENT ON COLUMN eda.event_state.event_id IS 'The same.';
COMMENT ON COLUMN eda.event_state.event_type IS 'The name of its event type.';
COMMENT ON COLUMN eda.event_state.flow_type IS 'The queue that workers take it from.';
COMMENT ON COLUMN eda.event_state.flow_id IS 'The business transaction it belongs to.';
COMMENT ON COLUMN eda.event_state.state IS 'Where it stands.';
COMMENT ON COLUMN eda.event_state.prev_state IS 'Where it stood before.';
COMMENT ON COLUMN eda.event_state.version IS 'The number of its current transition.';
COMMENT ON COLUMN eda.event_state.attempt IS 'How often it was acquired, without the attempts that were handed back.';
COMMENT ON COLUMN eda.event_state.lease_until IS 'When the worker''s lease ends, while it is being processed.';
COMMENT ON COLUMN eda.event_state.token IS 'The token of the lease, while it is being processed.';
COMMENT ON COLUMN eda.event_state.wake_at IS 'Its next deadline, whatever that is; null: none.';
COMMENT ON COLUMN eda.event_state.expires_at IS 'When it expires if it is then waiting; null: never.';
COMMENT ON COLUMN eda.event_state.suspended_by IS 'type, operator or worker, while it is suspended.';
COMMENT ON COLUMN eda.event_state.worker IS 'Who made the current transition.';
COMMENT ON COLUMN eda.event_state.error IS 'The error of the current transition.';
COMMENT ON COLUMN eda.event_state.detail IS 'error, stack, result, progress, reason of the current transition.';
COMMENT ON COLUMN eda.event_state.payload IS 'What was published.';
COMMENT ON COLUMN eda.event_state.headers IS 'Strings that travel with it.';
COMMENT ON COLUMN eda.event_state.correlation_id IS 'Shared with the events it was published by, and with those it publishes.';
COMMENT ON COLUMN eda.event_state.parent_id IS 'The event whose success or failure published this one.';
COMMENT ON COLUMN eda.event_state.on_fail_event_type IS 'Overrides the event type''s; empty: none.';
COMMENT ON COLUMN eda.event_state.created_at IS 'When it was published.';
COMMENT ON COLUMN eda.event_state.changed_at IS 'When it came to its current transition.';
COMMENT ON COLUMN eda.dead_letter.id IS 'The event''s id.';
COMMENT ON COLUMN eda.dead_letter.event_id IS 'The same.';
COMMENT ON COLUMN eda.dead_letter.event_type IS 'The name of its event type.';
COMMENT ON COLUMN eda.dead_letter.flow_type IS 'The queue of its event type.';
COMMENT ON COLUMN eda.dead_letter.flow_id IS 'The business transaction it belongs to.';
COMMENT ON COLUMN eda.dead_letter.state IS 'failed or expired';
COMMENT ON COLUMN eda.dead_letter.died_at IS 'When it ended so.';
COMMENT ON COLUMN eda.dead_letter.attempt IS 'How often it had been acquired.';
COMMENT ON COLUMN eda.dead_letter.error IS 'The last error.';
COMMENT ON COLUMN eda.dead_letter.stack IS 'Where the last error was raised, if the worker said so.';
COMMENT ON COLUMN eda.dead_letter.payload IS 'What was published.';
COMMENT ON COLUMN eda.dead_letter.headers IS 'Strings that travel with it.';
COMMENT ON COLUMN eda.dead_letter.correlation_id IS 'Shared with the events it was published by.';
COMMENT ON COLUMN eda.dead_letter.parent_id IS 'The event whose success or failure published this one.';
COMMENT ON COLUMN eda.dead_letter.created_at IS 'When it was published.';
COMMENT ON COLUMN eda.error_log.at IS 'When the attempt ended.';
COMMENT ON COLUMN eda.error_log.event_id IS 'The event''s id.';
COMMENT ON COLUMN eda.error_log.event_type IS 'The name of its event type.';
COMMENT ON COLUMN eda.error_log.flow_type IS 'The queue of its event type.';
COMMENT ON COLUMN eda.error_log.flow_id IS 'The business transaction it belongs to.';
COMMENT ON COLUMN eda.error_log.attempt IS 'Which attempt it was.';
COMMENT ON COLUMN eda.error_log.version IS 'The number of the transition that has the error.';
COMMENT ON COLUMN eda.error_log.moved_to IS 'The state that the error led to.';
COMMENT ON COLUMN eda.error_log.worker IS 'Who worked on it, or engine for a lease that ran out.';
COMMENT ON COLUMN eda.error_log.error IS 'What went wrong.';
COMMENT ON COLUMN eda.error_log.stack IS 'Where, if the worker said so.';
COMMENT ON COLUMN eda.queue_metrics.flow_type IS 'The queue of the event type.';
COMMENT ON COLUMN eda.queue_metrics.event_type IS 'The name of the event type.';
COMMENT ON COLUMN eda.queue_metrics.state IS 'A state; there is a row for each.';
COMMENT ON COLUMN eda.queue_metrics.events IS 'How many events of the type are in the state.';
COMMENT ON COLUMN eda.queue_metrics.last_minute IS 'How many came into it in the last minute.';
COMMENT ON COLUMN eda.queue_metrics.oldest_due_age IS 'How long the type''s oldest due event has waited, where the state waits for the engine or a worker.';
COMMENT ON COLUMN eda.lifecycle.from_state IS 'The state before; null: a new event.';
COMMENT ON COLUMN eda.lifecycle.to_state IS 'The state after.';
COMMENT ON COLUMN eda.lifecycle.made_by IS 'The functions that make the move, or engine.';
COMMENT ON COLUMN eda.lifecycle.happens IS 'When.';
COMMENT ON COLUMN eda.engine_status.state IS 'running, paused, off, idle: and why, or not running.';
COMMENT ON COLUMN eda.engine_status.pid IS 'The engine''s process.';
COMMENT ON COLUMN eda.engine_status.started_at IS 'When that process began.';
COMMENT ON COLUMN eda.engine_status.last_tick_at IS 'When its last turn ended.';
COMMENT ON COLUMN eda.engine_status.ticks IS 'Turns since it began.';
COMMENT ON COLUMN eda.engine_status.transitions_read IS 'Transitions it has read since it began.';
COMMENT ON COLUMN eda.engine_status.transitions_made IS 'Transitions it has made since it began.';
COMMENT ON COLUMN eda.engine_status.last_tick_ms IS 'How long its last turn took.';
COMMENT ON COLUMN eda.engine_status.max_tick_ms IS 'How long its longest turn took.';
COMMENT ON COLUMN eda.engine_status.total_tick_ms IS 'How long all its turns took together.';
COMMENT ON COLUMN eda.engine_status.waiting_workers IS 'Workers that wait in eda.acquire_next().';
COMMENT ON COLUMN eda.engine_status.last_error IS 'The last error that a move or the feed ran into.';
COMMENT ON COLUMN eda.engine_status.last_error_at IS 'When that was.';
