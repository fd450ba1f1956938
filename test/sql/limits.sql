-- max_in_flight holds exactly, the events of a suspended type wait on disk, and neither delays other types.
SELECT count(*) FROM eda.configure('LIM', 'lim', max_in_flight => 3, max_attempts => 2, attempt_delays => '{0 s}', lifespan => '1 hour', lease => '1 hour');
SELECT count(*) FROM eda.configure('LIM_FREE', 'lim');
CREATE FUNCTION t.in_flight() RETURNS bigint LANGUAGE sql
RETURN (SELECT count(*) FROM eda.event_state WHERE event_type = 'LIM' AND state IN ('dispatched', 'being_processed'));

SELECT cardinality(eda.publish_many('LIM', '{l 1, l 2, l 3, l 4, l 5, l 6, l 7, l 8, l 9}'));
SELECT t.until('t.in_flight() = 3');
SELECT eda.publish('LIM_FREE', 'free') IS NOT NULL AS made;
SELECT t.queued('lim', 4);
SELECT event_type, count(*) FROM eda.acquire_next('lim', 100) GROUP BY event_type ORDER BY 1;
SELECT count(*) FROM eda.acquire_next('lim', 100, '200 ms');
SELECT state, count(*) FROM eda.event_state WHERE event_type = 'LIM' GROUP BY state ORDER BY state;
-- When one event ends, one more is dispatched.
CREATE FUNCTION t.one() RETURNS text LANGUAGE sql
RETURN (SELECT format('%L, %s', id, token) FROM eda.event_state WHERE event_type = 'LIM' AND state = 'being_processed' ORDER BY id LIMIT 1);
SELECT t.try('SELECT eda.succeed(' || t.one() || ')');
SELECT count(*) FROM eda.acquire_next('lim', 100, '60 s');
SELECT t.try('SELECT eda.release(' || t.one() || ', ''30 min'')');
SELECT count(*) FROM eda.acquire_next('lim', 100, '60 s');
SELECT t.in_flight();
-- An end that is not committed does not make room.
BEGIN;
SELECT t.try('SELECT eda.succeed(' || t.one() || ')');
SELECT count(*) FROM eda.acquire_next('lim', 100, '200 ms');
ROLLBACK;
-- There are never more than the limit, however events come and go.
DO $$
DECLARE
	ids uuid[];
	tokens integer[];
BEGIN
	FOR i IN 1..1000 LOOP
		SELECT array_agg(id), array_agg(token) INTO ids, tokens FROM eda.event_state WHERE event_type = 'LIM' AND state = 'being_processed';
		IF ids IS NOT NULL THEN
			PERFORM eda.succeed_many(ids, tokens);
		END IF;
		COMMIT;
		PERFORM eda.acquire_next('lim', 100, '100 ms');
		COMMIT;
		IF t.in_flight() > 3 THEN
			RAISE EXCEPTION '% in flight', t.in_flight();
		END IF;
		EXIT WHEN (SELECT count(*) FROM eda.event_state WHERE event_type = 'LIM' AND state = 'succeeded') = 8;
	END LOOP;
END $$;
SELECT state, count(*) FROM eda.event_state WHERE event_type = 'LIM' GROUP BY state ORDER BY state;
-- The limit can be raised, lowered and removed while the engine runs.
SELECT cardinality(eda.publish_many('LIM', '{m 1, m 2, m 3, m 4, m 5, m 6, m 7, m 8, m 9}'));
SELECT t.until('t.in_flight() = 3');
SELECT max_in_flight FROM eda.configure('LIM', max_in_flight => 5);
SELECT t.until('t.in_flight() = 5');
SELECT max_in_flight FROM eda.configure('LIM', reset => true, lifespan => '1 hour');
SELECT t.until('t.in_flight() = 9');
-- An event that waits because of a limit still expires.
SELECT max_in_flight FROM eda.configure('LIM', max_in_flight => 1);
SELECT cardinality(eda.publish_many('LIM', '{n 1, n 2}'));
SELECT eda.move_clock('61 min') IS NOT NULL AS moved;
SELECT t.until($$(SELECT count(*) FROM eda.event_state WHERE event_type = 'LIM' AND state = 'expired') = 12$$);
SELECT flow_id, t.life(id) FROM eda.event WHERE event_type = 'LIM' AND flow_id LIKE 'n _' ORDER BY id;
SELECT eda.move_clock('0') IS NOT NULL AS moved;

-- a suspended event type
SELECT count(*) FROM eda.configure('LIM_OFF', 'lim_off', attempt_delays => '{0 s}', lifespan => '1 hour', lease => '1 hour');
SELECT count(*) FROM eda.configure('LIM_ON', 'lim_off');
SELECT eda.publish('LIM_OFF', 'by hand', scheduled_at => '2100-01-01') AS by_hand, eda.publish('LIM_OFF', 'dispatched') AS dispatched,
	eda.publish('LIM_OFF', 'working') AS working \gset
SELECT t.queued('lim_off', 2);
SELECT eda.suspend(:'by_hand');
SELECT token FROM eda.acquire(:'working') \gset
SELECT eda.suspend_event_type('LIM_OFF');
SELECT cardinality(eda.publish_many('LIM_OFF', '{off 1, off 2, off 3}'));
SELECT eda.publish('LIM_OFF', 'later', scheduled_at => eda.clock() + interval '30 min') AS later \gset
SELECT t.reach(:'dispatched', 'suspended');
SELECT t.until($$(SELECT count(*) FROM eda.event_state WHERE flow_id LIKE 'off _' AND state = 'suspended') = 3$$);
SELECT eda.publish('LIM_ON', 'on') AS id \gset
SELECT flow_id FROM eda.acquire_next('lim_off', 10, '60 s');
-- An attempt that is being processed continues; a retry waits.
SELECT eda.fail(:'working', 'x', token => :token);
SELECT t.reach(:'working', 'suspended');
SELECT flow_id, state, suspended_by, wake_at FROM eda.event_state WHERE event_type = 'LIM_OFF' AND state = 'suspended' ORDER BY flow_id;
SELECT t.state(:'later');
-- An event that an operator resumes while its type is suspended is suspended again.
SELECT eda.resume(:'dispatched');
SELECT t.reach(:'dispatched', 'suspended');
-- After unsuspending, the events that the type suspended continue, and no others.
SELECT eda.unsuspend_event_type('LIM_OFF');
SELECT t.queued('lim_off', 5);
SELECT flow_id, state, suspended_by FROM eda.event_state WHERE event_type = 'LIM_OFF' ORDER BY flow_id;
SELECT flow_id, t.life(id) FROM eda.event WHERE id IN (:'by_hand', :'dispatched', :'working', :'later') ORDER BY flow_id;
-- Events of a suspended type still expire.
SELECT eda.suspend_event_type('LIM_OFF');
SELECT t.until($$(SELECT count(*) FROM eda.event_state WHERE event_type = 'LIM_OFF' AND suspended_by = 'type') = 5$$);
SELECT eda.move_clock('95 min') IS NOT NULL AS moved;
SELECT t.until($$(SELECT count(*) FROM eda.event_state WHERE event_type = 'LIM_OFF' AND state = 'expired') = 6$$);
SELECT flow_id, state FROM eda.event_state WHERE event_type = 'LIM_OFF' ORDER BY flow_id;
SELECT eda.move_clock('0') IS NOT NULL AS moved;
SELECT eda.unsuspend_event_type('LIM_OFF');
SELECT eda.cancel(:'by_hand');
