// live.mjs
//	Watching: Server-Sent Events and WebSockets.  Nothing that happened is left out, whatever
//	goes away and comes back meanwhile; repeats are told by (event_id, version).
//	test/t/515_live.pl runs it.
import { randomUUID } from "node:crypto";
import { Client, connect, finish, frame, framesIn, gateway, is, like, live, note, ok, perl, raw, rawSocket, section as part, server, session, set, Socket, socket, soon, sql, stream, Stream, until } from "./lib.mjs";
import { schemaFault } from "./openapi.mjs";

const g = await gateway();
const api = new Client(g.url);
const first = await stream(g.url);	// open all the time: for what comes every 15 seconds
await first.waitFor("the engine runs", () => first.of("status").at(-1).json.engine === "running");
const prefix = () => `${randomUUID()} `;

// Events of the flow ids "<prefix> 1", ...; worked off if the flow type is "flow".
const publish = (p, n, type = "T") => sql(`SELECT test.publish('${type}', '${p}', ${n})`);
const workOff = () => perl("work_off");
const stepsOf = async (p) => (await sql(`SELECT t.event_id || '/' || t.version || '/' || t.state FROM eda.event e JOIN eda.transition t ON t.event_id = e.id AND t.segment = e.segment WHERE e.flow_id LIKE '${p}%' ORDER BY 1`)).split("\n").filter(Boolean);
const told = (changes, p) => changes.filter((c) => c.flow_id?.startsWith(p)).map((c) => `${c.event_id}/${c.version}/${c.state}`);
// Wait until all steps of these events have been told.
async function sees(s, p, name, changes = () => s.changes) {
	const steps = await stepsOf(p);
	await s.waitFor(name, () => new Set(told(changes(), p)).size >= steps.length).catch(() => {});
	return is([...new Set(told(changes(), p))].sort(), steps, name);
}
const inOrder = (changes) => {
	const last = new Map();
	return changes.filter((c) => { const bad = c.version <= (last.get(c.event_id) || 0); last.set(c.event_id, c.version); return bad; });
};
// Where seq leaves out a number.  A change that comes from the log, because the feed was late or
// has omitted it, has no seq, and stands where the number would have been.
function gapsInSeq(changes) {
	const numbered = changes.map((c, i) => ({ at: i, seq: c.seq })).filter((c) => c.seq);
	return numbered.filter((c, i) => {
		if (i === 0) return false;
		const { at, seq } = numbered[i - 1];
		return c.seq[0] !== seq[0] || c.seq[1] <= seq[1] || c.seq[1] - seq[1] > c.at - at;
	});
}
const faults = (s, kinds) => s.messages.map((m) => schemaFault(kinds[m.event ?? m.type], m.json ?? m)).filter(Boolean);
const sseKinds = { change: "Changes", skipped: "Skipped", status: "Status" };
const wsKinds = { subscribed: "WsSubscribed", unsubscribed: "WsUnsubscribed", changes: "WsChanges", skipped: "WsSkipped", status: "WsStatus", pong: "WsPong", error: "WsError" };
const anyId = (s) => s.waitFor("an id", () => s.lastId);

await sql("SELECT FROM eda.configure('OTHER', flow_type => 'other', max_attempts => 100, attempt_delays => '{0 s}', lease => '10 min')");

// Each part leaves things as it found them, also if it fails.
const section = (name, run) => part(name, async () => {
	try {
		await run();
	} finally {
		await sql("SELECT count(eda.cancel(id)) FROM eda.event_state WHERE state IN ('awaiting_processing', 'dispatched', 'being_processed')");
		await set({ "eda.feed": null, "eda.engine": null, "eda.ready_window": null });
		await server.runs();
	}
});

/* ------------------------------------------------------------------------
 * Server-sent events
 * ------------------------------------------------------------------------ */

await section("a stream", async () => {
	const s = await stream(g.url);
	is([s.status, s.headers["content-type"].split(";")[0], /no-(store|cache|transform)/.test(s.headers["cache-control"])], [200, "text/event-stream", true], "a stream is one");
	is(s.messages[0].event, "status", "it begins with the status");
	is(s.messages[0].json, { database: "up", engine: "running", feed: "full" }, "which says that all is well");
	const p = prefix();
	await publish(p, 300);
	await workOff();
	await sees(s, p, "every step of 300 events is told");
	is(told(s.changes, p).length, new Set(told(s.changes, p)).size, "once");
	is(inOrder(s.changes).length, 0, "the versions of each event in order");
	is(gapsInSeq(s.changes), [], "without a gap in seq");
	ok(s.of("change").length < s.changes.length / 2, "many changes share a message", s.of("change").length);
	is([faults(s, sseKinds).slice(0, 3), s.bad], [[], []], "every message keeps to its schema");
	is(s.messages.filter((m) => m.id !== undefined && !/^\d+:\d+:[\d,]*$/.test(m.id)).length, 0, "ids are snapshots");
	ok(s.lastId !== undefined, "and there are some");
	const one = await stream(g.url);
	const odd = `line\n\nid: 9:9:\nevent: status\ndata: {"database": "gone"}\n\n \u2028 </script> ${prefix()}`;
	await api.expect(201, "POST", "/api/events", { event_type: "T", flow_id: odd });
	await one.waitFor("the change", () => one.changes.some((c) => c.flow_id === odd));
	is([one.of("status").length, one.bad], [1, []], "a flow id with line breaks breaks nothing");
	await workOff();
	one.close();
	s.close();
});

