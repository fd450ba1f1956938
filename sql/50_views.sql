/* ------------------------------------------------------------------------
 * Monitors: views and functions that only read
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda.lifecycle_moves(
	OUT from_state text, OUT to_state text, OUT made_by text, OUT happens text)
RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'eda_lifecycle_moves' LANGUAGE C IMMUTABLE PARALLEL SAFE ROWS 30;
COMMENT ON FUNCTION eda.lifecycle_moves() IS
	'Return the legal moves, which src/base/lifecycle.c defines; the view eda.lifecycle shows '
	'them.';

CREATE VIEW eda.lifecycle AS SELECT * FROM eda.lifecycle_moves();
COMMENT ON VIEW eda.lifecycle IS
	'One row for each legal move of an event from one state to another, with who makes it and '
	'when.';

-- Both id and event_id are eda.event.id, and not eda.transition.event_id, so that a condition on
-- either of them uses the primary key of the event's leaf.
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
COMMENT ON VIEW eda.event_state IS
	'Each event with its current transition.  Conditions on id, event_id, flow_id or parent_id '
	'use an index; a query without one of them reads the whole log.';

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
COMMENT ON VIEW eda.dead_letter IS 'The events whose current state is failed or expired.';

-- This is a plain join, so that the planner may begin with either table: ORDER BY at DESC LIMIT n
-- uses the index on transitions with an error, and a condition on flow_id the index on events.
CREATE VIEW eda.error_log AS
SELECT t.at, t.event_id, et.event_type, et.flow_type, e.flow_id, t.attempt, t.version, t.state::text AS moved_to,
	t.worker, t.detail ->> 'error' AS error, t.detail ->> 'stack' AS stack
FROM eda.transition t
JOIN eda.event e ON e.segment = t.segment AND e.id = t.event_id
JOIN eda.event_type et ON et.id = t.type
WHERE t.detail ? 'error';
COMMENT ON VIEW eda.error_log IS
	'One row for each transition that has an error: an attempt that failed or whose lease ran '
	'out, or an event that could not be delivered.';

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
COMMENT ON FUNCTION eda.history(uuid) IS
	'Return the transitions of an event in their order; took is the time since the transition '
	'before.  Return no row if there is no such event.  The comments on the columns of '
	'eda.transition explain the others.';

CREATE FUNCTION eda.type_metrics(
	OUT type integer, OUT counts bigint[], OUT oldest_due_at timestamptz, OUT last_minute bigint[])
RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'eda_type_metrics' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 50;
COMMENT ON FUNCTION eda.type_metrics() IS
	'Return the engine''s counters, one row for each event type.  counts: how many events are in '
	'each state, in the order of eda.state.  oldest_due_at: when the oldest event that waits for '
	'the engine or a worker was due; null: none is.  last_minute: how many events moved to each '
	'state in the last minute, in the same order, and as the last element how many attempts '
	'ended and are to be followed by another.';

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
	'How many events of each event type are in each state, how many came to it in the last '
	'minute, and how long the oldest due event has waited.  The view shows the engine''s '
	'counters: its cost does not depend on the size of the log, and the counters stand still '
	'while no engine runs.';

CREATE FUNCTION eda.type_counters(
	OUT type integer, OUT transitions bigint[], OUT attempts bigint, OUT retries bigint, OUT rescues bigint, OUT redrives bigint,
	OUT bounds double precision[],
	OUT due_to_acquired bigint[], OUT due_to_acquired_sum double precision,
	OUT acquired_to_done bigint[], OUT acquired_to_done_sum double precision)
RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'eda_type_counters' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 50;
COMMENT ON FUNCTION eda.type_counters() IS
	'Return totals since the engine started, one row for each event type.  transitions: how many '
	'led to each state, in the order of eda.state.  attempts: how many began.  retries: how many '
	'ended and are to be followed by another.  rescues: how many the engine ended because their '
	'lease ran out.  redrives: how many dead letters were redriven.  due_to_acquired[i]: how '
	'many attempts began at most bounds[i] seconds after they were due.  acquired_to_done[i]: '
	'how many ended at most bounds[i] seconds after they began.  The columns that end in _sum '
	'are the sums of these times in seconds.';

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
COMMENT ON FUNCTION eda.engine_info() IS
	'Return the one row of the view eda.engine_status, whose columns have comments.';

CREATE VIEW eda.engine_status AS SELECT * FROM eda.engine_info();
COMMENT ON VIEW eda.engine_status IS
	'One row: whether the engine of this database runs, what it does, its last error, and the '
	'state of its connection to the broker (NATS).  A tick is one round of the engine''s main '
	'loop.';

-- The columns of the views.  Where a column shows one of eda.event or eda.transition, that one's
-- comment has the details.
COMMENT ON COLUMN eda.lifecycle.from_state IS 'The state before the move; null: the event is new.';
COMMENT ON COLUMN eda.lifecycle.to_state IS 'The state after the move.';
COMMENT ON COLUMN eda.lifecycle.made_by IS
	'The functions that make the move, and engine if the engine makes it.';
COMMENT ON COLUMN eda.lifecycle.happens IS 'When the move is made.';

COMMENT ON COLUMN eda.event_state.id IS 'Id of the event.';
COMMENT ON COLUMN eda.event_state.event_id IS
	'Id of the event, under the name that the functions use.';
COMMENT ON COLUMN eda.event_state.event_type IS 'Name of the event type.';
COMMENT ON COLUMN eda.event_state.flow_type IS
	'Name of the queue from which workers acquire the event.';
COMMENT ON COLUMN eda.event_state.flow_id IS
	'Id of the business transaction that the event belongs to.';
COMMENT ON COLUMN eda.event_state.state IS 'Current state of the event.';
COMMENT ON COLUMN eda.event_state.prev_state IS
	'State before the current transition; null: the event is new.';
COMMENT ON COLUMN eda.event_state.version IS 'Number of the current transition.';
COMMENT ON COLUMN eda.event_state.attempt IS
	'How many times the event has been acquired, without the attempts that workers handed back.';
COMMENT ON COLUMN eda.event_state.attempts_left IS
	'How many more times the event may be acquired.';
COMMENT ON COLUMN eda.event_state.attempts_failed IS
	'How many attempts have ended with an error or a lost lease since the last redrive.';
COMMENT ON COLUMN eda.event_state.attempt_scheduled_at IS
	'When the current or next attempt was scheduled to begin.';
COMMENT ON COLUMN eda.event_state.attempt_due_at IS
	'When the dispatch timeout or the lease ends; null: the event is neither dispatched nor '
	'being processed.';
COMMENT ON COLUMN eda.event_state.lease_until IS
	'When the lease of the worker ends; null: the event is not being processed.';
COMMENT ON COLUMN eda.event_state.token IS
	'Token of the lease; null: the event is not being processed.';
COMMENT ON COLUMN eda.event_state.wake_at IS 'Next deadline of the event; null: none.';
COMMENT ON COLUMN eda.event_state.expires_at IS
	'When the event expires, unless it is being processed then; null: never.';
COMMENT ON COLUMN eda.event_state.suspended_by IS
	'Who suspended the event: type, operator or worker; null: it is not suspended.';
COMMENT ON COLUMN eda.event_state.worker IS
	'Who made the current transition; null: the publisher.';
COMMENT ON COLUMN eda.event_state.error IS 'Error of the current transition, if it has one.';
COMMENT ON COLUMN eda.event_state.detail IS
	'JSON object with the error, stack, result, progress and reason of the current transition.';
COMMENT ON COLUMN eda.event_state.payload IS 'What the publisher tells the worker, as JSON.';
COMMENT ON COLUMN eda.event_state.headers IS 'Strings that go to the worker with the event.';
COMMENT ON COLUMN eda.event_state.correlation_id IS
	'Text that the event shares with its parent and its spinoff and on-fail events.';
COMMENT ON COLUMN eda.event_state.parent_id IS
	'Id of the event whose success or failure published this event, or that the publisher named.';
COMMENT ON COLUMN eda.event_state.on_fail_event_type IS
	'Event type to publish if this event fails; empty: none; null: that of its event type.';
COMMENT ON COLUMN eda.event_state.created_at IS 'When the event was published.';
COMMENT ON COLUMN eda.event_state.changed_at IS 'When the current transition was made.';

COMMENT ON COLUMN eda.dead_letter.id IS 'Id of the event.';
COMMENT ON COLUMN eda.dead_letter.event_id IS
	'Id of the event, under the name that the functions use.';
COMMENT ON COLUMN eda.dead_letter.event_type IS 'Name of the event type.';
COMMENT ON COLUMN eda.dead_letter.flow_type IS
	'Name of the queue from which workers acquired the event.';
COMMENT ON COLUMN eda.dead_letter.flow_id IS
	'Id of the business transaction that the event belongs to.';
COMMENT ON COLUMN eda.dead_letter.state IS 'State of the event: failed or expired.';
COMMENT ON COLUMN eda.dead_letter.died_at IS 'When the event failed or expired.';
COMMENT ON COLUMN eda.dead_letter.attempt IS
	'How many times the event was acquired, without the attempts that workers handed back.';
COMMENT ON COLUMN eda.dead_letter.error IS 'Error with which the event ended, if it has one.';
COMMENT ON COLUMN eda.dead_letter.stack IS 'Stack trace of that error, if the worker gave one.';
COMMENT ON COLUMN eda.dead_letter.payload IS 'What the publisher told the worker, as JSON.';
COMMENT ON COLUMN eda.dead_letter.headers IS 'Strings that went to the worker with the event.';
COMMENT ON COLUMN eda.dead_letter.correlation_id IS
	'Text that the event shares with its parent and its spinoff and on-fail events.';
COMMENT ON COLUMN eda.dead_letter.parent_id IS
	'Id of the event whose success or failure published this event, or that the publisher named.';
COMMENT ON COLUMN eda.dead_letter.created_at IS 'When the event was published.';

COMMENT ON COLUMN eda.error_log.at IS 'When the transition was made.';
COMMENT ON COLUMN eda.error_log.event_id IS 'Id of the event.';
COMMENT ON COLUMN eda.error_log.event_type IS 'Name of the event type.';
COMMENT ON COLUMN eda.error_log.flow_type IS
	'Name of the queue from which workers acquire the event.';
COMMENT ON COLUMN eda.error_log.flow_id IS
	'Id of the business transaction that the event belongs to.';
COMMENT ON COLUMN eda.error_log.attempt IS 'Number of the attempt.';
COMMENT ON COLUMN eda.error_log.version IS 'Number of the transition that has the error.';
COMMENT ON COLUMN eda.error_log.moved_to IS 'State that the transition led to.';
COMMENT ON COLUMN eda.error_log.worker IS
	'Name of the worker whose attempt failed; engine: the lease ran out, or the event was not '
	'delivered.';
COMMENT ON COLUMN eda.error_log.error IS 'The error.';
COMMENT ON COLUMN eda.error_log.stack IS 'Stack trace of the error, if the worker gave one.';

COMMENT ON COLUMN eda.queue_metrics.flow_type IS 'Name of the event type''s queue.';
COMMENT ON COLUMN eda.queue_metrics.event_type IS 'Name of the event type.';
COMMENT ON COLUMN eda.queue_metrics.state IS
	'A state; each event type has one row for each state.';
COMMENT ON COLUMN eda.queue_metrics.events IS 'How many events of the type are in the state.';
COMMENT ON COLUMN eda.queue_metrics.last_minute IS
	'How many events of the type came to the state in the last minute.';
COMMENT ON COLUMN eda.queue_metrics.oldest_due_age IS
	'How long the event type''s oldest due event has waited for the engine or a worker; null in '
	'all rows but awaiting_processing and dispatched, and in those if the state has no event.';

COMMENT ON COLUMN eda.engine_status.state IS
	'running; paused or off (see the setting eda.engine); idle, with the reason; starting; or '
	'not running.';
COMMENT ON COLUMN eda.engine_status.pid IS 'Process id of the engine; null: no engine runs.';
COMMENT ON COLUMN eda.engine_status.started_at IS 'When the engine process started.';
COMMENT ON COLUMN eda.engine_status.last_tick_at IS 'When the last tick ended, by eda.clock().';
COMMENT ON COLUMN eda.engine_status.ticks IS
	'How many ticks the engine has made since it started.';
COMMENT ON COLUMN eda.engine_status.transitions_read IS
	'How many transitions the engine has read since it started.';
COMMENT ON COLUMN eda.engine_status.transitions_made IS
	'How many transitions the engine has made since it started.';
COMMENT ON COLUMN eda.engine_status.last_tick_ms IS 'Duration of the last tick in milliseconds.';
COMMENT ON COLUMN eda.engine_status.max_tick_ms IS
	'Duration in milliseconds of the longest tick since the engine started.';
COMMENT ON COLUMN eda.engine_status.total_tick_ms IS
	'Sum in milliseconds of the durations of all ticks since the engine started.';
COMMENT ON COLUMN eda.engine_status.queued IS
	'How many events are in the ready queue: dispatched, and not yet handed to a worker.';
COMMENT ON COLUMN eda.engine_status.handed_out IS
	'How many events workers have taken from the ready queue without having committed their '
	'acquire yet.';
COMMENT ON COLUMN eda.engine_status.waiting_workers IS
	'How many workers wait in eda.acquire_next().';
COMMENT ON COLUMN eda.engine_status.parked IS
	'How many events the engine could not move because an open transaction has locked them.';
COMMENT ON COLUMN eda.engine_status.held_back IS
	'How many events the engine could not move because the move raised an error.  It tries them '
	'again from time to time.';
COMMENT ON COLUMN eda.engine_status.last_error IS
	'Message of the last error in a move or in the feed, kept when the engine restarts.';
COMMENT ON COLUMN eda.engine_status.last_error_at IS 'When the last error was raised.';
COMMENT ON COLUMN eda.engine_status.broker IS
	'State of the connection to the broker.  off: eda.nats_url is not set; connecting; ready; '
	'unreachable; refused: the broker does not let the engine in; blocked: the stream accepts no '
	'messages.';
COMMENT ON COLUMN eda.engine_status.broker_server IS
	'Address and version of the NATS server that the engine is connected to.';
COMMENT ON COLUMN eda.engine_status.broker_error IS
	'Why the broker is not ready; if it is ready, why it was not the last time.';
COMMENT ON COLUMN eda.engine_status.broker_notice IS
	'In what the stream differs from the settings, or which subject of an event type it does not '
	'accept.';
COMMENT ON COLUMN eda.engine_status.broker_unacknowledged IS
	'How many messages the broker has not acknowledged yet.';
COMMENT ON COLUMN eda.engine_status.broker_published IS
	'How many messages the broker has acknowledged since the engine started.';
COMMENT ON COLUMN eda.engine_status.broker_resent IS
	'How many messages the engine sent again because no acknowledgement came.';
COMMENT ON COLUMN eda.engine_status.broker_reconnects IS
	'How many times the engine has connected to the broker again since it started.';
