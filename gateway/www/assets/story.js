// story.js
//	A drawer with one event: its state, history and family, and what can be done with it.
import { get, path } from "./api.js";
import { actionButtons } from "./actions.js";
import { problemView, tell } from "./dialogs.js";
import { h, iconButton, paced, swap, text } from "./dom.js";
import { brief, clock, duration, moment, oneLine, visible } from "./format.js";
import { icon } from "./icons.js";
import { jsonView } from "./json.js";
import { chip, FINAL, glyph, label } from "./states.js";
import { store } from "./store.js";
import { detail, lifeline, timeline } from "./timeline.js";

export class Story {
	// closed(): the reader has closed the drawer
	constructor(closed) {
		this.closed = closed;
		this.id = null;
		this.event = null;
		this.open = new Set();
		this.body = h("div", { class: "drawer-body", tabindex: -1 });
		this.title = h("h2", { id: "story-title" }, "Event");
		this.live = h("span", { class: "visually-hidden", role: "status" });
		this.node = h(
			"dialog",
			{ class: "drawer", "aria-labelledby": "story-title" },
			h(
				"div",
				{ class: "drawer-head" },
				this.title,
				iconButton(icon("close"), "Close (Esc)", () => this.close()),
			),
			this.live,
			this.body,
		);
		document.body.append(this.node);
		this.node.addEventListener("cancel", (e) => {
			e.preventDefault();
			this.close();
		});
		this.reload = paced(300, () => this.load());
		store.listen("changes", (changes) => {
			if (this.id && changes.some((change) => this.touches(change))) this.reload();
		});
		store.listen("skipped", () => this.id && this.reload());
		store.listen("counts", () => this.id && store.blind && this.reload());
		store.listen("link", (state) => state === "open" && this.id && this.reload());
		setInterval(() => this.tick(), 500);
	}

	touches(change) {
		return (
			change.event_id === this.id ||
			this.relatives?.has(change.event_id) ||
			(this.event && change.flow_id === this.event.flow_id && change.version === 1)
		);
	}

	show(id) {
		if (this.id === id) return;
		this.id = id;
		this.event = null;
		this.content = null;
		this.open.clear();
		this.opener ||= document.activeElement;
		this.openerHref ||= this.opener?.getAttribute("href");
		text(this.title, "Event");
		swap(this.body, h("p", { class: "empty" }, "Reading …"));
		if (!this.node.open) {
			// The drawer covers the page on a phone, and is beside it where there is room.
			if (matchMedia("(max-width: 900px)").matches) this.node.showModal();
			else this.node.show();
		}
		this.body.focus();
		this.body.scrollTop = 0;
		this.load();
	}

	hide() {
		if (!this.id) return;
		this.id = null;
		if (this.node.open) this.node.close();
		// The list below may have moved, so that the element that had the focus shows another event.
		const { opener, openerHref: href } = this;
		this.opener = this.openerHref = null;
		const same = opener?.isConnected && opener.getAttribute("href") === href;
		const back = same ? opener : href && document.querySelector(`main a[href="${CSS.escape(href)}"]`);
		(back || document.querySelector("main > :not([hidden]) h1"))?.focus({ preventScroll: true });
	}

	close() {
		if (this.id) this.closed();
	}

	async load() {
		const id = this.id;
		if (!id) return;
		if (this.loading) {
			this.again = true;
			return;
		}
		this.loading = true;
		try {
			const [event] = await Promise.all([get(path(["api", "events", id])), store.readLifecycle().catch(() => [])]);
			if (this.id === id) {
				const was = this.event?.state;
				this.event = event;
				this.relatives = new Set(event.family.map((member) => member.event_id));
				this.draw();
				if (was && was !== event.state) text(this.live, `now ${label(event.state)}`);
			}
		} catch (problem) {
			if (this.id === id) {
				if (!this.event) swap(this.body, problemView(problem));
				else this.body.classList.add("stale");
			}
		}
		this.loading = false;
		if (this.again || (this.id && this.id !== id)) {
			this.again = false;
			this.reload();
		}
	}

	draw() {
		const e = this.event;
		const focused = this.body.contains(document.activeElement) ? keyOf(document.activeElement) : null;
		const top = this.body.scrollTop;
		this.body.classList.remove("stale");
		text(this.title, e.event_type);
		this.soon = h("dd");
		const actions = actionButtons(e, store.moves, () => this.load());
		swap(
			this.body,
			h(
				"div",
				{ class: "story-top" },
				chip(e.state),
				h("span", { class: "story-attempt" }, attemptWords(e)),
				(this.since = h("span", { class: "muted" })),
			),
			e.error && h("div", { class: "error-box" }, h("p", {}, h("bdi", {}, visible(e.error)))),
			e.history.length > 0 && lifeline(e, store.now()),
			actions.length ? h("div", { class: "button-row" }, actions) : null,
			h("dl", { class: "facts" }, this.facts(e)),
			section("Timeline", timeline(e, this.open)),
			section(`Family${e.family_complete ? "" : " (incomplete)"}`, this.family(e)),
			(this.content ||= contentOf(e)),
			filledDetail(e) &&
				section("More", detail("detail", "Detail of the last transition", this.open, jsonView(e.detail, "Detail"))),
		);
		this.tick();
		this.body.scrollTop = top;
		if (focused) this.body.querySelector(focused)?.focus({ preventScroll: true });
	}

