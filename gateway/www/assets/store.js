// store.js
//	The state of the page: which event is in which state, how many are in each, and the rates.
//
//	Changes come from the stream, and counts from the database every few seconds.  Between two
//	counts, the changes update the numbers.  All that is kept is bounded.
import { get } from "./api.js";
import { Live } from "./live.js";
import { Meter } from "./meter.js";
import { cameFrom, STATES } from "./states.js";

const KNOWN = 30000; // events whose state is kept

class Store extends EventTarget {
	live = new Live({
		changes: (list) => this.apply(list),
		skipped: (what) => this.skipped(what),
		status: (status) => this.setStatus(status),
		link: (state, problem) => this.setLink(state, problem),
	});
	meter = new Meter();
	known = new Map(); // event id -> {version, state, created, acquired}
	types = new Map(); // event type -> {flow_type, suspended, events: {state: n}, ...}
	moves = [];
	engine = null;
	deadLetters = null;
	status = {}; // from the stream: {database, engine, feed}
	link = "closed";
	problem = null;
	everOpen = false;
	countsProblem = null;
	offset = 0; // ms that the database's clock is ahead of the browser's

	tell(type, detail) {
		this.dispatchEvent(new CustomEvent(type, { detail }));
	}

	listen(type, call) {
		this.addEventListener(type, (e) => call(e.detail));
	}

	start() {
		this.live.start();
		this.readCounts();
		document.addEventListener("visibilitychange", () => document.hidden || this.readCounts());
	}

	// Whether the feed is off or leaves changes out, so that the page has to read all data again and again.
	get blind() {
		return this.link === "waiting" || ["off", "ids"].includes(this.status.feed);
	}

	// The current time by the database's clock.
	now() {
		return Date.now() + this.offset;
	}

	apply(list) {
		const fresh = [];
		for (const change of list) {
			const old = this.known.get(change.event_id);
			if (old && old.version >= change.version) continue;
			change.from = old
				? old.version === change.version - 1
					? old.state
					: undefined
				: cameFrom(change.state, change.version);
			if (change.from === undefined) change.from = cameFrom(change.state, change.version);
			change.ms = change.at ? Date.parse(change.at) : this.now();
			this.remember(change, old);
			this.move(change);
			fresh.push(change);
		}
		if (fresh.length) this.tell("changes", fresh);
	}

	remember(change, old) {
		const entry = old || { created: bornAt(change.event_id), acquired: 0 };
		if (change.version === 1) entry.created = change.ms;
		this.meter.add(change, entry);
		if (change.state === "being_processed" && change.from !== "being_processed") entry.acquired = change.ms;
		entry.version = change.version;
		entry.state = change.state;
		this.known.set(change.event_id, entry);
		if (this.known.size > KNOWN) {
			let n = 1000;
			for (const id of this.known.keys()) {
				this.known.delete(id);
				if (--n === 0) break;
			}
		}
	}

	move(change) {
		const type = this.types.get(change.event_type);
		if (!type) return;
		type.events[change.state] = (type.events[change.state] || 0) + 1;
		if (change.from) type.events[change.from] = Math.max(0, (type.events[change.from] || 0) - 1);
		if (change.from !== change.state) type.last_minute[change.state] = (type.last_minute[change.state] || 0) + 1;
	}

	skipped(what) {
		this.tell("skipped", what);
		this.readCounts();
	}

	setStatus(status) {
		const was = this.status;
		this.status = status;
		this.tell("status", status);
		if (was.engine !== status.engine || was.database !== status.database || was.feed !== status.feed) this.readCounts();
	}

	setLink(state, problem) {
		const back = state === "open" && this.everOpen;
		this.link = state;
		this.problem = problem;
		if (state === "open") this.everOpen = true;
		this.tell("link", state);
		if (back) this.readCounts();
	}

	// Read the counts periodically: more often without a feed, and not at all while the page is hidden.
	async readCounts() {
		clearTimeout(this.timer);
		if (this.reading) {
			this.again = true;
			return;
		}
		this.reading = true;
		try {
			const sent = Date.now();
			const counts = await get("/api/counts");
			this.offset = Date.parse(counts.at) - (sent + Date.now()) / 2;
			this.engine = counts.engine;
			this.deadLetters = counts.dead_letters;
			this.types = new Map(counts.types.map((type) => [type.event_type, type]));
			this.countsProblem = null;
			this.tell("counts", counts);
		} catch (problem) {
			this.countsProblem = problem;
			this.tell("counts-failed", problem);
		}
		this.reading = false;
		const soon = this.again ? 0 : this.pace || (this.blind ? 2000 : 4000);
		this.again = false;
		if (!document.hidden) this.timer = setTimeout(() => this.readCounts(), soon);
	}

	async readLifecycle() {
		if (!this.moves.length) this.moves = (await get("/api/lifecycle")).moves;
		return this.moves;
	}

	// The counts of all event types that a filter accepts, summed by state.
	totals(takes = () => true) {
		const sum = { events: {}, last_minute: {} };
		for (const state of STATES) sum.events[state] = sum.last_minute[state] = 0;
		for (const type of this.types.values())
			if (takes(type))
				for (const state of STATES) {
					sum.events[state] += type.events[state] || 0;
					sum.last_minute[state] += type.last_minute[state] || 0;
				}
		return sum;
	}

	// The number of dead letters; null: not known yet.
	dead() {
		if (!this.types.size) return this.deadLetters;
		const { events } = this.totals();
		return events.failed + events.expired;
	}
}

// A UUID v7 begins with the time at which it was made.
export function bornAt(id) {
	return id[14] === "7" ? parseInt(id.slice(0, 8) + id.slice(9, 13), 16) : 0;
}

export const store = new Store();
