// axis.js
//	Maps times to places on an axis: true to scale, or with long waits shortened so that the
//	steps between them can be told apart.
import { duration } from "./format.js";

// Return a function from ms to 0..1 over sorted times (at least two; the last is the end of the axis).
export function scaleOf(times, squeezed) {
	const start = times[0];
	const end = Math.max(times.at(-1), start + 1);
	if (!squeezed) return (at) => clamp((at - start) / (end - start));
	// The stretch between two steps is as long as the logarithm of its time.
	const stops = [[start, 0]];
	for (const at of times) {
		const [last, x] = stops.at(-1);
		if (at > last) stops.push([at, x + Math.log10(1 + (at - last) / 20)]);
	}
	const whole = stops.at(-1)[1] || 1;
	return (at) => {
		let low = 0;
		let high = stops.length - 1;
		while (high - low > 1) {
			const middle = (low + high) >> 1;
			if (stops[middle][0] <= at) low = middle;
			else high = middle;
		}
		const [a, ax] = stops[low];
		const [b, bx] = stops[high];
		return clamp((b > a ? ax + ((at - a) / (b - a)) * (bx - ax) : ax) / whole);
	};
}

const clamp = (x) => Math.min(1, Math.max(0, x));

const steps = [
	1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 216e5,
	432e5, 864e5, 1728e5, 6048e5,
];

// Return about so many ticks at round distances, each as [ms since the start, text].
export function ticksOf(span, about) {
	const step = steps.find((ms) => span / ms <= about) || Math.ceil(span / about / 864e5) * 864e5;
	const ticks = [];
	for (let at = 0; at <= span; at += step) ticks.push([at, at === 0 ? "0" : `+${duration(at)}`]);
	return ticks;
}