await section("filters", async () => {
	const p = prefix();
	const q = (o) => "/api/stream?" + new URLSearchParams(o);
	const wanted = { "flow_type": { flow_type: "other" }, "event_type": { event_type: "OTHER" }, "flow_id": { flow_id: `${p} 2` }, "two": { flow_type: "flow", flow_id: `${p} 3` }, "none of these": { flow_type: "other", event_type: "T" }, "an unknown type": { event_type: "NOPE" }, "empty ones": { flow_type: "", event_type: "" } };
	const streams = {};
	for (const [name, o] of Object.entries(wanted)) streams[name] = await stream(g.url, q(o));
	await publish(p, 5);
	await publish(p, 5, "OTHER");
	await sql("CALL test.work('other', 5)");
	await workOff();
	await sees(streams["empty ones"], p, "an empty filter is none");
	const matching = { "flow_type": (c) => c.flow_type === "other", "event_type": (c) => c.event_type === "OTHER", "flow_id": (c) => c.flow_id === `${p} 2`, "two": (c) => c.flow_type === "flow" && c.flow_id === `${p} 3`, "none of these": () => false, "an unknown type": () => false };
	const all = streams["empty ones"].changes.filter((c) => c.flow_id.startsWith(p));
	for (const [name, fits] of Object.entries(matching)) {
		await streams[name].waitFor(name, () => streams[name].changes.length >= all.filter(fits).length);
		is(told(streams[name].changes, ""), told(all.filter(fits), ""), `a stream filtered by ${name} has what fits`);
	}
	is(streams["flow_id"].changes.length, 8, "of two events in this case");
	for (const s of Object.values(streams)) s.close();
});

await section("resume", async () => {
	let s = await stream(g.url);
	const p = prefix();
	await publish(p, 20);
	await workOff();
	await sees(s, p, "before");
	await anyId(s);
	let seen = s.changes;
	let id = s.lastId;
	s.close();
	await publish(p, 30);
	await workOff();
	s = await stream(g.url, "/api/stream", { "Last-Event-ID": id });
	await sees(s, p, "after a disconnect, with Last-Event-ID, nothing is missing", () => [...seen, ...s.changes]);
	is(s.of("skipped"), [], "and nothing was skipped");
	const twice = told(s.changes, p).filter((x) => told(seen, p).includes(x));
	note(`${twice.length} came twice`);
	is(inOrder(s.changes.filter((c) => c.flow_id.startsWith(p))).length, 0, "in order");
	await anyId(s);
	s.close();

	s = await stream(g.url, `/api/stream?last_event_id=${encodeURIComponent(id)}`);
	await sees(s, p, "the same by the query", () => [...seen, ...s.changes]);
	s.close();
	s = await stream(g.url, `/api/stream?flow_id=${encodeURIComponent(`${p} 25`)}`, { "Last-Event-ID": id });
	await s.waitFor("the filtered ones", () => s.changes.length >= 4);
	is([...new Set(s.changes.map((c) => c.flow_id))], [`${p} 25`], "a resume is filtered too");
	s.close();

	// Many times in the midst of things.
	const q = prefix();
	let all = [];
	s = await stream(g.url);
	const work = (async () => { for (let i = 0; i < 12; i++) { await publish(q, 25); await workOff(); } })();
	let last = s.lastId;
	let working = true;
	let n = 0;
	work.finally(() => { working = false; });
	for (; working; n++) {
		await s.waitFor("something", () => s.changes.length > 5 || !working);
		last = s.lastId ?? last;
		all.push(...s.changes);
		s.close();
		s = await stream(g.url, "/api/stream", last === undefined ? {} : { "Last-Event-ID": last });
	}
	await work;
	await sees(s, q, "disconnects in the midst of things leave nothing out", () => [...all, ...s.changes]);
	note(`there were ${n}`);
	s.close();

	// A transaction that was open when the client left, and others that committed before it.
	s = await stream(g.url);
	const r = prefix();
	const long = await session("BEGIN", `SELECT eda.publish('T', '${r} open')`);
	await publish(r, 3);
	await workOff();
	await sees(s, r, "what is committed");
	await s.waitFor("an id after it", () => s.messages.findLast((m) => m.id !== undefined && m.json?.some?.((c) => c.flow_id.startsWith(r))));
	seen = s.changes;
	id = s.lastId;
	s.close();
	await long.end("COMMIT");
	await workOff();
	s = await stream(g.url, "/api/stream", { "Last-Event-ID": id });
	await sees(s, r, "a transaction that commits late is not left out", () => [...seen, ...s.changes]);
	s.close();

	for (const [name, bad] of [["garbage", "garbage"], ["the future", "99999999999:99999999999:"], ["an impossible snapshot", "9:3:"], ["a number", "7"], ["SQL", "1:1:'; DROP TABLE x; --"], ["a very long list", `1:99999999:${Array.from({ length: 500 }, (_, i) => 2 + i).join()}`]]) {
		const b = new Stream(g.url, "/api/stream", { "Last-Event-ID": bad });
		await soon("an answer", b.opened);
		if (b.status === 200) await b.waitFor("the status", () => b.of("status").length > 0);
		ok(b.status === 400 || (b.status === 200 && (b.of("skipped").length === 1 || bad.startsWith("1:9"))), `Last-Event-ID that is ${name}: refused, or it is said that something may be missing`, b.status, b.messages.map((m) => m.data).join("\n").slice(0, 500));
		b.close();
	}
	const beginning = await stream(g.url, "/api/stream", { "Last-Event-ID": "3:3:" });
	await beginning.waitFor("something", () => beginning.of("skipped").length > 0 || beginning.changes.length > 0);
	ok(true, "from the very beginning: all of it, or skipped");
	beginning.close();
});

