// flow.js
//	A flow on a time axis: one lane for each event, from its publication to its end or to now.
import { flowPath, get } from "./api.js";
import { problemView } from "./dialogs.js";
import { scaleOf, ticksOf } from "./axis.js";
import { h, paced, swap, text } from "./dom.js";
import { brief, clock, duration, many, moment, oneLine } from "./format.js";
import { glyph, FINAL, label } from "./states.js";
import { store } from "./store.js";
import { wordsOf } from "./timeline.js";

export class Flow {
	constructor() {
		this.flow = null;
		this.squeezed = false;
		this.title = h("h1", { tabindex: -1 }, "Flow");
		this.sub = h("p", { class: "muted" });
		this.scaleButton = h(
			"button",
			{ type: "button", class: "button small", "aria-pressed": false, onclick: () => this.squeeze() },
			"Shorten long waits",
		);
		this.body = h("div", { class: "lanes" });
		this.note = h("div");
		this.node = h(
			"section",
			{ class: "view flow-view", "aria-label": "Flow" },
			h(
				"header",
				{ class: "view-head" },
				h("div", {}, this.title, this.sub),
				h("div", { class: "button-row" }, this.scaleButton),
			),
			this.note,
			h("div", { class: "panel" }, this.body, legend()),
		);
		this.reload = paced(400, () => this.load());
		store.listen("changes", (changes) => this.shown() && changes.some((change) => this.mine(change)) && this.reload());
		store.listen("skipped", () => this.shown() && this.reload());
		store.listen("counts", () => this.shown() && store.blind && this.reload());
		store.listen("link", (state) => state === "open" && this.shown() && this.reload());
		setInterval(() => this.shown() && this.running && !document.hidden && this.place(), 250);
		addEventListener(
			"resize",
			paced(200, () => this.shown() && this.flow && this.place()),
		);
	}

	shown = () => Boolean(this.key) && !this.node.closest("[hidden]");
	mine = (change) => change.flow_type === this.key[0] && change.flow_id === this.key[1];

	show([flowType, flowId]) {
		this.key = [flowType, flowId];
		this.flow = null;
		text(this.title, brief(flowId, 300));
		text(this.sub, flowType);
		swap(this.body, h("p", { class: "empty" }, "Reading …"));
		swap(this.note);
		this.load();
	}

	hide() {
		this.key = null;
	}

	async load() {
		const key = this.key;
		if (!key) return;
		if (this.loading) {
			this.again = true;
			return;
		}
		this.loading = true;
		try {
			const flow = await get(flowPath(...key));
			if (this.key === key) {
				this.flow = flow;
				swap(
					this.note,
					flow.complete
						? null
						: h("p", { class: "notice" }, `This flow has more events; these are its first ${flow.events.length}.`),
				);
				this.draw();
			}
		} catch (problem) {
			if (this.key === key && !this.flow) swap(this.body, problemView(problem));
		}
		this.loading = false;
		if (this.again) {
			this.again = false;
			this.reload();
		}
	}

	draw() {
		const { events } = this.flow;
		const focused = document.activeElement?.closest?.(".lane-name")?.getAttribute("href");
		this.running = events.some((event) => !FINAL.has(event.state));
		const tries = events.reduce((n, event) => n + event.attempt, 0);
		const first = Date.parse(events[0].created_at);
		text(
			this.sub,
			`${this.flow.flow_type} · ${many(events.length, "event")} · ${many(tries, "attempt")} · since ${moment(first)}`,
		);
		this.parts = [];
		this.axis = h("div", { class: "axis", "aria-hidden": "true" });
		swap(
			this.body,
			h("div", { class: "lane axis-lane" }, h("span", { class: "lane-name" }), this.axis),
			(this.grid = h("div", { class: "grid", "aria-hidden": "true" })),
			h(
				"ol",
				{ class: "lane-list" },
				events.map((event) => this.lane(event)),
			),
		);
		this.place();
		if (focused) this.body.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
	}

