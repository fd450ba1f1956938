// away.mjs
//	The gateway while the database goes away and comes back, while it is itself stopped or
//	killed, and beside another gateway.  test/t/512_away.pl runs it.
import { randomUUID } from "node:crypto";
import { Client, connect, finish, gateway, is, note, ok, raw, section, server, session, set, soon, sql, stream, until } from "./lib.mjs";
import { watchAnswers } from "./openapi.mjs";

const report = watchAnswers();
const g = await gateway({ name: "first" });
const other = await gateway({ name: "second" });
const api = new Client(g.url);
const publish = async (flow_id, event_type = "T") => (await api.expect(201, "POST", "/api/events", { event_type, flow_id })).event_id;
const pause = () => new Promise((resolve) => setTimeout(resolve, 50));

// Whatever becomes of an answer, the same again until there is a good one; how often there was none.
async function insist(client, method, path, body, headers, good = [200, 201]) {
	for (let tries = 0; ; tries++) {
		const a = await client.send(method, path, body, { headers, agent: false }).catch((e) => ({ lost: e.message }));
		if (good.includes(a.status)) return { ...a, tries };
		if (!a.lost && a.status !== 503 && !(a.status === 409 && a.json.code === "ED008")) throw new Error(`${method} ${path}: ${a.status} ${a.text}`);
		if (tries > 2000) throw new Error(`${method} ${path}: never`);
		await pause();
	}
}

await section("the database is stopped", async () => {
	const before = await publish("before");
	await server.stop("fast");
	for (const [method, path, body] of [["POST", "/api/events", { event_type: "T", flow_id: "down" }], ["GET", "/api/counts"], ["POST", "/api/acquire", { flow_type: "flow", wait: 5 }], ["GET", `/api/events/${before}`], ["PUT", "/api/event-types/T", {}]]) {
		const a = await soon("an answer", api.send(method, path, body));
		is([a.status, Number(a.headers["retry-after"]) > 0, a.type], [503, true, "application/problem+json"], `${method} ${path.replace(before, "{id}")}: 503 and Retry-After while the database is away`, a.text);
	}
	is((await api.get("/health")).status, 200, "/health: the gateway is alive");
	is((await api.get("/ready")).status, 503, "/ready: it is not ready");
	const metrics = await api.get("/metrics");
	ok(metrics.status === 200 && /eda_gateway_/.test(metrics.text), "/metrics has the gateway's own numbers", metrics.text.slice(0, 200));
	is((await api.send("POST", "/api/events", { event_type: "T", flow_id: "x" }, { headers: { "Content-Type": "text/plain" } })).status, 415, "a bad request is still a bad request");
	const many = await Promise.all(Array.from({ length: 200 }, () => api.get("/api/counts")));
	is([...new Set(many.map((a) => a.status))], [503], "two hundred callers are told at once");
	const started = await gateway({ name: "early" });
	is((await new Client(started.url).get("/api/counts")).status, 503, "a gateway can be started before the database");
	const idle = await gateway({ name: "idle" });
	await idle.stop();
	await server.start();
	await until("it is back", async () => (await api.get("/api/counts")).status === 200);
	ok(true, "it comes back by itself");
	await server.runs();
	await until("ready", async () => (await api.get("/ready")).status === 200);
	is((await api.get(`/api/events/${before}`)).json.flow_id, "before", "with all that there was");
	await until("the early one too", async () => (await new Client(started.url).get("/api/counts")).status === 200);
	is((await new Client(started.url).post("/api/events", { event_type: "T", flow_id: "early" })).status, 201, "and the one that was started early works");
	await started.stop();
});

await section("sessions are ended", async () => {
	await sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()");
	const answers = await Promise.all(Array.from({ length: 20 }, () => api.get("/api/lifecycle")));
	ok(answers.every((a) => a.status === 200 || a.status === 503), "after all sessions were ended there are answers", answers.map((a) => a.status));
	await until("all is well", async () => (await Promise.all(Array.from({ length: 20 }, () => api.get("/api/lifecycle")))).every((a) => a.status === 200));
	ok(true, "and soon all of them are good");
	const id = await publish("heard");
	const got = await api.expect(200, "POST", "/api/acquire", { flow_type: "flow", wait: 60, max_events: 10 });
	ok(got.events.some((e) => e.event_id === id), "the gateway hears of new events again");
	for (const e of got.events) await api.expect(200, "POST", `/api/events/${e.event_id}/success`, { token: e.token });
});

await section("changes that the feed leaves out, with nothing told after them", async () => {
	const s = await stream(g.url);
	const later = async (flow_id) => (await api.expect(201, "POST", "/api/events", { event_type: "T", flow_id, scheduled_at: "2100-01-01T00:00:00Z" })).event_id;
	const sees = (id, state) => s.waitFor(`${id} ${state}`, () => s.changes.some((c) => c.event_id === id && c.state === state));
	const engine = async (setting, state) => { await set({ "eda.engine": setting }); await until(`engine ${setting}`, async () => (await sql("SELECT state FROM eda.engine_status")).startsWith(state)); };
	const ids = [await later("no engine"), await later("no feed")];
	for (const id of ids) await sees(id, "awaiting_processing");
	await engine("off", "off");
	await sql(`SELECT eda.cancel('${ids[0]}')`);
	await engine(null, "running");
	await sees(ids[0], "canceled");
	ok(true, "what happened while no engine ran is told");
	await set({ "eda.feed": "off" });
	await sql(`SELECT eda.cancel('${ids[1]}')`);
	await set({ "eda.feed": null });
	await sees(ids[1], "canceled");
	ok(true, "and while the feed was off");
	s.close();
});

