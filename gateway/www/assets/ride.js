// ride.js
//	The stages of a ride, and what its events mean for it.  Nothing here draws.
import { duration } from "./format.js";
import { FINAL } from "./states.js";

export const FLOW_TYPE = "FLOW_B";

// event type, name of the stop, what its worker does, text after its success
export const STAGES = [
	{ type: "RIDE_REQUESTED", stop: "Requested", work: "finds a driver", fact: (r) => r.driver },
	{
		type: "DRIVER_MATCHED",
		stop: "Matched",
		work: "asks the driver",
		fact: (r) => r.minutes_away !== undefined && `${r.minutes_away} min away`,
	},
	{
		type: "DRIVER_ARRIVED",
		stop: "Driver there",
		work: "lets the rider in",
		fact: (r) => r.minutes_waited !== undefined && `waited ${r.minutes_waited} min`,
	},
	{ type: "TRIP_STARTED", stop: "On the road", work: "drives", fact: (r) => r.km !== undefined && `${r.km} km` },
	{
		type: "TRIP_COMPLETED",
		stop: "Arrived",
		work: "works out the fare",
		fact: (r) => r.fare !== undefined && `fare ${r.fare}`,
	},
	{
		type: "PAYMENT_PROCESSED",
		stop: "Paid",
		work: "takes the money",
		fact: (r) => r.receipt !== undefined && `receipt ${r.receipt}`,
	},
];

const place = new Map(STAGES.map((stage, i) => [stage.type, i]));
export const stageOf = (type) => place.get(type);

// Return the newest event of each stage; a ride that was redriven continues with the same events.
export function stagesOf(flow) {
	const stages = STAGES.map(() => null);
	for (const event of flow?.events || []) {
		const i = place.get(event.event_type);
		if (i !== undefined) stages[i] = event;
	}
	return stages;
}

// Return the outcome of each attempt: "failed", "returned" (released, or the lease was lost), "succeeded" or "open".
export function attemptsOf(event) {
	const attempts = [];
	for (const step of event.history) {
		if (step.state === "being_processed" && step.prev_state !== "being_processed")
			attempts.push({ how: "open", error: null });
		else if (step.prev_state === "being_processed" && step.state !== "being_processed" && attempts.length) {
			const last = attempts.at(-1);
			last.how = step.state === "succeeded" ? "succeeded" : step.error ? "failed" : "returned";
			last.error = step.error;
		}
	}
	return attempts;
}

// Return where a ride is: {at: index of its stage, event, over, outcome, why}
export function standOf(flow) {
	const stages = stagesOf(flow);
	let at = 0;
	stages.forEach((event, i) => event && (at = i));
	const event = stages[at];
	const last = STAGES.length - 1;
	if (!event) return { stages, at: 0, event: null, over: false, outcome: "requested" };
	if (event.state === "succeeded" && at === last) return { stages, at, event, over: true, outcome: "paid" };
	if (FINAL.has(event.state) && event.state !== "succeeded")
		return {
			stages,
			at,
			event,
			over: true,
			outcome: `${event.state} at ${STAGES[at].type}`,
			why: event.error || (event.state === "expired" ? "its lifespan was over" : "an operator canceled it"),
		};
	return { stages, at, event, over: false, outcome: "under way" };
}

// Return a sentence that says what the ride waits for, if it has waited so long that a reader may wonder.
export function waitsFor(stand, { now, engine, suspended, workers }) {
	const { event } = stand;
	if (!event || stand.over) return "";
	const since = now - Date.parse(event.changed_at);
	if (event.state === "suspended")
		return suspended
			? `${event.event_type} is suspended: the ride continues when the event type is unsuspended.`
			: "The event is suspended until an operator resumes it.";
	if (event.state === "awaiting_processing") {
		const due = event.wake_at ? Date.parse(event.wake_at) - now : 0;
		if (suspended && due <= 0) return `${event.event_type} is suspended: none of its events is dispatched.`;
		if (due > 0) return `The next attempt is in ${duration(due)}.`;
		if (engine && engine !== "running")
			return engine === "paused"
				? "The ride waits for the engine, which is paused."
				: "The ride waits for the engine, which is not running.";
		return since > 3000 && due < -3000 ? "The ride waits for the engine." : "";
	}
	if (event.state === "dispatched" && since > 2500)
		return workers
			? "The ride waits for a free worker."
			: "The ride waits for a worker, but no worker asks for events. Start workers with make demo or examples/ride-hailing/worker.";
	if (event.state === "being_processed" && since > 6000)
		return "Its worker has not reported for a while. When the lease ends, the engine ends the attempt.";
	return "";
}