/* ------------------------------------------------------------------------
 * What goes away
 * ------------------------------------------------------------------------ */

await section("another gateway", async () => {
	const one = await gateway();
	let s = await stream(one.url);
	const p = prefix();
	await publish(p, 10);
	await workOff();
	await sees(s, p, "before");
	await anyId(s);
	const seen = s.changes;
	await one.stop();
	await until("the stream ends", () => s.ended);
	await publish(p, 10);
	await workOff();
	const two = await gateway();
	(await stream(two.url)).close();	// a client that comes before the gateway is live is told "skipped"
	const t = await stream(two.url, "/api/stream", { "Last-Event-ID": s.lastId });
	await publish(p, 10);
	await workOff();
	await sees(t, p, "after a restart of the gateway nothing is missing", () => [...seen, ...t.changes]);
	is(t.of("skipped"), [], "nor skipped");
	t.close();
	await two.stop();
});

await section("the engine", async () => {
	const s = await stream(g.url);
	const w = await socket(g.url, "/ws?all");
	await live(w);
	const p = prefix();
	for (let round = 0; round < 3; round++) {
		await publish(p, 60);
		await server.killEngine();
		await publish(p, 20);
		await server.runs();
		await workOff();
	}
	await sees(s, p, "SSE: while the engine was killed three times nothing was left out");
	await sees(w, p, "WebSocket: the same");
	is([inOrder(s.changes.filter((c, i, a) => a.findIndex((d) => d.event_id === c.event_id && d.version === c.version) === i)).length, faults(s, sseKinds), s.of("skipped")], [0, [], []], "in order, but for repeats");
	const seen = s.changes;
	await anyId(s);
	const id = s.lastId;
	s.close();
	await publish(p, 10);
	await server.killEngine();
	await server.runs();
	await publish(p, 10);
	await workOff();
	const t = await stream(g.url, "/api/stream", { "Last-Event-ID": id });
	await sees(t, p, "a resume across the death of an engine leaves nothing out", () => [...seen, ...t.changes]);

	const statuses = () => t.of("status").map((m) => m.json.engine);
	for (const [setting, state] of [["paused", "paused"], ["off", /off|not running/], ["on", "running"]]) {
		await set({ "eda.engine": setting });
		await t.waitFor(`engine ${setting}`, () => (state instanceof RegExp ? state.test(statuses().at(-1)) : statuses().at(-1) === state));
		ok(true, `eda.engine = ${setting} is told`);
	}
	await w.waitFor("the same", () => w.of("status").at(-1).engine === "running");
	ok(w.of("status").some((m) => m.engine === "paused"), "by WebSocket too");
	is([faults(w, wsKinds), faults(t, sseKinds)], [[], []], "as documented");
	await server.runs();
	t.close();
	w.close();
});

await section("the database", async () => {
	const s = await stream(g.url);
	const w = await socket(g.url, "/ws?all");
	await live(w);
	const p = prefix();
	await publish(p, 10);
	await workOff();
	await sees(s, p, "before");
	for (const mode of ["fast", "immediate"]) {
		await publish(p, 40);
		await server.stop(mode);
		await s.waitFor("it is told", () => s.of("status").at(-1).json.database === "down");
		await w.waitFor("it is told", () => w.of("status").at(-1).database === "down");
		ok(true, `${mode}: that the database is away is told`);
		const away = new Stream(g.url, "/api/stream");
		await soon("an answer", away.opened);
		ok(away.status === 503 || away.status === 200, "who comes now is told too", away.status);
		away.close();
		await server.start();
		await s.waitFor("it is told", () => s.of("status").at(-1).json.database === "up");
		await server.runs();
		ok(!s.ended && w.closed === undefined, `${mode}: that it is back, too; nobody was disconnected`);
		await publish(p, 10);
		await workOff();
		await sees(s, p, `${mode}: SSE: nothing was left out`);
		await sees(w, p, `${mode}: WebSocket: nothing was left out`);
	}
	await s.waitFor("the engine runs", () => s.of("status").at(-1).json.engine === "running");
	is(faults(s, sseKinds), [], "as documented");
	await anyId(s);
	const seen = s.changes;
	s.close();
	await publish(p, 10);
	await server.stop("immediate");
	await server.start();
	await server.runs();
	await workOff();
	await until("the gateway is connected again", async () => (await api.get("/ready")).status === 200);
	const t = await stream(g.url, "/api/stream", { "Last-Event-ID": s.lastId });
	await sees(t, p, "a resume across a crash of the server leaves nothing out", () => [...seen, ...t.changes]);
	t.close();
	w.close();
});

