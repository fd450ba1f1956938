-- A worker acquires dispatched events by priority, each event once, and waits for one without polling.
SELECT count(*) FROM eda.configure('ACQ', 'acq', max_attempts => 2, lease => '5 min');
SELECT count(*) FROM eda.configure('ACQ_HIGH', 'acq_order', priority => 9);
SELECT count(*) FROM eda.configure('ACQ_MID', 'acq_order');
SELECT count(*) FROM eda.configure('ACQ_LOW', 'acq_order', priority => 0);
SELECT count(*) FROM eda.configure('ACQ_WAIT', 'acq_wait');
SELECT count(*) FROM eda.configure('ACQ_OFF', 'acq_off');

-- a given event
SELECT eda.publish('ACQ', 'one', '{"a": 1}', headers => '{"h": "1"}', correlation_id => 'c 1',
	parent_id => '01890000-0000-7000-8000-000000000000') AS id \gset
SELECT t.reach(:'id', 'dispatched');
SELECT event_id = :'id' AS same, token, event_type, flow_type, flow_id, attempt, payload, headers, correlation_id, parent_id,
	round(extract(epoch FROM lease_until - eda.clock()), -1) AS lease_left
FROM eda.acquire(:'id', worker => 'bench 3');
SELECT state, attempt, attempts_left, attempts_failed, token, worker, wake_at = lease_until AND lease_until = attempt_due_at AS until,
	round(extract(epoch FROM lease_until - changed_at)) AS lease
FROM eda.event_state WHERE id = :'id';
-- An event is acquired once.
SELECT count(*) FROM eda.acquire(:'id');
-- The caller may give its own lease; without a worker's name, the application name counts.
SELECT eda.publish('ACQ', 'own lease') AS id \gset
SELECT t.reach(:'id', 'dispatched');
SET application_name = 'my worker';
SELECT round(extract(epoch FROM lease_until - eda.clock()), -1) AS lease_left FROM eda.acquire(:'id', lease => '1 hour');
SELECT worker FROM eda.event_state WHERE id = :'id';
RESET application_name;
-- There is no row for an event that is not dispatched.
SELECT eda.publish('ACQ', 'not yet', scheduled_at => '2100-01-01') AS id \gset
SELECT count(*) FROM eda.acquire(:'id');
SELECT t.try($$SELECT eda.acquire('01890000-0000-7000-8000-000000000000')$$);
SELECT t.try($$SELECT eda.acquire('7d793037-a076-4b9b-9f09-000000000000')$$);
SELECT t.try($$SELECT eda.acquire(NULL)$$);
SELECT t.try(format('SELECT eda.acquire(%L, lease => ''0'')', :'id'));
SELECT t.try(format('SELECT eda.acquire(%L, lease => ''-1 s'')', :'id'));

-- the next events, at most max_events
SELECT cardinality(eda.publish_many('ACQ', '{n 1, n 2, n 3, n 4, n 5}'));
SELECT t.queued('acq', 5);
SELECT flow_id, token, event_type, flow_type, attempt, payload, headers, correlation_id, parent_id,
	round(extract(epoch FROM lease_until - eda.clock()), -1) AS lease_left
