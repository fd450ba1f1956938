/* ------------------------------------------------------------------------
 * The Model Context Protocol, for AI agents
 *
 * For POST /mcp, the gateway calls eda_http.mcp() with the JSON-RPC message and
 * the headers that belong to it.  The server keeps nothing between two messages,
 * so there are no sessions.
 *
 * The protocol has two eras, and this server speaks both.  In the revisions up
 * to 2025-11-25, a client begins with "initialize" and then names the revision
 * in a header.  From 2026-07-28 on ("modern" below), each request names its
 * revision in params._meta, and headers repeat parts of the body.
 *
 * A violation of the protocol is answered with a JSON-RPC error.  An error of a
 * tool is answered with a result that has isError, so that the model can read it
 * and act on it.  All other errors are raised, and the gateway answers them with
 * status 500 or 503.
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda_http.mcp_versions() RETURNS text[]
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN '{2026-07-28,2025-11-25,2025-06-18,2025-03-26,2024-11-05,2024-10-07}'::text[];
COMMENT ON FUNCTION eda_http.mcp_versions() IS
	'Return the revisions of the protocol that this server speaks, newest first.';

CREATE FUNCTION eda_http.mcp_is_modern(version text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN coalesce(version ~ '^\d{4}-\d\d-\d\d$' AND version COLLATE "C" >= '2026-07-28', false);
COMMENT ON FUNCTION eda_http.mcp_is_modern(text) IS
	'Return whether a revision of the protocol is one without "initialize": 2026-07-28 or later.';

CREATE FUNCTION eda_http.mcp_unsupported(version text) RETURNS json
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN json_build_object('supported', to_json(eda_http.mcp_versions()), 'requested', left(version, 100));
COMMENT ON FUNCTION eda_http.mcp_unsupported(text) IS
	'Return the data of the JSON-RPC error for a revision that this server does not speak.';

-- The code, status and data of the JSON-RPC error travel as JSON in the exception's detail.
CREATE FUNCTION eda_http.mcp_refuse(code integer, message text, data json DEFAULT NULL, status integer DEFAULT 200) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RAISE EXCEPTION USING ERRCODE = 'MCP01', MESSAGE = message,
		DETAIL = json_build_object('code', code, 'status', status, 'data', data);
END $$;
COMMENT ON FUNCTION eda_http.mcp_refuse(integer, text, json, integer) IS
	'Raise MCP01, which eda_http.mcp_message() turns into a JSON-RPC error with this code, '
	'message and data, and this HTTP status.';

CREATE FUNCTION eda_http.mcp_error(id json, code integer, message text, data json, status integer) RETURNS eda_http.response
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN (status, NULL, NULL, json_build_object('jsonrpc', '2.0', 'id', id, 'error', CASE WHEN data IS NULL
	THEN json_build_object('code', code, 'message', message)
	ELSE json_build_object('code', code, 'message', message, 'data', data) END), NULL, NULL)::eda_http.response;
COMMENT ON FUNCTION eda_http.mcp_error(json, integer, text, json, integer) IS
	'Return a JSON-RPC error as an HTTP answer.';

-- Not with jsonb, which does not keep the order of the keys.
CREATE FUNCTION eda_http.mcp_join(a json, b json) RETURNS json
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT json_object_agg(key, value ORDER BY part, n) FROM (
	SELECT 1 AS part, * FROM json_each(a) WITH ORDINALITY x(key, value, n)
	UNION ALL SELECT 2, * FROM json_each(b) WITH ORDINALITY x(key, value, n)) both_of_them);
COMMENT ON FUNCTION eda_http.mcp_join(json, json) IS
	'Return a JSON object with the keys of a, followed by those of b.';

/* ------------------------------------------------------------------------
 * What the server says of itself
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda_http.mcp_server() RETURNS json
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (SELECT json_build_object('name', 'eda', 'title', 'eda event engine', 'version', e.extversion)
	FROM pg_extension e WHERE e.extname = 'eda');
COMMENT ON FUNCTION eda_http.mcp_server() IS
	'Return the name and version of this server for clients.';

CREATE FUNCTION eda_http.mcp_capabilities() RETURNS json
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN '{"tools": {"listChanged": false}, "resources": {"subscribe": false, "listChanged": false}, "completions": {}}'::json;
COMMENT ON FUNCTION eda_http.mcp_capabilities() IS
	'Return which optional parts of the protocol this server has.';

CREATE FUNCTION eda_http.mcp_instructions() RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN
	'eda is an event engine inside PostgreSQL.  An event has an event type, a flow id (the '
	'business transaction that it belongs to) and a payload.  publish_event publishes an event.  '
	'When the event is due, the engine puts it into a queue, which is called the flow type.  A '
	'worker acquires the event with acquire_processing_permit, which begins an attempt with a '
	'token and a lease, does the work, and ends the attempt with report_success or report_failure '
	'and that token.  An event whose attempt failed is tried again after a delay, while attempts '
	'are left.  Then it is a dead letter (failed, or expired when its lifespan is over), which '
	'redrive_event brings back.  Delivery is at least once: when a lease ends without a report, '
	'another worker gets the event.  Call explain_event to find out about an event; read '
	'metrics://queues for the queues, and config://{eventType} for the rules of an event type.  '
	'Errors of tools have a code: ED001 the move is not legal now, ED002 the token is stale, '
	'ED003 the attempt has already ended, ED004 no such event, ED005 no such event type or flow '
	'type, ED007 the event id or key was used for another event, ED008 another transaction has '
	'locked the event: try again, ED009 too large, 22xxx invalid argument, 42501 you lack the '
	'access.';
COMMENT ON FUNCTION eda_http.mcp_instructions() IS
	'Return the text that tells a model how to use this server.';

/* ------------------------------------------------------------------------
 * Tools
 * ------------------------------------------------------------------------ */

