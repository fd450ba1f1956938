/*
 * helpers.sql
 *		What the isolation specs share; test/run loads it before them.
 *
 * Each permutation races for one event of its own, race.id(), which stands in the
 * state that race.start() was asked for.  The engine works on its own time, so a
 * step that needs it to have done something polls for that, and gives up loudly.
 * Delays are long and the clock is moved, so nothing happens by chance.
 */
CREATE EXTENSION eda;
CREATE SCHEMA race;

-- An attempt may take 10 minutes, the next one starts after an hour, a day is all there is.
SELECT FROM eda.configure('RACE', flow_type => 'race', max_attempts => 3, lifespan => '1 day',
	attempt_delays => '{0 s, 1 hour}', lease => '10 min', suspend_timeout => '2 hours');
SELECT FROM eda.configure('OTHER', flow_type => 'race');

-- A caller waits for as long as the machine needs; the spec that is about ED008 sets it itself.
ALTER DATABASE isolation_eda SET eda.lock_wait = '60 s';

CREATE TABLE race.event (id uuid, token integer);

CREATE FUNCTION race.id() RETURNS uuid LANGUAGE sql VOLATILE RETURN (SELECT id FROM race.event);
CREATE FUNCTION race.token() RETURNS integer LANGUAGE sql VOLATILE RETURN (SELECT token FROM race.event);

-- An id as a client would make it: version 7, of this moment.
CREATE FUNCTION race.new_id() RETURNS uuid LANGUAGE sql VOLATILE RETURN
	overlay(gen_random_uuid()::text PLACING regexp_replace(
		lpad(to_hex((extract(epoch FROM eda.clock()) * 1000)::bigint), 12, '0'), '^(.{8})(.{4})$', '\1-\2-7')
		FROM 1 FOR 15)::uuid;

-- Poll until a condition holds, each time in a new transaction.
CREATE PROCEDURE race.until(condition text) LANGUAGE plpgsql AS $$
DECLARE
	met boolean := false;
	give_up CONSTANT timestamptz := clock_timestamp() + interval '20 s';
BEGIN
	LOOP
		EXECUTE 'SELECT ' || condition INTO met;
		EXIT WHEN met;
		COMMIT;
		IF clock_timestamp() > give_up THEN
			RAISE EXCEPTION 'waited in vain for %', condition USING DETAIL = (SELECT s::text FROM eda.engine_status s);
		END IF;
		PERFORM pg_sleep(0.005);
	END LOOP;
END $$;

CREATE FUNCTION race.state() RETURNS text LANGUAGE sql VOLATILE
RETURN (SELECT s.state FROM eda.event_state s WHERE s.id = race.id());

CREATE PROCEDURE race.reach(state text) LANGUAGE plpgsql AS $$
BEGIN
	CALL race.until(format('race.state() = %L', state));
END $$;

-- Until the engine has come to the event and left it alone, as an open transaction has written to it.
CREATE PROCEDURE race.parked() LANGUAGE plpgsql AS $$
BEGIN
	CALL race.until('(SELECT parked FROM eda.engine_status) > 0');
END $$;

CREATE PROCEDURE race.unparked() LANGUAGE plpgsql AS $$
BEGIN
	CALL race.until('(SELECT parked FROM eda.engine_status) = 0');
END $$;

-- A new event, brought into a state.
CREATE PROCEDURE race.start(state text) LANGUAGE plpgsql AS $$
BEGIN
	DELETE FROM race.event;
	INSERT INTO race.event VALUES (race.new_id());
	COMMIT;
	IF state = 'nothing' THEN
		RETURN;
	END IF;
	PERFORM eda.publish('RACE', 'flow', event_id => race.id(),
		scheduled_at => CASE WHEN state IN ('awaiting_processing', 'suspended') THEN eda.clock() + '1 hour' END);
	COMMIT;
	IF state IN ('dispatched', 'being_processed') THEN
		CALL race.reach('dispatched');
		CALL race.until('(SELECT queued FROM eda.engine_status) = 1');
	END IF;
	IF state = 'being_processed' THEN
		UPDATE race.event SET token = (SELECT a.token FROM eda.acquire_next('race') a);
	ELSIF state = 'suspended' THEN
		PERFORM eda.suspend(race.id());
	END IF;
	COMMIT;
	CALL race.reach(state);
END $$;

-- The event's life in a line: its states, and why an attempt ended.
CREATE FUNCTION race.life() RETURNS text LANGUAGE sql VOLATILE
RETURN (SELECT string_agg(h.state || coalesce(' (' || (h.detail ->> 'error') || ')', ''), ', ' ORDER BY h.version)
	FROM eda.history(race.id()) h);

-- The code of the error that a command raises, for one whose message depends on how far the engine is.
CREATE FUNCTION race.sqlstate(command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE command;
	RETURN NULL;
EXCEPTION WHEN OTHERS THEN
	RETURN SQLSTATE;
END $$;

-- Leave nothing that could meet the next permutation.
CREATE PROCEDURE race.finish() LANGUAGE plpgsql AS $$
DECLARE
	event_id uuid;
BEGIN
	PERFORM eda.move_clock('0');
	FOR event_id IN SELECT s.id FROM eda.event_state s
		WHERE s.state IN ('awaiting_processing', 'dispatched', 'being_processed', 'suspended') LOOP
		BEGIN
			PERFORM eda.cancel(event_id);
		EXCEPTION WHEN SQLSTATE 'ED001' THEN
			NULL; -- the engine was about to end it
		END;
	END LOOP;
	COMMIT;
	CALL race.until('(SELECT queued + handed_out + parked FROM eda.engine_status) = 0');
END $$;
