// header.js
//	The bar at the top: the name of the database, whether all is well, the rate; theme, token, shortcuts.
import { get, token } from "./api.js";
import { changeToken } from "./dialogs.js";
import { engineDialog } from "./engine.js";
import { $, h, iconButton, paced, s, swap, text } from "./dom.js";
import { count, rate } from "./format.js";
import { icon } from "./icons.js";
import { store } from "./store.js";

// links: [[hash or path, name, id]]; keys(): show the shortcuts
export class Header {
	constructor(node, links, keys) {
		this.database = h("span", { class: "database" });
		this.lamps = {
			live: lamp("Live", () => store.live.now()),
			engine: lamp("Engine", () => engineDialog("engine")),
			broker: lamp("Broker", () => engineDialog("broker")),
		};
		this.rate = h(
			"span",
			{ class: "rate", title: "transitions a second, over the last five seconds" },
			h("b", {}, "–"),
			h("small", {}, "/s"),
		);
		this.dead = h("span", { class: "badge", hidden: true });
		this.nav = h(
			"nav",
			{ "aria-label": "Views" },
			links.map(([href, name, id]) => h("a", { href, "data-view": id }, name, id === "dead-letters" && this.dead)),
		);
		this.theme = iconButton(icon("auto"), "Theme", () => {
			window.edaTheme.next();
			this.sayTheme();
		});
		this.key = iconButton(icon("key"), "Access token", async () => {
			if (await changeToken()) location.reload();
		});
		swap(
			node,
			h("a", { class: "brand", href: "/", "aria-label": "eda, overview" }, logo(), h("span", {}, "eda")),
			this.database,
			this.nav,
			h(
				"div",
				{ class: "lamps" },
				Object.values(this.lamps).map((l) => l.node),
				this.rate,
			),
			h(
				"div",
				{ class: "tools" },
				this.theme,
				this.key,
				keys && iconButton(icon("help"), "Keyboard shortcuts (?)", keys),
			),
		);
		this.sayTheme();
		addEventListener("themechange", () => this.sayTheme());
		const say = paced(250, () => this.say());
		for (const type of ["link", "status", "counts", "counts-failed"]) store.listen(type, say);
		setInterval(() => this.sayRate(), 1000);
		this.readName();
		this.say();
	}

	// Show the database's name as soon as an answer has it.
	async readName() {
		try {
			const ready = await get("/ready");
			if (ready.database) {
				text(this.database, ready.database);
				this.database.title = `database ${ready.database}`;
				return;
			}
		} catch {
			// If the request fails, try again with the next counts.
		}
		store.addEventListener("counts", () => this.readName(), { once: true });
	}

	select(view) {
		for (const link of this.nav.children) {
			if (link.dataset.view === view) link.setAttribute("aria-current", "page");
			else link.removeAttribute("aria-current");
		}
	}

	say() {
		const link = store.link;
		light(
			this.lamps.live,
			link === "open" ? "good" : link === "connecting" && !store.everOpen ? "wait" : "bad",
			link === "open" ? "connected" : link === "connecting" ? "connecting" : "not connected",
		);
		const engine = engineState();
		light(
			this.lamps.engine,
			engine === "running" ? "good" : engine === "paused" ? "wait" : engine ? "bad" : "off",
			engine || "unknown",
		);
		const broker = store.engine?.broker;
		light(
			this.lamps.broker,
			broker === "ready" ? "good" : broker === "connecting" ? "wait" : !broker || broker === "off" ? "off" : "bad",
			broker || "unknown",
		);
		this.lamps.broker.node.hidden = !broker || broker === "off";
		const dead = store.dead();
		this.dead.hidden = !dead;
		if (dead) text(this.dead, count(dead));
		this.key.classList.toggle("has", Boolean(token()));
	}

	sayRate() {
		text($("b", this.rate), rate(store.meter.rate(store.now())));
	}

	sayTheme() {
		const { choice } = window.edaTheme;
		const name = { auto: "as the system", light: "light", dark: "dark" }[choice];
		swap(this.theme, icon({ auto: "auto", light: "sun", dark: "moon" }[choice]));
		this.theme.title = `Theme: ${name} (t)`;
		this.theme.setAttribute("aria-label", `Theme: ${name}`);
	}
}

// The stream knows the engine's state sooner than the counts do; without the stream, the counts have it.
export const engineState = () =>
	store.status.database === "down" || store.countsProblem
		? ""
		: (store.link === "open" && store.status.engine) || store.engine?.state || "";

function lamp(name, onclick) {
	const state = h("span", { class: "lamp-state" });
	const node = h(
		"button",
		{ type: "button", class: "lamp", onclick },
		h("i", { "aria-hidden": "true" }),
		h("span", { class: "lamp-name" }, name),
		state,
	);
	return { node, state, name };
}

function light({ node, state, name }, colour, words) {
	node.dataset.light = colour;
	text(state, words);
	node.title = `${name}: ${words}`;
}

const logo = () =>
	s(
		"svg",
		{ class: "logo", viewBox: "0 0 28 28", "aria-hidden": "true" },
		s("path", { class: "logo-track", d: "M2 14h24M8 14l6-8h8M8 14l6 8h8" }),
		s("circle", { class: "logo-a", cx: 8, cy: 14, r: 3.5 }),
		s("circle", { class: "logo-b", cx: 22, cy: 6, r: 3 }),
		s("circle", { class: "logo-c", cx: 22, cy: 14, r: 3 }),
		s("circle", { class: "logo-d", cx: 22, cy: 22, r: 3 }),
	);
