// machine.js
//	The state machine as a picture: how many events are in each state, and each move as it is made.
import { ask } from "./dialogs.js";
import { h, paced, s, swap, text } from "./dom.js";
import { Dots } from "./dots.js";
import { count, shortCount } from "./format.js";
import { NARROW, pathOf, trackOf, WIDE } from "./machine-layout.js";
import { store } from "./store.js";
import { DEAD, glyph, label, STATES } from "./states.js";

export class Machine {
	// filter: {takes(type), chosen() => state, choose(state)}
	constructor(filter) {
		this.filter = filter;
		this.heat = new Map(); // move -> moves a second, fading with time
		this.shape = matchMedia("(max-width: 640px)");
		this.box = h("div", { class: "machine" });
		this.node = h(
			"section",
			{ class: "panel machine-panel", "aria-labelledby": "machine-title" },
			h(
				"header",
				{ class: "panel-head" },
				h("h2", { id: "machine-title" }, "States of events"),
				h("p", { class: "panel-note" }, "Choose a state to list its events."),
				h("button", { type: "button", class: "button small", onclick: movesDialog }, "All moves"),
			),
			this.box,
		);
		this.draw();
		this.shape.addEventListener("change", () => this.draw());
		const refresh = paced(200, () => this.refresh());
		store.listen("counts", refresh);
		store.listen("changes", (changes) => {
			this.see(changes);
			refresh();
		});
		setInterval(() => this.cool(), 1000);
		store.readLifecycle().then(
			() => this.draw(),
			() => store.addEventListener("counts", () => this.late(), { once: true }),
		);
	}

	late() {
		store.readLifecycle().then(
			() => this.draw(),
			() => {},
		);
	}

	draw() {
		const layout = (this.layout = this.shape.matches ? NARROW : WIDE);
		const moves = store.moves.length
			? store.moves
			: Object.keys(layout.tracks).map((key) => {
					const [from_state, to_state] = key.split(">");
					return { from_state: from_state || null, to_state, made_by: "", happens: "" };
				});
		this.paths = new Map();
		const tracks = s("g", { class: "tracks" });
		for (const move of moves) {
			const points = trackOf(layout, move.from_state, move.to_state);
			if (!points) continue;
			const key = `${move.from_state || ""}>${move.to_state}`;
			const path = s("path", {
				class: `track s-${move.to_state}${layout.main.includes(key) ? " main" : ""}`,
				d: pathOf(points, layout.radius),
				"marker-end": "url(#arrow)",
			});
			this.paths.set(key, path);
			tracks.append(
				s(
					"g",
					{ class: "move", "data-from": move.from_state || "", "data-to": move.to_state },
					path,
					s("path", { class: "track-touch", d: path.getAttribute("d") }),
					s(
						"title",
						{},
						`${move.from_state ? label(move.from_state) : "new"} → ${label(move.to_state)}\n${move.made_by}: ${move.happens}`,
					),
				),
			);
		}
		const dots = s("g", { class: "dots", "aria-hidden": "true" });
		this.dots = new Dots(dots);
		this.nodes = new Map();
		const nodes = s("g", { class: "nodes" });
		STATES.forEach((state, i) => nodes.append(this.drawNode(state, layout.nodes[state], i)));
		this.svg = s(
			"svg",
			{
				viewBox: `0 0 ${layout.width} ${layout.height}`,
				role: "group",
				"aria-label": "States of events, and the moves between them",
			},
			s(
				"defs",
				{},
				s(
					"marker",
					{
						id: "arrow",
						viewBox: "0 0 8 8",
						refX: 7,
						refY: 4,
						markerWidth: 7,
						markerHeight: 7,
						orient: "auto",
						markerUnits: "userSpaceOnUse",
					},
					s("path", { d: "M0 .5 7.5 4 0 7.500Z", class: "arrow" }),
				),
			),
			tracks,
			s(
				"g",
				{ class: "captions", "aria-hidden": "true" },
				layout.captions.map(([words, x, y, anchor]) => s("text", { x, y, "text-anchor": anchor || "middle" }, words)),
			),
			nodes,
			dots,
		);
		swap(this.box, this.svg);
		this.refresh();
		this.paint();
	}

	drawNode(state, { x, y, w, h: height }, i) {
		const small = w < 120;
		const parts = {
			n: s("text", { class: "node-count", x: small ? x + 10 : x + 40, y: y + (small ? 52 : 53) }, "–"),
			recent: small ? null : s("text", { class: "node-recent", x: x + w - 12, y: y + 53, "text-anchor": "end" }),
		};
		const sign = glyph(state);
		const size = small ? 14 : 20;
		for (const [key, value] of Object.entries({
			x: small ? x + w - 22 : x + 12,
			y: small ? y + 39 : y + 35,
			width: size,
			height: size,
		}))
			sign.setAttribute(key, value);
		const group = s(
			"g",
			{ class: `node s-${state}`, role: "button", tabindex: i === 0 ? 0 : -1, "data-state": state },
			s("rect", { x, y, width: w, height, rx: 5 }),
			s("rect", { class: "node-lamp", x, y, width: 5, height, rx: 2.5 }),
			s("text", { class: "node-name", x: x + (small ? 10 : 14), y: y + 23 }, label(state)),
			sign,
			parts.n,
			parts.recent,
		);
		group.addEventListener("click", () => this.filter.choose(state));
		group.addEventListener("keydown", (e) => this.key(e, state));
		group.addEventListener("pointerenter", () => this.trace(state));
		group.addEventListener("pointerleave", () => this.trace(null));
		group.addEventListener("focus", () => this.trace(state));
		group.addEventListener("blur", () => this.trace(null));
		this.nodes.set(state, { group, ...parts });
		return group;
	}

