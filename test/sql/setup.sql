-- The extension installs, its engine waits for the first event type, and then runs.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS eda;
CREATE EXTENSION IF NOT EXISTS dblink;
RESET client_min_messages;

-- The functions that the other tests share.
CREATE SCHEMA t;

-- Wait until an expression is true; return false after two minutes.
CREATE FUNCTION t.until(condition text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
	met boolean;
	give_up CONSTANT timestamptz := clock_timestamp() + interval '2 min';
BEGIN
	LOOP
		EXECUTE 'SELECT ' || condition INTO met;
		IF met OR clock_timestamp() > give_up THEN
			RETURN coalesce(met, false);
		END IF;
		PERFORM pg_sleep(0.01);
	END LOOP;
END $$;

CREATE FUNCTION t.state(event_id uuid) RETURNS text LANGUAGE sql
RETURN (SELECT s.state FROM eda.event_state s WHERE s.id = state.event_id);

-- Wait until an event is in a state; return the state that it is in at the end.
CREATE FUNCTION t.reach(event_id uuid, state text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	PERFORM t.until(format('t.state(%L) = %L', event_id, state));
	RETURN t.state(event_id);
END $$;

-- Return the states of an event in one line, in their order.
CREATE FUNCTION t.life(event_id uuid) RETURNS text LANGUAGE sql
RETURN (SELECT string_agg(h.state, ' > ' ORDER BY h.version) FROM eda.history(life.event_id) h);

-- Wait until n events of a flow type are dispatched and in the ready queue.
CREATE FUNCTION t.queued(flow_type text, n integer) RETURNS boolean LANGUAGE sql VOLATILE AS $$
	SELECT t.until(format(
		'(SELECT count(*) FROM eda.event_state WHERE flow_type = %L AND state = ''dispatched'') = %s
		AND (SELECT queued FROM eda.engine_status) >= (SELECT count(*) FROM eda.event_state WHERE state = ''dispatched'')',
		flow_type, n));
$$;

CREATE FUNCTION t.mask(line text) RETURNS text LANGUAGE sql
RETURN regexp_replace(regexp_replace(regexp_replace(regexp_replace(regexp_replace(line,
	'[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}', '<id>', 'g'),
	'\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d(:?\d\d)?)?', '<time>', 'g'),
	'(Mon|Tue|Wed|Thu|Fri|Sat|Sun) [A-Z][a-z]{2} \d\d \d\d:\d\d:\d\d(\.\d+)? \d{4} [A-Z]+', '<time>', 'g'),
	'([Pp]rocess|PID|pid) \d+', '\1 <pid>', 'g'),
	'transaction \d+', 'transaction <xid>', 'g');

-- Run a command in a subtransaction; return its result, or its error with detail and hint.
CREATE FUNCTION t.try(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
	message text;
	detail text;
	hint text;
BEGIN
	EXECUTE command INTO result;
	RETURN t.mask('ok: ' || coalesce(result, '(nothing)'));
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
	RETURN t.mask(SQLSTATE || ': ' || message || coalesce(E'\nDETAIL: ' || nullif(detail, ''), '')
		|| coalesce(E'\nHINT: ' || nullif(hint, ''), ''));
END $$;

-- Publish an event, wait until it is dispatched, and acquire it.
CREATE PROCEDURE t.take(event_type text, flow_id text, INOUT id uuid DEFAULT NULL, INOUT token integer DEFAULT NULL)
LANGUAGE plpgsql AS $$
BEGIN
	id := eda.publish(event_type, flow_id, '{"p": 1}', headers => '{"traceparent": "00-ab-cd-01", "X-Any": "thing"}',
		correlation_id => 'c ' || flow_id);
	COMMIT;
	PERFORM t.reach(id, 'dispatched');
	SELECT a.token INTO token FROM eda.acquire(id, worker => 'w') a;
END $$;

-- Connect to this database in another session, by dblink.
CREATE FUNCTION t.me() RETURNS text LANGUAGE sql
RETURN format('host=%s port=%s dbname=%I user=%I', split_part(current_setting('unix_socket_directories'), ',', 1),
	current_setting('port'), current_database(), current_user);

SELECT t.until($$(SELECT state FROM eda.engine_status) = 'idle: waiting for the first event type'$$);
SELECT event_type, flow_type FROM eda.configure('FIRST', 'setup');
SELECT t.until($$(SELECT state FROM eda.engine_status) = 'running'$$);
SELECT pid IS NOT NULL AS has_pid, last_error FROM eda.engine_status;
-- Run an event through its whole life once.
SELECT eda.publish('FIRST', 'flow 1') AS id \gset
SELECT t.reach(:'id', 'dispatched');
SELECT token FROM eda.acquire(:'id') \gset
SELECT eda.succeed(:'id', :token);
SELECT t.life(:'id');
