-- eda.configure() creates and changes event types, and refuses rules that are invalid.
CREATE FUNCTION t.rules(rules eda.event_type) RETURNS jsonb LANGUAGE sql
RETURN jsonb_strip_nulls(to_jsonb(rules) - 'id');

-- With only a flow type, all other rules have their defaults.
SELECT t.rules(eda.configure('CFG_A', 'cfg'));
-- All rules can be given.
SELECT t.rules(eda.configure('CFG_ALL', 'cfg', max_attempts => 3, lifespan => '1 day',
	attempt_delays => '{1 s, 10 s}', backoff => 2, jitter => 0.1, lease => '5 min', dispatch_timeout => '1 min',
	on_fail_event_type => 'CFG_A', suspend_timeout => '1 hour', on_suspend_timeout => 'resume',
	delivery => 'nats', subject => 'orders.{event_type}.{flow_id}', priority => 9, max_in_flight => 10, max_dispatched => 100));
-- A rule that is not given stays as it is,
SELECT t.rules(eda.configure('CFG_ALL', max_attempts => 4, on_fail_event_type => '', subject => ''));
SELECT t.rules(eda.configure('CFG_ALL'));
-- unless reset makes all rules start from their defaults.
SELECT t.rules(eda.configure('CFG_ALL', reset => true, priority => 2));
-- The same rules again are no change.
SELECT version FROM eda.config \gset before_
SELECT count(*) FROM eda.configure('CFG_ALL');
SELECT version = :before_version AS unchanged FROM eda.config;
SELECT count(*) FROM eda.configure('CFG_ALL', priority => 3);
SELECT version > :before_version AS counted FROM eda.config;
-- The default delays fit into the lifespan.
SELECT given.lifespan, made.attempt_delays
FROM unnest('{1 s, 20 s, 2 min, 4 min, 30 min}'::interval[]) WITH ORDINALITY given(lifespan, n)
CROSS JOIN LATERAL eda.configure('CFG_SHORT_' || n, 'cfg', lifespan => given.lifespan) made
ORDER BY n;

-- names
SELECT t.try($$SELECT eda.configure(NULL, 'cfg')$$);
SELECT t.try($$SELECT eda.configure('', 'cfg')$$);
SELECT t.try($$SELECT eda.configure('1st', 'cfg')$$);
SELECT t.try($$SELECT eda.configure('a b', 'cfg')$$);
SELECT t.try($$SELECT eda.configure('a.b', 'cfg')$$);
SELECT t.try(format('SELECT (eda.configure(%L, ''cfg'')).event_type', 'n' || repeat('x', 62))) LIKE 'ok: nxxx%' AS longest;
SELECT t.try(format('SELECT (eda.configure(%L, ''cfg'')).event_type', 'n' || repeat('x', 63)));
SELECT t.try($$SELECT eda.configure('cfg_a', 'cfg')$$);
SELECT t.try($$SELECT eda.configure('CFG_NEW')$$);
SELECT t.try($$SELECT eda.configure('CFG_NEW', '')$$);
SELECT t.try($$SELECT eda.configure('CFG_NEW', 'a b')$$);
SELECT t.try($$SELECT eda.configure('CFG_NEW', 'Events')$$);
SELECT t.try($$SELECT eda.configure('CFG_NEW', 'CFG')$$);
SELECT t.try($$SELECT eda.configure('CFG_A', 'cfg_other')$$);

-- values
SELECT t.try(format('SELECT eda.configure(''CFG_A'', %s)', bad.arguments)) FROM (VALUES
	(1, 'max_attempts => 0'),
	(2, 'max_attempts => -1'),
	(3, 'max_attempts => 10001'),
	(4, 'lifespan => ''0'''),
	(5, 'lifespan => ''-1 day'''),
	(6, 'attempt_delays => ''{}'''),
	(7, 'attempt_delays => ''{1 s, NULL}'''),
	(8, 'attempt_delays => ''{{1 s}, {2 s}}'''),
	(9, 'attempt_delays => ''{0 s, -1 s}'''),
	(10, 'backoff => 0.5'),
	(11, 'backoff => 101'),
	(12, 'backoff => ''NaN'''),
	(13, 'jitter => -0.1'),
	(14, 'jitter => 1.1'),
	(15, 'lease => ''0'''),
	(16, 'lease => ''-1 s'''),
	(17, 'dispatch_timeout => ''0'''),
	(18, 'suspend_timeout => ''0'''),
	(19, 'on_suspend_timeout => ''drop'''),
	(20, 'delivery => ''carrier pigeon'''),
	(21, 'priority => -1'),
	(22, 'priority => 10'),
	(23, 'max_in_flight => 0'),
	(24, 'on_fail_event_type => ''CFG_A'''),
	(25, 'on_fail_event_type => ''CFG_NOWHERE'''),
	(26, 'lifespan => ''1 min'', attempt_delays => ''{30 s}'', max_attempts => 2'),
	(27, 'lifespan => ''1 min'', attempt_delays => ''{1 s}'', max_attempts => 7, backoff => 2'),
	(28, 'priority => 70000'),
	(29, 'max_dispatched => 0'),
	(30, 'subject => ''orders.*'''),
	(31, 'subject => ''orders..{flow_id}'''),
	(32, 'subject => ''orders {flow_id}'''),
	(33, 'subject => ''orders.{payload}'''),
	(34, 'subject => ''event-engine._DLQ.{flow_type}''')) bad(n, arguments)