	// An arrow key goes to the nearest state in its direction.
	key(e, state) {
		if (e.key === "Enter" || e.key === " ") {
			e.preventDefault();
			this.filter.choose(state);
			return;
		}
		const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key] || [];
		if (dx === undefined) return;
		e.preventDefault();
		const middle = (b) => [b.x + b.w / 2, b.y + b.h / 2];
		const [x, y] = middle(this.layout.nodes[state]);
		let best = null;
		for (const other of STATES) {
			const [ox, oy] = middle(this.layout.nodes[other]);
			const along = (ox - x) * dx + (oy - y) * dy;
			const aside = Math.abs((ox - x) * dy) + Math.abs((oy - y) * dx);
			if (along > 5 && (!best || along + 2 * aside < best.far)) best = { other, far: along + 2 * aside };
		}
		if (best) this.focus(best.other);
	}

	focus(state) {
		for (const [name, { group }] of this.nodes) group.setAttribute("tabindex", name === state ? 0 : -1);
		this.nodes.get(state).group.focus();
	}

	// Highlight the tracks that lead to and from a state.
	trace(state) {
		this.svg.classList.toggle("tracing", Boolean(state));
		for (const move of this.svg.querySelectorAll(".move"))
			move.classList.toggle("traced", Boolean(state) && (move.dataset.from === state || move.dataset.to === state));
	}

	see(changes) {
		// Some of the moves get a dot, one after the other; all of them light their track.
		const every = Math.ceil(changes.length / 16);
		const shown = !this.svg.closest("[hidden]");
		changes.forEach((change, i) => {
			if (!this.filter.takes(change) || change.from === undefined) return;
			const key = `${change.from || ""}>${change.state}`;
			this.heat.set(key, (this.heat.get(key) || 0) + 1);
			const path = shown && i % every === 0 && this.paths.get(key);
			if (path) this.dots.run(path, change.state, changes.length > 4 ? Math.random() * 400 : 0);
		});
	}

	// A track that is used is lit, and fades within seconds.
	cool() {
		for (const [key, n] of this.heat) {
			if (n < 0.1) this.heat.delete(key);
			else this.heat.set(key, n * 0.75);
		}
		this.paint();
	}

	paint() {
		for (const [key, path] of this.paths) {
			const n = this.heat.get(key) || 0;
			const level = n === 0 ? 0 : n < 2 ? 1 : n < 20 ? 2 : n < 200 ? 3 : 4;
			if (path.dataset.heat === String(level)) continue;
			path.dataset.heat = level;
			// Draw lit tracks above dark ones where they share a piece.
			if (level > 0) path.parentNode.parentNode.append(path.parentNode);
		}
	}

	refresh() {
		const { events, last_minute } = store.totals((type) => this.filter.takes(type));
		const counted = store.types.size > 0 || store.engine;
		const chosen = this.filter.chosen();
		for (const [state, { group, n, recent }] of this.nodes) {
			const number = counted ? (recent ? count : shortCount)(events[state]) : "–";
			text(n, number);
			const minute = last_minute[state];
			if (recent) text(recent, minute ? `${count(minute)}/min` : "");
			group.classList.toggle("some", events[state] > 0);
			group.classList.toggle("trouble", DEAD.has(state) && minute > 0);
			group.setAttribute("aria-pressed", chosen === state);
		}
	}
}

// The same moves as a table, with who makes each of them, and when.
function movesDialog() {
	const name = (state) => (state ? h("span", { class: `chip s-${state}` }, glyph(state), label(state)) : "(nothing)");
	const head = ["From", "To", "By", "When"].map((column) => h("th", { scope: "col" }, column));
	const rows = store.moves.map((move) =>
		h(
			"tr",
			{},
			h("td", { "data-label": "From" }, name(move.from_state)),
			h("td", { "data-label": "To" }, name(move.to_state)),
			h("td", { "data-label": "By" }, move.made_by),
			h("td", { "data-label": "When" }, move.happens),
		),
	);
	return ask({
		title: "The legal moves",
		wide: true,
		action: "Close",
		cancel: null,
		body: h("table", { class: "table moves" }, h("thead", {}, h("tr", {}, head)), h("tbody", {}, rows)),
	});
}
