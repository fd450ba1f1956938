/* ------------------------------------------------------------------------
 * Config
 * ------------------------------------------------------------------------ */

CREATE TABLE eda.event_type (
	id					integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	event_type			text COLLATE "C" NOT NULL CHECK (event_type ~ '^[A-Za-z][A-Za-z0-9_-]{0,62}$'),
	flow_type			text COLLATE "C" NOT NULL CHECK (flow_type ~ '^[A-Za-z][A-Za-z0-9_-]{0,62}$'),
	max_attempts		integer NOT NULL CHECK (max_attempts BETWEEN 1 AND 10000),
	lifespan			interval CHECK (lifespan > interval '0'),
	attempt_delays		interval[] NOT NULL,
	backoff				double precision NOT NULL CHECK (backoff BETWEEN 1 AND 100),
	jitter				double precision NOT NULL CHECK (jitter BETWEEN 0 AND 1),
	lease				interval NOT NULL CHECK (lease > interval '0'),
	dispatch_timeout	interval NOT NULL CHECK (dispatch_timeout > interval '0'),
	on_fail_event_type	text COLLATE "C",
	suspended			boolean NOT NULL DEFAULT false,
	suspend_timeout		interval CHECK (suspend_timeout > interval '0'),
	on_suspend_timeout	text COLLATE "C" NOT NULL CHECK (on_suspend_timeout IN ('expire', 'resume')),
	delivery			text COLLATE "C" NOT NULL CHECK (delivery IN ('pull', 'nats')),
	subject				text COLLATE "C",
	priority			integer NOT NULL CHECK (priority BETWEEN 0 AND 9),
	max_in_flight		integer CHECK (max_in_flight > 0),
	max_dispatched		integer NOT NULL CHECK (max_dispatched > 0)
);
CREATE UNIQUE INDEX event_type_name ON eda.event_type (lower(event_type));

COMMENT ON TABLE eda.event_type IS 'The rules of each event type.  Change it with eda.configure().';
COMMENT ON COLUMN eda.event_type.id IS 'Small id that transitions carry in place of the name.';
COMMENT ON COLUMN eda.event_type.event_type IS 'Name, unique without regard to case.';
COMMENT ON COLUMN eda.event_type.flow_type IS 'The queue that workers take this type''s events from.';
COMMENT ON COLUMN eda.event_type.max_attempts IS 'How often an event may be acquired before it fails.';
COMMENT ON COLUMN eda.event_type.lifespan IS 'How long an event may live, from its first scheduled time; null: for ever.';
COMMENT ON COLUMN eda.event_type.attempt_delays IS 'Wait before attempt 1, 2, ...; the last one repeats.';
COMMENT ON COLUMN eda.event_type.backoff IS 'Factor by which the last delay grows with each attempt beyond the list.';
COMMENT ON COLUMN eda.event_type.jitter IS 'Part of a retry delay that is random: 0.1 means up to 10 % more or less.';
COMMENT ON COLUMN eda.event_type.lease IS 'How long a worker may keep an attempt without a heartbeat.';
COMMENT ON COLUMN eda.event_type.dispatch_timeout IS
	'How long a worker may take from being handed an event to committing its acquire; with delivery nats, from the broker''s acknowledgement, doubled each time, up to an hour.';
COMMENT ON COLUMN eda.event_type.on_fail_event_type IS 'Published when an event of this type fails.';
COMMENT ON COLUMN eda.event_type.suspended IS 'While true nothing of this type is dispatched or acquired.';
COMMENT ON COLUMN eda.event_type.suspend_timeout IS 'Deadline of eda.suspend() when the caller gives none; null: no deadline.';
COMMENT ON COLUMN eda.event_type.on_suspend_timeout IS 'What a suspended event does when its deadline passes: expire or resume.';
COMMENT ON COLUMN eda.event_type.delivery IS
	'pull: workers take events with eda.acquire_next().  nats: they get messages, and call eda.acquire().';
COMMENT ON COLUMN eda.event_type.subject IS
	'Template of the messages'' subject, with {flow_type}, {event_type} (in lower case), {flow_id} and {database}; null: event-engine.{flow_type}.';
COMMENT ON COLUMN eda.event_type.priority IS '0 to 9; within a flow type higher goes first.';
COMMENT ON COLUMN eda.event_type.max_in_flight IS 'At most so many events dispatched or being processed at once; null: no limit.';
COMMENT ON COLUMN eda.event_type.max_dispatched IS
	'With delivery nats: at most so many events dispatched and not acquired yet.';

/* ------------------------------------------------------------------------
 * The log
 * ------------------------------------------------------------------------ */