await section("the server crashes under load", async () => {
	await api.expect(201, "PUT", "/api/event-types/LOAD", { flow_type: "load", max_attempts: 100, attempt_delays: ["0 s"], lease: "2 s" });
	const keys = [];
	const done = new Map();
	let running = true;
	let failures = 0;
	const publisher = async (client) => {
		while (running) {
			const key = randomUUID();
			keys.push(key);
			failures += (await insist(client, "POST", "/api/events", { event_type: "LOAD", flow_id: key }, { "Idempotency-Key": key })).tries;
		}
	};
	const worker = async (client) => {
		for (;;) {
			const a = await insist(client, "POST", "/api/acquire", { flow_type: "load", max_events: 5, wait: 1 });
			for (const e of a.json.events) {
				const r = await insist(client, "POST", `/api/events/${e.event_id}/success`, { token: e.token }, {}, [200, 409, 412]);
				// 409 ED003: the answer to our report had been lost.  412: the acquire was undone, or the lease ran out.
				if (r.status !== 412) done.set(e.event_id, (done.get(e.event_id) || 0) + 1);
			}
			if (!running && a.json.events.length === 0 && Number(await sql("SELECT count(*) FROM eda.event_state WHERE flow_type = 'load' AND state <> 'succeeded'").catch(() => 1)) === 0) return;
		}
	};
	const clients = [api, new Client(other.url)];
	const publishers = [0, 1, 2, 3].map((i) => publisher(clients[i % 2]));
	const workers = [0, 1, 2, 3].map((i) => worker(clients[i % 2]));
	for (let round = 1; round <= 2; round++) {
		const n = keys.length;
		await until("load", () => keys.length > n + 200, 300);
		await server.stop("immediate");
		await server.start();
		await server.runs();
	}
	const n = keys.length;
	await until("load", () => keys.length > n + 200, 300);
	running = false;
	await soon("the publishers", Promise.all(publishers), 300);
	await soon("the workers", Promise.all(workers), 300);
	note(`${keys.length} events, ${failures} calls were lost or refused meanwhile`);
	ok(failures > 0, "some calls were lost in the crashes, or there was none");
	is(await sql("SELECT count(*), count(DISTINCT flow_id) FROM eda.event WHERE event_type = 'LOAD'"), `${keys.length}|${keys.length}`, "each key has exactly one event");
	is(await sql("SELECT count(*) FROM eda.transition t JOIN eda.event e ON e.id = t.event_id WHERE e.event_type = 'LOAD' AND t.state = 'succeeded'"), String(keys.length), "each event succeeded exactly once");
	is([done.size, [...done.values()].filter((x) => x > 1).length], [keys.length, 0], "and one worker knows that it was the one");
	is([await until("the same process", async () => (await api.get("/health")).status), (await g.gone()) ?? null], [200, null], "the gateway was not restarted for it");
});

await section("two gateways", async () => {
	await api.expect(201, "PUT", "/api/event-types/TWO", { flow_type: "two", max_attempts: 100, attempt_delays: ["0 s"], lease: "10 min" });
	const second = new Client(other.url);
	const polls = Array.from({ length: 20 }, (_, i) => (i % 2 ? api : second).post("/api/acquire", { flow_type: "two", wait: 60, max_events: 3 }));
	const ids = [];
	for (let i = 0; i < 20; i++) ids.push((await (i % 3 ? api : second).expect(201, "POST", "/api/events", { event_type: "TWO", flow_id: `two ${i}` })).event_id);
	const got = [];
	const take = (a) => a.json.events.forEach((e) => got.push(e.event_id));
	const open = new Set(polls.map((p) => p.then((a) => { take(a); open.delete(p); })));
	await until("all are taken", () => got.length >= 20, 120);
	is(got.sort().join(), ids.sort().join(), "events that are published through either are taken through both, each once");
	// The polls that got none are ended by more events, so that nothing waits for 30 s.
	const left = 20 - (await Promise.all(polls.map((p) => Promise.race([p.then(() => 1), pause().then(() => 0)])))).reduce((a, b) => a + b, 0);
	for (let i = 0; i < left; i++) await publish(`end ${i}`, "TWO");
	await soon("the others", Promise.all(polls), 120);

	const [a, b] = [await stream(g.url), await stream(other.url)];
	const id = await publish("seen by both");
	for (const s of [a, b]) await s.waitFor("the change", () => s.changes.some((c) => c.event_id === id && c.state === "dispatched"));
	ok(true, "both tell the same changes");
	// A snapshot of one is good for the other.
	await a.waitFor("an id", () => a.lastId);
	const since = a.lastId;
	a.close();
	const late = await publish("while away");
	const moved = await stream(other.url, "/api/stream?flow_type=flow", { "Last-Event-ID": since });
	await moved.waitFor("the change", () => moved.changes.some((c) => c.event_id === late && c.state === "dispatched"));
	ok(true, "a client that resumes at the other one misses nothing");
	moved.close();
	b.close();
	await other.stop();
});

