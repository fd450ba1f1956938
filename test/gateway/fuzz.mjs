// fuzz.mjs
//	A fuzzer: requests made from the examples of openapi.json and spoilt, bytes that are nearly
//	HTTP, WebSocket frames.  Whatever comes in, the gateway must live, answer no 5xx (the database
//	is there all the time), and keep to the document.  test/t/540_fuzz.pl runs it, with sanitizers.
//
// Each case is made from the seed and its number alone, so that one can be repeated:
// FUZZ_SEED (a number, or "random"; without it the same each time, so that a run tells of a change and not of
// chance), FUZZ_FROM (the first), FUZZ_REQUESTS (how many; of a single one it is told what it is).
import { randomInt } from "node:crypto";
import { answersIn, Client, connect, finish, frame, gateway, is, note, ok, rawSocket, section, sql, until } from "./lib.mjs";
import { answerFault, openapi, operations } from "./openapi.mjs";

const seed = process.env.FUZZ_SEED === "random" ? randomInt(2 ** 31) : Number(process.env.FUZZ_SEED || 687595925);
const from = Number(process.env.FUZZ_FROM || 0);
const requests = Number(process.env.FUZZ_REQUESTS || 6000);
const AT_ONCE = 12;
note(`FUZZ_SEED=${seed} FUZZ_FROM=${from} FUZZ_REQUESTS=${requests}`);

const g = await gateway({ args: ["--max-body", "300000"] });
const host = new URL(g.url).host;
const api = new Client(g.url);

/* ------------------------------------------------------------------------
 * Chance
 * ------------------------------------------------------------------------ */

// mulberry32
function chance(n) {
	let a = (seed ^ Math.imul(n + 1, 0x9e3779b1)) >>> 0;
	const next = () => {
		a = (a + 0x6d2b79f5) | 0;
		let t = Math.imul(a ^ (a >>> 15), 1 | a);
		t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
		return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
	};
	const below = (m) => Math.floor(next() * m);
	return { below, one: (list) => list[below(list.length)], maybe: (p) => next() < p };
}

/* ------------------------------------------------------------------------
 * Values
 * ------------------------------------------------------------------------ */

const words = ["", " ", "0", "-1", "1", "7", "null", "true", "NaN", "Infinity", "-infinity", "1e400", "1e-400", "0x10", "99999999999999999999999", "2147483648", "-2147483649", "1.5", "'", "\"", "\\", "' OR 1=1 --", "$1", "%s%n", "${x}", "{{7*7}}", "../../etc/passwd", "\u0001\u0002", "\n", "\r\n", "\t",
	"ü€𝄞", "\u202e", "\ufeff", "\ufffd", "e\u0301", "\ud83d\ude00", "x".repeat(600), "x".repeat(5000), "T", "t", "flow", "OTHER", "failed", "awaiting_processing", "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "01932f6e-8a51-7c3a-9d0e-5b1f6a2c7e9", "{01932f6e-8a51-7c3a-9d0e-5b1f6a2c7e90}",
	"2026-11-21T12:46:03Z", "2026-02-30", "294277-01-01", "0001-01-01 BC", "now", "epoch", "1 s", "-1 s", "1 year 13 mons", "100 years", "P1Y2M", "1 fortnight", "3:3:", "1:99999999:5", "99999999999:99999999999:", "[]", "{}", "*", "\"3\"", "W/\"3\""];
const numbers = [0, -0, 1, -1, 2, 3, 10, 501, 2147483647, 2147483648, -2147483649, 1e15, 1e19, 1e100, 1e308, -1e308, 1e-308, 0.1, 1.5, 2 ** 53, Number.MAX_VALUE];

function text(r) {
	if (r.maybe(0.7)) return r.one(words);
	return Array.from({ length: r.below(30) }, () => String.fromCodePoint(r.maybe(0.7) ? 32 + r.below(95) : r.maybe(0.5) ? r.below(0x20) + 1 : [0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff][r.below(8)])).join("");
}

function value(r, depth = 0) {
	const n = r.below(depth > 4 ? 6 : 9);
	if (n === 0) return null;
	if (n === 1) return r.maybe(0.5);
	if (n <= 3) return r.one(numbers);
	if (n <= 5) return text(r);
	if (n <= 6) return Array.from({ length: r.below(4) }, () => value(r, depth + 1));
	return Object.fromEntries(Array.from({ length: r.below(4) }, () => [text(r), value(r, depth + 1)]));
}

const keys = [...new Set(Object.values(openapi.components.schemas).flatMap((s) => Object.keys(s.properties || {})))];

