-- The tables, views and functions have the names, columns and signatures that clients, documents and the C code rely on.
-- Needs the extensions eda and pgtap, and the C headers in $EDA_SOURCE/src.
\set QUIET 1
SET client_min_messages = warning;
BEGIN;
SELECT * FROM no_plan();

-- Two numbers stand in the C headers and, as literals, in the install script.
\set leaves `grep -rhs '^#define EDA_LEAVES ' "${EDA_SOURCE:-.}/src" | awk '{ print $3 }'`
\set priorities `grep -rhs '^#define EDA_PRIORITIES ' "${EDA_SOURCE:-.}/src" | awk '{ print $3 }'`
CREATE FUNCTION pg_temp.leaf_numbers() RETURNS SETOF integer LANGUAGE sql RETURN generate_series(0, :leaves - 1);
SELECT is(pg_get_constraintdef(oid), format('CHECK (((segment >= 1) AND (segment <= %s)))', :leaves - 1),
	'a segment may have each leaf but 0')
FROM pg_constraint WHERE conrelid = 'eda.segment'::regclass AND conname = 'segment_segment_check';
SELECT is(pg_get_constraintdef(oid), format('CHECK (((priority >= 0) AND (priority <= %s)))', :priorities - 1),
	'an event type may have each priority for which the ready queue has a list')
FROM pg_constraint WHERE conrelid = 'eda.event_type'::regclass AND conname = 'event_type_priority_check';
SELECT lives_ok(format('SELECT eda.configure(''PGTAP_PRIORITY'', ''pgtap'', priority => %s)', :priorities - 1),
	'eda.configure() accepts the highest priority');
SELECT throws_ok(format('SELECT eda.configure(''PGTAP_PRIORITY'', ''pgtap'', priority => %s)', :priorities), '22023', NULL,
	'eda.configure() refuses the number after it');

-- ------------------------------------------------------------------------
-- Names
-- ------------------------------------------------------------------------

SELECT has_schema('eda');
SELECT enum_has_labels('eda', 'state', ARRAY['awaiting_processing', 'dispatched', 'being_processed', 'succeeded', 'failed',
	'suspended', 'expired', 'canceled']);
SELECT is(extversion, eda.library_version(), 'extension and library have one version') FROM pg_extension WHERE extname = 'eda';
SELECT ok(extowner = 10 AND NOT extrelocatable, 'the extension belongs to the superuser and stays in its schema')
FROM pg_extension WHERE extname = 'eda';
SELECT views_are('eda', '{dead_letter,engine_status,error_log,event_state,lifecycle,queue_metrics}'::name[]);
SELECT bag_eq(
	$$SELECT relname::text COLLATE "C" FROM pg_class WHERE relnamespace = 'eda'::regnamespace AND relkind IN ('r', 'p')$$,
	$$SELECT name FROM unnest('{event,transition,event_type,segment,idempotency,engine_state,config}'::text[]) name
	UNION ALL SELECT t || '_' || leaf FROM unnest('{event,transition}'::text[]) t CROSS JOIN pg_temp.leaf_numbers() leaf$$,
	'the tables are event and transition with all their leaves, and five small ones');

-- ------------------------------------------------------------------------
-- Columns.  The C code addresses those of the tables by number, so that their order matters.
-- ------------------------------------------------------------------------

CREATE FUNCTION pg_temp.columns(relation text) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s %s%s', attname, format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN ' NOT NULL' END)
	FROM pg_attribute WHERE attrelid = ('eda.' || relation)::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum;
$$;
SELECT results_eq($$SELECT * FROM pg_temp.columns('event_type')$$, ARRAY[
	'id integer NOT NULL', 'event_type text NOT NULL', 'flow_type text NOT NULL', 'max_attempts integer NOT NULL', 'lifespan interval',
	'attempt_delays interval[] NOT NULL', 'backoff double precision NOT NULL', 'jitter double precision NOT NULL',
	'lease interval NOT NULL', 'dispatch_timeout interval NOT NULL', 'on_fail_event_type text', 'suspended boolean NOT NULL',
	'suspend_timeout interval', 'on_suspend_timeout text NOT NULL', 'delivery text NOT NULL', 'subject text',
	'priority integer NOT NULL', 'max_in_flight integer', 'max_dispatched integer NOT NULL'], 'columns of event_type');
