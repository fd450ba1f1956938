-- Only the holder of the current token can end an attempt, and its spinoff and on-fail events are published with that.
SELECT count(*) FROM eda.configure('WORK_AFTER', 'work_after', attempt_delays => '{1 day}');
SELECT count(*) FROM eda.configure('WORK', 'work', max_attempts => 2, attempt_delays => '{0 s, 10 min}', lease => '5 min');
SELECT count(*) FROM eda.configure('WORK_ONCE', 'work', max_attempts => 1, on_fail_event_type => 'WORK_AFTER');

-- succeed
CALL t.take('WORK', 'done') \gset
SELECT eda.succeed(:'id', :token, '{"answer": 42}');
SELECT state, attempt, attempts_left, attempts_failed, token, wake_at, lease_until, worker, detail FROM eda.event_state WHERE id = :'id';
SELECT version, state, prev_state, token FROM eda.history(:'id');
-- A second call raises ED003, unless the caller passes if_finished => 'ok'.
SELECT t.try(format('SELECT eda.succeed(%L, %s)', :'id', :token));
SELECT t.try(format('SELECT eda.fail(%L, ''late'', token => %s)', :'id', :token));
SELECT t.try(format('SELECT eda.release(%L, %s)', :'id', :token));
SELECT t.try(format('SELECT eda.heartbeat(%L, %s)', :'id', :token));
SELECT eda.succeed(:'id', :token, if_finished => 'ok');
SELECT eda.fail(:'id', 'late', token => :token, if_finished => 'ok');
SELECT t.try(format('SELECT eda.succeed(%L, %s, if_finished => ''maybe'')', :'id', :token));
SELECT t.try(format('SELECT eda.succeed(%L, %s, if_finished => NULL)', :'id', :token));
SELECT t.life(:'id');
-- In the transaction that ended the attempt, a second call returns false,
CALL t.take('WORK', 'repeat') \gset
BEGIN;
SELECT eda.succeed(:'id', :token, spinoffs => '[{"event_type": "WORK_AFTER"}]');
SELECT eda.succeed(:'id', :token, spinoffs => '[{"event_type": "WORK_AFTER"}]');
SAVEPOINT a;
SELECT eda.succeed(:'id', :token);
ROLLBACK TO a;
-- if it is to the same state.
SELECT t.try(format('SELECT eda.fail(%L, ''no'', token => %s)', :'id', :token));
COMMIT;
SELECT t.life(:'id'), (SELECT count(*) FROM eda.event WHERE parent_id = :'id') AS spinoffs;
-- An attempt that was ended in a subtransaction that rolled back has not ended.
CALL t.take('WORK', 'undone') \gset
BEGIN;
SAVEPOINT a;
SELECT eda.succeed(:'id', :token);
ROLLBACK TO a;
SELECT t.state(:'id');
SELECT eda.fail(:'id', 'after all', token => :token);
COMMIT;
SELECT t.life(:'id');

