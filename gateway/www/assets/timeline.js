// timeline.js
//	The history of an event as a list of steps: when each was made, how long after the one before, its error.
import { h, s } from "./dom.js";
import { clock, duration, many, moment, oneLine, visible } from "./format.js";
import { jsonView } from "./json.js";
import { glyph, label } from "./states.js";

const SHOWN = 120; // newest steps that are shown

// Say in words what a step is.
export function wordsOf(step, before) {
	const from = step.prev_state ?? before?.state ?? null;
	if (step.version === 1) return "published";
	switch (step.state) {
		case "dispatched":
			return "dispatched to workers";
		case "being_processed":
			return from === "being_processed" ? "lease extended" : `attempt ${step.attempt} began`;
		case "succeeded":
			return "succeeded";
		case "failed":
			return "failed for good";
		case "awaiting_processing":
			if (from === "failed" || from === "expired") return "redriven";
			if (from === "suspended") return "resumed";
			if (from === "dispatched") return "no worker acquired the event; it waits again";
			return step.error ? `attempt ${step.attempt} failed; the event waits for the next one` : "released; the event waits again";
		case "suspended":
			return step.suspended_by === "type"
				? "suspended with its type"
				: step.suspended_by === "worker"
					? "suspended by its worker"
					: "suspended";
		default:
			return label(step.state);
	}
}

// Consecutive heartbeats are shown on one line.
function grouped(history) {
	const groups = [];
	history.forEach((step, i) => {
		const last = groups.at(-1);
		const beat = step.state === "being_processed" && step.prev_state === "being_processed";
		if (beat && last?.beats) {
			last.beats.push(step);
			last.step = step;
		} else groups.push({ step, beats: beat ? [step] : null, before: history[i - 1] });
	});
	return groups;
}

export function timeline(event, open) {
	const groups = grouped(event.history);
	const hidden = Math.max(0, groups.length - SHOWN);
	const list = h(
		"ol",
		{ class: "timeline" },
		groups.slice(hidden).map((group) => stepView(group, event, open)),
	);
	if (!hidden) return list;
	const more = h(
		"button",
		{
			type: "button",
			class: "button small",
			onclick: () => {
				list.prepend(...groups.slice(0, hidden).map((group) => stepView(group, event, open)));
				more.remove();
			},
		},
		`Show ${many(hidden, "earlier step")}`,
	);
	return h("div", {}, more, list);
}

function stepView({ step, beats, before }, event, open) {
	const took = beats ? beats.reduce((n, beat) => n + (Number(beat.took_ms) || 0), 0) : step.took_ms;
	const facts = [];
	if (beats?.length > 1) facts.push(many(beats.length, "heartbeat"));
	if (step.worker) facts.push(h("span", {}, "by ", h("bdi", {}, oneLine(step.worker))));
	if (step.state === "awaiting_processing" && step.wake_at) facts.push(`due ${due(step)}`);
	if (step.state === "being_processed" && step.wake_at) facts.push(`lease until ${clock(step.wake_at, "s")}`);
	if (step.state === "suspended" && step.wake_at) facts.push(`until ${moment(step.wake_at)}`);
	return h(
		"li",
		{ class: `step s-${step.state}`, "data-version": step.version },
		h("span", { class: "step-sign" }, glyph(step.state)),
		h(
			"div",
			{ class: "step-main" },
			h(
				"div",
				{ class: "step-line" },
				h("strong", {}, beats?.length > 1 ? "lease extended" : wordsOf(step, before)),
				h(
					"span",
					{ class: "step-took", title: "since the previous step" },
					took === null || took === undefined ? "" : `+${duration(Number(took))}`,
				),
			),
			h(
				"div",
				{ class: "step-facts" },
				h("time", { datetime: step.at, title: step.at }, moment(step.at)),
				facts.map((fact) => [" · ", fact]),
			),
			step.reason && h("p", { class: "step-reason" }, "“", h("bdi", {}, visible(step.reason)), "”"),
			step.error && errorView(step, open),
			filled(step.result) && detail(`result-${step.version}`, "Result", open, jsonView(step.result, "Result")),
			filled(step.progress) &&
				detail(`progress-${step.version}`, "Progress", open, jsonView(step.progress, "Progress")),
		),
	);
}

const filled = (value) => value !== null && value !== undefined;

function due(step) {
	const ms = Date.parse(step.wake_at) - Date.parse(step.at);
	return ms <= 0 ? "at once" : `${duration(ms)} later, at ${clock(step.wake_at, "s")}`;
}

export function errorView(step, open) {
	return h(
		"div",
		{ class: "error-box" },
		h("p", {}, h("bdi", {}, visible(step.error))),
		step.stack &&
			detail(
				`stack-${step.version}`,
				"Stack",
				open,
				h("pre", { class: "stack", tabindex: 0, "aria-label": "Stack" }, visible(step.stack)),
			),
	);
}

// A <details> that stays open when the page is drawn again; open is a set of keys.
export function detail(key, name, open, content) {
	return h(
		"details",
		{ open: open?.has(key), ontoggle: (e) => open?.[e.target.open ? "add" : "delete"](key) },
		h("summary", { "data-key": key }, name),
		content,
	);
}

// All steps of an event on one line, with widths in proportion to time.
export function lifeline(event, now) {
	const start = Date.parse(event.history[0].at);
	const last = event.history.at(-1);
	const open = !["succeeded", "failed", "expired", "canceled"].includes(last.state);
	const end = Math.max(open ? now : Date.parse(last.at), start + 1);
	const x = (at) => Math.min(1000, ((at - start) / (end - start)) * 1000);
	return s(
		"svg",
		{
			class: "lifeline",
			viewBox: "0 0 1000 10",
			preserveAspectRatio: "none",
			role: "img",
			"aria-label": `${duration(end - start)} from publishing to ${open ? "now" : "the end"}`,
		},
		event.history.map((step, i) => {
			const from = x(Date.parse(step.at));
			const to = i + 1 < event.history.length ? x(Date.parse(event.history[i + 1].at)) : 1000;
			return s("rect", { class: `s-${step.state}`, x: from, y: 0, width: Math.max(3, to - from), height: 10 });
		}),
	);
}
