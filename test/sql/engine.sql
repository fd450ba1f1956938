-- The engine moves events when their time has come: due, retried, rescued, expired, resumed, returned.
SELECT count(*) FROM eda.configure('ENG_AFTER', 'eng_after', attempt_delays => '{1 day}');
SELECT count(*) FROM eda.configure('ENG', 'eng', max_attempts => 3, attempt_delays => '{1 min, 10 min}', backoff => 3, lease => '1 min');
SELECT count(*) FROM eda.configure('ENG_NOW', 'eng', max_attempts => 2, attempt_delays => '{0 s, 1 hour}', lease => '1 min',
	on_fail_event_type => 'ENG_AFTER');
SELECT count(*) FROM eda.configure('ENG_SHORT', 'eng', max_attempts => 2, attempt_delays => '{0 s}', lifespan => '10 min', lease => '1 hour');
SELECT count(*) FROM eda.configure('ENG_RESUME', 'eng', attempt_delays => '{1 day}', suspend_timeout => '10 min', on_suspend_timeout => 'resume');
SELECT count(*) FROM eda.configure('ENG_EXPIRE', 'eng', attempt_delays => '{1 day}', suspend_timeout => '10 min');

-- the first delay, the second delay, and the second delay grown by backoff
SELECT eda.publish('ENG', 'delays') AS id \gset
SELECT eda.move_clock('20 s') IS NOT NULL AS moved;
SELECT t.state(:'id');
SELECT eda.move_clock('61 s') IS NOT NULL AS moved;
SELECT t.reach(:'id', 'dispatched');
SELECT token FROM eda.acquire(:'id') \gset
SELECT eda.fail(:'id', 'one', token => :token);
SELECT eda.move_clock('12 min') IS NOT NULL AS moved;
SELECT t.reach(:'id', 'dispatched');
SELECT token FROM eda.acquire(:'id') \gset
SELECT eda.fail(:'id', 'two', token => :token);
SELECT eda.move_clock('43 min') IS NOT NULL AS moved;
SELECT t.reach(:'id', 'dispatched');
SELECT token FROM eda.acquire(:'id') \gset
SELECT eda.fail(:'id', 'three', token => :token);
SELECT version, state, attempt, round(extract(epoch FROM h.wake_at - h.at)) AS delay, detail FROM eda.history(:'id') h
WHERE state IN ('awaiting_processing', 'failed');
-- No event is dispatched before it is due, and all are dispatched when they are.
SELECT count(*), bool_and(d.at >= a.wake_at) AS due
FROM eda.history(:'id') a JOIN eda.history(:'id') d ON d.version = a.version + 1
WHERE a.state = 'awaiting_processing' AND d.state = 'dispatched';
-- a scheduled event
SELECT eda.move_clock('0') IS NOT NULL AS moved;
SELECT eda.publish('ENG', 'scheduled', scheduled_at => eda.clock() + interval '3 hours') AS id \gset
SELECT eda.move_clock('3 hours') IS NOT NULL AS moved;
SELECT t.reach(:'id', 'dispatched');
SELECT eda.cancel(:'id');
-- Jitter stays within its bounds.
SELECT eda.move_clock('0') IS NOT NULL AS moved;
SELECT count(*) FROM eda.configure('ENG_JITTER', 'eng_jitter', max_attempts => 2, attempt_delays => '{0 s, 100 s}', jitter => 0.2);
SELECT cardinality(eda.publish_many('ENG_JITTER', array_agg('jitter'::text))) FROM generate_series(1, 50);
SELECT t.queued('eng_jitter', 50);
BEGIN;
SELECT eda.fail_many(array_agg(event_id), array_agg('x'::text)) FROM eda.acquire_next('eng_jitter', 50);
COMMIT;
SELECT min(delay) BETWEEN 79 AND 99 AS less, max(delay) BETWEEN 101 AND 121 AS more, count(DISTINCT delay) > 10 AS different
FROM (SELECT extract(epoch FROM wake_at - changed_at) AS delay FROM eda.event_state WHERE flow_id = 'jitter') x;