-- tokens
CALL t.take('WORK', 'token') \gset
SELECT t.try(format('SELECT eda.succeed(%L, 1)', :'id'));
SELECT t.try(format('SELECT eda.succeed(%L, 4)', :'id'));
SELECT t.try(format('SELECT eda.succeed(%L, 0)', :'id'));
SELECT t.try(format('SELECT eda.succeed(%L, -1)', :'id'));
SELECT t.try(format('SELECT eda.fail(%L, ''x'', token => 1)', :'id'));
SELECT t.try(format('SELECT eda.heartbeat(%L, 1)', :'id'));
SELECT t.try(format('SELECT eda.release(%L, 1)', :'id'));
SELECT t.try(format('SELECT eda.succeed(%L, 1, if_finished => ''ok'')', :'id'));
-- The token may be left out only in the transaction that acquired the event.
SELECT t.try(format('SELECT eda.succeed(%L)', :'id'));
SELECT t.try(format('SELECT eda.fail(%L, ''x'')', :'id'));
SELECT t.try(format('SELECT eda.heartbeat(%L)', :'id'));
SELECT t.try(format('SELECT eda.release(%L)', :'id'));
SELECT t.try(format('SELECT eda.succeed_many(ARRAY[%L::uuid])', :'id'));
SELECT t.life(:'id');
SELECT eda.publish('WORK', 'no token') AS id \gset
SELECT t.reach(:'id', 'dispatched');
BEGIN;
SELECT attempt FROM eda.acquire(:'id');
SELECT eda.heartbeat(:'id') > eda.clock() AS extended;
SELECT eda.succeed(:'id');
SELECT eda.succeed(:'id');
COMMIT;
SELECT t.life(:'id');
-- unknown and missing events
SELECT t.try($$SELECT eda.succeed('01890000-0000-7000-8000-000000000000', 3)$$);
SELECT t.try($$SELECT eda.succeed('01890000-0000-7000-8000-000000000000')$$);
SELECT t.try($$SELECT eda.fail('01890000-0000-7000-8000-000000000000', 'x', token => 3)$$);
SELECT t.try($$SELECT eda.heartbeat('01890000-0000-7000-8000-000000000000', 3)$$);
SELECT t.try($$SELECT eda.release('01890000-0000-7000-8000-000000000000', 3)$$);
SELECT t.try($$SELECT eda.succeed(NULL, 3)$$);
SELECT t.try($$SELECT eda.fail(NULL, 'x', token => 3)$$);

-- spinoff events
CALL t.take('WORK', 'spin') \gset
SELECT eda.succeed(:'id', :token, spinoffs => '[
	{"event_type": "WORK_AFTER"},
	{"event_type": "WORK_AFTER", "payload": {"n": 2}, "flow_id": "elsewhere", "correlation_id": "own",
	 "headers": {"traceparent": "own", "B": "2"}, "scheduled_at": "2100-01-01T00:00:00Z",
	 "event_id": "01890000-0000-7000-8000-0000000000f2", "idempotency_key": "spin 2", "on_fail_event_type": "WORK"}
]');
SELECT event_type, flow_type, flow_id, payload, headers, correlation_id, parent_id = :'id' AS of_parent, on_fail_event_type,
	state, attempt_scheduled_at = '2100-01-01 UTC' AS scheduled, xid = parent_xid AS same_transaction
FROM eda.event_state s
JOIN LATERAL (SELECT xid FROM eda.transition WHERE event_id = s.id AND version = 1) x ON true
CROSS JOIN (SELECT xid AS parent_xid FROM eda.transition WHERE event_id = :'id' AND state = 'succeeded') p
WHERE parent_id = :'id' ORDER BY flow_id DESC;
-- An invalid spinoff event leaves nothing half-written.
CALL t.take('WORK', 'bad spin') \gset
SELECT t.try(format('SELECT eda.succeed(%L, %s, spinoffs => %L)', :'id', :token, bad.spinoffs)) FROM (VALUES
	(1, 'null'),
	(2, '"WORK_AFTER"'),
	(3, '["WORK_AFTER"]'),
	(4, '[{"event_type": "WORK_AFTER"}, {"payload": 1}]'),
	(5, '[{"event_type": "WORK_AFTER"}, {"event_type": "WORK_NOWHERE"}]'),
	(6, '[{"event_type": "WORK_AFTER"}, {"event_type": "WORK_AFTER", "nonsense": 1}]'),
	(7, '[{"event_type": "WORK_AFTER"}, {"event_type": "WORK_AFTER", "flow_type": "work"}]'),
	(8, '[{"event_type": "WORK_AFTER"}, {"event_type": "WORK_AFTER", "headers": {"a b": "c"}}]')) bad(n, spinoffs)
