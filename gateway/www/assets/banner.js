// banner.js
//	What is away, in a sentence, for as long as it is away.
import { get } from "./api.js";
import { h, swap } from "./dom.js";
import { many, visible } from "./format.js";
import { engineState } from "./header.js";
import { store } from "./store.js";

const sentence = (words) => visible(words.charAt(0).toUpperCase() + words.slice(1));
const GRACE = 1500; // a blink of the connection is nobody's business

export class Banner {
	constructor(node) {
		this.node = node;
		this.shown = "";
		this.downSince = 0;
		this.detail = "";
		for (const type of ["link", "status", "counts", "counts-failed"]) store.listen(type, () => this.say());
		setInterval(() => this.say(), 500);
	}

	// [level, title, text], the worst first.
	trouble() {
		const { link, live, status, problem, countsProblem, engine } = store;
		if (link === "open") this.downSince = 0;
		else this.downSince ||= Date.now();
		const away = link !== "open" && Date.now() - this.downSince > GRACE;
		if (away && problem?.status === 401)
			return ["bad", "The gateway asks for a token", "Give one with the key button, at the top."];
		if (away && problem?.status === 403) return ["bad", "Not allowed", problem.detail];
		if (away) {
			const seconds = Math.ceil((live.retryAt - Date.now()) / 1000);
			const next =
				link === "connecting" ? "Connecting …" : seconds > 0 ? `Next try in ${many(seconds, "second")}.` : "";
			const why = problem?.detail || "What you see may be old. Events go on without this page.";
			return [
				"bad",
				problem?.status === 503 ? "The database does not answer" : "The live connection is away",
				why,
				next,
			];
		}
		if (link !== "open") return null;
		if (status.database === "down")
			return ["bad", "The database is away", "Nothing moves until it is back. What was committed is safe."];
		const state = engineState();
		if (state && state !== "running" && state !== "paused")
			return [
				"bad",
				state.startsWith("idle") ? "The engine is idle" : "The engine is not running",
				this.engineText(state),
			];
		if (countsProblem && countsProblem.status !== 401)
			return [
				"bad",
				countsProblem.status === 503 ? "The database does not answer" : "The counts cannot be read",
				countsProblem.detail,
			];
		if (state === "paused")
			return [
				"warn",
				"The engine is paused",
				"eda.engine = paused: it reads the log and publishes the feed, but moves no event. New events can be published.",
			];
		const broker = engine?.broker;
		if (["unreachable", "refused", "blocked"].includes(broker))
			return [
				"warn",
				`The broker is ${broker}`,
				`${engine.broker_error ? visible(engine.broker_error) + ". " : ""}Events that leave through NATS wait; all others go on.`,
			];
		if (status.feed === "off" || status.feed === "ids")
			return [
				"warn",
				status.feed === "off" ? "The feed is off" : "The feed tells little",
				`eda.feed = ${status.feed}: what is shown is read again every two seconds instead of streaming.`,
			];
		return null;
	}

	engineText(state) {
		if (state.startsWith("idle: ")) return `${sentence(state.slice(6))}.`;
		this.ask();
		return this.detail || "Events can be published and wait; none is dispatched, retried or expires until it is back.";
	}

	// /ready says why, once for each time that it stops.
	async ask() {
		if (this.asked) return;
		this.asked = true;
		const ready = await get("/ready").catch(() => null);
		this.detail = ready?.detail ? `${sentence(ready.detail)}. Events can be published and wait.` : "";
	}

	say() {
		const trouble = this.trouble();
		if (trouble?.[1] !== "The engine is not running") this.asked = this.detail = null;
		const key = JSON.stringify(trouble);
		if (key === this.shown) return;
		const same = trouble && this.node.dataset.title === trouble[1];
		this.shown = key;
		this.node.hidden = !trouble;
		document.body.classList.toggle("troubled", trouble?.[0] === "bad");
		this.node.dataset.title = trouble?.[1] || "";
		if (!trouble) return swap(this.node);
		const [level, title, words, next] = trouble;
		this.node.dataset.level = level;
		// a countdown is not read out again and again
		if (same && next !== undefined && this.next?.isConnected && this.words === words) {
			this.next.textContent = next;
			return;
		}
		this.words = words;
		this.next = next === undefined ? null : h("span", { class: "banner-next", "aria-hidden": "true" }, next);
		swap(
			this.node,
			h("strong", {}, title),
			h("span", {}, words),
			this.next,
			next !== undefined &&
				h("button", { type: "button", class: "button small", onclick: () => store.live.now() }, "Try now"),
		);
	}
}
