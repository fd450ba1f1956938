// http.mjs
//	The gateway as an HTTP server that strangers talk to: methods, content types, limits,
//	malformed and slow requests, who may call (Host, Origin, tokens) and as which role.
//	test/t/511_http.pl runs it.
import { randomUUID } from "node:crypto";
import os from "node:os";
import { answersIn, Client, connect, finish, gateway, is, like, note, ok, perl, raw, rawSocket, section, session, soon, sql, stream, until } from "./lib.mjs";
import { openapi, operationOf, operations, watchAnswers } from "./openapi.mjs";

const report = watchAnswers();
const LIMIT = 100_000;
const g = await gateway({ args: ["--max-body", String(LIMIT), "--origin", "https://shop.example"] });
const api = new Client(g.url);
const host = new URL(g.url).host;
const alive = async (name, base = g.url) => is((await new Client(base).get("/health", { agent: false })).status, 200, name);
const get = (path, headers = "") => `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${headers}\r\n`;
const post = (path, body, headers = "", length = Buffer.byteLength(body)) => `POST ${path} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n${headers}\r\n${body}`;
const target = (o) => o.path.replace("{id}", randomUUID()).replace("{type}", "T").replace("{flow_type}", "flow").replace("{flow_id}", "none");
const bodyOf = (o) => (o.requestBody ? Object.values(o.requestBody.content["application/json"].examples || { x: { value: o.requestBody.content["application/json"].example } })[0].value : undefined);

// Slow clients: looked at again at the end.
const slow = {
	"nothing at all": connect(g.url),
	"half of a request line": connect(g.url),
	"a header without end": connect(g.url),
	"half of a body": connect(g.url),
};
slow["half of a request line"].write("GET /hea");
slow["a header without end"].write(`GET /health HTTP/1.1\r\nHost: ${host}\r\nX-A: `);
slow["half of a body"].write(post("/api/events", '{"event', "", 5000));
const drips = setInterval(() => { slow["a header without end"].write("a"); }, 500);
const slowSince = Date.now();

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------ */

await section("methods", async () => {
	for (const path of Object.keys(openapi.paths)) {
		const has = operations.filter((o) => o.path === path).map((o) => o.method);
		const allowed = [...has, ...(has.includes("GET") ? ["HEAD"] : [])].sort().join(", ");
		for (const method of ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].filter((m) => !allowed.includes(m))) {
			const a = await api.send(method, target({ path }));
			const allow = (a.headers.allow || "").split(/, */).sort().join(", ");
			ok(method === "OPTIONS" ? [204, 405].includes(a.status) && allow.replace("OPTIONS, ", "") === allowed : a.status === 405 && allow === allowed, `${method} ${path}: 405, Allow: ${allowed}`, `${a.status} ${allow}`);
		}
	}
	for (const o of operations.filter((x) => x.method === "GET" && !["/api/stream", "/ws", "/mcp"].includes(x.path))) {
		const [head, whole] = [await api.send("HEAD", target(o)), await api.get(target(o))];
		ok(head.status === whole.status && head.text === "" && head.type === whole.type, `HEAD ${o.path} is as GET, without content`, `${head.status} ${whole.status} ${head.text}`);
	}
	for (const path of ["/nothing", "/api", "/api/", "/api/events/", "/API/events", "/api/events/x/y", `/api/events/${randomUUID()}/nothing`, "/api/flows/flow", "/api/flows/flow/", "/api/event-types/T/x", "/..", "/../../etc/passwd", "/assets/../../../etc/passwd", "/assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/assets/..%2f..%2f..%2fetc%2fpasswd", "/openapi.json/x", "/.git/config", "/ready/x", "//api/events", "/assets/"])
		for (const method of ["GET", "POST"]) {
			const a = await api.send(method, path);
			ok(a.status === 404 || (method === "POST" && a.status === 405) || (path === "//api/events" && a.status < 500) || (path === "/.." && a.status === 200), `${method} ${path}: nothing is there`, `${a.status} ${a.text.slice(0, 200)}`);
			ok(!/root:/.test(a.text), "no file of the system");
		}
	const doc = await api.get("/openapi.json");
	is([doc.status, doc.type, doc.json], [200, "application/json", openapi], "the document is served");
});

await section("headers of answers", async () => {
	for (const a of [await api.get("/api/counts"), await api.get("/health"), await api.get("/nothing"), await api.post("/api/events", {}), await api.get("/openapi.json")]) {
		like(a.headers["content-security-policy"], /default-src 'none'/, `${a.path}: a content security policy`);
		is(a.headers["x-content-type-options"], "nosniff", "nosniff");
		ok(Number(a.headers["content-length"]) === Buffer.byteLength(a.text), "its length");
		ok(/no-store|no-cache/.test(a.headers["cache-control"]), "nothing is kept in caches", a.headers["cache-control"]);
		is([a.headers["access-control-allow-origin"] ?? null, a.headers["set-cookie"] ?? null], [null, null], "no page of another origin may read it, no cookie");
	}
});