SELECT results_eq($$SELECT * FROM pg_temp.columns('event')$$, ARRAY[
	'id uuid NOT NULL', 'created_at timestamp with time zone NOT NULL', 'segment smallint NOT NULL', 'event_type text NOT NULL',
	'flow_type text NOT NULL', 'flow_id text NOT NULL', 'expires_at timestamp with time zone', 'parent_id uuid', 'correlation_id text',
	'on_fail_event_type text', 'headers jsonb', 'payload jsonb NOT NULL'], 'columns of event');
SELECT results_eq($$SELECT * FROM pg_temp.columns('transition')$$, ARRAY[
	'event_id uuid NOT NULL', 'at timestamp with time zone NOT NULL', 'xid bigint NOT NULL', 'version integer NOT NULL',
	'type integer NOT NULL', 'state eda.state NOT NULL', 'attempt integer NOT NULL', 'attempt_base integer NOT NULL',
	'returns smallint NOT NULL', 'segment smallint NOT NULL', 'prev_state eda.state', 'token integer',
	'wake_at timestamp with time zone', 'expires_at timestamp with time zone', 'suspended_by text', 'worker text', 'detail jsonb'],
	'columns of transition');
SELECT results_eq($$SELECT * FROM pg_temp.columns('segment')$$, ARRAY[
	'segment smallint NOT NULL', 'starts_at timestamp with time zone NOT NULL', 'ends_at timestamp with time zone NOT NULL'],
	'columns of segment');
SELECT results_eq($$SELECT * FROM pg_temp.columns('idempotency')$$, ARRAY[
	'scope text NOT NULL', 'key_hash uuid NOT NULL', 'event_id uuid NOT NULL', 'expires_at timestamp with time zone NOT NULL'],
	'columns of idempotency');
SELECT results_eq($$SELECT * FROM pg_temp.columns('event_state')$$, ARRAY[
	'id uuid', 'event_id uuid', 'event_type text', 'flow_type text', 'flow_id text', 'state text', 'prev_state text', 'version integer',
	'attempt integer', 'attempts_left integer', 'attempts_failed integer', 'attempt_scheduled_at timestamp with time zone',
	'attempt_due_at timestamp with time zone', 'lease_until timestamp with time zone', 'token integer',
	'wake_at timestamp with time zone', 'expires_at timestamp with time zone', 'suspended_by text', 'worker text', 'error text',
	'detail jsonb', 'payload jsonb', 'headers jsonb', 'correlation_id text', 'parent_id uuid', 'on_fail_event_type text',
	'created_at timestamp with time zone', 'changed_at timestamp with time zone'], 'columns of event_state');
SELECT results_eq($$SELECT * FROM pg_temp.columns('dead_letter')$$, ARRAY[
	'id uuid', 'event_id uuid', 'event_type text', 'flow_type text', 'flow_id text', 'state text', 'died_at timestamp with time zone',
	'attempt integer', 'error text', 'stack text', 'payload jsonb', 'headers jsonb', 'correlation_id text', 'parent_id uuid',
	'created_at timestamp with time zone'], 'columns of dead_letter');
SELECT results_eq($$SELECT * FROM pg_temp.columns('error_log')$$, ARRAY[
	'at timestamp with time zone', 'event_id uuid', 'event_type text', 'flow_type text', 'flow_id text', 'attempt integer',
	'version integer', 'moved_to text', 'worker text', 'error text', 'stack text'], 'columns of error_log');
SELECT results_eq($$SELECT * FROM pg_temp.columns('queue_metrics')$$, ARRAY[
	'flow_type text', 'event_type text', 'state text', 'events bigint', 'last_minute bigint', 'oldest_due_age interval'],
	'columns of queue_metrics');
SELECT results_eq($$SELECT * FROM pg_temp.columns('lifecycle')$$, ARRAY[
	'from_state text', 'to_state text', 'made_by text', 'happens text'], 'columns of lifecycle');