// Change something somewhere in a JSON value.
function spoil(r, v, depth = 0) {
	if (v !== null && typeof v === "object" && depth < 4 && r.maybe(0.75)) {
		const copy = Array.isArray(v) ? [...v] : { ...v };
		const ks = Object.keys(copy);
		const n = r.below(10);
		if (n < 5 && ks.length) {
			const k = r.one(ks);
			copy[k] = spoil(r, copy[k], depth + 1);
		} else if (n < 7 && ks.length) {
			if (Array.isArray(copy)) copy.splice(r.below(copy.length), 1);
			else delete copy[r.one(ks)];
		} else if (Array.isArray(copy)) copy.push(ks.length && r.maybe(0.5) ? copy[0] : value(r));
		else copy[r.maybe(0.7) ? r.one(keys) : text(r)] = value(r);
		return copy;
	}
	return value(r, depth);
}

// Change some bytes.
function damage(r, bytes) {
	let b = Buffer.from(bytes);
	for (let i = 1 + r.below(4); i > 0; i--) {
		const at = r.below(b.length + 1);
		const some = () => Buffer.from(Array.from({ length: 1 + r.below(8) }, () => r.one([0, 9, 10, 13, 32, 34, 37, 58, 123, 125, 128, 192, 255, r.below(256)])));
		switch (r.below(6)) {
			case 0: if (b.length) b[at % b.length] = r.below(256); break;
			case 1: b = Buffer.concat([b.subarray(0, at), some(), b.subarray(at)]); break;
			case 2: b = Buffer.concat([b.subarray(0, at), b.subarray(Math.min(b.length, at + 1 + r.below(20)))]); break;
			case 3: b = b.subarray(0, at); break;
			case 4: b = Buffer.concat([b.subarray(0, at), b.subarray(0, at)]); break;
			default: b = Buffer.concat([b.subarray(0, at), Buffer.from(r.one(words)), b.subarray(at)]);
		}
	}
	return b.subarray(0, 400_000);
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------ */

const ids = (await api.expect(201, "POST", "/api/events", Array.from({ length: 40 }, (_, i) => ({ event_type: "T", flow_id: `fuzz ${i}`, payload: { i } })))).event_ids;
// A small set of event types: their number is limited, and running into that is no fault.
const types = ["T", "OTHER", "FUZZ", "FUZZ-1"];
await api.expect(201, "PUT", "/api/event-types/OTHER", { flow_type: "other" });
const examples = operations.filter((o) => o.requestBody).map((o) => {
	const content = o.requestBody.content["application/json"];
	return [o.operationId, content.examples ? Object.values(content.examples).map((e) => e.value) : [content.example]];
});
const bodies = Object.fromEntries(examples);

// A mistyped PUT must not make ever more event types.
const isName = (s) => /^[A-Za-z][A-Za-z0-9_-]{0,62}$/.test(s);

function request(r) {
	const o = r.one(operations);
	const encode = (s) => (r.maybe(0.9) ? encodeURIComponent(s.replace(/[\ud800-\udfff]/g, "")) : encodeURI(s.replace(/[\ud800-\udfff]/g, "")).replace(/[ \r\n\t]/g, "+"));
	let path = o.path.replace(/\{(\w+)\}/g, (_, name) => {
		if (name === "type") { const t = r.maybe(0.8) ? r.one(types) : text(r); return encode(isName(t) && !types.includes(t) ? t + "!" : t); }
		const good = { id: r.one(ids), flow_type: r.one(["flow", "other"]), flow_id: `fuzz ${r.below(40)}` }[name];
		return encode(r.maybe(0.8) ? good : r.maybe(0.5) ? damage(r, good).toString("latin1") : text(r)) || "x";
	});
	const query = [];
	for (const p of o.parameters.filter((x) => x.in === "query")) if (r.maybe(0.5)) query.push(`${p.name}=${encode(r.maybe(0.4) ? String(p.example ?? r.one([5, "T", "flow", ids[0]])) : text(r))}`);
	if (r.maybe(0.1)) query.push(encode(text(r)));
	if (query.length) path += "?" + query.join("&");
	const headers = {};
	if (r.maybe(0.3)) headers["If-Match"] = r.maybe(0.5) ? `"${r.below(9)}"` : r.one(words);
	if (r.maybe(0.2)) headers["Idempotency-Key"] = r.maybe(0.5) ? `key ${r.below(20)}` : text(r);
	if (r.maybe(0.1)) headers["Last-Event-ID"] = r.one(words);
	if (r.maybe(0.05)) headers["Content-Type"] = r.one(["text/plain", "application/json;", "application/json; charset=latin1", "*/*", ""]);
	if (r.maybe(0.1)) headers[r.one(["Accept", "Accept-Encoding", "Range", "If-None-Match", "Cookie", "Authorization", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "X-Forwarded-For", "Upgrade", "Expect", "Origin", "TE", "Connection"])] = r.maybe(0.3) ? r.one(["gzip", "bytes=0-1", "close", "keep-alive", "100-continue", "tools/call", "2026-07-28", "null"]) : text(r);
	for (const k of Object.keys(headers)) headers[k] = headers[k].replace(/[^\t\x20-\x7e\x80-\xff]/g, "?");
	if (headers.Connection && /upgrade/i.test(headers.Connection)) delete headers.Connection;
	let raw;
	if (bodies[o.operationId] || r.maybe(0.05)) {
		let v = structuredClone(r.one(bodies[o.operationId] || [{}]));
		if (v && typeof v === "object" && "event_type" in v) v.event_type = r.one(types);
		for (let n = r.below(4); n > 0; n--) v = spoil(r, v);
		raw = Buffer.from(JSON.stringify(v) ?? "null");
		if (r.maybe(0.15)) raw = damage(r, raw);
		if (r.maybe(0.03)) raw = Buffer.from("[".repeat(1 + r.below(60000)));
		if (r.maybe(0.05)) raw = undefined;
	}
	return { method: r.maybe(0.97) ? o.method : r.one(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]), path, headers, raw, operation: o };
}