FROM eda.acquire_next('acq', 3, worker => 'bench 3');
SELECT flow_id FROM eda.acquire_next('acq', 10, lease => '2 min');
SELECT flow_id FROM eda.acquire_next('acq', 10);
SELECT flow_id, worker, round(extract(epoch FROM lease_until - changed_at)) AS lease FROM eda.event_state
WHERE event_type = 'ACQ' AND flow_id LIKE 'n _' ORDER BY flow_id;
-- max_events is 1 by default.
SELECT cardinality(eda.publish_many('ACQ', '{n 6, n 7}'));
SELECT t.queued('acq', 2);
SELECT flow_id FROM eda.acquire_next('acq');
-- acquire_next() does not return an event that acquire() has returned.
SELECT count(*) FROM eda.acquire((SELECT id FROM eda.event WHERE flow_id = 'n 7'));
SELECT flow_id FROM eda.acquire_next('acq', 10);
-- Events of a higher priority come first, and then in their order.
SELECT cardinality(eda.publish_many('ACQ_LOW', '{low 1, low 2}'));
SELECT cardinality(eda.publish_many('ACQ_MID', '{mid 1, mid 2}'));
SELECT cardinality(eda.publish_many('ACQ_HIGH', '{high 1, high 2}'));
SELECT t.queued('acq_order', 6);
SELECT flow_id FROM eda.acquire_next('acq_order', 3);
SELECT flow_id FROM eda.acquire_next('acq_order', 3);
SELECT t.try($$SELECT eda.acquire_next('acq', $$ || bad.arguments || ')') FROM (VALUES
	(1, '0'), (2, '-1'), (3, 'NULL'), (4, '10001'), (5, '1, lease => ''0''')) bad(n, arguments)
ORDER BY n;
SELECT t.try($$SELECT eda.acquire_next(NULL)$$);
SELECT t.try($$SELECT eda.acquire_next('acq_nowhere')$$);
-- An unknown flow type raises an error, and does not look like an empty queue.
SELECT t.try($$SELECT eda.acquire_next('ACQ')$$);

-- waiting
CREATE FUNCTION t.waited(wait interval, OUT events bigint, OUT seconds numeric) LANGUAGE plpgsql AS $$
DECLARE
	start timestamptz := clock_timestamp();
BEGIN
	SELECT count(*) INTO events FROM eda.acquire_next('acq_wait', 5, waited.wait);
	seconds := extract(epoch FROM clock_timestamp() - start);
END $$;
SELECT events FROM t.waited('0');
SELECT events, seconds >= 0.5 AS waited FROM t.waited('500 ms');
-- A new event ends the wait.
SELECT dblink_connect('other', t.me());
SELECT dblink_send_query('other', $$SELECT flow_id, attempt FROM eda.acquire_next('acq_wait', 5, '60 s')$$);
SELECT t.until('(SELECT waiting_workers FROM eda.engine_status) = 1');
SELECT count(*) FROM eda.publish('ACQ_WAIT', 'waited for');
SELECT * FROM dblink_get_result('other') r(flow_id text, attempt integer);
SELECT * FROM dblink_get_result('other') r(flow_id text, attempt integer);
SELECT t.until('(SELECT waiting_workers FROM eda.engine_status) = 0');
-- An event that becomes due ends the wait, too.
SELECT dblink_send_query('other', $$SELECT flow_id, attempt FROM eda.acquire_next('acq_wait', 5, '60 s')$$);
SELECT count(*) FROM eda.publish('ACQ_WAIT', 'due soon', scheduled_at => eda.clock() + interval '300 ms');
SELECT * FROM dblink_get_result('other') r(flow_id text, attempt integer);
SELECT * FROM dblink_get_result('other') r(flow_id text, attempt integer);
-- A wait can be canceled.
SELECT dblink_send_query('other', $$SELECT flow_id, attempt FROM eda.acquire_next('acq_wait', 5, '60 s')$$);
SELECT t.until('(SELECT waiting_workers FROM eda.engine_status) = 1');
SELECT dblink_cancel_query('other');
SELECT * FROM dblink_get_result('other', false) r(flow_id text, attempt integer);
SELECT t.until('(SELECT waiting_workers FROM eda.engine_status) = 0');
SELECT dblink_disconnect('other');

-- After a rollback, the event is dispatched to another worker; no attempt is used up.
SELECT eda.publish('ACQ', 'back') AS id \gset
SELECT t.reach(:'id', 'dispatched');
BEGIN;
SELECT flow_id, attempt FROM eda.acquire_next('acq', 1, '10 s');
SELECT t.state(:'id');
ROLLBACK;
SELECT t.until(format('(SELECT returns FROM eda.transition WHERE event_id = %L ORDER BY version DESC LIMIT 1) = 1', :'id'));
SELECT flow_id, token, attempt FROM eda.acquire_next('acq', 1, '10 s');
SELECT version, state, attempt, returns FROM eda.transition WHERE event_id = :'id' ORDER BY version;
-- So it is after a rollback to a savepoint while the transaction continues,
SELECT eda.publish('ACQ', 'savepoint') AS id \gset
SELECT t.reach(:'id', 'dispatched');
BEGIN;
SAVEPOINT a;
SELECT flow_id, attempt FROM eda.acquire_next('acq', 1, '10 s');
ROLLBACK TO a;
SELECT t.until(format('(SELECT returns FROM eda.transition WHERE event_id = %L ORDER BY version DESC LIMIT 1) = 1', :'id'));
SELECT flow_id, token, attempt FROM eda.acquire_next('acq', 1, '10 s');
COMMIT;
SELECT t.life(:'id');
-- and after an exception in a PL/pgSQL block.
SELECT eda.publish('ACQ', 'exception') AS id \gset
SELECT t.reach(:'id', 'dispatched');
DO $$
DECLARE
	e record;
BEGIN
	BEGIN
		SELECT * INTO STRICT e FROM eda.acquire_next('acq', 1, '10 s');
		RAISE EXCEPTION 'the work went wrong in attempt %', e.attempt;
	EXCEPTION WHEN raise_exception THEN
		RAISE NOTICE 'caught: %', SQLERRM;
	END;
END $$;
SELECT t.until(format('(SELECT returns FROM eda.transition WHERE event_id = %L ORDER BY version DESC LIMIT 1) = 1', :'id'));
SELECT flow_id, token, attempt FROM eda.acquire_next('acq', 1, '10 s');
-- Events that were acquired outside of that block stay acquired.
SELECT eda.publish('ACQ', 'outside') AS id \gset
SELECT t.reach(:'id', 'dispatched');
DO $$
DECLARE
	e record;
BEGIN
	SELECT * INTO STRICT e FROM eda.acquire_next('acq', 1, '10 s');
	BEGIN
		PERFORM eda.succeed(e.event_id);
		RAISE EXCEPTION 'and yet it failed';
	EXCEPTION WHEN raise_exception THEN
		RAISE NOTICE 'now %: %', eda.fail(e.event_id, SQLERRM, retry => false), SQLERRM;
	END;
END $$;
SELECT t.life(:'id');
-- Rows that the caller does not fetch are acquired all the same.
SELECT cardinality(eda.publish_many('ACQ', '{unread, unread, unread}'));
SELECT t.queued('acq', 3);
SELECT flow_id FROM eda.acquire_next('acq', 3) LIMIT 1;
SELECT state, count(*) FROM eda.event_state WHERE flow_id = 'unread' GROUP BY state;

-- Events of a suspended event type cannot be acquired.
SELECT eda.publish('ACQ_OFF', 'off') AS id \gset
SELECT t.queued('acq_off', 1);
BEGIN;
SELECT eda.suspend_event_type('ACQ_OFF');
SELECT count(*) FROM eda.acquire(:'id');
SELECT count(*) FROM eda.acquire_next('acq_off');
COMMIT;
SELECT t.reach(:'id', 'suspended');
SELECT count(*) FROM eda.acquire(:'id');
SELECT count(*) FROM eda.acquire_next('acq_off', wait => '100 ms');
SELECT eda.unsuspend_event_type('ACQ_OFF');
SELECT flow_id, attempt FROM eda.acquire_next('acq_off', 1, '60 s');

-- An expired event cannot be acquired, even before the engine has moved it.
SELECT count(*) FROM eda.configure('ACQ_OFF', lifespan => '1 hour');
SELECT eda.publish('ACQ_OFF', 'late') AS id \gset
SELECT t.queued('acq_off', 1);
ALTER SYSTEM SET eda.engine = 'paused';
SELECT pg_reload_conf();
SELECT t.until($$(SELECT state FROM eda.engine_status) = 'paused'$$);
SELECT eda.move_clock('61 min') IS NOT NULL AS moved;
SELECT count(*) FROM eda.acquire(:'id');
SELECT count(*) FROM eda.acquire_next('acq_off');
SELECT t.state(:'id');
ALTER SYSTEM RESET eda.engine;
SELECT pg_reload_conf();
SELECT t.reach(:'id', 'expired');
SELECT eda.move_clock('0') IS NOT NULL AS moved;
SELECT t.until($$(SELECT state FROM eda.engine_status) = 'running'$$);

BEGIN TRANSACTION READ ONLY;
SELECT t.try($$SELECT eda.acquire_next('acq')$$);
SELECT t.try(format('SELECT eda.acquire(%L)', :'id'));
COMMIT;