await section("feed levels", async () => {
	const s = await stream(g.url);
	const filtered = await stream(g.url, "/api/stream?flow_type=other");
	const p = prefix();
	for (const level of ["ids", "off", "full"]) {
		await set({ "eda.feed": level });
		await s.waitFor(`feed ${level}`, () => s.of("status").at(-1).json.feed === level);
		await publish(p, 15);
		await publish(p, 2, "OTHER");
		await sql("CALL test.work('other', 2)");
		await workOff();
		await sees(s, p, `eda.feed = ${level}: everything is told`);
		const other = s.changes.filter((c) => c.flow_type === "other" && c.flow_id.startsWith(p));
		await filtered.waitFor("the filtered ones", () => new Set(told(filtered.changes, p)).size >= new Set(told(other, p)).size);
		ok(filtered.changes.every((c) => c.flow_type === "other"), `eda.feed = ${level}: filters hold`);
	}
	is([faults(s, sseKinds), s.of("skipped")], [[], []], "as documented, nothing skipped");
	// Workers that wait are woken whatever the feed tells.
	await set({ "eda.feed": "off" });
	const poll = api.post("/api/acquire", { flow_type: "other", wait: 60 });
	await publish(p, 1, "OTHER");
	const a = await poll;
	is([a.status, a.json.events.length], [200, 1], "a long poll gets its event without a feed");
	await api.expect(200, "POST", `/api/events/${a.json.events[0].event_id}/success`, { token: a.json.events[0].token });
	await set({ "eda.feed": null });
	await s.waitFor("full again", () => s.of("status").at(-1).json.feed === "full");
	s.close();
	filtered.close();
});

await section("too much at once", async () => {
	const s = await stream(g.url);
	const p = prefix();
	const before = await stream(g.url);
	await publish(prefix(), 1);
	await anyId(before);
	before.close();
	await publish(p, 12000);
	await s.waitFor("all of it, or skipped", () => s.of("skipped").length > 0 || new Set(told(s.changes, p)).size >= 12000);
	ok(true, "a transaction of 12,000 events is told, or said to be skipped");
	note(s.of("skipped").map((m) => m.data).join() || "nothing was skipped");
	const away = await stream(g.url, "/api/stream", { "Last-Event-ID": before.lastId });
	await away.waitFor("all of it, or skipped", () => away.of("skipped").length > 0 || new Set(told(away.changes, p)).size >= 12000);
	ok(true, "so it is to who was away");
	await sql("SELECT count(eda.cancel(id)) FROM eda.event_state WHERE state IN ('awaiting_processing', 'dispatched')");
	// Until the gateway has begun anew, more is skipped.
	const skips = () => s.of("skipped").length + away.of("skipped").length;
	let q, known;
	do {
		known = skips();
		q = prefix();
		await publish(q, 5);
		await workOff();
		await until("all of it, or skipped", () => skips() > known || [s, away].every((x) => new Set(told(x.changes, q)).size >= 20));
	} while (skips() > known);
	await sees(s, q, "what comes after it is told again");
	await sees(away, q, "to both");
	is(faults(s, sseKinds), [], "as documented");
	s.close();
	away.close();
});

