-- In every state, every call makes its legal move or raises an error that says what would be legal.
SELECT count(*) FROM eda.configure('LIFE', 'life', max_attempts => 2, lifespan => '1 day', attempt_delays => '{0 s, 1 hour}', lease => '1 hour');

-- Publish an event and bring it to a state along the shortest way, without moving the clock.
CREATE PROCEDURE t.make(state text, INOUT id uuid) LANGUAGE plpgsql AS $$
DECLARE
	token integer;
BEGIN
	id := eda.publish('LIFE', 'to ' || state, scheduled_at =>
		CASE WHEN state IN ('awaiting_processing', 'suspended', 'canceled') THEN eda.clock() + interval '1 hour' END);
	COMMIT;
	CASE
		WHEN state = 'suspended' THEN PERFORM eda.suspend(id);
		WHEN state = 'canceled' THEN PERFORM eda.cancel(id);
		WHEN state <> 'awaiting_processing' THEN PERFORM t.reach(id, 'dispatched');
		ELSE NULL;
	END CASE;
	COMMIT;
	IF state IN ('being_processed', 'succeeded', 'failed') THEN
		SELECT a.token INTO token FROM eda.acquire(id) a;
		COMMIT;
		IF state = 'succeeded' THEN
			PERFORM eda.succeed(id, token);
		ELSIF state = 'failed' THEN
			PERFORM eda.fail(id, 'made to', token => token, retry => false);
		END IF;
	END IF;
	COMMIT;
END $$;

CREATE TABLE t.move (from_n integer, from_state text, call_n integer, call text, outcome text, state text);
CREATE PROCEDURE t.try_all(from_n integer, from_state text, expired uuid[] DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
	calls CONSTANT text[] := '{
		"eda.acquire(%L)", "eda.heartbeat(%L, 3)", "eda.succeed(%L, 3)", "eda.fail(%L, ''x'', token => 3)",
		"eda.fail(%L, ''x'', token => 3, retry => false)", "eda.release(%L, 3)", "eda.suspend(%L, token => 3)",
		"eda.suspend(%L)", "eda.resume(%L)", "eda.cancel(%L)", "eda.redrive(%L::uuid)"}';
	id uuid;
	outcome text;
BEGIN
	FOR n IN 1 .. cardinality(calls) LOOP
		IF expired IS NULL THEN
			CALL t.make(from_state, id);
		ELSE
			id := expired[n];
		END IF;
		IF t.state(id) <> from_state THEN
			RAISE WARNING 'made % instead of %', t.state(id), from_state;
		END IF;
		outcome := t.try(format('SELECT made::text FROM ' || calls[n] || ' made', id));
		COMMIT;
		-- How far the engine has moved the event by now does not matter here.
		INSERT INTO t.move SELECT from_n, from_state, n, calls[n], outcome,
			(SELECT coalesce(max(h.state) FILTER (WHERE h.version = b.version + 1), '-') FROM eda.history(id) h)
		FROM (SELECT max(version) AS version FROM eda.history(id) WHERE state = from_state AND prev_state IS DISTINCT FROM state) b;
		COMMIT;
	END LOOP;
END $$;
CALL t.try_all(1, 'awaiting_processing');
CALL t.try_all(2, 'dispatched');
CALL t.try_all(3, 'being_processed');
CALL t.try_all(4, 'succeeded');
CALL t.try_all(5, 'failed');
CALL t.try_all(6, 'suspended');
-- The clock moves by less than a day, so that no event of the other tests expires with these.
CREATE TABLE t.expired AS SELECT eda.publish('LIFE', 'to expired', scheduled_at => eda.clock() + interval '1 hour') AS id FROM generate_series(1, 11);
SELECT eda.move_clock('2 days') IS NOT NULL AS moved;
SELECT t.until($$(SELECT count(*) FROM t.expired WHERE t.state(id) = 'expired') = 11$$);
SELECT eda.move_clock('0') IS NOT NULL AS moved;
SELECT array_agg(id) AS expired FROM t.expired \gset
CALL t.try_all(7, 'expired', :'expired');
CALL t.try_all(8, 'canceled');
SELECT replace(call, '%L', '...') AS call, state AS moved_to, outcome FROM t.move WHERE from_n = 1 ORDER BY call_n;
SELECT replace(call, '%L', '...') AS call, state AS moved_to, outcome FROM t.move WHERE from_n = 2 ORDER BY call_n;
SELECT replace(call, '%L', '...') AS call, state AS moved_to, outcome FROM t.move WHERE from_n = 3 ORDER BY call_n;
SELECT replace(call, '%L', '...') AS call, state AS moved_to, outcome FROM t.move WHERE from_n = 4 ORDER BY call_n;
SELECT replace(call, '%L', '...') AS call, state AS moved_to, outcome FROM t.move WHERE from_n = 5 ORDER BY call_n;
SELECT replace(call, '%L', '...') AS call, state AS moved_to, outcome FROM t.move WHERE from_n = 6 ORDER BY call_n;
SELECT replace(call, '%L', '...') AS call, state AS moved_to, outcome FROM t.move WHERE from_n = 7 ORDER BY call_n;
SELECT replace(call, '%L', '...') AS call, state AS moved_to, outcome FROM t.move WHERE from_n = 8 ORDER BY call_n;
-- Every move that the calls made is in the table of moves.
SELECT from_state, state FROM t.move WHERE state <> '-'
EXCEPT SELECT from_state, to_state FROM eda.lifecycle;
SELECT * FROM eda.lifecycle;
