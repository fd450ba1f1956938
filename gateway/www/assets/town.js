// town.js
//	All rides, as the stream reports them: how many are at each stop, and one dot for each.
import { h, paced, swap, text } from "./dom.js";
import { count } from "./format.js";
import { FLOW_TYPE, STAGES, stageOf } from "./ride.js";
import { FINAL, label } from "./states.js";
import { store } from "./store.js";

const RIDES = 2000; // rides kept
const DOTS = 24; // dots drawn at one stop

export class Town {
	// watch(flow id): the reader wants to watch this ride
	constructor(watch) {
		this.watch = watch;
		this.rides = new Map(); // flow id -> {stage, state}
		this.ended = { paid: 0, early: 0 };
		this.stops = STAGES.map((stage) => {
			const parts = { n: h("b", {}, "0"), dots: h("span", { class: "town-dots" }) };
			parts.node = h("li", {}, h("span", { class: "town-name" }, stage.stop), parts.n, parts.dots);
			return parts;
		});
		this.note = h("p", { class: "panel-note" });
		const name = h("input", {
			name: "ride",
			type: "search",
			placeholder: "watch a ride by its id",
			"aria-label": "Watch a ride by its id",
			autocomplete: "off",
			spellcheck: "false",
		});
		const find = h("form", { class: "town-find" }, name);
		find.addEventListener("submit", (e) => {
			e.preventDefault();
			if (name.value.trim()) this.watch(name.value.trim());
			name.value = "";
		});
		this.node = h(
			"section",
			{ class: "panel town", "aria-labelledby": "town-title" },
			h("header", { class: "panel-head" }, h("h2", { id: "town-title" }, "Rides in town now"), this.note, find),
			h(
				"ol",
				{ class: "town-stops", onclick: (e) => e.target.dataset?.ride && this.watch(e.target.dataset.ride) },
				this.stops.map((stop) => stop.node),
			),
		);
		this.draw = paced(250, () => this.show());
		store.listen("changes", (changes) => {
			changes.forEach((change) => this.see(change));
			this.draw();
		});
		store.listen("counts", this.draw);
	}

	see({ flow_type, flow_id, event_type, state }) {
		const stage = stageOf(event_type);
		if (flow_type !== FLOW_TYPE || stage === undefined) return;
		const old = this.rides.get(flow_id);
		if (old && old.stage > stage) return;
		const paid = state === "succeeded" && stage === STAGES.length - 1;
		if (paid || (FINAL.has(state) && state !== "succeeded")) {
			this.rides.delete(flow_id);
			this.ended[paid ? "paid" : "early"]++;
			return;
		}
		// After a success, the next stage follows in the same transaction.
		this.rides.set(flow_id, { stage, state: state === "succeeded" ? "awaiting_processing" : state });
		if (this.rides.size > RIDES) this.rides.delete(this.rides.keys().next().value);
	}

	// The database counts the rides at each stop; the dots are the rides that the page has seen.
	show() {
		const at = STAGES.map(() => []);
		for (const [id, ride] of this.rides) at[ride.stage].push([id, ride.state]);
		this.stops.forEach((stop, i) => {
			const events = store.types.get(STAGES[i].type)?.events;
			const n = events
				? ["awaiting_processing", "dispatched", "being_processed", "suspended"].reduce(
						(sum, state) => sum + (events[state] || 0),
						0,
					)
				: at[i].length;
			text(stop.n, count(n));
			const key = at[i].slice(0, DOTS).join();
			if (stop.key === key) return;
			stop.key = key;
			swap(
				stop.dots,
				at[i].slice(0, DOTS).map(([id, state]) =>
					h("button", {
						type: "button",
						class: `town-dot s-${state}`,
						"data-ride": id,
						tabindex: -1,
						title: `${id}: ${label(state)}`,
						"aria-label": `Watch ${id}, ${label(state)}`,
					}),
				),
			);
		});
		const { paid, early } = this.ended;
		text(
			this.note,
			paid + early
				? `since this page was opened: ${count(paid)} paid, ${count(early)} ended early`
				: "choose a dot to watch that ride",
		);
	}
}
