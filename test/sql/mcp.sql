-- eda_http.mcp() speaks the Model Context Protocol: both eras of it, every tool and resource, and whatever a client sends.
SELECT count(*) FROM eda.configure('MCP_PAID', 'mcp_receipts', attempt_delays => '{1 day}');
SELECT count(*) FROM eda.configure('MCP', 'mcp', max_attempts => 2, attempt_delays => '{0 s, 1 hour}', lease => '5 min');

\pset format unaligned
\pset tuples_only on
-- Return the answer to a message: its status and body.
CREATE FUNCTION t.mcp(message jsonb, version text DEFAULT NULL, method text DEFAULT NULL, name text DEFAULT NULL) RETURNS text
LANGUAGE sql RETURN (
	SELECT t.mask(r.status || coalesce(' ' || r.body, '') || coalesce(' (waits ' || r.wait_ms || ' ms for ' || r.wait_for || ')', ''))
	FROM eda_http.mcp(message, version, method, name) r);
CREATE FUNCTION t.rpc(method text, params jsonb DEFAULT '{}', version text DEFAULT '2025-11-25') RETURNS text LANGUAGE sql
RETURN t.mcp(jsonb_build_object('jsonrpc', '2.0', 'id', 1, 'method', method, 'params', params), version);
-- Send a request of the era without "initialize", with the headers that belong to it.
CREATE FUNCTION t.modern(method text, params jsonb DEFAULT '{}') RETURNS text LANGUAGE sql
RETURN t.mcp(jsonb_build_object('jsonrpc', '2.0', 'id', 'm', 'method', method, 'params', params || '{"_meta":
	{"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}}'),
	'2026-07-28', method, coalesce(params ->> 'name', params ->> 'uri'));
-- Call a tool; return what it says and its data, or its error.
CREATE FUNCTION t.call(tool text, arguments jsonb) RETURNS json LANGUAGE sql
RETURN (SELECT r.body -> 'result' FROM eda_http.mcp(jsonb_build_object('jsonrpc', '2.0', 'id', 1, 'method', 'tools/call',
	'params', jsonb_build_object('name', tool, 'arguments', arguments))) r);
CREATE FUNCTION t.plain(line text) RETURNS text LANGUAGE sql
RETURN regexp_replace(regexp_replace(t.mask(line), '\m(in )?\d+ (ms|s|min|h|days)( ago)?\M', '<span>', 'g'), '<time> UTC', '<time>', 'g');
CREATE FUNCTION t.tool(tool text, arguments jsonb) RETURNS text LANGUAGE sql
RETURN (SELECT t.plain((r ->> 'isError') || ': ' || (r #>> '{content,0,text}') || coalesce(E'\n' || (r ->> 'structuredContent'), ''))
	FROM t.call(tool, arguments) r);

-- ------------------------------------------------------------------------
-- Messages
-- ------------------------------------------------------------------------

-- The server chooses the revision that the client asks for, else the newest that has "initialize".
SELECT v AS asked, t.mcp(jsonb_build_object('jsonrpc', '2.0', 'id', 1, 'method', 'initialize', 'params', jsonb_build_object('protocolVersion', v,
	'capabilities', '{}'::json, 'clientInfo', '{"name": "test", "version": "1"}'::json)))::text ~ ('"protocolVersion" : "' || answer || '"') AS good
FROM (VALUES ('2025-11-25', '2025-11-25'), ('2025-06-18', '2025-06-18'), ('2025-03-26', '2025-03-26'), ('2024-11-05', '2024-11-05'),
	('2024-10-07', '2024-10-07'), ('2023-01-01', '2025-11-25'), ('2026-07-28', '2025-11-25'), ('9999-99-99', '2025-11-25'), ('', '2025-11-25')) x(v, answer);
SELECT r.status, r.body #> '{result,capabilities}' AS capabilities, (r.body #> '{result,serverInfo}')::text AS server,
	length(r.body #>> '{result,instructions}') > 500 AS instructions
FROM eda_http.mcp('{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}}') r;
SELECT r.body #>> '{result,serverInfo,version}' = e.extversion AS version
FROM eda_http.mcp('{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18"}}') r, pg_extension e WHERE e.extname = 'eda';
SELECT t.rpc('initialize', '{}');
SELECT t.rpc('initialize', '{"protocolVersion": 7}');
SELECT t.rpc('ping', version => NULL);
SELECT t.rpc('ping');
SELECT t.mcp('{"jsonrpc": "2.0", "id": "a \"b\"", "method": "ping"}');
SELECT t.mcp('{"jsonrpc": "2.0", "id": 12345678901234567890, "method": "ping"}');
-- Notifications and responses get no answer.
SELECT t.mcp('{"jsonrpc": "2.0", "method": "notifications/initialized"}', '2025-11-25');
SELECT t.mcp('{"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}', '2026-07-28');
SELECT t.mcp('{"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "publish_event", "arguments": {"event_type": "MCP", "flow_id": "never"}}}');
SELECT t.mcp('{"jsonrpc": "2.0", "id": 5, "result": {}}', '2025-11-25');
SELECT t.mcp('{"jsonrpc": "2.0", "id": null, "error": {"code": -32700, "message": "?"}}', '2025-11-25');
SELECT count(*) FROM eda.event WHERE flow_id = 'never';
-- unknown methods
SELECT t.rpc(m) FROM unnest('{nonsense,tools/List,prompts/list,logging/setLevel,resources/subscribe,server/discover,notifications/initialized}'::text[]) m;
SELECT t.rpc('');
-- unknown revisions
SELECT t.rpc('ping', version => v) FROM unnest('{2025-11-24,"",2026-07-29,latest}'::text[]) v;
SELECT t.mcp('{"jsonrpc": "2.0", "method": "notifications/initialized"}', '2025-01-01');
-- messages that are no JSON-RPC messages
SELECT m, t.mcp(m) FROM unnest(ARRAY[NULL, 'null', '7', '"ping"', '{}', '{"jsonrpc": "1.0", "id": 1, "method": "ping"}', '{"id": 1, "method": "ping"}',
	'{"jsonrpc": "2.0", "id": null, "method": "ping"}', '{"jsonrpc": "2.0", "id": 1.5, "method": "ping"}', '{"jsonrpc": "2.0", "id": {}, "method": "ping"}',
	'{"jsonrpc": "2.0", "id": 1}', '{"jsonrpc": "2.0", "id": 1, "method": 7}', '{"jsonrpc": "2.0", "id": 1, "method": null}']::jsonb[]) m;
SELECT p, t.rpc('ping', p) FROM unnest('{[],7,"\"x\"",null}'::jsonb[]) p;
SELECT t.rpc('ping', '{"_meta": 7}');

-- Batches exist in revision 2025-03-26, which is also that of a client without the header.
SELECT t.mcp('[{"jsonrpc": "2.0", "id": 1, "method": "ping"}, {"jsonrpc": "2.0", "method": "notifications/initialized"}, 7,
	{"jsonrpc": "2.0", "id": 2, "method": "nonsense"}, {"jsonrpc": "2.0", "id": 3, "method": "initialize", "params": {"protocolVersion": "2025-03-26"}}]', '2025-03-26');
SELECT t.mcp('[{"jsonrpc": "2.0", "method": "notifications/initialized"}, {"jsonrpc": "2.0", "id": 1, "result": {}}]');
SELECT t.mcp('[{"jsonrpc": "2.0", "id": 1, "method": "ping"}]', v) FROM unnest('{2025-06-18,2025-11-25,2026-07-28,2025-01-01}'::text[]) v;
SELECT t.mcp('[]');
SELECT t.mcp((SELECT jsonb_agg('{"jsonrpc": "2.0", "id": 1, "method": "ping"}'::jsonb) FROM generate_series(1, 101)));
SELECT t.mcp('[{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}}]');

-- the era without "initialize"
SELECT (r.body -> 'result') - 'instructions' AS discovered FROM (
	SELECT jsonb(body) AS body FROM eda_http.mcp('{"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta":
	{"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}}}', '2026-07-28', 'server/discover')) r;
SELECT t.modern(m) FROM unnest('{initialize,ping,nonsense,subscriptions/listen}'::text[]) m;
SELECT t.modern('resources/read', '{"uri": "config://NONE"}');
SELECT t.modern('tools/call', '{"name": "suspend_event_type", "arguments": {"event_type": "NONE"}}');
SELECT method, (x.result ->> 'ttlMs')::integer AS ttl, x.result ->> 'cacheScope' AS scope, x.result ->> 'resultType' AS type, x.result ? '_meta' AS server
FROM unnest('{tools/list,resources/list,resources/templates/list}'::text[]) method,
	LATERAL (SELECT substr(t.modern(method), 5)::jsonb -> 'result' AS result) x;
-- requests of that era whose _meta or headers are wrong
CREATE FUNCTION t.era(meta jsonb, version text, method text DEFAULT 'tools/call', name text DEFAULT 'x') RETURNS text LANGUAGE sql
RETURN t.mcp(jsonb_build_object('jsonrpc', '2.0', 'id', 1, 'method', 'tools/call', 'params', jsonb_build_object('name', 'x', '_meta', meta)), version, method, name);
SELECT t.era('{}', '2026-07-28');
SELECT t.era('{"io.modelcontextprotocol/protocolVersion": "2026-07-28"}', '2026-07-28');
SELECT t.era('{"io.modelcontextprotocol/protocolVersion": 7, "io.modelcontextprotocol/clientCapabilities": {}}', '2026-07-28');
SELECT t.era('{"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": 7}', '2026-07-28');
SELECT t.era('{"io.modelcontextprotocol/protocolVersion": "2027-01-01", "io.modelcontextprotocol/clientCapabilities": {}}', '2027-01-01');
SELECT t.era('{"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}', version, method, name)
FROM (VALUES (NULL, 'tools/call', 'x'), ('2025-11-25', 'tools/call', 'x'), ('2026-07-28', NULL, 'x'), ('2026-07-28', 'tools/list', 'x'),
	('2026-07-28', 'tools/call', NULL), ('2026-07-28', 'tools/call', 'y'), ('2026-07-28', 'tools/call', '=?base64?eA=?='),
	('2026-07-28', 'tools/call', '=?base64?eQ==?='), ('2026-07-28', 'tools/call', '=?base64?eA==?='), ('2026-07-28', 'tools/call', ' x ')) h(version, method, name);
-- A request of the older era may have any _meta.
SELECT t.rpc('ping', '{"_meta": {"progressToken": 1, "x/y": {}}}');

-- ------------------------------------------------------------------------
-- Tools
-- ------------------------------------------------------------------------

SELECT x.name, x.annotations ->> 'readOnlyHint' AS read_only, x.annotations ->> 'destructiveHint' AS destructive,
	x.annotations ->> 'idempotentHint' AS idempotent, x.annotations ->> 'openWorldHint' AS open_world,
	length(x.description) > 200 AND x.title <> '' AS described,
	(SELECT bool_and(p.value ? 'description' OR p.key IN ('event_id')) FROM jsonb_each(x."inputSchema" -> 'properties') p) AS arguments_described,
	x."inputSchema" ->> 'type' = 'object' AND x."outputSchema" ->> 'type' = 'object' AND NOT (x."inputSchema" ->> 'additionalProperties')::boolean AS schemas,
	(SELECT bool_and(x."outputSchema" -> 'properties' ? r) FROM jsonb_array_elements_text(x."outputSchema" -> 'required') r) AS required
FROM eda_http.mcp('{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}') r, jsonb_to_recordset(r.body::jsonb #> '{result,tools}') x
	(name text, title text, description text, "inputSchema" jsonb, "outputSchema" jsonb, annotations jsonb);
SELECT t.rpc('tools/list', '{"cursor": "x"}');
SELECT t.rpc('tools/call', p) FROM unnest('{"{}","{\"name\": 7}","{\"name\": \"nonsense\"}","{\"name\": \"publish_event\", \"arguments\": []}"}'::jsonb[]) p;

-- one event from publication to success
SELECT t.tool('publish_event', '{"event_type": "MCP", "flow_id": "mcp 1", "payload": {"a": [1, "ü"]}, "headers": {"X-Any": "thing"}, "idempotency_key": "mcp 1"}');
SELECT t.tool('publish_event', '{"event_type": "MCP", "flow_id": "mcp 1", "idempotency_key": "mcp 1"}');
SELECT id FROM eda.event WHERE flow_id = 'mcp 1' \gset
SELECT t.reach(:'id', 'dispatched'), t.queued('mcp', 1);
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'id'));
SELECT t.tool('acquire_processing_permit', '{"flow_type": "mcp", "worker": "agent", "lease": 90}');
SELECT token, round(extract(epoch FROM lease_until - changed_at)) AS lease FROM eda.event_state WHERE id = :'id' \gset
SELECT :lease AS lease;
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'id'));
SELECT t.tool('acquire_processing_permit', '{"flow_type": "mcp"}');
SELECT t.mcp('{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "acquire_processing_permit", "arguments": {"flow_type": "mcp", "wait": 1.5}}}');
SELECT t.tool('acquire_processing_permit', jsonb_build_object('event_id', :'id'));
SELECT t.tool('report_failure', jsonb_build_object('event_id', :'id', 'token', :token, 'error_message', 'broken', 'stack_trace', 'in line 7', 'retry_in', 0));
SELECT t.reach(:'id', 'dispatched');
-- The attempt and its token have ended.
SELECT t.tool('report_success', jsonb_build_object('event_id', :'id', 'token', :token));
SELECT t.tool('acquire_processing_permit', jsonb_build_object('event_id', :'id', 'worker', 'agent', 'flow_type', NULL));
SELECT t.tool('report_success', jsonb_build_object('event_id', :'id', 'token', :token));
SELECT token FROM eda.event_state WHERE id = :'id' \gset
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'id'));
-- A call that fails leaves nothing behind: no transition and no spinoff event.
SELECT t.tool('report_success', jsonb_build_object('event_id', :'id', 'token', :token, 'spinoffs', '[{"event_type": "MCP_PAID"}, {"event_type": "NONE"}]'::json));
SELECT t.state(:'id'), count(*) FROM eda.event WHERE parent_id = :'id';
SELECT t.tool('report_success', jsonb_build_object('event_id', :'id', 'token', :token, 'result', '{"paid": true}'::json,
	'spinoffs', '[{"event_type": "MCP_PAID", "payload": {"n": 1}}, {"event_type": "MCP_PAID", "flow_id": "other"}]'::json));
SELECT t.tool('report_success', jsonb_build_object('event_id', :'id', 'token', :token));
SELECT t.tool('report_success', jsonb_build_object('event_id', :'id', 'token', :token, 'if_finished', 'ok'));
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'id'));

-- a dead letter
CALL t.take('MCP', 'mcp dead') \gset
SELECT t.tool('report_failure', jsonb_build_object('event_id', :'id', 'token', :token, 'error_message', 'hopeless', 'retry', false));
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'id'));
SELECT t.tool('redrive_event', jsonb_build_object('event_id', :'id', 'reason', 'the bank is back'));
SELECT t.reach(:'id', 'dispatched');
SELECT t.tool('redrive_event', jsonb_build_object('event_id', :'id'));
SELECT (eda.acquire(:'id', 'w')).token \gset
SELECT t.tool('report_failure', jsonb_build_object('event_id', :'id', 'token', :token, 'error_message', 'again'));
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'id'));
SELECT eda.cancel(:'id', 'enough');
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'id'));