ORDER BY n;
SELECT t.life(:'id'), (SELECT count(*) FROM eda.event WHERE parent_id = :'id') AS spinoffs;
SELECT eda.succeed(:'id', :token, spinoffs => '[]');
-- Spinoff events are rolled back with their transaction.
CALL t.take('WORK', 'rolled back spin') \gset
BEGIN;
SELECT eda.succeed(:'id', :token, spinoffs => '[{"event_type": "WORK_AFTER"}]');
SELECT count(*) FROM eda.event WHERE parent_id = :'id';
ROLLBACK;
SELECT t.life(:'id'), (SELECT count(*) FROM eda.event WHERE parent_id = :'id') AS spinoffs;

-- fail: while an attempt is left, the event waits for it,
CALL t.take('WORK', 'retry') \gset
SELECT eda.fail(:'id', 'no such street', 'at line 1', token => :token);
SELECT state, attempt, attempts_left, attempts_failed, token, error, detail, worker,
	round(extract(epoch FROM wake_at - changed_at)) AS delay
FROM eda.event_state WHERE id = :'id';
SELECT version, token FROM eda.history(:'id') WHERE detail ? 'error';
SELECT t.try(format('SELECT eda.fail(%L, ''again'', token => %s)', :'id', :token));
SELECT t.try(format('SELECT eda.succeed(%L, token => %s)', :'id', :token));
-- for the time that the caller gives,
CALL t.take('WORK', 'retry in') \gset
SELECT eda.fail(:'id', 'busy', token => :token, retry_in => '1 hour');
SELECT round(extract(epoch FROM wake_at - changed_at)) AS delay FROM eda.event_state WHERE id = :'id';
-- or not at all; and then no attempt is left.
CALL t.take('WORK', 'last') \gset
SELECT eda.fail(:'id', 'busy', token => :token, retry_in => '0');
SELECT t.reach(:'id', 'dispatched');
SELECT attempt, token FROM eda.acquire(:'id') \gset
SELECT :attempt AS attempt, :token AS token;
SELECT attempts_left, attempts_failed FROM eda.event_state WHERE id = :'id';
SELECT eda.fail(:'id', 'still busy', token => :token);
SELECT state, attempt, attempts_left, attempts_failed, wake_at, error FROM eda.event_state WHERE id = :'id';
SELECT t.life(:'id');
-- The caller can say that trying again is useless.
CALL t.take('WORK', 'no retry') \gset
SELECT eda.fail(:'id', 'hopeless', token => :token, retry => false);
SELECT t.life(:'id');
SELECT t.try(format('SELECT eda.fail(%L, ''again'', token => %s)', :'id', :token));
CALL t.take('WORK', 'bad fail') \gset
SELECT t.try(format('SELECT eda.fail(%L, ''x'', token => %s, retry_in => ''-1 s'')', :'id', :token));
SELECT t.try(format('SELECT eda.fail(%L, NULL, token => %s, retry_in => ''1 day'')', :'id', :token));
SELECT state, detail FROM eda.event_state WHERE id = :'id';
-- If the next attempt would begin after expires_at, the event expires.
SELECT count(*) FROM eda.configure('WORK_SHORT', 'work', lifespan => '1 hour', attempt_delays => '{0 s}', lease => '1 day');
CALL t.take('WORK_SHORT', 'too late') \gset
SELECT eda.move_clock('2 hours') IS NOT NULL AS moved;
SELECT eda.fail(:'id', 'took too long', token => :token);
SELECT state, error FROM eda.event_state WHERE id = :'id';
CALL t.take('WORK_SHORT', 'in time') \gset
SELECT eda.move_clock('4 hours') IS NOT NULL AS moved;
SELECT eda.succeed(:'id', :token);
CALL t.take('WORK_SHORT', 'handed back late') \gset
SELECT eda.move_clock('6 hours') IS NOT NULL AS moved;
SELECT eda.release(:'id', :token);
SELECT eda.move_clock('0') IS NOT NULL AS moved;

