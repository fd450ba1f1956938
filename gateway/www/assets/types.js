// types.js
//	Event types: their rules, how many of their events are in each state, and their rates.
import { get, path, post } from "./api.js";
import { attempt, confirm, problemView, tell } from "./dialogs.js";
import { h, iconButton, paced, s, swap, text } from "./dom.js";
import { count, duration, interval, many } from "./format.js";
import { icon } from "./icons.js";
import { editType } from "./type-form.js";
import { publishDialog } from "./publish-form.js";
import { label, STATES } from "./states.js";
import { store } from "./store.js";

export class Types {
	constructor() {
		this.rules = new Map();
		this.search = h("input", {
			type: "search",
			placeholder: "event type or flow type",
			"aria-label": "Search event types",
			"data-search": true,
			autocomplete: "off",
			oninput: () => this.draw(),
		});
		this.sub = h("p", { class: "muted" });
		this.rows = h("tbody");
		this.note = h("div");
		this.node = h(
			"section",
			{ class: "view types-view", "aria-labelledby": "types-title" },
			h(
				"header",
				{ class: "view-head" },
				h("div", {}, h("h1", { id: "types-title", tabindex: -1 }, "Event types"), this.sub),
				h(
					"div",
					{ class: "button-row" },
					this.search,
					h(
						"button",
						{ type: "button", class: "button", onclick: () => this.publish() },
						icon("send"),
						"Publish an event",
					),
					h(
						"button",
						{ type: "button", class: "button primary", onclick: () => this.edit(null) },
						icon("plus"),
						"New event type",
					),
				),
			),
			this.note,
			h(
				"div",
				{ class: "panel table-panel" },
				h(
					"table",
					{ class: "table types" },
					h(
						"thead",
						{},
						h(
							"tr",
							{},
							[
								"Event type",
								"Attempts and delays",
								"Lifespan",
								"Lease",
								"Now",
								"Last minute",
								"Oldest due",
								"Actions",
							].map((name) =>
								h(
									"th",
									{ scope: "col", class: ["Last minute", "Oldest due"].includes(name) ? "number" : "" },
									name === "Actions" ? h("span", { class: "visually-hidden" }, name) : name,
								),
							),
						),
					),
					this.rows,
				),
			),
		);
		const refresh = paced(500, () => this.shown() && this.refresh());
		store.listen("counts", () => {
			if (this.shown() && [...store.types.keys()].some((name) => !this.rules.has(name))) this.load();
			refresh();
		});
		store.listen("changes", refresh);
	}

	shown = () => this.visible;

	show() {
		this.visible = true;
		store.pace = 2000;
		this.load();
	}

	hide() {
		this.visible = false;
		store.pace = 0;
	}

	async load() {
		try {
			const { event_types } = await get("/api/event-types");
			this.rules = new Map(event_types.map((rules) => [rules.event_type, rules]));
			swap(this.note);
			this.draw();
		} catch (problem) {
			if (!this.rules.size) swap(this.note, problemView(problem));
		}
	}

	draw() {
		const wanted = this.search.value.trim().toLowerCase();
		const list = [...this.rules.values()]
			.filter((rules) => `${rules.event_type} ${rules.flow_type}`.toLowerCase().includes(wanted))
			.sort((a, b) => a.flow_type.localeCompare(b.flow_type) || a.event_type.localeCompare(b.event_type));
		const flows = new Set([...this.rules.values()].map((rules) => rules.flow_type)).size;
		text(this.sub, `${many(this.rules.size, "event type")} in ${many(flows, "flow type")}`);
		this.parts = new Map();
		const focused = document.activeElement?.dataset?.do && [
			document.activeElement.dataset.do,
			document.activeElement.closest("tr")?.dataset.type,
		];
		swap(
			this.rows,
			list.map((rules) => this.row(rules)),
		);
		if (!list.length)
			swap(
				this.rows,
				h(
					"tr",
					{},
					h(
						"td",
						{ colspan: 8, class: "empty" },
						this.rules.size ? "No event type has such a name." : "There are no event types yet. Create the first one.",
					),
				),
			);
		if (focused?.[1])
			this.rows.querySelector(`tr[data-type="${CSS.escape(focused[1])}"] [data-do="${focused[0]}"]`)?.focus();
		this.refresh();
	}