SELECT results_eq($$SELECT * FROM pg_temp.columns('engine_status')$$, ARRAY[
	'state text', 'pid integer', 'started_at timestamp with time zone', 'last_tick_at timestamp with time zone', 'ticks bigint',
	'transitions_read bigint', 'transitions_made bigint', 'last_tick_ms double precision', 'max_tick_ms double precision',
	'total_tick_ms double precision', 'queued integer', 'handed_out integer', 'waiting_workers integer', 'parked integer', 'held_back integer', 'last_error text',
	'last_error_at timestamp with time zone', 'broker text', 'broker_server text', 'broker_error text', 'broker_notice text',
	'broker_unacknowledged integer', 'broker_published bigint', 'broker_resent bigint', 'broker_reconnects bigint'],
	'columns of engine_status');
SELECT is_empty($$
	SELECT c.relname FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
	WHERE i.inhparent IN ('eda.event'::regclass, 'eda.transition'::regclass) AND EXISTS (
		SELECT attnum, attname, atttypid, attnotnull FROM pg_attribute WHERE attrelid = i.inhparent AND attnum > 0
		EXCEPT SELECT attnum, attname, atttypid, attnotnull FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0)$$,
	'every leaf has the columns of its table in the same places');

-- ------------------------------------------------------------------------
-- Leaves: partitions, keys, indexes, triggers
-- ------------------------------------------------------------------------

SELECT is_partitioned('eda', 'event'::name);
SELECT is_partitioned('eda', 'transition'::name);
SELECT is(pg_get_partkeydef(('eda.' || t)::regclass), 'LIST (segment)', t || ' is partitioned by segment')
FROM unnest('{event,transition}'::text[]) t;
SELECT bag_eq($$
	SELECT c.relname || ' ' || pg_get_expr(c.relpartbound, c.oid) FROM pg_class c WHERE c.relispartition
	AND c.relnamespace = 'eda'::regnamespace AND c.relkind = 'r'$$,
	$$SELECT format('%s_%s FOR VALUES IN (''%s'')', t, leaf, leaf) FROM unnest('{event,transition}'::text[]) t
	CROSS JOIN pg_temp.leaf_numbers() leaf$$, 'there is one leaf for each number, and no default partition');
-- The indexes of a leaf, with {} in place of the leaf's number.
CREATE FUNCTION pg_temp.indexes(leaf integer) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT regexp_replace(regexp_replace(pg_get_indexdef(i.indexrelid), '_' || leaf || '\M', '_{}', 'g'), '_' || leaf || '_', '_{}_', 'g')
		|| CASE WHEN i.indisprimary THEN ' PRIMARY' ELSE '' END || CASE WHEN i.indisvalid AND i.indisready THEN '' ELSE ' INVALID' END
	FROM pg_index i WHERE i.indrelid IN (('eda.event_' || leaf)::regclass, ('eda.transition_' || leaf)::regclass);
$$;
SELECT set_eq($$SELECT * FROM pg_temp.indexes(0)$$, ARRAY[
	'CREATE UNIQUE INDEX event_{}_pkey ON eda.event_{} USING btree (id) PRIMARY',
	'CREATE INDEX event_{}_expiry ON eda.event_{} USING btree (expires_at, id) WHERE (expires_at IS NOT NULL)',
	'CREATE INDEX event_{}_flow ON eda.event_{} USING btree (flow_id, id)',
	'CREATE INDEX event_{}_parent ON eda.event_{} USING btree (parent_id) WHERE (parent_id IS NOT NULL)',
	'CREATE UNIQUE INDEX transition_{}_pkey ON eda.transition_{} USING btree (event_id, version) PRIMARY',
	'CREATE INDEX transition_{}_due ON eda.transition_{} USING btree (type, wake_at, event_id) WHERE (state = ''awaiting_processing''::eda.state)',
	'CREATE INDEX transition_{}_deadline ON eda.transition_{} USING btree (wake_at, event_id) WHERE ((wake_at IS NOT NULL) AND (state <> ''awaiting_processing''::eda.state))',
	'CREATE INDEX transition_{}_expiry ON eda.transition_{} USING btree (expires_at, event_id) WHERE ((expires_at IS NOT NULL) AND (prev_state = ANY (ARRAY[''failed''::eda.state, ''expired''::eda.state])))',
	'CREATE INDEX transition_{}_xid ON eda.transition_{} USING brin (xid) WITH (pages_per_range=''32'')',
	'CREATE INDEX transition_{}_dead ON eda.transition_{} USING btree (type, at, event_id) WHERE (state = ANY (ARRAY[''failed''::eda.state, ''expired''::eda.state]))',
	'CREATE INDEX transition_{}_suspended ON eda.transition_{} USING btree (type, at, event_id) WHERE (suspended_by = ''type''::text)',
	'CREATE INDEX transition_{}_error ON eda.transition_{} USING btree (at) WHERE (detail ? ''error''::text)'],
	'indexes of leaf 0');
