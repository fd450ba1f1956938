// start.mjs
//	A gateway that has just been started: what a client may miss before the gateway listens to the
//	feed and knows its place in the log.  Locks and signals hold up the gateway's statements.
//	test/t/514_start.pl runs it.
import { randomUUID } from "node:crypto";
import { Client, Stream, finish, gateway, is, live, ok, section, session, soon, sql, stream, until } from "./lib.mjs";

const LISTENING = /^eda_gateway_feed_connections_total 1$/m;
const flowIds = (s) => [...new Set(s.changes.map((c) => c.flow_id))];
const publish = (flowId) => sql(`SELECT eda.publish('T', '${flowId}')`);
// Hold up the question of how the engine is, behind which the gateway's first question to the log waits.
const lockEngineStatus = () => session("BEGIN", "LOCK TABLE eda.engine_status IN ACCESS EXCLUSIVE MODE");
const waitsFor = (table) => `SELECT pid FROM pg_locks WHERE relation = '${table}'::regclass AND NOT granted`;

// An open stream that has said how database and engine are.
async function opened(base, path, headers) {
	const s = new Stream(base, path, headers);
	await soon("a stream", s.opened);
	await s.waitFor("a status", () => s.of("status").length > 0);
	return s;
}

async function startedGateway(name) {
	const g = await gateway({ name });
	await until("the gateway has done LISTEN", async () => LISTENING.test((await new Client(g.url).get("/metrics")).text));
	return g;
}

await section("the first status", async () => {
	const lock = await lockEngineStatus();
	const g = await startedGateway("early");
	const s = await opened(g.url);
	is(s.of("status")[0].json, { database: "down", engine: "unknown", feed: "full" }, "a gateway that does not know its place in the log says that the database is down");
	const missed = randomUUID();
	await publish(missed);
	await lock.end();
	await live(s);
	const sent = randomUUID();
	await publish(sent);
	await s.waitFor("the change", () => flowIds(s).includes(sent));
	const up = s.messages.findIndex((m) => m.json.database === "up");
	is(s.messages.map((m, i) => m.event === "skipped" && i < up).filter(Boolean).length, 1, "the gateway says that changes were skipped before it says that the database is up");
	is(s.of("skipped").length, 1, "and not after it");
	is(s.of("change")[0].json[0].flow_id, sent, "after it has said so it sends every change", missed);
	s.close();
	await g.stop();
});

await section("a client that continues while the gateway starts", async () => {
	const before = await stream((await startedGateway("before")).url);
	await publish(randomUUID());
	await before.waitFor("an id", () => before.lastId);

	const lock = await lockEngineStatus();
	const g = await startedGateway("continued");
	// The client's question has its snapshot, and is stopped while it waits for the lock of this table.
	const table = await session("BEGIN", "LOCK TABLE eda.event_type IN ACCESS EXCLUSIVE MODE");
	const s = new Stream(g.url, "/api/stream", { "Last-Event-ID": before.lastId });
	const pid = Number(await until("the client's question waits", () => sql(waitsFor("eda.event_type"))));
	process.kill(pid, "SIGSTOP");
	await table.end();
	const unseen = randomUUID();
	await publish(unseen);
	await lock.end();
	const other = await stream(g.url);
	process.kill(pid, "SIGCONT");
	await soon("a stream", s.opened);
	await s.waitFor("a status", () => s.of("status").length > 0);
	await s.waitFor("what it has missed, or that it has skipped something", () => s.of("skipped").length > 0 || flowIds(s).includes(unseen));
	ok(true, "a client that continues is sent, or told of, what was committed between its question and the gateway's");
	for (const x of [before, other, s]) x.close();
});

await finish();
