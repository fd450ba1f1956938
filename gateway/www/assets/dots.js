// dots.js
//	Dots that run along the tracks: at most a few dozen at once, and none for readers who want no animation.
import { motionless, s } from "./dom.js";

const MOST = 36; // dots at the same time
const A_SECOND = 30;

export class Dots {
	constructor(layer) {
		this.layer = layer;
		this.free = [];
		this.running = [];
		this.budget = A_SECOND;
		this.filledAt = performance.now();
		this.frame = 0;
	}

	// Let a dot run along a path after so many ms, in the colour of a state.  False: there are too many dots already.
	run(path, state, after = 0) {
		const now = performance.now();
		this.budget = Math.min(A_SECOND, this.budget + ((now - this.filledAt) / 1000) * A_SECOND);
		this.filledAt = now;
		if (motionless() || document.hidden || this.budget < 1 || this.running.length >= MOST) return false;
		this.budget--;
		const dot = this.free.pop() || s("circle", { r: 5 });
		dot.setAttribute("class", `dot s-${state}`);
		const length = path.getTotalLength();
		this.running.push({ dot, path, length, start: now + after, ms: 350 + Math.min(900, length * 1.1) });
		this.frame ||= requestAnimationFrame(this.step);
		return true;
	}

	place(run, part) {
		const eased = part < 0.5 ? 2 * part * part : 1 - (2 - 2 * part) ** 2 / 2;
		const { x, y } = run.path.getPointAtLength(eased * run.length);
		run.dot.setAttribute("cx", x);
		run.dot.setAttribute("cy", y);
	}

	step = (now) => {
		this.running = this.running.filter((run) => {
			const part = (now - run.start) / run.ms;
			if (part < 0) return true;
			if (part < 1 && run.path.isConnected) {
				this.place(run, part);
				if (!run.dot.parentNode) this.layer.append(run.dot);
				return true;
			}
			run.dot.remove();
			this.free.push(run.dot);
			return false;
		});
		this.frame = this.running.length ? requestAnimationFrame(this.step) : 0;
	};
}
