/* ------------------------------------------------------------------------
 * Operators
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda.cancel(event_id uuid, reason text DEFAULT NULL) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_cancel' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.cancel(uuid, text) IS
	'End an event that is not final yet; a lease on it is void from then on.  How many events it moved: 1.';

CREATE FUNCTION eda.suspend(
	event_id	uuid,
	deadline	timestamptz DEFAULT NULL,
	token		integer DEFAULT NULL,
	reason		text DEFAULT NULL
) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_suspend' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.suspend(uuid, timestamptz, integer, text) IS
	'Set an event aside until eda.resume() or the deadline; a worker gives its token, and the attempt back.  How many events it moved: 1.';

CREATE FUNCTION eda.resume(event_id uuid, reason text DEFAULT NULL) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_resume' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.resume(uuid, text) IS
	'Let a suspended event go on at once; while its type is suspended it goes no further than there.  How many events it moved: 1.';

CREATE FUNCTION eda.redrive(event_id uuid, reason text DEFAULT NULL) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_redrive' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.redrive(uuid, text) IS
	'Give a failed or expired event its attempts and its lifespan again.  How many events it moved: 1.';

CREATE FUNCTION eda.redrive_many(event_ids uuid[], reason text DEFAULT NULL) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_redrive_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.redrive_many(uuid[], text) IS
	'eda.redrive() for many events at once, all or none; how many events it moved.';

CREATE FUNCTION eda.redrive_if_dead(event_ids uuid[], reason text) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_redrive_if_dead' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.redrive_if_dead(uuid[], text) IS
	'eda.redrive_many() without those that somebody else has redriven; how many events it moved.';

-- A dead letter is an event whose *last* step is failed or expired.
CREATE FUNCTION eda.redrive(event_type text, since timestamptz DEFAULT '-infinity', reason text DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	type_id integer;
BEGIN
	-- A quoted uuid without a cast arrives here as text.
	IF redrive.event_type ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
		RETURN eda.redrive(redrive.event_type::uuid, redrive.reason);
	END IF;
	type_id := eda.event_type_id(redrive.event_type);
	IF redrive.since IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'since must not be null',
			HINT = 'Leave it out for all dead letters of the event type.';
	END IF;
	RETURN eda.redrive_if_dead(ARRAY(
		SELECT t.event_id FROM eda.transition t
		WHERE t.type = type_id AND t.state IN ('failed', 'expired') AND t.at >= redrive.since
		AND NOT EXISTS (
			SELECT FROM eda.transition later
			WHERE later.segment = t.segment AND later.event_id = t.event_id AND later.version = t.version + 1)
		ORDER BY t.at), redrive.reason);
END $$;
COMMENT ON FUNCTION eda.redrive(text, timestamptz, text) IS
	'Redrive all dead letters of an event type that died since a time; how many events it moved.';

/* ------------------------------------------------------------------------
 * Config
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda.event_type_id(event_type text) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_event_type_id' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.event_type_id(text) IS
	'The id of an event type by name; an unknown name is the error ED005.';

-- What all attempts wait together, as configured (without jitter); backoff stops at 30 days a delay.
CREATE FUNCTION eda.total_delay(attempt_delays interval[], max_attempts integer, backoff double precision)
RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN (
	SELECT sum(CASE WHEN d.delay >= interval '30 days' OR backoff = 1 OR n <= cardinality(attempt_delays) THEN d.delay
		-- a factor of up to 1e7, without an overflow on the way there
		ELSE least(d.delay * power(backoff, least(n - cardinality(attempt_delays), 7 / log(backoff))), interval '30 days') END)
	FROM generate_series(1, max_attempts) n,
	LATERAL (SELECT attempt_delays[least(n, cardinality(attempt_delays))]) d(delay));
COMMENT ON FUNCTION eda.total_delay(interval[], integer, double precision) IS
	'What the delays of all attempts add up to, without jitter.';

CREATE FUNCTION eda.configure(
	event_type			text,
	flow_type			text DEFAULT NULL,
	max_attempts		integer DEFAULT NULL,
	lifespan			interval DEFAULT NULL,
	attempt_delays		interval[] DEFAULT NULL,
	backoff				double precision DEFAULT NULL,
	jitter				double precision DEFAULT NULL,
	lease				interval DEFAULT NULL,
	dispatch_timeout	interval DEFAULT NULL,
	on_fail_event_type	text DEFAULT NULL,
	suspend_timeout		interval DEFAULT NULL,
	on_suspend_timeout	text DEFAULT NULL,
	delivery			text DEFAULT NULL,
	subject				text DEFAULT NULL,
	priority			integer DEFAULT NULL,
	max_in_flight		integer DEFAULT NULL,
	max_dispatched		integer DEFAULT NULL,
	reset				boolean DEFAULT false
) RETURNS eda.event_type
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
DECLARE
	-- Retry soon, then ever later; as much of it as the lifespan leaves room for.
	ladder CONSTANT interval[] := '{0 s, 5 s, 30 s, 2 min, 10 min}';
	old eda.event_type;
	new eda.event_type;
BEGIN
	IF configure.event_type IS NULL OR configure.event_type !~ '^[A-Za-z][A-Za-z0-9_-]{0,62}$' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('invalid event type name: %L', configure.event_type),
			HINT = 'A name starts with a letter and has up to 63 letters, digits, "_" and "-".';
	END IF;
	PERFORM eda.claim_home();
	LOCK TABLE eda.event_type IN SHARE ROW EXCLUSIVE MODE;
	SELECT * INTO old FROM eda.event_type t WHERE lower(t.event_type) = lower(configure.event_type);
	IF old.event_type <> configure.event_type THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
			MESSAGE = format('event type "%s" exists as "%s"', configure.event_type, old.event_type),
			HINT = 'Names are unique without regard to case.';
	END IF;
	new := old;
	IF old.id IS NULL OR reset THEN
		new.event_type := configure.event_type;
		new.flow_type := old.flow_type;
		new.max_attempts := 5;
		new.lifespan := NULL;
		new.attempt_delays := NULL;
		new.backoff := 1;
		new.jitter := 0;
		new.lease := '30 s';
		new.dispatch_timeout := '30 s';
		new.on_fail_event_type := NULL;
		new.suspended := coalesce(old.suspended, false);
		new.suspend_timeout := NULL;
		new.on_suspend_timeout := 'expire';
		new.delivery := 'pull';
		new.subject := NULL;
		new.priority := 5;
		new.max_in_flight := NULL;
		new.max_dispatched := 10000;
	END IF;
	new.flow_type := coalesce(configure.flow_type, new.flow_type);
	new.max_attempts := coalesce(configure.max_attempts, new.max_attempts);
	new.lifespan := coalesce(configure.lifespan, new.lifespan);
	new.attempt_delays := coalesce(configure.attempt_delays, new.attempt_delays);
	new.backoff := coalesce(configure.backoff, new.backoff);
	new.jitter := coalesce(configure.jitter, new.jitter);
	new.lease := coalesce(configure.lease, new.lease);
	new.dispatch_timeout := coalesce(configure.dispatch_timeout, new.dispatch_timeout);
	new.on_fail_event_type := coalesce(configure.on_fail_event_type, new.on_fail_event_type);
	new.suspend_timeout := coalesce(configure.suspend_timeout, new.suspend_timeout);
	new.on_suspend_timeout := coalesce(configure.on_suspend_timeout, new.on_suspend_timeout);
	new.delivery := coalesce(configure.delivery, new.delivery);
	new.subject := nullif(coalesce(configure.subject, new.subject), '');
	new.priority := coalesce(configure.priority, new.priority);
	new.max_in_flight := coalesce(configure.max_in_flight, new.max_in_flight);
	new.max_dispatched := coalesce(configure.max_dispatched, new.max_dispatched);
	IF new.attempt_delays IS NULL THEN
		SELECT ladder[1:n] INTO new.attempt_delays FROM generate_series(cardinality(ladder), 1, -1) n
		WHERE n = 1 OR new.lifespan IS NULL
			OR eda.total_delay(ladder[1:n], new.max_attempts, new.backoff) < new.lifespan
		ORDER BY n DESC LIMIT 1;
	END IF;

	PERFORM eda.check_event_type(new, old);
	IF new.delivery = 'nats' AND old.delivery IS DISTINCT FROM 'nats'
		AND current_setting('eda.nats_url') = '' THEN
		RAISE NOTICE USING MESSAGE = format('no broker is set: events of type "%s" will wait', new.event_type),
			HINT = 'Set eda.nats_url in postgresql.conf and reload.';
	END IF;
	IF old.id IS NULL THEN
		INSERT INTO eda.event_type (event_type, flow_type, max_attempts, lifespan, attempt_delays, backoff, jitter,
			lease, dispatch_timeout, on_fail_event_type, suspended, suspend_timeout, on_suspend_timeout, delivery,
			subject, priority, max_in_flight, max_dispatched)
		VALUES (new.event_type, new.flow_type, new.max_attempts, new.lifespan, new.attempt_delays, new.backoff, new.jitter,
			new.lease, new.dispatch_timeout, new.on_fail_event_type, new.suspended, new.suspend_timeout,
			new.on_suspend_timeout, new.delivery, new.subject, new.priority, new.max_in_flight, new.max_dispatched)
		RETURNING * INTO new;
	ELSIF new IS DISTINCT FROM old THEN
		UPDATE eda.event_type t SET
			(max_attempts, lifespan, attempt_delays, backoff, jitter, lease, dispatch_timeout, on_fail_event_type,
			 suspend_timeout, on_suspend_timeout, delivery, subject, priority, max_in_flight, max_dispatched)
			= (new.max_attempts, new.lifespan, new.attempt_delays, new.backoff, new.jitter, new.lease,
			 new.dispatch_timeout, new.on_fail_event_type, new.suspend_timeout, new.on_suspend_timeout, new.delivery,
			 new.subject, new.priority, new.max_in_flight, new.max_dispatched)
		WHERE t.id = old.id;
	END IF;
	RETURN new;
END $$;
COMMENT ON FUNCTION eda.configure(text, text, integer, interval, interval[], double precision, double precision,
	interval, interval, text, interval, text, text, text, integer, integer, integer, boolean) IS
	'Create an event type, or change the rules that are given (reset => true starts from the defaults); its row.';

-- One sentence for each rule that a row can break: what is wrong, and what would be right.
-- (The patterns have backslashes: a session may read those in its own way.)
CREATE FUNCTION eda.check_event_type(new eda.event_type, old eda.event_type) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
	wrong text;
	right_is text;
	total interval;
BEGIN
	-- The first rule that is broken; each later one may rely on those before it.
	IF new.flow_type IS NULL THEN
		wrong := 'a new event type needs a flow type';
		right_is := 'Name the queue that its workers take events from: flow_type => ''...''.';
	ELSIF new.flow_type !~ '^[A-Za-z][A-Za-z0-9_-]{0,62}$' OR lower(new.flow_type) = 'events' THEN
		wrong := format('invalid flow type name: %L', new.flow_type);
		right_is := 'A name starts with a letter and has up to 63 letters, digits, "_" and "-"; "events" is reserved for the feed.';
	ELSIF new.flow_type <> old.flow_type THEN
		wrong := format('its flow type is "%s" and cannot be changed to "%s"', old.flow_type, new.flow_type);
		right_is := 'Events that were published would be left behind; configure a new event type.';
	ELSIF EXISTS (SELECT FROM eda.event_type t
				  WHERE lower(t.flow_type) = lower(new.flow_type) AND t.flow_type <> new.flow_type) THEN
		wrong := format('flow type "%s" exists in another case', new.flow_type);
		right_is := 'Names are unique without regard to case.';
	ELSIF new.max_attempts NOT BETWEEN 1 AND 10000 THEN
		wrong := format('max_attempts is %s', new.max_attempts);
		right_is := 'An event needs 1 to 10000 attempts.';
	ELSIF new.lifespan <= interval '0' THEN
		wrong := format('lifespan is %s', new.lifespan);
		right_is := 'An event must live for some time; leave lifespan out for one that never expires.';
	ELSIF coalesce(cardinality(new.attempt_delays), 0) = 0 OR array_ndims(new.attempt_delays) > 1
		OR array_lower(new.attempt_delays, 1) <> 1 OR array_position(new.attempt_delays, NULL) IS NOT NULL THEN
		wrong := format('attempt_delays is %L', new.attempt_delays);
		right_is := 'Give the wait before attempt 1, 2, ..., for example ''{0 s, 10 s, 1 min}''; the last one repeats.';
	ELSIF interval '0' > ANY (new.attempt_delays) THEN
		wrong := format('attempt_delays has a negative delay: %s', new.attempt_delays);
		right_is := 'Each delay must be zero or more.';
	ELSIF new.backoff IS NULL OR NOT new.backoff BETWEEN 1 AND 100 THEN
		wrong := format('backoff is %s', new.backoff);
		right_is := 'It must be from 1 (the last delay repeats) to 100.';
	ELSIF new.jitter IS NULL OR NOT new.jitter BETWEEN 0 AND 1 THEN
		wrong := format('jitter is %s', new.jitter);
		right_is := 'It must be from 0 to 1: the part of a delay that is random.';
	ELSIF new.lease <= interval '0' THEN
		wrong := format('lease is %s', new.lease);
		right_is := 'A worker needs some time: give a lease above zero.';
	ELSIF new.dispatch_timeout <= interval '0' THEN
		wrong := format('dispatch_timeout is %s', new.dispatch_timeout);
		right_is := 'It must be above zero.';
	ELSIF new.suspend_timeout <= interval '0' THEN
		wrong := format('suspend_timeout is %s', new.suspend_timeout);
		right_is := 'It must be above zero; leave it out for no deadline.';
	ELSIF greatest(new.lifespan, new.lease, new.dispatch_timeout, new.suspend_timeout) > interval '100 years'
		OR interval '100 years' < ANY (new.attempt_delays) THEN
		wrong := 'one of its times is above 100 years';
		right_is := 'Leave lifespan or suspend_timeout out for no end.';
	ELSIF new.on_suspend_timeout NOT IN ('expire', 'resume') THEN
		wrong := format('on_suspend_timeout is %L', new.on_suspend_timeout);
		right_is := 'It must be ''expire'' or ''resume''.';
	ELSIF new.delivery NOT IN ('pull', 'nats') THEN
		wrong := format('delivery is %L', new.delivery);
		right_is := 'It must be ''pull'' or ''nats''.';
	ELSIF regexp_replace(new.subject, '\{(flow_type|event_type|flow_id|database)\}', 'x', 'g')
		!~ '^[A-Za-z0-9_=+/:@~%-]+(\.[A-Za-z0-9_=+/:@~%-]+)*$' OR length(new.subject) > 200 THEN
		wrong := format('subject is %L', new.subject);
		right_is := 'Words with dots between them, in which {flow_type}, {event_type}, {flow_id} and {database} stand for the event''s.';
	ELSIF new.subject ~ '^(_INBOX|event-engine\._DLQ)(\.|$)' THEN
		wrong := format('subject %L is reserved', new.subject);
		right_is := 'Take another one, or leave it out for event-engine.{flow_type}.';
	ELSIF new.max_dispatched < 1 THEN
		wrong := format('max_dispatched is %s', new.max_dispatched);
		right_is := 'It must be 1 or more; to stop a type, call eda.suspend_event_type().';
	ELSIF new.priority NOT BETWEEN 0 AND 9 THEN
		wrong := format('priority is %s', new.priority);
		right_is := 'It must be from 0 to 9; higher goes first.';
	ELSIF new.max_in_flight < 1 THEN
		wrong := format('max_in_flight is %s', new.max_in_flight);
		right_is := 'It must be 1 or more; to stop a type, call eda.suspend_event_type().';
	ELSIF new.on_fail_event_type = new.event_type THEN
		wrong := 'an event type cannot be its own on_fail_event_type';
		right_is := 'Configure another event type for what follows a failure.';
	ELSIF new.on_fail_event_type <> '' AND NOT EXISTS (
		SELECT FROM eda.event_type t WHERE t.event_type = new.on_fail_event_type) THEN
		wrong := format('on_fail_event_type "%s" does not exist', new.on_fail_event_type);
		right_is := 'Configure that event type first; an empty string means none.';
	ELSE
		total := eda.total_delay(new.attempt_delays, new.max_attempts, new.backoff);
		IF total >= new.lifespan THEN
			wrong := format('lifespan %s is shorter than the delays of %s attempts together, %s',
				new.lifespan, new.max_attempts, total);
			right_is := format('Give a lifespan above %s, fewer attempts or shorter delays.', total);
		ELSIF old.id IS NULL AND
			(SELECT count(*) FROM eda.event_type) >= current_setting('eda.max_event_types')::integer THEN
			RAISE EXCEPTION USING ERRCODE = 'configuration_limit_exceeded',
				MESSAGE = format('there are %s event types already', current_setting('eda.max_event_types')),
				HINT = 'Raise eda.max_event_types in postgresql.conf and restart the server.';
		END IF;
	END IF;
	IF wrong IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('event type "%s": %s', new.event_type, wrong), HINT = right_is;
	END IF;
END $$;
COMMENT ON FUNCTION eda.check_event_type(eda.event_type, eda.event_type) IS
	'Refuse a set of rules that cannot be right, and say what would be.';

CREATE FUNCTION eda.set_event_type_suspended(event_type text, suspended boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	-- Not in the condition: of a type that is unknown nobody would hear when no row gets that far.
	type_id CONSTANT integer := eda.event_type_id(event_type);
BEGIN
	UPDATE eda.event_type t SET suspended = set_event_type_suspended.suspended
	WHERE t.id = type_id AND t.suspended <> set_event_type_suspended.suspended;
	RETURN FOUND;
END $$;
COMMENT ON FUNCTION eda.set_event_type_suspended(text, boolean) IS
	'What eda.suspend_event_type() and eda.unsuspend_event_type() share.';

CREATE FUNCTION eda.suspend_event_type(event_type text) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN eda.set_event_type_suspended(event_type, true);
COMMENT ON FUNCTION eda.suspend_event_type(text) IS
	'Stop dispatching and acquiring events of a type; what is being processed goes on.  False if it was suspended already.';

CREATE FUNCTION eda.unsuspend_event_type(event_type text) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN eda.set_event_type_suspended(event_type, false);
COMMENT ON FUNCTION eda.unsuspend_event_type(text) IS
	'Let events of a type go on, also those that were suspended with it.  False if it was not suspended.';

-- The first configure() makes this database the home of an empty log.  A restored
-- copy has a log and no home, and stays idle.
CREATE FUNCTION eda.claim_home() RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF EXISTS (SELECT FROM eda.engine_state) OR EXISTS (SELECT FROM eda.event_type)
		OR EXISTS (SELECT FROM eda.segment) OR EXISTS (SELECT FROM eda.event) THEN
		RETURN;
	END IF;
	INSERT INTO eda.engine_state (system_identifier, database_oid)
	SELECT s.system_identifier, d.oid
	FROM pg_control_system() s, pg_database d WHERE d.datname = current_database()
	ON CONFLICT DO NOTHING;
	IF FOUND THEN
		INSERT INTO eda.segment (segment, starts_at) VALUES (1, date_trunc('hour', eda.clock()));
	END IF;
END $$;
COMMENT ON FUNCTION eda.claim_home() IS 'Make this database the home of a log that is still empty.';