await section("content types", async () => {
	const good = { event_type: "T", flow_id: "content type" };
	for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx", "application/xml", "text/json", "json", "", "application/octet-stream", " "])
		for (const path of ["/api/events", "/api/acquire", `/api/events/${randomUUID()}/success`]) {
			const a = await api.send("POST", path, good, { headers: { "Content-Type": type } });
			is(a.status, 415, `${path.replace(/[0-9a-f-]{36}/, "{id}")} with content type "${type}"`, a.text);
		}
	is((await api.send("POST", "/api/events", good, { headers: { "Content-Type": null } })).status, 415, "without a content type");
	const packed = await api.send("POST", "/api/events", good, { headers: { "Content-Encoding": "gzip" } });
	is(packed.status, 415, "a compressed body", packed.text);
	is((await api.send("POST", "/api/events", good, { headers: { "Content-Encoding": "identity" } })).status, 201, "one that says it is not");
	for (const type of ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/json;charset=UTF-8"])
		is((await api.send("POST", "/api/events", good, { headers: { "Content-Type": type } })).status, 201, `content type ${type} is JSON`);
	is((await api.send("PUT", "/api/event-types/T", undefined, { raw: "{}", headers: { "Content-Type": "text/plain" } })).status, 415, "PUT too");
	is((await api.send("PATCH", "/api/event-types/T", undefined, { raw: "{}", headers: { "Content-Type": "text/plain" } })).status, 415, "PATCH too");
});

await section("bodies", async () => {
	const sized = (n) => { const head = '{"event_type":"T","flow_id":"sized","payload":"'; return head + "x".repeat(n - head.length - 2) + '"}'; };
	const options = (body) => ({ raw: body, headers: { "Content-Type": "application/json" } });
	is((await api.post("/api/events", undefined, options(sized(LIMIT)))).status, 201, "a body as large as it may be");
	for (const n of [LIMIT + 1, LIMIT * 2, 5_000_000]) {
		const r = await raw(g.url, post("/api/events", sized(n)));
		is(r.answers[0]?.status, 413, `a body of ${n} bytes is too large`, r.text.slice(0, 200));
	}
	const announced = await raw(g.url, post("/api/events", "", "", 10 * LIMIT));
	is([announced.answers[0]?.status, announced.answers[0]?.headers["content-type"]], [413, "application/problem+json"], "one that is only announced too, at once");
	is((await raw(g.url, `POST /api/events HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`)).answers[0]?.status, 411, "chunks: a length is needed");
	for (const length of ["2abc", "-1", "+2", "0x2", "2, 2", "2 2", "99999999999999999999", "18446744073709551618", "1e1", "٢"]) {
		const r = await raw(g.url, `POST /api/events HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n{}`);
		ok(r.answers.length <= 1 && [400, 411, 413, undefined].includes(r.answers[0]?.status), `Content-Length: ${length} is refused`, r.text.slice(0, 200));
	}
	for (const [name, headers] of [["two lengths", "Content-Length: 2\r\nContent-Length: 44\r\n"], ["two lengths, the larger first", "Content-Length: 44\r\nContent-Length: 2\r\n"], ["a length and chunks", "Content-Length: 44\r\nTransfer-Encoding: chunked\r\n"], ["chunks in disguise", "Content-Length: 2\r\nTransfer-Encoding: xchunked\r\n"]]) {
		const r = await raw(g.url, `POST /api/events HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/json\r\n${headers}\r\n{}${get("/health")}`, { n: 2 });
		ok(r.closed && r.answers.every((a) => a.status >= 400 && a.status < 500 && a.status !== 422), `${name}: refused, and what follows is not taken for a request`, r.closed, r.text.slice(0, 600));
	}
	// Lines behind which libwebsockets loses the next one.
	for (const line of ["I: x", "X-Auth: x", "x-forwarded: x", "Content: x", "no colon", " folded: x", "X-Auth: x\r\nX-Auth: x"])
		for (const [name, lost] of [["length", "Content-Length: 2\r\nContent-Type: application/json\r\n"], ["key", "Idempotency-Key: k\r\nContent-Length: 2\r\nContent-Type: application/json\r\n"]])
			for (const method of ["GET", "POST"]) {
				const r = await raw(g.url, `${method} /api/events HTTP/1.1\r\nHost: ${host}\r\n${line}\r\n${lost}\r\n{}${get("/health")}`, { n: 2 });
				ok(r.closed && (r.answers.length === 0 || r.answers.map((a) => a.status).join() === "400"), `${JSON.stringify(line)} before a ${name}: ${method} is refused, as the ${name} cannot be seen`, r.text.slice(0, 600));
			}
	for (const line of ["X-Auth-Tokens: x", "X-Request-Id: x", "Priority: u=1", "DNT: 1", "traceparent: 00-x", "Q:", "Content-Lengths: 77"])
		is((await raw(g.url, get("/health", `${line}\r\n`))).answers[0]?.status, 200, `${line}: any other header is fine`);
	// What a client sends byte by byte is the same as at once.
	const id = randomUUID();
	const texts = [post("/api/events", JSON.stringify({ event_type: "T", flow_id: "bytes ü", event_id: id })), get(`/api/events/${id}`), post("/api/events", "{}"), get("/health")].map((t) => Buffer.from(t));
	for (const size of [1, 7, 64, 100_000]) {
		const c = connect(g.url);
		for (const [n, bytes] of texts.entries()) {
			for (let i = 0; i < bytes.length; i += size) {
				c.write(bytes.subarray(i, i + size));
				if (size < 64) await new Promise(setImmediate);
			}
			await until("an answer", () => answersIn(c.received).length > n || c.closed);
		}
		const answers = answersIn(c.received);
		is(answers.map((a) => a.status), [201, 200, 422, 200], `four requests in pieces of ${size} bytes`);
		is(answers[1] && JSON.parse(answers[1].body).flow_id, "bytes ü", "answered in their order");
		c.destroy();
	}
	// A request behind a body, before its answer: both are answered, or the connection ends and nothing was done.
	const flow = `behind ${randomUUID()}`;
	const behind = await raw(g.url, post("/api/events", JSON.stringify({ event_type: "T", flow_id: flow })) + get("/health"), { n: 2 });
	const published = await sql(`SELECT count(*) FROM eda.event WHERE flow_id = '${flow}'`);
	ok(behind.answers.length === 2 ? published === "1" : behind.closed && behind.answers.every((a) => a.status >= 400) && published === "0", "a request behind a body: all or nothing", published, behind.text);
	is((await raw(g.url, get("/health").repeat(50), { n: 50 })).answers.map((a) => a.status).join(""), "200".repeat(50), "fifty requests in one packet");
	const c = connect(g.url);
	for (let i = 1; i <= 200; i++) {
		c.write(get(`/api/events/${id}`));
		await until("an answer", () => answersIn(c.received).length === i || c.closed);
	}
	is(answersIn(c.received).filter((a) => a.status === 200).length, 200, "two hundred on one connection");
	c.destroy();
	const old = await raw(g.url, `GET /health HTTP/1.0\r\nHost: ${host}\r\n\r\n`);
	ok(old.answers[0]?.status === 200 || old.answers[0]?.status === 400, "HTTP/1.0", old.text);
	const talks = connect(g.url);	// libwebsockets does not read it, and the loop would go round in circles
	talks.write(get("/api/stream"));
	await until("a stream", () => talks.received.includes("event: status"));
	talks.write("hello");
	await until("its end", () => talks.closed);
	ok(true, "who says something on a stream is cut off");
	for (const [request, status] of [[get("/health", "Connection: close\r\n"), 200], [post("/api/acquire", '{"flow_type":"flow"}', "Connection: close\r\n"), 200]]) {
		const close = connect(g.url);
		close.write(request);
		await until("it closes", () => close.closed);
		is(answersIn(close.received)[0]?.status, status, "Connection: close is kept to");
	}
});

await section("malformed requests", async () => {
	const lines = {
		"an unknown method": "FOO /health HTTP/1.1", "no version": "GET /health", "an unknown version": "GET /health HTTP/9.9", "no path": "GET HTTP/1.1", "a path that does not begin with /": "GET health HTTP/1.1", "an absolute URL of another host": "GET http://evil.example/health HTTP/1.1",
		"a star": "GET * HTTP/1.1", "CONNECT": "CONNECT evil.example:443 HTTP/1.1", "TRACE": "TRACE /health HTTP/1.1", "another protocol": "SSH-2.0-x", "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM", "a bad escape": "GET /api/flows/flow/%zz HTTP/1.1", "half an escape": "GET /api/flows/flow/%2 HTTP/1.1",
		"an escape at the end": "GET /api/flows/flow/% HTTP/1.1", "%00": "GET /api/flows/flow/a%00b HTTP/1.1", "invalid UTF-8": "GET /api/flows/flow/%ff%fe HTTP/1.1", "an overlong escape": "GET /api/flows/flow/%c0%af HTTP/1.1", "half a character": "GET /api/flows/flow/%e2%82 HTTP/1.1", "a surrogate": "GET /api/flows/flow/%ed%a0%80 HTTP/1.1",
		"invalid UTF-8 in a query": "GET /api/events?flow_id=%ff HTTP/1.1", "%00 in a query": "GET /api/events?flow_id=a%00b HTTP/1.1", "a bad escape in a query": "GET /api/events?flow_id=%zz HTTP/1.1", "invalid UTF-8 as a filter": "GET /api/events?event_type=%c3%28 HTTP/1.1",
		"a line break in the path": "GET /api/counts%0a HTTP/1.1", "a return in the path": "GET /api/counts%0d HTTP/1.1", "a header in the path": "GET /api/counts%0d%0aX-A:%20b HTTP/1.1", "a line break in the query": "GET /api/counts?a=%0ab HTTP/1.1",
		"raw bytes in the path": "GET /api/flows/flow/\xff\xfe HTTP/1.1",
	};
	for (const [name, line] of Object.entries(lines)) {
		const c = connect(g.url);
		c.write(Buffer.from(`${line}\r\nHost: ${host}\r\n\r\n`, "latin1"));
		// An answer that is an error, or no answer: then it is cut off when its time is over, like any half request.
		const a = await until(name, () => answersIn(c.received)[0] || c.closed, 60);
		c.destroy();
		ok(a === true || (a.status >= 400 && a.status < 500), `${name}: refused`, a);
	}
	for (const [name, bytes] of Object.entries({ "TLS": Buffer.from("16030100a5010000a10303", "hex"), "binary": Buffer.from(Array.from({ length: 512 }, (_, i) => (i * 37) & 255)), "line breaks": Buffer.from("\r\n".repeat(20) + "\r\n"), "NULs": Buffer.alloc(300), "a space": Buffer.from(" \r\n\r\n") })) {
		const c = connect(g.url);
		c.write(bytes);
		c.socket.end();
		const a = await until(name, () => answersIn(c.received)[0] || c.closed, 60);
		c.destroy();
		ok(a === true || a.status >= 400, `${name}: refused`, a);
	}
	const absolute = await raw(g.url, `GET http://${host}/health HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
	ok([200, 400, 403].includes(absolute.answers[0]?.status), "an absolute URL of our own is taken or refused", absolute.text.slice(0, 200));
	is((await raw(g.url, `GET /health HTTP/1.1\nHost: ${host}\n\n`)).answers[0]?.status ?? 400, 200, "line breaks without returns");

	for (const [name, request] of Object.entries({
		"a long path": get("/" + "a".repeat(100_000)), "a long flow id": get("/api/flows/flow/" + "x".repeat(5000)), "a long query": get("/api/events?flow_id=" + "x".repeat(50_000)), "a long header": get("/health", `X-Long: ${"x".repeat(100_000)}\r\n`), "many headers": get("/health", Array.from({ length: 5000 }, (_, i) => `X-${i}: y\r\n`).join("")),
		"a long Host": `GET /health HTTP/1.1\r\nHost: ${"a".repeat(3000)}\r\n\r\n`, "a long Origin": get("/health", `Origin: http://${"a".repeat(3000)}\r\n`), "a long If-Match": post(`/api/events/${randomUUID()}/success`, "{}", `If-Match: "${"1".repeat(3000)}"\r\n`), "a long key": post("/api/events", "{}", `Idempotency-Key: ${"k".repeat(3000)}\r\n`),
		"a long Last-Event-ID": get("/api/stream", `Last-Event-ID: ${"1".repeat(9000)}\r\n`), "a long token": get("/api/counts", `Authorization: Bearer ${"t".repeat(3000)}\r\n`), "many parameters": get("/api/events?" + Array.from({ length: 800 }, (_, i) => `a${i}=1`).join("&")), "a long method": `${"G".repeat(5000)} / HTTP/1.1\r\nHost: ${host}\r\n\r\n`,
	})) {
		const c = connect(g.url);
		c.write(request);
		const a = await until(name, () => answersIn(c.received)[0] || c.closed || (c.received.includes("event-stream") && { status: 200 }), 60);
		c.destroy();
		ok(a === true || a.status < 500, `${name}: answered or cut off`, a);
	}
	await alive("it lives on");

	// Clients that leave in the midst of it.
	const partial = post("/api/events", JSON.stringify({ event_type: "T", flow_id: "partial", payload: "x".repeat(2000) }));
	await Promise.all(Array.from({ length: 60 }, async (_, i) => {
		const c = connect(g.url);
		c.write(partial.slice(0, 1 + Math.floor((i * partial.length) / 60)));
		await new Promise((resolve) => c.socket.once("connect", resolve));
		c.socket.resetAndDestroy();
	}));
	const whole = connect(g.url);
	whole.write(partial);
	whole.socket.end();	// it has said all, and listens
	await until("an answer to one that only listens", () => answersIn(whole.received).length || whole.closed);
	await alive("clients that leave do no harm");
	is((await api.get("/api/events?flow_id=partial")).json.events.length <= 1, true, "half a body is no event");
});

