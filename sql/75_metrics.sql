/* ------------------------------------------------------------------------
 * Metrics for Prometheus
 *
 * All metrics come from the engine's counters, and none from the log, so that
 * their cost does not depend on the size of the log.  An event type that the
 * engine has not counted yet (the engine has just started, or the event type is
 * new) has no samples, rather than samples of zero.
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda_http.metrics() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	WITH engine AS MATERIALIZED (
		SELECT * FROM eda.engine_info()
	), counted AS MATERIALIZED (
		SELECT concat('{flow_type="', et.flow_type, '",event_type="', et.event_type, '"') AS labels,
			et.suspended, m.counts, m.oldest_due_at, c.*
		FROM eda.event_type et
		JOIN eda.type_metrics() m ON m.type = et.id
		JOIN eda.type_counters() c ON c.type = et.id
		ORDER BY et.flow_type, et.event_type
	), by_state AS MATERIALIZED (
		SELECT concat(c.labels, ',state="', s.state, '"} ') AS labels, c.counts[s.n] AS events, c.transitions[s.n]
		FROM counted c CROSS JOIN unnest(enum_range(NULL::eda.state)) WITH ORDINALITY s(state, n)
	), by_type AS (
		SELECT v.name, concat(v.name, c.labels, '} ', v.value, E'\n') AS sample
		FROM counted c
		CROSS JOIN LATERAL (VALUES
			('eda_event_type_suspended', c.suspended::integer::numeric),
			('eda_oldest_due_age_seconds', CASE WHEN c.oldest_due_at IS NULL OR c.counts[1] + c.counts[2] = 0 THEN 0
				ELSE greatest(extract(epoch FROM eda.clock() - c.oldest_due_at), 0) END),
			('eda_attempts_total', c.attempts),
			('eda_retries_total', c.retries),
			('eda_expiries_total', c.transitions[7]),
			('eda_rescues_total', c.rescues),
			('eda_redrives_total', c.redrives)) v(name, value)
	), by_time AS (
		SELECT h.name, concat(
			(SELECT string_agg(concat(h.name, '_bucket', c.labels, ',le="',
				CASE WHEN b.bound = 'infinity' THEN '+Inf' ELSE b.bound::text END, '"} ', b.n, E'\n'), '')
			 FROM unnest(c.bounds, h.counts) b(bound, n)),
			h.name, '_sum', c.labels, '} ', h.sum, E'\n',
			h.name, '_count', c.labels, '} ', h.counts[cardinality(h.counts)], E'\n') AS sample
		FROM counted c
		CROSS JOIN LATERAL (VALUES
			('eda_due_to_acquired_seconds', c.due_to_acquired, c.due_to_acquired_sum),
			('eda_acquired_to_done_seconds', c.acquired_to_done, c.acquired_to_done_sum)) h(name, counts, sum)
	), single AS (
		SELECT v.name, concat(v.name, ' ', v.value, E'\n') AS sample
		FROM engine e
		CROSS JOIN LATERAL (VALUES
			('eda_engine_up', (e.state IN ('running', 'paused'))::integer::double precision),
			('eda_engine_paused', (e.state = 'paused')::integer),
			('eda_engine_start_time_seconds', extract(epoch FROM e.started_at)),
			('eda_engine_last_tick_time_seconds', extract(epoch FROM e.last_tick_at)),
			('eda_engine_ticks_total', e.ticks),
			('eda_engine_tick_seconds_total', e.total_tick_ms / 1000),
			('eda_engine_last_tick_seconds', e.last_tick_ms / 1000),
			('eda_engine_longest_tick_seconds', e.max_tick_ms / 1000),
			('eda_engine_transitions_read_total', e.transitions_read),
			('eda_engine_transitions_made_total', e.transitions_made),
			('eda_queue_queued', e.queued),
			('eda_queue_handed_out', e.handed_out),
			('eda_queue_waiting_workers', e.waiting_workers),
			('eda_queue_parked', e.parked),
			('eda_queue_held_back', e.held_back),
			('eda_broker_unacknowledged', e.broker_unacknowledged),
			('eda_broker_published_total', e.broker_published),
			('eda_broker_resent_total', e.broker_resent),
			('eda_broker_reconnects_total', e.broker_reconnects)) v(name, value)
		WHERE v.value IS NOT NULL
	), sample (name, sample) AS (
		SELECT 'eda_info', format(E'eda_info{database="%s",version="%s"} 1\n',
			replace(replace(replace(current_database(), E'\\', E'\\\\'), '"', E'\\"'), E'\n', E'\\n'), eda.library_version())
		UNION ALL SELECT 'eda_broker_state', concat('eda_broker_state{state="', s.state, '"} ', (s.state = e.broker)::integer, E'\n')
		FROM engine e CROSS JOIN unnest('{off,connecting,ready,unreachable,refused,blocked}'::text[]) s(state)
		UNION ALL SELECT 'eda_events', concat('eda_events', s.labels, s.events, E'\n') FROM by_state s
		UNION ALL SELECT 'eda_transitions_total', concat('eda_transitions_total', s.labels, s.transitions, E'\n') FROM by_state s
		UNION ALL SELECT * FROM by_type
		UNION ALL SELECT * FROM by_time
		UNION ALL SELECT * FROM single
	)
	SELECT string_agg(concat('# HELP ', f.name, ' ', f.help, E'\n# TYPE ', f.name, ' ', f.kind, E'\n', s.samples), '' ORDER BY f.n)
	FROM (VALUES
		(1, 'eda_info', 'gauge', 'Always 1; its labels are the name of the database and the version of eda.'),
		(2, 'eda_engine_up', 'gauge', '1 if the engine runs or is paused, else 0.'),
		(3, 'eda_engine_paused', 'gauge', '1 if the setting eda.engine pauses the engine, else 0.'),
		(4, 'eda_engine_start_time_seconds', 'gauge', 'When the engine started, in Unix time; all counters start from zero then.'),
		(5, 'eda_engine_last_tick_time_seconds', 'gauge', 'When the engine''s last tick ended, in Unix time; the engine ticks at least once a second.'),
		(6, 'eda_engine_ticks_total', 'counter', 'Ticks of the engine: rounds of its main loop.'),
		(7, 'eda_engine_tick_seconds_total', 'counter', 'Sum of the durations of all ticks.'),
		(8, 'eda_engine_last_tick_seconds', 'gauge', 'Duration of the last tick.'),
		(9, 'eda_engine_longest_tick_seconds', 'gauge', 'Duration of the longest tick since the engine started.'),
		(10, 'eda_engine_transitions_read_total', 'counter', 'Transitions that the engine has read.'),
		(11, 'eda_engine_transitions_made_total', 'counter', 'Transitions that the engine has made.'),
		(12, 'eda_events', 'gauge', 'How many events are in each state.'),
		(13, 'eda_event_type_suspended', 'gauge', '1 if the event type is suspended, else 0.'),
		(14, 'eda_oldest_due_age_seconds', 'gauge', 'How long the oldest event that waits for the engine or a worker has been due; 0 if no event waits.'),
		(15, 'eda_transitions_total', 'counter', 'Transitions to each state; a heartbeat is a transition to being_processed.'),
		(16, 'eda_attempts_total', 'counter', 'Attempts that began, each by an acquire.'),
		(17, 'eda_retries_total', 'counter', 'Attempts that failed or lost their lease, and after which the event is tried again.'),
		(18, 'eda_expiries_total', 'counter', 'Events that expired.'),
		(19, 'eda_rescues_total', 'counter', 'Attempts that the engine ended because their lease ran out.'),
		(20, 'eda_redrives_total', 'counter', 'Dead letters that were redriven.'),
		(21, 'eda_due_to_acquired_seconds', 'histogram', 'Time from when an event was due until a worker acquired it.'),
		(22, 'eda_acquired_to_done_seconds', 'histogram', 'Time from an acquire to the end of the attempt: by success, failure, release, suspension, cancel or a lost lease.'),
		(23, 'eda_queue_queued', 'gauge', 'Events in the ready queue: dispatched, and not yet handed to a worker.'),
		(24, 'eda_queue_handed_out', 'gauge', 'Events that workers have taken from the ready queue without having committed their acquire yet.'),
		(25, 'eda_queue_waiting_workers', 'gauge', 'Workers that wait in eda.acquire_next().'),
		(26, 'eda_queue_parked', 'gauge', 'Events that the engine could not move because an open transaction has locked them.'),
		(27, 'eda_queue_held_back', 'gauge', 'Events that the engine could not move because the move raised an error.'),
		(28, 'eda_broker_state', 'gauge', '1 for the state of the connection to the broker, 0 for the other states.'),
		(29, 'eda_broker_unacknowledged', 'gauge', 'Messages that the broker has not acknowledged yet.'),
		(30, 'eda_broker_published_total', 'counter', 'Messages that the broker has acknowledged.'),
		(31, 'eda_broker_resent_total', 'counter', 'Messages sent again because no acknowledgement came.'),
		(32, 'eda_broker_reconnects_total', 'counter', 'How many times the engine has connected to the broker again.')
	) f(n, name, kind, help)
	JOIN (SELECT name, string_agg(sample, '') AS samples FROM sample GROUP BY name) s USING (name);
$$;
COMMENT ON FUNCTION eda_http.metrics() IS
	'GET /metrics: return the engine''s counters in Prometheus'' text format.';
