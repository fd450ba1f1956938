// engine.js
//	A dialog with all columns of eda.engine_status.
import { ask } from "./dialogs.js";
import { h, swap } from "./dom.js";
import { count, duration, moment, visible } from "./format.js";
import { store } from "./store.js";

const rows = {
	state: "State",
	pid: "Process",
	started_at: "Started",
	last_tick_at: "Last tick ended",
	ticks: "Ticks",
	last_tick_ms: "Last tick took",
	max_tick_ms: "Longest tick",
	transitions_read: "Transitions read",
	transitions_made: "Transitions made",
	queued: "Events in the ready queue",
	handed_out: "Events handed to a worker, not acquired yet",
	waiting_workers: "Waiting workers",
	parked: "Events locked by open transactions",
	held_back: "Events whose move raises an error",
	last_error: "Last error",
	last_error_at: "Last error at",
	broker: "State",
	broker_server: "Server",
	broker_error: "Error",
	broker_notice: "Notice",
	broker_unacknowledged: "Messages not acknowledged yet",
	broker_published: "Messages acknowledged",
	broker_resent: "Messages sent again",
	broker_reconnects: "Reconnects",
};

function shown(key, value) {
	if (value === null || value === undefined || value === "") return "–";
	if (key.endsWith("_at")) return moment(value);
	if (key.endsWith("_ms")) return duration(Number(value));
	if (key !== "pid" && typeof value === "number") return count(value);
	return visible(value);
}

export function engineDialog(part) {
	const list = h("dl", { class: "facts" });
	const draw = () => {
		const engine = store.engine || {};
		const keys = Object.keys(engine).filter((key) => key.startsWith("broker") === (part === "broker"));
		swap(
			list,
			keys.length
				? keys.map((key) => [h("dt", {}, rows[key] || key), h("dd", {}, shown(key, engine[key]))])
				: h("dd", {}, "Nothing is known yet."),
		);
	};
	draw();
	store.addEventListener("counts", draw);
	return ask({
		title: part === "broker" ? "The broker" : "The engine",
		body: list,
		action: "Close",
		cancel: null,
	}).finally(() => store.removeEventListener("counts", draw));
}