SELECT set_eq(format('SELECT * FROM pg_temp.indexes(%s)', leaf), 'SELECT * FROM pg_temp.indexes(0)', 'indexes of leaf ' || leaf)
FROM pg_temp.leaf_numbers() leaf WHERE leaf > 0;
SELECT is_empty($$SELECT indexrelid::regclass FROM pg_index WHERE indrelid IN ('eda.event'::regclass, 'eda.transition'::regclass)$$,
	'the partitioned tables have no index');
SELECT index_is_unique('eda', 'event_type', 'event_type_name');
SELECT is(pg_get_indexdef('eda.event_type_name'::regclass, 1, true), 'lower(event_type)', 'two names of event types must differ in more than their case');
SELECT index_is_primary('eda', 'idempotency', 'idempotency_pkey');
SELECT index_is_unique('eda', 'segment', 'segment_open');

SELECT is_empty($$
	SELECT c.relname FROM pg_class c
	WHERE c.relnamespace = 'eda'::regnamespace AND c.relname ~ '^(event|transition)(_\d+)?$' AND c.relkind IN ('r', 'p')
	AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = 'refuse_write'
		AND t.tgfoid = 'eda.refuse_write'::regproc AND t.tgenabled = 'A'
		AND t.tgtype & 1 = 0 AND t.tgtype & 2 = 2 AND t.tgtype & 60 = 60 AND t.tgqual IS NULL)$$,
	'event, transition and their leaves have a statement trigger before insert, delete, update and truncate, always enabled');
SELECT is_empty($$
	SELECT t.tgrelid::regclass, t.tgname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
	WHERE c.relnamespace = 'eda'::regnamespace AND c.relname ~ '^(event|transition)(_\d+)?$' AND t.tgname <> 'refuse_write'
	AND NOT (t.tgname = 'restored' AND t.tgfoid = 'eda.restored'::regproc AND c.relname ~ '^transition_' AND t.tgenabled = 'A')$$,
	'they have no other trigger, but for the one on the leaves of transition for restored rows');
SELECT is(count(*), :leaves::bigint, 'every leaf of transition has the trigger for restored rows') FROM pg_trigger WHERE tgname = 'restored';
SELECT is_empty($$
	SELECT name FROM unnest('{event_type,segment}'::text[]) name
	WHERE NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = ('eda.' || name)::regclass
		AND t.tgfoid = 'eda.config_changed'::regproc AND t.tgenabled = 'A' AND t.tgtype & 1 = 0 AND t.tgtype & 60 = 60)$$,
	'event_type and segment have a trigger that counts their changes, always enabled');
SELECT is_empty($$SELECT conrelid::regclass, conname FROM pg_constraint WHERE contype = 'f' AND connamespace = 'eda'::regnamespace$$,
	'no table has a foreign key');
SELECT is_empty($$SELECT oid::regclass FROM pg_class WHERE relnamespace = 'eda'::regnamespace AND (relrowsecurity OR relpersistence <> 'p')$$,
	'no table has row security, and none is unlogged');

-- ------------------------------------------------------------------------
-- Functions
-- ------------------------------------------------------------------------

