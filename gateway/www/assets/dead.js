// dead.js
//	Dead letters: the events that failed or expired, why they did, and redriving one, some or all of a type.
import { get, path, post } from "./api.js";
import { act } from "./actions.js";
import { confirm, problemView, tell } from "./dialogs.js";
import { h, paced, put, swap, text } from "./dom.js";
import { brief, count, many, moment } from "./format.js";
import { fillList } from "./filter.js";
import { chip, DEAD } from "./states.js";
import { store } from "./store.js";

const PAGE = 50;

export class DeadLetters {
	constructor() {
		this.items = [];
		this.next = null;
		this.chosen = new Set();
		this.type = h("select", { "aria-label": "Event type", "data-search": true, onchange: () => this.load() });
		this.sub = h("p", { class: "muted", role: "status" });
		this.all = h("input", {
			type: "checkbox",
			"aria-label": "Select all dead letters shown",
			onchange: () => this.chooseAll(),
		});
		this.some = h(
			"button",
			{ type: "button", class: "button primary", hidden: true, onclick: () => this.redriveSome() },
			"Redrive selected",
		);
		this.every = h("button", { type: "button", class: "button", hidden: true, onclick: () => this.redriveType() });
		this.news = h("button", { type: "button", class: "button", hidden: true, onclick: () => this.load() });
		this.rows = h("tbody");
		this.more = h(
			"button",
			{ type: "button", class: "button older", hidden: true, onclick: () => this.loadMore() },
			"Load more",
		);
		this.note = h("div");
		this.node = h(
			"section",
			{ class: "view dead-view", "aria-labelledby": "dead-title" },
			h(
				"header",
				{ class: "view-head" },
				h("div", {}, h("h1", { id: "dead-title", tabindex: -1 }, "Dead letters"), this.sub),
				h("div", { class: "button-row" }, this.news, this.type, this.every, this.some),
			),
			this.note,
			h(
				"div",
				{ class: "panel table-panel" },
				h(
					"table",
					{ class: "table dead" },
					h(
						"thead",
						{},
						h(
							"tr",
							{},
							h("th", { class: "check-cell" }, this.all),
							["Died", "State", "Event type", "Flow", "Last error", ""].map((name) =>
								h("th", { scope: "col" }, name || h("span", { class: "visually-hidden" }, "Actions")),
							),
						),
					),
					this.rows,
				),
				this.more,
			),
		);
		this.fresh = 0;
		const say = paced(500, () => this.visible && this.say());
		store.listen("changes", (changes) => {
			if (!this.visible) return;
			for (const change of changes) {
				if (DEAD.has(change.state) && (!this.type.value || change.event_type === this.type.value)) this.fresh++;
				else if (DEAD.has(change.from) || change.state === "awaiting_processing") this.drop(change.event_id);
			}
			say();
		});
		store.listen("counts", () => {
			this.fillTypes();
			say();
		});
	}

	fillTypes() {
		const dead = [...store.types.values()].filter((type) => (type.events.failed || 0) + (type.events.expired || 0) > 0);
		fillList(this.type, "all event types", dead.map((type) => type.event_type).sort(), this.type.value);
	}

	show([, query]) {
		this.visible = true;
		this.fillTypes();
		const wanted = new URLSearchParams(query || "").get("event_type");
		if (wanted) {
			fillList(this.type, "all event types", [wanted], wanted);
			this.fillTypes();
		}
		this.load();
	}

	hide() {
		this.visible = false;
	}

	query = (before) => path(["api", "dead-letters"], { event_type: this.type.value, before, limit: PAGE });

	async load() {
		const turn = (this.turn = {});
		this.chosen.clear();
		this.fresh = 0;
		try {
			const page = await get(this.query());
			if (turn !== this.turn) return;
			swap(this.note);
			this.items = page.dead_letters;
			this.next = page.next;
			swap(
				this.rows,
				this.items.map((item) => this.row(item)),
			);
		} catch (problem) {
			if (turn === this.turn) swap(this.note, problemView(problem));
		}
		this.say();
	}

	async loadMore() {
		this.more.disabled = true;
		try {
			const page = await get(this.query(this.next));
			this.next = page.next;
			this.items.push(...page.dead_letters);
			put(
				this.rows,
				page.dead_letters.map((item) => this.row(item)),
			);
		} catch (problem) {
			swap(this.note, problemView(problem));
		}
		this.more.disabled = false;
		this.say();
	}

