// publish-form.js
//	A form that publishes an event, to try an event type or to repair something by hand.
import { post, Problem } from "./api.js";
import { ask, field, tell } from "./dialogs.js";
import { h } from "./dom.js";

// Make a flow id that is not in use.
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
				"id of the business transaction that the event belongs to",
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
					hint: "Put texts in double quotes, and nothing after the last brace.",
				});
			}
			const event = { event_type: event_type.value, flow_id: flow_id.value };
			if (scheduled_at.value) event.scheduled_at = new Date(scheduled_at.value).toISOString();
			// Send the text as it was typed, so that numbers keep all their digits.
			return post("/api/events", JSON.stringify(event).replace(/\}$/, `,"payload":${source}}`));
		},
	});
	if (done) tell("Published: ", h("a", { href: `#/event/${done.event_id}` }, "its story"));
	return done;
}
