/* ------------------------------------------------------------------------
 * The story of an event, for explain_event: as data, and in words
 * ------------------------------------------------------------------------ */

-- A length of time as one says it.
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
COMMENT ON FUNCTION eda_http.mcp_span(interval) IS 'A length of time as one says it.';

-- A time, and how far it is from now.
CREATE FUNCTION eda_http.mcp_time(at timestamptz, now timestamptz) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC ('
	|| CASE WHEN at > now THEN 'in ' || eda_http.mcp_span(at - now) ELSE eda_http.mcp_span(now - at) || ' ago' END || ')';
COMMENT ON FUNCTION eda_http.mcp_time(timestamptz, timestamptz) IS 'A time, and how far it is from now.';

CREATE FUNCTION eda_http.mcp_explain(event_id uuid) RETURNS json
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	shown CONSTANT integer := 20;		-- attempts
	most CONSTANT integer := 1000;		-- characters of an error
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
	-- who made the current step, what went wrong then, and the reason that was given
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

	-- Why it stands where it stands
	why := CASE state
		WHEN 'awaiting_processing' THEN CASE
			WHEN prev_state IS NULL THEN CASE WHEN due THEN 'It was published and is due.' ELSE 'It was published for later.' END
			WHEN prev_state = 'dispatched' THEN 'It was offered to workers and came back' || reason || '.'
			WHEN prev_state = 'being_processed' AND error IS NOT NULL THEN format('Attempt %s failed: %s%s.', attempt, error, reason)
			WHEN prev_state = 'being_processed' THEN format('Worker %s handed it back without using up the attempt%s.', who, reason)
			WHEN prev_state = 'suspended' THEN format('It was suspended, and let go on by %s%s.', who, reason)
			ELSE format('It had %s, and %s gave it its attempts and lifespan again%s.', prev_state, who, reason) END
		WHEN 'dispatched' THEN CASE rules.delivery WHEN 'nats' THEN 'It is due, and a message about it goes to the workers through NATS.'
			ELSE 'It is due, and stands in the queue for workers.' END
		WHEN 'being_processed' THEN format('Worker %s has it, for attempt %s of %s.', who, attempt, attempt + attempts_left)
		WHEN 'succeeded' THEN format('Worker %s finished attempt %s.', who, attempt)
		WHEN 'failed' THEN format('%s%s.  %s', coalesce(error, 'It failed'), reason, CASE
			WHEN prev_state = 'dispatched' THEN 'No worker could take it.'
			WHEN attempts_left = 0 THEN format('That was attempt %s, and none is left.', attempt)
			ELSE format('It was attempt %s; the worker said that trying again is useless.', attempt) END)
		WHEN 'expired' THEN CASE prev_state
			WHEN 'being_processed' THEN format('It would have had to wait for another attempt beyond its lifespan%s%s.',
				coalesce(': ' || error, ''), reason)
			ELSE format('Its time was over while it was "%s"%s.', prev_state, reason) END
		WHEN 'suspended' THEN CASE e ->> 'suspended_by'
			WHEN 'type' THEN 'Its event type is suspended, or was when it was due.'
			WHEN 'worker' THEN format('Worker %s set it aside, to wait for something outside%s.', who, reason)
			ELSE format('%s set it aside%s.', who, reason) END
		WHEN 'canceled' THEN format('%s canceled it%s.', who, reason)
	END;

	-- What happens next, by itself
	CASE
		WHEN final THEN
			next_by := 'nobody';
			next_at := NULL;
			next_what := CASE WHEN state IN ('failed', 'expired') THEN 'Nothing, unless it is redriven: it is a dead letter.'
				ELSE 'Nothing: this is final.' END;
		WHEN state = 'awaiting_processing' THEN
			next_by := 'engine';
			next_what := CASE WHEN due
				THEN format('The engine dispatches it for attempt %s of %s.', attempt + 1, attempt + attempts_left)
				ELSE format('Attempt %s of %s is due %s.', attempt + 1, attempt + attempts_left, eda_http.mcp_time(wake_at, now)) END;
		WHEN state = 'dispatched' THEN
			next_by := 'worker';
			IF rules.delivery = 'nats' THEN
				next_what := format('A worker that gets the message acquires it for attempt %s of %s; else the message goes out again %s.',
					attempt + 1, attempt + attempts_left, eda_http.mcp_time(wake_at, now));
			ELSE
				next_at := NULL;
				next_what := format('A worker that asks for events of "%s" acquires it for attempt %s of %s.', rules.flow_type,
					attempt + 1, attempt + attempts_left);
			END IF;
		WHEN state = 'being_processed' THEN
			next_by := 'worker';
			next_what := format('The worker reports success or failure, or extends its lease.  The lease ends %s; '
				'then the engine takes the event back%s.', eda_http.mcp_time(wake_at, now), CASE WHEN attempts_left > 0 THEN format(' (attempts left: %s)', attempts_left)
				ELSE ', and as no attempt is left it fails' END);
		WHEN e ->> 'suspended_by' = 'type' THEN
			next_by := CASE WHEN rules.suspended THEN 'operator' ELSE 'engine' END;
			next_what := CASE WHEN rules.suspended THEN format('It goes on when event type "%s" is unsuspended.', rules.event_type)
				ELSE 'The engine lets it go on.' END;
		WHEN wake_at IS NOT NULL THEN
			next_by := 'engine';
			next_what := format('It waits to be resumed.  Its deadline is %s; then it %s.', eda_http.mcp_time(wake_at, now),
				CASE rules.on_suspend_timeout WHEN 'resume' THEN 'goes on by itself' ELSE 'expires' END);
		ELSE
			next_by := 'operator';
			next_what := 'It waits to be resumed; it has no deadline.';
	END CASE;
	IF NOT final AND state <> 'being_processed' AND expires_at IS NOT NULL THEN
		next_what := format('%s  It expires %s if it is then waiting.', next_what, eda_http.mcp_time(expires_at, now));
	END IF;

	-- What is in its way
	IF NOT final AND engine.state IS DISTINCT FROM 'running' THEN
		obstacles := obstacles || format('The engine is "%s": nothing is dispatched, taken back or expired until it runs.', engine.state);
	END IF;
	IF rules.suspended AND state IN ('awaiting_processing', 'dispatched', 'suspended') THEN
		obstacles := obstacles || format('Event type "%s" is suspended: nothing of it is dispatched or acquired.', rules.event_type);
	END IF;
	IF due AND in_flight >= rules.max_in_flight THEN
		obstacles := obstacles || format('As many events of its type are in flight as its max_in_flight allows: %s.', in_flight);
	END IF;
	IF rules.delivery = 'nats' AND engine.broker IS DISTINCT FROM 'ready' AND (due OR state = 'dispatched') THEN
		obstacles := obstacles || format('It is delivered through NATS, and the broker is "%s"%s.', engine.broker,
			coalesce(': ' || engine.broker_error, ''));
	END IF;
	IF due AND now - wake_at > interval '5 s' AND obstacles = '{}' THEN
		obstacles := obstacles || format('It has been due for %s: older events of "%s" are before it, or an open '
			'transaction has written to it.', eda_http.mcp_span(now - wake_at), rules.flow_type);
	END IF;
	IF state = 'being_processed' AND wake_at < now - interval '5 s' THEN
		obstacles := obstacles || 'Its lease is over, and the engine has not taken it back yet.'::text;
	END IF;

	-- What one can do
	IF state = 'dispatched' THEN
		options := options || json_build_object('what', 'Process it', 'tool', 'acquire_processing_permit',
			'arguments', json_build_object('event_id', id));
	ELSIF state = 'being_processed' THEN
		options := options || json_build_object('what', 'If you have its token, say that it is done', 'tool', 'report_success',
			'arguments', json_build_object('event_id', id))
			|| json_build_object('what', 'If you have its token, say that it failed', 'tool', 'report_failure',
			'arguments', json_build_object('event_id', id));
	ELSIF state IN ('failed', 'expired') THEN
		options := options || json_build_object('what', 'When the cause is gone, give it its attempts and lifespan again',
			'tool', 'redrive_event', 'arguments', json_build_object('event_id', id));
	ELSIF state = 'suspended' AND e ->> 'suspended_by' <> 'type' THEN
		options := options || json_build_object('what', 'Let it go on, with POST /api/events/' || id || '/resume or eda.resume() in SQL',
			'tool', NULL, 'arguments', NULL);
	END IF;
	IF rules.suspended AND state IN ('awaiting_processing', 'dispatched', 'suspended') THEN
		options := options || json_build_object('what', 'Let its event type go on', 'tool', 'unsuspend_event_type',
			'arguments', json_build_object('event_type', rules.event_type));
	END IF;
	IF NOT final THEN
		options := options || json_build_object('what', 'End it, with POST /api/events/' || id || '/cancel or eda.cancel() in SQL',
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
	'The story of an event: where it stands and why, what is next, what is in the way, what went wrong, what one can do.';

CREATE FUNCTION eda_http.mcp_tell(story json) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	now CONSTANT timestamptz := eda.clock();
	said text := format(E'Event %s (%s, flow "%s" of "%s") is "%s" since %s.\n%s\nNext: %s', story ->> 'event_id',
		story ->> 'event_type', story ->> 'flow_id', story ->> 'flow_type', story ->> 'state',
		eda_http.mcp_time((story ->> 'since')::timestamptz, now), story ->> 'why', story #>> '{next,what}');
	x json;
BEGIN
	FOR x IN SELECT json_array_elements(story -> 'obstacles') LOOP
		said := said || E'\nIn the way: ' || (x #>> '{}');
	END LOOP;
	FOR x IN SELECT json_array_elements(story -> 'attempts') LOOP
		said := said || format(E'\nAttempt %s by %s, ', x ->> 'attempt', coalesce(x ->> 'worker', 'unknown')) || CASE
			WHEN x ->> 'ended_at' IS NULL
				THEN format('under way for %s.', eda_http.mcp_span(now - (x ->> 'started_at')::timestamptz))
			ELSE format('for %s: %s%s.', eda_http.mcp_span((x ->> 'ended_at')::timestamptz - (x ->> 'started_at')::timestamptz),
				coalesce(x ->> 'error', CASE x ->> 'ended_as' WHEN 'awaiting_processing' THEN 'handed back'
					WHEN 'suspended' THEN 'set aside' ELSE x ->> 'ended_as' END),
				coalesce(' (' || (x ->> 'reason') || ')', '')) END;
	END LOOP;
	FOR x IN SELECT json_array_elements(story -> 'followed_by') LOOP
		said := said || format(E'\nIt published event %s (%s), which is "%s".', x ->> 'event_id', x ->> 'event_type', x ->> 'state');
	END LOOP;
	FOR x IN SELECT json_array_elements(story -> 'options') LOOP
		said := said || E'\nYou can: ' || (x ->> 'what') || coalesce(': ' || (x ->> 'tool') || ' ' || (x ->> 'arguments'), '') || '.';
	END LOOP;
	RETURN said;
END $$;
COMMENT ON FUNCTION eda_http.mcp_tell(json) IS 'The story of an event in words.';