await section("slow clients", async () => {
	// Steps of which each takes 3 kB to tell.
	const long = (n, from) => sql(`SELECT cardinality(eda.publish_many('T', array(SELECT repeat(E'\\x01', 490) || '${from} ' || i FROM generate_series(1, ${n}) i)))`);
	const slow = connect(g.url);
	slow.socket.pause();
	slow.write(`GET /api/stream HTTP/1.1\r\nHost: ${new URL(g.url).host}\r\n\r\n`);
	const slowWs = await rawSocket(g.url, "/ws?all");
	slowWs.socket.pause();
	const healthy = await stream(g.url);
	const gate = await stream(g.url, "/api/stream?flow_type=other");
	let n = 0;
	const count = () => healthy.changes.length;
	await set({ "eda.ready_window": "32000" });
	// More than the gateway's ring (64 MB) and the sockets' buffers take.
	for (let step = 0; step < 30; step++) {
		n += Number(await long(500, step));
		await healthy.waitFor("the healthy one", () => count() >= n * 2);
	}
	const steps = () => new Set(healthy.changes.map((c) => `${c.event_id}/${c.version}`)).size;
	await healthy.waitFor("every step", () => steps() >= n * 2);
	is([healthy.of("skipped"), steps()], [[], n * 2], "a healthy client gets everything beside clients that do not read");
	for (const c of [slow, slowWs]) {
		let end = "";
		c.socket.on("data", (d) => {
			const text = end + d.toString("latin1");
			if (text.includes("skipped")) c.skipped = true;
			end = text.slice(-10);
		});
		c.socket.resume();
	}
	await until("it is said that they have skipped", () => [slow, slowWs].every((c) => c.skipped || (c.closed && c.destroy())), 60);
	const p = prefix();
	await publish(p, 3, "OTHER");
	await gate.waitFor("the filtered one", () => gate.changes.filter((c) => c.flow_id.startsWith(p)).length >= 6);
	await healthy.waitFor("the healthy one", () => told(healthy.changes, p).length >= 6);
	await until("they have caught up", () => [slow, slowWs].every((c) => (c.received.toString("latin1").match(new RegExp(p, "g")) || []).length >= 6), 60);
	const text = slow.received.toString();
	const skipped = [...text.matchAll(/event: skipped\ndata: (.*)\n/g)].map((m) => JSON.parse(m[1]));
	is([skipped.length, skipped.map((x) => schemaFault("Skipped", x))], [1, [null]], "a client that did not read is told that it has skipped something");
	is((text.match(/"event_id":/g) || []).length + skipped[0].skipped, healthy.changes.length, "and how much");
	const messages = framesIn(slowWs.received).filter((f) => f.opcode === 1).map((f) => JSON.parse(f.payload.toString()));
	is(messages.filter((m) => m.type === "skipped").length, 1, "a WebSocket too");
	slow.destroy();
	slowWs.destroy();
	await sql("CALL test.work('other', 3)");
	healthy.close();
	gate.close();
});

/* ------------------------------------------------------------------------
 * WebSockets
 * ------------------------------------------------------------------------ */

await section("WebSocket", async () => {
	const w = await socket(g.url, "/ws", { protocols: ["eda"] });
	is(w.ws.protocol, "eda", "the subprotocol eda is agreed upon");
	await live(w);
	is(w.of("status")[0], { type: "status", database: "up", engine: "running", feed: "full" }, "the status comes first");
	const plain = await socket(g.url, "/ws");
	is(plain.ws.protocol, "", "it can be left out");
	await plain.waitFor("a status", () => plain.of("status").length);

	is(await w.answer({ type: "ping" }, "pong"), { type: "pong" }, "ping, pong");
	is(await w.answer({ type: "subscribe", id: "a", flow_id: "none" }, "subscribed"), { type: "subscribed", id: "a" }, "subscribe");
	const p = prefix();
	is((await w.answer({ type: "subscribe", id: "b", flow_type: "flow", flow_id: `${p} 1` }, "subscribed")).id, "b", "a second subscription");
	is((await w.answer({ type: "subscribe", id: "c", event_type: "OTHER" }, "subscribed")).id, "c", "a third");
	await publish(p, 3);
	await publish(p, 1, "OTHER");
	await sql("CALL test.work('other', 1)");
	await workOff();
	await w.waitFor("its changes", () => w.changes.length >= 8);
	is([...new Set(w.changes.map((c) => `${c.event_type} ${c.flow_id}`))].sort(), [`OTHER ${p} 1`, `T ${p} 1`], "it gets what fits one of them");
	is(told(w.changes, p).length, new Set(told(w.changes, p)).size, "once, though two may fit");
	is((await w.answer({ type: "unsubscribe", id: "b" }, "unsubscribed")).id, "b", "unsubscribe");
	is((await w.answer({ type: "subscribe", id: "c", flow_id: "nothing" }, "subscribed")).id, "c", "subscribe again under a name: in place of the first");
	const n = w.changes.length;
	const all = await socket(g.url, "/ws?all");
	const filtered = await socket(g.url, `/ws?flow_type=other`);
	const q = prefix();
	await live(filtered);
	await publish(q, 3);
	await publish(q, 1, "OTHER");
	await sql("CALL test.work('other', 1)");
	await workOff();
	await sees(all, q, "/ws?all begins with everything");
	await filtered.waitFor("its changes", () => filtered.changes.length >= 4);
	is([...new Set(filtered.changes.map((c) => c.flow_type))], ["other"], "/ws?flow_type= begins with a filter");
	await w.answer({ type: "ping" }, "pong");
	is([w.changes.length, plain.changes.length], [n, 0], "who has no subscription that fits gets nothing");
	ok(all.of("changes").some((m) => /^\d+:\d+:/.test(m.id)), "changes have an id when a batch ends");

	const since = all.of("changes").filter((m) => m.id).at(-1).id;
	const seen = all.changes;
	all.close();
	await publish(q, 5);
	await workOff();
	const again = await socket(g.url, `/ws?all&last_event_id=${encodeURIComponent(since)}`);
	await sees(again, q, "last_event_id resumes here too", () => [...seen, ...again.changes]);
	again.close();

	for (let i = 0; i < 32; i++) await plain.answer({ type: "subscribe", id: `s${i}`, flow_id: `f ${i}` }, "subscribed");
	like((await plain.answer({ type: "subscribe", id: "one more" }, "error")).detail, /32/, "32 subscriptions are enough");
	is((await plain.answer({ type: "subscribe", id: "s1", flow_id: "another" }, "subscribed")).id, "s1", "one of them can be changed");
	await plain.answer({ type: "unsubscribe", id: "s2" }, "unsubscribed");
	is((await plain.answer({ type: "subscribe", id: "one more" }, "subscribed")).id, "one more", "or replaced");
	await plain.answer({ type: "unsubscribe", id: "never was" }, "unsubscribed");

	for (const bad of ["", "x", "{}", "[]", "null", "7", '"subscribe"', '{"type": 7}', '{"type": "dance"}', '{"type": "subscribe", "id": "x", "foo": 1}', '{"type": "subscribe", "id": 7}', '{"type": "subscribe", "id": "x", "flow_type": []}', '{"type": "subscribe", "id": "x", "flow_id": {"a": 1}}', '{"type": "subscribe",', '{"type": "subscribe", "id": "a\\u0000b"}', "[".repeat(2000), '{"type":"ping","type":"ping"}', "{\"a\":".repeat(500) + "1" + "}".repeat(500), `{"type": "sub${"x".repeat(1000)}"}`, "\u0000"]) {
		const e = await w.answer(bad, "error").catch((x) => x);
		ok(e?.type === "error" && schemaFault("WsError", e) === null && w.closed === undefined, `${JSON.stringify(bad).slice(0, 50)}: an error, and the connection stays`, e);
	}
	is(await w.answer({ type: "ping" }, "pong"), { type: "pong" }, "it does");
	w.ws.ping("hello");
	await w.waitFor("a pong of the protocol", () => w.pong === "hello");
	ok(true, "the protocol's own ping is answered");
	const many = w.of("pong").length;
	for (let i = 0; i < 1000; i++) w.say({ type: "ping" });
	await w.waitFor("pongs", () => w.of("pong").length === many + 1000 || w.closed !== undefined).catch(() => {});
	ok(w.closed !== undefined || w.of("pong").length === many + 1000, "a thousand pings at once are answered, or too many");
	is([faults(w, wsKinds), faults(plain, wsKinds), faults(filtered, wsKinds), w.bad], [[], [], [], []], "every message keeps to its schema");
	for (const s of [w, plain, filtered]) s.close();
});