CREATE FUNCTION pg_temp.signatures(names name[]) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT format('%s(%s) %s', p.proname, replace(replace(
		pg_get_function_arguments(p.oid), 'timestamp with time zone', 'timestamptz'), 'double precision', 'float8'),
		replace(pg_get_function_result(p.oid), 'timestamp with time zone', 'timestamptz'))
	FROM pg_proc p WHERE p.pronamespace = 'eda'::regnamespace AND p.proname = ANY (names) ORDER BY 1;
$$;
SELECT set_eq($$SELECT * FROM pg_temp.signatures('{publish,publish_many}')$$, ARRAY[
	'publish(event_type text, flow_id text, payload jsonb DEFAULT ''{}''::jsonb, scheduled_at timestamptz DEFAULT NULL::timestamptz, '
	'event_id uuid DEFAULT NULL::uuid, idempotency_key text DEFAULT NULL::text, on_fail_event_type text DEFAULT NULL::text, '
	'headers jsonb DEFAULT NULL::jsonb, correlation_id text DEFAULT NULL::text, parent_id uuid DEFAULT NULL::uuid, '
	'flow_type text DEFAULT NULL::text) uuid',
	'publish_many(events jsonb) uuid[]',
	'publish_many(event_type text, flow_ids text[], payloads jsonb[] DEFAULT NULL::jsonb[], scheduled_at timestamptz DEFAULT NULL::timestamptz) uuid[]'],
	'signatures of publish and publish_many');
SELECT set_eq($$SELECT * FROM pg_temp.signatures('{acquire,acquire_next}')$$, ARRAY[
	'acquire(event_id uuid, worker text DEFAULT NULL::text, lease interval DEFAULT NULL::interval, OUT event_id uuid, OUT token integer, '
	'OUT event_type text, OUT flow_type text, OUT flow_id text, OUT attempt integer, OUT payload jsonb, OUT headers jsonb, '
	'OUT lease_until timestamptz, OUT correlation_id text, OUT parent_id uuid) SETOF record',
	'acquire_next(flow_type text, max_events integer DEFAULT 1, wait interval DEFAULT ''00:00:00''::interval, worker text DEFAULT NULL::text, '
	'lease interval DEFAULT NULL::interval, OUT event_id uuid, OUT token integer, '
	'OUT event_type text, OUT flow_type text, OUT flow_id text, OUT attempt integer, OUT payload jsonb, OUT headers jsonb, '
	'OUT lease_until timestamptz, OUT correlation_id text, OUT parent_id uuid) SETOF record'], 'signatures of acquire and acquire_next');
SELECT set_eq($$SELECT * FROM pg_temp.signatures('{succeed,fail,heartbeat,release}')$$, ARRAY[
	'succeed(event_id uuid, token integer DEFAULT NULL::integer, result jsonb DEFAULT NULL::jsonb, spinoffs jsonb DEFAULT NULL::jsonb, '
	'if_finished text DEFAULT ''error''::text) boolean',
	'fail(event_id uuid, error_message text, stack_trace text DEFAULT NULL::text, token integer DEFAULT NULL::integer, '
	'retry boolean DEFAULT true, retry_in interval DEFAULT NULL::interval, if_finished text DEFAULT ''error''::text) text',
	'heartbeat(event_id uuid, token integer DEFAULT NULL::integer, extend interval DEFAULT NULL::interval, progress jsonb DEFAULT NULL::jsonb) timestamptz',
	'release(event_id uuid, token integer DEFAULT NULL::integer, retry_in interval DEFAULT ''00:00:00''::interval, reason text DEFAULT NULL::text) text'],
	'signatures of succeed, fail, heartbeat and release');