ORDER BY n;
-- No invalid rule was stored.
SELECT t.rules(eda.configure('CFG_A'));
-- A lifespan that is just longer than the delays is accepted.
SELECT t.rules(eda.configure('CFG_A', lifespan => '1 min 1 s', attempt_delays => '{30 s}', max_attempts => 2));

-- There cannot be more event types than eda.max_event_types.
BEGIN;
SELECT count(eda.configure('CFG_MANY_' || n, 'cfg')) > 0 AS filled
FROM generate_series(1, current_setting('eda.max_event_types')::integer - (SELECT count(*) FROM eda.event_type)) n;
SELECT t.try($$SELECT eda.configure('CFG_TOO_MANY', 'cfg')$$);
-- Existing event types can still be changed then.
SELECT max_attempts FROM eda.configure('CFG_MANY_1', max_attempts => 2);
ROLLBACK;

-- A change is in force at once in its own transaction, and gone if that rolls back.
BEGIN;
SELECT t.try($$SELECT eda.publish('CFG_TX', 'f')$$);
SAVEPOINT a;
SELECT count(*) FROM eda.configure('CFG_TX', 'cfg');
SELECT t.try($$SELECT eda.publish('CFG_TX', 'f')$$);
ROLLBACK TO a;
SELECT t.try($$SELECT eda.publish('CFG_TX', 'f')$$);
SELECT count(*) FROM eda.configure('CFG_TX', 'cfg');
SELECT t.try($$SELECT eda.publish('CFG_TX', 'f')$$);
ROLLBACK;
SELECT t.try($$SELECT eda.publish('CFG_TX', 'f')$$);
-- Other sessions use the new rules once they are committed.
SELECT dblink_connect('other', t.me());
SELECT * FROM dblink('other', $$SELECT event_type FROM eda.configure('CFG_TX', 'cfg', attempt_delays => '{1 day}')$$) x(made text);
SELECT t.try($$SELECT eda.publish('CFG_TX', 'f')$$);
SELECT dblink_disconnect('other');

-- Delays that would grow beyond all bounds stop at 30 days, and add up without an overflow.
SELECT eda.total_delay('{0 s, 1 s}', 10, 2), eda.total_delay('{0 s, 1 day}', 10000, 100), eda.total_delay('{20 years}', 3, 100),
	eda.total_delay('{1 us}', 1000, 10), eda.total_delay('{1 s}', 3, 1);
SELECT max_attempts FROM eda.configure('CFG_STEEP', 'cfg', max_attempts => 10000, backoff => 100);
SELECT t.try($$SELECT eda.configure('CFG_STEEP', attempt_delays => '[2:3]={0 s, 1 s}')$$);
-- The patterns do not depend on the session's standard_conforming_strings (always on from 19 on).
DO $$BEGIN
	IF current_setting('server_version_num')::integer < 190000 THEN
		SET standard_conforming_strings = off;
	END IF;
END$$;
SELECT t.try($$SELECT eda.configure('CFG_STEEP', subject => 'a b')$$);
RESET standard_conforming_strings;

-- An event type is suspended and unsuspended.
SELECT eda.suspend_event_type('CFG_A');
SELECT eda.suspend_event_type('CFG_A');
SELECT suspended FROM eda.configure('CFG_A', reset => true);
SELECT eda.unsuspend_event_type('CFG_A');
SELECT eda.unsuspend_event_type('CFG_A');
SELECT t.try($$SELECT eda.suspend_event_type('CFG_NOWHERE')$$);
SELECT t.try($$SELECT eda.unsuspend_event_type('CFG_NOWHERE')$$);
-- An unknown name raises an error also with a plan that checks first whether anything is suspended.
ANALYZE eda.event_type;
SET plan_cache_mode = force_generic_plan;
SELECT t.try($$SELECT eda.unsuspend_event_type('CFG_NOWHERE')$$);
RESET plan_cache_mode;
