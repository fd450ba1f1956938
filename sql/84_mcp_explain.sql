/* ------------------------------------------------------------------------
 * The tool explain_event of the Model Context Protocol: the explanation of an
 * event, as data and in words
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda_http.mcp_span(span interval) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN (
	SELECT CASE
		WHEN s < 1 THEN round(s * 1000) || ' ms'
		WHEN s < 120 THEN round(s) || ' s'
		WHEN s < 7200 THEN round(s / 60) || ' min'
		WHEN s < 172800 THEN round(s / 3600) || ' h'
		ELSE round(s / 86400) || ' days' END
	FROM abs(extract(epoch FROM span)) s);
COMMENT ON FUNCTION eda_http.mcp_span(interval) IS
	'Return an interval in one unit, rounded, such as 15 ms, 90 s, 5 min, 3 h or 12 days.';

CREATE FUNCTION eda_http.mcp_time(at timestamptz, now timestamptz) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC ('
	|| CASE WHEN at > now THEN 'in ' || eda_http.mcp_span(at - now) ELSE eda_http.mcp_span(now - at) || ' ago' END || ')';
COMMENT ON FUNCTION eda_http.mcp_time(timestamptz, timestamptz) IS
	'Return a time in UTC, and its distance from now, such as 2030-12-31 23:59:59 UTC (in 5 '
	'min).';

CREATE FUNCTION eda_http.mcp_explain(event_id uuid) RETURNS json
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	shown CONSTANT integer := 20;		-- attempts
	most CONSTANT integer := 1000;		-- characters of an error or reason
	e jsonb := (eda_http.event(mcp_explain.event_id)).body;
	id text := e ->> 'event_id';
	now CONSTANT timestamptz := eda.clock();
	state CONSTANT text := e ->> 'state';
	prev_state CONSTANT text := e ->> 'prev_state';
	wake_at CONSTANT timestamptz := e ->> 'wake_at';
	expires_at CONSTANT timestamptz := e ->> 'expires_at';
	attempt CONSTANT integer := e -> 'attempt';
	attempts_left CONSTANT integer := e -> 'attempts_left';
	final CONSTANT boolean := state IN ('succeeded', 'failed', 'expired', 'canceled');
	due CONSTANT boolean := state = 'awaiting_processing' AND wake_at <= now;
	-- of the current transition: who made it, its error, and its reason
	who CONSTANT text := coalesce(e ->> 'worker', 'unknown');
	error CONSTANT text := left(e ->> 'error', most);
	reason CONSTANT text := coalesce(': ' || left(e #>> '{detail,reason}', most), '');
	rules eda.event_type;
	engine record;
	in_flight bigint;
	attempts json;
	attempts_begun integer;
	why text;
	next_what text;
	next_by text;
	next_at timestamptz := wake_at;
	obstacles text[] := '{}';
	followed_by json;
	options json[] := '{}';
BEGIN
	SELECT t.* INTO rules FROM eda.event_type t WHERE t.event_type = e ->> 'event_type';
	SELECT s.state, s.broker, s.broker_error INTO engine FROM eda.engine_status s;
	SELECT sum(m.events) INTO in_flight FROM eda.queue_metrics m
	WHERE m.event_type = rules.event_type AND m.state IN ('dispatched', 'being_processed');

	WITH step AS MATERIALIZED (
		SELECT (h -> 'version')::integer AS version, h FROM jsonb_array_elements(e -> 'history') h
	), begun AS MATERIALIZED (
		SELECT version, h FROM step WHERE h ->> 'state' = 'being_processed' AND h ->> 'prev_state' <> 'being_processed'
	), last AS (
		SELECT * FROM begun ORDER BY version DESC LIMIT shown
	)
	SELECT (SELECT count(*) FROM begun),
		coalesce(json_agg(json_build_object('attempt', b.h -> 'attempt', 'worker', b.h -> 'worker', 'started_at', b.h -> 'at',
			'ended_at', ended.h -> 'at', 'ended_as', ended.h -> 'state', 'error', left(ended.h ->> 'error', most),
			'reason', left(ended.h ->> 'reason', most), 'stack', left(ended.h ->> 'stack', 4 * most)) ORDER BY b.version), '[]')
	INTO attempts_begun, attempts
	FROM last b
	LEFT JOIN LATERAL (
		SELECT s.h FROM step s WHERE s.version > b.version AND s.h ->> 'state' <> 'being_processed'
		ORDER BY s.version LIMIT 1) ended ON true;

	SELECT coalesce(json_agg(json_build_object('event_id', f -> 'event_id', 'event_type', f -> 'event_type',
		'state', f -> 'state')), '[]')
	INTO followed_by FROM jsonb_array_elements(e -> 'family') f WHERE f ->> 'parent_id' = id;

	-- Why the event is in its state.
	why := CASE state
		WHEN 'awaiting_processing' THEN CASE
			WHEN prev_state IS NULL THEN CASE WHEN due THEN 'The event was published and is due.'
				ELSE 'The event was published and is not due yet.' END
			WHEN prev_state = 'dispatched' THEN 'The event was dispatched, but no worker acquired it' || reason || '.'
			WHEN prev_state = 'being_processed' AND error IS NOT NULL THEN format('Attempt %s failed: %s%s.', attempt, error, reason)
			WHEN prev_state = 'being_processed' THEN
				format('Worker %s released the event, so that the attempt does not count%s.', who, reason)
			WHEN prev_state = 'suspended' THEN format('The event was suspended, and %s resumed it%s.', who, reason)
			ELSE format('The event had %s, and %s redrove it with all its attempts and its lifespan%s.', prev_state, who, reason) END
		WHEN 'dispatched' THEN CASE rules.delivery
			WHEN 'nats' THEN 'The event is due, and a message about it goes to the workers through NATS.'
			ELSE 'The event is due, and waits in the queue for a worker.' END
		WHEN 'being_processed' THEN
			format('Worker %s is processing the event, in attempt %s of %s.', who, attempt, attempt + attempts_left)
		WHEN 'succeeded' THEN format('Worker %s ended attempt %s with success.', who, attempt)
		WHEN 'failed' THEN format('%s%s.  %s', coalesce(error, 'The event failed'), reason, CASE
			WHEN prev_state = 'dispatched' THEN 'No worker could acquire the event.'
			WHEN attempts_left = 0 THEN format('That was attempt %s, and none is left.', attempt)
			ELSE format('That was attempt %s, and the worker reported that trying again is useless.', attempt) END)
		WHEN 'expired' THEN CASE prev_state
			WHEN 'being_processed' THEN format('The event would have had to wait for another attempt beyond its lifespan%s%s.',
				coalesce(': ' || error, ''), reason)
			ELSE format('The event expired while it was "%s"%s.', prev_state, reason) END
		WHEN 'suspended' THEN CASE e ->> 'suspended_by'
			WHEN 'type' THEN 'The event type was suspended when the event was due.'
			WHEN 'worker' THEN format('Worker %s suspended the event%s.', who, reason)
			ELSE format('%s suspended the event%s.', who, reason) END
		WHEN 'canceled' THEN format('%s canceled the event%s.', who, reason)
	END;

	-- What happens next, and who makes it happen.
	CASE
		WHEN final THEN
			next_by := 'nobody';
			next_at := NULL;
			next_what := CASE WHEN state IN ('failed', 'expired') THEN 'Nothing, unless the event is redriven: it is a dead letter.'
				ELSE 'Nothing: this state is final.' END;
		WHEN state = 'awaiting_processing' THEN
			next_by := 'engine';
			next_what := CASE WHEN due
				THEN format('The engine dispatches the event for attempt %s of %s.', attempt + 1, attempt + attempts_left)
				ELSE format('Attempt %s of %s is due %s.', attempt + 1, attempt + attempts_left, eda_http.mcp_time(wake_at, now)) END;
		WHEN state = 'dispatched' THEN
			next_by := 'worker';
			IF rules.delivery = 'nats' THEN
				next_what := format('A worker gets the message and acquires the event for attempt %s of %s.  '
					'Otherwise the message is sent again %s.', attempt + 1, attempt + attempts_left, eda_http.mcp_time(wake_at, now));
			ELSE
				next_at := NULL;
				next_what := format('A worker that asks for events of flow type "%s" acquires the event for attempt %s of %s.',
					rules.flow_type, attempt + 1, attempt + attempts_left);
			END IF;
		WHEN state = 'being_processed' THEN
			next_by := 'worker';
			next_what := format('The worker reports success or failure, or extends its lease.  The lease ends %s; '
				'then the engine ends the attempt%s.', eda_http.mcp_time(wake_at, now), CASE WHEN attempts_left > 0
				THEN format(' (attempts left: %s)', attempts_left) ELSE ', and as no attempt is left the event fails' END);
		WHEN e ->> 'suspended_by' = 'type' THEN
			next_by := CASE WHEN rules.suspended THEN 'operator' ELSE 'engine' END;
			next_what := CASE WHEN rules.suspended
				THEN format('The engine resumes the event when event type "%s" is unsuspended.', rules.event_type)
				ELSE 'The engine resumes the event.' END;
		WHEN wake_at IS NOT NULL THEN
			next_by := 'engine';
			next_what := format('The event waits to be resumed.  Its deadline is %s; then %s.', eda_http.mcp_time(wake_at, now),
				CASE rules.on_suspend_timeout WHEN 'resume' THEN 'the engine resumes it' ELSE 'it expires' END);
		ELSE
			next_by := 'operator';
			next_what := 'The event waits to be resumed; it has no deadline.';
	END CASE;
	IF NOT final AND state <> 'being_processed' AND expires_at IS NOT NULL THEN
		next_what := format('%s  The event expires %s, unless it is being processed then.', next_what,
			eda_http.mcp_time(expires_at, now));
	END IF;

	-- What prevents the next step.
	IF NOT final AND engine.state IS DISTINCT FROM 'running' THEN
		obstacles := obstacles || format('The engine is "%s": until it runs, it moves no event.', engine.state);
	END IF;
	IF rules.suspended AND state IN ('awaiting_processing', 'dispatched', 'suspended') THEN
		obstacles := obstacles || format('Event type "%s" is suspended: none of its events is dispatched or acquired.', rules.event_type);
	END IF;
	IF due AND in_flight >= rules.max_in_flight THEN
		obstacles := obstacles || format('Its event type has as many events dispatched or being processed as '
			'max_in_flight allows: %s.', in_flight);
	END IF;
	IF rules.delivery = 'nats' AND engine.broker IS DISTINCT FROM 'ready' AND (due OR state = 'dispatched') THEN
		obstacles := obstacles || format('The event is delivered through NATS, and the broker is "%s"%s.', engine.broker,
			coalesce(': ' || engine.broker_error, ''));
	END IF;
	IF due AND now - wake_at > interval '5 s' AND obstacles = '{}' THEN
		obstacles := obstacles || format('The event has been due for %s: older events of flow type "%s" are ahead of it, or an '
			'open transaction has locked it.', eda_http.mcp_span(now - wake_at), rules.flow_type);
	END IF;
	IF state = 'being_processed' AND wake_at < now - interval '5 s' THEN
		obstacles := obstacles || 'Its lease has ended, and the engine has not ended the attempt yet.'::text;
	END IF;

	-- What can be done.
	IF state = 'dispatched' THEN
		options := options || json_build_object('what', 'Process the event', 'tool', 'acquire_processing_permit',
			'arguments', json_build_object('event_id', id));
	ELSIF state = 'being_processed' THEN
		options := options || json_build_object('what', 'If you have its token, report success', 'tool', 'report_success',
			'arguments', json_build_object('event_id', id))
			|| json_build_object('what', 'If you have its token, report failure', 'tool', 'report_failure',
			'arguments', json_build_object('event_id', id));
	ELSIF state IN ('failed', 'expired') THEN
		options := options || json_build_object('what', 'When the cause is gone, redrive the event',
			'tool', 'redrive_event', 'arguments', json_build_object('event_id', id));
	ELSIF state = 'suspended' AND e ->> 'suspended_by' <> 'type' THEN
		options := options || json_build_object('what', 'Resume the event, with POST /api/events/' || id || '/resume or eda.resume() in SQL',
			'tool', NULL, 'arguments', NULL);
	END IF;
	IF rules.suspended AND state IN ('awaiting_processing', 'dispatched', 'suspended') THEN
		options := options || json_build_object('what', 'Unsuspend its event type', 'tool', 'unsuspend_event_type',
			'arguments', json_build_object('event_type', rules.event_type));
	END IF;
	IF NOT final THEN
		options := options || json_build_object('what', 'Cancel the event, with POST /api/events/' || id || '/cancel or eda.cancel() in SQL',
			'tool', NULL, 'arguments', NULL);
	END IF;

	RETURN json_build_object('event_id', id, 'event_type', rules.event_type, 'flow_type', rules.flow_type,
		'flow_id', e ->> 'flow_id', 'state', state, 'since', e -> 'changed_at', 'final', final, 'why', why,
		'next', json_build_object('what', next_what, 'by', next_by, 'at', next_at), 'obstacles', to_json(obstacles),
		'attempts_made', attempt, 'attempts_left', attempts_left, 'attempts', attempts,
		'attempts_not_shown', greatest(attempts_begun - shown, attempt - shown, 0), 'followed_by', followed_by,
		'options', array_to_json(options));
END $$;
COMMENT ON FUNCTION eda_http.mcp_explain(uuid) IS
	'Return the result of the tool explain_event as JSON: the state of the event and why it is '
	'in it, what happens next, what prevents that, its attempts, and what can be done.  Errors: '
	'ED004 no such event.';

CREATE FUNCTION eda_http.mcp_tell(explanation json) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	now CONSTANT timestamptz := eda.clock();
	said text := format(E'Event %s (%s, flow "%s" of "%s") is "%s" since %s.\n%s\nNext: %s', explanation ->> 'event_id',
		explanation ->> 'event_type', explanation ->> 'flow_id', explanation ->> 'flow_type', explanation ->> 'state',
		eda_http.mcp_time((explanation ->> 'since')::timestamptz, now), explanation ->> 'why', explanation #>> '{next,what}');
	x json;
BEGIN
	FOR x IN SELECT json_array_elements(explanation -> 'obstacles') LOOP
		said := said || E'\nObstacle: ' || (x #>> '{}');
	END LOOP;
	FOR x IN SELECT json_array_elements(explanation -> 'attempts') LOOP
		said := said || format(E'\nAttempt %s by %s, ', x ->> 'attempt', coalesce(x ->> 'worker', 'unknown')) || CASE
			WHEN x ->> 'ended_at' IS NULL
				THEN format('running for %s.', eda_http.mcp_span(now - (x ->> 'started_at')::timestamptz))
			ELSE format('for %s: %s%s.', eda_http.mcp_span((x ->> 'ended_at')::timestamptz - (x ->> 'started_at')::timestamptz),
				coalesce(x ->> 'error', CASE x ->> 'ended_as' WHEN 'awaiting_processing' THEN 'released'
					ELSE x ->> 'ended_as' END),
				coalesce(' (' || (x ->> 'reason') || ')', '')) END;
	END LOOP;
	FOR x IN SELECT json_array_elements(explanation -> 'followed_by') LOOP
		said := said || format(E'\nIt published event %s (%s), which is "%s".', x ->> 'event_id', x ->> 'event_type', x ->> 'state');
	END LOOP;
	FOR x IN SELECT json_array_elements(explanation -> 'options') LOOP
		said := said || E'\nYou can: ' || (x ->> 'what') || coalesce(': ' || (x ->> 'tool') || ' ' || (x ->> 'arguments'), '') || '.';
	END LOOP;
	RETURN said;
END $$;
COMMENT ON FUNCTION eda_http.mcp_tell(json) IS
	'Return the result of eda_http.mcp_explain() in words, one line for each statement.';