// Send one of these; what is wrong with the answer, or null.
async function http(r) {
	const { method, path, headers, raw } = request(r);
	const streams = /^\/(api\/stream|ws|mcp)/.test(path) && (method === "GET" || method === "HEAD");
	const described = `${method} ${path} ${JSON.stringify(headers)} ${raw ? raw.toString("latin1").slice(0, 500) : ""}`;
	if (streams || headers.Upgrade || headers.Expect) return bytes(r, Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: ${host}\r\n${Object.entries(headers).map(([k, v]) => `${k}: ${v}\r\n`).join("")}${raw ? `Content-Length: ${raw.length}\r\n` : ""}\r\n${raw ?? ""}`, "latin1"), described);
	if (requests === 1) note(described);
	// A long poll may take a minute: hang up.  All others have to be answered.
	const gone = new AbortController();
	const timer = setTimeout(() => gone.abort(), /acquire|mcp/.test(path) ? 400 : 120_000);
	try {
		const a = await api.send(method, path, undefined, { raw, headers: { ...(raw ? { "Content-Type": "application/json" } : {}), ...headers }, signal: gone.signal });
		if (a.status >= 500 && !(path.startsWith("/ready") && a.json?.status === "not ready")) return `${described}: ${a.status} ${a.text}`;
		// What was accepted may be more than the document promises to accept: only answers are compared.
		const f = answerFault({ ...a, asked: undefined, path: a.path.split("?")[0] });
		return f ? `${described}: ${f}` : null;
	} catch (e) {
		if (gone.signal.aborted) return /acquire|mcp/.test(path) ? null : `${described}: no answer within 120 s`;
		// libwebsockets hangs up on some requests that nobody could understand.
		if (/hang up|ECONNRESET|EPIPE|other side closed/.test(e.message)) return null;
		if (/Invalid character|unescaped characters|Parse Error/.test(e.message)) return /Parse/.test(e.message) ? `${described}: ${e.message}` : null;
		return `${described}: ${e.message}`;
	} finally {
		clearTimeout(timer);
	}
}

// Bytes over TCP, in pieces; an answer that can be read must not be a 5xx.
async function bytes(r, data, described) {
	if (requests === 1) note(JSON.stringify(data.toString("latin1")));
	const c = connect(g.url);
	try {
		for (let at = 0; at < data.length;) {
			const size = r.maybe(0.5) ? data.length : 1 + r.below(data.length);
			c.write(data.subarray(at, at + size));
			at += size;
			await new Promise(setImmediate);
		}
		if (r.maybe(0.3)) c.socket.end();
		await until("an answer", () => c.closed || c.received.length > 0, 0.15).catch(() => {});
		const answered = c.received.toString("latin1").replace(/HTTP\/1\.[01] 503[^]*?Every connection to the database is busy/g, "");	// a slow machine
		const bad = [...answered.matchAll(/(?:^|\n)HTTP\/1\.[01] (5\d\d)/g)].map((m) => m[1]);
		return bad.length ? `${described ?? JSON.stringify(data.toString("latin1").slice(0, 1500))}: ${c.received.toString("latin1").slice(0, 600)}` : null;
	} finally {
		if (r.maybe(0.5)) c.socket.resetAndDestroy();
		else c.destroy();
	}
}

function nearlyHttp(r) {
	const one = () => {
		const { method, path, headers, raw } = request(r);
		return Buffer.concat([Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\n${Object.entries(headers).map(([k, v]) => `${k}: ${v}\r\n`).join("")}${raw ? `Content-Length: ${raw.length}\r\n` : ""}\r\n`, "latin1"), raw ?? Buffer.alloc(0)]);
	};
	let data = Buffer.concat(Array.from({ length: 1 + r.below(3) }, one));
	// The head is what nobody else has looked at: spoil that more often than a long body.
	if (r.maybe(0.9)) data = r.maybe(0.6) ? Buffer.concat([damage(r, data.subarray(0, 200)), data.subarray(200)]) : damage(r, data);
	return bytes(r, data);
}

