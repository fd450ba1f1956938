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

COMMENT ON TABLE eda.event_type IS
	'The rules of each event type.  Change them with eda.configure().';
COMMENT ON COLUMN eda.event_type.id IS
	'Number that stands for the event type in eda.transition.type.';
COMMENT ON COLUMN eda.event_type.event_type IS
	'Name of the event type.  Two names must differ in more than their case.';
COMMENT ON COLUMN eda.event_type.flow_type IS
	'Name of the queue from which workers acquire the events of this type.';
COMMENT ON COLUMN eda.event_type.max_attempts IS
	'How many times an event may be acquired before it fails: 1 to 10000.';
COMMENT ON COLUMN eda.event_type.lifespan IS
	'How long after its first scheduled time an event expires; null: never.';
COMMENT ON COLUMN eda.event_type.attempt_delays IS
	'How long an event waits before attempt 1, attempt 2, and so on.  The last delay holds for '
	'all attempts beyond the list.';
COMMENT ON COLUMN eda.event_type.backoff IS
	'Factor, from 1 to 100, by which the last delay grows with each attempt beyond the list, up '
	'to 30 days.';
COMMENT ON COLUMN eda.event_type.jitter IS
	'How much a delay varies at random, from 0 to 1: with 0.1 it is up to 10 % shorter or '
	'longer.';
COMMENT ON COLUMN eda.event_type.lease IS
	'How long a worker may process an event without a heartbeat.';
COMMENT ON COLUMN eda.event_type.dispatch_timeout IS
	'With delivery pull: the time from when a worker is handed an event until its acquire must '
	'be committed.  With delivery nats: the time from when the broker acknowledges the message '
	'until a worker must have acquired the event; it doubles with each further message, up to '
	'one hour.';
COMMENT ON COLUMN eda.event_type.on_fail_event_type IS
	'Event type of the event that is published when an event of this type fails; null or empty: '
	'none.';
COMMENT ON COLUMN eda.event_type.suspended IS
	'While this is true, no event of this type is dispatched or acquired.';
COMMENT ON COLUMN eda.event_type.suspend_timeout IS
	'How long eda.suspend() sets an event aside if its caller gives no deadline; null: for ever.';
COMMENT ON COLUMN eda.event_type.on_suspend_timeout IS
	'What the engine does with a suspended event when its deadline passes: expire or resume.';
COMMENT ON COLUMN eda.event_type.delivery IS
	'pull: workers acquire events from a queue with eda.acquire_next().  nats: workers get a '
	'message for each event through NATS and acquire that event with eda.acquire().';
COMMENT ON COLUMN eda.event_type.subject IS
	'With delivery nats: the subject of the messages.  {flow_type} and {event_type} (both in '
	'lower case), {flow_id} and {database} are replaced; null: event-engine.{flow_type}.';
COMMENT ON COLUMN eda.event_type.priority IS
	'From 0 to 9.  Within a flow type, events of a higher priority are acquired first.';
COMMENT ON COLUMN eda.event_type.max_in_flight IS
	'How many events of this type may be dispatched or being processed at once; null: no limit.';
COMMENT ON COLUMN eda.event_type.max_dispatched IS
	'With delivery nats: how many events of this type may be dispatched at once.';

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

COMMENT ON TABLE eda.event IS
	'One row for each published event.  A row is written once, by eda.publish(), and never '
	'changes.';
COMMENT ON COLUMN eda.event.id IS
	'Id of the event: a UUID v7, which carries the time of publication, or the id that the '
	'publisher gave.';
COMMENT ON COLUMN eda.event.created_at IS 'When the event was published, by eda.clock().';
COMMENT ON COLUMN eda.event.segment IS
	'Number of the leaf table that holds the event.  It follows from the time in the id.';
COMMENT ON COLUMN eda.event.event_type IS 'Name of the event type.';
COMMENT ON COLUMN eda.event.flow_type IS 'Name of the queue from which workers acquire the event.';
COMMENT ON COLUMN eda.event.flow_id IS
	'Id of the business transaction that the event belongs to, such as an order.';
COMMENT ON COLUMN eda.event.expires_at IS
	'When the event expires, unless it is being processed then; null: never.  A redrive sets a '
	'new time, in eda.transition.expires_at.';
COMMENT ON COLUMN eda.event.parent_id IS
	'Id of the event whose success or failure published this event, or that the publisher named.';
COMMENT ON COLUMN eda.event.correlation_id IS
	'Text of the publisher.  Events that are published by the success or failure of this event '
	'inherit it.';
COMMENT ON COLUMN eda.event.on_fail_event_type IS
	'Event type of the event that is published when this event fails; empty: none; null: the '
	'event type''s on_fail_event_type holds.';
