// app.js
//	The operators' page: puts its parts together, and shows the view that the address names.
import { Banner } from "./banner.js";
import { Charts } from "./charts.js";
import { DeadLetters } from "./dead.js";
import { shortcutsDialog } from "./dialogs.js";
import { $, h } from "./dom.js";
import { Filter } from "./filter.js";
import { Flow } from "./flow.js";
import { Header } from "./header.js";
import { shortcuts } from "./keys.js";
import { Machine } from "./machine.js";
import { store } from "./store.js";
import { Story } from "./story.js";
import { Stream } from "./stream.js";
import { Types } from "./types.js";

const filter = new Filter();
filter.set(Object.fromEntries(queryOf(location.hash)));
const stream = new Stream(filter);
const overview = h(
	"section",
	{ class: "view overview", "aria-label": "Overview" },
	h("h1", { class: "visually-hidden", tabindex: -1 }, "Overview"),
	h("div", { class: "picture" }, new Machine(filter).node, new Charts().node),
	stream.node,
);

const views = {
	overview: {
		node: overview,
		show: ([query]) => filter.set(Object.fromEntries(new URLSearchParams(query || ""))),
		hide() {},
	},
	types: new Types(),
	"dead-letters": new DeadLetters(),
	flow: new Flow(),
};
const main = $("main");
for (const view of Object.values(views)) {
	view.node.hidden = true;
	main.append(view.node);
}

const header = new Header(
	$("header"),
	[
		["#/", "Overview", "overview"],
		["#/types", "Event types", "types"],
		["#/dead-letters", "Dead letters", "dead-letters"],
		["/rides", "Rides", "rides"],
	],
	() => keys.help(),
);
new Banner($("#banner"));

// When the story of an event is closed, the address returns to the view below it.
const story = new Story(() => (location.hash = base));
let base = "#/";
let current = null;
filter.addEventListener("change", () => {
	if (current !== "overview") return;
	base = filter.address();
	if (!story.id) history.replaceState(null, "", base);
});

function queryOf(hash) {
	return new URLSearchParams(hash.split("?")[1] || "");
}

function route() {
	const [raw, query] = location.hash.replace(/^#\/?/, "").split("?");
	let parts;
	try {
		parts = raw.split("/").map(decodeURIComponent);
	} catch {
		parts = [""];
	}
	if (parts[0] === "event" && parts[1]) {
		if (!current) open("overview", [""]);
		story.show(parts[1]);
		document.title = "Event · eda";
		return;
	}
	base = location.hash || "#/";
	story.hide();
	if (parts[0] === "flow" && parts.length >= 3) open("flow", [parts[1], parts.slice(2).join("/")]);
	else if (parts[0] === "types") open("types", []);
	else if (parts[0] === "dead-letters") open("dead-letters", ["", query]);
	else open("overview", [query]);
}

const titles = {
	overview: "eda",
	types: "Event types · eda",
	"dead-letters": "Dead letters · eda",
	flow: "Flow · eda",
};
let shownKey = "";
function open(name, params) {
	document.title = titles[name];
	const key = JSON.stringify([name, params]);
	if (key === shownKey && name !== "overview") return;
	shownKey = key;
	const moved = current && current !== name;
	if (moved) {
		views[current].hide();
		views[current].node.hidden = true;
	}
	current = name;
	views[name].node.hidden = false;
	views[name].show(params);
	header.select(name);
	if (moved) {
		scrollTo(0, 0);
		$("h1", views[name].node)?.focus({ preventScroll: true });
	}
}

const keys = shortcuts(
	{
		1: () => (location.hash = "#/"),
		2: () => (location.hash = "#/types"),
		3: () => (location.hash = "#/dead-letters"),
		4: () => (location.href = "/rides"),
		p: () => current === "overview" && stream.pause(),
		t: () => {
			window.edaTheme.next();
			header.sayTheme();
		},
		"/": () => $("[data-search]", views[current].node)?.focus(),
		"?": () => keys.help(),
		Escape: () => story.close(),
	},
	(enabled, enable) => shortcutsDialog(enabled, enable),
);

$(".skip").addEventListener("click", (e) => {
	e.preventDefault();
	$("h1", views[current].node)?.focus();
});
addEventListener("hashchange", route);
store.start();
route();
