-- Operators cancel, suspend, resume and redrive events, and are told how many events moved.
SELECT count(*) FROM eda.configure('CTL', 'ctl', max_attempts => 1, lifespan => '1 hour', attempt_delays => '{0 s}');
SELECT count(*) FROM eda.configure('CTL_DEADLINE', 'ctl', suspend_timeout => '2 hours');
SELECT count(*) FROM eda.configure('CTL_OTHER', 'ctl', max_attempts => 1);

-- cancel
SELECT eda.publish('CTL', 'cancel', scheduled_at => '2100-01-01') AS id \gset
SET application_name = 'night shift';
SELECT eda.cancel(:'id', 'ordered twice');
RESET application_name;
SELECT state, prev_state, wake_at, worker, detail FROM eda.event_state WHERE id = :'id';
SELECT t.try(format('SELECT eda.cancel(%L)', :'id'));
-- A worker that was processing the event has lost its lease.
CALL t.take('CTL', 'cancel leased') \gset
SELECT eda.cancel(:'id');
SELECT state, attempt, attempts_failed, token, detail FROM eda.event_state WHERE id = :'id';
SELECT token FROM eda.history(:'id') WHERE state = 'canceled';
SELECT t.try(format('SELECT eda.succeed(%L, %s)', :'id', :token));
SELECT t.try(format('SELECT eda.succeed(%L, %s, if_finished => ''ok'')', :'id', :token));
SELECT t.try(format('SELECT eda.fail(%L, ''x'', token => %s)', :'id', :token));
SELECT t.try(format('SELECT eda.heartbeat(%L, %s)', :'id', :token));
-- A dispatched event that is canceled is not handed to a worker.
SELECT eda.publish('CTL', 'cancel dispatched') AS id \gset
SELECT t.queued('ctl', 1);
SELECT eda.cancel(:'id');
SELECT count(*) FROM eda.acquire_next('ctl', 10);
SELECT t.life(:'id');
-- A cancel can be rolled back.
SELECT eda.publish('CTL', 'cancel undone', scheduled_at => '2100-01-01') AS id \gset
BEGIN;
SELECT eda.cancel(:'id');
SELECT t.state(:'id');
ROLLBACK;
SELECT t.state(:'id');

-- suspend and resume
SELECT eda.publish('CTL', 'suspend', scheduled_at => '2100-01-01') AS id \gset
SELECT eda.suspend(:'id', reason => 'is this right?');
SELECT state, suspended_by, wake_at, detail FROM eda.event_state WHERE id = :'id';
SELECT t.try(format('SELECT eda.suspend(%L)', :'id'));
SELECT count(*) FROM eda.acquire(:'id');
SELECT eda.resume(:'id', 'it is');
SELECT t.reach(:'id', 'dispatched');
SELECT version, state, prev_state, suspended_by, detail FROM eda.history(:'id');
SELECT t.try(format('SELECT eda.resume(%L)', :'id'));
SELECT eda.suspend(:'id');
SELECT count(*) FROM eda.acquire(:'id');
SELECT count(*) FROM eda.acquire_next('ctl', 10);
SELECT eda.cancel(:'id');
SELECT t.life(:'id');
-- The deadline is the caller's, else that of the event type, else none.
SELECT eda.publish('CTL_DEADLINE', 'given', scheduled_at => '2100-01-01') AS given,
	eda.publish('CTL_DEADLINE', 'type', scheduled_at => '2100-01-01') AS type \gset
SELECT eda.suspend(:'given', '2099-12-31 UTC'), eda.suspend(:'type');
SELECT flow_id, wake_at = '2099-12-31 UTC' AS given, round(extract(epoch FROM wake_at - changed_at)) <= 7200 AS type
FROM eda.event_state WHERE id IN (:'given', :'type') ORDER BY flow_id;
-- Only the worker may suspend an event that is being processed.
CALL t.take('CTL', 'suspend leased') \gset
SELECT t.try(format('SELECT eda.suspend(%L)', :'id'));
SELECT eda.suspend(:'id', eda.clock() + interval '1 hour', :token);
SELECT state, suspended_by, attempt, round(extract(epoch FROM wake_at - changed_at)) AS deadline FROM eda.event_state WHERE id = :'id';

-- redrive of one event
CALL t.take('CTL', 'redrive') \gset
SELECT eda.fail(:'id', 'broken', token => :token);
SELECT state, attempt, attempts_left FROM eda.event_state WHERE id = :'id';
SELECT eda.redrive(:'id', reason => 'repaired');
SELECT t.reach(:'id', 'dispatched');
SELECT s.attempt, s.attempts_left, s.attempts_failed, round(extract(epoch FROM s.expires_at - h.at)) AS lifespan
FROM eda.event_state s JOIN eda.history(:'id') h ON h.prev_state = 'failed' WHERE s.id = :'id';
SELECT attempt, token FROM eda.acquire(:'id') \gset
SELECT :attempt AS attempt, :token AS token;
SELECT eda.fail(:'id', 'broken still', token => :token);
SELECT t.life(:'id');
SELECT state, attempt, attempts_left, attempts_failed FROM eda.event_state WHERE id = :'id';
-- A quoted id needs no cast.
BEGIN;
SELECT t.try(format('SELECT eda.redrive(%L)', :'id'));
ROLLBACK;
SELECT count(*) FROM eda.dead_letter WHERE flow_id = 'redrive';
-- redrive of all dead letters of an event type
CREATE PROCEDURE t.die(event_type text, flow_id text) LANGUAGE plpgsql AS $$
DECLARE
	id uuid;
	token integer;
