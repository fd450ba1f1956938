// publish-form.js
//	Publish an event by hand: to try a new type, or to put something right.
import { post, Problem } from "./api.js";
import { ask, field, tell } from "./dialogs.js";
import { h } from "./dom.js";

// A flow id that nobody has used.
export const freshId = (prefix) =>
	`${prefix}-${Date.now().toString(36)}${Math.floor(Math.random() * 1296)
		.toString(36)
		.padStart(2, "0")}`;

export async function publishDialog(types, name) {
	const names = types.map((type) => type.event_type).sort();
	const payload = h("textarea", { name: "payload", rows: 6, class: "mono", spellcheck: "false" });
	payload.value = "{}";
	const done = await ask({
		title: name ? `Publish an event of ${name}` : "Publish an event",
		action: "Publish",
		body: [
			field(
				"Event type",
				null,
				h(
					"select",
					{ name: "event_type" },
					names.map((type) => h("option", { value: type, selected: type === name }, type)),
				),
			),
			field(
				"Flow id",
				"the business transaction it belongs to",
				h("input", {
					name: "flow_id",
					value: freshId("test"),
					autocomplete: "off",
					spellcheck: "false",
					autofocus: Boolean(name),
				}),
			),
			field("Payload", "JSON", payload),
			field("Not before", "optional", h("input", { name: "scheduled_at", type: "datetime-local", step: 1 })),
		],
		submit: async (form) => {
			const { event_type, flow_id, scheduled_at } = form.elements;
			const source = payload.value.trim() || "null";
			try {
				JSON.parse(source);
			} catch (error) {
				payload.focus();
				throw new Problem({
					detail: `The payload is no JSON: ${error.message}`,
					hint: "Text stands in double quotes, and nothing follows the last brace.",
				});
			}
			const event = { event_type: event_type.value, flow_id: flow_id.value };
			if (scheduled_at.value) event.scheduled_at = new Date(scheduled_at.value).toISOString();
			// as it was written: numbers keep all their digits
			return post("/api/events", JSON.stringify(event).replace(/\}$/, `,"payload":${source}}`));
		},
	});
	if (done) tell("Published: ", h("a", { href: `#/event/${done.event_id}` }, "its story"));
	return done;
}