-- rescue: the lease ends without a report, first with an attempt left and then without
CALL t.take('ENG_NOW', 'rescue') \gset
SELECT eda.heartbeat(:'id', :token, '5 min', '{"done": 0.5}') IS NOT NULL AS extended;
SELECT eda.move_clock('4 min') IS NOT NULL AS moved;
SELECT t.state(:'id');
SELECT eda.move_clock('5 min 1 s') IS NOT NULL AS moved;
SELECT t.reach(:'id', 'awaiting_processing');
SELECT t.try(format('SELECT eda.succeed(%L, %s)', :'id', :token));
SELECT t.try(format('SELECT eda.heartbeat(%L, %s)', :'id', :token));
SELECT t.try(format('SELECT eda.fail(%L, ''x'', token => %s)', :'id', :token));
SELECT t.try(format('SELECT eda.succeed(%L, %s, if_finished => ''ok'')', :'id', :token));
SELECT eda.move_clock('66 min') IS NOT NULL AS moved;
SELECT t.reach(:'id', 'dispatched');
SELECT count(*) FROM eda.acquire(:'id', worker => 'w 2');
SELECT eda.move_clock('68 min') IS NOT NULL AS moved;
SELECT t.reach(:'id', 'failed');
SELECT version, state, attempt, token, worker, t.mask(detail::text) AS detail, round(extract(epoch FROM h.wake_at - h.at)) AS next FROM eda.history(:'id') h;
SELECT event_type, t.mask(payload::text) AS payload, correlation_id, headers FROM eda.event WHERE parent_id = :'id';
SELECT eda.move_clock('0') IS NOT NULL AS moved;

-- expiry in each state in which an event waits
SELECT eda.publish('ENG_SHORT', 'dispatched') AS dispatched,
	eda.publish('ENG_SHORT', 'suspended') AS suspended,
	eda.publish('ENG_SHORT', 'not yet', scheduled_at => eda.clock() + interval '1 day') AS not_yet \gset
CALL t.take('ENG_SHORT', 'retrying') \gset retrying_
CALL t.take('ENG_SHORT', 'lost') \gset lost_
CALL t.take('ENG_SHORT', 'working') \gset working_
SELECT eda.fail(:'retrying_id', 'x', token => :retrying_token, retry_in => '1 day');
SELECT eda.suspend(:'suspended');
SELECT t.reach(:'dispatched', 'dispatched');
SELECT eda.heartbeat(:'working_id', :working_token, '1 day') IS NOT NULL AS extended;
SELECT eda.move_clock('5 min') IS NOT NULL AS moved;
SELECT flow_id, state FROM eda.event_state WHERE event_type = 'ENG_SHORT' ORDER BY flow_id;
SELECT eda.move_clock('10 min 10 s') IS NOT NULL AS moved;
SELECT t.reach(:'dispatched', 'expired'), t.reach(:'suspended', 'expired'), t.reach(:'retrying_id', 'expired');
-- An attempt that is being processed is not cut short, but it is the last one.
SELECT flow_id, state FROM eda.event_state WHERE event_type = 'ENG_SHORT' ORDER BY flow_id;
SELECT eda.move_clock('61 min') IS NOT NULL AS moved;
SELECT t.reach(:'lost_id', 'expired');
SELECT eda.succeed(:'working_id', :working_token);
SELECT flow_id, t.life(id), worker, t.mask(detail::text) AS detail FROM eda.event_state WHERE event_type = 'ENG_SHORT' ORDER BY flow_id;
SELECT eda.cancel(:'not_yet');
-- When the clock jumps, an event can be due and expired at once.
SELECT eda.publish('ENG_SHORT', 'jumped', scheduled_at => eda.clock() + interval '1 hour') AS id \gset
SELECT eda.move_clock('5 hours') IS NOT NULL AS moved;
SELECT t.reach(:'id', 'expired');
-- A redriven event lives for its lifespan again, and expires again.
SELECT eda.redrive(:'id');
SELECT t.reach(:'id', 'dispatched');
SELECT round(extract(epoch FROM s.expires_at - h.at)) AS lifespan
FROM eda.event_state s JOIN eda.history(:'id') h ON h.prev_state = 'expired' WHERE s.id = :'id';
SELECT eda.move_clock('5 hours 5 min') IS NOT NULL AS moved;
SELECT t.state(:'id');
SELECT eda.move_clock('5 hours 11 min') IS NOT NULL AS moved;
SELECT t.reach(:'id', 'expired');
SELECT eda.move_clock('0') IS NOT NULL AS moved;

