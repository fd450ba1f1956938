/* ------------------------------------------------------------------------
 * The HTTP gateway's functions that read: one event, with its history and family
 * ------------------------------------------------------------------------ */

-- The time in an event's id almost always tells which leaf holds it: look there first.
CREATE FUNCTION eda.leaf(event_id uuid) RETURNS smallint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	ms CONSTANT bigint := ('x' || left(translate(leaf.event_id::text, '-', ''), 12))::bit(48)::bigint;
	likely smallint;
	found_in smallint;
BEGIN
	SELECT s.segment INTO likely FROM eda.segment s WHERE s.starts_at <= to_timestamp(ms / 1000.0)
	ORDER BY s.starts_at DESC LIMIT 1;
	SELECT e.segment INTO found_in FROM eda.event e WHERE e.segment = likely AND e.id = leaf.event_id;
	IF found_in IS NULL THEN
		SELECT e.segment INTO found_in FROM eda.event e WHERE e.id = leaf.event_id;
	END IF;
	RETURN found_in;
END $$;
COMMENT ON FUNCTION eda.leaf(uuid) IS
	'Return the number of the leaf table that holds an event; null if there is no such event.';

CREATE FUNCTION eda.steps(event_id uuid, leaf smallint DEFAULT NULL) RETURNS json
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	most CONSTANT integer := 1000;		-- transitions
	in_leaf CONSTANT smallint := coalesce(steps.leaf, eda.leaf(steps.event_id));
BEGIN
	RETURN array_to_json(ARRAY(
		SELECT row_to_json(step) FROM (
			SELECT t.version, t.state, t.prev_state, t.at,
				round(extract(epoch FROM t.at - lag(t.at) OVER (ORDER BY t.version)) * 1000, 3) AS took_ms,
				t.attempt, t.token, t.wake_at, t.expires_at, t.worker, t.suspended_by,
				t.detail ->> 'error' AS error, t.detail ->> 'stack' AS stack, t.detail ->> 'reason' AS reason,
				t.detail -> 'result' AS result, t.detail -> 'progress' AS progress
			FROM (
				SELECT * FROM eda.transition t WHERE t.segment = in_leaf AND t.event_id = steps.event_id
				ORDER BY t.version DESC LIMIT most) t
			ORDER BY t.version) step));
END $$;
COMMENT ON FUNCTION eda.steps(uuid, smallint) IS
	'Return the last 1000 transitions of an event, oldest first, as a JSON array.  leaf: that of '
	'the event, if the caller knows it.';