CREATE TABLE eda.event (
	id					uuid NOT NULL,
	created_at			timestamptz NOT NULL,
	segment				smallint NOT NULL,
	event_type			text COLLATE "C" NOT NULL,
	flow_type			text COLLATE "C" NOT NULL,
	flow_id				text COLLATE "C" NOT NULL,
	expires_at			timestamptz,
	parent_id			uuid,
	correlation_id		text COLLATE "C",
	on_fail_event_type	text COLLATE "C",
	headers				jsonb,
	payload				jsonb NOT NULL
) PARTITION BY LIST (segment);

COMMENT ON TABLE eda.event IS 'What was published.  Written once, by eda.publish().';
COMMENT ON COLUMN eda.event.id IS 'UUID v7, which carries the time of publication, or what the publisher gave.';
COMMENT ON COLUMN eda.event.on_fail_event_type IS 'Overrides the event type''s; empty: none.';
COMMENT ON COLUMN eda.event.parent_id IS 'The event whose success or failure published this one.';

CREATE TABLE eda.transition (
	event_id		uuid NOT NULL,
	at				timestamptz NOT NULL,
	xid				bigint NOT NULL,
	version			integer NOT NULL,
	type			integer NOT NULL,
	state			eda.state NOT NULL,
	attempt			integer NOT NULL,
	attempt_base	integer NOT NULL,
	returns			smallint NOT NULL,
	segment			smallint NOT NULL,
	prev_state		eda.state,
	token			integer,
	wake_at			timestamptz,
	expires_at		timestamptz,
	suspended_by	text COLLATE "C",
	worker			text COLLATE "C",
	detail			jsonb
) PARTITION BY LIST (segment);

COMMENT ON TABLE eda.transition IS
	'One row per step of an event''s life.  The row with the highest version is its state.';
COMMENT ON COLUMN eda.transition.at IS 'When the step was made, by the clock (never earlier than the step before).';
COMMENT ON COLUMN eda.transition.xid IS 'The top-level transaction that made the step.';
COMMENT ON COLUMN eda.transition.version IS '1, 2, 3, ... without gaps.';
COMMENT ON COLUMN eda.transition.type IS 'eda.event_type.id';
COMMENT ON COLUMN eda.transition.attempt IS 'How often the event was acquired, without the attempts that were handed back.';
COMMENT ON COLUMN eda.transition.attempt_base IS 'attempt at the last redrive: attempts are counted from here.';
COMMENT ON COLUMN eda.transition.returns IS 'How often in a row the event was dispatched and no acquire was committed.';
COMMENT ON COLUMN eda.transition.token IS 'Version that opened the lease; also on the row with which its holder closed it.';
COMMENT ON COLUMN eda.transition.wake_at IS 'Next deadline: the scheduled time, dispatch timeout, lease end or suspend deadline.';
COMMENT ON COLUMN eda.transition.expires_at IS 'When the event expires if it is then waiting; null: never.';
COMMENT ON COLUMN eda.transition.suspended_by IS 'type, operator or worker';
COMMENT ON COLUMN eda.transition.detail IS 'error, stack, result, progress, reason';

CREATE FUNCTION eda.refuse_write() RETURNS trigger
	AS 'MODULE_PATHNAME', 'eda_refuse_write' LANGUAGE C;
COMMENT ON FUNCTION eda.refuse_write() IS
	'Trigger: the log is written through the functions only (INSERT is let through while a dump is restored).';

CREATE FUNCTION eda.restored() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	NEW.xid := 0;
	RETURN NEW;
END $$;
COMMENT ON FUNCTION eda.restored() IS
	'Trigger: a restored row''s transaction belongs to another server; the engine must not take it for one of this.';

/*
 * The leaves.  All of them are made here, because attaching a partition at run
 * time blocks behind any open writer.  Indexes and keys stand on the leaves, by
 * name: the C code opens leaf and index directly and never the parent.
 *
 * The index on xid is for an engine that starts, and for eda.changes().  Vacuum
 * summarizes it, and what it has not summarized is read as a whole: it is to come
 * by every so many rows, however large the leaf is.
 */
DO $$
DECLARE
	t text;
