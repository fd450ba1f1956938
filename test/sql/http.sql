-- The HTTP gateway's functions answer each route in its format, and raise an error that explains itself for invalid input.
CREATE FUNCTION t.http(call text) RETURNS text LANGUAGE sql AS $$
	SELECT regexp_replace(t.try(format(
		'SELECT concat_ws('' '', status, ''etag '' || etag, ''at '' || location, body, ''wait for '' || wait_for || '' '' || wait_ms || '' ms'')
		FROM eda_http.%s', call)), '"took_ms":[\d.]+', '"took_ms":<ms>', 'g');
$$;
CREATE FUNCTION t.body(call text) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
	body json;
BEGIN
	EXECUTE 'SELECT body FROM eda_http.' || call INTO body;
	RETURN body;
END $$;
SELECT count(*) FROM eda.configure('HTTP', 'http', attempt_delays => '{0 s}', max_attempts => 2, lease => '5 min');
SELECT count(*) FROM eda.configure('HTTP_LATER', 'http_later', attempt_delays => '{1 day}');
\t on
\pset format unaligned

-- publish
SELECT t.http($$publish('{"event_type": "HTTP_LATER", "flow_id": "p 1", "payload": {"n": 1}, "headers": {"X-H": "h"}}')$$);
SELECT t.http($$publish('[{"event_type": "HTTP_LATER", "flow_id": "p 2"}, {"event_type": "HTTP_LATER", "flow_id": "p 3"}]')$$);
SELECT t.http($$publish('[]')$$);
SELECT t.body($$publish('{"event_type": "HTTP_LATER", "flow_id": "p 4"}', 'key 1')$$) ->> 'event_id' = t.body($$publish('{"event_type": "HTTP_LATER", "flow_id": "p 4", "idempotency_key": "key 1"}', 'key 1')$$) ->> 'event_id' AS once;
-- Each element of an array has a key of its own.
SELECT t.body($$publish('[{"event_type": "HTTP_LATER", "flow_id": "p 5"}, {"event_type": "HTTP_LATER", "flow_id": "p 6"}]', 'key 2')$$)::text
	= json_build_object('event_ids', ARRAY[eda.publish('HTTP_LATER', 'p 5', idempotency_key => 'key 2#1'), eda.publish('HTTP_LATER', 'p 6', idempotency_key => 'key 2#2')])::text AS once;
SELECT t.http($$publish('{"event_type": "HTTP_LATER", "flow_id": "p 4", "idempotency_key": "another"}', 'key 1')$$);
SELECT t.http($$publish('[{"event_type": "HTTP_LATER", "flow_id": "p 5", "idempotency_key": "key 2"}]', 'key 2')$$);
SELECT t.http($$publish('{"event_type": "HTTP_LATER", "flow_id": "p 9"}', 'key 1')$$);
SELECT t.http($$publish('{"event_type": "HTTP_LATER", "flow_id": "p 4"}', '')$$);
SELECT t.http($$publish('{"event_type": "HTTP_LATER", "flow": "p 4"}')$$);
SELECT t.http($$publish('{"event_type": "HTTP_NO_SUCH", "flow_id": "p 4"}')$$);
SELECT t.http(format('publish(%L)', '[{"event_type": "HTTP_LATER", "flow_id": "p 7"}, ' || body || ']')) FROM unnest(ARRAY['{"flow_id": 7}', '{"correlation_id": true}', '{"idempotency_key": ["x"]}',
	'{"scheduled_at": 7}', '{"scheduled_at": "tomorrowish"}', '{"event_id": "7"}', '{"parent_id": {}}', '{"headers": "x"}', '{"event_type": "HTTP_LATER", "flow_id": "p 7", "headers": {"h": 7}}']) body;
-- A null counts as left out; times and ids are read as PostgreSQL reads them.
SELECT t.http($$publish('{"event_type": "HTTP_LATER", "flow_id": "p 8", "event_id": "{00000000-0000-4000-8000-0000000000AA}", "scheduled_at": "2100-01-01 00:00 UTC", "parent_id": null}')$$);
SELECT t.http($$publish('"HTTP_LATER"')$$);
SELECT t.http($$publish('[7]', 'key 3')$$);
SELECT t.http($$publish(NULL)$$);

-- acquire
SELECT eda.publish('HTTP', 'a 1', '{"n": 1}', headers => '{"X-H": "h"}', correlation_id => 'c 1') AS id \gset
SELECT t.reach(:'id', 'dispatched');
SELECT t.http(format($$acquire(%L, '{"worker": "w 1", "lease": 60}')$$, :'id'));
SELECT token, round(extract(epoch FROM lease_until - changed_at)) AS lease FROM eda.event_state WHERE id = :'id';
SELECT t.http(format('acquire(%L)', :'id'));
SELECT t.http($$acquire('01890000-0000-7000-8000-000000000000')$$);
SELECT t.http(format('acquire(%L)', id)) FROM eda.event WHERE flow_id = 'p 1';

-- the keys that a body may have, and their kinds
SELECT t.http(format('heartbeat(%L, %L, 3)', :'id', body)) FROM unnest(ARRAY['[]', '"x"', '{"extent": 7}', '{"extend": true}', '{"extend": "7 frogs"}', '{"extend": 1e300}',
	'{"extend": -1}', '{"extend": 0}', '{"extend": "200 years"}', '{"extend": "infinity"}', '{"token": "3"}', '{"token": 3.5}', '{"token": 1e10}', '{"token": 4}', '{"progress": 1, "a\"\n": 2}']) body;
SELECT t.http(format('cancel(%L, %L)', :'id', '{"reasons": "x"}'));

-- heartbeat: the token is in the body, in If-Match, or in both.
SELECT t.http(format('heartbeat(%L, %L, %s)', :'id', body, match)) FROM (VALUES
	('{"extend": 90, "progress": {"done": 0.5}}', '3'), ('{"token": 3, "extend": "1 min 30 s"}', 'NULL'), ('{"token": 3.0, "extend": null}', '3'),
	('{}', 'NULL'), (NULL, '2')) v(body, match);
SELECT round(extract(epoch FROM wake_at - at)) AS lease, detail FROM eda.history(:'id') WHERE version > 3;

-- success, once
SELECT t.http(format('succeed(%L, %L, 3)', :'id', '{"spinoffs": [{"event_type": "HTTP_NO_SUCH"}]}'));
SELECT t.http(format('succeed(%L, %L, 3)', :'id', '{"spinoffs": [{"event_type": "HTTP_LATER", "flow_id": 7}]}'));
SELECT t.http(format('succeed(%L, %L, 3)', :'id', '{"result": {"ok": true}, "spinoffs": [{"event_type": "HTTP_LATER"}, {"event_type": "HTTP_LATER", "flow_id": "a 2"}]}'));
SELECT t.http(format('succeed(%L, %L, 3)', :'id', '{"result": {"ok": true}}'));
SELECT t.http(format('succeed(%L, %L, 3)', :'id', '{"if_finished": "ok"}'));
-- The answer has the ids of the spinoff events, and of no other child.
SELECT count(eda.publish('HTTP_LATER', 'a 3', parent_id => :'id'));
SELECT t.body(format('succeed(%L, %L, 3)', :'id', '{"if_finished": "ok"}')) -> 'spinoff_event_ids' ->> (n - 1)::integer = e.id::text AS same
FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM eda.event WHERE parent_id = :'id' AND flow_id <> 'a 3') e;

-- failure, release, acquire_next
SELECT eda.publish('HTTP', 'f 1') AS id \gset
SELECT t.queued('http', 1);
SELECT t.http($$acquire_next('{"flow_type": "http", "worker": "w 2", "wait": "1 min"}')$$);
SELECT t.http($$acquire_next('{"flow_type": "http"}')$$);
SELECT t.http($$acquire_next('{"flow_type": "http", "wait": 2.5}')$$);
SELECT t.http($$acquire_next('{"flow_type": "http", "wait": "2 min", "max_events": 7, "lease": "10 s"}')$$);
SELECT t.http($$acquire_next('{"flow_type": "http_no_such"}')$$);
SELECT t.http($$acquire_next('{"max_events": 1}')$$);
SELECT t.http($$acquire_next('{"flow_type": "http", "max_events": 0}')$$);
SELECT t.http(format('release(%L, %L, 3)', :'id', '{"retry_in": "1 h", "reason": "later"}'));
SELECT t.http(format('release(%L, %L, 3)', :'id', '{}'));
SELECT state, round(extract(epoch FROM wake_at - changed_at)) AS wait, detail FROM eda.event_state WHERE id = :'id';
SELECT eda.cancel(:'id');
CALL t.take('HTTP', 'f 2') \gset
SELECT t.http(format('fail(%L, %L)', :'id', format('{"token": %s, "error_message": "broken", "stack_trace": "line 7", "retry_in": 3600}', :token)));
SELECT state, error, detail ->> 'stack' AS stack, round(extract(epoch FROM wake_at - changed_at)) AS wait FROM eda.event_state WHERE id = :'id';
SELECT t.http(format('fail(%L, %L, %s)', :'id', '{"if_finished": "ok"}', :token));
SELECT eda.cancel(:'id');
CALL t.take('HTTP', 'f 3') \gset
SELECT t.http(format('fail(%L, %L, %s)', :'id', '{"error_message": "hopeless", "retry": false}', :token));

-- cancel, suspend, resume and redrive
SELECT t.http(format('redrive(%L, %L)', :'id', '{"reason": "fixed"}'));
SELECT t.reach(:'id', 'dispatched');
SELECT t.http(format('redrive(%L)', :'id'));
SELECT t.http(format('suspend(%L, %L)', id, '{"deadline": "2100-01-01T00:00:00Z", "reason": "wait"}')) FROM eda.event WHERE flow_id = 'p 1';
SELECT wake_at AT TIME ZONE 'UTC', detail FROM eda.event_state WHERE flow_id = 'p 1';
SELECT t.http(format('suspend(%L, %L)', id, '{"deadline": "never"}')) FROM eda.event WHERE flow_id = 'p 1';
SELECT t.http(format('resume(%L)', id)) FROM eda.event WHERE flow_id = 'p 1';
SELECT t.reach(id, 'dispatched') FROM eda.event WHERE flow_id = 'p 1';
SELECT t.http(format('resume(%L)', id)) FROM eda.event WHERE flow_id = 'p 1';
SELECT t.http(format('cancel(%L, %L)', id, '{"reason": "enough"}')) FROM eda.event WHERE flow_id = 'p 1';
SELECT t.http(format('cancel(%L)', id)) FROM eda.event WHERE flow_id = 'p 1';

-- One event: everything that eda.event_state and eda.history() have.
SELECT t.reach(:'id', 'dispatched');
SELECT token FROM eda.acquire(:'id', worker => 'w 3') \gset
SELECT t.http(format('event(%L)', :'id'));
SELECT etag::integer = :token AS etag FROM eda_http.event(:'id');
SELECT t.http($$event('01890000-0000-7000-8000-000000000000')$$);
CREATE FUNCTION t.unlike(event_id uuid, OUT key text, OUT told text, OUT "is" text) RETURNS SETOF record LANGUAGE sql AS $$
	SELECT v.key, b.value::text, v.value::text
	FROM eda.event_state s
	CROSS JOIN LATERAL jsonb_each(to_jsonb(s) - 'id') v
	LEFT JOIN LATERAL jsonb_each(t.body(format('event(%L)', s.id))::jsonb) b USING (key)
	WHERE s.id = unlike.event_id AND v.value IS DISTINCT FROM b.value;
$$;
SELECT e.event_type, d.* FROM eda.event e CROSS JOIN LATERAL t.unlike(e.id) d WHERE e.flow_type LIKE 'http%';
SELECT count(*) > 10 AS many, bool_and(h.version IS NOT NULL) AS same
FROM eda.event e
CROSS JOIN LATERAL json_to_recordset(t.body(format('event(%L)', e.id)) -> 'history') s(version integer, state text, prev_state text, at timestamptz, took_ms numeric,
	attempt integer, token integer, wake_at timestamptz, expires_at timestamptz, worker text, suspended_by text, error text, stack text, reason text, result jsonb, progress jsonb)
LEFT JOIN LATERAL eda.history(e.id) h ON h.version = s.version AND (h.state, h.prev_state, h.at, h.attempt, h.token, h.wake_at, h.expires_at, h.worker, h.suspended_by)
	IS NOT DISTINCT FROM (s.state, s.prev_state, s.at, s.attempt, s.token, s.wake_at, s.expires_at, s.worker, s.suspended_by)
	AND (extract(epoch FROM h.took) * 1000, jsonb_strip_nulls(coalesce(h.detail, '{}'))) IS NOT DISTINCT FROM
		(s.took_ms, jsonb_strip_nulls(jsonb_build_object('error', s.error, 'stack', s.stack, 'reason', s.reason, 'result', s.result, 'progress', s.progress)))
WHERE e.flow_type LIKE 'http%';

-- its family: the same tree from each of its members, parents first
CREATE FUNCTION t.family(event_id uuid) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(m ->> 'flow_id', ' > ' ORDER BY n) || CASE (b ->> 'family_complete')::boolean WHEN true THEN '' ELSE ' ...' END
	FROM t.body(format('event(%L)', family.event_id)) b CROSS JOIN json_array_elements(b -> 'family') WITH ORDINALITY x(m, n) GROUP BY b ->> 'family_complete';
$$;
SELECT t.http(format('event(%L)', eda.publish('HTTP_LATER', 'root')));
SELECT id AS root FROM eda.event WHERE flow_id = 'root' \gset
SELECT eda.publish('HTTP_LATER', 'left', parent_id => :'root') AS "left" \gset
SELECT eda.publish('HTTP_LATER', 'right', parent_id => :'root') AS "right" \gset
SELECT eda.publish('HTTP_LATER', 'leaf 1', parent_id => :'left') AS leaf \gset
SELECT count(eda.publish('HTTP_LATER', 'leaf 2', parent_id => :'right', event_id => '00000000-0000-4000-8000-000000000077'));
SELECT t.family(:'root'), t.family(:'leaf'), t.family('00000000-0000-4000-8000-000000000077');
-- a parent that does not exist, and two events that are each other's parents
SELECT t.family(eda.publish('HTTP_LATER', 'orphan', parent_id => '01890000-0000-7000-8000-000000000000'));
SELECT count(eda.publish('HTTP_LATER', 'ring ' || n, event_id => ('00000000-0000-4000-8000-00000000010' || n)::uuid,
	parent_id => ('00000000-0000-4000-8000-00000000010' || (n + 1) % 3)::uuid)) FROM generate_series(0, 2) n;
SELECT t.family('00000000-0000-4000-8000-000000000101');
SELECT t.family(eda.publish('HTTP_LATER', 'own parent', event_id => '00000000-0000-4000-8000-000000000110', parent_id => '00000000-0000-4000-8000-000000000110'));
-- 250 children, and a chain of 150 generations: at most 200 members, and the event among them
SELECT count(eda.publish('HTTP_LATER', 'wide ' || n, parent_id => :'right')) FROM generate_series(1, 250) n;
SELECT count(eda.publish('HTTP_LATER', 'line ' || n, event_id => format('00000000-0000-4000-8000-%s', lpad((1000 + n)::text, 12, '0'))::uuid,
	parent_id => format('00000000-0000-4000-8000-%s', lpad((999 + n)::text, 12, '0'))::uuid)) FROM generate_series(1, 150) n;
SELECT e.flow_id, json_array_length(b -> 'family') AS members, b ->> 'family_complete' AS complete, b -> 'family' -> 0 ->> 'flow_id' AS first,
	(SELECT count(*) FROM json_array_elements(b -> 'family') m WHERE m ->> 'event_id' = e.id::text) AS itself
FROM (SELECT id, flow_id FROM eda.event WHERE flow_id IN ('root', 'leaf 1', 'wide 250', 'line 1', 'line 90', 'line 150')) e
CROSS JOIN LATERAL t.body(format('event(%L)', e.id)) b ORDER BY e.id;

-- An event whose id has a time outside its leaf's range is found, too.
SELECT t.http('event(''00000000-0000-4000-8000-000000000077'')');
SELECT t.body('event(''00000000-0000-4000-8000-000000000077'')') ->> 'flow_id';

-- lists: newest first, page after page, each event once
CREATE FUNCTION t.pages(page_size integer, filters text DEFAULT '', OUT pages integer, OUT ids uuid[]) LANGUAGE plpgsql AS $$
DECLARE
	body json;
	next uuid;
BEGIN
	ids := '{}';
	pages := 0;
	LOOP
		body := t.body(format('events(before => %L, page_size => %s%s)', next, page_size, filters));
		ids := ids || ARRAY(SELECT (e ->> 'event_id')::uuid FROM json_array_elements(body -> 'events') WITH ORDINALITY x(e, n) ORDER BY n);
		pages := pages + 1;
		next := body ->> 'next';
		EXIT WHEN next IS NULL;
	END LOOP;
END $$;
SELECT pages = ceil(n / 100.0) AS pages, ids = sorted AS all_of_them
FROM t.pages(100) CROSS JOIN (SELECT count(*) AS n, array_agg(id ORDER BY id DESC) AS sorted FROM eda.event) e;
SELECT pages, ids = (SELECT array_agg(id ORDER BY id DESC) FROM eda.event WHERE flow_id = 'root') AS found FROM t.pages(1, ', flow_id => ''root''');
SELECT cardinality(ids), ids = (SELECT array_agg(id ORDER BY id DESC) FROM eda.event_state WHERE state = 'canceled' AND event_type = 'HTTP') AS found
FROM t.pages(2, ', state => ''canceled'', event_type => ''HTTP''');
SELECT cardinality(ids) = (SELECT count(*) FROM eda.event WHERE flow_type = 'http_later') AS found FROM t.pages(500, ', flow_type => ''http_later''');
SELECT t.http($$events(event_type => 'HTTP_NO_SUCH', flow_id => 'root')$$);
SELECT t.http($$events(flow_id => 'p 1')$$);
SELECT t.http($$events(state => 'dead')$$);
SELECT t.http(format('events(page_size => %s)', n)) FROM unnest('{0,501,-1}'::integer[]) n;
-- A call looks at 5,000 events at most, and then returns where the next call begins.
SELECT cardinality(eda.publish_many('HTTP_LATER', ARRAY(SELECT 'many ' || n FROM generate_series(1, 5001) n)));
SELECT b ->> 'next' = (SELECT id::text FROM eda.event ORDER BY id DESC OFFSET 4999 LIMIT 1) AS goes_on, b ->> 'events' AS events
FROM t.body($$events(flow_type => 'nobody')$$) b;

-- a flow
SELECT t.http($$flow('http', 'f 2')$$);
SELECT json_array_length(b -> 'events') AS events, b ->> 'complete' AS complete, b -> 'events' -> 0 ->> 'flow_id' AS flow
FROM t.body($$flow('http_later', 'p 5')$$) b;
SELECT count(eda.publish('HTTP_LATER', 'long')) FROM generate_series(1, 201);
SELECT json_array_length(b -> 'events') AS events, b ->> 'complete' AS complete, b -> 'events' -> 0 ->> 'event_id' = (SELECT min(id::text) FROM eda.event WHERE flow_id = 'long') AS oldest_first
FROM t.body($$flow('http_later', 'long')$$) b;
SELECT t.http($$flow('http', 'root')$$);

-- dead letters and errors
SELECT count(*) FROM eda.configure('HTTP_DEAD', 'http_dead', attempt_delays => '{0 s}', max_attempts => 1);
SELECT count(eda.publish('HTTP_DEAD', 'd ' || n)) FROM generate_series(1, 9) n;
SELECT t.queued('http_dead', 9);
DO $$
DECLARE
	e record;
BEGIN
	FOR n IN 1 .. 9 LOOP
		SELECT * INTO e FROM eda.acquire_next('http_dead');
		PERFORM eda.fail(e.event_id, 'no ' || n, 'line ' || n, token => e.token);
		COMMIT;
	END LOOP;
END $$;
SELECT b -> 'dead_letters' -> 0 ->> 'error' AS newest, json_array_length(b -> 'dead_letters') AS letters, b ->> 'next' IS NULL AS last
FROM t.body($$dead_letters('http_dead')$$) b;
CREATE FUNCTION t.letters(page_size integer, OUT pages integer, OUT errors text) LANGUAGE plpgsql AS $$
DECLARE
	body json;
	next text;
BEGIN
	pages := 0;
	LOOP
		body := t.body(format('dead_letters(''http_dead'', ''HTTP_DEAD'', %L, %s)', next, page_size));
		errors := concat(errors, (SELECT string_agg(l ->> 'error', ', ' ORDER BY n) FROM json_array_elements(body -> 'dead_letters') WITH ORDINALITY x(l, n)), ' | ');
		pages := pages + 1;
		next := body ->> 'next';
		EXIT WHEN next IS NULL;
	END LOOP;
END $$;
SELECT * FROM t.letters(4);
SELECT * FROM t.letters(3);
SELECT t.body($$dead_letters('http_dead', page_size => 1)$$) ->> 'next' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z,[0-9a-f-]{36}$' AS readable;
SELECT t.http($$dead_letters(event_type => 'HTTP_DEAD', page_size => 1)$$);
SELECT t.http($$dead_letters('http', 'HTTP_DEAD')$$);
SELECT t.http($$dead_letters(before => 'yesterday')$$);
-- A redriven event is no dead letter, but counts as one of those looked at.
SELECT t.http(format('redrive_dead_letters(%L)', json_build_object('reason', 'again', 'event_ids',
	ARRAY(SELECT event_id FROM eda.dead_letter WHERE event_type = 'HTTP_DEAD' AND flow_id IN ('d 5', 'd 6', 'd 7', 'd 8', 'd 9')))));
SELECT t.letters(1);
SELECT t.http($$redrive_dead_letters('{"event_type": "HTTP_DEAD", "since": "2100-01-01"}')$$);
SELECT t.http($$redrive_dead_letters('{"event_type": "HTTP_DEAD"}')$$);
SELECT t.http($$dead_letters('http_dead')$$);
SELECT t.http(format('redrive_dead_letters(%L)', body)) FROM unnest(ARRAY['{}', '{"event_type": "HTTP_DEAD", "event_ids": []}', '{"event_ids": [], "since": "2000-01-01"}', '{"event_ids": ["x"]}', '{"event_ids": [null]}',
	'{"event_ids": [[1]]}', '{"event_ids": []}', '{"event_type": "HTTP_NO_SUCH"}', '{"event_type": "HTTP_DEAD", "since": "x"}']) body;
SELECT row(e ->> 'error', e ->> 'moved_to') IS NOT DISTINCT FROM (SELECT row(l.error, l.moved_to) FROM eda.error_log l ORDER BY l.at DESC LIMIT 1) AS newest,
	(SELECT string_agg(k, ' ' ORDER BY n) FROM json_object_keys(e) WITH ORDINALITY x(k, n)) AS keys
FROM t.body('errors(1)') b, json_array_elements(b -> 'errors') e;
SELECT t.http('errors(0)');
SELECT count(eda.cancel(id)) FROM eda.event_state WHERE event_type = 'HTTP_DEAD';

-- rules
SELECT t.http($$configure('HTTP_RULES', '{"flow_type": "http_rules", "max_attempts": 7, "lifespan": 864000, "attempt_delays": [0, "5 s", 60], "backoff": 1.5, "max_in_flight": 3, "subject": "a.b"}')$$);
SELECT t.http($$configure('HTTP_RULES', '{"max_attempts": 3, "lifespan": null, "subject": ""}', replace => false)$$);
SELECT t.http($$configure('HTTP_RULES', '{"attempt_delays": null}', replace => false)$$);
SELECT t.http($$configure('HTTP_RULES', NULL, replace => false)$$);
SELECT t.http($$suspend_event_type('HTTP_RULES', true)$$);
SELECT t.http($$suspend_event_type('HTTP_RULES', true)$$);
SELECT t.http($$configure('HTTP_RULES', '{"priority": 9}')$$);
SELECT t.http($$event_type('HTTP_RULES')$$) = t.http($$configure('HTTP_RULES', '{"priority": 9}')$$) AS same;
SELECT t.http($$suspend_event_type('HTTP_RULES', false)$$);
SELECT t.http(format('configure(''HTTP_RULES'', %L, %L)', body, replace)) FROM (VALUES ('{"flow_type": "http"}', true), ('{"max_attempts": "many"}', true), ('{"max_attempts": 0}', true),
	('{"priority": 2.5}', false), ('{"backoff": 1e200}', false), ('{"lease": "5 frogs"}', false), ('{"lease": 0}', false), ('{"attempt_delays": 5}', false), ('{"attempt_delays": []}', false),
	('{"attempt_delays": [null]}', false), ('{"attempt_delays": [[1]]}', false), ('{"suspended": true}', false), ('{"delivery": "post"}', false)) v(body, replace);
SELECT t.http($$configure('http_rules', '{"flow_type": "http_rules"}')$$);
SELECT t.http($$configure('HTTP_NEW', '{}')$$);
SELECT t.http($$configure('HTTP_NEW', '{"flow_type": "http_rules"}', replace => false)$$);
SELECT t.http($$configure('7', '{"flow_type": "http_rules"}')$$);
SELECT t.http($$event_type('http_rules')$$);
SELECT t.http($$suspend_event_type('HTTP_NO_SUCH', true)$$);
SELECT json_array_length(b -> 'event_types') = (SELECT count(*) FROM eda.event_type) AS all_types FROM t.body('event_types()') b;

-- counts
SELECT string_agg(k, ' ' ORDER BY n) FROM json_object_keys(t.body('counts()')) WITH ORDINALITY x(k, n);
SELECT string_agg(k, ' ' ORDER BY n) FROM json_object_keys(t.body('counts()') -> 'types' -> 0) WITH ORDINALITY x(k, n);
SELECT t.body('counts()') -> 'engine' ->> 'state' AS engine, count(*) = count(DISTINCT e ->> 'event_type') AND count(*) = (SELECT count(*) FROM eda.event_type) AS types,
	string_agg(e ->> 'events', '') FILTER (WHERE e ->> 'event_type' = 'HTTP_RULES') AS states, bool_and((e ->> 'oldest_due_age')::numeric >= 0) AS ages
FROM json_array_elements(t.body('counts()') -> 'types') e;
SELECT t.until($$(t.body('counts()') ->> 'dead_letters')::bigint = (SELECT count(*) FROM eda.dead_letter)$$);
SELECT json_array_length(t.body('lifecycle()') -> 'moves') = count(*) AS moves FROM eda.lifecycle;
SELECT replace(t.http('ready()'), current_database(), '<database>') AS http;
SELECT t.until($$(SELECT state FROM eda.engine_status) = 'running'$$);

-- eda.changes(): exactly what a snapshot does not see and has been committed since
CREATE FUNCTION t.news(since pg_snapshot) RETURNS text LANGUAGE sql AS $$
	SELECT coalesce(string_agg(c.flow_id || ' ' || c.state, ', ' ORDER BY c.flow_id), '(nothing)') FROM eda.changes(since) c WHERE c.flow_id LIKE 'new %';
$$;
SELECT count(*) FROM eda.changes();
SELECT pg_current_snapshot() AS a \gset
SELECT t.news(:'a');
SELECT dblink_connect('slow', t.me()), dblink_exec('slow', 'BEGIN');
SELECT count(*) FROM dblink('slow', $$SELECT eda.publish('HTTP_LATER', 'new slow')$$) x(id uuid);
SELECT count(eda.publish('HTTP_LATER', 'new fast'));
SELECT t.news(:'a');
SELECT snapshot AS b FROM eda.changes(:'a') LIMIT 1 \gset
SELECT t.news(:'b');
SELECT dblink_exec('slow', 'COMMIT');
-- From snapshot b on, only the slow transaction is new, though its id is lower; from a on, both are.
SELECT t.news(:'b');
SELECT t.news(:'a');
SELECT snapshot AS c FROM eda.changes(:'b') LIMIT 1 \gset
SELECT t.news(:'c');
-- What rolled back is not returned, nor, before its commit, what the caller itself did.
SELECT dblink_exec('slow', 'BEGIN');
SELECT count(*) FROM dblink('slow', $$SELECT eda.publish('HTTP_LATER', 'new undone')$$) x(id uuid);
SELECT dblink_exec('slow', 'ROLLBACK'), dblink_disconnect('slow');
BEGIN;
SELECT count(eda.publish('HTTP_LATER', 'new own'));
SELECT t.news(:'c');
SELECT eda.current_snapshot() AS d \gset
COMMIT;
SELECT t.news(:'d');
SELECT t.mask(to_jsonb(c)::text) LIKE '%"at": "<time>"%' AS at, to_jsonb(c) - '{event_id,at,snapshot}'::text[] AS change FROM eda.changes(:'d') c WHERE flow_id = 'new own';
-- More than max_rows: whole transactions, page after page, each transition once.
SELECT pg_current_snapshot() AS a \gset
DO $$
BEGIN
	FOR n IN 1 .. 20 LOOP
		PERFORM eda.publish_many('HTTP_LATER', ARRAY(SELECT format('page %s %s', n, i) FROM generate_series(1, 30) i));
		COMMIT;
	END LOOP;
END $$;
CREATE FUNCTION t.all_news(since pg_snapshot, max_rows integer, OUT pages integer, OUT largest integer, OUT steps integer, OUT distinct_steps integer) LANGUAGE plpgsql AS $$
DECLARE
	steps_of_page text[];
	seen text[] := '{}';
BEGIN
	pages := 0;
	largest := 0;
	LOOP
		SELECT array_agg(c.event_id || ' ' || c.version), min(c.snapshot::text) INTO steps_of_page, since FROM eda.changes(since, max_rows) c;
		EXIT WHEN steps_of_page IS NULL;
		pages := pages + 1;
		largest := greatest(largest, cardinality(steps_of_page));
		seen := seen || steps_of_page;
	END LOOP;
	SELECT count(*), count(DISTINCT s) INTO steps, distinct_steps FROM unnest(seen) s JOIN eda.event e ON e.id = split_part(s, ' ', 1)::uuid WHERE e.flow_id LIKE 'page %';
END $$;
SELECT pages >= 4 AS pages, largest <= 200 AS bounded, steps, distinct_steps FROM t.all_news(:'a', 200);
-- So it is when not all transactions that were running at the snapshot fit on the first page.
SELECT regexp_replace(:'a', '^(\d+):(\d+):.*', '\2')::bigint AS x \gset
SELECT format('%s:%s:%s', :x, max(xid) + 1, string_agg(xid::text, ',' ORDER BY xid)) AS then FROM (SELECT DISTINCT xid FROM eda.transition WHERE xid >= :x) x \gset
SELECT pages >= 4 AS pages, largest <= 200 AS bounded, steps, distinct_steps FROM t.all_news(:'then', 200);
SELECT count(*) > 0 AS at_least, bool_and(xmax = max_xmax) AS xmax_stays FROM (
	SELECT pg_snapshot_xmax(c.snapshot) AS xmax, pg_snapshot_xmax(:'then') AS max_xmax FROM eda.changes(:'then', 200) c) x;
SELECT cardinality(eda.publish_many('HTTP_LATER', ARRAY(SELECT 'big ' || i FROM generate_series(1, 201) i)));
SELECT regexp_replace(t.try(format('SELECT count(*) FROM eda.changes(%L, 200)', format('%s:%s:', xid, xid))), 'transaction \d+', 'transaction <xid>')
FROM (SELECT max(xid) AS xid FROM eda.transition t JOIN eda.event e ON e.id = t.event_id WHERE e.flow_id = 'big 1') x;
SELECT t.try('SELECT count(*) FROM eda.changes(''99999999999:99999999999:'')');
SELECT t.try('SELECT count(*) FROM eda.changes(''1:1:'', 0)');
-- For the gateway: all of it, or none and complete = false.
SELECT b ->> 'feed' AS feed, b ->> 'complete' AS complete, b ->> 'changes' AS changes, (b ->> 'snapshot')::pg_snapshot IS NOT NULL AS snapshot FROM t.body('changes()') b;
SELECT t.body(format('changes(%L)', :'a')) AS changes \gset
SELECT :'changes'::json ->> 'complete' AS complete, count(*) AS steps FROM json_array_elements(:'changes'::json -> 'changes') c WHERE c ->> 'flow_id' LIKE 'page %';
SELECT string_agg(k, ' ' ORDER BY n) FROM json_object_keys(:'changes'::json -> 'changes' -> 0) WITH ORDINALITY x(k, n);
SELECT n, b ->> 'complete' AS complete, json_array_length(b -> 'changes') AS changes, pg_snapshot_xmax((b ->> 'snapshot')::pg_snapshot) > pg_snapshot_xmax(:'a') AS goes_on
FROM unnest('{1,200}'::integer[]) n, t.body(format('changes(%L, %s)', :'a', n)) b;

-- hostile bodies: every function accepts them, or raises an error of the caller
CREATE FUNCTION t.code(call text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE 'SELECT * FROM eda_http.' || call;
	RAISE EXCEPTION 'undo' USING ERRCODE = '22000';
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;
CREATE TEMP TABLE hostile AS
SELECT replace(call, '<id>', quote_literal(id)) AS call, format('{"flow_type": "http_rules", %s: %s}', to_json(key), value)::jsonb AS body, key, value
FROM (VALUES
	('acquire(<id>, %L)', '{worker,lease}'::text[]), ('succeed(<id>, %L, 3)', '{token,result,spinoffs,if_finished}'), ('fail(<id>, %L, 3)', '{token,error_message,stack_trace,retry,retry_in,if_finished}'),
	('heartbeat(<id>, %L, 7)', '{token,extend,progress}'), ('release(<id>, %L, 7)', '{token,retry_in,reason}'), ('suspend(<id>, %L, 7)', '{token,deadline,reason}'),
	('cancel(<id>, %L)', '{reason}'), ('redrive(<id>, %L)', '{reason}'), ('resume(<id>, %L)', '{reason}'), ('acquire_next(%L)', '{flow_type,max_events,wait,worker,lease}'),
	('redrive_dead_letters(%L)', '{event_ids,event_type,since,reason}'),
	('publish(%L)', '{event_type,flow_id,payload,scheduled_at,event_id,idempotency_key,headers,correlation_id,parent_id,on_fail_event_type,"","%s"}'),
	('publish(jsonb_build_array(%L::jsonb), ''key'')', '{event_type,flow_id,payload,scheduled_at,event_id,idempotency_key,headers,correlation_id,parent_id,on_fail_event_type}'),
	('configure(''HTTP_RULES'', %L, true)', '{on_fail_event_type,subject,max_in_flight}'), ('configure(''HTTP_RULES'', %L, false)', '{max_attempts,lifespan,attempt_delays,backoff,delivery}')) f(call, keys)
CROSS JOIN unnest(keys) key
CROSS JOIN (SELECT id FROM eda.event WHERE flow_id = 'f 3') e
CROSS JOIN unnest(ARRAY['null', 'true', '0', '-1', '1e400', '-2147483649', '0.5', '1e-400', '99999999999999999999', '""', '"NaN"', '"infinity"', '"-infinity"', '"99999999999 years"', '"1 day ago"', '"294277-01-01"',
	'"4714-01-01 BC"', '"2000-01-01T00:00:00+99"', '"\u202e\u0007"', '"''; --"', '"\"\\\\"', to_json(repeat('x', 3000))::text, '[]', '[null]', '[1e400, "x"]', '{}', '{"a": {}}',
	repeat('[', 500) || repeat(']', 500), repeat('{"a":', 500) || '1' || repeat('}', 500)]) value;
-- The other functions have no key flow_type; those that have it need it.
UPDATE hostile SET body = body - 'flow_type' WHERE call !~ '^(acquire_next|configure)';
UPDATE hostile SET body = body || '{"event_type": "HTTP_RULES", "flow_id": "hostile"}' || jsonb_build_object(key, value::jsonb) WHERE call ~ '^publish' AND key <> '';
SELECT count(*) > 1500 AS many FROM hostile;
SELECT h.call, left(h.body::text, 200), c.code FROM hostile h CROSS JOIN LATERAL (SELECT t.code(format(h.call, h.body)) AS code) c WHERE c.code !~ '^(ED0|22|23)';
-- The same for the parameters in the address.
SELECT call, v, c.code FROM unnest('{"events(state => %L)","events(flow_type => %L)","events(flow_id => %L)","events(event_type => %L)","flow(%L, %1$L)","event_type(%L)","dead_letters(flow_type => %L)",
	"dead_letters(event_type => %L)","dead_letters(before => %L)","dead_letters(before => %L || '',01890000-0000-7000-8000-000000000000'')","configure(%L)","suspend_event_type(%L, true)"}'::text[]) call
CROSS JOIN unnest('{"",x,"%s","\\","''",now,infinity,-infinity,294277-01-01,"4714-01-01 BC","2000-01-01T00:00:00+99",\u202e}'::text[] || repeat('x', 3000)) v
CROSS JOIN LATERAL (SELECT t.code(format(call, v)) AS code) c WHERE c.code !~ '^(ED0|22|23)';
\t off
\pset format aligned
SELECT count(eda.cancel(id)) FROM eda.event_state WHERE flow_type = 'http' AND state NOT IN ('succeeded', 'failed', 'expired', 'canceled');