BEGIN
	CALL t.take(event_type, flow_id, id, token);
	PERFORM eda.fail(id, 'broken', token => token);
END $$;
CALL t.die('CTL', 'dead 1');
CALL t.die('CTL', 'dead 2');
SELECT eda.clock() AS since \gset
CALL t.die('CTL', 'dead 3');
CALL t.die('CTL_OTHER', 'dead 4');
SELECT eda.redrive('CTL', since => :'since');
SELECT eda.redrive('CTL', :'since', 'again');
SELECT eda.redrive('CTL', reason => 'all of them');
SELECT eda.redrive('CTL');
SELECT t.until($$(SELECT count(*) FROM eda.event_state WHERE flow_id LIKE 'dead _' AND state = 'dispatched') = 3$$);
SELECT flow_id FROM eda.dead_letter WHERE flow_type = 'ctl' ORDER BY flow_id;
SELECT flow_id, h.detail FROM eda.event e CROSS JOIN eda.history(e.id) h
WHERE flow_id LIKE 'dead _' AND h.prev_state = 'failed' ORDER BY flow_id;
SELECT t.try($$SELECT eda.redrive('CTL_NOWHERE')$$);
SELECT t.try($$SELECT eda.redrive(NULL::text)$$);
SELECT t.try($$SELECT eda.redrive('CTL', since => NULL)$$);
-- redrive_many moves all events or none.
CALL t.die('CTL_OTHER', 'dead 5');
SELECT array_agg(id) AS dead FROM eda.dead_letter WHERE flow_type = 'ctl' \gset
SELECT t.try(format('SELECT eda.redrive_many(%L::uuid[] || %L::uuid)', :'dead', (SELECT id FROM eda.event WHERE flow_id = 'dead 1')));
SELECT t.try(format('SELECT eda.redrive_many(%L::uuid[] || %L::uuid)', :'dead', '01890000-0000-7000-8000-000000000000'));
SELECT t.try(format('SELECT eda.redrive_many(%L::uuid[] || NULL::uuid)', :'dead'));
SELECT t.try('SELECT eda.redrive_many(NULL)');
SELECT eda.redrive_many('{}');
SELECT eda.redrive_many(:'dead', 'together');
SELECT t.until($$(SELECT count(*) FROM eda.event_state WHERE flow_id LIKE 'dead _' AND state = 'dispatched') = 5$$);
SELECT t.try(format('SELECT eda.redrive_many(%L)', :'dead'));
-- Redriving an event type skips dead letters that another session has redriven meanwhile.
CALL t.die('CTL_OTHER', 'left');
SELECT eda.redrive_if_dead(:'dead'::uuid[] || (SELECT id FROM eda.event WHERE event_type = 'CTL_OTHER' AND flow_id = 'left'), 'the rest');

-- unknown and missing events
SELECT t.try(format('SELECT eda.%s(%s)', f, id)) FROM unnest('{cancel,suspend,resume,redrive}'::text[]) WITH ORDINALITY fs(f, n)
CROSS JOIN unnest(ARRAY['''01890000-0000-7000-8000-000000000000''::uuid', 'NULL::uuid']) WITH ORDINALITY ids(id, m)
ORDER BY n, m;

-- An operator's call waits no longer than eda.lock_wait, and then names the other transaction.
SELECT eda.publish('CTL', 'busy', scheduled_at => '2100-01-01') AS id \gset
SELECT dblink_connect('other', t.me());
SELECT dblink_exec('other', 'SET application_name = ''blocker''; BEGIN');
SELECT * FROM dblink('other', format('SELECT eda.suspend(%L)', :'id')) x(moved integer);
SET eda.lock_wait = '100 ms';
SELECT t.try(format('SELECT eda.%s(%L::uuid)', f, :'id')) FROM unnest('{cancel,suspend,resume}'::text[]) WITH ORDINALITY fs(f, n) ORDER BY n;
RESET eda.lock_wait;
-- The call waits no longer than lock_timeout, either.
SET lock_timeout = '50 ms';
SELECT t.try(format('SELECT eda.cancel(%L)', :'id'));
RESET lock_timeout;
-- The call goes through as soon as the other transaction ends.
SELECT dblink_send_query('other', 'SELECT pg_sleep(0.2); COMMIT');
SELECT eda.cancel(:'id');
SELECT t.life(:'id');
SELECT dblink_disconnect('other');

BEGIN TRANSACTION READ ONLY;
SELECT t.try(format('SELECT eda.%s(%L::uuid)', f, :'id')) FROM unnest('{cancel,suspend,resume,redrive}'::text[]) WITH ORDINALITY fs(f, n) ORDER BY n;
COMMIT;
-- the end states of all events
SELECT count(eda.cancel(id)) > 0 AS canceled FROM eda.event_state
WHERE flow_type = 'ctl' AND state NOT IN ('succeeded', 'failed', 'expired', 'canceled');