await section("WebSocket frames", async () => {
	const text = (o) => JSON.stringify(o);
	const answers = (c) => framesIn(c.received).filter((f) => f.opcode === 1).map((f) => JSON.parse(f.payload)).filter((m) => m.type !== "status");
	const open = async () => rawSocket(g.url, "/ws");

	let c = await open();
	const ping = text({ type: "ping", id: "ü€𝄞" });
	const bytes = Buffer.from(ping);
	for (const b of frame(1, ping)) { c.write(Buffer.from([b])); await new Promise(setImmediate); }
	await until("a pong", () => answers(c).length === 1);
	ok(true, "a frame byte by byte");
	c.write(frame(1, bytes.subarray(0, 5), { fin: false }));
	c.write(frame(9, "between"));
	c.write(frame(0, bytes.subarray(5, 20), { fin: false }));
	c.write(frame(0, "", { fin: false }));
	c.write(frame(0, bytes.subarray(20)));
	await until("a pong", () => answers(c).length === 2 && framesIn(c.received).some((f) => f.opcode === 10));
	is([answers(c).map((m) => m.type), framesIn(c.received).find((f) => f.opcode === 10).payload.toString()], [["pong", "pong"], "between"], "a message in four fragments with a ping between them");
	c.write(Buffer.concat(Array.from({ length: 50 }, () => frame(1, ping))));
	await until("fifty", () => answers(c).length === 52);
	ok(true, "fifty messages in one packet");
	c.write(frame(1, text({ type: "ping", id: "x".repeat(3900) })));
	await until("a pong", () => answers(c).length === 53);
	ok(true, "a message of nearly 4096 bytes");
	c.write(frame(8, Buffer.from([3, 232])));
	await until("closed", () => c.closed);
	is(framesIn(c.received).at(-1).opcode, 8, "a close is answered");

	const bad = {
		"a binary message": frame(2, ping), "a message that is too large": frame(1, text({ type: "ping", id: "x".repeat(5000) })), "fragments that are too large together": Buffer.concat([frame(1, "x".repeat(3000), { fin: false }), frame(0, "x".repeat(3000))]),
		"a megabyte": frame(1, "x".repeat(1 << 20)), "an endless message": Buffer.concat([frame(1, "x", { fin: false }), ...Array.from({ length: 6000 }, () => frame(0, "y", { fin: false }))]), "a length of 2^63": frame(1, "x", { length: 2 ** 62 }), "a lie about the length": frame(1, "x".repeat(200), { length: 60000 }),
		"reserved bits": frame(1, ping, { rsv: 4 }), "a reserved opcode": frame(3, ping), "a reserved control opcode": frame(11, ping), "a continuation of nothing": frame(0, ping), "a long ping": frame(9, "x".repeat(200)), "a ping in fragments": frame(9, "x", { fin: false }),
		"a new message within one": Buffer.concat([frame(1, "{", { fin: false }), frame(1, ping)]), "a close of one byte": frame(8, "x"), "a close with a bad code": frame(8, Buffer.from([0, 1])), "no WebSocket at all": Buffer.from("GET / HTTP/1.1\r\n\r\n"), "invalid UTF-8": frame(1, Buffer.from([0x22, 0xff, 0xfe, 0x22])), "half a character": frame(1, Buffer.from([0xe2, 0x82])),
	};
	await Promise.all(Object.entries(bad).map(async ([name, data]) => {
		const c = await open();
		c.write(data);
		c.write(frame(1, ping));
		// The end of the connection or an error; or silence, as what follows is a part of the message.
		const end = await until(name, () => c.closed || answers(c).length > 0, 2).catch(() => "silence");
		ok(c.closed || end === "silence" || answers(c)[0].type === "error", `${name}: refused`, answers(c), end);
		c.destroy();
	}));
	is((await api.get("/health")).status, 200, "it lives on");

	for (const [name, request, status] of [["no key", "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n", /^(4..|undefined)$/], ["an old version", "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 7\r\n", /^(4..|undefined)$/], ["another upgrade", "Upgrade: h2c\r\nConnection: Upgrade\r\n", /^(4..|undefined)$/], ["no upgrade", "", /^426$/], ["an unknown subprotocol", "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat, superchat\r\n", /^(4..|101|undefined)$/]]) {
		const r = await raw(g.url, `GET /ws HTTP/1.1\r\nHost: ${new URL(g.url).host}\r\n${request}\r\n`, { seconds: status.test("undefined") ? 15 : 60 });
		ok(status.test(String(r.answers[0]?.status)) && !(r.answers[0]?.status === 101 && /chat/.test(r.text.split("\r\n\r\n")[0])), `a handshake with ${name}`, r.text.slice(0, 300));
	}
	is((await raw(g.url, `GET /api/events HTTP/1.1\r\nHost: ${new URL(g.url).host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n`)).answers[0]?.status >= 400, true, "there is no WebSocket elsewhere");
});