COMMENT ON COLUMN eda.event.headers IS
	'JSON object of strings that go to the worker with the event.  Events that are published by '
	'its success or failure inherit traceparent, tracestate and baggage.';
COMMENT ON COLUMN eda.event.payload IS 'What the publisher tells the worker, as JSON.';

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
	'One row for each step of an event''s life.  The row with the highest version is the '
	'event''s state.';
COMMENT ON COLUMN eda.transition.event_id IS 'Id of the event: eda.event.id.';
COMMENT ON COLUMN eda.transition.at IS
	'When the step was made, by eda.clock(), but never earlier than the step before.';
COMMENT ON COLUMN eda.transition.xid IS
	'Full id of the top-level transaction that made the step; 0 in a row that was restored from '
	'a dump.';
COMMENT ON COLUMN eda.transition.version IS
	'Number of the step within its event: 1, 2, 3 and so on, without gaps.';
COMMENT ON COLUMN eda.transition.type IS 'Number of the event type: eda.event_type.id.';
COMMENT ON COLUMN eda.transition.state IS 'State of the event after this step.';
COMMENT ON COLUMN eda.transition.attempt IS
	'How many times the event has been acquired.  An attempt that a worker handed back does not '
	'count.';
COMMENT ON COLUMN eda.transition.attempt_base IS
	'Value of attempt at the last redrive, else 0.  attempt minus attempt_base is held against '
	'the event type''s max_attempts.';
COMMENT ON COLUMN eda.transition.returns IS
	'How many times in a row the event was dispatched without an acquire that was committed.';
COMMENT ON COLUMN eda.transition.segment IS
	'Number of the leaf table that holds the event and its steps.';
COMMENT ON COLUMN eda.transition.prev_state IS
	'State of the event before this step; null in version 1.';
COMMENT ON COLUMN eda.transition.token IS
	'Token of the lease: the version of the step that opened it.  The steps of the lease have '
	'it, and so has the step with which the worker closed it; a step that took the lease away '
	'has none.';
COMMENT ON COLUMN eda.transition.wake_at IS
	'Next deadline of the event: the scheduled time of the next attempt, the end of the dispatch '
	'timeout or of the lease, or the deadline of a suspension; null: none.';
COMMENT ON COLUMN eda.transition.expires_at IS
	'When the event expires, unless it is being processed then; null: never.';
COMMENT ON COLUMN eda.transition.suspended_by IS
	'Who suspended the event: type (its event type is suspended), operator or worker.';
COMMENT ON COLUMN eda.transition.worker IS
	'Who made the step: the worker''s name, the application name or role of another caller, or '
	'engine; null in version 1.';
COMMENT ON COLUMN eda.transition.detail IS
	'JSON object with those of the keys error, stack, result, progress and reason that apply.';

CREATE FUNCTION eda.refuse_write() RETURNS trigger
	AS 'MODULE_PATHNAME', 'eda_refuse_write' LANGUAGE C;
COMMENT ON FUNCTION eda.refuse_write() IS
	'Trigger: raise ED010, because only the functions of eda may write the log.  INSERT is let '
	'through while a dump is restored, that is, before the first eda.configure().';

CREATE FUNCTION eda.restored() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	NEW.xid := 0;
	RETURN NEW;
END $$;
COMMENT ON FUNCTION eda.restored() IS
	'Trigger: set xid of a restored row to 0.  Its transaction ran on another server, and the '
	'engine must not mistake its number for that of a transaction on this server.';

