// meter.js
//	Rates of transitions by kind, and how long events wait and are processed, computed from the
//	changes that the page receives, by the database's clock.
import { DEAD } from "./states.js";

export const KINDS = ["published", "acquired", "succeeded", "again", "dead"];
const SECONDS = 300;
const SPAN = 5; // seconds for one point of the latency chart
const SAMPLES = 400; // times kept for one point; above that, a random sample

const kindOf = ({ state, version, from }) => {
	if (version === 1) return "published";
	if (state === "being_processed") return from === "being_processed" ? null : "acquired";
	if (state === "succeeded") return "succeeded";
	if (state === "awaiting_processing") return "again";
	return DEAD.has(state) ? "dead" : null;
};

export class Meter {
	seconds = new Map(); // second -> {all, published, ...}
	spans = new Map(); // span -> {wait: Samples, work: Samples}

	add(change, event) {
		const second = Math.floor(change.ms / 1000);
		let bucket = this.seconds.get(second);
		if (!bucket) {
			bucket = { all: 0 };
			this.seconds.set(second, bucket);
			prune(this.seconds, SECONDS + 10);
		}
		bucket.all++;
		const kind = kindOf(change);
		if (kind) bucket[kind] = (bucket[kind] || 0) + 1;

		if (
			change.state === "being_processed" &&
			change.attempt === 1 &&
			change.from !== "being_processed" &&
			event.created
		)
			this.sample(change.ms, "wait", change.ms - event.created);
		else if (change.from === "being_processed" && change.state !== "being_processed" && event.acquired)
			this.sample(change.ms, "work", change.ms - event.acquired);
	}

	sample(ms, what, value) {
		const span = Math.floor(ms / 1000 / SPAN);
		let samples = this.spans.get(span);
		if (!samples) {
			samples = { wait: [], work: [], waits: 0, works: 0 };
			this.spans.set(span, samples);
			prune(this.spans, SECONDS / SPAN + 4);
		}
		const list = samples[what];
		const n = ++samples[what + "s"];
		if (list.length < SAMPLES) list.push(value);
		else {
			const i = Math.floor(Math.random() * n);
			if (i < SAMPLES) list[i] = value;
		}
	}

	// Transitions a second, as the mean of the last complete seconds.
	rate(now, seconds = 5, kind = "all") {
		const last = Math.floor(now / 1000) - 1;
		let n = 0;
		for (let i = 0; i < seconds; i++) n += this.seconds.get(last - i)?.[kind] || 0;
		return n / seconds;
	}

	// Return [seconds ago, rate] for the last minutes, oldest first, each the mean of a few seconds.
	throughput(now, kind, step = 3) {
		const last = Math.floor(now / 1000 / step) * step - 1;
		const points = [];
		for (let ago = SECONDS - step; ago >= 0; ago -= step) {
			let n = 0;
			for (let i = 0; i < step; i++) n += this.seconds.get(last - ago - i)?.[kind] || 0;
			points.push({ x: -ago, y: n / step });
		}
		return points;
	}

	latency(now, what, part) {
		const last = Math.floor(now / 1000 / SPAN);
		const points = [];
		for (let ago = SECONDS / SPAN - 1; ago >= 0; ago--) {
			const list = this.spans.get(last - ago)?.[what];
			points.push({ x: -ago * SPAN, y: list?.length ? Math.max(quantile(list, part), 0.1) : null });
		}
		return points;
	}

	// The newest value of a quantile, over the last half minute.
	recent(now, what, part) {
		const last = Math.floor(now / 1000 / SPAN);
		const all = [];
		for (let ago = 0; ago < 6; ago++) all.push(...(this.spans.get(last - ago)?.[what] || []));
		return all.length ? quantile(all, part) : null;
	}
}

function quantile(list, part) {
	const sorted = Float64Array.from(list).sort();
	return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
}

function prune(map, limit) {
	if (map.size <= limit) return;
	const oldest = [...map.keys()].sort((a, b) => a - b);
	for (const key of oldest.slice(0, map.size - limit)) map.delete(key);
}
