// charts.js
//	Throughput and latency of the last five minutes, with Chart.js, in the colours of the theme.
import { h, paced, text } from "./dom.js";
import { duration, rate } from "./format.js";
import { store } from "./store.js";

const THROUGHPUT = [
	["published", "published", "--ink"],
	["succeeded", "succeeded", "--s-succeeded"],
	["again", "tried again", "--s-dispatched"],
	["dead", "failed or expired", "--s-failed"],
];
const LATENCY = [
	["wait", 0.5, "published → acquired", "--s-dispatched", []],
	["wait", 0.99, "p99", "--s-dispatched", [3, 3]],
	["work", 0.5, "acquired → ended", "--s-being_processed", []],
	["work", 0.99, "p99", "--s-being_processed", [3, 3]],
];

export class Charts {
	constructor() {
		this.node = h("div", { class: "charts" });
		this.rates = this.panel(
			"throughput",
			"Throughput",
			"a second",
			THROUGHPUT.map(([, name, colour]) => [name, colour, []]),
		);
		this.times = this.panel(
			"latency",
			"Latency",
			"median and p99",
			LATENCY.map(([, , name, colour, dash]) => [name, colour, dash]),
		);
		this.node.append(this.rates.node, this.times.node);
		this.since = Date.now();
		this.draw = paced(900, () => this.update());
		// Chart.js is a separate script; if it cannot be loaded, the numbers beside the names are still shown.
		if (window.Chart) this.begin();
		else addEventListener("load", () => this.begin());
		setInterval(this.draw, 1000);
		addEventListener("themechange", () => this.paint());
	}

	panel(id, title, unit, series) {
		const values = series.map(() => h("b", {}, "–"));
		const canvas = h("canvas", { role: "img", "aria-label": `${title}, the last five minutes` });
		const box = h("div", { class: "chart-box" }, canvas);
		const node = h(
			"section",
			{ class: "panel chart-panel", "aria-labelledby": `${id}-title` },
			h(
				"header",
				{ class: "panel-head" },
				h("h2", { id: `${id}-title` }, title),
				unit && h("p", { class: "panel-note" }, unit),
			),
			h(
				"ul",
				{ class: "chart-legend" },
				series.map(([name, colour, dash], i) => {
					const line = h("i", { class: dash.length ? "dashed" : "" });
					line.style.color = `var(${colour})`;
					return h("li", {}, line, h("span", {}, name), values[i]);
				}),
			),
			box,
		);
		return { node, canvas, values, chart: null };
	}

	begin() {
		if (!window.Chart || this.rates.chart) return;
		this.rates.chart = this.make(
			this.rates.canvas,
			THROUGHPUT.map(([, name]) => ({ label: name })),
			{
				y: { beginAtZero: true, suggestedMax: 1, ticks: { maxTicksLimit: 5, precision: 0 } },
			},
		);
		this.times.chart = this.make(
			this.times.canvas,
			LATENCY.map(([, , name, , dash]) => ({ label: name, borderDash: dash })),
			{
				y: {
					type: "logarithmic",
					suggestedMin: 1,
					suggestedMax: 1000,
					ticks: { callback: (value) => (Number.isInteger(Math.log10(value)) ? duration(value) : null) },
				},
			},
		);
		this.paint();
	}

	make(canvas, datasets, { y }) {
		return new window.Chart(canvas, {
			type: "line",
			data: {
				datasets: datasets.map((set) => ({
					data: [],
					borderWidth: 1.5,
					pointRadius: 0,
					tension: 0.25,
					spanGaps: 30,
					...set,
				})),
			},
			options: {
				animation: false,
				parsing: false,
				normalized: true,
				responsive: true,
				maintainAspectRatio: false,
				events: [],
				plugins: { legend: { display: false }, tooltip: { enabled: false } },
				scales: {
					x: {
						type: "linear",
						min: -300,
						max: 0,
						ticks: {
							stepSize: 30,
							autoSkip: true,
							maxTicksLimit: 6,
							callback: (x) => (x === 0 ? "now" : x % 60 ? `${x} s` : `${x / 60} min`),
							maxRotation: 0,
						},
						grid: { drawTicks: false },
					},
					y: { ...y, grid: { drawTicks: false } },
				},
			},
		});
	}

	// The theme's colours; a canvas cannot use CSS variables.
	paint() {
		const style = getComputedStyle(document.documentElement);
		const colour = (name) => style.getPropertyValue(name).trim();
		const font = { family: style.getPropertyValue("--face").trim(), size: 11 };
		for (const [panel, colours] of [
			[this.rates, THROUGHPUT.map((t) => t[2])],
			[this.times, LATENCY.map((t) => t[3])],
		]) {
			if (!panel.chart) continue;
			panel.chart.data.datasets.forEach((set, i) => (set.borderColor = colour(colours[i])));
			for (const axis of Object.values(panel.chart.options.scales)) {
				axis.grid.color = axis.grid.borderColor = colour("--line");
				axis.ticks.color = colour("--muted");
				axis.ticks.font = font;
			}
		}
		this.update(true);
	}

	update(always = false) {
		if (!always && (document.hidden || this.node.closest("[hidden]"))) return;
		const now = store.now();
		const { meter } = store;
		// A page that was opened a minute ago shows one minute.
		const minutes = Math.min(5, Math.max(1, Math.ceil((Date.now() - this.since) / 60000)));
		for (const panel of [this.rates, this.times])
			if (panel.chart) Object.assign(panel.chart.options.scales.x, { min: -60 * minutes });
		THROUGHPUT.forEach(([kind], i) => {
			text(this.rates.values[i], rate(meter.rate(now, 5, kind)));
			// Before the page was opened the rate is unknown, which is not the same as zero.
			const seen = meter.throughput(now, kind).filter(({ x }) => x * 1000 >= this.since - Date.now());
			if (this.rates.chart) this.rates.chart.data.datasets[i].data = seen;
		});
		LATENCY.forEach(([what, part], i) => {
			text(this.times.values[i], duration(meter.recent(now, what, part)));
			if (this.times.chart) this.times.chart.data.datasets[i].data = meter.latency(now, what, part);
		});
		for (const panel of [this.rates, this.times]) {
			panel.chart?.update("none");
			const words = [...panel.node.querySelectorAll("li")].map(
				(item) => `${item.children[1].textContent} ${item.children[2].textContent}`,
			);
			panel.canvas.setAttribute("aria-label", `The last five minutes; now ${words.join(", ")}`);
		}
	}
}