-- deadlines of suspended events
SELECT eda.publish('ENG_RESUME', 'deadline') AS resumed, eda.publish('ENG_EXPIRE', 'deadline') AS expired \gset
SELECT eda.suspend(:'resumed'), eda.suspend(:'expired');
SELECT eda.move_clock('5 min') IS NOT NULL AS moved;
SELECT t.state(:'resumed'), t.state(:'expired');
SELECT eda.move_clock('11 min') IS NOT NULL AS moved;
SELECT t.reach(:'resumed', 'dispatched'), t.reach(:'expired', 'expired');
SELECT version, state, worker, suspended_by FROM eda.history(:'resumed');
SELECT version, state, worker, suspended_by FROM eda.history(:'expired');
SELECT eda.cancel(:'resumed');
-- A deadline that the caller gives follows the same rule.
SELECT eda.publish('ENG_RESUME', 'own deadline') AS id \gset
SELECT eda.suspend(:'id', eda.clock() + interval '1 hour');
SELECT eda.move_clock('72 min') IS NOT NULL AS moved;
SELECT t.reach(:'id', 'dispatched');
SELECT eda.cancel(:'id');
SELECT eda.move_clock('0') IS NOT NULL AS moved;

-- An event whose workers never commit their acquire waits ever longer, and in the end fails.
ALTER SYSTEM SET eda.max_returns = 3;
SELECT pg_reload_conf();
CREATE PROCEDURE t.crash(event_id uuid) LANGUAGE plpgsql AS $$
DECLARE
	returns integer;
BEGIN
	PERFORM t.reach(event_id, 'dispatched');
	COMMIT;
	returns := (SELECT t.returns FROM eda.transition t WHERE t.event_id = crash.event_id ORDER BY version DESC LIMIT 1);
	IF NOT EXISTS (SELECT FROM eda.acquire_next('eng', 1, '60 s')) THEN
		RAISE WARNING 'nothing to acquire';
	END IF;
	ROLLBACK;
	PERFORM t.until(format('(SELECT t.returns > %s OR t.state = ''failed'' FROM eda.transition t
		WHERE t.event_id = %L ORDER BY version DESC LIMIT 1)', returns, event_id));
END $$;
SELECT eda.publish('ENG_NOW', 'crash') AS id \gset
CALL t.crash(:'id');
CALL t.crash(:'id');
SELECT eda.move_clock('10 s') IS NOT NULL AS moved;
CALL t.crash(:'id');
SELECT t.reach(:'id', 'failed');
SELECT version, state, attempt, returns, worker, detail,
	round(extract(epoch FROM wake_at - at)) AS delay
FROM eda.transition WHERE event_id = :'id' AND state <> 'dispatched' ORDER BY version;
SELECT event_type FROM eda.event WHERE parent_id = :'id';
-- An acquire that is committed resets the count of returns.
SELECT eda.move_clock('0') IS NOT NULL AS moved;
SELECT eda.publish('ENG_NOW', 'crash twice') AS id \gset
CALL t.crash(:'id');
CALL t.crash(:'id');
SELECT eda.move_clock('10 s') IS NOT NULL AS moved;
SELECT t.reach(:'id', 'dispatched');
SELECT count(*) FROM eda.acquire(:'id');
SELECT state, returns FROM eda.transition WHERE event_id = :'id' ORDER BY version DESC LIMIT 1;
SELECT eda.cancel(:'id');
SELECT eda.move_clock('0') IS NOT NULL AS moved;
ALTER SYSTEM RESET eda.max_returns;
SELECT pg_reload_conf();

-- Only a superuser may move the clock, and moving it back does no harm.
SELECT eda.move_clock('6 days') > now() + interval '5 days' AS moved;
SELECT eda.move_clock('0') < now() + interval '1 min' AS back;
SELECT eda.publish('ENG_NOW', 'after the step back') AS id \gset
SELECT t.reach(:'id', 'dispatched');
SELECT eda.cancel(:'id');
SELECT eda.move_clock(NULL);
SELECT abs(extract(epoch FROM eda.clock() - clock_timestamp())) < 60 AS in_step;
