/* ------------------------------------------------------------------------
 * Rights.  Whoever may EXECUTE a function may use it; until a superuser calls
 * eda.grant_access(), no other role may.
 * ------------------------------------------------------------------------ */

-- Nothing else defines which functions and views a kind of access includes.
CREATE FUNCTION eda.access_objects(OUT access text, OUT kind text, OUT object text) RETURNS SETOF record
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT a.access, 'FUNCTION', p.oid::regprocedure::text
	FROM (VALUES
		('publisher', '{publish,publish_many}'::name[]),
		('worker', '{acquire,acquire_next,succeed,succeed_many,fail,fail_many,heartbeat,heartbeat_many,release,release_many,suspend}'),
		('operator', '{cancel,suspend,resume,redrive,redrive_many,configure,suspend_event_type,unsuspend_event_type}'),
		('monitor', '{history,dashboard,clock,lifecycle_moves,type_metrics,type_counters,engine_info,library_version}'),
		-- Functions that the functions of eda_http call on behalf of their caller.
		('worker', '{last_step}'),
		('operator', '{event_type_named}'),
		('monitor', '{changes,current_snapshot,event_report,newest_dead_letters,steps}')) a(access, names)
	JOIN pg_proc p ON p.proname = ANY (a.names) AND p.pronamespace = 'eda'::regnamespace
	UNION ALL
	SELECT 'monitor', 'TABLE', v.oid::regclass::text
	FROM pg_class v WHERE v.relnamespace = 'eda'::regnamespace
	AND (v.relkind = 'v' OR v.relname = 'event_type');
$$;
COMMENT ON FUNCTION eda.access_objects() IS
	'Return the functions (kind FUNCTION) and the views and tables (kind TABLE) that each kind '
	'of access includes.';

CREATE FUNCTION eda.change_access(role text, access text, verb text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	o record;
BEGIN
	IF access IS NULL OR access NOT IN ('publisher', 'worker', 'operator', 'monitor') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('unknown kind of access: %L', access),
			HINT = 'It must be ''publisher'', ''worker'', ''operator'' or ''monitor''.';
	END IF;
	IF verb = 'GRANT' THEN
		EXECUTE format('GRANT USAGE ON SCHEMA eda, eda_http TO %I', role);
	END IF;
	-- Do not revoke an object that another kind of access also includes, if the role has that
	-- access.
	FOR o IN
		SELECT * FROM eda.access_objects() a WHERE a.access = change_access.access
		AND (verb = 'GRANT' OR NOT EXISTS (
			SELECT FROM eda.access_objects() shared
			WHERE shared.object = a.object AND shared.access <> a.access
			AND (SELECT bool_and(has_function_privilege(role, needed.object, 'EXECUTE'))
				FROM eda.access_objects() needed
				WHERE needed.access = shared.access AND needed.kind = 'FUNCTION')))
	LOOP
		EXECUTE format('%s %s ON %s %s %s %I', verb, CASE o.kind WHEN 'TABLE' THEN 'SELECT' ELSE 'EXECUTE' END,
			o.kind, o.object, CASE verb WHEN 'GRANT' THEN 'TO' ELSE 'FROM' END, role);
	END LOOP;
	IF verb = 'REVOKE' AND NOT EXISTS (
		SELECT FROM eda.access_objects() a
		WHERE CASE a.kind WHEN 'FUNCTION' THEN has_function_privilege(role, a.object, 'EXECUTE') END) THEN
		EXECUTE format('REVOKE USAGE ON SCHEMA eda, eda_http FROM %I', role);
	END IF;
END $$;
COMMENT ON FUNCTION eda.change_access(text, text, text) IS
	'Grant (verb GRANT) or revoke (verb REVOKE) one kind of access.  Used by eda.grant_access() '
	'and eda.revoke_access().  Errors: 22023 unknown kind of access, 42704 no such role.';

CREATE FUNCTION eda.grant_access(role text, access text) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
RETURN eda.change_access(role, access, 'GRANT');
COMMENT ON FUNCTION eda.grant_access(text, text) IS
	'Grant a role one kind of access: publisher, worker, operator or monitor.  Call it once for '
	'each kind.  Errors: 22023 unknown kind of access, 42704 no such role.';

CREATE FUNCTION eda.revoke_access(role text, access text) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
RETURN eda.change_access(role, access, 'REVOKE');
COMMENT ON FUNCTION eda.revoke_access(text, text) IS
	'Revoke one kind of access that eda.grant_access() granted; the role keeps what its other '
	'kinds include.  Errors: 22023 unknown kind of access, 42704 no such role.';

REVOKE ALL ON SCHEMA eda FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA eda FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA eda FROM PUBLIC;

-- The functions of eda_http run with the rights of their caller, and PostgreSQL checks these
-- rights on each function and view of eda that they use.  So every role that may use the schema
-- may call all of them.  eda.grant_access() grants USAGE on the schema with any kind of access.
REVOKE ALL ON SCHEMA eda_http FROM PUBLIC;
GRANT SELECT ON eda_http.summary TO PUBLIC;

SELECT eda.start_engine();