/*
 * The leaves, that is, the partitions of eda.event and eda.transition.  All of them are created
 * here, because attaching a partition at run time would wait for every open transaction that
 * writes.  Primary keys and indexes are created on the leaves, under fixed names: the C code opens
 * leaves and indexes directly, and never the partitioned tables.
 *
 * The BRIN index on xid serves an engine that starts, and eda.changes().  Only vacuum summarizes
 * its page ranges, and a range without a summary is read as a whole.  So autovacuum must run after
 * a fixed number of inserted rows, and not after a share of the leaf.
 *
 * The C code knows the leaves as numbers from 0 to EDA_LEAVES - 1; test/pgtap/schema.sql compares them.
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
	'Which leaf table holds the events of which range of time, by the time in their ids.  '
	'Exactly one segment is open.  Leaf 0 is not in this table: it holds the events whose ids '
	'carry no time.';
COMMENT ON COLUMN eda.segment.segment IS 'Number of the leaf table.';
COMMENT ON COLUMN eda.segment.starts_at IS 'First time of the range.';
COMMENT ON COLUMN eda.segment.ends_at IS
	'First time that no longer belongs to the range; infinity: the segment is open.';

CREATE TABLE eda.idempotency (
	scope		text COLLATE "C" NOT NULL,
	key_hash	uuid NOT NULL,
	event_id	uuid NOT NULL,
	expires_at	timestamptz NOT NULL,
	CONSTRAINT idempotency_pkey PRIMARY KEY (scope, key_hash)
);
CREATE INDEX idempotency_expiry ON eda.idempotency (expires_at);
COMMENT ON TABLE eda.idempotency IS
	'The idempotency keys that were given to eda.publish(), each kept for eda.idempotency_ttl.';
COMMENT ON COLUMN eda.idempotency.scope IS 'What the key was given for; always publish.';
COMMENT ON COLUMN eda.idempotency.key_hash IS 'The first 16 bytes of the key''s SHA-256 hash.';
COMMENT ON COLUMN eda.idempotency.event_id IS 'Id of the event that was published under the key.';
COMMENT ON COLUMN eda.idempotency.expires_at IS 'When the key may be used for another event.';

CREATE TRIGGER refuse_write BEFORE DELETE OR TRUNCATE
	ON eda.event_type FOR EACH STATEMENT EXECUTE FUNCTION eda.refuse_write();
ALTER TABLE eda.event_type ENABLE ALWAYS TRIGGER refuse_write;

SELECT pg_catalog.pg_extension_config_dump('eda.event_type', '');
SELECT pg_catalog.pg_extension_config_dump('eda.event_type_id_seq', '');
SELECT pg_catalog.pg_extension_config_dump('eda.segment', '');
SELECT pg_catalog.pg_extension_config_dump('eda.idempotency', '');

/* ------------------------------------------------------------------------
 * The engine's own state.  It is not dumped, so that the engine of a restored
 * copy stays idle.
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
	'One row: how far the engine has read the log and what it knew then, saved every few '
	'seconds.  The engine works only in the database that the row names as the home of the log, '
	'so that the engine of a restored copy moves nothing.';
COMMENT ON COLUMN eda.engine_state.one IS 'Always true: the table has one row.';
COMMENT ON COLUMN eda.engine_state.system_identifier IS
	'System identifier of the home''s server, from pg_control_system().';
COMMENT ON COLUMN eda.engine_state.database_oid IS 'Oid of the home''s database.';
COMMENT ON COLUMN eda.engine_state.tail IS
	'The engine has read all transitions that this snapshot sees.';
COMMENT ON COLUMN eda.engine_state.cursors IS
	'From which time on the engine looks for deadlines.  Each cursor is four numbers: its kind, '
	'the id of the event type, the leaf, and the time in microseconds since 2000-01-01 UTC.';
COMMENT ON COLUMN eda.engine_state.counters IS
	'How many events are in which state.  Each event type is nine numbers: its id, and the '
	'number of events in each state in the order of eda.state.';
COMMENT ON COLUMN eda.engine_state.parked IS
	'Ids of the events that were to be moved, but were locked by another transaction or whose '
	'move raised an error.';
COMMENT ON COLUMN eda.engine_state.unacknowledged IS
	'Ids of the events that were dispatched through NATS and whose messages the broker had not '
	'acknowledged.';
COMMENT ON COLUMN eda.engine_state.saved_at IS 'When this row was saved.';

CREATE TABLE eda.config (
	one			boolean PRIMARY KEY DEFAULT true CHECK (one),
	version		bigint NOT NULL
) WITH (fillfactor = 10);
INSERT INTO eda.config VALUES (true, 1);
COMMENT ON TABLE eda.config IS
	'One row, which counts the changes of eda.event_type and eda.segment.  The engine reads it '
	'in each tick and reads the two tables again if it has changed.';
COMMENT ON COLUMN eda.config.one IS 'Always true: the table has one row.';
COMMENT ON COLUMN eda.config.version IS
	'A number that goes up by 1 with each statement that changes one of the two tables.';

CREATE FUNCTION eda.config_changed() RETURNS trigger
	AS 'MODULE_PATHNAME', 'eda_config_changed' LANGUAGE C;
COMMENT ON FUNCTION eda.config_changed() IS
	'Trigger: count eda.config.version up and, at commit, have every session read the event '
	'types and segments again.';

CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
	ON eda.event_type FOR EACH STATEMENT EXECUTE FUNCTION eda.config_changed();
CREATE TRIGGER config_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE
	ON eda.segment FOR EACH STATEMENT EXECUTE FUNCTION eda.config_changed();
ALTER TABLE eda.event_type ENABLE ALWAYS TRIGGER config_changed;
ALTER TABLE eda.segment ENABLE ALWAYS TRIGGER config_changed;