SELECT set_eq($$SELECT * FROM pg_temp.signatures('{succeed_many,fail_many,heartbeat_many,release_many}')$$, ARRAY[
	'succeed_many(event_ids uuid[], tokens integer[] DEFAULT NULL::integer[], results jsonb[] DEFAULT NULL::jsonb[], '
	'spinoffs jsonb[] DEFAULT NULL::jsonb[], if_finished text DEFAULT ''error''::text) integer',
	'fail_many(event_ids uuid[], error_messages text[], stack_traces text[] DEFAULT NULL::text[], tokens integer[] DEFAULT NULL::integer[], '
	'retry boolean DEFAULT true, retry_in interval DEFAULT NULL::interval, if_finished text DEFAULT ''error''::text) integer',
	'heartbeat_many(event_ids uuid[], tokens integer[] DEFAULT NULL::integer[], extend interval DEFAULT NULL::interval) integer',
	'release_many(event_ids uuid[], tokens integer[] DEFAULT NULL::integer[], retry_in interval DEFAULT ''00:00:00''::interval, '
	'reason text DEFAULT NULL::text) integer'], 'signatures of the functions for many events');
SELECT set_eq($$SELECT * FROM pg_temp.signatures('{cancel,suspend,resume,redrive,redrive_many}')$$, ARRAY[
	'cancel(event_id uuid, reason text DEFAULT NULL::text) integer',
	'suspend(event_id uuid, deadline timestamptz DEFAULT NULL::timestamptz, token integer DEFAULT NULL::integer, reason text DEFAULT NULL::text) integer',
	'resume(event_id uuid, reason text DEFAULT NULL::text) integer',
	'redrive(event_id uuid, reason text DEFAULT NULL::text) integer',
	'redrive(event_type text, since timestamptz DEFAULT ''-infinity''::timestamptz, reason text DEFAULT NULL::text) integer',
	'redrive_many(event_ids uuid[], reason text DEFAULT NULL::text) integer'], 'signatures of the functions for operators');
SELECT set_eq($$SELECT * FROM pg_temp.signatures('{configure,suspend_event_type,unsuspend_event_type}')$$, ARRAY[
	'configure(event_type text, flow_type text DEFAULT NULL::text, max_attempts integer DEFAULT NULL::integer, '
	'lifespan interval DEFAULT NULL::interval, attempt_delays interval[] DEFAULT NULL::interval[], backoff float8 DEFAULT NULL::float8, '
	'jitter float8 DEFAULT NULL::float8, lease interval DEFAULT NULL::interval, dispatch_timeout interval DEFAULT NULL::interval, '
	'on_fail_event_type text DEFAULT NULL::text, suspend_timeout interval DEFAULT NULL::interval, '
	'on_suspend_timeout text DEFAULT NULL::text, delivery text DEFAULT NULL::text, subject text DEFAULT NULL::text, priority integer DEFAULT NULL::integer, '
	'max_in_flight integer DEFAULT NULL::integer, max_dispatched integer DEFAULT NULL::integer, reset boolean DEFAULT false) eda.event_type',
	'suspend_event_type(event_type text) boolean', 'unsuspend_event_type(event_type text) boolean'], 'signatures of the functions for event types');
SELECT set_eq($$SELECT * FROM pg_temp.signatures('{changes}')$$, ARRAY[
	'changes(since pg_snapshot DEFAULT NULL::pg_snapshot, max_rows integer DEFAULT 10000, OUT event_id uuid, OUT event_type text, OUT flow_type text, '
	'OUT flow_id text, OUT state text, OUT version integer, OUT attempt integer, OUT at timestamptz, OUT snapshot pg_snapshot) SETOF record'],
	'signature of changes');
SELECT set_eq($$SELECT * FROM pg_temp.signatures('{history,dashboard,clock,move_clock,grant_access,revoke_access,start_engine,library_version}')$$, ARRAY[
	'history(event_id uuid, OUT version integer, OUT state text, OUT prev_state text, OUT at timestamptz, OUT took interval, '
	'OUT attempt integer, OUT token integer, OUT wake_at timestamptz, OUT expires_at timestamptz, OUT worker text, '
	'OUT suspended_by text, OUT detail jsonb) SETOF record',
	'dashboard(OUT line text) SETOF text', 'clock() timestamptz', 'move_clock(by interval) timestamptz',
	'grant_access(role text, access text) void', 'revoke_access(role text, access text) void', 'start_engine() void',
	'library_version() text'], 'signatures of the other functions for users');

