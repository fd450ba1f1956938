/* ------------------------------------------------------------------------
 * The HTTP gateway's functions that write
 *
 * A function that a caller may lack the right to call stands in FROM, or in PERFORM, and not in
 * an expression.  PL/pgSQL prepares an expression once for the rest of the transaction, and
 * PostgreSQL checks the right to call a function only then: another role of that transaction
 * would get past the check.  From PostgreSQL 19 on, "SELECT f() INTO v" is such an expression, too.
 * ------------------------------------------------------------------------ */

-- A worker may not read the views, but the answers to acquire and succeed need the event's state.
CREATE FUNCTION eda.last_step(event_id uuid, OUT state text, OUT spinoff_event_ids uuid[]) RETURNS record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	leaf CONSTANT smallint := eda.leaf(last_step.event_id);
	made_by bigint;
BEGIN
	SELECT t.state, t.xid INTO state, made_by FROM eda.transition t
	WHERE t.segment = leaf AND t.event_id = last_step.event_id ORDER BY t.version DESC LIMIT 1;
	spinoff_event_ids := '{}';
	-- Spinoff events were published in the transaction of the success.  A restored row has xid 0.
	IF state = 'succeeded' AND made_by <> 0 THEN
		spinoff_event_ids := ARRAY(
			SELECT c.id FROM unnest(eda.children(ARRAY[last_step.event_id])) c(id)
			CROSS JOIN LATERAL (
				SELECT t.xid FROM eda.transition t WHERE t.event_id = c.id AND t.version = 1) first
			WHERE first.xid = made_by ORDER BY c.id);
	END IF;
END $$;
COMMENT ON FUNCTION eda.last_step(uuid) IS
	'Return the state of an event, and the ids of its spinoff events if it has succeeded.';

