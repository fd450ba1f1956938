// stream.js
//	A bounded list of the newest changes.  It can be paused, and holds still while the reader
//	points at it or walks through it with the keyboard.
import { get, path } from "./api.js";
import { problemView } from "./dialogs.js";
import { h, iconButton, paced, swap, text } from "./dom.js";
import { brief, clock, count, moment, rate } from "./format.js";
import { icon } from "./icons.js";
import { glyph, label } from "./states.js";
import { store } from "./store.js";

const ROWS = 200;

export class Stream {
	constructor(filter) {
		this.filter = filter;
		this.rows = []; // newest first
		this.pending = []; // oldest first
		this.missed = 0;
		this.paused = false;
		this.pointing = false;
		this.next = null;
		this.list = h("ol", {
			class: "stream",
			"aria-label": "Newest changes, newest first",
			onkeydown: (e) => this.key(e),
		});
		this.scroll = h(
			"div",
			{ class: "stream-scroll" },
			this.list,
			(this.older = h(
				"button",
				{ type: "button", class: "button older", hidden: true, onclick: () => this.loadOlder() },
				"Load older events",
			)),
			(this.empty = h("div", { class: "empty", hidden: true })),
		);
		this.pauseButton = iconButton(icon("pause"), "Pause (p)", () => this.pause());
		this.note = h("p", { class: "panel-note", "aria-live": "off" });
		this.node = h(
			"section",
			{ class: "panel stream-panel", "aria-labelledby": "stream-title" },
			h(
				"header",
				{ class: "panel-head" },
				h("h2", { id: "stream-title" }, "Newest changes"),
				this.note,
				this.pauseButton,
			),
			filter.node,
			h(
				"div",
				{ class: "stream-head", "aria-hidden": "true" },
				["Time", "State", "Event type", "Flow", "Attempt"].map((name) => h("span", {}, name)),
			),
			this.scroll,
		);
		this.scroll.addEventListener("pointerenter", (e) => e.pointerType === "mouse" && this.point(true));
		this.scroll.addEventListener("pointerleave", () => this.point(false));
		this.list.addEventListener("focusin", (e) => this.point(e.target.matches(":focus-visible")));
		this.list.addEventListener("focusout", () => this.point(this.scroll.matches(":hover")));
		this.quick = paced(120, () => this.show());
		this.slow = paced(400, () => this.show());
		filter.addEventListener("change", () => this.seed());
		store.listen("changes", (changes) => this.add(changes));
		store.listen("skipped", () => this.seed());
		store.listen("counts", () => (store.blind || this.unread) && !this.held && this.seed());
		this.seed();
		setInterval(() => this.say(), 1000);
	}

	// Begin with events from the database, because the stream has only changes from now on.
	async seed() {
		const turn = (this.turn = {});
		const query = { ...this.filter.values, limit: 100 };
		try {
			let page = await find(query);
			if (!page.events.length && query.flow_id)
				page = await get(path(["api", "events"], { ...query, flow_id: "", limit: 500 }));
			if (turn !== this.turn) return;
			this.unread = false;
			// A change that came in meanwhile may be in both.
			const all = [...page.events.map(entryOf), ...this.pending].filter(this.filter.takesAll);
			this.pending = [];
			this.missed = 0;
			this.rows = once(all)
				.sort((a, b) => b.ms - a.ms)
				.slice(0, ROWS);
			this.next = page.next;
			this.draw();
		} catch (problem) {
			if (turn !== this.turn || problem.name === "AbortError") return;
			if (!this.rows.length) this.say(problem);
			this.unread = true; // It is read again with the next counts.
		}
	}

	async loadOlder() {
		if (!this.next) return;
		this.older.disabled = true;
		const turn = this.turn;
		try {
			const page = await find({ ...this.filter.values, before: this.next, limit: 100 });
			if (turn !== this.turn) return;
			this.next = page.next;
			this.pause(true);
			for (const entry of page.events.map(entryOf)) {
				this.rows.push(entry);
				this.list.append(this.row(entry));
			}
			this.older.hidden = !this.next;
		} catch (problem) {
			this.say(problem);
		}
		this.older.disabled = false;
	}

	add(changes) {
		for (const change of changes) if (change.event_type && this.filter.takesAll(change)) this.pending.push(change);
		if (this.pending.length > ROWS) this.missed += this.pending.splice(0, this.pending.length - ROWS).length;
		if (this.pending.length) this.flush();
	}

	// At high rates nobody can read the list, so it is drawn less often than ten times a second.
	flush() {
		if (this.pending.length > 24) this.slow();
		else this.quick();
	}

	get held() {
		return this.paused || this.pointing;
	}

