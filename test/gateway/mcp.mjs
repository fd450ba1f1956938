// mcp.mjs
//	AI agents: the official clients of the Model Context Protocol, of both its eras, do over
//	HTTP all that an agent can do; and raw requests, for what those would never send.
//
// Two packages, because there are two eras: @modelcontextprotocol/sdk begins with "initialize",
// @modelcontextprotocol/client (nodejs 20 and later) can do without.
import { Client as Http, finish, gateway, is, like, note, ok, require, section, set, sql, until } from "./lib.mjs";

const Ajv = require("ajv/dist/2020").default;
const addFormats = require("ajv-formats").default;
const ajv = new Ajv({ strict: true, allowUnionTypes: true, allErrors: true });
addFormats(ajv);

const names = ["publish_event", "acquire_processing_permit", "report_success", "report_failure", "suspend_event_type", "unsuspend_event_type", "update_lifecycle_config", "redrive_event", "explain_event"];
const nobody = "01890000-0000-7000-8000-000000000000";

const main = await gateway({ name: "mcp" });
const http = new Http(main.url, { Accept: "application/json, text/event-stream" });

/* ------------------------------------------------------------------------
 * Clients
 * ------------------------------------------------------------------------ */

const clientOf = async (era, url, headers = {}) => {
	const sdk = era === "sdk"
		? { ...require("@modelcontextprotocol/sdk/client/index.js"), ...require("@modelcontextprotocol/sdk/client/streamableHttp.js") }
		: require("@modelcontextprotocol/client");
	const options = era === "sdk" ? {} : { versionNegotiation: { mode: era } };
	const client = new sdk.Client({ name: "eda test", version: "1.0" }, options);
	client.errors = [];
	client.onerror = (e) => client.errors.push(e);
	await client.connect(new sdk.StreamableHTTPClientTransport(new URL(url + "/mcp"), { requestInit: { headers } }));
	return client;
};

// What a client's call is refused with: { code, message, data }.
const refusal = async (promise) => {
	try {
		return { code: null, message: "it was not: " + JSON.stringify(await promise) };
	} catch (e) {
		return e;
	}
};

/* ------------------------------------------------------------------------
 * Raw messages
 * ------------------------------------------------------------------------ */

const rpc = (method, params, headers = {}, more = {}) => http.post("/mcp", { jsonrpc: "2.0", id: 1, method, params, ...more }, { headers });
const initialize = (protocolVersion) => rpc("initialize", { protocolVersion, capabilities: {}, clientInfo: { name: "raw", version: "1" } });

await section("negotiation", async () => {
	for (const [asked, answer] of [["2025-11-25", "2025-11-25"], ["2025-06-18", "2025-06-18"], ["2025-03-26", "2025-03-26"], ["2024-11-05", "2024-11-05"], ["1999-01-01", "2025-11-25"], ["2099-01-01", "2025-11-25"]]) {
		const a = await initialize(asked);
		is(`${a.status} ${a.type} ${a.json?.result?.protocolVersion}`, `200 application/json ${answer}`, `initialize with ${asked}: ${answer}`, a.text);
		ok(!("mcp-session-id" in a.headers), `initialize with ${asked}: no session`);
	}
	const a = await rpc("initialize", { capabilities: {} });
	is(a.json.error.code, -32602, "initialize without a revision is refused");
	for (const version of ["2025-06-18", "2025-03-26", undefined]) is((await rpc("ping", {}, { "MCP-Protocol-Version": version })).text.replace(/\s/g, ""), '{"jsonrpc":"2.0","id":1,"result":{}}', `ping in ${version}`);
	for (const version of ["1999-01-01", "2099-01-01", "x", "2025-06-18x"]) {
		const b = await rpc("ping", {}, { "MCP-Protocol-Version": version });
		is(`${b.status} ${b.type} ${b.json?.error?.code}`, "400 application/json -32022", `MCP-Protocol-Version: ${version} is refused`, b.text);
		ok(b.json?.error?.data?.supported?.includes("2025-11-25"), `MCP-Protocol-Version: ${version}: the answer names those there are`);
	}
});