BEGIN
	EXECUTE 'CREATE TRIGGER refuse_write BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
		ON eda.event FOR EACH STATEMENT EXECUTE FUNCTION eda.refuse_write()';
	EXECUTE 'CREATE TRIGGER refuse_write BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
		ON eda.transition FOR EACH STATEMENT EXECUTE FUNCTION eda.refuse_write()';

	FOR leaf IN 0..16 LOOP
		t := 'event_' || leaf;
		EXECUTE format('CREATE TABLE eda.%I PARTITION OF eda.event
			(CONSTRAINT %I PRIMARY KEY (id)) FOR VALUES IN (%s)', t, t || '_pkey', leaf);
		EXECUTE format('CREATE INDEX %I ON eda.%I (expires_at, id) WHERE expires_at IS NOT NULL', t || '_expiry', t);
		EXECUTE format('CREATE INDEX %I ON eda.%I (flow_id, id)', t || '_flow', t);
		EXECUTE format('CREATE INDEX %I ON eda.%I (parent_id) WHERE parent_id IS NOT NULL', t || '_parent', t);

		t := 'transition_' || leaf;
		EXECUTE format('CREATE TABLE eda.%I PARTITION OF eda.transition
			(CONSTRAINT %I PRIMARY KEY (event_id, version)) FOR VALUES IN (%s)
			WITH (autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 500000)',
			t, t || '_pkey', leaf);
		EXECUTE format('CREATE INDEX %I ON eda.%I (type, wake_at, event_id)
			WHERE state = ''awaiting_processing''', t || '_due', t);
		EXECUTE format('CREATE INDEX %I ON eda.%I (wake_at, event_id)
			WHERE wake_at IS NOT NULL AND state <> ''awaiting_processing''', t || '_deadline', t);
		EXECUTE format('CREATE INDEX %I ON eda.%I (expires_at, event_id)
			WHERE expires_at IS NOT NULL AND prev_state IN (''failed'', ''expired'')', t || '_expiry', t);
		EXECUTE format('CREATE INDEX %I ON eda.%I USING brin (xid) WITH (pages_per_range = 32)', t || '_xid', t);
		EXECUTE format('CREATE INDEX %I ON eda.%I (type, at, event_id)
			WHERE state IN (''failed'', ''expired'')', t || '_dead', t);
		EXECUTE format('CREATE INDEX %I ON eda.%I (type, at, event_id)
			WHERE suspended_by = ''type''', t || '_suspended', t);
		EXECUTE format('CREATE INDEX %I ON eda.%I (at) WHERE detail ? ''error''', t || '_error', t);

		EXECUTE format('CREATE TRIGGER restored BEFORE INSERT
			ON eda.%I FOR EACH ROW EXECUTE FUNCTION eda.restored()', t);
		EXECUTE format('ALTER TABLE eda.%I ENABLE ALWAYS TRIGGER restored', t);

		FOREACH t IN ARRAY ARRAY['event_' || leaf, 'transition_' || leaf] LOOP
			EXECUTE format('CREATE TRIGGER refuse_write BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE
				ON eda.%I FOR EACH STATEMENT EXECUTE FUNCTION eda.refuse_write()', t);
			EXECUTE format('ALTER TABLE eda.%I ENABLE ALWAYS TRIGGER refuse_write', t);
			PERFORM pg_catalog.pg_extension_config_dump(('eda.' || t)::regclass, '');
		END LOOP;
	END LOOP;

	EXECUTE 'ALTER TABLE eda.event ENABLE ALWAYS TRIGGER refuse_write';
	EXECUTE 'ALTER TABLE eda.transition ENABLE ALWAYS TRIGGER refuse_write';
END $$;

CREATE TABLE eda.segment (
	segment		smallint PRIMARY KEY CHECK (segment BETWEEN 1 AND 16),
	starts_at	timestamptz NOT NULL,
	ends_at		timestamptz NOT NULL DEFAULT 'infinity',
	CHECK (starts_at < ends_at)
);
CREATE UNIQUE INDEX segment_open ON eda.segment ((true)) WHERE ends_at = 'infinity';
COMMENT ON TABLE eda.segment IS
	'Which leaf holds which range of id time; exactly one is open.  Leaf 0 takes ids that carry no time.';

CREATE TABLE eda.idempotency (
	scope		text COLLATE "C" NOT NULL,
	key_hash	uuid NOT NULL,
	event_id	uuid NOT NULL,
	expires_at	timestamptz NOT NULL,
	CONSTRAINT idempotency_pkey PRIMARY KEY (scope, key_hash)
);
CREATE INDEX idempotency_expiry ON eda.idempotency (expires_at);
COMMENT ON TABLE eda.idempotency IS 'The idempotency keys of publish, kept for eda.idempotency_ttl.';
COMMENT ON COLUMN eda.idempotency.key_hash IS 'The first 16 bytes of the key''s SHA-256.';

CREATE TRIGGER refuse_write BEFORE DELETE OR TRUNCATE
	ON eda.event_type FOR EACH STATEMENT EXECUTE FUNCTION eda.refuse_write();
ALTER TABLE eda.event_type ENABLE ALWAYS TRIGGER refuse_write;

SELECT pg_catalog.pg_extension_config_dump('eda.event_type', '');
SELECT pg_catalog.pg_extension_config_dump('eda.event_type_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('eda.segment', '');
SELECT pg_catalog.pg_extension_config_dump('eda.idempotency', '');

COMMENT ON COLUMN eda.event.created_at IS 'When it was published, by the clock.';
COMMENT ON COLUMN eda.event.segment IS 'The leaf it lies in, by the time in its id.';
COMMENT ON COLUMN eda.event.event_type IS 'The name of its event type.';
COMMENT ON COLUMN eda.event.flow_type IS 'The queue of its event type.';
COMMENT ON COLUMN eda.event.flow_id IS 'The business transaction it belongs to, such as an order.';
COMMENT ON COLUMN eda.event.expires_at IS 'When it expires if it is then waiting; null: never.  A redrive gives a new time, see transition.';
COMMENT ON COLUMN eda.event.correlation_id IS 'Handed on to the events that its success or failure publishes.';
COMMENT ON COLUMN eda.event.headers IS 'Strings that travel with it; the trace headers are handed on.';
COMMENT ON COLUMN eda.event.payload IS 'What a worker needs to know.';
COMMENT ON COLUMN eda.transition.event_id IS 'eda.event.id';
COMMENT ON COLUMN eda.transition.state IS 'Where the event stands after this step.';
COMMENT ON COLUMN eda.transition.segment IS 'The leaf of the event.';
COMMENT ON COLUMN eda.transition.prev_state IS 'Where it stood before; null in version 1.';
COMMENT ON COLUMN eda.transition.worker IS 'Who made the step: the worker, the caller, or engine.';
COMMENT ON COLUMN eda.segment.segment IS 'The number of the leaf.';
COMMENT ON COLUMN eda.segment.starts_at IS 'The first id time that belongs to it.';
COMMENT ON COLUMN eda.segment.ends_at IS 'The id time from which on the next one holds; infinity: open.';
COMMENT ON COLUMN eda.idempotency.scope IS 'What the key is for: publish.';
COMMENT ON COLUMN eda.idempotency.event_id IS 'The event that was published under the key.';
COMMENT ON COLUMN eda.idempotency.expires_at IS 'When the key is forgotten.';

/* ------------------------------------------------------------------------
 * The engine's own state: not dumped, so that a restored copy stays idle
 * ------------------------------------------------------------------------ */

CREATE TABLE eda.engine_state (
	one					boolean PRIMARY KEY DEFAULT true CHECK (one),
	system_identifier	bigint NOT NULL,
	database_oid		oid NOT NULL,
	tail				pg_snapshot,
	cursors				bigint[],
	counters			bigint[],
	parked				uuid[],
	unacknowledged		uuid[],
	saved_at			timestamptz
);
COMMENT ON TABLE eda.engine_state IS
	'Where the engine stands.  The home (system identifier, database) keeps a restored copy from acting.';
COMMENT ON COLUMN eda.engine_state.tail IS 'Transitions that this snapshot sees have been read.';
COMMENT ON COLUMN eda.engine_state.cursors IS 'Four numbers each: kind, event type, leaf, microseconds since 2000.';
COMMENT ON COLUMN eda.engine_state.counters IS 'Nine numbers each: event type, events in each state.';
COMMENT ON COLUMN eda.engine_state.parked IS 'Events that were due and not moved yet.';
COMMENT ON COLUMN eda.engine_state.unacknowledged IS 'Events that were dispatched and not acknowledged by the broker yet.';

CREATE TABLE eda.config (
	one			boolean PRIMARY KEY DEFAULT true CHECK (one),
	version		bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO eda.config VALUES (true, 1);
COMMENT ON TABLE eda.config IS 'Counts the changes of event_type and segment; the engine reads it each tick.';

CREATE FUNCTION eda.config_changed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'eda_config_changed' LANGUAGE C;
COMMENT ON FUNCTION eda.config_changed() IS
	'Trigger: counts eda.config up and empties the config cache of every session at commit.';

CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
	ON eda.event_type FOR EACH STATEMENT EXECUTE FUNCTION eda.config_changed();
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
	ON eda.segment FOR EACH STATEMENT EXECUTE FUNCTION eda.config_changed();
ALTER TABLE eda.event_type ENABLE ALWAYS TRIGGER config_changed;
ALTER TABLE eda.segment ENABLE ALWAYS TRIGGER config_changed;
