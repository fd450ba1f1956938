// lib.mjs
//	What the programs that test the gateway share: TAP lines, the way back to the Perl
//	test that runs them, an HTTP client, raw TCP, SSE and WebSocket clients.
//
// A program prints "ok - name" and "not ok - name".  A line that begins with "!" asks the
// Perl side (test/lib/EdaGateway.pm) to do something, such as to stop the server, and gets
// its answer on stdin.
//
// Environment: EDA_CONSUMER (a folder with node_modules), ONLY (a pattern: of the sections
// only these).
import { randomBytes } from "node:crypto";
import http from "node:http";
import { createRequire } from "node:module";
import net from "node:net";
import readline from "node:readline";

export const require = createRequire((process.env.EDA_CONSUMER || process.cwd()) + "/");

/* ------------------------------------------------------------------------
 * TAP
 * ------------------------------------------------------------------------ */

const print = (line) => process.stdout.write(line + "\n");
export const note = (text) => print(String(text).replace(/^/gm, "# "));
const show = (value) => (typeof value === "string" ? value : JSON.stringify(value, sorted) ?? String(value)).slice(0, 3000);
// Objects are equal whatever the order of their keys.
const sorted = (_, value) => (value?.constructor === Object ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))) : value);

export function ok(good, name, ...why) {
	print((good ? "ok" : "not ok") + " - " + name.replace(/[\n#]/g, " "));
	if (!good) for (const w of why) note(show(w));
	return Boolean(good);
}

export const is = (got, expected, name, ...why) => {
	const [a, b] = [show(got), show(expected)];
	return ok(a === b, name, `     got: ${a}`, `expected: ${b}`, ...why);
};

export const like = (got, pattern, name, ...why) => ok(pattern.test(got ?? ""), name, `     got: ${show(got ?? null)}`, `expected: ${pattern}`, ...why);

// A part of a test: an exception in it is a failure, and the parts after it still run.
export async function section(name, run) {
	if (process.env.ONLY && !new RegExp(process.env.ONLY).test(name)) return;
	const began = Date.now();
	try {
		await run();
	} catch (e) {
		ok(false, `${name}: runs to its end`, e?.stack ?? e);
		for (const s of sessions) await s.end().catch(() => {});
	}
	note(`${name}: ${Date.now() - began} ms`);
}

/* ------------------------------------------------------------------------
 * Waiting
 * ------------------------------------------------------------------------ */

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// What "ask" gives as soon as that is true; an exception of it counts as "not yet".
export async function until(what, ask, seconds = 60) {
	const end = Date.now() + seconds * 1000;
	let last;
	for (;;) {
		try {
			last = await ask();
			if (last) return last;
		} catch (e) {
			last = e;
		}
		if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s (${show(last instanceof Error ? last.stack : last)})`);
		await pause(20);
	}
}

// A promise that must come true in time.
export function soon(what, promise, seconds = 60) {
	let timer;
	const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`${what}: not within ${seconds} s`)), seconds * 1000); });
	return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/* ------------------------------------------------------------------------
 * The Perl side
 * ------------------------------------------------------------------------ */

const asked = new Map();
let lastAsked = 0;
const answers = readline.createInterface({ input: process.stdin });
answers.on("line", (line) => {
	const { id, result, error } = JSON.parse(line);
	const { resolve, reject } = asked.get(id);
	asked.delete(id);
	if (error === undefined) resolve(result);
	else reject(new Error(error));
});

export const perl = (verb, ...args) => new Promise((resolve, reject) => {
	asked.set(++lastAsked, { resolve, reject });
	print("!" + JSON.stringify({ id: lastAsked, verb, args }));
});

export const sql = (text) => perl("sql", text);
export const server = {
	stop: (mode = "fast") => perl("server_stop", mode),
	start: () => perl("server_start"),
	reload: () => perl("server_reload"),
	runs: () => perl("runs"),
	enginePid: () => perl("engine_pid"),
	killEngine: () => perl("kill_engine"),
};

// Settings of the whole server, in force when this returns.
export async function set(settings) {
	for (const [name, value] of Object.entries(settings))
		await sql(value === null ? `ALTER SYSTEM RESET ${name}` : `ALTER SYSTEM SET ${name} = '${value}'`);
	await server.reload();
	for (const [name, value] of Object.entries(settings))
		if (value !== null) await until(`${name} is ${value}`, async () => (await sql(`SELECT setting || coalesce(unit, '') = '${value}' OR current_setting('${name}') = '${value}' FROM pg_settings WHERE name = '${name}'`)) === "t");
}

const sessions = new Set();

// A session of its own, with a transaction that is open until end().
export async function session(...statements) {
	const name = "s" + randomBytes(4).toString("hex");
	await perl("session", name);
	const run = (text) => perl("session_run", name, text);
	for (const s of statements) await run(s);
	const it = { run, end: async (last = "ROLLBACK") => { sessions.delete(it); await run(last); await perl("session_end", name); } };
	sessions.add(it);
	return it;
}

// A gateway: { url, port, pid }; what its options are says EdaGateway.pm.
export async function gateway(options = {}) {
	const it = await perl("gateway", options);
	return {
		...it,
		stop: (how = {}) => perl("gateway_stop", it.name, how),
		signal: (signal) => perl("gateway_signal", it.name, signal),
		gone: () => perl("gateway_gone", it.name),
		log: () => perl("gateway_log", it.name),
	};
}

// The end: nothing may be left to keep node running.
export async function finish() {
	await perl("finish");
	answers.close();
	process.exit(0);
}

/* ------------------------------------------------------------------------
 * HTTP
 * ------------------------------------------------------------------------ */

const agent = new http.Agent({ keepAlive: true, maxSockets: 64 });
const watchers = [];

// Let "see" look at every answer that a Client gets.
export const watch = (see) => watchers.push(see);

export class Client {
	constructor(base, headers = {}) {
		this.base = base.replace(/\/$/, "");
		this.headers = headers;
	}

	as(headers) {
		return new Client(this.base, { ...this.headers, ...headers });
	}

	// Options: headers, raw (a body as it is), agent, signal, once (do not send it again when all
	// connections of the gateway were busy for too long, as they may be on a slow machine).
	send(method, path, body, options = {}) {
		const answered = this.sendOnce(method, path, body, options).then(async (a) => {
			if (options.once || a.status !== 503 || !/^Every connection to the database is busy/.test(a.json?.detail)) return a;
			await pause(100);
			return this.send(method, path, body, options);
		});
		answered.catch(() => {});	// one that nobody has waited for yet must not end the program
		return answered;
	}

	sendOnce(method, path, body, options) {
		const url = new URL(this.base);
		const data = options.raw !== undefined ? Buffer.from(options.raw) : body === undefined ? undefined : Buffer.from(JSON.stringify(body));
		const headers = { ...this.headers, ...(data ? { "Content-Type": "application/json", "Content-Length": data.length } : ["POST", "PUT", "PATCH"].includes(method) ? { "Content-Length": 0 } : {}), ...options.headers };
		for (const [k, v] of Object.entries(headers)) if (v === undefined || v === null) delete headers[k];
		return new Promise((resolve, fail) => {
			const reject = (e) => fail(new Error(`${method} ${path.slice(0, 200)}: ${e.message}`, { cause: e }));
			const request = http.request({ host: url.hostname.replace(/[[\]]/g, ""), port: url.port, method, path, headers, agent: options.agent ?? agent, signal: options.signal });
			request.setTimeout(180_000, () => request.destroy(new Error("no answer within 180 s")));
			request.on("error", reject);
			request.on("response", (response) => {
				const parts = [];
				response.on("data", (d) => parts.push(d));
				response.on("error", reject);
				response.on("aborted", () => reject(new Error("the answer was cut off")));
				response.on("end", () => {
					const text = Buffer.concat(parts).toString();
					const type = (response.headers["content-type"] || "").split(";")[0];
					let json;
					if (/json$/.test(type) && text !== "") {
						try {
							json = JSON.parse(text);
						} catch (e) {
							return reject(new Error(`${e.message} in ${text.slice(0, 500)}`));
						}
					}
					const answer = { method, path, asked: data?.toString(), sent: headers, status: response.statusCode, headers: response.headers, type, text, json, etag: response.headers.etag, request };
					for (const see of watchers) see(answer);
					resolve(answer);
				});
			});
			request.end(data);
		});
	}

	get(path, options) { return this.send("GET", path, undefined, options); }
	post(path, body, options) { return this.send("POST", path, body, options); }

	// The same, and the status must be this.
	async expect(status, method, path, body, options) {
		const a = await this.send(method, path, body, options);
		if (a.status !== status) throw new Error(`${method} ${path}: ${a.status} instead of ${status}: ${a.text.slice(0, 1000)}`);
		return a.json;
	}
}

/* ------------------------------------------------------------------------
 * Raw TCP
 * ------------------------------------------------------------------------ */

// The complete HTTP answers at the start of a buffer.
export function answersIn(buffer) {
	const found = [];
	let at = 0;
	for (;;) {
		const end = buffer.indexOf("\r\n\r\n", at);
		if (end < 0) return found;
		const lines = buffer.subarray(at, end).toString("latin1").split("\r\n");
		const status = Number((lines.shift().match(/^HTTP\/1\.[01] (\d{3})/) || [])[1]);
		const headers = Object.fromEntries(lines.map((l) => [l.slice(0, l.indexOf(":")).toLowerCase(), l.slice(l.indexOf(":") + 1).trim()]));
		let body;
		let next = end + 4;
		if (/chunked/.test(headers["transfer-encoding"] || "")) {
			const parts = [];
			for (;;) {
				const line = buffer.indexOf("\r\n", next);
				if (line < 0) return found;
				const size = parseInt(buffer.subarray(next, line).toString(), 16);
				if (buffer.length < line + 2 + size + 2) return found;
				parts.push(buffer.subarray(line + 2, line + 2 + size));
				next = line + 2 + size + 2;
				if (size === 0) break;
			}
			body = Buffer.concat(parts).toString();
		} else {
			const size = status === 204 || status === 304 || status === 101 ? 0 : Number(headers["content-length"] || 0);
			if (buffer.length < next + size) return found;
			body = buffer.subarray(next, next + size).toString();
			next += size;
		}
		found.push({ status, headers, body });
		at = next;
	}
}

// A connection that bytes can be written to: received (a buffer), closed.
export function connect(base) {
	const url = new URL(base);
	const socket = net.connect({ host: url.hostname.replace(/[[\]]/g, ""), port: Number(url.port), noDelay: true });
	// The parts are joined only when somebody looks.
	let parts = [];
	const it = {
		socket, closed: false, write: (data) => { if (!socket.destroyed) socket.write(data); }, destroy: () => socket.destroy(),
		get received() {
			if (parts.length !== 1) parts = [Buffer.concat(parts)];
			return parts[0];
		},
		set received(buffer) { parts = [buffer]; },
	};
	socket.on("data", (d) => { parts.push(d); });
	socket.on("error", () => { it.closed = true; });
	socket.on("end", () => { it.closed = true; });
	socket.on("close", () => { it.closed = true; });
	return it;
}

// Send bytes and read until there are n answers, the gateway hangs up, or nothing more is waited for.
export async function raw(base, data, { n = 1, seconds = 60 } = {}) {
	const c = connect(base);
	c.write(data);
	await until("answers", () => answersIn(c.received).length >= n || c.closed, seconds).catch(() => {});
	const { closed } = c;
	c.destroy();
	return { answers: answersIn(c.received), closed, text: c.received.toString("latin1") };
}

/* ------------------------------------------------------------------------
 * Server-sent events
 * ------------------------------------------------------------------------ */

export class Stream {
	constructor(base, path = "/api/stream", headers = {}) {
		const url = new URL(base);
		this.messages = [];	// { event, data, id }
		this.changes = [];
		this.comments = 0;
		this.lastId = undefined;
		this.ended = false;
		this.bad = [];	// what is no SSE
		this.buffer = "";
		this.opened = new Promise((resolve, reject) => {
			this.request = http.request({ host: url.hostname.replace(/[[\]]/g, ""), port: url.port, path, headers: { Accept: "text/event-stream", ...headers }, agent: false });
			this.request.on("error", (e) => { this.ended = true; reject(e); });
			this.request.on("response", (response) => {
				this.status = response.statusCode;
				this.headers = response.headers;
				response.setEncoding("utf8");
				response.on("data", (d) => this.read(d));
				response.on("error", () => { this.ended = true; });
				response.on("close", () => { this.ended = true; });
				resolve(this);
			});
			this.request.end();
		});
		this.opened.catch(() => {});
	}

	read(text) {
		this.buffer += text;
		if (this.status !== 200) return;
		for (;;) {
			const end = this.buffer.indexOf("\n\n");
			if (end < 0) return;
			const block = this.buffer.slice(0, end);
			this.buffer = this.buffer.slice(end + 2);
			const message = { event: "message", data: "", id: undefined };
			for (const line of block.split("\n")) {
				if (line.startsWith(":")) this.comments++;
				else if (/^(event|id|data|retry): /.test(line)) {
					const colon = line.indexOf(":");
					const field = line.slice(0, colon);
					message[field] = (field === "data" ? message.data : "") + line.slice(colon + 2);
				} else if (line !== "") this.bad.push(line);
			}
			if (message.id !== undefined) this.lastId = message.id;
			if (message.data === "") continue;
			try {
				message.json = JSON.parse(message.data);
			} catch {
				this.bad.push(message.data);
			}
			this.messages.push(message);
			if (message.event === "change" && Array.isArray(message.json)) this.changes.push(...message.json);
		}
	}

	of(event) { return this.messages.filter((m) => m.event === event); }

	waitFor(what, ask, seconds = 60) {
		return until(what, () => {
			const r = ask(this);
			if (!r && this.ended) throw new Error(`the stream ended (${this.status}); changes: ${this.changes.length}`);
			return r;
		}, seconds);
	}

	close() {
		this.request.destroy();
		this.ended = true;
	}
}

// Wait until a Stream or Socket has been told that the database is up: from then on it is sent
// every change.
export const live = (s) => s.waitFor("a status with the database up", () => s.of("status").some((m) => (m.json ?? m).database === "up"));

// An open stream that is sent every change from now on.
export async function stream(base, path, headers) {
	const s = new Stream(base, path, headers);
	await soon("a stream", s.opened);
	if (s.status === 200) await live(s);
	return s;
}

/* ------------------------------------------------------------------------
 * WebSockets
 * ------------------------------------------------------------------------ */

export class Socket {
	constructor(base, path = "/ws", { protocols = [], headers = {} } = {}) {
		const WebSocket = require("ws");
		this.messages = [];
		this.changes = [];
		this.bad = [];
		this.closed = undefined;	// the close code
		this.ws = new WebSocket(base.replace(/^http/, "ws") + path, protocols, { headers, perMessageDeflate: false, maxPayload: 1 << 26 });
		this.opened = new Promise((resolve, reject) => {
			this.ws.on("open", () => resolve(this));
			this.ws.on("unexpected-response", (_, response) => {
				this.status = response.statusCode;
				this.headers = response.headers;
				reject(new Error(`refused with ${response.statusCode}`));
				this.ws.terminate();
			});
			this.ws.on("error", reject);
		});
		this.opened.catch(() => {});
		this.ws.on("pong", (d) => { this.pong = d.toString(); });
		this.ws.on("close", (code) => { this.closed = code; });
		this.ws.on("message", (data, binary) => {
			let json;
			try {
				if (binary) throw new Error("binary");
				json = JSON.parse(data.toString());
			} catch {
				this.bad.push(data.toString());
				return;
			}
			this.messages.push(json);
			if (json.type === "changes") this.changes.push(...json.changes);
		});
	}

	say(message) { this.ws.send(typeof message === "string" || Buffer.isBuffer(message) ? message : JSON.stringify(message)); }
	of(type) { return this.messages.filter((m) => m.type === type); }

	waitFor(what, ask, seconds = 60) {
		return until(what, () => {
			const r = ask(this);
			if (!r && this.closed !== undefined) throw new Error(`closed with ${this.closed}`);
			return r;
		}, seconds);
	}

	// The next message of a type, after saying something.
	async answer(message, type, seconds) {
		const n = this.of(type).length;
		this.say(message);
		await this.waitFor(type, () => this.of(type).length > n, seconds);
		return this.of(type).at(-1);
	}

	close() { this.ws.terminate(); }
}

export async function socket(base, path, options) {
	const s = new Socket(base, path, options);
	await soon("a WebSocket", s.opened);
	return s;
}

// A client's WebSocket frame; options: fin, masked, length (a lie about it).
export function frame(opcode, payload, { fin = true, masked = true, rsv = 0, length } = {}) {
	const data = Buffer.from(payload);
	const n = length ?? data.length;
	const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode];
	const bit = masked ? 0x80 : 0;
	if (n < 126) head.push(bit | n);
	else if (n < 65536) head.push(bit | 126, n >> 8, n & 255);
	else head.push(bit | 127, ...Buffer.from(BigInt(n).toString(16).padStart(16, "0"), "hex"));
	if (!masked) return Buffer.concat([Buffer.from(head), data]);
	const mask = Buffer.from([1, 2, 3, 4]);
	return Buffer.concat([Buffer.from(head), mask, data.map((b, i) => b ^ mask[i % 4])]);
}

// A WebSocket of which every byte is ours: received starts after the handshake.
export async function rawSocket(base, path = "/ws", headers = "") {
	const c = connect(base);
	c.write(`GET ${path} HTTP/1.1\r\nHost: ${new URL(base).host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n${headers}\r\n`);
	await until("a handshake", () => c.received.includes("\r\n\r\n") || c.closed);
	c.handshake = answersIn(c.received)[0];
	const at = c.received.indexOf("\r\n\r\n");
	c.received = c.received.subarray(at < 0 ? 0 : at + 4);
	return c;
}

// The frames that a server has sent: { opcode, payload }.
export function framesIn(buffer) {
	const frames = [];
	let at = 0;
	while (buffer.length >= at + 2) {
		let n = buffer[at + 1] & 127;
		let head = 2;
		if (n === 126) {
			if (buffer.length < at + 4) break;
			n = buffer.readUInt16BE(at + 2);
			head = 4;
		} else if (n === 127) {
			if (buffer.length < at + 10) break;
			n = Number(buffer.readBigUInt64BE(at + 2));
			head = 10;
		}
		if (buffer.length < at + head + n) break;
		frames.push({ opcode: buffer[at] & 15, payload: buffer.subarray(at + head, at + head + n) });
		at += head + n;
	}
	return frames;
}