await section("messages", async () => {
	const v = { "MCP-Protocol-Version": "2025-06-18" };
	let a = await http.post("/mcp", { jsonrpc: "2.0", method: "notifications/initialized" }, { headers: v });
	is(`${a.status} "${a.text}"`, '202 ""', "a notification gets 202 and no body");
	a = await http.post("/mcp", { jsonrpc: "2.0", id: 7, result: {} }, { headers: v });
	is(`${a.status} "${a.text}"`, '202 ""', "so does a response");
	a = await rpc("no/such", {}, v);
	is(`${a.status} ${a.json.error.code}`, "200 -32601", "an unknown method is a JSON-RPC error");
	for (const id of ["text", 0, -5, 9007199254740991]) is((await rpc("ping", {}, v, { id })).json.id, id, `the id ${id} comes back`);
	for (const body of [7, "x", null, {}, { jsonrpc: "2.0", id: 1 }, { jsonrpc: "2.0", id: null, method: "ping" }, { id: 1, method: "ping" }]) {
		a = await http.post("/mcp", body, { headers: v });
		is(`${a.status} ${a.json?.error?.code}`, "400 -32600", `${JSON.stringify(body)} is no message`, a.text);
	}
	for (const raw of ["", "{", '{"jsonrpc": "2.0", "id": 1, "method": "ping"} x', "\u0000", '"\\u0000"']) {
		a = await http.post("/mcp", undefined, { raw, headers: { ...v, "Content-Type": "application/json", "Content-Length": Buffer.byteLength(raw) } });
		is(a.status, 400, `${JSON.stringify(raw)} is no JSON`, a.text);
	}
	is((await http.post("/mcp", undefined, { raw: "{}", headers: { "Content-Type": "text/plain" } })).status, 415, "a body that is not called JSON is refused");
	is((await http.send("DELETE", "/mcp")).status, 405, "there is no session to delete");
	is((await http.send("PUT", "/mcp", {})).status, 405, "nor anything to put");
	is((await rpc("ping", {}, { Origin: "https://evil.example" })).status, 403, "a page of somebody else's may not ask");
});

await section("batches", async () => {
	const batch = [{ jsonrpc: "2.0", id: 1, method: "ping" }, { jsonrpc: "2.0", method: "notifications/initialized" }, { jsonrpc: "2.0", id: "b", method: "tools/list" }];
	let a = await http.post("/mcp", batch, { headers: { "MCP-Protocol-Version": "2025-03-26" } });
	is(`${a.status} ${a.json?.map((r) => r.id)}`, "200 1,b", "2025-03-26 has batches", a.text);
	a = await http.post("/mcp", [batch[1], batch[1]]);
	is(`${a.status} "${a.text}"`, '202 ""', "one of notifications only gets 202");
	for (const version of ["2025-06-18", "2025-11-25", "2026-07-28"]) {
		a = await http.post("/mcp", batch, { headers: { "MCP-Protocol-Version": version } });
		is(`${a.status} ${a.json?.error?.code}`, "400 -32600", `${version} has none`, a.text);
	}
	is((await http.post("/mcp", [])).status, 400, "an empty one is refused");
});

