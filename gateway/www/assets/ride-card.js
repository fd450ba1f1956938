// ride-card.js
//	One ride: a line with six stops, a car on it, and the outcome of each stop.
import { h, s, swap, text } from "./dom.js";
import { brief, duration, many } from "./format.js";
import { attemptsOf, FLOW_TYPE, STAGES, standOf, waitsFor } from "./ride.js";
import { glyph, label } from "./states.js";

export class RideCard {
	// ride: {id, rider, from, to}; close(): the reader wants to watch it no longer
	constructor(ride, close) {
		this.ride = ride;
		this.flow = null;
		this.who = h("h2", { class: "ride-who" });
		this.outcome = h("span", { class: "ride-outcome" });
		this.took = h("span", { class: "muted ride-took" });
		this.wait = h("p", { class: "ride-wait", role: "status" });
		this.car = h("div", { class: "car", "aria-hidden": "true" }, car());
		this.done = h("div", { class: "road-done" });
		this.stops = STAGES.map((stage) => this.stop(stage));
		this.road = h(
			"div",
			{ class: "road" },
			h("div", { class: "road-line" }, this.done),
			this.car,
			h(
				"ol",
				{ class: "stops" },
				this.stops.map((stop) => stop.node),
			),
		);
		this.node = h(
			"article",
			{ class: "panel ride", "aria-label": `Ride ${ride.id}`, "data-ride": ride.id },
			h(
				"header",
				{ class: "ride-head" },
				this.who,
				this.outcome,
				this.took,
				h(
					"span",
					{ class: "ride-links" },
					h("a", { href: `/#/flow/${FLOW_TYPE}/${encodeURIComponent(ride.id)}` }, h("bdi", {}, brief(ride.id, 60))),
					h("button", { type: "button", class: "button small", onclick: close }, "Hide"),
				),
			),
			this.road,
			this.wait,
		);
		this.name();
		this.at(0);
	}

	name() {
		const { rider, from, to } = this.ride;
		swap(
			this.who,
			rider
				? [
						h("bdi", {}, brief(rider, 40)),
						h(
							"span",
							{ class: "muted" },
							from || to ? [" from ", h("bdi", {}, brief(from, 40)), " to ", h("bdi", {}, brief(to, 40))] : "",
						),
					]
				: h("bdi", {}, brief(this.ride.id, 60)),
		);
	}

	stop(stage) {
		const parts = {
			lamp: h("span", { class: "stop-lamp" }),
			link: h("a", { class: "stop-name" }, stage.stop),
			type: h("span", { class: "stop-type" }, stage.type),
			pips: h("span", { class: "pips" }),
			fact: h("span", { class: "stop-fact" }),
			error: h("span", { class: "stop-error" }),
		};
		parts.node = h(
			"li",
			{ class: "stop", "data-type": stage.type },
			parts.lamp,
			h("div", { class: "stop-text" }, parts.link, parts.type, parts.pips, parts.fact, parts.error),
		);
		return parts;
	}

	// Place the car, in units of stops.  The content security policy allows styles through CSSOM only.
	at(stops) {
		this.road.style.setProperty("--at", stops / (STAGES.length - 1));
	}

	show(flow) {
		this.flow = flow;
		const stand = (this.stand = standOf(flow));
		this.at(stand.at);
		const state = stand.event?.state || "awaiting_processing";
		this.car.className = `car ${stand.over ? (stand.outcome === "paid" ? "is-home" : "is-stopped") : state === "being_processed" ? "is-busy" : stand.event?.error ? "is-hurt" : "is-waiting"}`;
		this.node.dataset.outcome = stand.over ? (stand.outcome === "paid" ? "paid" : "early") : "under way";
		stand.stages.forEach((event, i) => this.showStop(this.stops[i], STAGES[i], event));
		swap(
			this.outcome,
			h(
				"span",
				{ class: `chip s-${stand.over ? (stand.outcome === "paid" ? "succeeded" : stand.event.state) : state}` },
				glyph(stand.outcome === "paid" ? "succeeded" : state),
				stand.over ? (stand.outcome === "paid" ? paidWords(stand) : `ended early: ${stand.outcome}`) : label(state),
			),
		);
	}

