/* ------------------------------------------------------------------------
 * Operators
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda.cancel(event_id uuid, reason text DEFAULT NULL) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_cancel' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.cancel(uuid, text) IS
	'Move an event to canceled, and return 1.  A worker that is processing the event loses its '
	'lease.  reason: kept in the event''s history.  Errors: ED001 the event has ended already, '
	'ED004 no such event, ED008 another transaction has locked it for longer than eda.lock_wait.';

CREATE FUNCTION eda.suspend(
	event_id	uuid,
	deadline	timestamptz DEFAULT NULL,
	token		integer DEFAULT NULL,
	reason		text DEFAULT NULL
) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_suspend' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.suspend(uuid, timestamptz, integer, text) IS
	'Move an event to suspended until eda.resume() or the deadline, and return how many events '
	'it moved: 1, or 0 if the current transaction has already ended this attempt without '
	'success.  deadline: null: after the event type''s suspend_timeout.  token: needed for an '
	'event that is being processed; its attempt ends and does not count.  reason: kept in the '
	'event''s history.  Errors: ED001 illegal move, ED002 stale token, ED003 already finished, '
	'ED004 no such event, ED006 token needed, ED008 another transaction has locked it for longer '
	'than eda.lock_wait.';

CREATE FUNCTION eda.resume(event_id uuid, reason text DEFAULT NULL) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_resume' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.resume(uuid, text) IS
	'Move a suspended event to awaiting_processing, due at once, and return 1.  While its event '
	'type is suspended, the engine does not dispatch it.  reason: kept in the event''s history.  '
	'Errors: ED001 the event is not suspended, ED004 no such event, ED008 another transaction '
	'has locked it for longer than eda.lock_wait.';

CREATE FUNCTION eda.redrive(event_id uuid, reason text DEFAULT NULL) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_redrive' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.redrive(uuid, text) IS
	'Move a failed or expired event to awaiting_processing, due at once and with all its '
	'attempts and its lifespan, and return 1.  reason: kept in the event''s history.  Errors: '
	'ED001 the event is neither failed nor expired, ED004 no such event, ED008 another '
	'transaction has locked it for longer than eda.lock_wait.';

CREATE FUNCTION eda.redrive_many(event_ids uuid[], reason text DEFAULT NULL) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_redrive_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.redrive_many(uuid[], text) IS
	'Do as eda.redrive() for many events, all or none, and return how many events it moved.  '
	'Errors: those of eda.redrive().';

CREATE FUNCTION eda.redrive_if_dead(event_ids uuid[], reason text) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_redrive_if_dead' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.redrive_if_dead(uuid[], text) IS
	'Do as eda.redrive_many(), but skip events that are no longer failed or expired, and return '
	'how many events it moved.  Used by eda.redrive(event_type).  Errors: ED008.';

-- A dead letter is an event whose *last* transition is to failed or expired.
CREATE FUNCTION eda.redrive(event_type text, since timestamptz DEFAULT '-infinity', reason text DEFAULT NULL)
RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	type_id integer;
BEGIN
	-- eda.redrive('0189...') with a quoted uuid and no cast resolves to this function.
	IF redrive.event_type ~* '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
		RETURN eda.redrive(redrive.event_type::uuid, redrive.reason);
	END IF;
	type_id := eda.event_type_id(redrive.event_type);
	IF redrive.since IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = 'since must not be null',
			HINT = 'Leave since out to redrive all dead letters of the event type.';
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
	'Do as eda.redrive() for all dead letters of an event type that failed or expired at the '
	'time since or later, and return how many events it moved.  Errors: 22004 event_type or '
	'since is null, ED005 unknown event type, ED008 another transaction has locked an event for '
	'longer than eda.lock_wait.';

/* ------------------------------------------------------------------------
 * Config
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda.event_type_id(event_type text) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_event_type_id' LANGUAGE C STABLE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.event_type_id(text) IS
	'Return the id of the event type that has this name.  Errors: 22004 event_type is null, '
	'ED005 unknown event type.';

-- The same delays as event_type_attempt_at() in src/base computes, without jitter: one that has
-- grown by backoff is at most 30 days, or the configured delay if that is longer.
CREATE FUNCTION eda.total_delay(attempt_delays interval[], max_attempts integer, backoff double precision)
RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN (
	SELECT sum(CASE WHEN d.delay >= interval '30 days' OR backoff = 1 OR n <= cardinality(attempt_delays) THEN d.delay
		-- The exponent is limited so that the factor is at most 1e7 and power() cannot overflow.
		ELSE least(d.delay * power(backoff, least(n - cardinality(attempt_delays), 7 / log(backoff))), interval '30 days') END)
	FROM generate_series(1, max_attempts) n,
	LATERAL (SELECT attempt_delays[least(n, cardinality(attempt_delays))]) d(delay));
COMMENT ON FUNCTION eda.total_delay(interval[], integer, double precision) IS
	'Return the sum of the delays before attempts 1 to max_attempts, without jitter.';

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
	-- Default attempt_delays.  With a lifespan, only as many as fit into it.
	default_delays CONSTANT interval[] := '{0 s, 5 s, 30 s, 2 min, 10 min}';
	old eda.event_type;
	new eda.event_type;
BEGIN
	IF configure.event_type IS NULL OR configure.event_type !~ '^[A-Za-z][A-Za-z0-9_-]{0,62}$' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('invalid event type name: %L', configure.event_type),
			HINT = 'A name starts with a letter and has at most 63 letters, digits, "_" and "-".';
	END IF;
	PERFORM eda.claim_home();
	LOCK TABLE eda.event_type IN SHARE ROW EXCLUSIVE MODE;
	SELECT * INTO old FROM eda.event_type t WHERE lower(t.event_type) = lower(configure.event_type);
	IF old.event_type <> configure.event_type THEN
		RAISE EXCEPTION USING ERRCODE = 'duplicate_object',
			MESSAGE = format('event type "%s" already exists as "%s"', configure.event_type,
				old.event_type),
			HINT = 'Two names must differ in more than their case.';
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
		SELECT default_delays[1:n] INTO new.attempt_delays
		FROM generate_series(cardinality(default_delays), 1, -1) n
		WHERE n = 1 OR new.lifespan IS NULL
			OR eda.total_delay(default_delays[1:n], new.max_attempts, new.backoff) < new.lifespan
		ORDER BY n DESC LIMIT 1;
	END IF;

	PERFORM eda.check_event_type(new, old);
	IF new.delivery = 'nats' AND old.delivery IS DISTINCT FROM 'nats'
		AND current_setting('eda.nats_url') = '' THEN
		RAISE NOTICE USING
			MESSAGE = format('events of type "%s" will wait until eda.nats_url is set', new.event_type),
			HINT = 'Set eda.nats_url in postgresql.conf and reload the configuration.';
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
	'Create an event type, or change the given rules of one that exists, and return its row.  A '
	'null argument leaves a rule as it is, or at its default in a new event type; with reset, '
	'all rules start from their defaults, but flow_type and suspended stay.  flow_type: needed '
	'for a new event type, and cannot be changed later.  The comments on the columns of '
	'eda.event_type explain the other rules.  Errors: 22023 invalid rules, 42710 the name exists '
	'in another case, 53400 there are eda.max_event_types already.';

-- standard_conforming_strings is set because the patterns have backslashes.
CREATE FUNCTION eda.check_event_type(new eda.event_type, old eda.event_type) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
	wrong text;
	right_is text;
	total interval;
BEGIN
	-- Report the first rule that is broken.  Each check may rely on the checks before it.
	IF new.flow_type IS NULL THEN
		wrong := 'a new event type needs a flow type';
		right_is := 'Name the queue from which workers acquire its events: flow_type => ''...''.';
	ELSIF new.flow_type !~ '^[A-Za-z][A-Za-z0-9_-]{0,62}$' OR lower(new.flow_type) = 'events' THEN
		wrong := format('invalid flow type name: %L', new.flow_type);
		right_is := 'A name starts with a letter and has at most 63 letters, digits, "_" and "-".  '
			'The name "events" is reserved for the feed.';
	ELSIF new.flow_type <> old.flow_type THEN
		wrong := format('flow type cannot be changed from "%s" to "%s"', old.flow_type, new.flow_type);
		right_is := 'Its published events would stay in the old queue.  Configure a new event type.';
	ELSIF EXISTS (SELECT FROM eda.event_type t
				  WHERE lower(t.flow_type) = lower(new.flow_type) AND t.flow_type <> new.flow_type) THEN
		wrong := format('flow type "%s" already exists in another case', new.flow_type);
		right_is := 'Two names must differ in more than their case.';
	ELSIF new.max_attempts NOT BETWEEN 1 AND 10000 THEN
		wrong := format('max_attempts is %s', new.max_attempts);
		right_is := 'It must be from 1 to 10000.';
	ELSIF new.lifespan <= interval '0' THEN
		wrong := format('lifespan is %s', new.lifespan);
		right_is := 'It must be above zero.  Leave lifespan out for events that never expire.';
	ELSIF coalesce(cardinality(new.attempt_delays), 0) = 0 OR array_ndims(new.attempt_delays) > 1
		OR array_lower(new.attempt_delays, 1) <> 1 OR array_position(new.attempt_delays, NULL) IS NOT NULL THEN
		wrong := format('attempt_delays is %L', new.attempt_delays);
		right_is := 'Give the delays before attempt 1, attempt 2, and so on, for example '
			'''{0 s, 10 s, 1 min}''.  The last delay holds for all further attempts.';
	ELSIF interval '0' > ANY (new.attempt_delays) THEN
		wrong := format('attempt_delays has a negative delay: %s', new.attempt_delays);
		right_is := 'Each delay must be zero or more.';
	ELSIF new.backoff IS NULL OR NOT new.backoff BETWEEN 1 AND 100 THEN
		wrong := format('backoff is %s', new.backoff);
		right_is := 'It must be from 1 to 100.  With 1, the last delay does not grow.';
	ELSIF new.jitter IS NULL OR NOT new.jitter BETWEEN 0 AND 1 THEN
		wrong := format('jitter is %s', new.jitter);
		right_is := 'It must be from 0 to 1.  With 0.1, a delay is up to 10 % shorter or longer.';
	ELSIF new.lease <= interval '0' THEN
		wrong := format('lease is %s', new.lease);
		right_is := 'It must be above zero.';
	ELSIF new.dispatch_timeout <= interval '0' THEN
		wrong := format('dispatch_timeout is %s', new.dispatch_timeout);
		right_is := 'It must be above zero.';
	ELSIF new.suspend_timeout <= interval '0' THEN
		wrong := format('suspend_timeout is %s', new.suspend_timeout);
		right_is := 'It must be above zero.  Leave suspend_timeout out for no deadline.';
	ELSIF greatest(new.lifespan, new.lease, new.dispatch_timeout, new.suspend_timeout) > interval '100 years'
		OR interval '100 years' < ANY (new.attempt_delays) THEN
		wrong := 'lifespan, lease, dispatch_timeout, suspend_timeout or a delay is above 100 years';
		right_is := 'Leave lifespan out for events that never expire, '
			'and suspend_timeout for no deadline.';
	ELSIF new.on_suspend_timeout NOT IN ('expire', 'resume') THEN
		wrong := format('on_suspend_timeout is %L', new.on_suspend_timeout);
		right_is := 'It must be ''expire'' or ''resume''.';
	ELSIF new.delivery NOT IN ('pull', 'nats') THEN
		wrong := format('delivery is %L', new.delivery);
		right_is := 'It must be ''pull'' or ''nats''.';
	ELSIF regexp_replace(new.subject, '\{(flow_type|event_type|flow_id|database)\}', 'x', 'g')
		!~ '^[A-Za-z0-9_=+/:@~%-]+(\.[A-Za-z0-9_=+/:@~%-]+)*$' OR length(new.subject) > 200 THEN
		wrong := format('subject is %L', new.subject);
		right_is := 'It must be words with dots between them, at most 200 characters.  {flow_type}, '
			'{event_type}, {flow_id} and {database} are replaced by those of the event.';
	ELSIF new.subject ~ '^(_INBOX|event-engine\._DLQ)(\.|$)' THEN
		wrong := format('subject %L is reserved', new.subject);
		right_is := 'Choose another subject, or leave subject out for event-engine.{flow_type}.';
	ELSIF new.max_dispatched < 1 THEN
		wrong := format('max_dispatched is %s', new.max_dispatched);
		right_is := 'It must be 1 or more.  To stop an event type, call eda.suspend_event_type().';
	ELSIF new.priority NOT BETWEEN 0 AND 9 THEN
		wrong := format('priority is %s', new.priority);
		right_is := 'It must be from 0 to 9.  Events of a higher priority are acquired first.';
	ELSIF new.max_in_flight < 1 THEN
		wrong := format('max_in_flight is %s', new.max_in_flight);
		right_is := 'It must be 1 or more.  To stop an event type, call eda.suspend_event_type().';
	ELSIF new.on_fail_event_type = new.event_type THEN
		wrong := 'an event type cannot be its own on_fail_event_type';
		right_is := 'Name another event type to be published when an event of this type fails.';
	ELSIF new.on_fail_event_type <> '' AND NOT EXISTS (
		SELECT FROM eda.event_type t WHERE t.event_type = new.on_fail_event_type) THEN
		wrong := format('on_fail_event_type "%s" does not exist', new.on_fail_event_type);
		right_is := 'Configure that event type first.  An empty string means none.';
	ELSE
		total := eda.total_delay(new.attempt_delays, new.max_attempts, new.backoff);
		IF total >= new.lifespan THEN
			wrong := format('lifespan is %s, but the delays of %s attempts add up to %s',
				new.lifespan, new.max_attempts, total);
			right_is := format('Give a lifespan above %s, fewer attempts or shorter delays.', total);
		ELSIF old.id IS NULL AND
			(SELECT count(*) FROM eda.event_type) >= current_setting('eda.max_event_types')::integer THEN
			RAISE EXCEPTION USING ERRCODE = 'configuration_limit_exceeded',
				MESSAGE = format('there are already %s event types',
					current_setting('eda.max_event_types')),
				HINT = 'Raise eda.max_event_types in postgresql.conf and restart the server.';
		END IF;
	END IF;
	IF wrong IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('event type "%s": %s', new.event_type, wrong), HINT = right_is;
	END IF;
END $$;
COMMENT ON FUNCTION eda.check_event_type(eda.event_type, eda.event_type) IS
	'Check the new row of an event type before eda.configure() stores it; old is its present '
	'row, or null in all columns.  Errors: 22023 a rule is broken, 53400 there are '
	'eda.max_event_types already.';

CREATE FUNCTION eda.set_event_type_suspended(event_type text, suspended boolean) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	-- Looked up before the UPDATE, and not in its condition: there, an unknown name would raise no
	-- error whenever no row is compared with it.
	type_id CONSTANT integer := eda.event_type_id(event_type);
BEGIN
	UPDATE eda.event_type t SET suspended = set_event_type_suspended.suspended
	WHERE t.id = type_id AND t.suspended <> set_event_type_suspended.suspended;
	RETURN FOUND;
END $$;
COMMENT ON FUNCTION eda.set_event_type_suspended(text, boolean) IS
	'Set eda.event_type.suspended, and return whether that changed it.  Used by '
	'eda.suspend_event_type() and eda.unsuspend_event_type().  Errors: 22004 event_type is null, '
	'ED005 unknown event type.';

CREATE FUNCTION eda.suspend_event_type(event_type text) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN eda.set_event_type_suspended(event_type, true);
COMMENT ON FUNCTION eda.suspend_event_type(text) IS
	'Stop dispatching and acquiring events of an event type until eda.unsuspend_event_type(), '
	'and return true, or false if it was suspended already.  Events that are being processed '
	'stay so, and events still expire.  Errors: 22004 event_type is null, ED005 unknown event '
	'type.';

CREATE FUNCTION eda.unsuspend_event_type(event_type text) RETURNS boolean
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
RETURN eda.set_event_type_suspended(event_type, false);
COMMENT ON FUNCTION eda.unsuspend_event_type(text) IS
	'Undo eda.suspend_event_type(), and return true, or false if the event type was not '
	'suspended.  Events that the engine suspended because of it are due at once.  Errors: 22004 '
	'event_type is null, ED005 unknown event type.';

-- The first eda.configure() makes this database the home of its log, if the log is still empty.
-- A restored copy has a log but no home, so that its engine stays idle.
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
COMMENT ON FUNCTION eda.claim_home() IS
	'Make this database the home of its log, if the log is still empty, and open the first '
	'segment.  Called by eda.configure().';