	lane(event) {
		const track = h("div", { class: "lane-track" });
		event.history.forEach((step, i) => {
			const next = event.history[i + 1];
			const from = Date.parse(step.at);
			const until = next ? Date.parse(next.at) : FINAL.has(step.state) ? from : null;
			const beat = step.state === "being_processed" && step.prev_state === "being_processed";
			const piece = h(
				"a",
				{
					class: `piece s-${step.state}${until === from && FINAL.has(step.state) ? " end" : ""}`,
					href: `#/event/${event.event_id}`,
					tabindex: -1,
				},
				step.state === "being_processed" && !beat
					? h("span", {}, step.attempt)
					: until === from && FINAL.has(step.state)
						? glyph(step.state)
						: null,
			);
			piece.title = `${wordsOf(step, event.history[i - 1])}, ${clock(step.at)}${until > from ? `, ${duration(until - from)}` : ""}${step.error ? `\n${brief(step.error)}` : ""}`;
			track.append(piece);
			this.parts.push({ node: piece, from, until });
			if (next?.error && step.state === "being_processed") piece.classList.add("spoilt");
			if (step.error) {
				const mark = h("span", { class: "piece-error", title: brief(step.error) }, "✕");
				track.append(mark);
				this.parts.push({ node: mark, from, until: from });
			}
		});
		return h(
			"li",
			{ class: "lane" },
			h(
				"a",
				{ class: `lane-name s-${event.state}`, href: `#/event/${event.event_id}` },
				glyph(event.state),
				h(
					"span",
					{},
					h("span", { class: "lane-type" }, event.event_type),
					h(
						"small",
						{},
						label(event.state),
						event.error
							? [": ", h("bdi", {}, oneLine(brief(event.error, 90)))]
							: event.attempt > 1
								? `, attempt ${event.attempt}`
								: "",
					),
				),
			),
			track,
		);
	}

	squeeze() {
		this.squeezed = !this.squeezed;
		this.scaleButton.setAttribute("aria-pressed", this.squeezed);
		if (this.flow) this.place();
	}

	// Place every piece by its time; called again and again while an event is still alive.
	place() {
		if (!this.flow) return;
		const now = store.now();
		const times = this.flow.events.flatMap((event) => event.history.map((step) => Date.parse(step.at)));
		if (this.running) times.push(Math.max(now, ...times));
		times.sort((a, b) => a - b);
		const start = times[0];
		const span = times.at(-1) - start || 1;
		const scale = scaleOf(times, this.squeezed);
		for (const { node, from, until } of this.parts) {
			const left = scale(from);
			node.style.left = `${left * 100}%`;
			if (until !== from) node.style.width = `${Math.max(0, scale(until ?? now) - left) * 100}%`;
			node.classList.toggle("open", until === null);
		}
		const room = Math.max(2, Math.floor(this.axis.clientWidth / 110));
		const ticks = this.squeezed
			? squeezedTicks(times, scale, room)
			: ticksOf(span, room).map(([at, words]) => [at / span, words]);
		swap(
			this.axis,
			ticks.map(([x, words]) => {
				const tick = h("span", { class: x > 0.94 ? "tick last" : "tick" }, words);
				tick.style.left = `${x * 100}%`;
				return tick;
			}),
		);
		swap(
			this.grid,
			ticks.map(([x]) => {
				const line = h("i");
				line.style.left = `${x * 100}%`;
				return line;
			}),
		);
	}
}

// Show when the steps were made, as far as there is room.
function squeezedTicks(times, scale, room) {
	const ticks = [];
	for (const at of times) {
		const x = scale(at);
		if (!ticks.length || x - ticks.at(-1)[0] >= 1 / room)
			ticks.push([x, ticks.length ? `+${duration(at - times[0])}` : "0"]);
	}
	return ticks;
}

const legend = () =>
	h(
		"p",
		{ class: "legend" },
		["awaiting_processing", "dispatched", "being_processed", "suspended"].map((state) =>
			h("span", { class: `legend-item s-${state}` }, h("i"), label(state)),
		),
		h("span", { class: "legend-item s-failed" }, h("b", {}, "✕"), "a failed attempt; the numbers are those of the attempts"),
	);