-- the on-fail event
CALL t.take('WORK_ONCE', 'on fail') \gset
SELECT eda.fail(:'id', 'broken', 'at line 2', token => :token);
SELECT event_type, flow_type, flow_id, t.mask(payload::text) AS payload, payload ->> 'failed_event_id' = :'id' AS of_event, headers,
	correlation_id, parent_id = :'id' AS of_parent, on_fail_event_type, state, xid = parent_xid AS same_transaction
FROM eda.event_state s
JOIN LATERAL (SELECT xid FROM eda.transition WHERE event_id = s.id AND version = 1) x ON true
CROSS JOIN (SELECT xid AS parent_xid FROM eda.transition WHERE event_id = :'id' AND state = 'failed') p
WHERE parent_id = :'id';
-- The on-fail event is rolled back with the failure.
CALL t.take('WORK_ONCE', 'on fail undone') \gset
BEGIN;
SELECT eda.fail(:'id', 'broken', token => :token);
ROLLBACK;
SELECT t.life(:'id'), (SELECT count(*) FROM eda.event WHERE parent_id = :'id') AS on_fail_events;
-- The event can name its own on-fail event type, or none.
SELECT eda.publish('WORK', 'on fail own', on_fail_event_type => 'WORK_AFTER') AS own,
	eda.publish('WORK_ONCE', 'on fail none', on_fail_event_type => '') AS none \gset
SELECT t.reach(:'own', 'dispatched'), t.reach(:'none', 'dispatched');
BEGIN;
SELECT attempt FROM eda.acquire(:'own');
SELECT attempt FROM eda.acquire(:'none');
SELECT eda.fail(:'own', 'x', retry => false);
SELECT eda.fail(:'none', 'x');
COMMIT;
SELECT event_type, parent_id = :'own' AS own FROM eda.event WHERE parent_id IN (:'own', :'none');
-- An on-fail event has no on-fail event of its own.
SELECT count(*) FROM eda.configure('WORK_LOOP', 'work', max_attempts => 1);
SELECT count(*) FROM eda.configure('WORK_LOOP_2', 'work', max_attempts => 1, on_fail_event_type => 'WORK_LOOP');
SELECT count(*) FROM eda.configure('WORK_LOOP', on_fail_event_type => 'WORK_LOOP_2');
CALL t.take('WORK_LOOP', 'loop') \gset
SELECT eda.fail(:'id', 'first', token => :token);
SELECT id AS second FROM eda.event WHERE parent_id = :'id' \gset
SELECT t.reach(:'second', 'dispatched');
SELECT token FROM eda.acquire(:'second') \gset
SELECT eda.fail(:'second', 'second', token => :token);
SELECT event_type, t.life(id) FROM eda.event WHERE flow_id = 'loop' ORDER BY id;
-- A failed attempt after which the event is tried again publishes no on-fail event.
CALL t.take('WORK', 'retried on fail') \gset
SELECT eda.fail(:'id', 'x', token => :token);
SELECT count(*) FROM eda.event WHERE parent_id = :'id';

-- heartbeat
CALL t.take('WORK', 'alive') \gset
SELECT round(extract(epoch FROM eda.heartbeat(:'id', :token) - eda.clock()), -1) AS lease_left;
SELECT round(extract(epoch FROM eda.heartbeat(:'id', :token, '1 hour', '{"done": 0.5}') - eda.clock()), -1) AS lease_left;
SELECT state, version, attempt, token, detail, round(extract(epoch FROM lease_until - changed_at)) AS lease FROM eda.event_state WHERE id = :'id';
SELECT t.try(format('SELECT eda.heartbeat(%L, %s, ''0'')', :'id', :token));
SELECT t.try(format('SELECT eda.heartbeat(%L, %s, ''-1 s'')', :'id', :token));
SELECT eda.succeed(:'id', :token);
SELECT version, state, token, detail FROM eda.history(:'id');

