// api.mjs
//	The API: what each route does, with good requests and bad ones, through a real
//	gateway to a real server.  test/t/510_api.pl runs it.
import { randomUUID } from "node:crypto";
import { Client, finish, gateway, is, like, ok, section, server, session, set, soon, sql, until } from "./lib.mjs";
import { checkDocument, watchAnswers } from "./openapi.mjs";

const report = watchAnswers();
const g = await gateway({ args: ["--max-body", "2000000"] });
const api = new Client(g.url);

const event = (id) => api.expect(200, "GET", `/api/events/${id}`);
const becomes = (id, state) => until(`event ${id} is ${state}`, async () => { const e = await event(id); return e.state === state && e; });
const configure = (type, rules) => api.send("PUT", `/api/event-types/${type}`, { max_attempts: 100, attempt_delays: ["0 s"], lease: "10 min", ...rules });
const publish = async (body, headers) => (await api.expect(201, "POST", "/api/events", body, { headers })).event_id;
const acquire = (id, body) => api.expect(200, "POST", `/api/events/${id}/acquire`, body);
// An event that a worker has.
const taken = async (type, more = {}, lease) => {
	const id = await publish({ event_type: type, flow_id: `${type} of ${randomUUID()}`, ...more });
	await becomes(id, "dispatched");
	return acquire(id, lease ? { lease } : undefined);
};
const refused = (a, status, code, name) => is([a.status, a.json?.code ?? null], [status, code], name, a.text);

await section("document", () => checkDocument(process.env.EDA_GATEWAY_PROGRAM));

/* ------------------------------------------------------------------------
 * Publishers
 * ------------------------------------------------------------------------ */

await section("publish", async () => {
	await configure("PUB", { flow_type: "pub" });
	await configure("PUB_OTHER", { flow_type: "pub" });

	const payload = { "größe": [1, 2.5, null, true, { "": "𝄞 \u2028 \" \\ \n \u0007" }], n: 12345678901234 };
	let a = await api.post("/api/events", { event_type: "PUB", flow_id: "one / ü", payload, headers: { "X-Tenant": "42" }, correlation_id: "c1" });
	is(a.status, 201, "one event is published");
	is(a.headers.location, `/api/events/${a.json.event_id}`, "and where it is is said");
	const e = (await api.get(a.headers.location)).json;
	is([e.payload, e.headers, e.flow_id, e.correlation_id, e.event_type, e.flow_type], [payload, { "X-Tenant": "42" }, "one / ü", "c1", "PUB", "pub"], "it can be read there as it was published");

	a = await api.post("/api/events", [{ event_type: "PUB", flow_id: "a 1" }, { event_type: "PUB_OTHER", flow_id: "a 2", payload: [1] }, { event_type: "PUB", flow_id: "a 3", payload: null }]);
	is([a.status, a.headers.location ?? null, a.json.event_ids.length], [201, null, 3], "an array is published");
	is(await Promise.all(a.json.event_ids.map(async (id) => { const x = await event(id); return [x.flow_id, x.event_type, x.payload]; })),
		[["a 1", "PUB", {}], ["a 2", "PUB_OTHER", [1]], ["a 3", "PUB", {}]], "its ids come in its order");
	is((await api.post("/api/events", [])).json, { event_ids: [] }, "an empty array publishes nothing");

	a = await api.post("/api/events", [{ event_type: "PUB", flow_id: "half" }, { event_type: "PUB", flow_id: "" }]);
	refused(a, 422, "22004", "an array with a bad element is refused");
	is((await api.get("/api/events?flow_id=half&flow_type=pub")).json.events, [], "and none of it is published");

	const at = "2099-01-02T03:04:05.678901+02:00";
	const late = await event(await publish({ event_type: "PUB", flow_id: "late", scheduled_at: at }));
	is([late.state, late.wake_at, late.attempt_scheduled_at].map((t) => (Date.parse(t) ? Date.parse(t) : t)), ["awaiting_processing", Date.parse(at), Date.parse(at)], "a scheduled event waits for its time");

	for (const scalar of [7, -1e-3, "text", "", true, false, [], {}, [[]]]) {
		const id = await publish({ event_type: "PUB", flow_id: "scalar", payload: scalar });
		is((await event(id)).payload, scalar, `a payload ${JSON.stringify(scalar)} comes back`);
	}
});

await section("idempotency", async () => {
	const one = { event_type: "PUB", flow_id: "idem" };
	const key = { "Idempotency-Key": `key ${randomUUID()}` };
	const first = await publish(one, key);
	let a = await api.post("/api/events", { ...one, payload: { again: 1 } }, { headers: key });
	is([a.status, a.json.event_id, a.headers.location], [201, first, `/api/events/${first}`], "the same key again gives the first event");
	is((await event(first)).payload, {}, "which is as it was");
	refused(await api.post("/api/events", { ...one, event_type: "PUB_OTHER" }, { headers: key }), 422, "ED007", "the same key for another event type is refused");
	refused(await api.post("/api/events", { ...one, flow_id: "idem 2" }, { headers: key }), 422, "ED007", "or for another flow id");
	is(await publish({ ...one, idempotency_key: key["Idempotency-Key"] }), first, "a key in the body is the same as one in the header");
	is(await publish({ ...one, idempotency_key: key["Idempotency-Key"] }, key), first, "and both may be given");
	refused(await api.post("/api/events", { ...one, idempotency_key: "another" }, { headers: key }), 422, "22023", "but not two that differ");
	refused(await api.post("/api/events", { ...one, idempotency_key: "" }), 422, "22023", "an empty key is refused");
	refused(await api.post("/api/events", one, { headers: { "Idempotency-Key": "" } }), 422, "22023", "in the header too");
	const long = { "Idempotency-Key": `${"k".repeat(6000)}${randomUUID()}` };
	is(await publish(one, long), await publish(one, long), "a long key is a key");
	is(await publish(one, { "Idempotency-Key": `${key["Idempotency-Key"]} \t ` }), first, "blanks behind a key are not part of it");

	const array = { "Idempotency-Key": `array ${randomUUID()}` };
	const ids = (await api.post("/api/events", [one, { ...one, flow_id: "idem b" }], { headers: array })).json.event_ids;
	is((await api.post("/api/events", [one, { ...one, flow_id: "idem b" }], { headers: array })).json.event_ids, ids, "an array is published once under a key");
	is(await publish({ ...one, flow_id: "idem b" }, { "Idempotency-Key": array["Idempotency-Key"] + "#2" }), ids[1], "its second element has the key with #2");

	const race = { "Idempotency-Key": `race ${randomUUID()}` };
	const answers = await Promise.all(Array.from({ length: 20 }, () => api.post("/api/events", one, { headers: race })));
	is([...new Set(answers.map((x) => x.status))], [201], "twenty at once with one key are all answered");
	is(new Set(answers.map((x) => x.json.event_id)).size, 1, "with one event");

	const id = randomUUID();
	is([await publish({ ...one, event_id: id }), await publish({ ...one, event_id: id })], [id, id], "an event id of the publisher's is a key too");
	refused(await api.post("/api/events", { ...one, flow_id: "other", event_id: id }), 422, "ED007", "for one event");
});

