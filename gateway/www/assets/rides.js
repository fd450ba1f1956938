// rides.js
//	The page of rides: request a ride, and watch it pass its six stages.
import { flowPath, get, path, post } from "./api.js";
import { Banner } from "./banner.js";
import { problemView, shortcutsDialog } from "./dialogs.js";
import { $, h, put, swap, text } from "./dom.js";
import { engineState, Header } from "./header.js";
import { shortcuts } from "./keys.js";
import { freshId } from "./publish-form.js";
import { FLOW_TYPE, STAGES } from "./ride.js";
import { RideCard } from "./ride-card.js";
import { store } from "./store.js";
import { Town } from "./town.js";

const KEY = "eda.rides";
const MOST = 12; // rides that are shown at once
const RIDERS = ["Ada", "Alan", "Barbara", "Donald", "Edsger", "Frances", "Grace", "Tony"];
const FROM = ["Airport", "Harbour", "Museum", "Old Town"];
const TO = ["Station", "Stadium", "Theatre", "University"];
const any = (list) => list[Math.floor(Math.random() * list.length)];

const cards = new Map(); // flow id -> RideCard, newest first on the page
const pending = new Set(); // flow ids of rides to be read again

// ------------------------------------------------------------------------
// The form
// ------------------------------------------------------------------------

const input = (name, list) =>
	h("input", { name, list: `list-${name}`, required: true, maxlength: 60, autocomplete: "off", value: any(list) });
const fields = { rider: input("rider", RIDERS), from: input("from", FROM), to: input("to", TO) };
const problem = h("div", { role: "alert" });
const go = h("button", { type: "submit", class: "button primary big" }, "Request a ride");
const form = h(
	"form",
	{ class: "panel ride-form", "aria-labelledby": "form-title" },
	h("h1", { id: "form-title" }, "Where to?"),
	Object.entries(fields).map(([name, field]) =>
		h("label", { class: "field" }, h("span", {}, { rider: "Rider", from: "From", to: "To" }[name]), field),
	),
	Object.entries({ rider: RIDERS, from: FROM, to: TO }).map(([name, list]) =>
		h(
			"datalist",
			{ id: `list-${name}` },
			list.map((value) => h("option", { value })),
		),
	),
	go,
	problem,
	h(
		"p",
		{ class: "muted" },
		"A ride is six events, each published by the success of the one before. Workers fail at random, and the events are tried again.",
	),
);

form.addEventListener("submit", async (e) => {
	e.preventDefault();
	if (go.disabled) return;
	go.disabled = true;
	swap(problem);
	const ride = {
		id: freshId("ride"),
		rider: fields.rider.value.trim(),
		from: fields.from.value.trim(),
		to: fields.to.value.trim(),
	};
	try {
		await post("/api/events", {
			event_type: STAGES[0].type,
			flow_type: FLOW_TYPE,
			flow_id: ride.id,
			payload: { rider: ride.rider, from: ride.from, to: ride.to },
		});
		watch(ride.id, ride);
		for (const [name, list] of Object.entries({ rider: RIDERS, from: FROM, to: TO }))
			if (list.includes(fields[name].value)) fields[name].value = any(list);
	} catch (error) {
		swap(
			problem,
			problemView(
				error.code === "ED005"
					? Object.assign(error, {
							hint: `The example is not set up in this database. Run psql -f examples/ride-hailing/setup.sql`,
						})
					: error,
			),
		);
	}
	go.disabled = false;
});

// ------------------------------------------------------------------------
// The rides
// ------------------------------------------------------------------------

const list = h("div", { class: "ride-list" });
const empty = h("div", { class: "panel empty" }, "There is no ride yet. Request one, or choose a dot above.");

function watch(id, ride = { id }) {
	if (cards.has(id)) return cards.get(id).node.scrollIntoView({ block: "nearest" });
	const card = new RideCard(ride, () => hide(id));
	cards.set(id, card);
	list.prepend(card.node);
	while (cards.size > MOST) hide(cards.keys().next().value);
	remember();
	read(id);
}