SELECT set_eq($$SELECT * FROM pg_temp.signatures('{type_counters}')$$, ARRAY[
	'type_counters(OUT type integer, OUT transitions bigint[], OUT attempts bigint, OUT retries bigint, OUT rescues bigint, OUT redrives bigint, '
	'OUT bounds float8[], OUT due_to_acquired bigint[], OUT due_to_acquired_sum float8, OUT acquired_to_done bigint[], '
	'OUT acquired_to_done_sum float8) SETOF record'], 'signature of type_counters');

SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
	WHERE p.pronamespace = 'eda'::regnamespace AND l.lanname <> 'c'
	AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false)$$,
	'every function that is not written in C sets its search_path');
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p
	WHERE p.pronamespace = 'eda'::regnamespace AND p.provolatile = 'v' AND p.proparallel <> 'u' AND p.proname <> 'clock'$$,
	'every volatile function but eda.clock() is parallel unsafe');
SELECT set_eq($$
	SELECT p.proname::text FROM pg_proc p
	WHERE p.pronamespace = 'eda'::regnamespace AND p.proparallel <> 'u' AND p.proname !~ '^screen_'$$,
	ARRAY['clock', 'library_version', 'lifecycle_moves', 'total_delay'], 'only functions that write nothing and read no table are parallel safe');
SELECT set_eq($$SELECT p.oid::regprocedure::text FROM pg_proc p WHERE p.pronamespace = 'eda'::regnamespace AND p.prosecdef$$, ARRAY[
	'eda.configure(text,text,integer,interval,interval[],double precision,double precision,interval,interval,text,interval,text,text,text,integer,integer,integer,boolean)',
	'eda.suspend_event_type(text)', 'eda.unsuspend_event_type(text)', 'eda.set_event_type_suspended(text,boolean)',
	'eda.redrive(text,timestamp with time zone,text)', 'eda.history(uuid)', 'eda.dashboard()', 'eda.changes(pg_snapshot,integer)',
	'eda.event_report(uuid)', 'eda.event_type_named(text)', 'eda.last_step(uuid)', 'eda.steps(uuid,smallint)',
	'eda.newest_dead_letters(text,text,timestamp with time zone,uuid,integer)'], 'these functions, and no others, run with the rights of their owner');
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc p WHERE p.pronamespace = 'eda'::regnamespace AND p.proowner <> 10$$,
	'all functions belong to the superuser');

-- ------------------------------------------------------------------------
-- Comments
-- ------------------------------------------------------------------------

SELECT is_empty($$SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'eda'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL$$,
	'every function has a comment');
SELECT is_empty($$
	SELECT oid::regclass FROM pg_class WHERE relnamespace = 'eda'::regnamespace AND relkind IN ('r', 'p', 'v') AND NOT relispartition
	AND obj_description(oid, 'pg_class') IS NULL$$, 'every table and view has a comment');
SELECT isnt(obj_description('eda.state'::regtype, 'pg_type'), NULL, 'the type eda.state has a comment');
SELECT is_empty($$
	SELECT a.attrelid::regclass, a.attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
	WHERE c.relnamespace = 'eda'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND a.attnum > 0
	AND col_description(c.oid, a.attnum) IS NULL$$,
	'every column has a comment');

-- ------------------------------------------------------------------------
-- The functions that the HTTP gateway calls
-- ------------------------------------------------------------------------

SELECT is_empty($$SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'eda_http'::regnamespace AND (prosecdef OR prolang <> ALL (
		SELECT oid FROM pg_language WHERE lanname IN ('sql', 'plpgsql')))$$, 'eda_http: every function runs with the rights of its caller');
SELECT is_empty($$
	SELECT oid::regprocedure FROM pg_proc
	WHERE pronamespace = 'eda_http'::regnamespace AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (proconfig), false)$$,
	'eda_http: every function sets its search_path');
SELECT is_empty($$SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'eda_http'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL$$,
	'eda_http: every function has a comment');
