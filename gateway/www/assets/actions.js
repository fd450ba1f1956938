// actions.js
//	What an operator can do with an event: cancel, suspend, resume, redrive.
import { path, post } from "./api.js";
import { confirm, field, tell } from "./dialogs.js";
import { h } from "./dom.js";
import { brief } from "./format.js";
import { icon } from "./icons.js";
import { label, legalActions } from "./states.js";

const texts = {
	cancel: {
		icon: "stop",
		name: "Cancel",
		title: "Cancel this event?",
		danger: true,
		action: "Cancel the event",
		text: "A canceled event is final and cannot be redriven. A worker that is processing it loses its lease, and its work in the database rolls back.",
		back: "Keep it",
	},
	suspend: {
		icon: "pause",
		name: "Suspend",
		title: "Suspend this event?",
		action: "Suspend",
		text: "The event waits until it is resumed, or until a deadline.",
	},
	resume: { icon: "play", name: "Resume", title: "Resume this event?", action: "Resume", text: "The event is due at once." },
	redrive: {
		icon: "again",
		name: "Redrive",
		title: "Redrive this event?",
		action: "Redrive",
		text: "The event is due at once, with all its attempts and its lifespan.",
	},
};

// Ask for confirmation, send the request, and show the outcome.
export async function act(action, event) {
	const t = texts[action];
	const deadline = action === "suspend" && h("input", { name: "deadline", type: "datetime-local", step: 1 });
	const done = await confirm({
		title: t.title,
		text: [`${event.event_type} of flow `, h("bdi", {}, brief(event.flow_id, 80)), ". ", t.text],
		action: t.action,
		danger: t.danger,
		fields: deadline && field("Deadline", "optional; empty: as the rules of its event type say", deadline),
		submit: (form) => {
			const body = {};
			if (form.elements.reason.value) body.reason = form.elements.reason.value;
			if (deadline?.value) body.deadline = new Date(deadline.value).toISOString();
			return post(path(["api", "events", event.event_id, action]), body);
		},
	});
	if (done) tell(`${event.event_type} is now ${label(done.state)}.`);
	return done;
}

// A button for each action that is legal now.
export function actionButtons(event, moves, done) {
	const legal = legalActions(moves, event.state);
	return ["redrive", "resume", "suspend", "cancel"]
		.filter((action) => legal.has(action))
		.map((action) =>
			h(
				"button",
				{
					type: "button",
					class: `button ${action === "cancel" ? "danger-quiet" : ""}`,
					"data-action": action,
					onclick: async () => (await act(action, event)) && done(),
				},
				icon(texts[action].icon),
				texts[action].name,
			),
		);
}