	row(rules) {
		const parts = {
			bar: h("div", { class: "meter" }),
			now: h("span", { class: "muted" }),
			done: h("span"),
			dead: h("span", { class: "bad" }),
			due: h("td", { class: "number", "data-label": "Oldest due" }),
			row: null,
		};
		const name = rules.event_type;
		parts.row = h(
			"tr",
			{ "data-type": name, class: rules.suspended ? "is-suspended" : "" },
			h(
				"th",
				{ scope: "row" },
				h("a", { href: `#/?event_type=${encodeURIComponent(name)}`, class: "type-name" }, name),
				h(
					"small",
					{},
					rules.flow_type,
					rules.delivery === "nats" ? " · NATS" : "",
					rules.priority !== 5 ? ` · priority ${rules.priority}` : "",
				),
				rules.suspended && h("span", { class: "chip s-suspended" }, "suspended"),
			),
			h(
				"td",
				{ "data-label": "Attempts" },
				h("span", {}, rules.max_attempts, " × ", h("span", { class: "muted" }, waits(rules))),
			),
			h("td", { "data-label": "Lifespan" }, rules.lifespan ? interval(rules.lifespan) : "no end"),
			h("td", { "data-label": "Lease" }, interval(rules.lease)),
			h("td", { class: "type-now", "data-label": "Now" }, h("div", {}, parts.bar, parts.now)),
			h("td", { class: "number", "data-label": "Last minute" }, parts.done, parts.dead),
			parts.due,
			h(
				"td",
				{ class: "row-actions" },
				iconButton(icon("send"), `Publish an event of ${name}`, () => this.publish(name), { "data-do": "publish" }),
				iconButton(icon("edit"), `Edit the rules of ${name}`, () => this.edit(rules), { "data-do": "edit" }),
				iconButton(
					icon(rules.suspended ? "play" : "pause"),
					rules.suspended ? `Unsuspend ${name}` : `Suspend ${name}`,
					() => this.suspend(rules),
					{ "data-do": "suspend" },
				),
			),
		);
		this.parts.set(name, parts);
		return parts.row;
	}

	refresh() {
		if (!this.parts) return;
		for (const [name, parts] of this.parts) {
			const type = store.types.get(name);
			if (!type) continue;
			drawBar(parts, type);
			const { succeeded = 0, being_processed = 0, failed = 0, expired = 0 } = type.last_minute;
			const dead = failed + expired;
			text(
				parts.done,
				`${count(succeeded)} done${being_processed > succeeded ? `, ${count(being_processed)} tries` : ""}`,
			);
			text(parts.dead, dead ? `, ${count(dead)} dead` : "");
			const age = type.oldest_due_age;
			text(parts.due, age === null || age === undefined ? "–" : duration(age * 1000));
			parts.due.classList.toggle("bad", age > 60);
			const rules = this.rules.get(name);
			if (rules && rules.suspended !== type.suspended) {
				rules.suspended = type.suspended;
				this.load();
			}
		}
	}

	async edit(rules) {
		const saved = await editType(rules, [...this.rules.values()]);
		if (!saved) return;
		tell(rules ? `The rules of ${saved.event_type} have been saved.` : `${saved.event_type} has been created.`);
		this.load();
		store.readCounts();
	}

	publish(name) {
		publishDialog([...this.rules.values()], name);
	}

	async suspend(rules) {
		const name = rules.event_type;
		const call = (verb) => post(path(["api", "event-types", name, verb]));
		if (rules.suspended) {
			if (await attempt(() => call("unsuspend"))) tell(`${name} is no longer suspended.`);
		} else {
			const done = await confirm({
				title: `Suspend ${name}?`,
				action: "Suspend the event type",
				reason: false,
				danger: true,
				text: "No event of this type is dispatched or acquired until you unsuspend it. Its events wait. Attempts that are being processed continue, and events still expire.",
				submit: () => call("suspend"),
			});
			if (done) tell(`${name} is suspended.`);
		}
		this.load();
		store.readCounts();
	}
}

function waits(rules) {
	const list = rules.attempt_delays.slice(0, rules.max_attempts).map(interval);
	const shown = list.length > 5 ? [...list.slice(0, 4), "…", list.at(-1)] : list;
	const more =
		rules.max_attempts > list.length
			? rules.backoff > 1
				? `, then × ${rules.backoff}`
				: list.length > 1
					? " …"
					: ""
			: "";
	return shown.join(", ") + more + (rules.jitter ? ` ± ${Math.round(rules.jitter * 100)} %` : "");
}

// The events that have not ended, by state, as the parts of a bar.
const OPEN = STATES.filter((state) =>
	["awaiting_processing", "dispatched", "being_processed", "suspended"].includes(state),
);
function drawBar(parts, type) {
	const n = OPEN.map((state) => type.events[state] || 0);
	const sum = n.reduce((a, b) => a + b, 0);
	let x = 0;
	const key = n.join();
	if (parts.bar.dataset.key === key) return;
	parts.bar.dataset.key = key;
	swap(
		parts.bar,
		s(
			"svg",
			{ viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
			sum === 0
				? null
				: OPEN.map((state, i) => {
						const part = s("rect", { class: `s-${state}`, x, y: 0, width: (n[i] / sum) * 100, height: 6 });
						x += (n[i] / sum) * 100;
						return part;
					}),
		),
	);
	text(
		parts.now,
		sum === 0
			? "nothing open"
			: OPEN.map((state, i) => n[i] && `${count(n[i])} ${label(state)}`)
					.filter(Boolean)
					.join(", "),
	);
}