-- release
CALL t.take('WORK', 'handed back') \gset
SELECT eda.release(:'id', :token, '1 hour', 'going home');
SELECT state, attempt, attempts_left, attempts_failed, detail, error, round(extract(epoch FROM wake_at - changed_at)) AS delay
FROM eda.event_state WHERE id = :'id';
SELECT t.try(format('SELECT eda.release(%L, %s)', :'id', :token));
SELECT t.try(format('SELECT eda.succeed(%L, %s)', :'id', :token));
CALL t.take('WORK', 'handed back and taken') \gset
SELECT t.try(format('SELECT eda.release(%L, %s, ''-1 s'')', :'id', :token));
SELECT eda.release(:'id', :token);
SELECT t.reach(:'id', 'dispatched');
SELECT attempt, token FROM eda.acquire(:'id') \gset
SELECT :attempt AS attempt, :token AS token;
SELECT t.try(format('SELECT eda.succeed(%L, 3)', :'id'));
SELECT eda.succeed(:'id', :token);
SELECT version, state, attempt, token FROM eda.history(:'id');

-- suspend with the token, to wait for something outside of the database
CALL t.take('WORK', 'paid later') \gset
SELECT t.try(format('SELECT eda.suspend(%L, token => 1)', :'id'));
SELECT t.try(format('SELECT eda.suspend(%L)', :'id'));
SELECT eda.suspend(:'id', token => :token, reason => 'waits for the bank');
SELECT state, suspended_by, attempt, attempts_left, detail, wake_at FROM eda.event_state WHERE id = :'id';
SELECT t.try(format('SELECT eda.succeed(%L, %s)', :'id', :token));
SELECT eda.resume(:'id', 'the bank called');
SELECT t.reach(:'id', 'dispatched');
SELECT attempt, token FROM eda.acquire(:'id') \gset
SELECT :attempt AS attempt, :token AS token;
SELECT eda.succeed(:'id', :token);
SELECT version, state, attempt, token, suspended_by, detail FROM eda.history(:'id');

-- The functions for many events act on all of them or on none.
SELECT count(*) FROM eda.configure('WORK_MANY', 'work_many', max_attempts => 2, attempt_delays => '{0 s, 10 min}', lease => '5 min');
SELECT cardinality(eda.publish_many('WORK_MANY', '{m 1, m 2, m 3, m 4, m 5, m 6}'));
SELECT t.queued('work_many', 6);
CREATE TEMP TABLE many AS SELECT * FROM eda.acquire_next('work_many', 6);
CREATE FUNCTION pg_temp.ids(VARIADIC flow_ids text[]) RETURNS uuid[] LANGUAGE sql
RETURN (SELECT array_agg(event_id ORDER BY flow_id) FROM many WHERE flow_id = ANY (flow_ids));
SELECT eda.heartbeat_many(pg_temp.ids('m 1', 'm 2'), '{3, 3}', '1 hour');
SELECT t.try('SELECT eda.heartbeat_many(pg_temp.ids(''m 1'', ''m 2''), ''{3, 4}'', ''1 hour'')');
SELECT t.try('SELECT eda.succeed_many(pg_temp.ids(''m 1'', ''m 2''), ''{3, 4}'')');
SELECT t.try('SELECT eda.succeed_many(pg_temp.ids(''m 1'', ''m 2''), ''{3}'')');
SELECT t.try('SELECT eda.succeed_many(pg_temp.ids(''m 1'', ''m 2''))');
SELECT t.try('SELECT eda.succeed_many(pg_temp.ids(''m 1'') || ''01890000-0000-7000-8000-000000000000''::uuid, ''{3, 3}'')');
SELECT t.try('SELECT eda.succeed_many(pg_temp.ids(''m 1'') || NULL::uuid, ''{3, 3}'')');
SELECT t.try('SELECT eda.succeed_many(pg_temp.ids(''m 1'', ''m 2''), ''{3, 3}'', ''{1}'')');
SELECT t.try('SELECT eda.succeed_many(pg_temp.ids(''m 1'', ''m 2''), ''{3, 3}'', NULL, ''{"[{\"event_type\": \"WORK_AFTER\"}]", "[{}]"}'')');
SELECT t.try('SELECT eda.fail_many(pg_temp.ids(''m 1'', ''m 2''), ''{x, y}'', tokens => ''{3, 4}'')');
SELECT t.try('SELECT eda.fail_many(pg_temp.ids(''m 1'', ''m 2''), ''{x}'', tokens => ''{3, 3}'')');
SELECT t.try('SELECT eda.release_many(pg_temp.ids(''m 1'', ''m 2''), ''{4, 3}'')');
SELECT t.try('SELECT eda.succeed_many(NULL, ''{3}'')');
SELECT eda.succeed_many('{}', '{}'), eda.fail_many('{}', '{}'), eda.heartbeat_many('{}'), eda.release_many('{}');
SELECT state, count(*) FROM eda.event_state JOIN many USING (event_id) GROUP BY state;
SELECT eda.succeed_many(pg_temp.ids('m 1', 'm 2'), '{3, 3}', '{1, NULL}',
	ARRAY['[{"event_type": "WORK_AFTER", "payload": 1}, {"event_type": "WORK_AFTER", "payload": 2}]', NULL]::jsonb[]);