-- With the stored spelling, eda_http.configure() can tell a caller that the name exists in
-- another case.
CREATE FUNCTION eda.event_type_named(event_type text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN (SELECT et.event_type FROM eda.event_type et WHERE lower(et.event_type) = lower(event_type_named.event_type));
COMMENT ON FUNCTION eda.event_type_named(text) IS
	'Return the name of the event type that has this name in any case; null if there is none.';

CREATE FUNCTION eda_http.token(args jsonb, match integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	token CONSTANT integer := eda_http.whole_number(args, 'token');
BEGIN
	IF token <> match THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('the token is %s in the body and %s in the header If-Match', token, match),
			HINT = 'Give the token only once.';
	END IF;
	RETURN coalesce(match, token);
END $$;
COMMENT ON FUNCTION eda_http.token(jsonb, integer) IS
	'Return the token of a request, from its header If-Match or from its body; null if neither '
	'has one.  Errors: 22023 the two differ.';

CREATE FUNCTION eda_http.json_value(args jsonb, key text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN nullif(args -> key, 'null');
END $$;
COMMENT ON FUNCTION eda_http.json_value(jsonb, text) IS
	'Return the value of a key of the body; null if the key is missing or its value is a JSON '
	'null.';

/* ------------------------------------------------------------------------
 * Publishers
 * ------------------------------------------------------------------------ */

-- eda.publish_many() checks the keys of an event itself, but accepts any scalar as a text, such
-- as a number as flow_id, which in a JSON request is most likely a mistake.
CREATE FUNCTION eda_http.check_events(events jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
	wrong record;
	e jsonb;
BEGIN
	SELECT e.n, m.key, m.value INTO wrong
	FROM jsonb_array_elements(events) WITH ORDINALITY e(event, n)
	CROSS JOIN LATERAL jsonb_each(CASE jsonb_typeof(e.event) WHEN 'object' THEN e.event ELSE '{}' END) m
	WHERE m.key = ANY ('{event_type,flow_id,flow_type,idempotency_key,on_fail_event_type,correlation_id,scheduled_at,event_id,parent_id}')
	AND jsonb_typeof(m.value) <> 'null'
	AND (jsonb_typeof(m.value) <> 'string'
		OR m.key IN ('event_id', 'parent_id') AND m.value #>> '{}' !~ '^\{?([0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}\}?$')
	ORDER BY e.n LIMIT 1;
	IF FOUND THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('"%s" must be %s', wrong.key, CASE WHEN wrong.key IN ('event_id', 'parent_id') THEN 'an event id'
				WHEN wrong.key = 'scheduled_at' THEN 'a time' ELSE 'a string' END),
			DETAIL = format('It is %s, in event %s.', left(wrong.value::text, 100), wrong.n);
	END IF;
	FOR e IN SELECT a.event FROM jsonb_array_elements(events) a(event) WHERE a.event ->> 'scheduled_at' IS NOT NULL LOOP
		PERFORM eda_http.point_in_time(e, 'scheduled_at');
	END LOOP;
END $$;
COMMENT ON FUNCTION eda_http.check_events(jsonb) IS
	'Check the ids, times and texts in an array of events.  Errors: 22023 the first value that '
	'is none.';

CREATE FUNCTION eda_http.publish(body jsonb, idempotency_key text DEFAULT NULL) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	is_array CONSTANT boolean := coalesce(jsonb_typeof(body), 'null') = 'array';
	events jsonb := CASE WHEN is_array THEN body ELSE jsonb_build_array(body) END;
	differs text;
	ids uuid[];
BEGIN
	IF body IS NULL OR jsonb_typeof(body) NOT IN ('object', 'array') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the body must be an event or an array of events',
			HINT = 'An event is an object such as {"event_type": "...", "flow_id": "...", "payload": {}}.';
	END IF;
	PERFORM eda_http.check_events(events);
	IF idempotency_key = '' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the header Idempotency-Key must not be empty';
	END IF;
	IF idempotency_key IS NOT NULL THEN
		SELECT min(e.event ->> 'idempotency_key') FILTER (WHERE e.event ->> 'idempotency_key' <> e.key),
			coalesce(jsonb_agg(CASE jsonb_typeof(e.event) WHEN 'object'
				THEN e.event || jsonb_build_object('idempotency_key', e.key) ELSE e.event END ORDER BY e.n), '[]')
		INTO differs, events
		FROM (
			SELECT a.event, a.n, CASE WHEN is_array THEN idempotency_key || '#' || a.n ELSE idempotency_key END AS key
			FROM jsonb_array_elements(events) WITH ORDINALITY a(event, n)) e;
		IF differs IS NOT NULL THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
				MESSAGE = format('idempotency_key "%s" differs from the header Idempotency-Key', left(differs, 200)),
				HINT = 'Give the key only once.  For an array, the header <key> means "<key>#1", "<key>#2" and so on.';
		END IF;
	END IF;
	SELECT p INTO ids FROM eda.publish_many(events) p;
	IF is_array THEN
		RETURN (201, NULL, NULL, json_build_object('event_ids', ids), NULL, NULL)::eda_http.response;
	END IF;
	RETURN (201, NULL, '/api/events/' || ids[1], json_build_object('event_id', ids[1]), NULL, NULL)::eda_http.response;
END $$;
COMMENT ON FUNCTION eda_http.publish(jsonb, text) IS
	'POST /api/events: publish the event in the body, or an array of events, all or none, and '
	'return 201 with the ids.  idempotency_key: from the header; event n of an array has '
	'<key>#n.  Errors: 22023 invalid body, and those of eda.publish().';

/* ------------------------------------------------------------------------
 * Workers
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda_http.acquire(event_id uuid, body jsonb DEFAULT NULL) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	args CONSTANT jsonb := eda_http.arguments(body,
		'{"worker": "a string", "lease": "a number of seconds or an interval as a string"}');
	r record;
	state text;
BEGIN
	SELECT a.token, row_to_json(a) AS event INTO r
	FROM eda.acquire(acquire.event_id, args ->> 'worker', eda_http.time_span('lease', args -> 'lease')) a;
	IF FOUND THEN
		RETURN eda_http.answer(r.event, r.token::text);
	END IF;
	SELECT l.state INTO state FROM eda.last_step(acquire.event_id) l;
	RAISE EXCEPTION USING ERRCODE = 'ED001',
		MESSAGE = format('event %s cannot be acquired: it is "%s"', acquire.event_id, state),
		DETAIL = CASE state
			WHEN 'awaiting_processing' THEN 'The event is not due yet, or not dispatched yet.'
			WHEN 'dispatched' THEN 'Another worker is acquiring the event, or its event type is suspended.'
			WHEN 'being_processed' THEN 'A worker is processing the event.'
			WHEN 'suspended' THEN 'The event waits until it is resumed, or for its deadline.'
			ELSE 'The event has ended.' END,
		HINT = 'Acquire the next event of a flow type instead.';
END $$;
COMMENT ON FUNCTION eda_http.acquire(uuid, jsonb) IS
	'POST /api/events/{id}/acquire: do as eda.acquire(), and return the event.  Errors: ED001 '
	'the event cannot be acquired, and those of eda.acquire().';

CREATE FUNCTION eda_http.acquire_next(body jsonb) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	args CONSTANT jsonb := eda_http.arguments(body,
		'{"flow_type": "a string", "max_events": "a whole number", "worker": "a string",
		"wait": "a number of seconds or an interval as a string", "lease": "a number of seconds or an interval as a string"}');
	flow_type CONSTANT text := eda_http.required(args, 'flow_type');
	wait CONSTANT interval := eda_http.time_span('wait', args -> 'wait');
	r record;
BEGIN
	SELECT json_agg(row_to_json(a)) AS events, CASE count(*) WHEN 1 THEN min(a.token) END AS token INTO r
	FROM eda.acquire_next(flow_type, coalesce(eda_http.whole_number(args, 'max_events'), 1), interval '0', args ->> 'worker',
		eda_http.time_span('lease', args -> 'lease')) a;
	IF r.events IS NULL AND wait > interval '0' THEN
		RETURN (200, NULL, NULL, '{"events": []}', flow_type,
			(1000 * least(extract(epoch FROM wait), 60))::integer)::eda_http.response;
	END IF;
	RETURN eda_http.answer(json_build_object('events', coalesce(r.events, '[]')), r.token::text);
END $$;
COMMENT ON FUNCTION eda_http.acquire_next(jsonb) IS
	'POST /api/acquire: do as eda.acquire_next(), and return the events.  It does not wait: if '
	'there is no event, wait_for and wait_ms of the answer tell the gateway to call it again.  '
	'Errors: 22023 invalid body, 22004 flow_type is missing, and those of eda.acquire_next().';

CREATE FUNCTION eda_http.succeed(event_id uuid, body jsonb DEFAULT NULL, match integer DEFAULT NULL) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	args CONSTANT jsonb := eda_http.arguments(body,
		'{"token": "a whole number", "result": "anything", "spinoffs": "an array", "if_finished": "a string"}');
	spinoffs CONSTANT jsonb := eda_http.json_value(args, 'spinoffs');
	finished boolean;
	ids uuid[] := '{}';
BEGIN
	IF spinoffs IS NOT NULL THEN
		PERFORM eda_http.check_events(spinoffs);
	END IF;
	SELECT s INTO finished FROM eda.succeed(succeed.event_id, eda_http.token(args, match),
		eda_http.json_value(args, 'result'), spinoffs, coalesce(args ->> 'if_finished', 'error')) s;
	IF spinoffs IS NOT NULL OR NOT finished THEN
		SELECT l.spinoff_event_ids INTO ids FROM eda.last_step(succeed.event_id) l;
	END IF;
	RETURN eda_http.answer(json_build_object('event_id', succeed.event_id, 'state', 'succeeded', 'finished', finished,
		'spinoff_event_ids', ids));
END $$;
COMMENT ON FUNCTION eda_http.succeed(uuid, jsonb, integer) IS
	'POST /api/events/{id}/success: do as eda.succeed(), and return the ids of the spinoff '
	'events, too.  match: the token from the header If-Match.  Errors: 22023 invalid body, and '
	'those of eda.succeed().';

CREATE FUNCTION eda_http.fail(event_id uuid, body jsonb DEFAULT NULL, match integer DEFAULT NULL) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	args CONSTANT jsonb := eda_http.arguments(body,
		'{"token": "a whole number", "error_message": "a string", "stack_trace": "a string", "retry": "true or false",
		"retry_in": "a number of seconds or an interval as a string", "if_finished": "a string"}');
	state text;
BEGIN
	SELECT f INTO state FROM eda.fail(fail.event_id, args ->> 'error_message', args ->> 'stack_trace',
		eda_http.token(args, match), coalesce((args ->> 'retry')::boolean, true),
		eda_http.time_span('retry_in', args -> 'retry_in'), coalesce(args ->> 'if_finished', 'error')) f;
	RETURN eda_http.answer(json_build_object('event_id', fail.event_id, 'state', state));
END $$;
COMMENT ON FUNCTION eda_http.fail(uuid, jsonb, integer) IS
	'POST /api/events/{id}/failure: do as eda.fail().  match: the token from the header '
	'If-Match.  Errors: 22023 invalid body, and those of eda.fail().';

CREATE FUNCTION eda_http.heartbeat(event_id uuid, body jsonb DEFAULT NULL, match integer DEFAULT NULL) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	args CONSTANT jsonb := eda_http.arguments(body,
		'{"token": "a whole number", "extend": "a number of seconds or an interval as a string", "progress": "anything"}');
	token CONSTANT integer := eda_http.token(args, match);
	lease_until timestamptz;
BEGIN
	SELECT h INTO lease_until FROM eda.heartbeat(heartbeat.event_id, token,
		eda_http.time_span('extend', args -> 'extend'), eda_http.json_value(args, 'progress')) h;
	RETURN eda_http.answer(json_build_object('event_id', heartbeat.event_id, 'token', token, 'lease_until', lease_until),
		token::text);
END $$;
COMMENT ON FUNCTION eda_http.heartbeat(uuid, jsonb, integer) IS
	'POST /api/events/{id}/heartbeat: do as eda.heartbeat().  match: the token from the header '
	'If-Match.  Errors: 22023 invalid body, and those of eda.heartbeat().';

CREATE FUNCTION eda_http.release(event_id uuid, body jsonb DEFAULT NULL, match integer DEFAULT NULL) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	args CONSTANT jsonb := eda_http.arguments(body,
		'{"token": "a whole number", "retry_in": "a number of seconds or an interval as a string", "reason": "a string"}');
	state text;
BEGIN
	SELECT r INTO state FROM eda.release(release.event_id, eda_http.token(args, match),
		coalesce(eda_http.time_span('retry_in', args -> 'retry_in'), interval '0'), args ->> 'reason') r;
	RETURN eda_http.answer(json_build_object('event_id', release.event_id, 'state', state));
END $$;
COMMENT ON FUNCTION eda_http.release(uuid, jsonb, integer) IS
	'POST /api/events/{id}/release: do as eda.release().  match: the token from the header '
	'If-Match.  Errors: 22023 invalid body, and those of eda.release().';

/* ------------------------------------------------------------------------
 * Operators
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda_http.suspend(event_id uuid, body jsonb DEFAULT NULL, match integer DEFAULT NULL) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	args CONSTANT jsonb := eda_http.arguments(body,
		'{"token": "a whole number", "deadline": "a time as a string", "reason": "a string"}');
BEGIN
	PERFORM eda.suspend(suspend.event_id, eda_http.point_in_time(args, 'deadline'), eda_http.token(args, match), args ->> 'reason');
	RETURN eda_http.answer(json_build_object('event_id', suspend.event_id, 'state', 'suspended'));
END $$;
COMMENT ON FUNCTION eda_http.suspend(uuid, jsonb, integer) IS
	'POST /api/events/{id}/suspend: do as eda.suspend().  match: the token from the header '
	'If-Match.  Errors: 22023 invalid body, and those of eda.suspend().';

CREATE FUNCTION eda_http.resume(event_id uuid, body jsonb DEFAULT NULL) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM eda.resume(resume.event_id, eda_http.arguments(body, '{"reason": "a string"}') ->> 'reason');
	RETURN eda_http.answer(json_build_object('event_id', resume.event_id, 'state', 'awaiting_processing'));
END $$;
COMMENT ON FUNCTION eda_http.resume(uuid, jsonb) IS
	'POST /api/events/{id}/resume: do as eda.resume().  Errors: 22023 invalid body, and those of '
	'eda.resume().';

CREATE FUNCTION eda_http.cancel(event_id uuid, body jsonb DEFAULT NULL) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM eda.cancel(cancel.event_id, eda_http.arguments(body, '{"reason": "a string"}') ->> 'reason');
	RETURN eda_http.answer(json_build_object('event_id', cancel.event_id, 'state', 'canceled'));
END $$;
COMMENT ON FUNCTION eda_http.cancel(uuid, jsonb) IS
	'POST /api/events/{id}/cancel: do as eda.cancel().  Errors: 22023 invalid body, and those of '
	'eda.cancel().';

CREATE FUNCTION eda_http.redrive(event_id uuid, body jsonb DEFAULT NULL) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM eda.redrive(redrive.event_id, eda_http.arguments(body, '{"reason": "a string"}') ->> 'reason');
	RETURN eda_http.answer(json_build_object('event_id', redrive.event_id, 'state', 'awaiting_processing'));
END $$;
COMMENT ON FUNCTION eda_http.redrive(uuid, jsonb) IS
	'POST /api/events/{id}/redrive: do as eda.redrive().  Errors: 22023 invalid body, and those '
	'of eda.redrive().';

CREATE FUNCTION eda_http.redrive_dead_letters(body jsonb) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	args CONSTANT jsonb := eda_http.arguments(body,
		'{"event_ids": "an array", "event_type": "a string", "since": "a time as a string", "reason": "a string"}');
	by_id CONSTANT boolean := eda_http.json_value(args, 'event_ids') IS NOT NULL;
	ids uuid[];
	redriven integer;
BEGIN
	IF by_id = (args ->> 'event_type' IS NOT NULL) OR by_id AND args ->> 'since' IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = 'the body must have either "event_ids", or "event_type" and optionally "since"';
	END IF;
	IF by_id THEN
		BEGIN
			ids := ARRAY(SELECT (a.id #>> '{}')::uuid FROM jsonb_array_elements(args -> 'event_ids') WITH ORDINALITY a(id, n)
				ORDER BY a.n);
		EXCEPTION WHEN data_exception THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = '"event_ids" must be an array of event ids',
				DETAIL = SQLERRM;
		END;
		SELECT r INTO redriven FROM eda.redrive_many(ids, args ->> 'reason') r;
	ELSE
		SELECT r INTO redriven FROM eda.redrive(args ->> 'event_type',
			coalesce(eda_http.point_in_time(args, 'since'), '-infinity'), args ->> 'reason') r;
	END IF;
	RETURN eda_http.answer(json_build_object('redriven', redriven));
END $$;
COMMENT ON FUNCTION eda_http.redrive_dead_letters(jsonb) IS
	'POST /api/dead-letters/redrive: redrive the dead letters with the given ids, or those of an '
	'event type, and return how many were redriven.  Errors: 22023 invalid body, and those of '
	'eda.redrive_many() and eda.redrive().';

-- PUT starts from the defaults, and PATCH from the present rules.  With both, null means the
-- default of a rule.
CREATE FUNCTION eda_http.configure(event_type text, body jsonb DEFAULT NULL, replace boolean DEFAULT true)
RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	args CONSTANT jsonb := eda_http.arguments(body,
		'{"flow_type": "a string", "max_attempts": "a whole number", "attempt_delays": "an array", "backoff": "a number",
		"jitter": "a number", "on_fail_event_type": "a string", "on_suspend_timeout": "a string", "delivery": "a string",
		"subject": "a string", "priority": "a whole number", "max_in_flight": "a whole number",
		"max_dispatched": "a whole number",
		"lifespan": "a number of seconds or an interval as a string",
		"lease": "a number of seconds or an interval as a string",
		"dispatch_timeout": "a number of seconds or an interval as a string",
		"suspend_timeout": "a number of seconds or an interval as a string"}');
	named CONSTANT text := eda.event_type_named(configure.event_type);
	delays interval[];
	old eda.event_type;
	new eda.event_type;
BEGIN
	IF named <> configure.event_type THEN
		RAISE EXCEPTION USING ERRCODE = 'unique_violation',
			MESSAGE = format('event type "%s" already exists as "%s"', left(configure.event_type, 100), named),
			HINT = 'Two names must differ in more than their case.';
	END IF;
	IF NOT replace THEN
		IF named IS NULL THEN
			RAISE EXCEPTION USING ERRCODE = 'ED005', MESSAGE = format('unknown event type "%s"', left(configure.event_type, 100)),
				HINT = 'Create a new event type with PUT.';
		END IF;
		-- Without rules, eda.configure() changes nothing, but it locks the table until the end of
		-- the transaction, and returns the row, which an operator may not read.
		SELECT * INTO old FROM eda.configure(configure.event_type);
	END IF;
	IF eda_http.json_value(args, 'attempt_delays') IS NOT NULL THEN
		delays := ARRAY(SELECT eda_http.time_span('attempt_delays', a.delay)
			FROM jsonb_array_elements(args -> 'attempt_delays') WITH ORDINALITY a(delay, n) ORDER BY a.n);
	END IF;
	SELECT * INTO new FROM eda.configure(configure.event_type, reset => true,
		flow_type => args ->> 'flow_type',
		max_attempts => CASE WHEN args ? 'max_attempts' THEN eda_http.whole_number(args, 'max_attempts') ELSE old.max_attempts END,
		lifespan => CASE WHEN args ? 'lifespan' THEN eda_http.time_span('lifespan', args -> 'lifespan') ELSE old.lifespan END,
		attempt_delays => CASE WHEN args ? 'attempt_delays' THEN delays ELSE old.attempt_delays END,
		backoff => CASE WHEN args ? 'backoff' THEN (args ->> 'backoff')::double precision ELSE old.backoff END,
		jitter => CASE WHEN args ? 'jitter' THEN (args ->> 'jitter')::double precision ELSE old.jitter END,
		lease => CASE WHEN args ? 'lease' THEN eda_http.time_span('lease', args -> 'lease') ELSE old.lease END,
		dispatch_timeout => CASE WHEN args ? 'dispatch_timeout'
			THEN eda_http.time_span('dispatch_timeout', args -> 'dispatch_timeout') ELSE old.dispatch_timeout END,
		on_fail_event_type => CASE WHEN args ? 'on_fail_event_type'
			THEN args ->> 'on_fail_event_type' ELSE old.on_fail_event_type END,
		suspend_timeout => CASE WHEN args ? 'suspend_timeout'
			THEN eda_http.time_span('suspend_timeout', args -> 'suspend_timeout') ELSE old.suspend_timeout END,
		on_suspend_timeout => CASE WHEN args ? 'on_suspend_timeout'
			THEN args ->> 'on_suspend_timeout' ELSE old.on_suspend_timeout END,
		delivery => CASE WHEN args ? 'delivery' THEN args ->> 'delivery' ELSE old.delivery END,
		subject => CASE WHEN args ? 'subject' THEN args ->> 'subject' ELSE old.subject END,
		priority => CASE WHEN args ? 'priority' THEN eda_http.whole_number(args, 'priority') ELSE old.priority END,
		max_in_flight => CASE WHEN args ? 'max_in_flight'
			THEN eda_http.whole_number(args, 'max_in_flight') ELSE old.max_in_flight END,
		max_dispatched => CASE WHEN args ? 'max_dispatched'
			THEN eda_http.whole_number(args, 'max_dispatched') ELSE old.max_dispatched END);
	RETURN (CASE WHEN named IS NULL THEN 201 ELSE 200 END, NULL, NULL, eda_http.rules(new), NULL, NULL)::eda_http.response;
END $$;
COMMENT ON FUNCTION eda_http.configure(text, jsonb, boolean) IS
	'PUT /api/event-types/{type} (replace is true): create an event type, or give it new rules; '
	'a rule that the body leaves out has its default.  PATCH (replace is false): change the '
	'rules in the body.  Return all rules.  Errors: 23505 the name exists in another case, ED005 '
	'PATCH of an unknown event type, and those of eda.configure().';

CREATE FUNCTION eda_http.suspend_event_type(event_type text, suspended boolean) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	changed boolean;
BEGIN
	IF suspended THEN
		SELECT s INTO changed FROM eda.suspend_event_type(suspend_event_type.event_type) s;
	ELSE
		SELECT u INTO changed FROM eda.unsuspend_event_type(suspend_event_type.event_type) u;
	END IF;
	RETURN eda_http.answer(json_build_object('event_type', suspend_event_type.event_type, 'suspended', suspended,
		'changed', changed));
END $$;
COMMENT ON FUNCTION eda_http.suspend_event_type(text, boolean) IS
	'POST /api/event-types/{type}/suspend (suspended is true) and /unsuspend (false): do as '
	'eda.suspend_event_type() and eda.unsuspend_event_type().  Errors: ED005 unknown event type.';