await section("who may watch", async () => {
	const token = { monitor: `monitor-${randomUUID()}`, publisher: `publisher-${randomUUID()}` };
	await sql(`CREATE ROLE live_gateway LOGIN NOINHERIT; SELECT eda.grant_access('live_gateway', 'monitor'); CREATE ROLE live_monitor; CREATE ROLE live_publisher; GRANT live_monitor, live_publisher TO live_gateway;
		SELECT eda.grant_access('live_monitor', 'monitor'); SELECT eda.grant_access('live_publisher', 'publisher')`);
	const guarded = await gateway({ name: "guarded", role: "live_gateway", tokens: { [token.monitor]: "live_monitor", [token.publisher]: "live_publisher" } });
	const refusedWs = async (options) => { const s = new Socket(guarded.url, "/ws?all", options); await s.opened.catch(() => {}); s.close(); return s.status; };

	const w = await socket(guarded.url, "/ws?all", { protocols: ["eda", `bearer.${token.monitor}`] });
	is(w.ws.protocol, "eda", "a browser's token comes as a subprotocol, and is not given back");
	await live(w);
	const h = await socket(guarded.url, "/ws?all", { headers: { Authorization: `Bearer ${token.monitor}` } });
	const s = await stream(guarded.url, "/api/stream", { Authorization: `Bearer ${token.monitor}` });
	await live(h);
	const p = prefix();
	await publish(p, 3);
	await workOff();
	for (const x of [w, h, s]) await sees(x, p, "who has a token of a monitor sees everything");
	is([await refusedWs({}), await refusedWs({ protocols: ["eda", "bearer.wrong-token-wrong-token"] }), await refusedWs({ protocols: ["eda"], headers: { Authorization: "Bearer x" } })], [401, 401, 401], "without one: 401");
	is(await refusedWs({ protocols: ["eda", `bearer.${token.monitor}`], headers: { Origin: "https://evil.example" } }), 403, "from a page of another origin: 403");
	const only = await socket(guarded.url, "/ws?all", { protocols: [`bearer.${token.monitor}`] }).catch((e) => e);
	ok(only instanceof Error || only.ws.protocol !== `bearer.${token.monitor}`, "the token is never said back", only.message);
	if (!(only instanceof Error)) only.close();
	const pub = new Socket(guarded.url, "/ws?all", { protocols: ["eda", `bearer.${token.publisher}`] });
	await pub.opened.catch(() => {});
	await until("refused", () => pub.status === 403 || pub.closed !== undefined);
	ok(pub.changes.length === 0 && (pub.status === 403 || pub.of("error")[0]?.status === 403), "who may not watch is told so and disconnected", pub.status, pub.closed, pub.messages);
	is((await new Client(guarded.url, { Authorization: `Bearer ${token.publisher}` }).get("/api/stream").catch((e) => ({ status: e.message }))).status, 403, "or refused");
	await perl("gateway_tokens", "guarded", { [token.publisher]: "live_publisher" });
	await guarded.signal("HUP");
	await until("they are closed", () => w.closed !== undefined && h.closed !== undefined && s.ended);
	ok(true, "when a token is taken away, who watches with it is disconnected");
	await guarded.stop();
});

