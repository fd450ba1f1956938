-- A role may call and read what its kinds of access include, and nothing else; no role may write a table.
-- Needs the extensions eda and pgtap.
\set QUIET 1
SET client_min_messages = warning;
BEGIN;
SELECT * FROM no_plan();

CREATE ROLE eda_t_nobody;
CREATE ROLE eda_t_publisher;
CREATE ROLE eda_t_worker;
CREATE ROLE eda_t_operator;
CREATE ROLE eda_t_monitor;
SELECT lives_ok(format('SELECT eda.grant_access(%L, %L)', 'eda_t_' || access, access), 'grant ' || access)
FROM unnest('{publisher,worker,operator,monitor}'::text[]) access;

-- Run a command as a role; its error's code, or 'ok'.
CREATE FUNCTION pg_temp.as_role(role name, command text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('SET LOCAL ROLE %I', role);
	EXECUTE command;
	RESET ROLE;
	RETURN 'ok';
EXCEPTION WHEN OTHERS THEN
	RESET ROLE;
	RETURN SQLSTATE;
END $$;
CREATE FUNCTION pg_temp.may_call(role name) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT DISTINCT p.proname::text FROM pg_proc p
	WHERE p.pronamespace = 'eda'::regnamespace AND has_function_privilege(role, p.oid, 'EXECUTE');
$$;
CREATE FUNCTION pg_temp.may_read(role name) RETURNS SETOF text LANGUAGE sql AS $$
	SELECT c.relname::text FROM pg_class c
	WHERE c.relnamespace = 'eda'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND has_any_column_privilege(role, c.oid, 'SELECT');
$$;

-- ------------------------------------------------------------------------
-- Who may call and read what
-- ------------------------------------------------------------------------

SELECT ok(NOT has_schema_privilege('eda_t_nobody', 'eda', 'USAGE'), 'a role without access may not use the schema');
SELECT is_empty($$SELECT * FROM pg_temp.may_call('eda_t_nobody')$$, 'a role without access may call nothing');
SELECT is_empty($$SELECT * FROM pg_temp.may_read('eda_t_nobody')$$, 'a role without access may read nothing');
SELECT set_eq($$SELECT * FROM pg_temp.may_call('eda_t_publisher')$$, '{publish,publish_many}'::text[], 'functions that a publisher may call');
SELECT is_empty($$SELECT * FROM pg_temp.may_read('eda_t_publisher')$$, 'a publisher may read nothing');
SELECT set_eq($$SELECT * FROM pg_temp.may_call('eda_t_worker')$$,
	'{acquire,acquire_next,succeed,succeed_many,fail,fail_many,heartbeat,heartbeat_many,release,release_many,suspend,last_step}'::text[],
	'functions that a worker may call');
SELECT is_empty($$SELECT * FROM pg_temp.may_read('eda_t_worker')$$, 'a worker may read nothing');
SELECT set_eq($$SELECT * FROM pg_temp.may_call('eda_t_operator')$$,
	'{cancel,suspend,resume,redrive,redrive_many,configure,suspend_event_type,unsuspend_event_type,event_type_named}'::text[],
	'functions that an operator may call');
SELECT is_empty($$SELECT * FROM pg_temp.may_read('eda_t_operator')$$, 'an operator who is no monitor may read nothing');
SELECT set_eq($$SELECT * FROM pg_temp.may_call('eda_t_monitor')$$,
	'{history,changes,dashboard,clock,lifecycle_moves,type_metrics,type_counters,engine_info,library_version,'
	'current_snapshot,event_report,newest_dead_letters,steps}'::text[], 'functions that a monitor may call');
SELECT is_empty($$
	SELECT rolname FROM pg_roles WHERE rolname LIKE 'eda\_t\_%'
	AND (rolname <> 'eda_t_nobody') <> has_schema_privilege(oid, 'eda_http', 'USAGE')$$, 'a role with any access may use the gateway''s functions');
SELECT set_eq($$SELECT * FROM pg_temp.may_read('eda_t_monitor')$$,
	'{dead_letter,engine_status,error_log,event_state,lifecycle,queue_metrics,event_type}'::text[], 'views and tables that a monitor may read');
-- The tests above include what PUBLIC may do.  The next ones hold for objects that are added later, too.
SELECT is_empty($$
	SELECT p.oid::regprocedure FROM pg_proc p
	WHERE p.pronamespace = 'eda'::regnamespace AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) a WHERE a.grantee = 0))$$,
	'PUBLIC may execute no function');
