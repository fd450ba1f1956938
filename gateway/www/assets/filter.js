// filter.js
//	What the overview shows: the flow type, event type, state and flow id.  They are in the
//	address (#/?state=failed), so that a view can be sent to somebody.
import { h, paced, swap } from "./dom.js";
import { label, STATES } from "./states.js";
import { store } from "./store.js";

const KEYS = ["flow_type", "event_type", "state", "flow_id"];
const UUID = /^\s*[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\s*$/i;

export class Filter extends EventTarget {
	constructor() {
		super();
		this.values = {};
		this.inputs = {
			flow_type: h("select", { name: "flow_type", "aria-label": "Flow type" }),
			event_type: h("select", { name: "event_type", "aria-label": "Event type" }),
			state: h(
				"select",
				{ name: "state", "aria-label": "State" },
				option("", "all states"),
				STATES.map((state) => option(state, label(state))),
			),
			flow_id: h("input", {
				name: "flow_id",
				type: "search",
				placeholder: "flow id, or event id",
				"aria-label": "Flow id, or event id",
				autocomplete: "off",
				spellcheck: "false",
				"data-search": true,
			}),
		};
		this.clear = h(
			"button",
			{ type: "button", class: "button small", hidden: true, onclick: () => this.set({}) },
			"Show all",
		);
		this.node = h("form", { class: "filter", onsubmit: (e) => this.submit(e) }, Object.values(this.inputs), this.clear);
		for (const key of KEYS) this.inputs[key].addEventListener("change", () => this.read());
		let typing = 0;
		this.inputs.flow_id.addEventListener("input", () => {
			clearTimeout(typing);
			typing = setTimeout(() => this.read(), 350);
		});
		this.fillLists();
		store.listen(
			"counts",
			paced(1000, () => this.fillLists()),
		);
	}

	// The names change seldom, and an open list closes when it is changed.
	fillLists() {
		const types = [...store.types.values()].sort((a, b) => a.event_type.localeCompare(b.event_type));
		const flows = [...new Set(types.map((type) => type.flow_type))].sort();
		const chosen = this.values.flow_type;
		const names = types.filter((type) => !chosen || type.flow_type === chosen).map((type) => type.event_type);
		fillList(this.inputs.flow_type, "all flow types", flows, chosen);
		fillList(this.inputs.event_type, "all event types", names, this.values.event_type);
	}

	submit(e) {
		e.preventDefault();
		const value = this.inputs.flow_id.value;
		if (UUID.test(value)) {
			this.inputs.flow_id.value = "";
			location.hash = `#/event/${value.trim().toLowerCase()}`;
		} else this.read();
	}

	read() {
		const values = {};
		for (const key of KEYS)
			if (this.inputs[key].value && !(key === "flow_id" && UUID.test(this.inputs[key].value)))
				values[key] = this.inputs[key].value;
		const type = store.types.get(values.event_type);
		if (type && values.flow_type && type.flow_type !== values.flow_type) delete values.event_type;
		this.set(values);
	}

	// Set from the address, a click or the inputs.
	set(values) {
		const before = JSON.stringify(KEYS.map((key) => this.values[key]));
		this.values = {};
		for (const key of KEYS) if (values[key]) this.values[key] = values[key];
		for (const key of ["state", "flow_id"])
			if (this.inputs[key].value !== (this.values[key] || "")) this.inputs[key].value = this.values[key] || "";
		this.fillLists();
		this.clear.hidden = !Object.keys(this.values).length;
		if (JSON.stringify(KEYS.map((key) => this.values[key])) === before) return;
		this.dispatchEvent(new Event("change"));
	}

	address() {
		const query = new URLSearchParams(this.values).toString();
		return query ? `#/?${query}` : "#/";
	}

	// Whether the state machine counts an event of this type: state and flow id do not matter for it.
	takes = (item) =>
		(!this.values.event_type || item.event_type === this.values.event_type) &&
		(!this.values.flow_type || item.flow_type === this.values.flow_type);

	takesAll = (item) =>
		this.takes(item) &&
		(!this.values.state || item.state === this.values.state) &&
		(!this.values.flow_id || String(item.flow_id).toLowerCase().includes(this.values.flow_id.toLowerCase()));

	chosen = () => this.values.state;
	choose = (state) => this.set({ ...this.values, state: this.values.state === state ? undefined : state });
}

const option = (value, words) => h("option", { value }, words);

export function fillList(select, all, names, chosen) {
	const wanted = chosen && !names.includes(chosen) ? [...names, chosen] : names;
	const key = wanted.join("\n");
	if (select.dataset.names !== key) {
		select.dataset.names = key;
		swap(
			select,
			all === null ? null : option("", all),
			wanted.map((name) => option(name, name)),
		);
	}
	if (select.value !== (chosen || "") && (chosen || all !== null)) select.value = chosen || "";
}