	row(item) {
		const box = h("input", {
			type: "checkbox",
			"aria-label": `Select ${item.event_type}, flow ${brief(item.flow_id, 60)}`,
			onchange: () => {
				this.chosen[box.checked ? "add" : "delete"](item.event_id);
				this.say();
			},
		});
		return h(
			"tr",
			{ "data-id": item.event_id },
			h("td", { class: "check-cell" }, box),
			h(
				"td",
				{ class: "nowrap", "data-label": "Died" },
				h("a", { href: `#/event/${item.event_id}`, title: item.died_at }, moment(item.died_at)),
			),
			h(
				"td",
				{ "data-label": "State" },
				chip(item.state),
				h("small", {}, item.attempt ? many(item.attempt, "attempt") : "never acquired"),
			),
			h("td", { "data-label": "Event type" }, item.event_type),
			h(
				"td",
				{ class: "clip", "data-label": "Flow" },
				h(
					"a",
					{ href: `#/flow/${encodeURIComponent(item.flow_type)}/${encodeURIComponent(item.flow_id)}` },
					h("bdi", {}, brief(item.flow_id, 120)),
				),
			),
			h(
				"td",
				{ class: "clip wide-cell", "data-label": "Error", title: brief(item.error, 1000) },
				item.error
					? h("bdi", { class: "bad" }, brief(item.error, 240))
					: h("span", { class: "muted" }, item.state === "expired" ? "expired" : "no error was given"),
			),
			h(
				"td",
				{ class: "row-actions" },
				h(
					"button",
					{
						type: "button",
						class: "button small",
						"data-do": "redrive",
						"aria-label": `Redrive ${item.event_type}, flow ${brief(item.flow_id, 60)}`,
						onclick: async () => {
							if (await act("redrive", item)) this.drop(item.event_id);
							this.say();
						},
					},
					"Redrive",
				),
			),
		);
	}

	// The event has been redriven, so it is no longer a dead letter.
	drop(id) {
		const at = this.items.findIndex((item) => item.event_id === id);
		if (at < 0) return;
		this.items.splice(at, 1);
		this.chosen.delete(id);
		this.rows.querySelector(`tr[data-id="${CSS.escape(id)}"]`)?.remove();
	}

	chooseAll() {
		for (const box of this.rows.querySelectorAll("input")) box.checked = this.all.checked;
		this.chosen = new Set(this.all.checked ? this.items.map((item) => item.event_id) : []);
		this.say();
	}

	say() {
		const type = this.type.value;
		const counts = store.types.get(type);
		const all = type ? (counts ? (counts.events.failed || 0) + (counts.events.expired || 0) : null) : store.dead();
		text(
			this.sub,
			all === null
				? ""
				: all === 0
					? "There are none: every event that has ended has succeeded or was canceled."
					: `${many(all, "failed or expired event")}`,
		);
		text(this.some, this.chosen.size ? `Redrive ${this.chosen.size} selected` : "Redrive selected");
		this.some.hidden = !this.chosen.size;
		this.every.hidden = !type || !this.items.length;
		text(this.every, `Redrive all of ${type}`);
		this.news.hidden = !this.fresh;
		text(this.news, `${count(this.fresh)} new: show`);
		this.more.hidden = !this.next;
		this.all.disabled = !this.items.length;
		this.all.checked = this.items.length > 0 && this.chosen.size === this.items.length;
		this.all.indeterminate = this.chosen.size > 0 && this.chosen.size < this.items.length;
		if (!this.items.length && !this.rows.querySelector(".empty"))
			swap(
				this.rows,
				h(
					"tr",
					{},
					h(
						"td",
						{ colspan: 7, class: "empty" },
						this.next ? "No dead letters among those searched so far; there may be older ones." : "No dead letters.",
					),
				),
			);
	}

	async redriveSome() {
		const ids = [...this.chosen];
		const done = await confirm({
			title: `Redrive ${many(ids.length, "event")}?`,
			action: "Redrive",
			text: "The events are due at once, with all their attempts and their lifespan. Either all are redriven or none.",
			submit: (form) => post("/api/dead-letters/redrive", { event_ids: ids, ...reason(form) }),
		});
		this.after(done);
	}

	async redriveType() {
		const type = this.type.value;
		const since = h("input", { name: "since", type: "datetime-local", step: 1 });
		const done = await confirm({
			title: `Redrive all dead letters of ${type}?`,
			action: "Redrive all",
			danger: true,
			text: "All dead letters of this type, also those that are not shown here, are due at once, with all their attempts and their lifespan.",
			fields: h(
				"label",
				{ class: "field" },
				h("span", {}, "Failed or expired since ", h("small", {}, "optional; empty: all")),
				since,
			),
			submit: (form) =>
				post("/api/dead-letters/redrive", {
					event_type: type,
					...(since.value ? { since: new Date(since.value).toISOString() } : {}),
					...reason(form),
				}),
		});
		this.after(done);
	}

	after(done) {
		if (!done) return;
		tell(`${many(done.redriven, "event")} redriven.`);
		store.readCounts();
		this.load();
	}
}

const reason = (form) => (form.elements.reason.value ? { reason: form.elements.reason.value } : {});