SELECT eda.fail_many(pg_temp.ids('m 3', 'm 4'), '{e 3, e 4}', '{s 3, NULL}', '{3, 3}');
SELECT eda.fail_many(pg_temp.ids('m 5'), '{e 5}', tokens => '{3}', retry => false);
SELECT eda.release_many(pg_temp.ids('m 6'), '{3}', '1 hour', 'enough');
SELECT m.flow_id, s.state, s.attempt, round(extract(epoch FROM s.wake_at - s.changed_at)) AS delay, s.detail,
	(SELECT count(*) FROM eda.event e WHERE e.parent_id = m.event_id) AS spinoffs
FROM many m JOIN eda.event_state s USING (event_id) ORDER BY flow_id;
SELECT t.try('SELECT eda.succeed_many(pg_temp.ids(''m 1'', ''m 2''), ''{3, 3}'')');
SELECT eda.succeed_many(pg_temp.ids('m 1', 'm 2'), '{3, 3}', if_finished => 'ok');
-- In the transaction that acquired the events, tokens may be left out; an event named twice ends once.
SELECT cardinality(eda.publish_many('WORK_MANY', '{o 1, o 2}'));
SELECT t.queued('work_many', 2);
BEGIN;
CREATE TEMP TABLE ours ON COMMIT DROP AS SELECT * FROM eda.acquire_next('work_many', 2);
SELECT eda.heartbeat_many(array_agg(event_id)) FROM ours;
SELECT eda.succeed_many(array_agg(event_id)) FROM (SELECT event_id FROM ours UNION ALL SELECT event_id FROM ours) twice;
COMMIT;
SELECT t.life(id) FROM eda.event WHERE flow_id LIKE 'o _';
-- Work that counts exactly once, in one statement each.
CREATE TABLE t.account (name text PRIMARY KEY, cents integer);
INSERT INTO t.account VALUES ('ann', 0);
SELECT eda.publish('WORK', 'exactly once') AS id \gset
SELECT t.reach(:'id', 'dispatched');
SELECT token FROM eda.acquire(:'id') \gset
BEGIN;
UPDATE t.account SET cents = cents + 100;
SELECT eda.succeed(:'id', :token);
COMMIT;
BEGIN;
UPDATE t.account SET cents = cents + 100;
\set VERBOSITY sqlstate
SELECT eda.succeed(:'id', :token);
\set VERBOSITY default
COMMIT;
SELECT cents FROM t.account;

BEGIN TRANSACTION READ ONLY;
SELECT t.try(format('SELECT eda.succeed(%L, 3)', :'id'));
COMMIT;