/* ------------------------------------------------------------------------
 * Limits
 * ------------------------------------------------------------------------ */

await section("too much", async () => {
	// Calls that hang: publishing waits for a lock.
	const few = await gateway({ name: "few", args: ["--max-in-flight", "4", "--pool", "8"] });
	const it = new Client(few.url);
	const lock = await session("BEGIN", "LOCK TABLE eda.event_1 IN ACCESS EXCLUSIVE MODE");
	const hang = (client, n) => Array.from({ length: n }, (_, i) => client.post("/api/events", { event_type: "T", flow_id: `hang ${i}` }));
	const blocked = (n) => until(`${n} calls hang`, async () => Number(await sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%publish%'")) >= n);
	const hanging = hang(it, 4);
	await blocked(4);
	const more = await it.get("/api/counts");
	is([more.status, Number(more.headers["retry-after"]) > 0], [429, true], "a caller that has too many requests under way: 429");
	is((await it.post("/api/events", { event_type: "T", flow_id: "more" })).status, 429, "another one too");
	const seen = await it.get("/health");
	is(seen.status, 200, "/health is there for probes", seen.text);
	await lock.end();
	is((await Promise.all(hanging)).map((a) => a.status), [201, 201, 201, 201], "those under way are answered");
	is((await it.get("/api/counts")).status, 200, "and then there is room again");
	await few.stop();

	// One connection to the database, and that is busy.
	const narrow = await gateway({ name: "narrow", args: ["--pool", "1", "--max-connections", "40"] });
	const through = new Client(narrow.url);
	const lock2 = await session("BEGIN", "LOCK TABLE eda.event_1 IN ACCESS EXCLUSIVE MODE");
	const first = hang(through, 1)[0];
	await blocked(1);
	const late = await through.get("/api/counts", { once: true });
	is([late.status, Number(late.headers["retry-after"]) > 0], [503, true], "with every connection busy for too long: 503");
	await lock2.end();
	is((await first).status, 201, "the one that had it is answered");
	is((await Promise.all(Array.from({ length: 30 }, (_, i) => through.post("/api/events", { event_type: "T", flow_id: `queue ${i}` })))).map((a) => a.status).filter((s) => s !== 201), [], "thirty at once share one connection");

	// More clients than it takes.
	const crowd = Array.from({ length: 120 }, () => connect(narrow.url));
	await until("some are refused", () => crowd.some((c) => c.closed));
	crowd.forEach((c) => c.destroy());
	await until("there is room again", async () => (await through.get("/health", { agent: false })).status === 200);
	ok(true, "more connections than allowed are refused, until others have gone");
	await narrow.stop();
});

/* ------------------------------------------------------------------------
 * Who may call
 * ------------------------------------------------------------------------ */

await section("Host and Origin", async () => {
	const port = g.port;
	const status = async (headers, path = "/api/counts") => (await raw(g.url, `GET ${path} HTTP/1.1\r\n${headers}\r\n`)).answers[0]?.status;
	for (const h of [`127.0.0.1:${port}`, `localhost:${port}`, `LocalHost:${port}`, `[::1]:${port}`, "localhost", "127.0.0.1", `127.1.2.3:${port}`, "shop.example"]) is(await status(`Host: ${h}\r\n`), 200, `Host: ${h} is us`);
	for (const h of ["evil.example", `evil.example:${port}`, "127.0.0.1.evil.example", "localhost.evil.example", "localhost.", "1127.0.0.1", "127.0.0.1:evil.example", "localhost:80@evil.example", "evil.example:127.0.0.1", "127.0.0.1, evil.example", "127.0.0.1 evil.example", "[::1].evil.example", "[::1", "[evil.example]", "0.0.0.0", "10.0.0.1", "127", "2130706433", "0x7f000001", "", "@127.0.0.1", "shop.example.evil.example", "xshop.example", "shop.example:1", "localhost:99999999", "localhost:", "localhost:-1", "localhost%00.evil.example"]) {
		const s = await status(`Host: ${h}\r\n`);
		ok(s === 403 || s === 400 || (/^localhost:$/.test(h) && s === 200), `Host: ${h} is not us`, s);
	}
	ok([400, 403].includes(await status("")), "no Host");
	for (const [name, headers] of [["two Hosts, a good one first", `Host: 127.0.0.1:${port}\r\nHost: evil.example\r\n`], ["two Hosts, a bad one first", `Host: evil.example\r\nHost: 127.0.0.1:${port}\r\n`], ["a Host on two lines", `Host: 127.0.0.1:1\r\n .evil.example\r\n`], ["a space before the colon", `Host : 127.0.0.1:${port}\r\n`]])
		ok([400, 403, undefined].includes(await status(headers)), `${name}: refused`, await status(headers));
	for (const path of ["/api/counts%0AHost:127.0.0.1:9", "/api/counts%0D%0AHost:127.0.0.1:9", "/api/counts?a=%0AHost:127.0.0.1:9", "/api/counts%0aHost:localhost%0aX:", "/api/counts%0AHost:127.0.0.1%09"]) {
		const s = await status("Host: evil.example\r\n", path);
		ok(s === undefined || (s >= 400 && s < 500), `${path}: no Host can be smuggled into the path`, s);
	}
	is(await status("Host: evil.example\r\n", "/health"), 403, "nor for /health");
	is(await status("Host: evil.example\r\n", "/"), 403, "nor for a page");

	let blank = 0;
	const origin = async (o, method = "GET", path = "/api/counts") => (await api.send(method, path, method === "POST" ? { event_type: "T", flow_id: "origin" } : undefined, { headers: { Origin: o } })).status;
	for (const o of [`http://127.0.0.1:${port}`, `http://localhost:${port}`, "https://shop.example", "HTTPS://SHOP.EXAMPLE"]) is([await origin(o), await origin(o, "POST", "/api/events")], [200, 201], `Origin: ${o} may call`);
	for (const o of ["https://evil.example", "null", "http://shop.example", "https://shop.example:444", "https://shop.example.evil.example", "https://evil.example/https://shop.example", `https://127.0.0.1:${port}`, `http://127.0.0.1:${port + 1}`, "http://127.0.0.1", `http://127.0.0.1.evil.example:${port}`, `http://evil.example:${port}`, `http://localhost.evil.example:${port}`, `http://x@127.0.0.1:${port}`, "file://", "chrome-extension://x", `http://127.0.0.1:${port}/`, `http://127.0.0.1:${port}, https://evil.example`, "https://shop.example https://evil.example", " "]) {
		const got = [await origin(o), await origin(o, "POST", "/api/events")];
		// A header without a value is none.
		if (o === " " && got[1] === 201) blank = 1;
		ok(got.every((s) => s === 403 || s === 400) || (o === " " && got[0] === 200), `Origin: ${o} may not`, got);
	}
	is([await origin("https://evil.example", "GET", "/api/stream"), await origin("null", "GET", "/api/stream")], [403, 403], "nor read the stream");
	is(await origin("https://evil.example", "GET", "/health"), 403, "nor ask for the health");
	const ws = async (h) => (await rawSocket(g.url, "/ws", h)).handshake?.status;
	is([await ws(`Origin: http://${host}\r\n`), await ws("Origin: https://evil.example\r\n"), await ws("Origin: null\r\n")], [101, 403, 403], "nor open a WebSocket");
	const two = await raw(g.url, get("/api/counts", "Origin: https://shop.example\r\nOrigin: https://evil.example\r\n"));
	ok([400, 403].includes(two.answers[0]?.status), "two Origins: refused", two.text.slice(0, 100));
	is((await sql("SELECT count(*) FROM eda.event WHERE flow_id = 'origin'")), String(4 + blank), "and nothing of theirs was published");

	const second = await gateway({ name: "second", listen: "127.0.0.2:0" });
	is((await raw(second.url, `GET /api/counts HTTP/1.1\r\nHost: 127.0.0.2:${second.port}\r\n\r\n`)).answers[0]?.status, 200, "another loopback address is loopback");
	is((await raw(second.url, `GET /api/counts HTTP/1.1\r\nHost: evil.example\r\n\r\n`)).answers[0]?.status, 403, "with the same rules");
	await second.stop();
	const outside = Object.values(os.networkInterfaces()).flat().find((i) => i.family === "IPv4" && !i.internal);
	if (outside) {
		const wide = await gateway({ name: "wide", listen: "0.0.0.0:0" });
		const from = `http://${outside.address}:${wide.port}`;
		is((await raw(from, `GET /api/counts HTTP/1.1\r\nHost: localhost:${wide.port}\r\n\r\n`)).answers[0]?.status, 403, "who does not come from loopback is not let in without tokens");
		is((await raw(from, `GET /api/stream HTTP/1.1\r\nHost: localhost:${wide.port}\r\n\r\n`)).answers[0]?.status, 403, "nor to the stream");
		await wide.stop();
	} else note("this machine has no address but loopback");
	const six = await gateway({ name: "six", listen: "[::1]:0", may_fail: true, wait: 0 });
	if (six.gone) note("this machine has no IPv6");
	else is((await raw(`http://[::1]:${six.port}`, `GET /api/counts HTTP/1.1\r\nHost: [::1]:${six.port}\r\n\r\n`)).answers[0]?.status, 200, "IPv6's loopback too");
});

await section("tokens and roles", async () => {
	const kinds = ["publisher", "worker", "operator", "monitor"];
	const token = Object.fromEntries([...kinds, "none", "all", "missing", "foreign"].map((k) => [k, `${k}-token-${randomUUID()}`]));
	await sql(`CREATE ROLE eda_gateway LOGIN NOINHERIT; SELECT eda.grant_access('eda_gateway', 'monitor');
		${[...kinds, "none", "all"].map((k) => `CREATE ROLE "web ${k}"; GRANT "web ${k}" TO eda_gateway;`.replaceAll("web ", "web_")).join("\n")}
		CREATE ROLE web_foreign; SELECT eda.grant_access('web_foreign', 'monitor');
		${kinds.map((k) => `SELECT eda.grant_access('web_${k}', '${k}'); SELECT eda.grant_access('web_all', '${k}');`).join("\n")}`);
	const tokens = Object.fromEntries(Object.entries(token).map(([k, t]) => [t, `web_${k}`]));
	const guarded = await gateway({ name: "guarded", role: "eda_gateway", tokens, args: ["--max-in-flight", "500"] });
	const plain = new Client(guarded.url);
	const as = (who) => plain.as({ Authorization: `Bearer ${token[who]}` });

	for (const [name, headers] of [["no token", {}], ["an unknown token", { Authorization: `Bearer ${randomUUID()}` }], ["another scheme", { Authorization: `Basic ${Buffer.from(`x:${token.all}`).toString("base64")}` }], ["the scheme alone", { Authorization: "Bearer" }], ["an empty token", { Authorization: "Bearer " }], ["half a token", { Authorization: `Bearer ${token.all.slice(0, -1)}` }],
		["a token and more", { Authorization: `Bearer ${token.all}x` }], ["two tokens", { Authorization: `Bearer ${token.all} ${token.none}` }], ["the role's name", { Authorization: "Bearer web_all" }], ["the token alone", { Authorization: token.all }], ["a token in a cookie", { Cookie: `token=${token.all}` }]])
		for (const o of [operationOf("GET", "/api/counts"), operationOf("POST", "/api/events"), operationOf("GET", "/metrics"), operationOf("POST", "/mcp")]) {
			const a = await plain.send(o.method, o.path, bodyOf(o), { headers });
			is([a.status, /^Bearer/.test(a.headers["www-authenticate"])], [401, true], `${o.name} with ${name}: 401`, a.text);
		}
	is((await plain.get(`/api/counts?access_token=${token.all}&token=${token.all}`)).status, 401, "a token in the query does not count");
	is((await raw(guarded.url, `GET /api/stream HTTP/1.1\r\nHost: x\r\n\r\n`)).answers[0]?.status, 401, "no stream without a token");
	is((await rawSocket(guarded.url, "/ws", "")).handshake?.status, 401, "no WebSocket without a token");
	is((await plain.get("/health")).status, 200, "/health needs none");
	is((await plain.get("/ready")).status, 200, "nor /ready");
	is((await plain.get("/openapi.json")).status, 200, "nor the document");
	is((await plain.send("GET", "/api/counts", undefined, { headers: { Authorization: `bearer   ${token.monitor}` } })).status, 200, "the scheme's case does not matter");
	is((await plain.send("GET", "/api/counts", undefined, { headers: { Authorization: `Bearer ${token.monitor}`, Host: "eda.example:443" } })).status, 200, "with a token any Host will do");
	is((await plain.send("GET", "/api/counts", undefined, { headers: { Authorization: `Bearer ${token.monitor}`, Origin: "https://evil.example" } })).status, 403, "but not any Origin");

	// What each access opens; the answer to what is not allowed is the same whether the event exists or not.
	const opens = {
		publish: "publisher", acquireNext: "worker", acquire: "worker", succeed: "worker", fail: "worker", heartbeat: "worker", release: "worker",
		cancel: "operator", suspend: "worker operator", resume: "operator", redrive: "operator", redriveDeadLetters: "operator", putEventType: "operator", patchEventType: "operator", suspendEventType: "operator", unsuspendEventType: "operator",
		getEvent: "monitor", listEvents: "monitor", getFlow: "monitor", getFlowByQuery: "monitor", getCounts: "monitor", listEventTypes: "monitor", getEventType: "monitor", listDeadLetters: "monitor", getLifecycle: "monitor", listErrors: "monitor", getMetrics: "monitor",
	};
	is(operations.filter((o) => !opens[o.operationId] && !["stream", "webSocket", "getHealth", "getReady", "mcp", "mcpStream"].includes(o.operationId)).map((o) => o.name), [], "every operation has its access");
	for (const o of operations.filter((x) => opens[x.operationId])) {
		const body = { acquireNext: { flow_type: "flow" }, putEventType: { flow_type: "flow", max_attempts: 100, attempt_delays: ["0 s"] }, patchEventType: { priority: 5 }, redriveDeadLetters: { event_ids: [] }, publish: { event_type: "T", flow_id: "roles" } }[o.operationId] ?? bodyOf(o);
		const got = {};
		for (const who of [...kinds, "none", "all"]) {
			const a = await as(who).send(o.method, target(o), body);
			got[who] = a.status === 403 ? "no" : a.status < 500 && a.status !== 401 ? "yes" : a.status;
			if (a.status === 403 && a.json.code !== "42501") got[who] = a.text;
		}
		const expected = Object.fromEntries([...kinds.map((k) => [k, opens[o.operationId].includes(k) ? "yes" : "no"]), ["none", "no"], ["all", "yes"]]);
		is(got, expected, `${o.name} is for ${opens[o.operationId]}`);
	}
	for (const who of ["missing", "foreign"]) {
		const a = await as(who).get("/api/counts");
		ok([403, 500, 503].includes(a.status) && !/web_/.test(a.text), `a token whose role ${who === "missing" ? "does not exist" : "is not one of the gateway's"}: refused`, `${a.status} ${a.text}`);
	}
	for (const who of ["publisher", "none"]) {
		const s = await stream(guarded.url, "/api/stream", { Authorization: `Bearer ${token[who]}` }).catch((e) => ({ error: e, status: 0, close() {} }));
		ok(s.status === 403 || s.of?.("change").length === 0, `${who}: sees no changes`, s.status);
		s.close();
	}

	// Connections are shared; roles are not.
	const mixed = await Promise.all(Array.from({ length: 300 }, (_, i) => {
		const who = ["publisher", "monitor", "none"][i % 3];
		return i % 2 ? as(who).post("/api/events", { event_type: "T", flow_id: "mixed" }).then((a) => a.status === (who === "publisher" ? 201 : 403)) : as(who).get("/api/lifecycle").then((a) => a.status === (who === "monitor" ? 200 : 403));
	}));
	is(mixed.filter((good) => !good).length, 0, "three hundred calls at once as three roles: each as its own");
	await sql("SELECT eda.revoke_access('web_monitor', 'monitor')");
	is((await as("monitor").get("/api/counts")).status, 403, "what a role loses it loses at once");
	await sql("SELECT eda.grant_access('web_monitor', 'monitor')");
	is((await as("monitor").get("/api/counts")).status, 200, "and what it is given");

	// The file is read again.
	const fresh = `fresh-token-${randomUUID()}`;
	const open = await stream(guarded.url, "/api/stream", { Authorization: `Bearer ${token.monitor}` });
	await perl("gateway_tokens", "guarded", { [token.publisher]: "web_publisher", [fresh]: "web_monitor" });
	await guarded.signal("HUP");
	await until("the new token counts", async () => (await plain.as({ Authorization: `Bearer ${fresh}` }).get("/api/counts")).status === 200);
	is((await as("monitor").get("/api/counts")).status, 401, "a token that is gone from the file counts no more after SIGHUP");
	is((await as("publisher").post("/api/events", { event_type: "T", flow_id: "still" })).status, 201, "one that is still there does");
	await until("the stream of the token that is gone ends", () => open.ended);
	ok(true, "and streams of a token that is gone end");
	for (const [name, tokens, mode] of [["others may read", { [fresh]: "web_monitor" }, 0o644], ["has a short token", { short: "web_monitor" }, 0o600], ["has no role", { [token.all]: "" }, 0o600]]) {
		await perl("gateway_tokens", "guarded", tokens, mode);
		await guarded.signal("HUP");
		await until("it is told", async () => new RegExp({ 0o644: "others may read|chmod" }[mode] ?? "line 2").test(await guarded.log()));
		is([(await as("publisher").post("/api/events", { event_type: "T", flow_id: "still" })).status, (await as("all").get("/api/counts")).status], [201, 401], `a file that ${name} changes nothing`);
	}
	for (const t of Object.values(token)) ok(!(await guarded.log()).includes(t), "no token is in the log");
	await guarded.stop();
	const bad = await gateway({ name: "bad_tokens", tokens: { x: "web_all" }, may_fail: true });
	ok(bad.gone, "with a file that is not right it does not start");
	await bad.stop({ status: 256 });
});

await section("slow clients", async () => {
	for (const [name, c] of Object.entries(slow)) {
		await until(`${name} is cut off`, () => c.closed || answersIn(c.received).length > 0, 300);
		const status = answersIn(c.received)[0]?.status;
		ok(status === undefined || status >= 400, `a client that sends ${name} is cut off`, status);
	}
	clearInterval(drips);
	note(`the last one after ${Date.now() - slowSince} ms`);
	for (const c of Object.values(slow)) c.destroy();
	await alive("it lives on");
});

report(800);
await finish();