await section("a gateway is killed", async () => {
	const victim = await gateway({ name: "victim" });
	const client = new Client(victim.url);
	await api.expect(201, "PUT", "/api/event-types/KILL", { flow_type: "kill", max_attempts: 100, attempt_delays: ["0 s"], lease: "10 min" });
	const since = await sql("SELECT clock_timestamp()");
	const polls = Array.from({ length: 5 }, () => client.send("POST", "/api/acquire", { flow_type: "kill", wait: 60 }, { agent: false }).catch((e) => e));
	await until("they wait", async () => (await sql(`SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%acquire_next%' AND query NOT LIKE '%pg_stat%' AND query_start > '${since}'`)) !== "0");
	await victim.signal("KILL");
	await Promise.all(polls);
	await until("it is gone", () => victim.gone());
	const id = await publish("after the kill", "KILL");
	const got = await api.expect(200, "POST", "/api/acquire", { flow_type: "kill", wait: 60 });
	is(got.events.map((e) => [e.event_id, e.attempt]), [[id, 1]], "workers that waited at a gateway that was killed take nothing with them");
	await victim.stop({ killed: 1 });
});

await section("SIGTERM", async () => {
	const last = await gateway({ name: "last", args: ["--pool", "4"] });
	const client = new Client(last.url);
	const watching = await stream(last.url);
	const idle = connect(last.url);
	idle.write(`GET /health HTTP/1.1\r\nHost: ${new URL(last.url).host}\r\n\r\n`);
	await until("the idle one", () => idle.received.length > 0);
	const since = await sql("SELECT clock_timestamp()");
	const poll = client.send("POST", "/api/acquire", { flow_type: "kill", wait: 60 }, { agent: false }).catch((e) => ({ status: 0, text: e.message }));
	await until("a poll waits", async () => (await sql(`SELECT count(*) FROM pg_stat_activity WHERE state = 'idle' AND query LIKE '%acquire_next%' AND query_start > '${since}'`)) !== "0");
	const lock = await session("BEGIN", "LOCK TABLE eda.event_1 IN ACCESS EXCLUSIVE MODE");
	const underWay = Array.from({ length: 4 }, (_, i) => client.send("POST", "/api/events", { event_type: "T", flow_id: `last ${i}` }, { agent: false }));
	await until("four calls hang", async () => (await sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%publish%'")) === "4");
	const queued = client.send("GET", "/api/lifecycle", undefined, { agent: false });
	await last.signal("TERM");
	await until("it takes no new ones", async () => { const a = await client.send("GET", "/health", undefined, { agent: false }).catch(() => ({ status: 503 })); return a.status === 503; });
	ok(true, "after SIGTERM it takes nothing new");
	await lock.end();
	is((await Promise.all(underWay)).map((a) => a.status), [201, 201, 201, 201], "requests that are under way are answered");
	const q = await queued;
	ok(q.status === 200 || q.status === 503, "one that waits for a connection too", q.text);
	const p = await soon("the long poll", poll);
	ok((p.status === 200 && p.json.events.length === 0) || p.status === 503, "a long poll is sent home empty", `${p.status} ${p.text}`);
	await until("the stream ends", () => watching.ended);
	await until("the idle connection ends", () => idle.closed);
	ok(true, "streams and idle connections are closed");
	await until("it is gone", () => last.gone());
	await last.stop();
	is(await sql("SELECT count(*) FROM eda.event WHERE flow_id LIKE 'last %'"), "4", "what was answered was done");

	// And without anything to do.
	const quiet = await gateway({ name: "quiet" });
	await quiet.signal("TERM");
	await until("it is gone", () => quiet.gone());
	await quiet.stop();
	const hurried = await gateway({ name: "hurried" });
	await hurried.signal("INT");
	await until("it is gone", () => hurried.gone());
	await hurried.stop();
	// A database that does not answer must not keep it.
	const stuck = await gateway({ name: "stuck" });
	const lock2 = await session("BEGIN", "LOCK TABLE eda.event_1 IN ACCESS EXCLUSIVE MODE");
	const hung = new Client(stuck.url).send("POST", "/api/events", { event_type: "T", flow_id: "stuck" }, { agent: false }).catch((e) => ({ status: 0 }));
	await until("it hangs", async () => (await sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%publish%'")) === "1");
	await stuck.signal("TERM");
	await until("it is gone", () => stuck.gone(), 120);
	ok(true, "a call that hangs keeps it for a bounded time only");
	await hung;
	await lock2.end();
	await stuck.stop();
});

report(500);
await finish();