await section("bad bodies", async () => {
	const good = { event_type: "PUB", flow_id: "bad bodies" };
	const bad = [
		["an unknown key", { ...good, foo: 1 }, 422, "22023", /foo/],
		["a flow id that is a number", { ...good, flow_id: 7 }, 422, "22023", /flow_id/],
		["an event type that is an object", { ...good, event_type: {} }, 422, "22023", /event_type/],
		["headers that are an array", { ...good, headers: [] }, 422, "22023", /headers/],
		["a header that is a number", { ...good, headers: { a: 1 } }, 422, "22023", /header/],
		["a reserved header", { ...good, headers: { "Nats-Msg-Id": "1" } }, 422, "22023", /Nats-Msg-Id/],
		["a header with a line break", { ...good, headers: { a: "1\r\nb: 2" } }, 422, "22023", /header/],
		["no event type", { flow_id: "x" }, 422, "22004", /event_type/],
		["no flow id", { event_type: "PUB" }, 422, "22004", /flow_id/],
		["an empty flow id", { ...good, flow_id: "" }, 422, "22004", /flow_id/],
		["an unknown event type", { ...good, event_type: "PUBB" }, 422, "ED005", /PUBB/],
		["an event type in another case", { ...good, event_type: "pub" }, 422, "ED005", /pub/],
		["the flow type of another", { ...good, flow_type: "flow" }, 422, "22023", /flow/],
		["an unknown on-fail event type", { ...good, on_fail_event_type: "NONE" }, 422, "ED005", /NONE/],
		["a time that is none", { ...good, scheduled_at: "tomorrowish" }, 422, /^22/, /scheduled_at|tomorrowish/],
		["an infinite time", { ...good, scheduled_at: "infinity" }, 422, "22023", /scheduled_at/],
		["a time that is a number", { ...good, scheduled_at: 7 }, 422, "22023", /scheduled_at/],
		["an event id that is none", { ...good, event_id: "7" }, /400|422/, /^22/, /./],
		["a long flow id", { ...good, flow_id: "x".repeat(513) }, 413, "ED009", /513/],
		["long headers", { ...good, headers: { a: "x".repeat(9000) } }, 413, "ED009", /headers/],
		["a large payload", { ...good, payload: "x".repeat(1_100_000) }, 413, "ED009", /payload/],
		["a string", "PUB", 422, "22023", /./],
		["a number", 7, 422, "22023", /./],
		["null", null, 422, /^22/, /./],
		["an array of numbers", [1], 422, "22023", /./],
		["an array of arrays", [[]], 422, "22023", /./],
		["a bad element in an array", [good, { ...good, foo: 1 }], 422, "22023", /foo/],
	];
	for (const [name, body, status, code, about] of bad) {
		const a = await api.post("/api/events", body);
		ok((status instanceof RegExp ? status.test(a.status) : a.status === status) && (code instanceof RegExp ? code.test(a.json?.code) : a.json?.code === code) && about.test(a.json?.detail),
			`${name}: refused with a reason`, `expected ${status} ${code} ${about}`, `${a.status} ${a.text}`);
	}
	like((await api.post("/api/events", { ...good, foo: 1 })).json.hint, /event_type.*flow_id/, "the hint lists the keys that there are");

	const unreadable = [
		["no JSON", "event_type=PUB", "22P02"], ["half of a JSON text", '{"event_type": "PUB", ', "22P02"], ["two JSON texts", "{}{}", "22P02"],
		["a comma too many", '{"event_type": "PUB",}', "22P02"], ["NaN", '{"event_type": NaN}', "22P02"], ["a byte order mark", "\ufeff{}", "22P02"],
		["\\u0000", '{"event_type": "PUB", "flow_id": "a\\u0000b"}', "22P05"], ["half of a surrogate pair", '{"event_type": "PUB", "flow_id": "\\ud800"}', "22P02"],
		["invalid UTF-8", Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]), "22021"], ["a NUL byte", "{}\0", null],
	];
	for (const [name, body, code] of unreadable) {
		const a = await api.post("/api/events", undefined, { raw: body, headers: { "Content-Type": "application/json" } });
		refused(a, 400, code, `${name}: cannot be read`);
	}
	const deep = await api.post("/api/events", undefined, { raw: "[".repeat(100000) + "]".repeat(100000), headers: { "Content-Type": "application/json" } });
	ok([400, 413, 422].includes(deep.status), "JSON that is nested very deeply: refused", deep.text);
	refused(await api.post("/api/events"), 422, "22023", "no body at all is no event");
	is((await api.get("/api/events?flow_type=pub&flow_id=bad%20bodies")).json.events, [], "nothing of all this was published");

	// Every route says which key it does not know.
	const x = await taken("PUB");
	for (const path of [...["acquire", "success", "failure", "heartbeat", "release", "cancel", "suspend", "resume", "redrive"].map((v) => `/api/events/${x.event_id}/${v}`), "/api/acquire", "/api/dead-letters/redrive"]) {
		const a = await api.post(path, { flow_type: "pub", error_message: "x", foo: 1 });
		ok(a.status === 422 && a.json.code === "22023" && /unknown key/.test(a.json.detail) && /Known keys|must not have any keys/.test(a.json.hint), `${path.replace(x.event_id, "{id}")}: an unknown key is named`, a.text);
		refused(await api.post(path, []), 422, "22023", "an array is refused");
	}
	for (const [path, body] of [["acquire", { worker: 7 }], ["acquire", { lease: {} }], ["acquire", { lease: "soon" }], ["success", { token: "3" }], ["success", { token: 1.5 }], ["success", { token: 1e99 }], ["success", { spinoffs: {} , token: x.token }],
		["success", { if_finished: "maybe", token: x.token }], ["failure", { error_message: 7, token: x.token }], ["failure", { error_message: "x", retry: "yes", token: x.token }], ["failure", { error_message: {}, token: x.token }],
		["failure", { error_message: "x", retry_in: "never", token: x.token }], ["heartbeat", { extend: [], token: x.token }], ["heartbeat", { extend: -5, token: x.token }], ["release", { retry_in: "x", token: x.token }], ["release", { reason: 1, token: x.token }],
		["cancel", { reason: [] }], ["suspend", { deadline: "one day", token: x.token }], ["suspend", { deadline: 7, token: x.token }], ["resume", { reason: {} }], ["redrive", { reason: true }]]) {
		const a = await api.post(`/api/events/${x.event_id}/${path}`, body);
		ok(a.status === 422 && /^22/.test(a.json.code), `${path} ${JSON.stringify(body).replace(String(x.token), "N")}: refused`, `${a.status} ${a.text}`);
	}
	is((await event(x.event_id)).version, x.token, "and none of it touched the event");
});

/* ------------------------------------------------------------------------
 * Workers
 * ------------------------------------------------------------------------ */