-- a suspended event type
SELECT t.tool('suspend_event_type', '{"event_type": "MCP"}');
SELECT t.tool('suspend_event_type', '{"event_type": "MCP"}');
SELECT eda.publish('MCP', 'mcp stopped', headers => '{}') AS id \gset
SELECT t.reach(:'id', 'suspended');
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'id'));
SELECT t.tool('unsuspend_event_type', '{"event_type": "MCP"}');
SELECT t.tool('unsuspend_event_type', '{"event_type": "MCP"}');
SELECT t.reach(:'id', 'dispatched');
-- an event that is released, suspended and resumed
SELECT (eda.acquire(:'id', 'w')).token \gset
SELECT eda.release(:'id', :token, '1 hour', 'busy');
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'id'));
SELECT eda.suspend(:'id', now() + interval '2 days', reason => 'look first');
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'id'));
SELECT eda.resume(:'id', 'looked');
SELECT t.reach(:'id', 'dispatched');
SELECT (eda.acquire(:'id', 'w')).token \gset
SELECT eda.suspend(:'id', token => :token);
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'id'));
SELECT eda.cancel(:'id');
-- an event that expired, and one whose lease was lost
SELECT count(*) FROM eda.configure('MCP_SHORT', 'mcp_short', max_attempts => 2, lifespan => '1 hour', attempt_delays => '{0 s, 30 min}');
SELECT eda.publish('MCP_SHORT', 'mcp late', scheduled_at => eda.clock() + interval '1 min') AS id \gset
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'id'));
CALL t.take('MCP_SHORT', 'mcp lost', NULL, NULL) \gset lost_
SELECT eda.move_clock('40 min') IS NOT NULL AS moved;
SELECT t.reach(:'lost_id', 'awaiting_processing');
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'lost_id'));
SELECT t.reach(:'id', 'dispatched');
SELECT eda.move_clock('2 hours') IS NOT NULL AS moved;
SELECT t.reach(:'id', 'expired'), t.reach(:'lost_id', 'expired');
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'id'));
SELECT eda.move_clock('0') IS NOT NULL AS moved;
-- an event with more attempts than are shown
SELECT count(*) FROM eda.configure('MCP_MANY', 'mcp_many', max_attempts => 100, attempt_delays => '{0 s}');
SELECT eda.publish('MCP_MANY', 'mcp many') AS id \gset
CREATE PROCEDURE t.fail_often(id uuid, n integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM t.reach(id, 'dispatched');
		PERFORM eda.fail(id, 'error ' || i, token => a.token) FROM eda.acquire(id) a;
		COMMIT;
	END LOOP;
END $$;
CALL t.fail_often(:'id', 23);
SELECT t.reach(:'id', 'dispatched');
SELECT r #>> '{attempts,0,error}' AS first, r #>> '{attempts,19,error}' AS last, json_array_length(r -> 'attempts') AS shown, r ->> 'attempts_not_shown' AS not_shown,
	r ->> 'attempts_made' AS made
FROM (SELECT t.call('explain_event', jsonb_build_object('event_id', :'id')) -> 'structuredContent') x(r);
SELECT eda.cancel(:'id');

-- obstacles of an event
SELECT count(*) FROM eda.configure('MCP_ONE', 'mcp_one', max_in_flight => 1, attempt_delays => '{0 s}', lease => '10 min');
CALL t.take('MCP_ONE', 'mcp one', NULL, NULL) \gset one_
SELECT eda.publish('MCP_ONE', 'mcp two') AS id \gset
SELECT t.until($$(SELECT events FROM eda.queue_metrics WHERE event_type = 'MCP_ONE' AND state = 'being_processed') = 1$$);
SELECT t.plain(r #>> '{content,0,text}'), r #>> '{structuredContent,obstacles}' FROM t.call('explain_event', jsonb_build_object('event_id', :'id')) r;
SELECT eda.move_clock('11 min') IS NOT NULL AS moved;
SELECT t.reach(:'id', 'dispatched');
SELECT eda.move_clock('0') IS NOT NULL AS moved;
SELECT eda.cancel(:'id'), eda.cancel(:'one_id');
SET client_min_messages = warning;
SELECT count(*) FROM eda.configure('MCP_NATS', 'mcp_nats', delivery => 'nats', attempt_delays => '{0 s}');
RESET client_min_messages;
SELECT eda.publish('MCP_NATS', 'mcp nats') AS id \gset
SELECT t.tool('explain_event', jsonb_build_object('event_id', :'id'));
SELECT eda.cancel(:'id');

-- rules
SELECT t.tool('update_lifecycle_config', '{"event_type": "MCP", "max_attempts": 3, "lease": "1 min", "attempt_delays": ["1 s", "2 s"], "jitter": 0.5}');
SELECT t.tool('update_lifecycle_config', '{"event_type": "MCP", "attempt_delays": null, "jitter": null}');
SELECT t.tool('update_lifecycle_config', '{"event_type": "MCP_NEW", "flow_type": "mcp_new"}');
SELECT t.tool('update_lifecycle_config', '{"event_type": "MCP", "flow_type": "mcp"}');

-- errors of tools
SELECT t.tool('publish_event', '{"event_type": "NONE", "flow_id": "x"}');
SELECT t.tool('publish_event', '{"event_type": "MCP", "flow_id": ""}');
SELECT t.tool('publish_event', '{"event_type": "MCP"}');
SELECT t.tool('publish_event', '{"event_type": "MCP", "flow_id": "x", "colour": "red"}');
SELECT t.tool('publish_event', '{"event_type": "MCP", "flow_id": 7}');
SELECT t.tool('publish_event', '{"event_type": "MCP", "flow_id": "x", "scheduled_at": "soon"}');
SELECT t.tool('publish_event', '{"event_type": "MCP_PAID", "flow_id": "x", "event_id": "not one"}');
SELECT t.tool('publish_event', '{"event_type": "MCP", "flow_id": "other", "idempotency_key": "mcp 1"}');
SELECT t.tool('publish_event', jsonb_build_object('event_type', 'MCP', 'flow_id', 'x', 'payload', repeat('x', 2000000)));
SELECT t.tool('acquire_processing_permit', '{}');
SELECT t.tool('acquire_processing_permit', jsonb_build_object('flow_type', 'mcp', 'event_id', :'id'));
SELECT t.tool('acquire_processing_permit', '{"flow_type": "none"}');
SELECT t.tool('acquire_processing_permit', '{"flow_type": "mcp", "lease": -1}');
SELECT t.tool('acquire_processing_permit', jsonb_build_object('event_id', :'id', 'wait', 1));
SELECT t.tool('report_success', jsonb_build_object('event_id', :'id'));
SELECT t.tool('report_success', jsonb_build_object('event_id', :'id', 'token', '7'));
SELECT t.tool('report_success', jsonb_build_object('event_id', :'id', 'token', 1));
SELECT t.tool('report_failure', jsonb_build_object('event_id', :'id', 'token', 1));
SELECT t.tool('update_lifecycle_config', '{"event_type": "MCP", "flow_type": "other"}');
SELECT t.tool('update_lifecycle_config', '{"event_type": "mcp", "flow_type": "mcp"}');
SELECT t.tool('update_lifecycle_config', '{"event_type": "NONE"}');
SELECT t.tool('update_lifecycle_config', '{"event_type": "MCP", "lifespan": "1 s"}');
SELECT t.tool(tool, '{"event_type": "NONE"}') FROM unnest('{suspend_event_type,unsuspend_event_type}'::text[]) tool;
SELECT t.tool(tool, '{"event_id": "01890000-0000-7000-8000-000000000000"}') FROM unnest('{acquire_processing_permit,redrive_event,explain_event}'::text[]) tool;
SELECT t.tool(tool, '{"event_id": 7, "token": 1, "error_message": "x"}') FROM unnest('{report_success,report_failure}'::text[]) tool;
SELECT t.tool('explain_event', '{"event_id": "7"}');

-- The client is not told the text of an error that the tool does not expect.
BEGIN;
CREATE OR REPLACE FUNCTION eda_http.redrive(event_id uuid, body jsonb DEFAULT NULL) RETURNS eda_http.response LANGUAGE plpgsql AS $$
BEGIN
	PERFORM secret FROM eda.no_such_table;
END $$;
SELECT t.try($$SELECT t.tool('redrive_event', '{"event_id": "01890000-0000-7000-8000-000000000000"}')$$);
ROLLBACK;

-- ------------------------------------------------------------------------
-- Resources
-- ------------------------------------------------------------------------

SELECT r.body #>> '{result,resources,0,uri}' LIKE 'config://%' AS first, json_array_length(r.body #> '{result,resources}') = 1 + types + flows AS all_of_them,
	r.body #>> '{result,nextCursor}' AS next, (SELECT x FROM json_array_elements(r.body #> '{result,resources}') x WHERE x ->> 'uri' = 'config://MCP') AS one
FROM eda_http.mcp('{"jsonrpc": "2.0", "id": 1, "method": "resources/list"}') r,
	(SELECT count(*) AS types, count(DISTINCT flow_type) AS flows FROM eda.event_type) c;
SELECT t.rpc('resources/templates/list');
SELECT t.rpc('resources/list', '{"cursor": "events://zzz"}');
SELECT t.rpc('resources/list', p) FROM unnest('{"{\"cursor\": \"\"}","{\"cursor\": 7}","{\"cursor\": null}"}'::jsonb[]) p;

CREATE FUNCTION t.resource(uri text) RETURNS jsonb LANGUAGE sql
RETURN (SELECT (r.body #>> '{result,contents,0,text}')::jsonb FROM eda_http.mcp(jsonb_build_object('jsonrpc', '2.0', 'id', 1,
	'method', 'resources/read', 'params', jsonb_build_object('uri', uri))) r);
SELECT eda.publish('MCP', 'mcp r') AS id \gset
SELECT t.reach(:'id', 'dispatched');
SELECT t.resource('event://' || :'id') = (SELECT body::jsonb FROM eda_http.event(:'id')) AS event,
	t.resource('event://' || upper(:'id')) = t.resource('event://' || :'id') AS upper_case,
	t.resource('config://MCP') = (SELECT body::jsonb FROM eda_http.event_type('MCP')) AS config,
	t.resource('metrics://queues') ->> 'types' IS NOT NULL AS metrics;
SELECT r ->> 'flow_type' AS flow_type, r #>> '{dispatched,0,event_id}' = :'id' AS dispatched, r ->> 'awaiting_processing' AS waiting, r ? 'complete' AS complete,
	r #>> '{types,0,event_type}' AS type, r #> '{types,0,events}' ? 'dispatched' AS counted
FROM t.resource('events://pending/mcp') r;
SELECT r #>> '{awaiting_processing,0,flow_id}' AS newest, jsonb_array_length(r -> 'awaiting_processing') AS waiting, r -> 'dispatched' AS dispatched
FROM t.resource('events://pending/mcp_receipts') r;
SELECT eda.cancel(:'id');
SELECT t.rpc('resources/read', jsonb_build_object('uri', u)) FROM unnest(ARRAY['', 'x', 'event://', 'event://7', 'event://01890000-0000-7000-8000-000000000000',
	'event://' || :'id' || '/', 'events://pending/', 'events://pending/none', 'events://pending', 'events://failed/mcp', 'config://', 'config://NONE',
	'config://mcp', 'config://MCP/x', 'metrics://', 'metrics://queues/x', 'file:///etc/passwd', 'config://' || repeat('x', 300), 'config://''; DROP']) u;
SELECT t.rpc('resources/read', p) FROM unnest('{"{}","{\"uri\": 7}","{\"uri\": null}"}'::jsonb[]) p;

-- completion of names
CREATE FUNCTION t.complete(uri text, name text, value text) RETURNS text LANGUAGE sql
RETURN t.rpc('completion/complete', jsonb_build_object('ref', jsonb_build_object('type', 'ref/resource', 'uri', uri),
	'argument', jsonb_build_object('name', name, 'value', value)));
SELECT t.complete('config://{eventType}', 'eventType', 'mcp');
SELECT t.complete('events://pending/{flowType}', 'flowType', 'MCP_');
SELECT t.complete('events://pending/{flowType}', 'flowType', '%');
SELECT t.complete('event://{id}', 'id', '0');
SELECT t.rpc('completion/complete', p) FROM unnest(ARRAY['{}', '{"ref": {"type": "ref/prompt", "name": "x"}, "argument": {"name": "x", "value": ""}}',
	'{"ref": {"type": "ref/resource", "uri": "config://{eventType}"}, "argument": {"name": "eventType"}}', '{"ref": 7, "argument": []}']::jsonb[]) p;
-- more resources than fit on a page
BEGIN;
SELECT count(eda.configure(format('MCP_PAGE_%s', lpad(n::text, 3, '0')), 'mcp')) > 150 AS many FROM generate_series(1, current_setting('eda.max_event_types')::integer
	- (SELECT count(*)::integer FROM eda.event_type)) n;
WITH RECURSIVE page(n, r) AS (
	SELECT 1, substr(t.rpc('resources/list'), 5)::jsonb -> 'result'
	UNION ALL
	SELECT n + 1, substr(t.rpc('resources/list', jsonb_build_object('cursor', r -> 'nextCursor')), 5)::jsonb -> 'result' FROM page WHERE r ? 'nextCursor'
)
SELECT count(*) > 1 AS pages, max(jsonb_array_length(r -> 'resources')) AS most, count(DISTINCT x ->> 'uri') = (SELECT count(*) FROM eda_http.mcp_resources()) AS complete
FROM (SELECT r, x FROM page, jsonb_array_elements(r -> 'resources') x) p;
SELECT r #>> '{completion,total}' > '100' AS total, jsonb_array_length(r #> '{completion,values}') AS shown, r #>> '{completion,hasMore}' AS more
FROM (SELECT substr(t.complete('config://{eventType}', 'eventType', 'MCP_PAGE_'), 5)::jsonb -> 'result') x(r);
ROLLBACK;

-- ------------------------------------------------------------------------
-- The rights are those of the caller
-- ------------------------------------------------------------------------

CREATE ROLE regress_mcp_publisher;
CREATE ROLE regress_mcp_nobody;
SELECT eda.grant_access('regress_mcp_publisher', 'publisher');
GRANT USAGE ON SCHEMA t TO regress_mcp_publisher;
SET ROLE regress_mcp_publisher;
SELECT t.mcp('{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25"}}') LIKE '200 {"jsonrpc" : "2.0", "id" : 1, "result" : {"protocolVersion"%' AS initialize,
	t.rpc('tools/list') LIKE '%explain_event%' AS list_tools, t.rpc('resources/templates/list') LIKE '%config://%' AS list_templates;
SELECT t.tool('publish_event', '{"event_type": "MCP_PAID", "flow_id": "mcp rights"}');
SELECT t.tool('acquire_processing_permit', '{"flow_type": "mcp"}');
SELECT t.tool(tool, '{"event_id": "01890000-0000-7000-8000-000000000000", "token": 1, "error_message": "x"}'::jsonb - CASE tool WHEN 'report_success' THEN '{error_message}' ELSE '{}' END::text[])
FROM unnest('{report_success,report_failure}'::text[]) tool;
SELECT t.tool(tool, '{"event_type": "MCP"}') FROM unnest('{suspend_event_type,unsuspend_event_type,update_lifecycle_config}'::text[]) tool;
SELECT t.tool(tool, '{"event_id": "01890000-0000-7000-8000-000000000000"}') FROM unnest('{redrive_event,explain_event}'::text[]) tool;
SELECT t.rpc('resources/list'), t.complete('config://{eventType}', 'eventType', '');
-- Of the views of a query, versions of PostgreSQL check different ones first.
SELECT regexp_replace(t.rpc('resources/read', jsonb_build_object('uri', u)), 'view \w+', 'view <view>') FROM unnest('{metrics://queues,config://MCP,events://pending/mcp,event://01890000-0000-7000-8000-000000000000}'::text[]) u;
RESET ROLE;
SET ROLE regress_mcp_nobody;
SELECT eda_http.mcp('{"jsonrpc": "2.0", "id": 1, "method": "ping"}');
RESET ROLE;
DROP OWNED BY regress_mcp_publisher;
DROP ROLE regress_mcp_publisher, regress_mcp_nobody;
SELECT count(eda.cancel(id)) FROM eda.event WHERE event_type = 'MCP_PAID';

-- ------------------------------------------------------------------------
-- Invalid and hostile messages
-- ------------------------------------------------------------------------

CREATE FUNCTION t.paths(j jsonb, path text[] DEFAULT '{}') RETURNS SETOF text[] LANGUAGE plpgsql AS $$
DECLARE
	key text;
BEGIN
	RETURN NEXT path;
	IF jsonb_typeof(j) = 'object' THEN
		FOR key IN SELECT jsonb_object_keys(j) LOOP
			RETURN QUERY SELECT * FROM t.paths(j -> key, path || key);
		END LOOP;
	ELSIF jsonb_typeof(j) = 'array' THEN
		FOR n IN 0 .. jsonb_array_length(j) - 1 LOOP
			RETURN QUERY SELECT * FROM t.paths(j -> n, path || n::text);
		END LOOP;
	END IF;
END $$;
-- Return what is wrong with the answer to a message; null: nothing.  The message itself may be invalid.
CREATE FUNCTION t.wrong(message jsonb, version text, refused boolean DEFAULT true) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	r eda_http.response;
	b jsonb;
	one jsonb;
BEGIN
	r := eda_http.mcp(message, version, message ->> 'method', coalesce(message #>> '{params,name}', message #>> '{params,uri}'));
	b := r.body;
	IF r.status NOT IN (200, 202, 400, 404) OR (r.body IS NULL) <> (r.status = 202) THEN
		RETURN 'status ' || r.status;
	END IF;
	IF r.body #>> '{result,isError}' = 'true' AND NOT refused THEN
		RETURN 'refused ' || (r.body #>> '{result,content,0,text}');
	END IF;
	FOR one IN SELECT x FROM jsonb_array_elements(CASE jsonb_typeof(b) WHEN 'array' THEN b ELSE jsonb_build_array(b) END) x WHERE b IS NOT NULL LOOP
		IF one ->> 'jsonrpc' IS DISTINCT FROM '2.0' OR NOT one ? 'id' OR (one ? 'result') = (one ? 'error') THEN
			RETURN 'not a response: ' || one::text;
		ELSIF one ? 'error' AND (one #>> '{error,code}')::integer NOT IN (-32600, -32601, -32602, -32002, -32020, -32022) THEN
			RETURN 'error ' || one::text;
		ELSIF one #>> '{result,isError}' = 'true' AND one #>> '{result,content,0,text}' !~ 'Code: (ED...|22...|23...)$' THEN
			RETURN 'tool ' || one::text;
		END IF;
	END LOOP;
	RAISE EXCEPTION USING ERRCODE = 'MCP99';	-- roll back what the message did
EXCEPTION
	WHEN SQLSTATE 'MCP99' THEN
		RETURN NULL;
	WHEN OTHERS THEN
		RETURN 'raised ' || SQLSTATE || ' ' || SQLERRM;
END $$;
CREATE FUNCTION t.messages() RETURNS SETOF jsonb LANGUAGE sql AS $$
	SELECT jsonb_build_object('jsonrpc', '2.0', 'id', 1, 'method', method, 'params', params)
	FROM (VALUES ('initialize', '{"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}'::jsonb),
		('tools/list', '{}'), ('resources/list', '{"cursor": "config://A"}'), ('resources/read', '{"uri": "config://MCP"}'),
		('completion/complete', '{"ref": {"type": "ref/resource", "uri": "config://{eventType}"}, "argument": {"name": "eventType", "value": "M"}}')) m(method, params)
	UNION ALL
	SELECT jsonb_build_object('jsonrpc', '2.0', 'id', 1, 'method', 'tools/call', 'params', jsonb_build_object('name', tool, 'arguments', arguments))
	FROM (VALUES
		('publish_event', '{"event_type": "MCP", "flow_id": "h", "payload": {"a": 1}, "scheduled_at": "2030-01-01T00:00:00Z", "idempotency_key": "k",
			"event_id": "01890000-0000-7000-8000-00000000fe01", "on_fail_event_type": "MCP_PAID", "headers": {"a": "b"}, "correlation_id": "c",
			"parent_id": "01890000-0000-7000-8000-00000000fe02", "flow_type": "mcp"}'::jsonb),
		('acquire_processing_permit', '{"flow_type": "mcp_many", "worker": "w", "lease": 5, "wait": 1}'),
		('acquire_processing_permit', '{"event_id": "01890000-0000-7000-8000-00000000fe02", "worker": "w", "lease": 5}'),
		('report_success', '{"event_id": "01890000-0000-7000-8000-00000000fe01", "token": 3, "result": {}, "spinoffs": [{"event_type": "MCP"}], "if_finished": "ok"}'),
		('report_failure', '{"event_id": "01890000-0000-7000-8000-00000000fe01", "token": 3, "error_message": "x", "stack_trace": "y", "retry": true, "retry_in": 3, "if_finished": "ok"}'),
		('suspend_event_type', '{"event_type": "MCP"}'), ('unsuspend_event_type', '{"event_type": "MCP"}'),
		('update_lifecycle_config', '{"event_type": "MCP", "flow_type": "mcp", "max_attempts": 2, "lifespan": "9 days", "attempt_delays": ["1 s"], "backoff": 1.5, "jitter": 0.5,
			"lease": "1 min", "dispatch_timeout": "1 min", "on_fail_event_type": "MCP_PAID", "suspend_timeout": "1 day", "on_suspend_timeout": "resume", "delivery": "pull",
			"subject": "a.b", "priority": 1, "max_in_flight": 1, "max_dispatched": 2}'),
		('redrive_event', '{"event_id": "01890000-0000-7000-8000-00000000fe03", "reason": "r"}'),
		('explain_event', '{"event_id": "01890000-0000-7000-8000-00000000fe01"}')) m(tool, arguments);
$$;
-- Events that the messages name: being processed, dispatched and failed.
SELECT count(*) FROM eda.configure('MCP', attempt_delays => '{0 s}');
SELECT eda.publish('MCP', 'h', '{"a": 1}', event_id => ('01890000-0000-7000-8000-00000000fe0' || n)::uuid) FROM generate_series(1, 3) n;
SELECT t.reach(('01890000-0000-7000-8000-00000000fe0' || n)::uuid, 'dispatched') FROM generate_series(1, 3) n;
SELECT a.token FROM eda.acquire('01890000-0000-7000-8000-00000000fe01') a;
SELECT eda.fail(a.event_id, 'x', token => a.token, retry => false) FROM eda.acquire('01890000-0000-7000-8000-00000000fe03') a;
SELECT count(*), count(t.wrong(m, '2025-03-26', refused => false)) AS wrong FROM t.messages() m;
BEGIN;
SET LOCAL client_min_messages = error;
-- Each part of each message is replaced by each of these values, and left out; in both eras.
WITH junk AS (
	SELECT x::jsonb AS x FROM unnest(ARRAY['null', 'true', '0', '-1', '0.5', '1e300', '1e-300', '99999999999999999999', '1e100000', '""', '"x"', '"NaN"', '"infinity"', '"-infinity"',
		'"1 day"', '"-1 day"', '"99999999 years"', '"%s %I"', '"''; --"', '"é𝄞"', '[]', '{}', '[null]', '[[]]', '[1, "a", {}]', '{"a": null}', '{"": ""}',
		'"2026-07-28"', '"01890000-0000-7000-8000-00000000fe01"', '"294277-01-01"', '"MCP"', '"tools/call"',
		'"' || repeat('x', 100000) || '"', '[' || repeat('0,', 10000) || '0]', repeat('[', 3000) || repeat(']', 3000), repeat('{"a":', 1000) || '1' || repeat('}', 1000)]) x
), message AS (
	SELECT m FROM t.messages() m
	UNION ALL
	SELECT jsonb_set(m, '{params,_meta}', '{"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}') FROM t.messages() m
), hostile AS MATERIALIZED (
	SELECT m, path, CASE WHEN path = '{}' THEN j.x ELSE jsonb_set(m, path, j.x) END AS body FROM message, t.paths(m) path, junk j
	UNION ALL
	SELECT m, path, m #- path FROM message, t.paths(m) path WHERE path <> '{}'
	UNION ALL
	SELECT m, path, jsonb_set(m, path || '{extra}', '{"x": 1}') FROM message, t.paths(m) path WHERE jsonb_typeof(m #> path) = 'object'
)
SELECT count(*) > 10000 AS many, count(*) FILTER (WHERE wrong IS NOT NULL) AS wrong, left(min(wrong), 300) AS one
FROM (SELECT t.wrong(body, CASE WHEN m #> '{params,_meta}' IS NULL THEN '2025-03-26' ELSE '2026-07-28' END) AS wrong FROM hostile) x;
-- The same messages as batches, and with hostile headers.
SELECT count(*) FILTER (WHERE wrong IS NOT NULL) AS wrong, left(min(wrong), 300) AS one
FROM (SELECT t.wrong(jsonb_build_array(m, m #- '{id}', m #- '{method}', 7), '2025-03-26') AS wrong FROM t.messages() m) x;
SELECT count(*) FILTER (WHERE wrong IS NOT NULL) AS wrong, left(min(wrong), 300) AS one
FROM (SELECT t.wrong(m, h) AS wrong FROM t.messages() m, unnest(ARRAY['', ' ', 'x', '2026-07-28', '2026-07-28 ', repeat('9', 100000), '9999-99-99', E'\n', 'é']) h) x;
ROLLBACK;