	showStop(stop, stage, event) {
		stop.node.className = `stop ${event ? `s-${event.state}` : "is-ahead"}`;
		const key = event ? `${event.event_id}/${event.version}` : "";
		if (stop.key === key) return;
		stop.key = key;
		if (!event) return;
		stop.link.href = `/#/event/${event.event_id}`;
		stop.link.setAttribute(
			"aria-label",
			`${stage.stop}, ${stage.type}: ${label(event.state)}, ${many(event.attempt, "attempt")}`,
		);
		swap(stop.lamp, glyph(event.state));
		const attempts = attemptsOf(event);
		const shown = attempts.slice(-8);
		swap(
			stop.pips,
			attempts.length > shown.length ? `+${attempts.length - shown.length} ` : null,
			shown.map((attempt) =>
				h("i", { class: `pip ${attempt.how}`, title: attempt.error ? brief(attempt.error) : attempt.how }),
			),
		);
		stop.pips.title = many(attempts.length, "attempt");
		const result = event.history.find((step) => step.state === "succeeded")?.result;
		text(
			stop.fact,
			(event.state === "succeeded" && result && stage.fact(result)) ||
				(event.state === "being_processed" ? `${stage.work} …` : ""),
		);
		const error = [...attempts].reverse().find((attempt) => attempt.error)?.error;
		text(stop.error, error ? brief(error, 90) : "");
		stop.error.classList.toggle("past", event.state === "succeeded");
	}

	// Update what depends on the current time only.
	tick(now, surroundings) {
		if (!this.stand?.event) return;
		const first = Date.parse(this.flow.events[0].created_at);
		const end = this.stand.over ? Date.parse(this.stand.event.changed_at) : now;
		text(this.took, duration(Math.max(0, end - first)));
		const words = this.stand.over
			? this.stand.why
				? brief(this.stand.why, 200)
				: ""
			: waitsFor(this.stand, { now, ...surroundings(this.stand.event) });
		text(this.wait, words);
		this.wait.classList.toggle("bad", Boolean(this.stand.over && this.stand.why));
	}
}

function paidWords({ stages }) {
	const find = (type, key) =>
		stages.find((event) => event?.event_type === type)?.history.find((step) => step.result)?.result?.[key];
	const driver = find("RIDE_REQUESTED", "driver");
	const fare = find("TRIP_COMPLETED", "fare");
	return fare ? `paid ${brief(fare, 20)}${driver ? ` to ${brief(driver, 30)}` : ""}` : "paid";
}

const car = () =>
	s(
		"svg",
		{ viewBox: "0 0 44 22" },
		s("path", {
			class: "car-body",
			d: "M2 16v-4.5c0-1.5 1-2.5 2.5-2.800L11 7.500l5-5C17 1.5 18 1 19.5 1H28c1.5 0 2.6.6 3.5 1.700l4 5 4.5 1c1.8.5 2.5 1.5 2.5 3.300V16a1.5 1.5 0 0 1-1.5 1.500H3.500A1.5 1.5 0 0 1 2 16Z",
		}),
		s("path", {
			class: "car-glass",
			d: "M14.5 7.5 18.2 3.800c.5-.5 1-.8 1.8-.8h2.500v4.500ZM24.5 3H28c.8 0 1.4.3 1.9.9l2.9 3.600h-8.300Z",
		}),
		s("circle", { class: "car-wheel", cx: 11.5, cy: 17.5, r: 3.6 }),
		s("circle", { class: "car-wheel", cx: 33, cy: 17.5, r: 3.6 }),
		s("rect", { class: "car-blink", x: 1.5, y: 11, width: 3, height: 2.4, rx: 1 }),
		s("rect", { class: "car-blink", x: 39.5, y: 11, width: 3, height: 2.4, rx: 1 }),
		s("rect", { class: "car-sign", x: 20, y: -2, width: 7, height: 3, rx: 1 }),
	);