await section("acquire by id", async () => {
	await configure("W", { flow_type: "w" });
	const id = await publish({ event_type: "W", flow_id: "w 1", payload: { a: 1 }, headers: { h: "x" }, correlation_id: "c", parent_id: randomUUID() });
	await becomes(id, "dispatched");
	const a = await api.post(`/api/events/${id}/acquire`, { worker: "tester é", lease: 600 });
	is(a.status, 200, "a dispatched event can be acquired");
	is(a.etag, `"${a.json.token}"`, "the ETag is the token");
	is([a.json.event_id, a.json.event_type, a.json.flow_type, a.json.flow_id, a.json.attempt, a.json.payload, a.json.headers, a.json.correlation_id], [id, "W", "w", "w 1", 1, { a: 1 }, { h: "x" }, "c"], "the answer has all that a worker needs");
	const left = (Date.parse(a.json.lease_until) - Date.now()) / 1000;
	ok(left > 0 && left <= 601, "with the lease that was asked for", left);
	const read = await api.get(`/api/events/${id}`);
	is([read.etag, read.json.token, read.json.state, read.json.worker, read.json.lease_until], [a.etag, a.json.token, "being_processed", "tester é", a.json.lease_until], "reading the event shows the lease, and its ETag");
	const again = await api.post(`/api/events/${id}/acquire`);
	refused(again, 409, "ED001", "it cannot be acquired twice");
	like(again.json.detail, /being_processed/, "and why is said");
	refused(await api.post(`/api/events/${randomUUID()}/acquire`), 404, "ED004", "an unknown event is not found");
	for (const bad of ["7", "x", id + "0", id.slice(1), "%20", "null"])
		refused(await api.post(`/api/events/${bad}/acquire`), 400, "22P02", `"${bad.replace(id, "id").replace(id.slice(1), "d")}" is no id`);
	const later = await publish({ event_type: "W", flow_id: "w later", scheduled_at: "2099-01-01T00:00:00Z" });
	refused(await api.post(`/api/events/${later}/acquire`), 409, "ED001", "an event that is not due cannot be acquired");
});

const verbs = {
	success: {},
	failure: { error_message: "no luck" },
	heartbeat: {},
	release: {},
};

await section("tokens", async () => {
	for (const [verb, body] of Object.entries(verbs)) {
		const at = (x) => `/api/events/${x.event_id}/${verb}`;
		const match = (t) => ({ headers: { "If-Match": t } });
		let x = await taken("W");
		refused(await api.post(at(x), body), 422, "ED006", `${verb}: without a token it is refused`);
		refused(await api.post(at(x), { ...body, token: x.token + 1 }), 412, "ED002", `${verb}: with a stale token`);
		refused(await api.post(at(x), body, match(`"${x.token + 1}"`)), 412, "ED002", `${verb}: with a stale If-Match`);
		refused(await api.post(at(x), { ...body, token: x.token }, match(`"${x.token + 1}"`)), 422, "22023", `${verb}: with two that differ`);
		for (const odd of ["x", String(x.token), '"x"', `W/"${x.token}"`, `"${x.token}`, '""', '"-1"', '"99999999999"', `"${x.token}", "9"`, '"3 "'])
			ok([400, 412].includes((await api.post(at(x), body, match(odd))).status), `${verb}: If-Match ${odd.replace(x.token, "N")} is no token`);
		refused(await api.post(at(x), body, match("*")), 422, "ED006", `${verb}: If-Match * names no token`);
		is((await event(x.event_id)).version, x.token, `${verb}: none of that touched the event`);
		is((await api.post(at(x), { ...body, token: x.token })).status, 200, `${verb}: with the token in the body it is done`);
		x = await taken("W");
		is((await api.post(at(x), body, match(`"${x.token}"`))).status, 200, `${verb}: with the token in If-Match`);
		x = await taken("W");
		is((await api.post(at(x), { ...body, token: x.token }, match(`"${x.token}"`))).status, 200, `${verb}: with both`);
		refused(await api.post(`/api/events/${randomUUID()}/${verb}`, { ...body, token: 3 }), 404, "ED004", `${verb}: of an unknown event`);
		refused(await api.post(`/api/events/seven/${verb}`, { ...body, token: 3 }), 400, "22P02", `${verb}: of something that is no id`);
	}
	for (const verb of ["success", "failure"]) {
		const x = await taken("W");
		const body = { ...verbs[verb], token: x.token };
		await api.expect(200, "POST", `/api/events/${x.event_id}/${verb}`, body);
		refused(await api.post(`/api/events/${x.event_id}/${verb}`, body), 409, "ED003", `${verb}: the second time it is finished`);
		const again = await api.post(`/api/events/${x.event_id}/${verb}`, { ...body, if_finished: "ok" });
		is(again.status, 200, `${verb}: which if_finished: ok takes for success`);
		if (verb === "success") is([again.json.state, again.json.finished], ["succeeded", false], "and says");
	}
	const x = await taken("W", {}, 0.2);
	await until("the lease runs out", async () => (await event(x.event_id)).state !== "being_processed");
	for (const [verb, body] of Object.entries(verbs))
		refused(await api.post(`/api/events/${x.event_id}/${verb}`, { ...body, token: x.token }), 412, "ED002", `${verb}: the lease ran out`);
});