const messages = ["WsSubscribe", "WsUnsubscribe", "WsPing"].flatMap((n) => openapi.components.schemas[n].examples);

async function webSocket(r) {
	const c = await rawSocket(g.url, r.one(["/ws", "/ws?all", "/ws?flow_type=flow", "/ws?last_event_id=" + encodeURIComponent(r.one(words).slice(0, 300)), "/ws?flow_id=" + encodeURIComponent(text(r).replace(/[\ud800-\udfff]/g, ""))]), r.maybe(0.2) ? `Sec-WebSocket-Protocol: ${r.one(["eda", "eda, bearer.x", "bearer.", ",,,", "x", "eda,eda"])}\r\n` : "");
	try {
		for (let n = r.below(8); n > 0; n--) {
			let message = structuredClone(r.one(messages));
			for (let k = r.below(3); k > 0; k--) message = spoil(r, message);
			let payload = Buffer.from(JSON.stringify(message) ?? "null");
			if (r.maybe(0.2)) payload = damage(r, payload);
			let f = frame(r.maybe(0.85) ? 1 : r.below(16), payload.subarray(0, r.maybe(0.95) ? 4000 : payload.length), { fin: r.maybe(0.85), masked: r.maybe(0.97), rsv: r.maybe(0.95) ? 0 : r.below(8), length: r.maybe(0.97) ? undefined : r.below(2 ** 31) });
			if (r.maybe(0.1)) f = damage(r, f);
			c.write(f);
			await new Promise(setImmediate);
		}
		await until("an answer", () => c.closed || c.received.length > 0, 0.1).catch(() => {});
		return null;
	} finally {
		if (r.maybe(0.5)) c.socket.resetAndDestroy();
		else c.destroy();
	}
}

await section("fuzz", async () => {
	const wrong = [];
	const seen = new Map();
	let next = from;
	let alive = true;
	const one = async () => {
		while (alive && next < from + requests) {
			const n = next++;
			const r = chance(n);
			const kind = r.below(10);
			const [name, run] = kind < 6 ? ["HTTP", http] : kind < 9 ? ["bytes", nearlyHttp] : ["WebSocket", webSocket];
			seen.set(name, (seen.get(name) || 0) + 1);
			let f;
			try {
				f = await run(r);
			} catch (e) {
				f = e.stack;
			}
			if (f) wrong.push(`FUZZ_FROM=${n} ${name}: ${f}`);
			if (n % 250 === 249 && (await new Client(g.url).get("/health", { agent: false }).catch(() => ({}))).status !== 200) {
				wrong.push(`dead after ${n}`);
				alive = false;
			}
		}
	};
	await Promise.all(Array.from({ length: AT_ONCE }, one));
	note([...seen].map(([k, n]) => `${n} ${k}`).join(", "));
	is(next - from, requests, "as many as there were to be");
	ok(wrong.length === 0, `FUZZ_SEED=${seed}: ${requests} requests, frames and streams of bytes: no crash, no 5xx, all as documented`, ...wrong.slice(0, 12), `${wrong.length} in all`);
});

await section("afterwards", async () => {
	is((await g.gone()) ?? null, null, "the gateway is alive");
	await api.expect(200, "PUT", "/api/event-types/T", { max_attempts: 100, attempt_delays: ["0 s"] });
	await api.post("/api/event-types/T/unsuspend");
	await sql("SELECT count(eda.cancel(id)) FROM eda.event_state WHERE state IN ('awaiting_processing', 'dispatched', 'being_processed')");
	const { event_id } = await api.expect(201, "POST", "/api/events", { event_type: "T", flow_id: "afterwards" });
	const { events } = await api.expect(200, "POST", "/api/acquire", { flow_type: "flow", wait: 60 });
	is(events.map((e) => e.event_id), [event_id], "an event can be published and acquired");
	is((await api.expect(200, "POST", `/api/events/${event_id}/success`, { token: events[0].token })).finished, true, "and finished");
	const counts = (await api.get("/api/counts")).json;
	ok(counts.types.length < 20, "the number of event types is bounded", counts.types.map((t) => t.event_type).join());
	const requestsLeft = (await api.get("/metrics")).text.match(/^eda_gateway_requests_in_flight.* (\d+)$/m)?.[1];
	note(`requests in flight: ${requestsLeft}`);
});

await finish();