SELECT set_eq($$
	SELECT format('%s(%s) %s', p.proname, pg_get_function_arguments(p.oid), p.provolatile) FROM pg_proc p
	WHERE p.pronamespace = 'eda_http'::regnamespace AND p.prorettype = 'eda_http.response'::regtype AND p.proname !~ '^(mcp|answer)'$$, ARRAY[
	'publish(body jsonb, idempotency_key text DEFAULT NULL::text) v', 'acquire(event_id uuid, body jsonb DEFAULT NULL::jsonb) v',
	'acquire_next(body jsonb) v', 'succeed(event_id uuid, body jsonb DEFAULT NULL::jsonb, match integer DEFAULT NULL::integer) v',
	'fail(event_id uuid, body jsonb DEFAULT NULL::jsonb, match integer DEFAULT NULL::integer) v',
	'heartbeat(event_id uuid, body jsonb DEFAULT NULL::jsonb, match integer DEFAULT NULL::integer) v',
	'release(event_id uuid, body jsonb DEFAULT NULL::jsonb, match integer DEFAULT NULL::integer) v',
	'suspend(event_id uuid, body jsonb DEFAULT NULL::jsonb, match integer DEFAULT NULL::integer) v',
	'cancel(event_id uuid, body jsonb DEFAULT NULL::jsonb) v', 'resume(event_id uuid, body jsonb DEFAULT NULL::jsonb) v',
	'redrive(event_id uuid, body jsonb DEFAULT NULL::jsonb) v', 'redrive_dead_letters(body jsonb) v',
	'configure(event_type text, body jsonb DEFAULT NULL::jsonb, replace boolean DEFAULT true) v',
	'suspend_event_type(event_type text, suspended boolean) v', 'event(event_id uuid) s',
	'events(state text DEFAULT NULL::text, flow_type text DEFAULT NULL::text, flow_id text DEFAULT NULL::text, '
	'event_type text DEFAULT NULL::text, before uuid DEFAULT NULL::uuid, page_size integer DEFAULT NULL::integer) s',
	'flow(flow_type text, flow_id text) s', 'counts() s', 'event_types() s', 'event_type(event_type text) s',
	'dead_letters(flow_type text DEFAULT NULL::text, event_type text DEFAULT NULL::text, before text DEFAULT NULL::text, '
	'page_size integer DEFAULT NULL::integer) s', 'lifecycle() s', 'errors(page_size integer DEFAULT NULL::integer) s', 'ready() s',
	'changes(since pg_snapshot DEFAULT NULL::pg_snapshot, max_rows integer DEFAULT 10000) s'], 'eda_http: signatures of the routes; those that only read are stable');
SELECT set_eq($$
	SELECT format('%s %s', attname, format_type(atttypid, atttypmod)) FROM pg_attribute
	WHERE attrelid = 'eda_http.response'::regclass AND attnum > 0$$,
	ARRAY['status integer', 'etag text', 'location text', 'body json', 'wait_for text', 'wait_ms integer'], 'eda_http: columns of response');
SELECT function_returns('eda_http', 'metrics', '{}'::name[], 'text');
SELECT volatility_is('eda_http', 'metrics', '{}'::name[], 'stable');
SELECT is(pg_get_function_arguments('eda_http.mcp'::regproc) || ' ' || pg_get_function_result('eda_http.mcp'::regproc),
	'body jsonb, protocol_version text DEFAULT NULL::text, mcp_method text DEFAULT NULL::text, mcp_name text DEFAULT NULL::text eda_http.response',
	'eda_http: signature of mcp');

-- ------------------------------------------------------------------------
-- Dump
-- ------------------------------------------------------------------------

SELECT bag_eq($$SELECT unnest(extconfig)::regclass::text FROM pg_extension WHERE extname = 'eda'$$,
	$$SELECT 'eda.' || name FROM unnest('{event_type,event_type_id_seq,segment,idempotency}'::text[]) name
	UNION ALL SELECT 'eda.' || t || '_' || leaf FROM unnest('{event,transition}'::text[]) t CROSS JOIN pg_temp.leaf_numbers() leaf$$,
	'a dump has every leaf, the event types, the segments and the idempotency keys, and not the engine''s own state');
SELECT is_empty($$SELECT unnest(extcondition) FROM pg_extension WHERE extname = 'eda' EXCEPT SELECT ''$$, 'a dump has all their rows');

SELECT * FROM finish();
ROLLBACK;