-- The hints of the errors themselves are about SQL functions, which an agent cannot call.
CREATE FUNCTION eda_http.mcp_advice(code text, access text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN CASE code
	WHEN 'ED001' THEN 'Call explain_event: it tells the state of the event and what can be done.'
	WHEN 'ED002' THEN 'Give up this attempt, and undo its work if you can: another attempt has the event, or will have it.'
	WHEN 'ED003' THEN 'Do nothing: this attempt was already reported.'
	WHEN 'ED004' THEN 'Check the event id.'
	WHEN 'ED005' THEN 'List the resources to see which names exist.  update_lifecycle_config with a flow_type creates a new event type.'
	WHEN 'ED006' THEN 'Pass the token that acquire_processing_permit returned.'
	WHEN 'ED007' THEN 'Use a new id or key for each event, and repeat a call only with the same arguments.'
	WHEN 'ED008' THEN 'Try again in a second.'
	WHEN '42501' THEN format('Use the token of another role, or have a superuser call SELECT eda.grant_access(%L, %L).', current_user, access)
	END;
COMMENT ON FUNCTION eda_http.mcp_advice(text, text) IS
	'Return what a model can do about an error of a tool: code is the SQLSTATE, access the kind '
	'of access that the tool needs; null for other errors.';

CREATE FUNCTION eda_http.mcp_call_tool(params jsonb, OUT result json, OUT wait_for text, OUT wait_ms integer) RETURNS record
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	tool record;
	arguments CONSTANT jsonb := coalesce(nullif(params -> 'arguments', 'null'), '{}');
	done record;
	message text;
	detail text;
	hint text;
	code text;
BEGIN
	IF jsonb_typeof(params -> 'name') IS DISTINCT FROM 'string' THEN
		PERFORM eda_http.mcp_refuse(-32602, 'params.name must be the name of a tool');
	ELSIF jsonb_typeof(arguments) <> 'object' THEN
		PERFORM eda_http.mcp_refuse(-32602, 'params.arguments must be an object');
	END IF;
	SELECT t.* INTO tool FROM eda_http.mcp_tools(params ->> 'name') t;
	IF tool.name IS NULL THEN
		PERFORM eda_http.mcp_refuse(-32602, format('Unknown tool: %s', left(params ->> 'name', 100)));
	END IF;

	BEGIN
		PERFORM eda_http.mcp_check_arguments(tool.name, tool.input, arguments);
		SELECT * INTO done FROM eda_http.mcp_call(tool.name, arguments);
		result := json_build_object('content', json_build_array(
				json_build_object('type', 'text', 'text', done.said), json_build_object('type', 'text', 'text', done.data::text)),
			'structuredContent', done.data, 'isError', false);
		wait_for := done.wait_for;
		wait_ms := done.wait_ms;
		RETURN;
	-- A code that ends in 000 stands for all codes of its class.
	EXCEPTION WHEN SQLSTATE 'ED000' OR SQLSTATE '22000' OR SQLSTATE '23000' OR SQLSTATE '54000' OR insufficient_privilege
		OR duplicate_object OR configuration_limit_exceeded THEN
		GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, detail = PG_EXCEPTION_DETAIL,
			hint = PG_EXCEPTION_HINT;
	END;
	result := json_build_object('content', json_build_array(json_build_object('type', 'text', 'text', concat_ws(E'\n', message,
			'Detail: ' || nullif(detail, ''), 'Hint: ' || nullif(hint, ''), 'What to do: ' || eda_http.mcp_advice(code, tool.access),
			'Code: ' || code))),
		'isError', true);
END $$;
COMMENT ON FUNCTION eda_http.mcp_call_tool(jsonb) IS
	'Return the result of tools/call: what the tool did, or the error that it raised.  After an '
	'error, nothing that the tool did is kept.  wait_for and wait_ms: as in eda_http.response.';

/* ------------------------------------------------------------------------
 * Resources
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda_http.mcp_list_templates() RETURNS json
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT json_build_object('resourceTemplates', json_agg(json_build_object('uriTemplate', t.template, 'name', t.name, 'title', t.title,
		'description', t.description, 'mimeType', 'application/json')))
	FROM (VALUES
		('event://{id}', 'event', 'An event',
			'An event with its payload, headers and state, its history (at most 1000 '
			'transitions), and the events that it descends from or that descend from it.'),
		('events://pending/{flowType}', 'pending', 'The events that wait in a queue',
			'How many events of a flow type are in each state, and the newest of those that wait '
			'for a worker (dispatched) or until they are due (awaiting_processing), up to 100 of '
			'each.  Only the newest 5,000 events are searched; complete: false means that more '
			'events may wait, as the counts show.'),
		('config://{eventType}', 'config', 'The rules of an event type',
			'Attempts, delays, lifespan, lease, limits and whether it is suspended; update_lifecycle_config changes them.')
	) t(template, name, title, description);
$$;
COMMENT ON FUNCTION eda_http.mcp_list_templates() IS
	'Return the result of resources/templates/list.';

-- For a role that is no monitor, the list is empty.
CREATE FUNCTION eda_http.mcp_resources(OUT uri text, OUT name text, OUT title text, OUT description text) RETURNS SETOF record
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN QUERY
	SELECT 'config://' || t.event_type, 'config ' || t.event_type, 'Rules of event type ' || t.event_type,
		format('Attempts, delays, lifespan, lease and limits of event type %s, which belongs to flow type %s.', t.event_type, t.flow_type)
	FROM eda.event_type t
	UNION ALL
	SELECT DISTINCT 'events://pending/' || t.flow_type, 'pending ' || t.flow_type, 'The events that wait in ' || t.flow_type,
		format('The events of flow type %s that wait, and how many of its events are in each state.', t.flow_type)
	FROM eda.event_type t
	UNION ALL
	VALUES ('metrics://queues', 'queues', 'The queues in numbers',
		'How many events of each event type are in each state and came to it in the last minute, '
		'how long the oldest due event has waited, and the status of the engine.');
EXCEPTION WHEN insufficient_privilege THEN
	RETURN;
END $$;
COMMENT ON FUNCTION eda_http.mcp_resources() IS
	'Return the resources for resources/list: the metrics, and one for each event type and each '
	'flow type.';

-- The cursor of a page is the last URI of the page before.
CREATE FUNCTION eda_http.mcp_list_resources(cursor_uri text) RETURNS json
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	WITH page AS MATERIALIZED (
		SELECT r.* FROM eda_http.mcp_resources() r WHERE r.uri COLLATE "C" > coalesce(cursor_uri, '')
		ORDER BY r.uri COLLATE "C" LIMIT 201
	), shown AS (
		SELECT * FROM page ORDER BY uri COLLATE "C" LIMIT 200
	), listed AS (
		SELECT coalesce(json_agg(json_build_object('uri', uri, 'name', name, 'title', title, 'description', description,
			'mimeType', 'application/json') ORDER BY uri COLLATE "C"), '[]') AS resources, max(uri COLLATE "C") AS last FROM shown
	)
	SELECT CASE WHEN (SELECT count(*) FROM page) > 200 THEN json_build_object('resources', resources, 'nextCursor', last)
		ELSE json_build_object('resources', resources) END
	FROM listed;
$$;
COMMENT ON FUNCTION eda_http.mcp_list_resources(text) IS
	'Return the result of resources/list: up to 200 resources whose URIs come after cursor_uri.';

CREATE FUNCTION eda_http.mcp_resource(uri text) RETURNS json
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	path CONSTANT text := substr(uri, strpos(uri, '://') + 3);
	counts json;
	waiting eda_http.response;
	ready eda_http.response;
BEGIN
	CASE
		WHEN uri = 'metrics://queues' THEN
			RETURN (eda_http.counts()).body;
		WHEN uri ~ '^event://[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' THEN
			RETURN (eda_http.event(path::uuid)).body;
		WHEN uri ~ '^config://[A-Za-z0-9_-]+$' THEN
			RETURN (eda_http.event_type(path)).body;
		WHEN uri ~ '^events://pending/[A-Za-z0-9_-]+$' THEN
			SELECT json_agg(t) INTO counts FROM json_array_elements((eda_http.counts()).body -> 'types') t
			WHERE t ->> 'flow_type' = substr(path, 9);
			IF counts IS NULL THEN
				RETURN NULL;
			END IF;
			ready := eda_http.events(state => 'dispatched', flow_type => substr(path, 9), page_size => 100);
			waiting := eda_http.events(state => 'awaiting_processing', flow_type => substr(path, 9), page_size => 100);
			RETURN json_build_object('flow_type', substr(path, 9), 'types', counts, 'dispatched', ready.body -> 'events',
				'awaiting_processing', waiting.body -> 'events',
				'complete', ready.body ->> 'next' IS NULL AND waiting.body ->> 'next' IS NULL);
		ELSE
			RETURN NULL;
	END CASE;
EXCEPTION WHEN SQLSTATE 'ED004' OR SQLSTATE 'ED005' THEN
	RETURN NULL;
END $$;
COMMENT ON FUNCTION eda_http.mcp_resource(text) IS
	'Return the content of a resource; null if there is no such resource.';

CREATE FUNCTION eda_http.mcp_read_resource(params jsonb, modern boolean) RETURNS json
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	uri CONSTANT text := params ->> 'uri';
	content json;
BEGIN
	IF jsonb_typeof(params -> 'uri') IS DISTINCT FROM 'string' THEN
		PERFORM eda_http.mcp_refuse(-32602, 'params.uri must be the URI of a resource');
	END IF;
	content := eda_http.mcp_resource(uri);
	IF content IS NULL THEN
		PERFORM eda_http.mcp_refuse(CASE WHEN modern THEN -32602 ELSE -32002 END, 'Resource not found',
			json_build_object('uri', left(uri, 200)));
	END IF;
	RETURN json_build_object('contents', json_build_array(
		json_build_object('uri', uri, 'mimeType', 'application/json', 'text', content::text)));
EXCEPTION WHEN insufficient_privilege THEN
	-- The protocol has no code for a missing right.
	PERFORM eda_http.mcp_refuse(42501, SQLERRM,
		json_build_object('uri', left(uri, 200), 'hint', eda_http.mcp_advice('42501', 'monitor')));
END $$;
COMMENT ON FUNCTION eda_http.mcp_read_resource(jsonb, boolean) IS
	'Return the result of resources/read, or raise MCP01.';

CREATE FUNCTION eda_http.mcp_complete(params jsonb) RETURNS json
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	prefix text := params #>> '{argument,value}';
	scheme text;
	names text[];
BEGIN
	IF params #>> '{ref,type}' IS DISTINCT FROM 'ref/resource' OR jsonb_typeof(params #> '{ref,uri}') IS DISTINCT FROM 'string'
		OR jsonb_typeof(params #> '{argument,name}') IS DISTINCT FROM 'string'
		OR jsonb_typeof(params #> '{argument,value}') IS DISTINCT FROM 'string' THEN
		PERFORM eda_http.mcp_refuse(-32602,
			'params must have ref {"type": "ref/resource", "uri": a resource template} and argument {"name", "value"}');
	END IF;
	scheme := CASE (params #>> '{ref,uri}') || ' ' || (params #>> '{argument,name}')
		WHEN 'config://{eventType} eventType' THEN 'config://'
		WHEN 'events://pending/{flowType} flowType' THEN 'events://pending/' END;
	names := ARRAY(SELECT substr(r.uri, length(scheme) + 1) FROM eda_http.mcp_resources() r
		WHERE starts_with(r.uri, scheme) AND starts_with(lower(substr(r.uri, length(scheme) + 1)), lower(prefix))
		ORDER BY r.uri COLLATE "C");
	RETURN json_build_object('completion', json_build_object('values', to_json(names[1:100]), 'total', cardinality(names),
		'hasMore', cardinality(names) > 100));
END $$;
COMMENT ON FUNCTION eda_http.mcp_complete(jsonb) IS
	'Return the result of completion/complete: the names of event types or flow types that begin '
	'with the given text, in any case; or raise MCP01.';

/* ------------------------------------------------------------------------
 * Messages
 * ------------------------------------------------------------------------ */


CREATE FUNCTION eda_http.mcp_do(method text, params jsonb, modern boolean, OUT result json, OUT wait_for text, OUT wait_ms integer)
RETURNS record
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	ttl integer;						-- for how many ms a client may keep the result
	cache_scope text := 'public';		-- whether clients with other tokens may use it, too
	meta json;
	cursor_uri CONSTANT text := params ->> 'cursor';
BEGIN
	IF method = ANY (CASE WHEN modern THEN '{initialize,ping}' ELSE '{server/discover}' END::text[]) OR method NOT IN (
		'initialize', 'ping', 'server/discover', 'tools/list', 'tools/call', 'resources/list', 'resources/templates/list',
		'resources/read', 'completion/complete') THEN
		PERFORM eda_http.mcp_refuse(-32601, format('Method not found: %s', left(method, 100)),
			status => CASE WHEN modern THEN 404 ELSE 200 END);
	END IF;
	IF method LIKE '%/list' AND params ? 'cursor' AND (jsonb_typeof(params -> 'cursor') <> 'string'
		OR method <> 'resources/list' OR cursor_uri !~ '^[a-z]+://[A-Za-z0-9_/-]+$') THEN
		PERFORM eda_http.mcp_refuse(-32602, 'params.cursor is not a nextCursor of this list');
	END IF;

	CASE method
		WHEN 'initialize' THEN
			IF jsonb_typeof(params -> 'protocolVersion') IS DISTINCT FROM 'string' THEN
				PERFORM eda_http.mcp_refuse(-32602, 'params.protocolVersion must be a string');
			END IF;
			-- The revision that the client asks for, else the newest that has "initialize".
			result := json_build_object(
				'protocolVersion', CASE WHEN params ->> 'protocolVersion' = ANY (eda_http.mcp_versions())
					AND NOT eda_http.mcp_is_modern(params ->> 'protocolVersion') THEN params ->> 'protocolVersion'
					ELSE (SELECT v FROM unnest(eda_http.mcp_versions()) WITH ORDINALITY x(v, n)
						WHERE NOT eda_http.mcp_is_modern(v) ORDER BY n LIMIT 1) END,
				'capabilities', eda_http.mcp_capabilities(), 'serverInfo', eda_http.mcp_server(),
				'instructions', eda_http.mcp_instructions());
		WHEN 'ping' THEN
			result := '{}';
		WHEN 'server/discover' THEN
			result := json_build_object(
				'supportedVersions', (SELECT json_agg(v ORDER BY n) FROM unnest(eda_http.mcp_versions()) WITH ORDINALITY x(v, n)
					WHERE eda_http.mcp_is_modern(v)),
				'capabilities', eda_http.mcp_capabilities(), 'instructions', eda_http.mcp_instructions());
			ttl := 3600000;
		WHEN 'tools/list' THEN
			result := eda_http.mcp_list_tools();
			ttl := 3600000;
		WHEN 'tools/call' THEN
			SELECT c.result, c.wait_for, c.wait_ms INTO result, wait_for, wait_ms FROM eda_http.mcp_call_tool(params) c;
		WHEN 'resources/list' THEN
			result := eda_http.mcp_list_resources(cursor_uri);
			ttl := 10000;
			cache_scope := 'private';
		WHEN 'resources/templates/list' THEN
			result := eda_http.mcp_list_templates();
			ttl := 3600000;
		WHEN 'resources/read' THEN
			result := eda_http.mcp_read_resource(params, modern);
			ttl := 0;
			cache_scope := 'private';
		WHEN 'completion/complete' THEN
			result := eda_http.mcp_complete(params);
	END CASE;
	IF modern THEN
		meta := json_build_object('io.modelcontextprotocol/serverInfo', eda_http.mcp_server());
		result := eda_http.mcp_join(eda_http.mcp_join('{"resultType": "complete"}', result), CASE WHEN ttl IS NULL
			THEN json_build_object('_meta', meta)
			ELSE json_build_object('ttlMs', ttl, 'cacheScope', cache_scope, '_meta', meta) END);
	END IF;
END $$;
COMMENT ON FUNCTION eda_http.mcp_do(text, jsonb, boolean) IS
	'Carry out one JSON-RPC request and return its result, or raise MCP01.  wait_for and '
	'wait_ms: as in eda_http.response.';

CREATE FUNCTION eda_http.mcp_era(
	method text, params jsonb, protocol_version text, mcp_method text, mcp_name text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	version_key CONSTANT text := 'io.modelcontextprotocol/protocolVersion';
	capabilities_key CONSTANT text := 'io.modelcontextprotocol/clientCapabilities';
	meta CONSTANT jsonb := params -> '_meta';
	claimed CONSTANT text := meta ->> version_key;
	field text;
	wrong text;
BEGIN
	IF meta ? version_key AND jsonb_typeof(meta) = 'object' THEN
		IF jsonb_typeof(meta -> version_key) <> 'string' OR jsonb_typeof(meta -> capabilities_key) IS DISTINCT FROM 'object' THEN
			PERFORM eda_http.mcp_refuse(-32602, format('params._meta must have "%s", a string, and "%s", an object',
				version_key, capabilities_key), status => 400);
		END IF;
	ELSIF method = 'initialize' THEN
		RETURN false;
	END IF;

	IF protocol_version <> claimed THEN
		wrong := format('the header MCP-Protocol-Version is "%s", but the body has "%s"', left(protocol_version, 100), left(claimed, 100));
	ELSIF coalesce(claimed, protocol_version) <> ALL (eda_http.mcp_versions()) THEN
		PERFORM eda_http.mcp_refuse(-32022, 'Unsupported protocol version',
			eda_http.mcp_unsupported(coalesce(claimed, protocol_version)), 400);
	ELSIF claimed IS NULL AND eda_http.mcp_is_modern(protocol_version) THEN
		PERFORM eda_http.mcp_refuse(-32602, format('params._meta must have "%s" and "%s"', version_key, capabilities_key), status => 400);
	ELSIF NOT eda_http.mcp_is_modern(claimed) THEN
		RETURN false;
	END IF;

	-- Proxies may have routed or admitted the request by its headers, so these must agree with
	-- the body.
	field := CASE WHEN method IN ('tools/call', 'prompts/get') THEN 'name' WHEN method = 'resources/read' THEN 'uri' END;
	wrong := CASE
		WHEN wrong IS NOT NULL THEN wrong
		WHEN protocol_version IS NULL THEN 'the header MCP-Protocol-Version is missing'
		WHEN mcp_method IS NULL THEN 'the header Mcp-Method is missing'
		WHEN mcp_method <> method THEN format('the header Mcp-Method is "%s", but the method in the body is "%s"',
			left(mcp_method, 100), left(method, 100))
		WHEN jsonb_typeof(params -> field) = 'string' AND mcp_name IS NULL THEN 'the header Mcp-Name is missing'
		WHEN jsonb_typeof(params -> field) = 'string' AND eda_http.mcp_header(mcp_name) IS DISTINCT FROM params ->> field
			THEN format('the header Mcp-Name is "%s", but the %s in the body is "%s"', left(mcp_name, 100), field,
				left(params ->> field, 100)) END;
	IF wrong IS NOT NULL THEN
		PERFORM eda_http.mcp_refuse(-32020, 'Header mismatch: ' || wrong, status => 400);
	END IF;
	RETURN true;
END $$;
COMMENT ON FUNCTION eda_http.mcp_era(text, jsonb, text, text, text) IS
	'Return whether a request is in a modern revision of the protocol, one without "initialize".  '
	'Raise MCP01 if this server does not speak its revision, or if its headers differ from its '
	'body.';

CREATE FUNCTION eda_http.mcp_header(value text) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
BEGIN
	value := btrim(value, E' \t');
	IF value !~ '^=\?base64\?.*\?=$' THEN
		RETURN value;
	END IF;
	RETURN convert_from(decode(substr(value, 10, length(value) - 11), 'base64'), 'UTF8');
EXCEPTION WHEN data_exception THEN
	RETURN NULL;
END $$;
COMMENT ON FUNCTION eda_http.mcp_header(text) IS
	'Return the value of a header, decoded if it is =?base64?...?=; null if it cannot be '
	'decoded.';

CREATE FUNCTION eda_http.mcp_message(
	message jsonb, protocol_version text, mcp_method text, mcp_name text, in_batch boolean) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	id CONSTANT jsonb := message -> 'id';
	method CONSTANT text := message ->> 'method';
	params CONSTANT jsonb := coalesce(message -> 'params', '{}');
	has_id boolean;
	is_response boolean;
	modern boolean := eda_http.mcp_is_modern(protocol_version);
	done record;
	error json;
	refusal text;
BEGIN
	IF jsonb_typeof(message) IS DISTINCT FROM 'object' OR message ->> 'jsonrpc' IS DISTINCT FROM '2.0' THEN
		RETURN eda_http.mcp_error(NULL, -32600, 'Invalid Request: a JSON-RPC 2.0 message is an object with "jsonrpc": "2.0"', NULL, 400);
	END IF;
	has_id := CASE jsonb_typeof(id) WHEN 'string' THEN true WHEN 'number' THEN id::numeric = trunc(id::numeric) ELSE false END;
	IF message ? 'id' AND NOT has_id AND NOT (id = 'null' AND message ? 'error') THEN
		RETURN eda_http.mcp_error(NULL, -32600, 'Invalid Request: "id" must be a string or a whole number', NULL, 400);
	END IF;
	is_response := NOT message ? 'method' AND (message ? 'result' OR message ? 'error');
	IF NOT is_response AND jsonb_typeof(message -> 'method') IS DISTINCT FROM 'string' THEN
		RETURN eda_http.mcp_error(id::json, -32600, 'Invalid Request: "method" must be a string', NULL, 400);
	ELSIF is_response OR NOT message ? 'id' THEN
		IF protocol_version <> ALL (eda_http.mcp_versions()) THEN
			RETURN eda_http.mcp_error(NULL, -32022, 'Unsupported protocol version', eda_http.mcp_unsupported(protocol_version), 400);
		END IF;
		RETURN (202, NULL, NULL, NULL, NULL, NULL)::eda_http.response;
	ELSIF in_batch AND method = 'initialize' THEN
		RETURN eda_http.mcp_error(id::json, -32600, 'Invalid Request: "initialize" must not be in a batch', NULL, 400);
	END IF;

	BEGIN
		IF jsonb_typeof(params) <> 'object' OR jsonb_typeof(params -> '_meta') <> 'object' THEN
			PERFORM eda_http.mcp_refuse(-32602, 'params and params._meta must be objects', status => CASE WHEN modern THEN 400 ELSE 200 END);
		END IF;
		modern := eda_http.mcp_era(method, params, protocol_version, mcp_method, mcp_name);
		SELECT * INTO done FROM eda_http.mcp_do(method, params, modern);
	EXCEPTION WHEN SQLSTATE 'MCP01' THEN
		GET STACKED DIAGNOSTICS refusal = PG_EXCEPTION_DETAIL;
		error := refusal;
		RETURN eda_http.mcp_error(id::json, (error ->> 'code')::integer, SQLERRM,
			CASE WHEN error ->> 'data' IS NOT NULL THEN error -> 'data' END, (error ->> 'status')::integer);
	END;
	RETURN (200, NULL, NULL, json_build_object('jsonrpc', '2.0', 'id', id::json, 'result', done.result),
		done.wait_for, done.wait_ms)::eda_http.response;
END $$;
COMMENT ON FUNCTION eda_http.mcp_message(jsonb, text, text, text, boolean) IS
	'Return the answer to one JSON-RPC message.  A notification or a response is ignored, and '
	'answered with status 202 and no body.';

CREATE FUNCTION eda_http.mcp(
	body				jsonb,
	protocol_version	text DEFAULT NULL,
	mcp_method			text DEFAULT NULL,
	mcp_name			text DEFAULT NULL
) RETURNS eda_http.response
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	max_batch CONSTANT integer := 100;
	message jsonb;
	answer eda_http.response;
	answers json[] := '{}';
BEGIN
	IF jsonb_typeof(body) IS DISTINCT FROM 'array' THEN
		RETURN eda_http.mcp_message(body, protocol_version, mcp_method, mcp_name, false);
	END IF;
	IF protocol_version <> ALL (eda_http.mcp_versions()) THEN
		RETURN eda_http.mcp_error(NULL, -32022, 'Unsupported protocol version', eda_http.mcp_unsupported(protocol_version), 400);
	-- A message without the header is in revision 2025-03-26, the last one that has batches.
	ELSIF protocol_version COLLATE "C" > '2025-03-26' THEN
		RETURN eda_http.mcp_error(NULL, -32600, format('Invalid Request: revision %s has no batches', left(protocol_version, 100)),
			NULL, 400);
	ELSIF jsonb_array_length(body) NOT BETWEEN 1 AND max_batch THEN
		RETURN eda_http.mcp_error(NULL, -32600, format('Invalid Request: a batch has 1 to %s messages', max_batch), NULL, 400);
	END IF;
	FOR message IN SELECT m FROM jsonb_array_elements(body) m LOOP
		IF message -> 'params' -> '_meta' ? 'io.modelcontextprotocol/protocolVersion' THEN
			answer := eda_http.mcp_error(NULL, -32600, 'Invalid Request: this revision has no batches', NULL, 400);
		ELSE
			answer := eda_http.mcp_message(message, protocol_version, NULL, NULL, true);
		END IF;
		IF answer.body IS NOT NULL THEN
			answers := answers || answer.body;
		END IF;
	END LOOP;
	IF cardinality(answers) = 0 THEN
		RETURN (202, NULL, NULL, NULL, NULL, NULL)::eda_http.response;
	END IF;
	RETURN eda_http.answer(array_to_json(answers));
END $$;
COMMENT ON FUNCTION eda_http.mcp(jsonb, text, text, text) IS
	'POST /mcp: answer a message of the Model Context Protocol, or a batch of messages.  The '
	'other arguments are the values of the headers MCP-Protocol-Version, Mcp-Method and '
	'Mcp-Name.';