-- One query for each leaf: with the leaf as a parameter, the executor skips all other partitions
-- when it starts, which is far cheaper than a query over all of them.
CREATE FUNCTION eda.children(parents uuid[], most integer DEFAULT NULL) RETURNS uuid[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	leaf smallint;
	ids uuid[] := '{}';
BEGIN
	FOR leaf IN SELECT s.segment FROM eda.segment s UNION ALL SELECT 0 LOOP
		ids := ids || ARRAY(
			SELECT e.id FROM eda.event e WHERE e.segment = leaf AND e.parent_id = ANY (parents)
			LIMIT most - cardinality(ids));
	END LOOP;
	RETURN ids;
END $$;
COMMENT ON FUNCTION eda.children(uuid[], integer) IS
	'Return the ids of the events whose parent is one of the given events, at most as many as '
	'most says (null: all).';

CREATE FUNCTION eda.relative(event_id uuid, leaf smallint) RETURNS json
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
	RETURN (
		SELECT row_to_json(x) FROM (
			SELECT e.id AS event_id, e.parent_id, e.event_type, e.flow_type, e.flow_id, t.state, t.attempt, e.created_at,
				t.at AS changed_at
			FROM eda.event e
			CROSS JOIN LATERAL (
				SELECT t.state, t.attempt, t.at FROM eda.transition t
				WHERE t.segment = relative.leaf AND t.event_id = relative.event_id ORDER BY t.version DESC LIMIT 1) t
			WHERE e.segment = relative.leaf AND e.id = relative.event_id) x);
END $$;
COMMENT ON FUNCTION eda.relative(uuid, smallint) IS
	'Return one member of an event''s family as JSON; leaf: that of the event.';

CREATE FUNCTION eda.family(event_id uuid, OUT members json, OUT complete boolean) RETURNS record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	most CONSTANT integer := 200;			-- members
	path uuid[] := ARRAY[family.event_id];	-- from the root to the event
	leaf smallint := eda.leaf(family.event_id);
	parent uuid;
	ids uuid[] := '{}';						-- members, parents before children
	level uuid[];							-- members of one generation
	born uuid[];							-- their children that are not on the path
	room integer;							-- how many more members there may be
BEGIN
	complete := true;
	LOOP
		SELECT e.parent_id INTO parent FROM eda.event e WHERE e.segment = leaf AND e.id = path[1];
		leaf := eda.leaf(parent);
		-- The parent that a publisher named may not exist, or may be a descendant of the event.
		EXIT WHEN leaf IS NULL OR parent = ANY (path);
		IF cardinality(path) = most / 2 THEN
			complete := false;
			EXIT;
		END IF;
		path := parent || path;
	END LOOP;
	room := most - cardinality(path);
	level := path[1:1];
	FOR depth IN 2 .. most + 1 LOOP
		ids := ids || level;
		born := ARRAY(
			SELECT c.id FROM unnest(eda.children(level, most + 1)) c(id)
			WHERE c.id <> ALL (ids) AND c.id <> ALL (path) LIMIT room + 1);
		IF cardinality(born) > room THEN
			complete := false;
			born := born[1:room];
		END IF;
		room := room - cardinality(born);
		level := ARRAY(SELECT l.id FROM unnest(born || path[depth:depth]) l(id) ORDER BY l.id);
		EXIT WHEN cardinality(level) = 0;
	END LOOP;
	members := array_to_json(ARRAY(
		SELECT eda.relative(i.id, eda.leaf(i.id)) FROM unnest(ids) WITH ORDINALITY i(id, n) ORDER BY i.n));
END $$;
COMMENT ON FUNCTION eda.family(uuid) IS
	'Return the family of an event: the tree of its ancestors and all their descendants, as a '
	'JSON array of at most 200 events, parents before children.  complete: whether that is the '
	'whole family.';

CREATE FUNCTION eda.event_report(event_id uuid, OUT token integer, OUT report json) RETURNS record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	leaf CONSTANT smallint := eda.leaf(event_report.event_id);
	history CONSTANT json := eda.steps(event_report.event_id, leaf);
	itself CONSTANT json := eda.relative(event_report.event_id, leaf);
	relatives json := json_build_array(itself);
	relatives_complete boolean := true;
BEGIN
	-- Most events have neither parent nor children.
	IF itself ->> 'parent_id' IS NOT NULL OR cardinality(eda.children(ARRAY[event_report.event_id], 1)) > 0 THEN
		SELECT f.members, f.complete INTO relatives, relatives_complete FROM eda.family(event_report.event_id) f;
	END IF;
	SELECT x.token, row_to_json(x) INTO token, report FROM (
		SELECT e.id AS event_id, e.event_type, e.flow_type, e.flow_id, t.state, t.prev_state, t.version, t.attempt,
			greatest((SELECT et.max_attempts FROM eda.event_type et WHERE et.id = t.type) - (t.attempt - t.attempt_base), 0)
				AS attempts_left,
			t.attempt - t.attempt_base - (t.state IN ('being_processed', 'succeeded') OR t.state = 'canceled' AND t.prev_state = 'being_processed')::integer AS attempts_failed,
			t.wake_at, t.expires_at, CASE WHEN t.state = 'being_processed' THEN t.wake_at END AS lease_until,
			t.suspended_by, t.worker, t.detail ->> 'error' AS error, e.correlation_id, e.parent_id, e.created_at,
			t.at AS changed_at,
			CASE WHEN t.state = 'being_processed' THEN t.token END AS token,
			w.wake_at AS attempt_scheduled_at,
			CASE WHEN t.state IN ('dispatched', 'being_processed') THEN t.wake_at END AS attempt_due_at,
			e.on_fail_event_type, e.payload, e.headers, t.detail,
			history, relatives AS family, relatives_complete AS family_complete
		FROM eda.event e
		CROSS JOIN LATERAL (
			SELECT * FROM eda.transition t WHERE t.segment = leaf AND t.event_id = event_report.event_id
			ORDER BY t.version DESC LIMIT 1) t
		LEFT JOIN LATERAL (
			SELECT w.wake_at FROM eda.transition w
			WHERE w.segment = leaf AND w.event_id = event_report.event_id AND w.state = 'awaiting_processing'
			ORDER BY w.version DESC LIMIT 1) w ON true
		WHERE e.segment = leaf AND e.id = event_report.event_id) x;
END $$;
COMMENT ON FUNCTION eda.event_report(uuid) IS
	'Return an event as JSON, with the columns of eda.event_state, its history and its family, '
	'and the token of its lease.  Both are null if there is no such event.';

/* ------------------------------------------------------------------------
 * Events
 * ------------------------------------------------------------------------ */

CREATE VIEW eda_http.summary WITH (security_invoker = true) AS
SELECT s.id AS event_id, s.event_type, s.flow_type, s.flow_id, s.state, s.prev_state, s.version, s.attempt, s.attempts_left,
	s.attempts_failed, s.wake_at, s.expires_at, s.lease_until, s.suspended_by, s.worker, s.error, s.correlation_id,
	s.parent_id, s.created_at, s.changed_at
FROM eda.event_state s;
COMMENT ON VIEW eda_http.summary IS
	'An event as the lists of the HTTP API show it: eda.event_state without payload, headers and '
	'detail.';

CREATE FUNCTION eda_http.event(event_id uuid) RETURNS eda_http.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	r record;
BEGIN
	SELECT * INTO r FROM eda.event_report(event.event_id);
	IF r.report IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'ED004', MESSAGE = format('event %s does not exist', event.event_id),
			HINT = 'It was never published, or its transaction rolled back.';
	END IF;
	RETURN eda_http.answer(r.report, r.token::text);
END $$;
COMMENT ON FUNCTION eda_http.event(uuid) IS
	'GET /api/events/{id}: return an event with its history and its family.  Errors: ED004 no '
	'such event.';

CREATE FUNCTION eda_http.events(
	state		text DEFAULT NULL,
	flow_type	text DEFAULT NULL,
	flow_id		text DEFAULT NULL,
	event_type	text DEFAULT NULL,
	before		uuid DEFAULT NULL,
	page_size	integer DEFAULT NULL
) RETURNS eda_http.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
-- The cursors read the events one by one from the end of an index, whatever the size of the log.
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	look_at CONSTANT integer := 5000;		-- events that one call looks at
	below CONSTANT uuid := coalesce(events.before, 'ffffffff-ffff-ffff-ffff-ffffffffffff');
	wanted CONSTANT integer := eda_http.page_size(events.page_size);
	all_events CURSOR FOR SELECT * FROM eda_http.summary s WHERE s.event_id < below ORDER BY s.event_id DESC;
	of_flow CURSOR FOR SELECT * FROM eda_http.summary s WHERE s.flow_id = events.flow_id AND s.event_id < below
		ORDER BY s.event_id DESC;
	walk refcursor;
	s record;
	page json[] := '{}';
	last uuid;
	next uuid;
BEGIN
	IF events.state <> ALL (enum_range(NULL::eda.state)::text[]) THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('unknown state "%s"', left(events.state, 100)),
			HINT = format('States: %s.', array_to_string(enum_range(NULL::eda.state)::text[], ', '));
	END IF;
	IF events.flow_id IS NULL THEN
		OPEN all_events;
		walk := all_events;
	ELSE
		OPEN of_flow;
		walk := of_flow;
	END IF;
	FOR n IN 0 .. look_at LOOP
		FETCH walk INTO s;
		EXIT WHEN NOT FOUND;
		IF n = look_at OR cardinality(page) = wanted THEN
			next := last;		-- there are more events
			EXIT;
		END IF;
		last := s.event_id;
		IF (s.state = events.state OR events.state IS NULL)
			AND (s.flow_type = events.flow_type OR events.flow_type IS NULL)
			AND (s.event_type = events.event_type OR events.event_type IS NULL) THEN
			page := page || row_to_json(s);
		END IF;
	END LOOP;
	CLOSE walk;
	RETURN eda_http.answer(json_build_object('events', array_to_json(page), 'next', next));
END $$;
COMMENT ON FUNCTION eda_http.events(text, text, text, text, uuid, integer) IS
	'GET /api/events: return the newest events with the given state, flow type, flow id and '
	'event type, and with ids below before.  page_size: 1 to 500, null: 50.  A call looks at '
	'5000 events at most, so that a page may be shorter; next is the before of the next page, or '
	'null after the last one.  Errors: 22023 unknown state or invalid page_size.';

CREATE FUNCTION eda_http.flow(flow_type text, flow_id text) RETURNS eda_http.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET max_parallel_workers_per_gather = 0 SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	most CONSTANT integer := 200;			-- events
	events json[];
BEGIN
	events := ARRAY(
		SELECT row_to_json(x) FROM (
			SELECT s.*, eda.steps(s.event_id) AS history
			FROM (
				SELECT * FROM eda_http.summary s WHERE s.flow_type = flow.flow_type AND s.flow_id = flow.flow_id
				ORDER BY s.event_id LIMIT most + 1) s
			ORDER BY s.event_id) x);
	IF cardinality(events) = 0 THEN
		RAISE EXCEPTION USING ERRCODE = 'ED004',
			MESSAGE = format('no event with flow id "%s" in flow type "%s"', left(flow.flow_id, 600), left(flow.flow_type, 100)),
			HINT = 'Nothing was published for it, or its transaction rolled back.';
	END IF;
	RETURN eda_http.answer(json_build_object('flow_type', flow.flow_type, 'flow_id', flow.flow_id,
		'events', array_to_json(events[1:most]), 'complete', cardinality(events) <= most));
END $$;
COMMENT ON FUNCTION eda_http.flow(text, text) IS
	'GET /api/flows/{flow_type}/{flow_id}: return the oldest 200 events of a business '
	'transaction with their history, and in complete whether these are all.  Errors: ED004 there '
	'is no event.';

/* ------------------------------------------------------------------------
 * Counts, rules and errors
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda_http.counts() RETURNS eda_http.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN eda_http.answer(row_to_json(x)) FROM (
		SELECT eda.clock() AS at, (SELECT row_to_json(s) FROM eda.engine_status s) AS engine,
			coalesce(json_agg(row_to_json(t) ORDER BY t.flow_type, t.event_type), '[]') AS types,
			coalesce(sum((t.events ->> 'failed')::bigint + (t.events ->> 'expired')::bigint), 0) AS dead_letters
		FROM (
			SELECT m.event_type, m.flow_type, et.suspended,
				json_object_agg(m.state, m.events ORDER BY m.state::eda.state) AS events,
				json_object_agg(m.state, m.last_minute ORDER BY m.state::eda.state) AS last_minute,
				extract(epoch FROM max(m.oldest_due_age)) AS oldest_due_age
			FROM eda.queue_metrics m JOIN eda.event_type et USING (event_type)
			GROUP BY m.event_type, m.flow_type, et.suspended) t) x;
END $$;
COMMENT ON FUNCTION eda_http.counts() IS
	'GET /api/counts: return the engine''s status, and how many events of each event type are in '
	'each state, from the engine''s counters.';

CREATE FUNCTION eda_http.ready() RETURNS eda_http.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	engine record;
BEGIN
	SELECT coalesce(s.state, 'not running') AS state INTO engine FROM eda.engine_status s;
	IF engine.state IN ('running', 'paused') THEN
		RETURN eda_http.answer(json_build_object('status', 'ready', 'engine', engine.state, 'database', current_database()));
	END IF;
	RETURN (503, NULL, NULL, json_build_object('status', 'not ready', 'engine', engine.state,
		'detail', format('the engine of database "%s" is %s', current_database(), engine.state)), NULL, NULL)::eda_http.response;
END $$;
COMMENT ON FUNCTION eda_http.ready() IS
	'GET /ready: return status 200 if the engine runs or is paused, else 503.';

CREATE FUNCTION eda_http.rules(type eda.event_type) RETURNS json
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN json_build_object('event_type', type.event_type, 'flow_type', type.flow_type, 'max_attempts', type.max_attempts,
	'lifespan', type.lifespan, 'attempt_delays', type.attempt_delays, 'backoff', type.backoff, 'jitter', type.jitter,
	'lease', type.lease, 'dispatch_timeout', type.dispatch_timeout, 'on_fail_event_type', type.on_fail_event_type,
	'suspended', type.suspended, 'suspend_timeout', type.suspend_timeout, 'on_suspend_timeout', type.on_suspend_timeout,
	'delivery', type.delivery, 'subject', type.subject, 'priority', type.priority, 'max_in_flight', type.max_in_flight,
	'max_dispatched', type.max_dispatched);
COMMENT ON FUNCTION eda_http.rules(eda.event_type) IS
	'Return the rules of an event type, that is, all its columns but id, as JSON.';

CREATE FUNCTION eda_http.event_types() RETURNS eda_http.response
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (
	SELECT eda_http.answer(json_build_object('event_types',
		coalesce(json_agg(eda_http.rules(et) ORDER BY et.flow_type, et.event_type), '[]')))
	FROM eda.event_type et);
COMMENT ON FUNCTION eda_http.event_types() IS
	'GET /api/event-types: return the rules of all event types.';

CREATE FUNCTION eda_http.event_type(event_type text) RETURNS eda_http.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	type eda.event_type;
BEGIN
	SELECT * INTO type FROM eda.event_type et WHERE et.event_type = event_type.event_type;
	IF type.id IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'ED005', MESSAGE = format('unknown event type "%s"', left(event_type.event_type, 100)),
			HINT = 'The case of the name must match.';
	END IF;
	RETURN eda_http.answer(eda_http.rules(type));
END $$;
COMMENT ON FUNCTION eda_http.event_type(text) IS
	'GET /api/event-types/{type}: return the rules of an event type.  Errors: ED005 unknown '
	'event type.';

CREATE FUNCTION eda_http.lifecycle() RETURNS eda_http.response
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT eda_http.answer(json_build_object('moves', json_agg(row_to_json(m)))) FROM eda.lifecycle m);
COMMENT ON FUNCTION eda_http.lifecycle() IS
	'GET /api/lifecycle: return the legal moves of an event from one state to another.';

CREATE FUNCTION eda_http.errors(page_size integer DEFAULT NULL) RETURNS eda_http.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_sort = off SET max_parallel_workers_per_gather = 0 SET jit = off SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	wanted CONSTANT integer := eda_http.page_size(errors.page_size);
BEGIN
	RETURN eda_http.answer(json_build_object('errors', array_to_json(ARRAY(
		SELECT row_to_json(l) FROM (SELECT * FROM eda.error_log l ORDER BY l.at DESC LIMIT wanted) l))));
END $$;
COMMENT ON FUNCTION eda_http.errors(integer) IS
	'GET /api/errors: return the newest rows of eda.error_log.  page_size: 1 to 500, null: 50.  '
	'Errors: 22023 invalid page_size.';

/* ------------------------------------------------------------------------
 * Dead letters
 * ------------------------------------------------------------------------ */

-- The query takes the newest transitions of each event type, because the index begins with the
-- event type, and then the newest of these.  Events that were redriven since are returned, too,
-- but without their dead letter: look_at limits the number of transitions, because a limit on the
-- number of dead letters would read all transitions of an event type whose dead letters were all
-- redriven.
CREATE FUNCTION eda.newest_dead_letters(
	flow_type text, event_type text, before_at timestamptz, before_id uuid, look_at integer,
	OUT died_at timestamptz, OUT event_id uuid, OUT letter json) RETURNS SETOF record
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET enable_seqscan = off SET enable_bitmapscan = off SET max_parallel_workers_per_gather = 0 SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
BEGIN
	RETURN QUERY
	WITH newest AS MATERIALIZED (
		SELECT et.event_type, et.flow_type, t.segment, t.event_id, t.version, t.at, t.state, t.attempt
		FROM eda.event_type et
		CROSS JOIN LATERAL (
			SELECT t.segment, t.event_id, t.version, t.at, t.state, t.attempt FROM eda.transition t
			WHERE t.type = et.id AND t.state IN ('failed', 'expired') AND (t.at, t.event_id) < (before_at, before_id)
			ORDER BY t.at DESC, t.event_id DESC LIMIT look_at) t
		WHERE (newest_dead_letters.flow_type IS NULL OR et.flow_type = newest_dead_letters.flow_type)
		AND (newest_dead_letters.event_type IS NULL OR et.event_type = newest_dead_letters.event_type)
		ORDER BY t.at DESC, t.event_id DESC LIMIT look_at
	)
	SELECT n.at, n.event_id, (
		SELECT row_to_json(x) FROM (
			SELECT n.event_id, n.event_type, n.flow_type, e.flow_id, n.state, n.at AS died_at, n.attempt,
				t.detail ->> 'error' AS error, t.detail ->> 'stack' AS stack, e.payload, e.headers, e.correlation_id,
				e.parent_id, e.created_at
			FROM (SELECT * FROM eda.event e WHERE e.segment = n.segment AND e.id = n.event_id LIMIT 1) e
			CROSS JOIN (
				SELECT t.version, t.detail FROM eda.transition t WHERE t.segment = n.segment AND t.event_id = n.event_id
				ORDER BY t.version DESC LIMIT 1) t
			WHERE t.version = n.version) x)
	FROM newest n ORDER BY n.at DESC, n.event_id DESC;
END $$;
COMMENT ON FUNCTION eda.newest_dead_letters(text, text, timestamptz, uuid, integer) IS
	'Return the newest look_at transitions to failed or expired of the given flow type and event '
	'type (null: any), older than the transition of event before_id at before_at.  letter: the '
	'dead letter as JSON; null: the event was redriven since.';

CREATE FUNCTION eda_http.dead_letters(
	flow_type	text DEFAULT NULL,
	event_type	text DEFAULT NULL,
	before		text DEFAULT NULL,
	page_size	integer DEFAULT NULL
) RETURNS eda_http.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	wanted CONSTANT integer := eda_http.page_size(dead_letters.page_size);
	look_at CONSTANT integer := 4 * wanted;
	before_at timestamptz := 'infinity';
	before_id uuid := 'ffffffff-ffff-ffff-ffff-ffffffffffff';
	page json[] := '{}';
	seen integer := 0;
	last text;
	next text;
	r record;
BEGIN
	IF dead_letters.before IS NOT NULL THEN
		BEGIN
			before_at := split_part(dead_letters.before, ',', 1)::timestamptz;
			before_id := split_part(dead_letters.before, ',', 2)::uuid;
		EXCEPTION WHEN data_exception THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
				MESSAGE = format('before is "%s"', left(dead_letters.before, 100)),
				HINT = 'It must be the value of "next" of the previous page.';
		END;
	END IF;
	FOR r IN SELECT * FROM eda.newest_dead_letters(dead_letters.flow_type, dead_letters.event_type, before_at, before_id,
		look_at + 1) LOOP
		IF seen = look_at OR cardinality(page) = wanted THEN
			next := last;		-- there are more dead letters
			EXIT;
		END IF;
		seen := seen + 1;
		last := to_char(r.died_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z",') || r.event_id;
		IF r.letter IS NOT NULL THEN
			page := page || r.letter;
		END IF;
	END LOOP;
	RETURN eda_http.answer(json_build_object('dead_letters', array_to_json(page), 'next', next));
END $$;
COMMENT ON FUNCTION eda_http.dead_letters(text, text, text, integer) IS
	'GET /api/dead-letters: return the newest dead letters of the given flow type and event type '
	'(null: any), older than before.  page_size: 1 to 500, null: 50.  A page may be shorter if '
	'events were redriven; next is the before of the next page, or null after the last one.  '
	'Errors: 22023 invalid before or page_size.';