SELECT is_empty($$
	SELECT c.oid::regclass, r.rolname, privilege
	FROM pg_class c
	CROSS JOIN pg_roles r
	CROSS JOIN unnest('{INSERT,UPDATE,DELETE,TRUNCATE,REFERENCES,TRIGGER}'::text[]) privilege
	WHERE c.relnamespace = 'eda'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND r.rolname LIKE 'eda\_t\_%'
	AND has_table_privilege(r.oid, c.oid, privilege)$$, 'no role may write a table');
SELECT is_empty($$
	SELECT c.oid::regclass, r.rolname FROM pg_class c CROSS JOIN pg_roles r
	WHERE c.relnamespace = 'eda'::regnamespace AND c.relkind = 'S' AND r.rolname LIKE 'eda\_t\_%'
	AND (has_sequence_privilege(r.oid, c.oid, 'USAGE') OR has_sequence_privilege(r.oid, c.oid, 'UPDATE'))$$, 'no role may use the sequence');
SELECT is_empty($$SELECT rolname FROM pg_roles WHERE rolname LIKE 'eda\_t\_%' AND has_schema_privilege(oid, 'eda', 'CREATE')$$,
	'no role may create an object in the schema');

-- ------------------------------------------------------------------------
-- Calling and reading as each role
-- ------------------------------------------------------------------------

SELECT lives_ok($$SELECT eda.configure('GRANT_A', 'grant_flow', attempt_delays => '{1 day}')$$, 'an event type is configured');
CREATE TEMP TABLE canceled AS SELECT eda.publish('GRANT_A', 'f') AS id;
GRANT SELECT ON canceled TO PUBLIC;