await section("success", async () => {
	const x = await taken("W", { correlation_id: "corr", headers: { traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" } });
	refused(await api.post(`/api/events/${x.event_id}/success`, { token: x.token, spinoffs: [{ event_type: "W" }, { event_type: "NOPE" }] }), 422, "ED005", "a spinoff event of an unknown type is refused");
	is((await event(x.event_id)).state, "being_processed", "and the event is not finished");
	const a = await api.expect(200, "POST", `/api/events/${x.event_id}/success`, { token: x.token, result: { done: [1, "ü"] }, spinoffs: [{ event_type: "W", payload: { n: 1 } }, { event_type: "PUB", flow_id: "elsewhere", payload: { n: 2 } }] });
	is([a.event_id, a.state, a.finished, a.spinoff_event_ids.length], [x.event_id, "succeeded", true, 2], "success with two spinoff events");
	const children = await Promise.all(a.spinoff_event_ids.map(event));
	is(children.map((c) => [c.event_type, c.flow_id, c.payload.n, c.parent_id, c.correlation_id]), [["W", x.flow_id, 1, x.event_id, "corr"], ["PUB", "elsewhere", 2, x.event_id, "corr"]], "they are there, in order, with their parent");
	is(children[0].headers?.traceparent, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "the trace is handed on");
	const e = await event(x.event_id);
	is(e.history.at(-1).result, { done: [1, "ü"] }, "the result is in the history");
	is([e.etag, e.token, e.lease_until], [undefined, null, null], "there is no lease any more");
	is(e.history.map((s) => [s.version, s.state, s.prev_state]), [[1, "awaiting_processing", null], [2, "dispatched", "awaiting_processing"], [3, "being_processed", "dispatched"], [4, "succeeded", "being_processed"]], "the history has every step");
	is([e.history[0].took_ms, e.history.slice(1).every((s, i) => Math.abs(s.took_ms - (Date.parse(s.at) - Date.parse(e.history[i].at))) < 2)], [null, true], "and how long each took");

	// The family: grandchildren too, the same tree from wherever one looks.
	await becomes(a.spinoff_event_ids[0], "dispatched");
	const child = await acquire(a.spinoff_event_ids[0]);
	const grand = (await api.expect(200, "POST", `/api/events/${child.event_id}/success`, { token: child.token, spinoffs: [{ event_type: "W" }] })).spinoff_event_ids[0];
	const families = await Promise.all([x.event_id, ...a.spinoff_event_ids, grand].map(event));
	const ids = families.map((f) => f.family.map((m) => m.event_id));
	is([...ids[0]].sort(), [x.event_id, ...a.spinoff_event_ids, grand].sort(), "the family is the whole tree");
	is(new Set(ids.map((f) => [...f].sort().join())).size, 1, "from wherever one looks");
	is(ids[3][0], x.event_id, "from its root");
	ok(families[0].family.every((m, i, all) => m.parent_id === null || all.findIndex((p) => p.event_id === m.parent_id) < i), "parents before children");
	is(families.map((f) => f.family_complete), [true, true, true, true], "all of it");

	await configure("W_LATE", { flow_type: "w-late" });
	const wide = await taken("W");
	await api.expect(200, "POST", `/api/events/${wide.event_id}/success`, { token: wide.token, spinoffs: Array.from({ length: 250 }, (_, n) => ({ event_type: "W_LATE", payload: { n } })) });
	const f = await event(wide.event_id);
	is([f.family.length, f.family_complete], [200, false], "of a large family 200 are shown");
});

await section("failure", async () => {
	await configure("F", { flow_type: "f", max_attempts: 2, attempt_delays: ["0 s", "1 hour"], on_fail_event_type: "W" });
	let x = await taken("F");
	is((await api.expect(200, "POST", `/api/events/${x.event_id}/failure`, { token: x.token, error_message: "bad € luck", stack_trace: "at\n\tline 2" })), { event_id: x.event_id, state: "awaiting_processing" }, "a failure with an attempt left");
	let e = await event(x.event_id);
	is([e.error, e.history.at(-1).stack, e.attempts_left, e.attempts_failed], ["bad € luck", "at\n\tline 2", 1, 1], "the error is kept");
	ok(Date.parse(e.wake_at) - Date.now() > 3_500_000, "and the delay of the second attempt", e.wake_at);

	x = await taken("F");
	for (const [retry_in, seconds] of [[7200, 7200], ["3 hours", 10800]]) {
		is((await api.expect(200, "POST", `/api/events/${x.event_id}/failure`, { token: x.token, error_message: "x", retry_in })).state, "awaiting_processing", `retry_in ${retry_in}`);
		const wait = (Date.parse((await event(x.event_id)).wake_at) - Date.now()) / 1000;
		ok(Math.abs(wait - seconds) < 60, "moves the next attempt", wait);
		x = await taken("F");
	}
	is((await api.expect(200, "POST", `/api/events/${x.event_id}/failure`, { token: x.token, error_message: "final", retry: false })).state, "failed", "retry: false ends it");
	e = await until("the on-fail event", async () => { const f = await event(x.event_id); return f.family.length === 2 && f; });
	is(e.family[1].event_type, "W", "its on-fail event is published");
	is((await api.get("/api/dead-letters?event_type=F")).json.dead_letters.map((d) => [d.event_id, d.state, d.error]), [[x.event_id, "failed", "final"]], "it is a dead letter");
	is((await api.get("/api/errors?limit=3")).json.errors.map((r) => [r.error, r.moved_to]).slice(0, 1), [["final", "failed"]], "and the newest of the errors");
});

await section("heartbeat, release", async () => {
	const x = await taken("W", {}, 600);
	const a = await api.post(`/api/events/${x.event_id}/heartbeat`, { token: x.token, extend: "2 hours", progress: { percent: 40 } });
	is([a.status, a.json.event_id, a.json.token, a.etag], [200, x.event_id, x.token, `"${x.token}"`], "a heartbeat keeps the token");
	ok(Date.parse(a.json.lease_until) - Date.now() > 7_000_000, "and moves the lease's end", a.json.lease_until);
	let e = await event(x.event_id);
	is([e.lease_until, e.history.at(-1).progress, e.state], [a.json.lease_until, { percent: 40 }, "being_processed"], "progress is kept");
	is((await api.post(`/api/events/${x.event_id}/heartbeat`, undefined, { headers: { "If-Match": a.etag } })).status, 200, "the ETag goes on as If-Match, without a body");

	is(await api.expect(200, "POST", `/api/events/${x.event_id}/release`, { token: x.token, retry_in: 3600, reason: "shutting down" }), { event_id: x.event_id, state: "awaiting_processing" }, "a release");
	e = await event(x.event_id);
	is([e.attempt, e.history.at(-1).reason], [0, "shutting down"], "gives the attempt back");
	ok(Date.parse(e.wake_at) - Date.now() > 3_500_000, "and waits as asked");
});

await section("acquire next", async () => {
	await configure("N", { flow_type: "next", priority: 3 });
	await configure("N_HIGH", { flow_type: "next", priority: 8 });
	await configure("N_EMPTY", { flow_type: "empty" });
	is((await api.post("/api/acquire", { flow_type: "empty" })).json, { events: [] }, "nothing there is an empty list");
	const [low, high] = (await api.post("/api/events", [{ event_type: "N", flow_id: "low" }, { event_type: "N_HIGH", flow_id: "high" }])).json.event_ids;
	await Promise.all([becomes(low, "dispatched"), becomes(high, "dispatched")]);
	let a = await api.post("/api/acquire", { flow_type: "next", worker: "n", lease: "1 min" });
	is([a.json.events.map((e) => e.event_id), a.etag], [[high], `"${a.json.events[0].token}"`], "one event, highest priority first, with its token as the ETag");
	a = await api.post("/api/acquire", { flow_type: "next", max_events: 10 });
	is(a.json.events.map((e) => e.event_id), [low], "then the other");
	const many = (await api.post("/api/events", Array.from({ length: 5 }, (_, i) => ({ event_type: "N", flow_id: `m ${i}` })))).json.event_ids;
	await Promise.all(many.map((id) => becomes(id, "dispatched")));
	a = await api.post("/api/acquire", { flow_type: "next", max_events: 3 });
	is([a.json.events.length, a.etag ?? null], [3, null], "three of five, without an ETag");
	a = await api.post("/api/acquire", { flow_type: "next", max_events: 100 });
	is(a.json.events.length, 2, "and the rest");

	refused(await api.post("/api/acquire", { flow_type: "nothing" }), 422, "ED005", "an unknown flow type");
	refused(await api.post("/api/acquire", { flow_type: "NEXT" }), 422, "ED005", "names are matched with their case");
	refused(await api.post("/api/acquire"), 422, "22004", "no flow type");
	for (const body of [{ max_events: 0 }, { max_events: -1 }, { max_events: 1.5 }, { max_events: "1" }, { wait: "a while" }, { wait: true }, { lease: 0 }, { lease: "-1 s" }, { lease: 1e300 }, { worker: 1 }, { max_events: 1e10 }]) {
		const r = await api.post("/api/acquire", { flow_type: "empty", ...body });
		ok(r.status === 422, `${JSON.stringify(body)}: refused`, `${r.status} ${r.text}`);
	}
});

await section("long poll", async () => {
	const poll = (body, options) => api.post("/api/acquire", { flow_type: "empty", wait: 60, ...body }, options);
	// A poll is waiting in the gateway when its call of the database is over.
	const waiting = async (since) => until("a poll waits", async () => (await sql(`SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%acquire_next%' AND query NOT LIKE '%pg_stat_activity%' AND query_start > '${since}' AND state = 'idle'`)) !== "0");
	const now = () => sql("SELECT clock_timestamp()");
	// The gateway answers this after it has looked at all that came before, such as the end of a connection.
	const noticed = async () => { for (let i = 0; i < 3; i++) await api.expect(200, "GET", "/health", undefined, { agent: false }); };

	const began = Date.now();
	let a = await poll({ wait: 0.4 });
	is([a.status, a.json], [200, { events: [] }], "a poll with nothing there comes back empty");
	ok(Date.now() - began >= 390, "after the time it was willing to wait", Date.now() - began);
	a = await poll({ wait: "300 ms" });
	is(a.json, { events: [] }, "which may be text");

	let since = await now();
	let p = poll();
	await waiting(since);
	const id = await publish({ event_type: "N_EMPTY", flow_id: "wanted" });
	a = await p;
	is([a.status, a.json.events.map((e) => e.event_id), a.etag], [200, [id], `"${a.json.events[0]?.token}"`], "a poll that waits gets an event that is published meanwhile");

	since = await now();
	p = poll();
	await waiting(since);
	const due = await publish({ event_type: "N_EMPTY", flow_id: "due", scheduled_at: new Date(Date.now() + 500).toISOString() });
	is((await p).json.events.map((e) => e.event_id), [due], "or one that becomes due");

	since = await now();
	p = poll();
	await waiting(since);
	const back = await taken("N");
	await api.expect(200, "POST", `/api/events/${back.event_id}/success`, { token: back.token, spinoffs: [{ event_type: "N_EMPTY" }] });
	is((await p).json.events.map((e) => e.parent_id), [back.event_id], "or a spinoff event");

	// Many who wait, and as many events: each gets one.
	const polls = Array.from({ length: 12 }, () => poll());
	const others = Array.from({ length: 3 }, () => poll({ flow_type: "w-late", wait: 1.5 }));
	const ids = (await api.post("/api/events", Array.from({ length: 12 }, (_, i) => ({ event_type: "N_EMPTY", flow_id: `crowd ${i}` })))).json.event_ids;
	const got = await Promise.all(polls);
	is(got.flatMap((x) => x.json.events.map((e) => e.event_id)).sort(), [...ids].sort(), "twelve who wait get twelve events, one each");
	is(new Set(got.map((x) => x.status)).size, 1, "all with 200");
	await Promise.all(others);

	// A worker that hangs up while it waits.
	since = await now();
	const gone = new AbortController();
	const hung = poll({}, { agent: false, signal: gone.signal }).catch((e) => e);
	await waiting(since);
	gone.abort();
	await hung;
	await noticed();
	const kept = await publish({ event_type: "N_EMPTY", flow_id: "kept" });
	await becomes(kept, "dispatched");
	a = await poll({ wait: 0 });
	is(a.json.events.map((e) => [e.event_id, e.attempt]), [[kept, 1]], "a worker that hung up got nothing: the next one has the event, in its first attempt");
	is((await event(kept)).history.length, 3, "and no step was made for it");

	// One that hangs up while the database works on its call.
	const lost = await publish({ event_type: "N_EMPTY", flow_id: "lost" });
	await becomes(lost, "dispatched");
	const lock = await session("BEGIN", "LOCK TABLE eda.transition_1 IN ACCESS EXCLUSIVE MODE");
	const abort = new AbortController();
	const blocked = poll({ wait: 0 }, { agent: false, signal: abort.signal }).catch((e) => e);
	await until("the call is blocked", async () => (await sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%acquire_next%'")) !== "0");
	abort.abort();
	await blocked;
	await noticed();
	await lock.end();
	await until("it is handed back", async () => { const e = await event(lost); return e.history.some((s) => s.state === "being_processed") ? e.state === "dispatched" && e.attempt === 0 : false; });
	ok(true, "an event that was acquired for a client that is gone is given back, the attempt too");
	a = await poll();
	is(a.json.events.map((e) => [e.event_id, e.attempt]), [[lost, 1]], "and the next one gets it in its first attempt");
});

/* ------------------------------------------------------------------------
 * Operators
 * ------------------------------------------------------------------------ */

await section("cancel, suspend, resume, redrive", async () => {
	const post = (id, verb, body) => api.post(`/api/events/${id}/${verb}`, body);
	let id = await publish({ event_type: "W", flow_id: "op", scheduled_at: "2099-01-01T00:00:00Z" });
	is((await post(id, "suspend", { reason: "fraud check", deadline: "2098-01-01T00:00:00Z" })).json, { event_id: id, state: "suspended" }, "suspend as an operator");
	let e = await event(id);
	is([e.suspended_by, e.history.at(-1).reason, Date.parse(e.wake_at)], ["operator", "fraud check", Date.parse("2098-01-01T00:00:00Z")], "with reason and deadline");
	refused(await post(id, "suspend"), 409, "ED001", "a suspended event cannot be suspended");
	is((await post(id, "resume", { reason: "fine" })).json, { event_id: id, state: "awaiting_processing" }, "resume");
	refused(await post(id, "resume"), 409, "ED001", "what is not suspended cannot be resumed");
	await becomes(id, "dispatched");
	is((await post(id, "cancel", { reason: "no more" })).json, { event_id: id, state: "canceled" }, "cancel");
	is((await event(id)).history.at(-1).reason, "no more", "with its reason");
	let a = await post(id, "cancel");
	refused(a, 409, "ED001", "canceled is final");
	like(a.json.hint, /final/, "which the hint says");
	refused(await post(id, "redrive"), 409, "ED001", "and cannot be redriven");

	let x = await taken("W");
	a = await api.post(`/api/events/${x.event_id}/suspend`, { deadline: "2098-01-01T00:00:00Z" }, { headers: { "If-Match": `"${x.token}"` } });
	is(a.json, { event_id: x.event_id, state: "suspended" }, "suspend as its worker");
	e = await event(x.event_id);
	is([e.suspended_by, e.attempt], ["worker", 0], "gives the attempt back");
	is((await post(x.event_id, "resume")).status, 200, "and is resumed from outside");
	x = await taken("W");
	refused(await post(x.event_id, "suspend", { token: x.token + 1 }), 412, "ED002", "suspend with a stale token");
	is((await post(x.event_id, "cancel")).json.state, "canceled", "what is being processed can be canceled");
	a = await post(x.event_id, "success", { token: x.token });
	ok(a.status === 409 || a.status === 412, "its worker is told", `${a.status} ${a.text}`);

	await configure("OP", { flow_type: "op", max_attempts: 1 });
	x = await taken("OP");
	await post(x.event_id, "failure", { token: x.token, error_message: "dead" });
	is((await event(x.event_id)).state, "failed", "an event without attempts fails");
	is((await post(x.event_id, "redrive", { reason: "fixed" })).json, { event_id: x.event_id, state: "awaiting_processing" }, "redrive");
	e = await becomes(x.event_id, "dispatched");
	is([e.attempts_left, e.history.find((s) => s.prev_state === "failed")?.reason], [1, "fixed"], "it has its attempt again");
	for (const verb of ["cancel", "suspend", "resume", "redrive"]) {
		refused(await post(randomUUID(), verb), 404, "ED004", `${verb}: of an unknown event`);
		refused(await post("x-1", verb), 400, "22P02", `${verb}: of something that is no id`);
	}

	// Somebody else has the event at this moment.
	await set({ "eda.lock_wait": "200ms" });
	id = await publish({ event_type: "W", flow_id: "busy", scheduled_at: "2099-01-01T00:00:00Z" });
	const other = await session("BEGIN", `SELECT eda.cancel('${id}')`);
	a = await until("busy", async () => { const r = await post(id, "cancel"); return r.status === 409 && r; });
	refused(a, 409, "ED008", "what another transaction has is busy");
	is(a.headers["retry-after"], "1", "and worth another try");
	await other.end();
	is((await post(id, "cancel")).status, 200, "which then works");
	await set({ "eda.lock_wait": null });
});

/* ------------------------------------------------------------------------
 * Looking
 * ------------------------------------------------------------------------ */

// All pages; the function is called between them.
async function pages(path, key, between = async () => {}) {
	const all = [];
	let sizes = [];
	for (let next = null, n = 0; n < 10000; n++) {
		const page = (await api.expect(200, "GET", path + (next ? `&before=${encodeURIComponent(next)}` : "")));
		all.push(...page[key]);
		sizes.push(page[key].length);
		next = page.next;
		if (next === null) return { all, sizes };
		await between(n);
	}
	throw new Error(`${path} has no last page`);
}

await section("lists", async () => {
	await configure("L", { flow_type: "list" });
	await configure("L_TWO", { flow_type: "list" });
	await configure("L_ELSE", { flow_type: "list-else" });
	const batch = [];
	for (let i = 0; i < 90; i++) batch.push({ event_type: ["L", "L_TWO", "L_ELSE"][i % 3], flow_id: `order & ${i % 5}/ü`, ...(i % 2 ? { scheduled_at: "2099-01-01T00:00:00Z" } : {}) });
	await api.expect(201, "POST", "/api/events", batch);
	await until("all are dispatched", async () => (await sql("SELECT count(*) FROM eda.event_state WHERE flow_type LIKE 'list%' AND state = 'dispatched'")) === "45");

	const filters = [{}, { state: "dispatched" }, { flow_type: "list" }, { flow_id: "order & 3/ü" }, { event_type: "L_TWO" }, { flow_type: "list", state: "awaiting_processing" }, { flow_type: "list", event_type: "L_TWO", flow_id: "order & 1/ü" },
		{ flow_type: "list", flow_id: "order & 2/ü" }, { event_type: "L", state: "dispatched" }, { flow_type: "list", event_type: "L_ELSE" }, { event_type: "L_ELSE", flow_type: "list-else", flow_id: "order & 0/ü", state: "dispatched" }, { state: "expired" }];
	for (const filter of filters) {
		const where = Object.entries(filter).map(([k, v]) => `${k} = '${v}'`).join(" AND ") || "true";
		const expected = (await sql(`SELECT id FROM eda.event_state WHERE ${where} ORDER BY id DESC`)).split("\n").filter(Boolean);
		const { all } = await pages(`/api/events?limit=7&${new URLSearchParams(filter)}`, "events");
		is(all.map((e) => e.event_id), expected, `pages of ${JSON.stringify(filter)}: each event once, newest first`);
	}
	const { all, sizes } = await pages("/api/events?flow_type=list&limit=500", "events");
	is([all.length, sizes[0]], [60, 60], "one large page");
	is((await pages("/api/events?flow_type=list", "events")).sizes[0], 50, "50 are a page if nothing else is asked for");
	const [sample] = all;
	const e = await event(sample.event_id);
	is(Object.keys(sample), Object.keys(e).slice(0, Object.keys(sample).length), "a summary is the beginning of the whole event");

	// Events that come while somebody turns pages are not on the later ones.
	let added = 0;
	const before = (await sql("SELECT id FROM eda.event WHERE event_type = 'L' ORDER BY id DESC")).split("\n");
	const turned = await pages("/api/events?event_type=L&limit=4", "events", async () => { await publish({ event_type: "L", flow_id: `new ${added++}` }); });
	is(turned.all.map((x) => x.event_id), before, "what is published meanwhile makes no repeats and no holes");

	is((await api.get("/api/events?event_type=NOPE")).json, { events: [], next: null }, "an unknown event type has no events");
	is((await api.get("/api/events?flow_type=")).status, 200, "an empty filter is none");
	refused(await api.get("/api/events?state=dead"), 422, "22023", "an unknown state is refused");
	refused(await api.get("/api/events?limit=0"), 422, "22023", "limit 0");
	refused(await api.get("/api/events?limit=501"), 422, "22023", "limit 501");
	for (const bad of ["x", "1.5", "1e2", "99999999999", "-", "1%202"]) ok([400, 422].includes((await api.get(`/api/events?limit=${bad}`)).status), `limit ${bad}`);
	refused(await api.get("/api/events?before=7"), 400, "22P02", "before what is no id");
	is((await api.get(`/api/events?before=${randomUUID()}`)).status, 200, "before an id that is none of an event");
	is((await api.get("/api/events?before=00000000-0000-0000-0000-000000000000")).json, { events: [], next: null }, "before the first");
	is((await api.get("/api/events?flow_id=order+%26+0%2F%C3%BC&flow_type=list-else&limit=2")).json.events.length, 2, "a plus in a query is a space");
});

await section("flow", async () => {
	const odd = ["order-7", "a/b", "/", "a//b", "..", ".", "../x", "a b", "ü€𝄞", "100%", "%2F", "a?b", "a#b", "a+b", "a&b=c", "\"'<>\\", ";,:@", "\t\n\r", "x".repeat(512), "~", "\u0001", "a%00b", "null", "*"];
	for (const flow_id of odd) {
		const id = await publish({ event_type: "PUB", flow_id });
		const a = await api.get(`/api/flows/pub/${encodeURIComponent(flow_id).replace(/\./g, "%2E")}`);
		// libwebsockets folds slashes and dots, encoded or not: such a flow may not be found, and "a//b" is "a/b", as the answer says.
		const foldable = /\/|^\.+$|[\r\n]/.test(flow_id);
		const folded = a.status === 200 && flow_id.includes("//") && a.json.flow_id === flow_id.replace(/\/+/g, "/");
		ok(folded ? true : a.status === 200 ? a.json.flow_id === flow_id && a.json.flow_type === "pub" && a.json.events.at(-1)?.event_id === id : foldable && a.status < 500,
			`flow id ${JSON.stringify(flow_id).slice(0, 30)} in a path`, `${a.status} ${a.text.slice(0, 300)}`);
		const query = await api.get(`/api/flows/pub?${new URLSearchParams({ flow_id })}`);
		ok(/[\r\n]/.test(flow_id) ? query.status === 400 : query.status === 200 && query.json.flow_id === flow_id && query.json.events.at(-1)?.event_id === id, "in a query", `${query.status} ${query.text.slice(0, 300)}`);
		const list = await api.get(`/api/events?flow_type=pub&${new URLSearchParams({ flow_id })}`);
		ok(/[\r\n]/.test(flow_id) ? list.status === 400 : list.json.events?.some((e) => e.event_id === id), "and as a filter", `${list.status} ${list.text.slice(0, 300)}`);
	}
	const x = await taken("W", { flow_id: "a flow" });
	await api.expect(200, "POST", `/api/events/${x.event_id}/success`, { token: x.token, spinoffs: [{ event_type: "W" }, { event_type: "PUB", flow_id: "not of this flow" }] });
	const flow = (await api.get("/api/flows/w/a%20flow")).json;
	is([flow.events.length, flow.complete, flow.events[0].event_id, flow.events.map((e) => e.flow_id)], [2, true, x.event_id, ["a flow", "a flow"]], "a flow has its events, oldest first");
	is(flow.events[0].history.map((s) => s.state), ["awaiting_processing", "dispatched", "being_processed", "succeeded"], "each with its history");
	refused(await api.get("/api/flows/w/no%20flow"), 404, "ED004", "a flow without events is not found");
	refused(await api.get("/api/flows/w?flow_id=no+flow"), 404, "ED004", "by a query neither");
	const unnamed = await api.get("/api/flows/w");
	ok([400, 404, 422].includes(unnamed.status), "a flow id is needed", unnamed.text);
	const unknown = await api.get("/api/flows/nothing/a%20flow");
	ok(unknown.status === 404, "nor one of an unknown flow type", unknown.text);
	await api.expect(201, "POST", "/api/events", Array.from({ length: 210 }, () => ({ event_type: "W_LATE", flow_id: "long" })));
	const long = (await api.get("/api/flows/w-late/long")).json;
	is([long.events.length, long.complete], [200, false], "of a long flow 200 are shown");
});

await section("counts", async () => {
	const types = async () => Object.fromEntries((await api.get("/api/counts")).json.types.map((t) => [t.event_type, t]));
	const counted = async () => (await sql("SELECT json_object_agg(event_type, n) FROM (SELECT event_type, count(*) n FROM eda.event GROUP BY 1) c"));
	const expected = JSON.parse(await counted());
	await until("the counters are a recount", async () => {
		const t = await types();
		return Object.entries(expected).every(([k, n]) => Object.values(t[k].events).reduce((a, b) => a + b, 0) === n);
	});
	ok(true, "the counters add up to the events");
	const c = (await api.get("/api/counts")).json;
	is([c.engine.state, typeof c.engine.pid, Object.keys(c.types[0].events).length], ["running", "number", 8], "engine and all eight states");
	const dead = Number(await sql("SELECT count(*) FROM eda.dead_letter"));
	is(c.dead_letters, dead, "dead letters are counted");
	const ready = await api.get("/ready");
	is([ready.status, ready.json], [200, { status: "ready", engine: "running", database: "postgres" }], "/ready");
	is((await api.get("/health")).json, { status: "alive" }, "/health");
	const metrics = await api.get("/metrics");
	ok(metrics.status === 200 && /^# TYPE /m.test(metrics.text) && /^eda_\w+(\{[^}]*\})? [0-9.e+-]+$/m.test(metrics.text), "/metrics is Prometheus text", metrics.text.slice(0, 500));
	const moves = (await api.get("/api/lifecycle")).json.moves;
	is(moves.length, Number(await sql("SELECT count(*) FROM eda.lifecycle")), "/api/lifecycle has every move");
	is((await api.get("/api/errors?limit=1")).json.errors.length, 1, "/api/errors with a limit");
	refused(await api.get("/api/errors?limit=0"), 422, "22023", "that makes sense");
});

await section("event types", async () => {
	const at = "/api/event-types/ET_ONE";
	const defaults = { max_attempts: 5, backoff: 1, jitter: 0, lease: "00:00:30", priority: 5, delivery: "pull", on_suspend_timeout: "expire", suspended: false };
	const some = (r) => Object.fromEntries(Object.keys(defaults).map((k) => [k, r[k]]));
	refused(await api.get(at), 404, "ED005", "an unknown event type is not found");
	const none = await api.send("PUT", at, {});
	ok(none.status === 422 && /flow type/.test(none.json.detail), "a new one needs a flow type", none.text);
	let a = await api.send("PUT", at, { flow_type: "et" });
	is([a.status, some(a.json), a.json.flow_type], [201, defaults, "et"], "PUT creates it, with the defaults");
	is((await api.send("PUT", at, { flow_type: "et" })).status, 200, "and finds it the second time");
	a = await api.send("PATCH", at, { max_attempts: 9, lifespan: "1 year", priority: 7, attempt_delays: ["0 s", "00:01:00", "1 hour"] });
	is([a.status, a.json.max_attempts, a.json.lifespan, a.json.priority, a.json.lease], [200, 9, "1 year", 7, "00:00:30"], "PATCH changes what is given");
	is(a.json.attempt_delays, ["00:00:00", "00:01:00", "01:00:00"], "an array of delays too");
	a = await api.send("PATCH", at, { lease: "2 min" });
	is([a.json.max_attempts, a.json.lease], [9, "00:02:00"], "and nothing else");
	is((await api.get(at)).json, a.json, "GET shows the same");
	a = await api.send("PATCH", at, { max_attempts: null, lifespan: null });
	is([a.json.max_attempts, a.json.lifespan, a.json.priority], [5, null, 7], "null is the default of that one");
	a = await api.send("PUT", at, { priority: 2 });
	is([a.status, a.json.priority, a.json.lease, a.json.flow_type], [200, 2, "00:00:30", "et"], "PUT takes the others back to their defaults; the flow type stays");
	const list = (await api.get("/api/event-types")).json.event_types;
	is(list.find((t) => t.event_type === "ET_ONE"), a.json, "the list has it");
	is(list.length, Number(await sql("SELECT count(*) FROM eda.event_type")), "and all others");

	for (const [name, body, code] of [["another flow type", { flow_type: "other" }, "22023"], ["no attempts", { max_attempts: 0 }, "22023"], ["a fraction of an attempt", { max_attempts: 1.5 }, /^22/], ["a text", { max_attempts: "5" }, "22023"], ["a lease below zero", { lease: "-1 s" }, "22023"],
		["a lease of nothing", { lease: "soon" }, /^22/], ["no delays", { attempt_delays: [] }, "22023"], ["delays that are no array", { attempt_delays: "0 s" }, "22023"], ["a delay that is none", { attempt_delays: ["x"] }, /^22/], ["nested delays", { attempt_delays: [["0 s"]] }, /^22/],
		["an unknown delivery", { delivery: "mail" }, "22023"], ["an unknown key", { foo: 1 }, "22023"], ["its own name", { event_type: "ET_ONE" }, "22023"], ["a reset", { reset: true }, "22023"], ["itself on failure", { on_fail_event_type: "ET_ONE" }, "22023"],
		["an unknown type on failure", { on_fail_event_type: "ET_NONE" }, /^22023|ED005$/], ["a lifespan that is too short", { lifespan: "1 s", max_attempts: 3, attempt_delays: ["1 hour"] }, "22023"]])
		for (const method of ["PUT", "PATCH"]) {
			const r = await api.send(method, at, body);
			ok(r.status === 422 && (code instanceof RegExp ? code.test(r.json.code) : r.json.code === code), `${method} with ${name}: refused`, `${r.status} ${r.text}`);
		}
	for (const bad of ["1ET", "E%20T", "E%2FT", "%C3%BC", "a".repeat(64), "%27"]) {
		const r = await api.send("PUT", `/api/event-types/${bad}`, { flow_type: "et" });
		ok(r.status === 422 || (bad.includes("%2F") && r.status === 404), `PUT ${bad.slice(0, 10)}: no name`, `${r.status} ${r.text}`);
	}
	a = await api.send("PUT", "/api/event-types/et_one", { flow_type: "et" });
	ok(a.status === 422 || a.status === 409, "names are unique without regard to case", `${a.status} ${a.text}`);

	is((await api.post(`${at}/suspend`)).json, { event_type: "ET_ONE", suspended: true, changed: true }, "suspend");
	is((await api.post(`${at}/suspend`)).json.changed, false, "again changes nothing");
	const id = await publish({ event_type: "ET_ONE", flow_id: "waits" });
	const e = await becomes(id, "suspended");
	is(e.suspended_by, "type", "its events wait");
	is((await api.send("PUT", at, {})).json.suspended, true, "PUT does not unsuspend it");
	is((await api.post(`${at}/unsuspend`)).json, { event_type: "ET_ONE", suspended: false, changed: true }, "unsuspend");
	await becomes(id, "dispatched");
	refused(await api.post("/api/event-types/NOPE/suspend"), 404, "ED005", "suspend of an unknown event type");
	refused(await api.post("/api/event-types/NOPE/unsuspend"), 404, "ED005", "unsuspend too");
	is((await api.send("PUT", "/api/event-types/ET_NATS", { flow_type: "et", delivery: "nats", subject: "a.{flow_id}" })).status, 201, "a notice of the database does no harm");
});

await section("dead letters", async () => {
	await configure("D", { flow_type: "dead", max_attempts: 1 });
	await configure("D_TWO", { flow_type: "dead", max_attempts: 1 });
	const ids = (await api.expect(201, "POST", "/api/events", Array.from({ length: 23 }, (_, i) => ({ event_type: i % 4 ? "D" : "D_TWO", flow_id: `d ${i}`, payload: { i } })))).event_ids;
	for (let left = ids.length; left > 0;) {
		const { events } = await api.expect(200, "POST", "/api/acquire", { flow_type: "dead", max_events: 10, wait: 60 });
		for (const e of events) await api.expect(200, "POST", `/api/events/${e.event_id}/failure`, { token: e.token, error_message: `died ${e.payload.i % 3}`, stack_trace: "s" });
		left -= events.length;
	}
	for (const filter of [{ flow_type: "dead" }, { event_type: "D" }, { event_type: "D_TWO", flow_type: "dead" }, { event_type: "D", flow_type: "w" }]) {
		const where = Object.entries(filter).map(([k, v]) => `${k} = '${v}'`).join(" AND ");
		const expected = (await sql(`SELECT id FROM eda.dead_letter WHERE ${where} ORDER BY died_at DESC, id DESC`)).split("\n").filter(Boolean);
		const { all } = await pages(`/api/dead-letters?limit=4&${new URLSearchParams(filter)}`, "dead_letters");
		is(all.map((d) => d.event_id), expected, `pages of ${JSON.stringify(filter)}: each dead letter once, newest first`);
	}
	const all = (await pages("/api/dead-letters?limit=3", "dead_letters")).all.map((d) => d.event_id);
	is([...all].sort(), (await sql("SELECT id FROM eda.dead_letter ORDER BY id")).split("\n"), "all of them, whatever the type");
	for (const bad of ["x", "7", "%7B%7D", "2026-01-01", "infinity", "null"]) {
		const r = await api.get(`/api/dead-letters?before=${bad}`);
		ok(r.status === 400 || r.status === 422, `before=${bad}: refused`, `${r.status} ${r.text.slice(0, 300)}`);
	}
	refused(await api.get("/api/dead-letters?limit=0"), 422, "22023", "limit 0");

	const redrive = (body) => api.post("/api/dead-letters/redrive", body);
	const some = ids.slice(0, 3);
	is((await redrive({ event_ids: some, reason: "again" })).json, { redriven: 3 }, "redrive by ids");
	is((await Promise.all(some.map(event))).map((e) => e.history.find((s) => s.prev_state === "failed").reason), ["again", "again", "again"], "with a reason");
	refused(await redrive({ event_ids: [ids[5], ids[0]] }), 409, "ED001", "one that is no dead letter: refused");
	is((await event(ids[5])).state, "failed", "all of them");
	refused(await redrive({ event_ids: [randomUUID()] }), 404, "ED004", "an unknown event");
	is((await redrive({ event_ids: [] })).json, { redriven: 0 }, "none at all");
	is((await redrive({ event_type: "D_TWO", since: "2099-01-01T00:00:00Z" })).json, { redriven: 0 }, "redrive by type, since a time");
	const two = Number(await sql("SELECT count(*) FROM eda.dead_letter WHERE event_type = 'D_TWO'"));
	is((await redrive({ event_type: "D_TWO" })).json, { redriven: two }, "redrive by type");
	for (const body of [{}, { event_ids: "x" }, { event_ids: ["x"] }, { event_ids: [7] }, { event_ids: [null] }, { event_ids: null }, { event_type: 7 }, { event_type: "D", event_ids: some }, { event_type: "D", since: "x" }, { since: "2020-01-01T00:00:00Z" }, { event_type: "NOPE" }, { event_ids: some, since: "2020-01-01T00:00:00Z" }]) {
		const r = await redrive(body);
		ok([400, 422].includes(r.status), `redrive ${JSON.stringify(body).slice(0, 60).replace(/[0-9a-f-]{36}/g, "id")}: refused`, `${r.status} ${r.text}`);
	}
});

/* ------------------------------------------------------------------------
 * What the database cannot do
 * ------------------------------------------------------------------------ */

await section("the database refuses", async () => {
	const expected = { headers: { "X-Expected": "1" } };
	// A table of the log that somebody altered.
	await sql("CREATE FUNCTION test.nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER users BEFORE INSERT ON eda.event_1 FOR EACH ROW EXECUTE FUNCTION test.nothing()");
	let a = await api.post("/api/events", { event_type: "PUB", flow_id: "x" });
	ok(a.status === 503 && a.headers["retry-after"] > 0, "a log that was altered: 503", a.text);
	await sql("DROP TRIGGER users ON eda.event_1");
	a = await api.post("/api/events", { event_type: "PUB", flow_id: "x" });
	is(a.status, 201, "and well again");

	await set({ default_transaction_read_only: "on" });
	a = await until("read-only", async () => { const r = await api.post("/api/events", { event_type: "PUB", flow_id: "x" }); return r.status !== 201 && r; });
	ok(a.status === 503 && a.headers["retry-after"] > 0, "a database that takes no writes: 503", a.text);
	is((await api.get("/api/counts")).status, 200, "reading goes on");
	await set({ default_transaction_read_only: "off" });
	await until("writable", async () => (await api.post("/api/events", { event_type: "PUB", flow_id: "x" })).status === 201);

	const lock = await session("BEGIN", "LOCK TABLE eda.event_1 IN ACCESS EXCLUSIVE MODE");
	const p = api.post("/api/events", { event_type: "PUB", flow_id: "slow" });
	await until("it is blocked", async () => (await sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%publish%'")) === "1");
	await sql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%publish%'");
	a = await p;
	ok(a.status === 503 && a.headers["retry-after"] > 0, "a call that is canceled: 503", a.text);
	const q = api.post("/api/events", { event_type: "PUB", flow_id: "slow" });
	await until("it is blocked", async () => (await sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%publish%'")) === "1");
	await sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%publish%'");
	a = await q;
	ok(a.status === 503 && a.headers["retry-after"] > 0, "a session that is ended: 503", a.text);
	await lock.end();

	// What is our own fault is 500, and says nothing.
	await sql("ALTER FUNCTION eda_http.lifecycle() RENAME TO lost");
	a = await until("the function is missed", async () => { const r = await api.get("/api/lifecycle", expected); return r.status !== 200 && r; });
	ok(a.status === 500 && a.type === "application/problem+json" && !/lost|lifecycle\(|function/.test(a.text), "a missing function: 500, and nothing is told", a.text);
	await sql("ALTER FUNCTION eda_http.lost() RENAME TO lifecycle");
	is((await api.get("/api/lifecycle")).status, 200, "and well again");
	like(await g.log(), /lifecycle/, "the gateway's log has it");

	await set({ "eda.engine": "off" });
	a = await until("not ready", async () => { const r = await api.get("/ready"); return r.status === 503 && r; });
	is(a.json.status, "not ready", "without an engine /ready says so");
	await set({ "eda.engine": "paused" });
	a = await until("paused is ready", async () => { const r = await api.get("/ready"); return r.status === 200 && r; });
	is(a.json.engine, "paused", "paused is ready");
	await set({ "eda.engine": "on" });
	await server.runs();
	await until("ready again", async () => (await api.get("/ready")).status === 200);
});

report(800);
await finish();
