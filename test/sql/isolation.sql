-- At every isolation level the functions act on an event's latest committed state, as foreign-key checks do.
SELECT count(*) FROM eda.configure('ISO', 'iso', max_attempts => 2, attempt_delays => '{0 s}');
SELECT dblink_connect('other', t.me());

-- An event that was dispatched after the snapshot was taken can be acquired.
SELECT eda.publish('ISO', 'repeatable', scheduled_at => eda.clock() + interval '1 hour') AS id \gset
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT t.state(:'id');
SELECT eda.move_clock('2 hours') IS NOT NULL AS moved;
SELECT flow_id, token, attempt FROM eda.acquire_next('iso', 1, '10 s');
-- A query sees the event as its snapshot and its own writes say.
SELECT t.life(:'id');
SELECT eda.succeed(:'id');
COMMIT;
SELECT t.life(:'id');
SELECT eda.move_clock('0') IS NOT NULL AS moved;
-- An event that another session acquired or ended after the snapshot cannot be acquired.
SELECT eda.publish('ISO', 'other took it') AS id \gset
SELECT t.reach(:'id', 'dispatched');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT t.state(:'id');
SELECT * FROM dblink('other', format('SELECT token FROM eda.acquire(%L)', :'id')) x(token integer);
SELECT t.state(:'id');
SELECT count(*) FROM eda.acquire(:'id');
SELECT * FROM dblink('other', format('SELECT eda.fail(%L, ''x'', token => 3, retry_in => ''1 day'')', :'id')) x(state text);
SELECT t.try(format('SELECT eda.succeed(%L, 3)', :'id'));
SELECT eda.cancel(:'id');
COMMIT;
SELECT t.life(:'id');
-- A serializable transaction acts on an event that it has itself published before.
SELECT eda.publish('ISO', 'serializable') AS id \gset
SELECT t.reach(:'id', 'dispatched');
BEGIN ISOLATION LEVEL SERIALIZABLE;
SELECT t.state(:'id');
SELECT * FROM dblink('other', format('SELECT eda.cancel(%L)', :'id')) x(moved integer);
SELECT replace(t.try(format('SELECT eda.cancel(%L)', :'id')), 'by ' || current_user, 'by <user>') AS try;
COMMIT;
-- An idempotency key or event id that another session used after the snapshot was taken is found.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) FROM eda.event WHERE flow_id = 'key';
SELECT * FROM dblink('other', $$SELECT eda.publish('ISO', 'key', '{"by": "other"}', idempotency_key => 'iso')$$) x(other uuid) \gset
SELECT eda.publish('ISO', 'key', '{"by": "me"}', idempotency_key => 'iso') = :'other' AS same;
SELECT * FROM dblink('other', $$SELECT eda.publish('ISO', 'id', event_id => '01890000-0000-7000-8000-00000000ab01')$$) x(id uuid);
SELECT eda.publish('ISO', 'id', event_id => '01890000-0000-7000-8000-00000000ab01');
SELECT t.try($$SELECT eda.publish('ISO', 'id other', event_id => '01890000-0000-7000-8000-00000000ab01')$$);
COMMIT;
SELECT flow_id, payload FROM eda.event WHERE flow_id IN ('key', 'id') AND event_type = 'ISO' ORDER BY flow_id;
-- A change of the rules by another session counts at once.
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT count(*) > 0 AS snapshot FROM eda.event_type;
SELECT * FROM dblink('other', $$SELECT event_type FROM eda.configure('ISO_NEW', 'iso', attempt_delays => '{1 day}')$$) x(made text);
SELECT t.try($$SELECT eda.publish('ISO_NEW', 'new')$$);
COMMIT;

-- Read-only transactions raise an error, even if nothing would be written.
BEGIN READ ONLY;
SELECT t.try(command) FROM (VALUES
	(1, 'SELECT eda.publish(''ISO'', ''no'')'),
	(2, 'SELECT eda.publish_many(''ISO'', ''{no}'')'),
	(3, 'SELECT eda.acquire_next(''iso'')'),
	(4, 'SELECT eda.succeed_many(''{}'')'),
	(5, 'SELECT eda.fail_many(''{}'', ''{}'')'),
	(6, 'SELECT eda.heartbeat_many(''{}'')'),
	(7, 'SELECT eda.release_many(''{}'')'),
	(8, 'SELECT eda.redrive_many(''{}'')'),
	(9, 'SELECT eda.configure(''ISO'', max_attempts => 3)')) c(n, command) ORDER BY n;
-- Reading functions work in them.
SELECT count(*) > 0 AS read FROM eda.event_state WHERE event_type = 'ISO';
SELECT count(*) > 0 AS read FROM eda.queue_metrics;
SELECT state FROM eda.engine_status;
COMMIT;

-- Writes in a transaction with many savepoints are read as those of one transaction.
SELECT cardinality(eda.publish_many('ISO', '{s 1, s 2, s 3}'));
SELECT t.queued('iso', 5);
DO $$
DECLARE
	e record;
BEGIN
	FOR e IN SELECT * FROM eda.acquire_next('iso', 10) WHERE flow_id LIKE 's _' LOOP
		BEGIN
			PERFORM eda.heartbeat(e.event_id);
			PERFORM eda.succeed(e.event_id, spinoffs => '[{"event_type": "ISO", "scheduled_at": "2100-01-01T00:00:00Z"}]');
			IF e.flow_id = 's 2' THEN
				RAISE EXCEPTION 'work on % went wrong', e.flow_id;
			END IF;
		EXCEPTION WHEN raise_exception THEN
			PERFORM eda.fail(e.event_id, SQLERRM, retry => false);
		END;
	END LOOP;
END $$;
SELECT flow_id, t.life(id), (SELECT count(*) FROM eda.event s WHERE s.parent_id = e.id) AS spinoffs, t.state(id)
FROM eda.event e WHERE flow_id LIKE 's _' AND parent_id IS NULL ORDER BY flow_id;
SELECT dblink_disconnect('other');
