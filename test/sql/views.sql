-- The views and eda.history() show the state of an event, its history, the dead letters and the counts.
SELECT count(*) FROM eda.configure('VIEW_CHILD', 'view', attempt_delays => '{1 day}');
SELECT count(*) FROM eda.configure('VIEW', 'view', max_attempts => 2, lifespan => '1 day', attempt_delays => '{0 s, 1 hour}', lease => '5 min');
SELECT eda.publish('VIEW', 'v 1', '{"p": 1}', headers => '{"h": "1"}', correlation_id => 'c 1') AS id \gset
SELECT t.reach(:'id', 'dispatched');
\x on
-- dispatched
SELECT id = :'id' AND event_id = id AS ids, event_type, flow_type, flow_id, state, prev_state, version, attempt, attempts_left, attempts_failed,
	attempt_scheduled_at = created_at AS scheduled, attempt_due_at = wake_at AS due, round(extract(epoch FROM attempt_due_at - changed_at)) AS dispatch_timeout, lease_until, token,
	expires_at - created_at AS lifespan, suspended_by, worker, error, detail, payload, headers, correlation_id, parent_id, on_fail_event_type,
	changed_at >= created_at AS changed
FROM eda.event_state WHERE id = :'id';
SELECT token FROM eda.acquire(:'id', worker => 'w') \gset
-- being processed
SELECT state, prev_state, version, attempt, attempts_left, attempts_failed, attempt_scheduled_at = created_at AS scheduled,
	attempt_due_at = lease_until AND lease_until = wake_at AS until, round(extract(epoch FROM lease_until - changed_at)) AS lease, token, worker, error, detail
FROM eda.event_state WHERE id = :'id';
SELECT eda.fail(:'id', 'broken', 'in line 7', token => :token);
-- waiting for the next attempt
SELECT state, prev_state, version, attempt, attempts_left, attempts_failed, attempt_scheduled_at = wake_at AS scheduled, attempt_due_at,
	round(extract(epoch FROM wake_at - changed_at)) AS delay, lease_until, token, worker, error, detail
FROM eda.event_state WHERE id = :'id';
SELECT eda.cancel(:'id');
-- final
SELECT state, prev_state, version, attempt, attempts_left, attempts_failed, attempt_due_at, wake_at, lease_until, token, error, detail
FROM eda.event_state WHERE id = :'id';
-- history
SELECT version, state, prev_state, at IS NOT NULL AS at, took >= '0' AS took, attempt, token, wake_at IS NOT NULL AS wakes,
	expires_at IS NOT NULL AS expires, worker, suspended_by, detail
FROM eda.history(:'id');
\x off
-- A condition on id or event_id uses the primary key of each of the 17 leaves.
CREATE FUNCTION t.plan(query text) RETURNS SETOF text LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
	RETURN QUERY EXECUTE 'EXPLAIN (COSTS off) ' || query;
END $$;
SELECT view, name, count(*) FILTER (WHERE line ~ 'Index Cond: \(id = ''') AS look_ups
FROM unnest('{event_state,dead_letter}'::text[]) view, unnest('{id,event_id}'::text[]) name,
	t.plan(format('SELECT * FROM eda.%I WHERE %I = ''01890000-0000-7000-8000-000000000000''', view, name)) line
GROUP BY 1, 2 ORDER BY 1 DESC, 2;
SELECT count(*) FROM eda.history('01890000-0000-7000-8000-000000000000');
SELECT count(*) FROM eda.history(NULL);
-- dead letters and errors
CALL t.take('VIEW', 'v failed') \gset
SELECT eda.fail(:'id', 'hopeless', 'in line 8', token => :token, retry => false);
SELECT eda.publish('VIEW', 'v expired', scheduled_at => eda.clock() + interval '1 hour') AS expired \gset
SELECT eda.publish('VIEW', 'v redriven', scheduled_at => eda.clock() + interval '1 hour') AS redriven \gset
SELECT eda.move_clock('26 hours') IS NOT NULL AS moved;
SELECT t.reach(:'expired', 'expired'), t.reach(:'redriven', 'expired');
SELECT eda.redrive(:'redriven');
SELECT event_type, flow_type, flow_id, state, died_at > created_at AS died, attempt, error, stack, payload, correlation_id
FROM eda.dead_letter WHERE event_type = 'VIEW' ORDER BY flow_id;
SELECT event_type, flow_type, flow_id, attempt, version, moved_to, worker, error, stack
FROM eda.error_log WHERE event_type = 'VIEW' ORDER BY flow_id, version;
SELECT eda.cancel(:'redriven');
SELECT eda.move_clock('0') IS NOT NULL AS moved;