const meta = (version = "2026-07-28") => ({ "io.modelcontextprotocol/protocolVersion": version, "io.modelcontextprotocol/clientCapabilities": {}, "io.modelcontextprotocol/clientInfo": { name: "raw", version: "1" } });
const modern = (method, params = {}, headers = {}) => rpc(method, { _meta: meta(), ...params }, { "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, "Mcp-Name": params.name ?? params.uri, ...headers });

await section("the era without initialize", async () => {
	let a = await modern("server/discover");
	is(`${a.status} ${a.json?.result?.supportedVersions} ${a.json?.result?.resultType}`, "200 2026-07-28 complete", "server/discover says what is spoken", a.text);
	a = await modern("tools/call", { name: "suspend_event_type", arguments: { event_type: "NONE" } });
	is(`${a.status} ${a.json?.result?.isError} ${a.json?.result?.resultType}`, "200 true complete", "a tool is called", a.text);
	like(a.json?.result?._meta?.["io.modelcontextprotocol/serverInfo"]?.name, /^eda$/, "and the answer says who gave it");
	for (const method of ["initialize", "ping", "no/such", "subscriptions/listen"]) {
		a = await modern(method);
		is(`${a.status} ${a.json?.error?.code}`, "404 -32601", `${method} is not known in it`, a.text);
	}
	a = await modern("resources/read", { uri: "config://NONE" });
	is(`${a.status} ${a.json?.error?.code}`, "200 -32602", "a resource that there is not is an invalid parameter", a.text);
	for (const [what, headers, code] of [
		["without its revision in a header", { "MCP-Protocol-Version": undefined }, -32020],
		["with another revision in the header", { "MCP-Protocol-Version": "2025-11-25" }, -32020],
		["without Mcp-Method", { "Mcp-Method": undefined }, -32020],
		["with another Mcp-Method", { "Mcp-Method": "tools/list" }, -32020],
		["without Mcp-Name", { "Mcp-Name": undefined }, -32020],
		["with another Mcp-Name", { "Mcp-Name": "publish_event" }, -32020],
		["with another Mcp-Name in base64", { "Mcp-Name": "=?base64?cHVibGlzaF9ldmVudA==?=" }, -32020],
	]) {
		a = await modern("tools/call", { name: "explain_event", arguments: { event_id: nobody } }, headers);
		is(`${a.status} ${a.json?.error?.code}`, `400 ${code}`, `a call ${what} is refused`, a.text);
	}
	a = await modern("tools/call", { name: "explain_event", arguments: { event_id: nobody } }, { "Mcp-Name": "=?base64?" + Buffer.from("explain_event").toString("base64") + "?=" });
	is(a.status, 200, "one with its Mcp-Name in base64 is not", a.text);
	a = await rpc("tools/list", { _meta: meta("2099-01-01") }, { "MCP-Protocol-Version": "2099-01-01", "Mcp-Method": "tools/list" });
	is(`${a.status} ${a.json?.error?.code} ${a.json?.error?.data?.supported?.[0]}`, "400 -32022 2026-07-28", "a later revision is refused, with what is spoken", a.text);
	a = await rpc("tools/list", {}, { "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list" });
	is(`${a.status} ${a.json?.error?.code}`, "400 -32602", "a request of it must have its _meta", a.text);
});

/* ------------------------------------------------------------------------
 * A life, with a client
 * ------------------------------------------------------------------------ */

// notFound: the code that it gives for a resource that there is not
async function life(client, prefix, { initialized, notFound }) {
	const type = prefix + "_ORDER";
	const receipt = prefix + "_RECEIPT";
	const queue = prefix.toLowerCase() + "_orders";
	const say = (text) => `${prefix}: ${text}`;

	is(client.getServerVersion()?.name, "eda", say("the server has a name"));
	is(client.getServerVersion()?.version, await sql("SELECT extversion FROM pg_extension WHERE extname = 'eda'"), say("and the extension's version"));
	like(client.getInstructions(), /acquire_processing_permit/, say("it says how to use it"));
	is(client.getServerCapabilities(), { tools: { listChanged: false }, resources: { subscribe: false, listChanged: false }, completions: {} }, say("and what it can do"));
	if (initialized) ok(await client.ping(), say("it answers a ping"));

	// The tools, and their schemas
	const { tools } = await client.listTools();
	is(tools.map((t) => t.name), names, say("all tools are listed"));
	const schemas = {};
	for (const tool of tools) {
		schemas[tool.name] = { input: ajv.compile(tool.inputSchema), output: ajv.compile(tool.outputSchema) };
		ok(ajv.validateSchema(tool.inputSchema) && ajv.validateSchema(tool.outputSchema), say(`${tool.name} has JSON Schemas`), ajv.errors);
		ok(tool.title && tool.description.length > 100 && tool.annotations, say(`${tool.name} is described`));
	}
	is(tools.filter((t) => t.annotations.readOnlyHint).map((t) => t.name), ["explain_event"], say("one only reads"));

	// A call that must work: its structured content.
	const call = async (name, args) => {
		const { input, output } = schemas[name];
		if (!input(args)) ok(false, say(`${name} takes ${JSON.stringify(args)}`), input.errors);
		const result = await client.callTool({ name, arguments: args });
		if (result.isError) throw new Error(`${name} ${JSON.stringify(args)}: ${result.content[0].text}`);
		if (!output(result.structuredContent)) ok(false, say(`${name} keeps to its output schema`), output.errors, result.structuredContent);
		if (JSON.stringify(JSON.parse(result.content[1].text)) !== JSON.stringify(result.structuredContent)) ok(false, say(`${name} says the same in text`), result);
		return { ...result.structuredContent, said: result.content[0].text };
	};
	// A call that must be refused, with this code.
	const refused = async (code, name, args, what) => {
		const result = await client.callTool({ name, arguments: args });
		is(`${result.isError} ${(result.content[0].text.match(/\nCode: (.....)$/) || [])[1]}`, `true ${code}`, say(what), result);
		ok(result.structuredContent === undefined, say(`${what}: no data`));
		return result.content[0].text;
	};
	const acquire = async (args, seconds = 60) => (await until(`an event of ${queue}`, async () => {
		const a = await call("acquire_processing_permit", { flow_type: queue, worker: "agent", wait: 5, ...args });
		return a.acquired && a;
	}, seconds)).event;

	// Rules
	let rules = await call("update_lifecycle_config", { event_type: receipt, flow_type: queue + "_receipts" });
	is(rules.max_attempts, 5, say("an event type is made, with its defaults"));
	rules = await call("update_lifecycle_config", { event_type: type, flow_type: queue, max_attempts: 2, attempt_delays: ["0 s"], lease: "5 min", priority: 7 });
	is([rules.max_attempts, rules.priority, rules.suspended], [2, 7, false], say("another with rules of its own"));
	rules = await call("update_lifecycle_config", { event_type: type, priority: null, lifespan: "1 day" });
	is([rules.max_attempts, rules.priority, rules.lifespan], [2, 5, "1 day"], say("one rule goes back to its default, one is set, the others stay"));
	await refused("22023", "update_lifecycle_config", { event_type: type, max_attempts: 0 }, "rules that cannot be right are refused");
	await refused("22023", "update_lifecycle_config", { event_type: type, colour: "red" }, "and those that there are not");
	await refused("ED005", "update_lifecycle_config", { event_type: prefix + "_NONE", priority: 1 }, "so is an event type that there is not");

	// Publish, acquire, fail, acquire, succeed
	is((await call("acquire_processing_permit", { flow_type: queue })).acquired, false, say("nothing is there to do"));
	const began = Date.now();
	is((await call("acquire_processing_permit", { flow_type: queue, wait: 0.5 })).acquired, false, say("nor after waiting"));
	ok(Date.now() - began >= 400, say("it did wait"), Date.now() - began);
	const payload = { total: 12.5, lines: ["ä", null, { deep: [1e21, -0.5] }] };
	const order = await call("publish_event", { event_type: type, flow_id: "order 1", payload, headers: { "X-Tenant": "7" }, idempotency_key: prefix + " key" });
	is((await call("publish_event", { event_type: type, flow_id: "order 1", idempotency_key: prefix + " key" })).event_id, order.event_id, say("the same key is the same event"));
	await refused("ED007", "publish_event", { event_type: type, flow_id: "order 2", idempotency_key: prefix + " key" }, "but not for another flow");
	const first = await acquire();
	is([first.event_id, first.attempt, first.payload, first.headers], [order.event_id, 1, payload, { "X-Tenant": "7" }], say("a published event is acquired"));
	let story = await call("explain_event", { event_id: order.event_id });
	is([story.state, story.final, story.next.by, story.attempts.length, story.attempts[0].worker], ["being_processed", false, "worker", 1, "agent"], say("its story says who has it"));
	await refused("ED001", "acquire_processing_permit", { event_id: order.event_id }, "nobody else gets it");
	await refused("ED002", "report_success", { event_id: order.event_id, token: first.token + 40 }, "nor may report with another token");
	await refused("22023", "report_success", { event_id: order.event_id }, "or without one");
	is((await call("report_failure", { event_id: order.event_id, token: first.token, error_message: "the bank is away", stack_trace: "bank.c:7" })).state, "awaiting_processing", say("a failed attempt is tried again"));
	const second = await acquire();
	is([second.event_id, second.attempt], [order.event_id, 2], say("for the second time"));
	await refused("ED003", "report_success", { event_id: order.event_id, token: first.token }, "the first token is over");
	await refused("ED005", "report_success", { event_id: order.event_id, token: second.token, spinoffs: [{ event_type: receipt }, { event_type: prefix + "_NONE" }] }, "a success with a spinoff of no type is refused");
	is(await sql(`SELECT count(*) FROM eda.event WHERE parent_id = '${order.event_id}'`), "0", say("and publishes nothing"));
	const done = await call("report_success", { event_id: order.event_id, token: second.token, result: { paid: true }, spinoffs: [{ event_type: receipt, payload: { n: 1 } }, { event_type: receipt, flow_id: "other" }] });
	is([done.state, done.finished, done.spinoff_event_ids.length], ["succeeded", true, 2], say("it succeeds, with two spinoff events"));
	await refused("ED003", "report_success", { event_id: order.event_id, token: second.token }, "it succeeds once");
	is((await call("report_success", { event_id: order.event_id, token: second.token, if_finished: "ok" })).finished, false, say("unless that is asked for"));
	story = await call("explain_event", { event_id: order.event_id });
	is([story.state, story.final, story.attempts.map((a) => [a.error, a.stack, a.ended_as]), story.followed_by.map((f) => f.event_id).sort()],
		["succeeded", true, [["the bank is away", "bank.c:7", "awaiting_processing"], [null, null, "succeeded"]], [...done.spinoff_event_ids].sort()], say("its story is all of that"));
	like(story.said, /the bank is away[^]*published event/, say("in words too"));

	// A dead letter, brought back by what its story says
	const dead = await call("publish_event", { event_type: type, flow_id: "order dead" });
	let taken = await acquire();
	is((await call("report_failure", { event_id: dead.event_id, token: taken.token, error_message: "hopeless", retry: false })).state, "failed", say("an event fails for good"));
	await refused("ED001", "acquire_processing_permit", { event_id: dead.event_id }, "it cannot be acquired");
	story = await call("explain_event", { event_id: dead.event_id });
	const option = story.options.find((o) => o.tool === "redrive_event");
	is((await call(option.tool, { ...option.arguments, reason: "the bank is back" })).state, "awaiting_processing", say("it is redriven"));
	await until("it is dispatched", async () => (await call("explain_event", { event_id: dead.event_id })).state === "dispatched");
	await refused("ED001", "redrive_event", { event_id: dead.event_id }, "which can be done once");
	taken = (await call("acquire_processing_permit", { event_id: dead.event_id, lease: 600 })).event;
	is((await call("report_success", { event_id: dead.event_id, token: taken.token })).spinoff_event_ids, [], say("and it succeeds"));

	// An event type that is stopped
	is((await call("suspend_event_type", { event_type: type })).changed, true, say("an event type is suspended"));
	is((await call("suspend_event_type", { event_type: type })).changed, false, say("once"));
	const waiting = await call("publish_event", { event_type: type, flow_id: "order waits" });
	await until("it is suspended", async () => (await call("explain_event", { event_id: waiting.event_id })).state === "suspended");
	is((await call("acquire_processing_permit", { flow_type: queue })).acquired, false, say("nothing of it is acquired"));
	story = await call("explain_event", { event_id: waiting.event_id });
	is([story.obstacles.length, story.options.some((o) => o.tool === "unsuspend_event_type")], [1, true], say("the story says why, and what to do"));
	is((await call("unsuspend_event_type", { event_type: type })).suspended, false, say("it goes on"));
	taken = await acquire();
	is(taken.event_id, waiting.event_id, say("and what waited is acquired"));
	await call("report_success", { event_id: taken.event_id, token: taken.token });

	// Somebody publishes while an agent waits
	const wait = acquire({ wait: 30 });
	const late = await call("publish_event", { event_type: type, flow_id: "order late" });
	taken = await wait;
	is(taken.event_id, late.event_id, say("an agent that waits gets what is published meanwhile"));
	await call("report_success", { event_id: taken.event_id, token: taken.token });

	// What is wrong
	await refused("22023", "publish_event", { flow_id: "x" }, "an argument that is missing");
	await refused("22P02", "explain_event", { event_id: "order 1" }, "an id that is none");
	await refused("22023", "explain_event", { event_id: 7 }, "a number for an id");
	await refused("ED004", "explain_event", { event_id: nobody }, "an event that never was");
	await refused("ED005", "acquire_processing_permit", { flow_type: prefix + "_none" }, "a queue that never was");
	await refused("ED009", "publish_event", { event_type: type, flow_id: "x", payload: "x".repeat(2 << 19) }, "a payload that is too large");
	let e = await refusal(client.callTool({ name: "no_such_tool", arguments: {} }));
	is(e.code, -32602, say("a tool that there is not is a protocol error"), e);

	// Resources
	const { resources, nextCursor } = await client.listResources();
	ok(["metrics://queues", `config://${type}`, `events://pending/${queue}`].every((uri) => resources.some((r) => r.uri === uri)), say("resources are listed"), resources);
	is(nextCursor, undefined, say("on one page"));
	const { resourceTemplates } = await client.listResourceTemplates();
	is(resourceTemplates.map((t) => t.uriTemplate), ["event://{id}", "events://pending/{flowType}", "config://{eventType}"], say("templates too"));
	const read = async (uri) => {
		const { contents } = await client.readResource({ uri });
		is([contents.length, contents[0].uri, contents[0].mimeType], [1, uri, "application/json"], say(`${uri} is read`));
		return JSON.parse(contents[0].text);
	};
	const event = await read(`event://${order.event_id}`);
	is([event.state, event.payload, event.history.length, event.family.length], ["succeeded", payload, 7, 3], say("an event with its history and family"));
	is((await read(`config://${type}`)).max_attempts, 2, say("the rules of an event type"));
	ok((await read("metrics://queues")).types.some((t) => t.event_type === type && t.events.succeeded >= 4), say("the queues in numbers"));
	const stays = await call("publish_event", { event_type: type, flow_id: "order stays", scheduled_at: "2099-01-01T00:00:00Z" });
	const pending = await read(`events://pending/${queue}`);
	is([pending.dispatched, pending.awaiting_processing.map((p) => p.event_id), pending.types[0].event_type], [[], [stays.event_id], type], say("what waits in a queue"));
	for (const uri of [`event://${nobody}`, `config://${prefix}_NONE`, `events://pending/${prefix}_none`, "no://such"]) {
		e = await refusal(client.readResource({ uri }));
		is([e.code, e.data?.uri], [notFound, uri], say(`${uri} is not found`), e);
	}
	const { completion } = await client.complete({ ref: { type: "ref/resource", uri: "config://{eventType}" }, argument: { name: "eventType", value: prefix.toLowerCase() } });
	is(completion, { values: [type, receipt], total: 2, hasMore: false }, say("names are completed"));

	// Whether the engine runs
	await set({ "eda.engine": "paused" });
	await until("it is paused", async () => (await sql("SELECT state FROM eda.engine_status")) === "paused");
	const stuck = await call("publish_event", { event_type: type, flow_id: "order stuck" });
	story = await call("explain_event", { event_id: stuck.event_id });
	like(story.obstacles.join(), /engine is "paused"/, say("a story says that the engine is paused"));
	await set({ "eda.engine": null });
	await until("it goes on", async () => (await call("explain_event", { event_id: stuck.event_id })).state === "dispatched");
	await sql(`SELECT eda.cancel(id) FROM eda.event_state WHERE flow_type = '${queue}' AND state IN ('dispatched', 'awaiting_processing')`);

	is(client.errors.map(String), [], say("the client had no trouble"));
	await client.close();
}

await section("@modelcontextprotocol/sdk", async () => {
	const client = await clientOf("sdk", main.url);
	await life(client, "S", { initialized: true, notFound: -32002 });
});

if (Number(process.versions.node.split(".")[0]) < 20) note("@modelcontextprotocol/client wants nodejs 20: left out");
else {
	await section("@modelcontextprotocol/client as of old", async () => {
		const client = await clientOf("legacy", main.url);
		is(client.getNegotiatedProtocolVersion(), "2025-11-25", "it begins with initialize");
		await life(client, "L", { initialized: true, notFound: -32602 });	// what it makes of -32002
	});
	await section("@modelcontextprotocol/client", async () => {
		const client = await clientOf("auto", main.url);
		is(client.getNegotiatedProtocolVersion(), "2026-07-28", "the client finds out that initialize is not needed");
		await life(client, "M", { initialized: false, notFound: -32602 });
	});
}

/* ------------------------------------------------------------------------
 * Several agents, and their rights
 * ------------------------------------------------------------------------ */

await section("rights", async () => {
	await sql("CREATE ROLE mcp_publisher; SELECT eda.grant_access('mcp_publisher', 'publisher'); CREATE ROLE mcp_all; SELECT eda.grant_access('mcp_all', a) FROM unnest('{publisher,worker,operator,monitor}'::text[]) a");
	await sql("SELECT eda.configure('RIGHTS', flow_type => 'rights', attempt_delays => '{1 day}')");
	const guarded = await gateway({ name: "mcp_rights", tokens: { "publisher-0123456789": "mcp_publisher", "all-0123456789abcdef": "mcp_all" } });
	const e = await refusal(clientOf("sdk", guarded.url));
	ok(e.code === 401 || /401|nauthorized/.test(String(e)), "without a token nobody gets in", String(e));

	const publisher = await clientOf("sdk", guarded.url, { Authorization: "Bearer publisher-0123456789" });
	is((await publisher.listTools()).tools.map((t) => t.name), names, "a publisher sees all tools");
	const { event_id } = (await publisher.callTool({ name: "publish_event", arguments: { event_type: "RIGHTS", flow_id: "r" } })).structuredContent;
	like(event_id, /^[0-9a-f-]{36}$/, "and publishes");
	for (const [name, args] of [["acquire_processing_permit", { flow_type: "rights" }], ["acquire_processing_permit", { event_id }], ["report_success", { event_id, token: 1 }],
		["report_failure", { event_id, token: 1, error_message: "x" }], ["suspend_event_type", { event_type: "RIGHTS" }], ["unsuspend_event_type", { event_type: "RIGHTS" }],
		["update_lifecycle_config", { event_type: "RIGHTS", priority: 1 }], ["redrive_event", { event_id }], ["explain_event", { event_id }]]) {
		const r = await publisher.callTool({ name, arguments: args });
		like(r.isError ? r.content[0].text : "allowed", /permission denied[^]*grant_access[^]*Code: 42501$/, `a publisher may not ${name}`);
	}
	is((await publisher.listResources()).resources, [], "there are no resources for a publisher");
	is((await refusal(publisher.readResource({ uri: "metrics://queues" }))).code, 42501, "nor can it read one");
	await publisher.close();

	const all = await clientOf("sdk", guarded.url, { Authorization: "Bearer all-0123456789abcdef" });
	const r = await all.callTool({ name: "explain_event", arguments: { event_id } });
	is(r.structuredContent?.state, "awaiting_processing", "who has all rights may explain", r);
	ok((await all.listResources()).resources.length > 3, "and sees resources");
	await all.close();
	await sql(`SELECT eda.cancel('${event_id}')`);
});

await section("many agents at once", async () => {
	await sql("SELECT eda.configure('MANY', flow_type => 'many', attempt_delays => '{0 s}', lease => '5 min')");
	const agents = await Promise.all([1, 2, 3, 4].map(() => clientOf("sdk", main.url)));
	const ids = await Promise.all(Array.from({ length: 40 }, (_, n) => agents[n % 4].callTool({ name: "publish_event", arguments: { event_type: "MANY", flow_id: `m ${n}` } }).then((r) => r.structuredContent.event_id)));
	const got = [];
	await Promise.all(agents.map(async (agent) => {
		while (got.length < ids.length) {
			const { acquired, event } = (await agent.callTool({ name: "acquire_processing_permit", arguments: { flow_type: "many", wait: 1 } })).structuredContent;
			if (!acquired) continue;
			got.push(event.event_id);
			await agent.callTool({ name: "report_success", arguments: { event_id: event.event_id, token: event.token } });
		}
	}));
	is([...got].sort(), [...ids].sort(), "four agents process forty events, each once");
	is(await sql("SELECT count(*) FROM eda.event_state WHERE flow_type = 'many' AND state = 'succeeded'"), "40", "and all succeeded");
	for (const agent of agents) await agent.close();
});

await finish();