	show() {
		this.say();
		if (this.held || !this.pending.length || this.node.closest("[hidden]")) return;
		const fresh = once(this.pending.reverse(), this.rows);
		this.pending = [];
		this.missed = 0;
		this.rows = [...fresh, ...this.rows];
		const spare = [...this.list.children].slice(Math.max(0, ROWS - fresh.length)).reverse();
		this.rows.length = Math.min(this.rows.length, ROWS);
		this.list.classList.toggle("calm", fresh.length > 5);
		if (fresh.length >= ROWS && spare.length === ROWS) {
			// All rows are new, so none of the old ones has to move.
			const nodes = [...this.list.children];
			fresh.forEach((entry, i) => this.row(entry, nodes[i]));
			return;
		}
		const nodes = fresh.map((entry) => this.row(entry, spare.pop()));
		spare.forEach((node) => node.remove());
		this.list.prepend(...nodes);
		this.rove();
	}

	draw() {
		const focused = this.list.contains(document.activeElement) && document.activeElement.getAttribute("href");
		swap(
			this.list,
			this.rows.map((entry) => this.row(entry)),
		);
		this.rove();
		this.say();
		if (focused) this.list.querySelector(`a[href="${focused}"]`)?.focus({ preventScroll: true });
	}

	rove() {
		if (this.list.querySelector("a[tabindex='0']")) return;
		this.list.querySelector("a")?.setAttribute("tabindex", 0);
	}

	row(entry, li) {
		if (!li) {
			li = h(
				"li",
				{},
				h(
					"a",
					{ class: "row", tabindex: -1 },
					h("time"),
					h("span", { class: "row-state" }, h("span", { class: "row-glyph" }), h("span", { class: "row-label" })),
					h("span", { class: "row-type" }),
					h("bdi", { class: "row-flow" }),
					h("span", { class: "row-attempt" }),
				),
			);
			li.parts = li.firstChild.children;
		}
		const a = li.firstChild;
		const [time, state, type, flow, attempt] = li.parts;
		a.href = `#/event/${entry.event_id}`;
		a.className = `row s-${entry.state}`;
		a.title = entry.error ? brief(entry.error) : "";
		time.textContent = entry.old ? moment(entry.ms) : clock(entry.ms);
		if (li.state !== entry.state) {
			li.state = entry.state;
			swap(state.firstChild, glyph(entry.state));
			state.lastChild.textContent = label(entry.state);
		}
		type.textContent = entry.event_type ?? "";
		flow.textContent = brief(entry.flow_id ?? entry.event_id, 120);
		attempt.textContent = entry.attempt > 1 ? `#${entry.attempt}` : "";
		attempt.title = entry.attempt > 1 ? `attempt ${entry.attempt}` : "";
		return li;
	}

	key(e) {
		const rows = [...this.list.querySelectorAll("a")];
		const at = rows.indexOf(document.activeElement);
		const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[e.key];
		if (at < 0 || to === undefined || !rows[to]) return;
		e.preventDefault();
		rows[at].setAttribute("tabindex", -1);
		rows[to].setAttribute("tabindex", 0);
		rows[to].focus();
	}

	point(on) {
		if (this.pointing === on) return;
		this.pointing = on;
		if (!on) this.flush();
		this.say();
	}

	pause(on = !this.paused) {
		this.paused = on;
		this.pauseButton.setAttribute("aria-pressed", on);
		const name = on ? "Resume (p)" : "Pause (p)";
		this.pauseButton.setAttribute("aria-label", name);
		this.pauseButton.title = name;
		swap(this.pauseButton, icon(on ? "play" : "pause"));
		this.flush();
	}

	say(problem = null) {
		const waiting = this.pending.length + this.missed;
		const perSecond = store.meter.rate(store.now());
		if (this.held && waiting)
			text(this.note, `${this.paused ? "paused" : "held while you point at it"}, ${count(waiting)} new`);
		else if (this.paused) text(this.note, "paused");
		else text(this.note, perSecond > 40 ? `the newest ${ROWS}, at ${rate(perSecond)} a second` : "");
		this.older.hidden = !this.next || this.rows.length >= 2000;
		this.empty.hidden = this.rows.length > 0;
		if (problem) swap(this.empty, problemView(problem));
		else if (!this.rows.length)
			text(
				this.empty,
				this.next
					? "No such event among the newest ones; there may be older ones."
					: Object.keys(this.filter.values).length
					? "No such event so far. It appears here as soon as it is published."
					: "There are no events yet. Publish one, and it appears here.",
			);
	}
}

// Read a page of events.  The database searches a limited number a call, so a page may be empty before the end.
async function find(query) {
	let page = await get(path(["api", "events"], query));
	for (let n = 1; n < 10 && !page.events.length && page.next; n++)
		page = await get(path(["api", "events"], { ...query, before: page.next }));
	return page;
}

// Add each change once, unless the list has it already.
function once(list, there = []) {
	const keys = new Set(there.map((entry) => `${entry.event_id}/${entry.version}`));
	return list.filter((entry) => {
		const key = `${entry.event_id}/${entry.version}`;
		return !keys.has(key) && keys.add(key);
	});
}

const today = () => new Date().setHours(0, 0, 0, 0);
const entryOf = (summary) => {
	const ms = Date.parse(summary.changed_at);
	return { ...summary, ms, old: ms < today() };
};