-- Each command and the roles that may run it.  A command that a role may run may raise other errors.
CREATE TEMP TABLE attempt (command text, allowed name[]);
INSERT INTO attempt VALUES
	('SELECT eda.publish(''GRANT_A'', ''f'')', '{publisher}'),
	('SELECT eda.publish_many(''[]'')', '{publisher}'),
	('SELECT eda.publish_many(''GRANT_A'', ''{f}'')', '{publisher}'),
	('SELECT eda.acquire((SELECT id FROM canceled))', '{worker}'),
	('SELECT eda.acquire_next(''grant_flow'')', '{worker}'),
	('SELECT eda.succeed((SELECT id FROM canceled), 3)', '{worker}'),
	('SELECT eda.succeed_many(''{}'')', '{worker}'),
	('SELECT eda.fail((SELECT id FROM canceled), ''x'')', '{worker}'),
	('SELECT eda.fail_many(''{}'', ''{}'')', '{worker}'),
	('SELECT eda.heartbeat((SELECT id FROM canceled), 3)', '{worker}'),
	('SELECT eda.heartbeat_many(''{}'')', '{worker}'),
	('SELECT eda.release((SELECT id FROM canceled), 3)', '{worker}'),
	('SELECT eda.release_many(''{}'')', '{worker}'),
	('SELECT eda.suspend((SELECT id FROM canceled))', '{worker,operator}'),
	('SELECT eda.resume((SELECT id FROM canceled))', '{operator}'),
	('SELECT eda.redrive((SELECT id FROM canceled))', '{operator}'),
	('SELECT eda.redrive(''GRANT_A'')', '{operator}'),
	('SELECT eda.redrive_many(''{}'')', '{operator}'),
	('SELECT eda.cancel((SELECT id FROM canceled))', '{operator}'),
	('SELECT eda.configure(''GRANT_A'')', '{operator}'),
	('SELECT eda.configure(''GRANT_'' || replace(current_user::text, ''eda_t_'', ''''), ''grant_flow'')', '{operator}'),
	('SELECT eda.suspend_event_type(''GRANT_A'')', '{operator}'),
	('SELECT eda.unsuspend_event_type(''GRANT_A'')', '{operator}'),
	('SELECT eda.history((SELECT id FROM canceled))', '{monitor}'),
	('SELECT eda.dashboard()', '{monitor}'),
	('SELECT eda.clock()', '{monitor}'),
	('SELECT eda.type_counters()', '{monitor}'),
	('SELECT eda_http.metrics()', '{monitor}'),
	('SELECT * FROM eda.event_state', '{monitor}'),
	('SELECT * FROM eda.dead_letter', '{monitor}'),
	('SELECT * FROM eda.error_log', '{monitor}'),
	('SELECT * FROM eda.queue_metrics', '{monitor}'),
	('SELECT * FROM eda.lifecycle', '{monitor}'),
	('SELECT * FROM eda.engine_status', '{monitor}'),
	('SELECT * FROM eda.event_type', '{monitor}'),
	('SELECT eda.changes()', '{monitor}'),
	('SELECT eda.current_snapshot()', '{monitor}'),
	('SELECT eda.event_report((SELECT id FROM canceled))', '{monitor}'),
	('SELECT eda.steps((SELECT id FROM canceled))', '{monitor}'),
	('SELECT eda.newest_dead_letters(NULL, NULL, NULL, NULL, 1)', '{monitor}'),
	('SELECT eda.last_step((SELECT id FROM canceled))', '{worker}'),
	('SELECT eda.event_type_named(''GRANT_A'')', '{operator}'),
	('SELECT eda.family((SELECT id FROM canceled))', '{}'),
	('SELECT eda.relative((SELECT id FROM canceled), 1::smallint)', '{}'),
	('SELECT eda.children(ARRAY[(SELECT id FROM canceled)])', '{}'),
	('SELECT eda.leaf((SELECT id FROM canceled))', '{}'),
	('SELECT eda_http.publish(''{"event_type": "GRANT_A", "flow_id": "f"}'', ''http key'')', '{publisher}'),
	('SELECT eda_http.publish(''[{"event_type": "GRANT_A", "flow_id": "f"}]'')', '{publisher}'),
	('SELECT eda_http.acquire((SELECT id FROM canceled))', '{worker}'),
	('SELECT eda_http.acquire_next(''{"flow_type": "grant_flow"}'')', '{worker}'),
	('SELECT eda_http.succeed((SELECT id FROM canceled), ''{"if_finished": "ok"}'', 3)', '{worker}'),
	('SELECT eda_http.fail((SELECT id FROM canceled), NULL, 3)', '{worker}'),
	('SELECT eda_http.heartbeat((SELECT id FROM canceled), NULL, 3)', '{worker}'),
	('SELECT eda_http.release((SELECT id FROM canceled), NULL, 3)', '{worker}'),
	('SELECT eda_http.suspend((SELECT id FROM canceled))', '{worker,operator}'),
	('SELECT eda_http.resume((SELECT id FROM canceled))', '{operator}'),
	('SELECT eda_http.cancel((SELECT id FROM canceled))', '{operator}'),
	('SELECT eda_http.redrive((SELECT id FROM canceled))', '{operator}'),
	('SELECT eda_http.redrive_dead_letters(''{"event_type": "GRANT_A"}'')', '{operator}'),
	('SELECT eda_http.redrive_dead_letters(''{"event_ids": []}'')', '{operator}'),
	('SELECT eda_http.configure(''GRANT_A'', ''{}'')', '{operator}'),
	('SELECT eda_http.configure(''GRANT_A'', ''{"priority": 5}'', false)', '{operator}'),
	('SELECT eda_http.suspend_event_type(''GRANT_A'', true)', '{operator}'),
	('SELECT eda_http.suspend_event_type(''GRANT_A'', false)', '{operator}'),
	('SELECT eda_http.event((SELECT id FROM canceled))', '{monitor}'),
	('SELECT eda_http.events()', '{monitor}'),
	('SELECT eda_http.flow(''grant_flow'', ''f'')', '{monitor}'),
	('SELECT eda_http.counts()', '{monitor}'),
	('SELECT eda_http.event_types()', '{monitor}'),
	('SELECT eda_http.event_type(''GRANT_A'')', '{monitor}'),
	('SELECT eda_http.dead_letters()', '{monitor}'),
	('SELECT eda_http.lifecycle()', '{monitor}'),
	('SELECT eda_http.errors()', '{monitor}'),
	('SELECT eda_http.changes()', '{monitor}'),
	('SELECT eda_http.changes(pg_current_snapshot())', '{monitor}'),
	('SELECT eda_http.ready()', '{monitor}'),
	('SELECT * FROM eda_http.summary', '{monitor}'),
	('SELECT eda.move_clock(''1 s'')', '{}'),
	('SELECT eda.start_engine()', '{}'),
	('SELECT eda.claim_home()', '{}'),
	('SELECT eda.event_type_id(''GRANT_A'')', '{}'),
	('SELECT eda.set_event_type_suspended(''GRANT_A'', true)', '{}'),
	('SELECT eda.grant_access(''eda_t_nobody'', ''monitor'')', '{}'),
	('SELECT eda.revoke_access(''eda_t_monitor'', ''monitor'')', '{}'),
	('SELECT eda.change_access(''eda_t_nobody'', ''monitor'', ''GRANT'')', '{}'),
	('SELECT * FROM eda.event', '{}'),
	('SELECT * FROM eda.event_1', '{}'),
	('SELECT * FROM eda.transition', '{}'),
	('SELECT * FROM eda.transition_1', '{}'),
	('SELECT * FROM eda.segment', '{}'),
	('SELECT * FROM eda.idempotency', '{}'),
	('SELECT * FROM eda.engine_state', '{}'),
	('SELECT * FROM eda.config', '{}'),
	('INSERT INTO eda.event_type (event_type) VALUES (''x'')', '{}'),
	('UPDATE eda.event_type SET max_attempts = 1', '{}'),
	('DELETE FROM eda.event_type', '{}'),
	('UPDATE eda.config SET version = 0', '{}'),
	('DELETE FROM eda.idempotency', '{}'),
	('DELETE FROM eda.engine_state', '{}'),
	('INSERT INTO eda.event SELECT * FROM eda.event', '{}'),
	('DELETE FROM eda.transition', '{}'),
	('TRUNCATE eda.transition_1', '{}'),
	('TRUNCATE eda.event', '{}'),
	('ALTER TABLE eda.event_1 DISABLE TRIGGER refuse_write', '{}'),
	('DROP TRIGGER refuse_write ON eda.transition_1', '{}'),
	('CREATE INDEX ON eda.event_1 (created_at)', '{}');
SELECT is(pg_temp.as_role('eda_t_' || role, command) <> '42501', role = ANY (allowed),
	format('%s %s: %s', role, CASE WHEN role = ANY (allowed) THEN 'may' ELSE 'may not' END, command))
FROM attempt CROSS JOIN unnest('{nobody,publisher,worker,operator,monitor}'::name[]) role;

-- A role that may call a function needs no right on what the function itself uses.
SELECT is(pg_temp.as_role('eda_t_publisher', $$SELECT eda.publish('GRANT_A', 'f', idempotency_key => 'k', on_fail_event_type => 'GRANT_A')$$), 'ok',
	'publish needs no other right');
SELECT is(pg_temp.as_role('eda_t_operator', $$SELECT eda.cancel((SELECT id FROM canceled))$$), 'ED001', 'cancel reads the log without a right on it (the event was canceled above)');
SELECT is(pg_temp.as_role('eda_t_operator', $$SELECT eda.configure('GRANT_NEW', 'grant_new')$$), 'ok', 'configure needs no other right');
SELECT is(pg_temp.as_role('eda_t_operator', $$SELECT eda.redrive('GRANT_A')$$), 'ok', 'redrive needs no other right');
SELECT is(pg_temp.as_role('eda_t_monitor', $$SELECT count(*) FROM eda.event_state$$), 'ok', 'the views need no other right');
SELECT is(pg_temp.as_role('eda_t_monitor', $$SELECT * FROM eda.dashboard()$$), 'ok', 'the dashboard needs no other right');
SELECT is(pg_temp.as_role('eda_t_' || role, command), 'ok', format('%s needs no other right: %s', role, command))
FROM (VALUES
	('publisher', 'SELECT eda_http.publish(''{"event_type": "GRANT_A", "flow_id": "f"}'', ''http key'')'),
	('worker', 'SELECT eda_http.acquire_next(''{"flow_type": "grant_flow", "wait": 1}'')'),
	('operator', 'SELECT eda_http.configure(''GRANT_HTTP'', ''{"flow_type": "grant_flow"}'')'),
	('operator', 'SELECT eda_http.configure(''GRANT_HTTP'', ''{"lifespan": null, "priority": 3}'', false)'),
	('operator', 'SELECT eda_http.suspend_event_type(''GRANT_HTTP'', true)'),
	('operator', 'SELECT eda_http.redrive_dead_letters(''{"event_type": "GRANT_HTTP"}'')'),
	('monitor', 'SELECT eda_http.event((SELECT id FROM canceled))'), ('monitor', 'SELECT eda_http.events(flow_id => ''f'')'),
	('monitor', 'SELECT eda_http.flow(''grant_flow'', ''f'')'), ('monitor', 'SELECT eda_http.counts()'),
	('monitor', 'SELECT eda_http.event_types()'), ('monitor', 'SELECT eda_http.event_type(''GRANT_A'')'),
	('monitor', 'SELECT eda_http.dead_letters()'), ('monitor', 'SELECT eda_http.lifecycle()'), ('monitor', 'SELECT eda_http.errors()'),
	('monitor', 'SELECT eda_http.changes(pg_current_snapshot())'), ('monitor', 'SELECT eda_http.ready()'),
	('monitor', 'SELECT eda_http.metrics()')) v(role, command);
SELECT is(pg_temp.as_role('eda_t_worker', $$SELECT eda_http.acquire((SELECT id FROM canceled))$$), 'ED001',
	'a worker that cannot acquire an event is told its state, without the right to read it');
SELECT lives_ok($$SELECT eda.grant_access('eda_t_worker', 'publisher')$$, 'a worker becomes a publisher, too');
SELECT ok(has_function_privilege('eda_t_worker', 'eda.publish_many(jsonb)', 'EXECUTE')
	AND has_function_privilege('eda_t_worker', 'eda.succeed(uuid,integer,jsonb,jsonb,text)', 'EXECUTE'), 'the role has both kinds of access');

-- ------------------------------------------------------------------------
-- Revoking access
-- ------------------------------------------------------------------------

SELECT lives_ok(format('SELECT eda.revoke_access(%L, %L)', 'eda_t_' || access, access), 'revoke ' || access)
FROM unnest('{publisher,operator,monitor}'::text[]) access;
SELECT lives_ok($$SELECT eda.revoke_access('eda_t_worker', 'publisher')$$, 'one of two kinds of access is revoked');
SELECT is_empty($$SELECT * FROM pg_temp.may_call('eda_t_publisher') UNION ALL SELECT * FROM pg_temp.may_call('eda_t_operator')
	UNION ALL SELECT * FROM pg_temp.may_call('eda_t_monitor')$$, 'roles whose access was revoked may call nothing');
SELECT is_empty($$SELECT * FROM pg_temp.may_read('eda_t_monitor')$$, 'a role whose access was revoked may read nothing');
SELECT is_empty($$
	SELECT rolname, schema FROM pg_roles CROSS JOIN unnest('{eda,eda_http}'::text[]) schema
	WHERE rolname LIKE 'eda\_t\_%' AND (rolname = 'eda_t_worker') <> has_schema_privilege(oid, schema, 'USAGE')$$,
	'roles whose access was revoked may not use the schemas');
SELECT ok(has_function_privilege('eda_t_worker', 'eda.suspend(uuid,timestamptz,integer,text)', 'EXECUTE'),
	'the worker keeps what its other kind of access includes');
SELECT lives_ok($$SELECT eda.grant_access('eda_t_worker', 'operator'), eda.revoke_access('eda_t_worker', 'operator')$$,
	'the worker becomes an operator, and no longer is one');
SELECT ok(has_function_privilege('eda_t_worker', 'eda.suspend(uuid,timestamptz,integer,text)', 'EXECUTE'),
	'a function that two kinds of access include stays open while the role has one of them');

SELECT throws_ok($$SELECT eda.grant_access('eda_t_nobody', 'king')$$, '22023', 'unknown kind of access: ''king''');
SELECT throws_ok($$SELECT eda.grant_access('eda_t_nobody', NULL)$$, '22023', 'unknown kind of access: NULL');
SELECT throws_ok($$SELECT eda.grant_access('eda_t_no_such_role', 'monitor')$$, '42704', 'role "eda_t_no_such_role" does not exist');
CREATE ROLE "eda_t_ odd; name";
SELECT lives_ok($$SELECT eda.grant_access('eda_t_ odd; name', 'worker')$$, 'the name of a role is quoted');

SELECT * FROM finish();
ROLLBACK;
