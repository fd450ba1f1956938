// type-form.js
//	The rules of an event type as a form.  An empty field is the rule's default.
import { patch, path, Problem, put } from "./api.js";
import { ask, field } from "./dialogs.js";
import { h } from "./dom.js";
import { interval } from "./format.js";

// name, label, hint, kind, text of the default
const RULES = [
	[
		"Attempts",
		[
			["max_attempts", "Attempts", "how many times an event may be acquired before it fails", "integer", "5"],
			[
				"attempt_delays",
				"Delays of attempts",
				"before attempt 1, attempt 2, …; the last one holds for all further attempts",
				"intervals",
				"0 s, 5 s, 30 s, 2 min, 10 min",
			],
			["backoff", "Backoff", "factor by which the last delay grows, 1 to 100", "number", "1"],
			["jitter", "Jitter", "how much a delay varies at random, 0 to 1", "number", "0"],
		],
	],
	[
		"Times",
		[
			["lifespan", "Lifespan", "from the first scheduled time until the event expires", "interval", "no end"],
			["lease", "Lease", "how long a worker may process an event without a heartbeat", "interval", "30 s"],
			["dispatch_timeout", "Dispatch timeout", "from handing an event to a worker until its acquire is committed", "interval", "30 s"],
			["suspend_timeout", "Suspend timeout", "how long an event is suspended if no deadline is given", "interval", "no deadline"],
			["on_suspend_timeout", "At that deadline", "what happens to a suspended event", ["expire", "resume"], "expire"],
		],
	],
	[
		"Delivery",
		[
			["delivery", "Delivery", "workers ask for events, or get messages", ["pull", "nats"], "pull"],
			[
				"subject",
				"Subject",
				"of messages; {flow_type}, {event_type}, {flow_id} and {database} are replaced",
				"text",
				"event-engine.{flow_type}",
			],
			["priority", "Priority", "0 to 9; events of a higher priority are acquired first", "integer", "5"],
			["max_in_flight", "At most in flight", "dispatched or being processed at once", "integer", "no limit"],
			["max_dispatched", "At most dispatched", "with NATS: events dispatched at once", "integer", "10000"],
			["on_fail_event_type", "On failure", "event type of the event that is published then", "type", "none"],
		],
	],
];

// The text of a rule in its field.
function shown(kind, value) {
	if (value === null || value === undefined) return "";
	if (kind === "interval") return interval(value);
	if (kind === "intervals") return value.map(interval).join(", ");
	return String(value);
}

// The value of a field for the API.
function meant(kind, value) {
	const text = value.trim();
	if (text === "") return null;
	if (kind === "integer" || kind === "number") return Number.isFinite(Number(text)) ? Number(text) : text;
	if (kind === "intervals")
		return text
			.split(",")
			.map((part) => part.trim())
			.filter(Boolean);
	return text;
}

function control([name, , , kind, standard], rules) {
	const value = shown(kind, rules?.[name]);
	if (Array.isArray(kind))
		return h(
			"select",
			{ name },
			kind.map((choice) => h("option", { value: choice, selected: (value || standard) === choice }, choice)),
		);
	const props = { name, value, placeholder: standard, autocomplete: "off", spellcheck: "false" };
	if (kind === "integer" || kind === "number") props.inputmode = kind === "integer" ? "numeric" : "decimal";
	if (kind === "type") props.list = "rule-types";
	return h("input", props);
}

// Show the form for a new or an existing event type; resolve with the rules as they were saved.
export function editType(rules, types) {
	const flows = [...new Set(types.map((type) => type.flow_type))].sort();
	const inputs = new Map();
	const group = ([title, list]) =>
		h(
			"fieldset",
			{ class: "rules" },
			h("legend", {}, title),
			list.map((rule) => {
				const input = control(rule, rules);
				inputs.set(rule[0], { rule, input, before: input.value });
				return field(rule[1], rule[2], input);
			}),
		);
	const names = rules
		? []
		: [
				field(
					"Event type",
					"starts with a letter; up to 63 letters, digits, “_” and “-”",
					h("input", { name: "event_type", required: true, autocomplete: "off", spellcheck: "false", autofocus: true }),
				),
				field(
					"Flow type",
					"the queue from which workers acquire its events",
					h("input", {
						name: "flow_type",
						list: "rule-flows",
						required: true,
						autocomplete: "off",
						spellcheck: "false",
					}),
				),
			];
	return ask({
		title: rules ? `Rules of ${rules.event_type}` : "New event type",
		wide: true,
		action: rules ? "Save the rules" : "Create the event type",
		body: [
			names.length > 0 && h("div", { class: "two" }, names),
			RULES.map(group),
			h(
				"datalist",
				{ id: "rule-types" },
				types.map((type) => h("option", { value: type.event_type })),
			),
			h(
				"datalist",
				{ id: "rule-flows" },
				flows.map((flow) => h("option", { value: flow })),
			),
			rules && h("p", { class: "muted" }, "The next transition of each event follows the new rules."),
		],
		submit: async (form) => {
			const name = rules ? rules.event_type : form.elements.event_type.value.trim();
			const body = {};
			for (const [key, { rule, input, before }] of inputs)
				if (input.value !== before || (!rules && Array.isArray(rule[3]))) body[key] = meant(rule[3], input.value);
			if (!rules) {
				body.flow_type = form.elements.flow_type.value.trim();
				if (types.some((type) => type.event_type === name))
					throw new Problem({ detail: `The event type “${name}” already exists.`, hint: "Edit its rules instead." });
				return put(path(["api", "event-types", name]), body);
			}
			return Object.keys(body).length ? patch(path(["api", "event-types", name]), body) : rules;
		},
	});
}