function hide(id) {
	cards.get(id)?.node.remove();
	cards.delete(id);
	remember();
}

function remember() {
	empty.hidden = cards.size > 0;
	try {
		sessionStorage.setItem(KEY, JSON.stringify([...cards.values()].map((card) => card.ride)));
	} catch {
		// Storage is off: the rides are forgotten when the page is left.
	}
}

let turns = 0;

// Read a ride soon; further changes before that need no second read.
function read(id) {
	if (!pending.size) setTimeout(readAll, 120);
	pending.add(id);
}

async function readAll() {
	const ids = [...pending];
	pending.clear();
	await Promise.all(
		ids.map(async (id) => {
			const card = cards.get(id);
			if (!card) return;
			const turn = ++turns;
			try {
				const flow = await get(flowPath(FLOW_TYPE, id));
				if (turn < card.turn) return; // a newer answer has come first
				card.turn = turn;
				card.show(flow);
				if (!card.ride.rider) await name(card, flow);
			} catch (error) {
				if (error.status === 404) text(card.wait, "There is no such ride.");
				// The gateway is away: the ride is read again when the connection is back.
			}
			tick();
		}),
	);
}

// The ride was requested elsewhere: its first payload says who rides, from where and where to.
async function name(card, flow) {
	const { payload } = await get(path(["api", "events", flow.events[0].event_id]));
	Object.assign(card.ride, {
		rider: String(payload?.rider ?? card.ride.id),
		from: String(payload?.from ?? ""),
		to: String(payload?.to ?? ""),
	});
	card.name();
	remember();
}

const surroundings = (event) => ({
	engine: engineState(),
	suspended: Boolean(store.types.get(event.event_type)?.suspended),
	workers: store.engine?.waiting_workers || store.types.get(event.event_type)?.last_minute.being_processed,
});
const tick = () => cards.forEach((card) => card.tick(store.now(), surroundings));

const town = new Town((id) => watch(id));
put(
	$("main"),
	h(
		"section",
		{ class: "rides" },
		h("div", { class: "rides-side" }, form),
		h("div", { class: "rides-main" }, town.node, empty, list),
	),
);

store.live.query = `?flow_type=${FLOW_TYPE}`;
store.listen("changes", (changes) => changes.forEach((change) => cards.has(change.flow_id) && read(change.flow_id)));
store.listen("skipped", () => cards.forEach((card, id) => read(id)));
store.listen("link", (state) => state === "open" && cards.forEach((card, id) => read(id)));
store.listen("counts", () => {
	tick();
	if (store.blind) cards.forEach((card, id) => card.stand?.over || read(id));
});
setInterval(tick, 250);

try {
	for (const ride of JSON.parse(sessionStorage.getItem(KEY) || "[]")) watch(ride.id, ride);
} catch {
	// There are no saved rides then.
}
function named() {
	const name = location.hash.startsWith("#/") && location.hash.slice(2);
	try {
		if (name) watch(decodeURIComponent(name));
	} catch {
		// The name is not saved then.
	}
}
addEventListener("hashchange", named);
named();

const header = new Header(
	$("header"),
	[
		["/#/", "Overview", "overview"],
		["/#/types", "Event types", "types"],
		["/#/dead-letters", "Dead letters", "dead-letters"],
		["/rides", "Rides", "rides"],
	],
	() => keys.help(),
);
header.select("rides");
new Banner($("#banner"));
const keys = shortcuts(
	{
		1: () => (location.href = "/#/"),
		2: () => (location.href = "/#/types"),
		3: () => (location.href = "/#/dead-letters"),
		r: () => form.requestSubmit(),
		t: () => {
			window.edaTheme.next();
			header.sayTheme();
		},
		"?": () => keys.help(),
	},
	(enabled, enable) =>
		shortcutsDialog(enabled, enable, [
			["1 2 3", "overview, event types, dead letters"],
			["r", "request a ride"],
			["t", "theme: as the system, light, dark"],
			["?", "this list"],
		]),
);
store.start();
