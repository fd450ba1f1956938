// states.js
//	The eight states: their names and symbols, and which states an event may have come from.
import { h, s } from "./dom.js";

export const STATES = [
	"awaiting_processing",
	"dispatched",
	"being_processed",
	"succeeded",
	"failed",
	"suspended",
	"expired",
	"canceled",
];
export const FINAL = new Set(["succeeded", "failed", "expired", "canceled"]);
export const DEAD = new Set(["failed", "expired"]);

export const label = (state) => (state ? state.replaceAll("_", " ") : "–");

// Each state has its own symbol, so that nobody needs to tell them apart by colour.
const shapes = {
	awaiting_processing: ["M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11Z", "line"],
	dispatched: ["M4 2.5 12.5 8 4 13.5Z", "fill"],
	being_processed: ["M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11ZM8 2.5v11a5.5 5.5 0 0 1 0-11Z", "half"],
	succeeded: ["m2.5 8.5 4 4 7-9", "line"],
	failed: ["m3.5 3.5 9 9m0-9-9 9", "line"],
	suspended: ["M5 3v10M11 3v10", "line"],
	expired: ["M3.5 2.5h9L3.5 13.5h9Z", "line"],
	canceled: ["M8 2.5a5.5 5.5 0 1 0 0 11a5.5 5.5 0 1 0 0-11ZM4.2 11.8l7.6-7.6", "line"],
};

const drawn = new Map();
export function glyph(state) {
	if (!drawn.has(state)) {
		const [path, kind] = shapes[state] || shapes.awaiting_processing;
		drawn.set(
			state,
			s("svg", { class: `glyph glyph-${kind}`, viewBox: "0 0 16 16", "aria-hidden": "true" }, s("path", { d: path })),
		);
	}
	return drawn.get(state).cloneNode(true);
}

// The symbol and name of a state, in its colour.
export const chip = (state) => h("span", { class: `chip s-${state}` }, glyph(state), h("span", {}, label(state)));

// The feed does not tell the previous state.  If the page has not seen it, most states leave one possibility.
export function cameFrom(state, version) {
	if (version === 1) return null;
	if (state === "dispatched") return "awaiting_processing";
	if (state === "being_processed") return "dispatched";
	if (state === "succeeded" || state === "failed") return "being_processed";
	return undefined;
}

// The actions that an operator may take in a state, by the lifecycle, without those that need a worker's token.
export function legalActions(moves, state) {
	const actions = new Set();
	for (const move of moves)
		if (move.from_state === state)
			for (const by of move.made_by.split(", "))
				if (["cancel", "suspend", "resume", "redrive"].includes(by)) actions.add(by);
	return actions;
}