/* ------------------------------------------------------------------------
 * Anybody can NOTIFY
 * ------------------------------------------------------------------------ */

await section("forged messages", async () => {
	const s = await stream(g.url);
	const w = await socket(g.url, "/ws?all");
	const poll = api.post("/api/acquire", { flow_type: "other", wait: 60 });
	await sql("CREATE ROLE anybody");
	const fake = { event_id: randomUUID(), event_type: "T", flow_type: "flow", flow_id: "forged", state: "succeeded", version: 1, attempt: 1, at: "2026-01-01T00:00:00Z" };
	const engine = s.changes.at(-1)?.seq ?? [1, 1];
	const forged = ["garbage", "", "[", "]", "{}", "[]", "[null]", "[1, 2]", '["x"]', "[[]]", "null", "7", "\u00e9\u4e2d", "[".repeat(7900), '{"a":'.repeat(1500), `[${'{"a":'.repeat(1000)}1${"}".repeat(1000)}]`, '"' + "x".repeat(7900), "[" + "{},".repeat(2500) + "{}]",
		JSON.stringify([{ event_id: 7, event_type: [], flow_type: {}, flow_id: null, state: 1, version: "x", attempt: {}, at: [], seq: "no", snapshot: 7 }]), JSON.stringify([{ ...fake, seq: [2 ** 53, 2 ** 53] }]), JSON.stringify([{ ...fake, seq: [-1, -1], snapshot: "garbage\n\nevent: x" }]),
		JSON.stringify([{ ...fake, seq: [engine[0], engine[1] + 1], snapshot: "99999999999:99999999999:" }]), JSON.stringify([{ ...fake, flow_id: "forged\n\ndata: x", seq: [engine[0], 1e308], snapshot: "1:1:" }]), JSON.stringify([{ ...fake, flow_id: "x".repeat(7500) }]), JSON.stringify([{ ...fake, flow_type: "other", state: "dispatched", seq: [engine[0], engine[1] + 2] }]),
		'[{"event_id":"\\u0000","flow_type":"\\ud800"}]', '[{"seq":[1e999,1]}]', '[{"seq":[123456789012345678901234567890,1]}]', '[{"seq":[]}]', '[{"seq":[[],[]]}]', "[{\"a\":1},]", "\t\n[ ]"];
	const p = prefix();
	for (const [i, text] of forged.entries()) {
		await sql(`SET ROLE anybody; SELECT pg_notify('eda_events', $forged$${text.replaceAll("\u0000", "")}$forged$)`);
		if (i % 5 === 0) await publish(p, 1);
	}
	await sql("SET ROLE anybody; DO $$BEGIN FOR i IN 1..3000 LOOP PERFORM pg_notify('eda_events', '[{\"i\":' || i || '}]'); END LOOP; END$$");
	for (const channel of ["eda_flow", "eda_other", "eda_events"]) await sql(`SET ROLE anybody; NOTIFY ${channel}, 'x'; NOTIFY ${channel}`);
	await publish(p, 5);
	await workOff();
	await sees(s, p, "SSE: beside forged messages everything is told");
	await sees(w, p, "WebSocket: the same");
	is([s.changes.filter((c) => /^forged|^x{9}/.test(c.flow_id)).length, w.changes.filter((c) => /^forged|^x{9}/.test(c.flow_id)).length], [0, 0], "and nothing that was forged");
	is([faults(s, sseKinds), s.bad, faults(w, wsKinds), w.bad, s.of("skipped")], [[], [], [], [], []], "as documented");
	ok(s.messages.every((m) => m.id === undefined || !/^9{9}|^1:1:$|garbage/.test(m.id)), "no id was forged");
	await anyId(s);
	const seen = s.changes;
	s.close();
	await publish(p, 5);
	await workOff();
	const t = await stream(g.url, "/api/stream", { "Last-Event-ID": s.lastId });
	await sees(t, p, "a resume after it leaves nothing out", () => [...seen, ...t.changes]);
	t.close();
	w.close();
	await publish(p, 1, "OTHER");
	const a = await poll;
	is([a.status, a.json.events.length], [200, 1], "a long poll waits on, and gets its event");
	await api.expect(200, "POST", `/api/events/${a.json.events[0].event_id}/success`, { token: a.json.events[0].token });
});

await section("the first stream", async () => {
	await first.waitFor("a comment", () => first.comments > 0);
	ok(!first.ended, "a stream that is open all the time lives through all of this, and has its comments");
	first.close();
});

await finish();
