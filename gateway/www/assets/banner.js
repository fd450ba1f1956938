// banner.js
//	One sentence about the gateway, database or engine, for as long as it cannot be reached or does not run.
import { get } from "./api.js";
import { h, swap } from "./dom.js";
import { many, visible } from "./format.js";
import { engineState } from "./header.js";
import { store } from "./store.js";

const sentence = (words) => visible(words.charAt(0).toUpperCase() + words.slice(1));
const GRACE = 1500; // ms; a shorter loss of the connection is not shown

export class Banner {
	constructor(node) {
		this.node = node;
		this.shown = "";
		this.downSince = 0;
		this.detail = "";
		for (const type of ["link", "status", "counts", "counts-failed"]) store.listen(type, () => this.say());
		setInterval(() => this.say(), 500);
	}

	// Return [level, title, text] of the most serious trouble.
	trouble() {
		const { link, live, status, problem, countsProblem, engine } = store;
		if (link === "open") this.downSince = 0;
		else this.downSince ||= Date.now();
		const away = link !== "open" && Date.now() - this.downSince > GRACE;
		if (away && problem?.status === 401)
			return ["bad", "The gateway asks for a token", "Enter a token with the key button at the top."];
		if (away && problem?.status === 403) return ["bad", "Not allowed", problem.detail];
		if (away) {
			const seconds = Math.ceil((live.retryAt - Date.now()) / 1000);
			const next =
				link === "connecting" ? "Connecting …" : seconds > 0 ? `Next try in ${many(seconds, "second")}.` : "";
			const why = problem?.detail || "What you see may be out of date. The engine and the workers continue without this page.";
			return [
				"bad",
				problem?.status === 503 ? "The database does not answer" : "The live connection is lost",
				why,
				next,
			];
		}
		if (link !== "open") return null;
		if (status.database === "down")
			return ["bad", "The database does not answer", "No event moves until it is back. Committed data is safe."];
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
				"eda.engine = paused: the engine reads the log and publishes the feed, but moves no event. New events can be published.",
			];
		const broker = engine?.broker;
		if (["unreachable", "refused", "blocked"].includes(broker))
			return [
				"warn",
				`The broker is ${broker}`,
				`${engine.broker_error ? visible(engine.broker_error) + ". " : ""}Events that are delivered through NATS wait; all others are processed.`,
			];
		if (status.feed === "off" || status.feed === "ids")
			return [
				"warn",
				status.feed === "off" ? "The feed is off" : "The feed has ids only",
				`eda.feed = ${status.feed}: this page reads all data again every two seconds.`,
			];
		return null;
	}

	engineText(state) {
		if (state.startsWith("idle: ")) return `${sentence(state.slice(6))}.`;
		this.ask();
		return this.detail || "Events can be published, and wait: none is dispatched, tried again or expired until the engine runs.";
	}

	// Each time that the engine stops, ask /ready once for the reason.
	async ask() {
		if (this.asked) return;
		this.asked = true;
		const ready = await get("/ready").catch(() => null);
		this.detail = ready?.detail ? `${sentence(ready.detail)}. Events can be published, and wait.` : "";
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
		// Only the countdown has changed: a screen reader must not read the banner again.
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
