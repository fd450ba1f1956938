// live.js
//	The live stream: Server-Sent Events, read with fetch because EventSource cannot send a token.
//
//	A stream that breaks is opened again after a pause that grows each time, and continues after
//	the last id.  A change may come twice; the store drops the second one.
import { authorization, needToken, problemOf } from "./api.js";

const SILENCE = 40000; // ms; the gateway sends something at least every 15 s
const SLOWEST = 15000;

export class Live {
	// on: {changes(array), skipped(object), status(object), link(state, problem)}
	constructor(on, query = "") {
		this.on = on;
		this.query = query;
		this.lastId = "";
		this.opened = false; // whether the stream has been open before
		this.state = "closed"; // closed, connecting, open, waiting
		this.retryAt = 0;
		this.delay = 500;
		this.stopped = true;
	}

	start() {
		if (!this.stopped) return;
		this.stopped = false;
		addEventListener("online", this.now);
		this.open();
	}

	stop() {
		this.stopped = true;
		removeEventListener("online", this.now);
		clearTimeout(this.timer);
		this.abort?.abort();
		this.set("closed");
	}

	// Connect now, without waiting for the rest of the pause.
	now = () => {
		if (this.state !== "waiting") return;
		clearTimeout(this.timer);
		this.delay = 500;
		this.open();
	};

	set(state, problem = null) {
		this.state = state;
		this.on.link(state, problem);
	}

	async open() {
		this.set("connecting");
		const abort = (this.abort = new AbortController());
		let problem = null;
		try {
			const headers = { Accept: "text/event-stream", ...authorization() };
			if (this.lastId) headers["Last-Event-ID"] = this.lastId;
			const response = await fetch(`/api/stream${this.query}`, { headers, signal: abort.signal, cache: "no-store" });
			if (response.status === 401 && (await needToken())) this.delay = 0;
			if (!response.ok) throw await problemOf(response);
			this.set("open");
			// The stream was lost before it gave an id, so it is unknown what was missed.
			if (this.opened && !this.lastId) this.on.skipped({ skipped: null, reason: "the stream was lost" });
			this.opened = true;
			await this.read(response.body.getReader(), abort);
		} catch (error) {
			if (error.name === "Problem") problem = error;
			// The gateway does not accept the last id, for example after a restore: begin without an id.
			if (problem?.status === 400 && this.lastId) {
				this.lastId = "";
				this.on.skipped({ skipped: null, reason: "the gateway no longer knows the position in the stream" });
			}
		}
		abort.abort();
		if (!this.stopped) this.wait(problem);
	}

	wait(problem) {
		const ms = Math.max(this.delay * (0.75 + Math.random() / 2), (problem?.retryAfter || 0) * 1000);
		this.delay = Math.min(Math.max(this.delay, 300) * 1.7, SLOWEST);
		this.retryAt = Date.now() + ms;
		this.set("waiting", problem);
		this.timer = setTimeout(() => this.open(), ms);
	}

	async read(reader, abort) {
		const decoder = new TextDecoder();
		let rest = "";
		let fields = {};
		const line = (raw) => {
			if (raw === "") {
				if (fields.data !== undefined || fields.id !== undefined) this.event(fields);
				fields = {};
				return;
			}
			const colon = raw.indexOf(":");
			if (colon === 0) return;
			const name = colon < 0 ? raw : raw.slice(0, colon);
			const value = colon < 0 ? "" : raw.slice(raw[colon + 1] === " " ? colon + 2 : colon + 1);
			if (name === "data") fields.data = fields.data === undefined ? value : `${fields.data}\n${value}`;
			else fields[name] = value;
		};
		for (;;) {
			const watch = setTimeout(() => abort.abort(), SILENCE);
			const { done, value } = await reader.read().finally(() => clearTimeout(watch));
			if (done) return;
			rest += decoder.decode(value, { stream: true });
			const lines = rest.split(/\r\n|\n|\r(?!$)/);
			rest = lines.pop();
			lines.forEach(line);
		}
	}

	event({ event = "message", data, id }) {
		this.delay = 500;
		try {
			const body = data === undefined ? null : JSON.parse(data);
			if (event === "change" && Array.isArray(body)) this.on.changes(body);
			else if (event === "skipped") this.on.skipped(body || {});
			else if (event === "status") this.on.status(body || {});
		} catch (error) {
			if (!(error instanceof SyntaxError)) throw error;
		}
		if (id) this.lastId = id;
	}
}