	facts(e) {
		const fact = (name, value) =>
			value === null || value === undefined || value === "" ? null : [h("dt", {}, name), h("dd", {}, value)];
		return [
			fact(
				"Flow",
				h(
					"a",
					{ href: `#/flow/${encodeURIComponent(e.flow_type)}/${encodeURIComponent(e.flow_id)}` },
					icon("lanes"),
					" ",
					h("bdi", {}, brief(e.flow_id, 300)),
				),
			),
			fact("Flow type", e.flow_type),
			fact(
				"Event id",
				h(
					"span",
					{ class: "copyable" },
					h("code", {}, e.event_id),
					iconButton(icon("copy"), "Copy the event id", () => copy(e.event_id)),
				),
			),
			fact("Published", h("time", { datetime: e.created_at, title: e.created_at }, moment(e.created_at))),
			FINAL.has(e.state)
				? fact("Took", duration(Date.parse(e.changed_at) - Date.parse(e.created_at)))
				: [h("dt", {}, nextName(e)), this.soon],
			fact("Expires", e.expires_at && !FINAL.has(e.state) ? moment(e.expires_at) : null),
			fact("Suspended by", e.suspended_by),
			fact("Worker", e.worker && h("bdi", {}, oneLine(e.worker))),
			fact("On failure", e.on_fail_event_type),
			fact("Correlation", e.correlation_id && h("bdi", {}, oneLine(e.correlation_id))),
		];
	}

	// The family: parents above, their children below in the order of publication.
	family(e) {
		if (e.family.length < 2) return h("p", { class: "muted" }, "The event has neither a parent nor children.");
		const children = new Map();
		const ids = new Set(e.family.map((member) => member.event_id));
		for (const member of e.family) {
			const parent = ids.has(member.parent_id) ? member.parent_id : null;
			children.set(parent, [...(children.get(parent) || []), member]);
		}
		// A chain is drawn straight down; only a fork moves one step to the right.
		const branch = (parent) => {
			const list = children.get(parent) || [];
			return list.map((member) => {
				const own = member.event_id === e.event_id;
				const below = children.get(member.event_id) || [];
				return h(
					"li",
					{ class: list.length > 1 ? "fork" : "" },
					h(
						"a",
						{ class: `member s-${member.state}`, href: `#/event/${member.event_id}`, "aria-current": own && "true" },
						glyph(member.state),
						h("span", {}, member.event_type),
						member.flow_id !== e.flow_id && h("bdi", { class: "muted" }, brief(member.flow_id, 60)),
						h("small", {}, label(member.state), member.attempt > 1 ? `, attempt ${member.attempt}` : ""),
					),
					below.length > 0 && h("ul", { class: below.length > 1 ? "forked" : "" }, branch(member.event_id)),
				);
			});
		};
		return h("ul", { class: "family" }, branch(null));
	}

	// The times that count up or down while the drawer is open.
	tick() {
		const e = this.event;
		if (!this.id || !e || !this.since?.isConnected) return;
		const now = store.now();
		text(this.since, `for ${duration(Math.max(0, now - Date.parse(e.changed_at)))}`);
		if (FINAL.has(e.state)) this.since.textContent = `${moment(e.changed_at)}`;
		const wait = e.wake_at ? Date.parse(e.wake_at) - now : null;
		text(
			this.soon,
			wait === null
				? "no deadline"
				: wait > 0
					? `in ${duration(wait)}, at ${clock(e.wake_at, "s")}`
					: e.state === "dispatched"
						? "after a worker has taken it" // With delivery pull, the time counts from the pop.
						: `due since ${duration(-wait)}`,
		);
	}
}

const filledDetail = (e) =>
	e.detail && Object.keys(e.detail).some((key) => !["error", "stack", "reason", "result", "progress"].includes(key));

const section = (name, content) => h("section", { class: "story-section" }, h("h3", {}, name), content);

// The payload never changes, so it is drawn once, and stays unfolded or selected as the reader left it.
const contentOf = (e) =>
	h(
		"div",
		{},
		section("Payload", jsonView(e.payload, "Payload")),
		section(
			"Headers",
			e.headers && Object.keys(e.headers).length ? jsonView(e.headers, "Headers") : h("p", { class: "muted" }, "none"),
		),
	);

function attemptWords(e) {
	if (e.attempt === 0) return FINAL.has(e.state) ? "never attempted" : "not attempted yet";
	const left = e.attempts_left;
	const tail = FINAL.has(e.state) && e.state !== "failed" ? "" : left === 0 ? ", none left" : `, ${left} left`;
	return `attempt ${e.attempt}${tail}`;
}

const nextName = (e) =>
	({ being_processed: "Lease ends", suspended: "Deadline", dispatched: "Dispatch timeout" })[e.state] || "Next attempt";

// Return a selector that finds the same control again after the drawer is drawn anew.
function keyOf(element) {
	if (element.dataset?.key) return `[data-key="${CSS.escape(element.dataset.key)}"]`;
	if (element.dataset?.action) return `[data-action="${element.dataset.action}"]`;
	const href = element.getAttribute?.("href");
	if (href) return `a[href="${CSS.escape(href)}"]`;
	return null;
}

async function copy(value) {
	try {
		await navigator.clipboard.writeText(value);
		tell("Copied.");
	} catch {
		tell(value);
	}
}