-- the counters equal a recount of the log, with all that other tests have done in this database
CREATE FUNCTION t.miscounted(OUT event_type text, OUT state text, OUT counted bigint, OUT is bigint) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT m.event_type, m.state, m.events, coalesce(r.n, 0)
	FROM eda.queue_metrics m
	LEFT JOIN (SELECT s.event_type, s.state, count(*) AS n FROM eda.event_state s GROUP BY 1, 2) r USING (event_type, state)
	WHERE m.events <> coalesce(r.n, 0) ORDER BY 1, 2;
$$;
SELECT t.until('NOT EXISTS (SELECT FROM t.miscounted())');
SELECT * FROM t.miscounted();
SELECT count(*) = 8 * (SELECT count(*) FROM eda.event_type) AS every_state_of_every_type FROM eda.queue_metrics;
-- the rates, and how long the oldest event has waited
SELECT count(*) FROM eda.configure('VIEW_RATE', 'view_rate', max_in_flight => 1);
SELECT cardinality(eda.publish_many('VIEW_RATE', '{r 1, r 2, r 3}'));
SELECT t.until($$(SELECT events FROM eda.queue_metrics WHERE event_type = 'VIEW_RATE' AND state = 'dispatched') = 1$$);
SELECT state, events, last_minute, oldest_due_age BETWEEN '0' AND '5 min' AS oldest FROM eda.queue_metrics WHERE event_type = 'VIEW_RATE';
SELECT eda.move_clock('10 min') IS NOT NULL AS moved;
SELECT t.until($$(SELECT oldest_due_age FROM eda.queue_metrics WHERE event_type = 'VIEW_RATE' AND state = 'awaiting_processing')
	BETWEEN '9 min 30 s' AND '20 min'$$);
SELECT eda.move_clock('0') IS NOT NULL AS moved;
SELECT count(eda.cancel(id)) FROM eda.event WHERE event_type = 'VIEW_RATE';

-- An event type behind another one in its queue has an age of its own.
SELECT count(*) FROM eda.configure('VIEW_FIRST', 'view_share') a, eda.configure('VIEW_SECOND', 'view_share') b;
SELECT eda.publish('VIEW_FIRST', 's') IS NOT NULL AS first;
SELECT eda.publish('VIEW_SECOND', 's') IS NOT NULL AS second;
SELECT t.until($$(SELECT count(*) FROM eda.queue_metrics WHERE flow_type = 'view_share' AND state = 'dispatched' AND oldest_due_age > '0') = 2$$);
SELECT count(eda.cancel(id)) FROM eda.event WHERE flow_type = 'view_share';

-- the engine
SELECT state, pid IS NOT NULL AS pid, started_at IS NOT NULL AS started, last_tick_at IS NOT NULL AS last_tick, ticks > 0 AS ticks,
	transitions_read > 0 AS read, transitions_made > 0 AS made, last_tick_ms >= 0 AS last_ms, max_tick_ms >= last_tick_ms AS max_ms,
	queued >= 0 AS queued, handed_out, waiting_workers, parked, held_back, last_error, last_error_at,
	broker, broker_server, broker_error, broker_notice, broker_unacknowledged, broker_published, broker_resent, broker_reconnects
FROM eda.engine_status;
SELECT eda.library_version() = extversion AS same FROM pg_extension WHERE extname = 'eda';
