// start.mjs
//	A gateway that has just been started: what a client may miss before the gateway listens to the
//	feed and knows its place in the log.  Locks hold up the gateway's statements.
//	test/t/514_start.pl runs it.
import { randomUUID } from "node:crypto";
import { Client, Stream, finish, gateway, is, live, section, session, soon, sql, until } from "./lib.mjs";

const LISTENING = /^eda_gateway_feed_connections_total 1$/m;
const flowIds = (s) => [...new Set(s.changes.map((c) => c.flow_id))];
const publish = (flowId) => sql(`SELECT eda.publish('T', '${flowId}')`);
// Hold up the question of how the engine is, behind which the gateway's first question to the log waits.
const lockEngineStatus = () => session("BEGIN", "LOCK TABLE eda.engine_status IN ACCESS EXCLUSIVE MODE");

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

await finish();
