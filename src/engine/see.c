/*
 * see.c
 *		What the engine does with a new transition.  The tail calls see_transition() for each.
 */
#include "engine/engine.h"

/*
 * An event that is awaiting_processing.  If it is due and no earlier event of its type waits on
 * disk, queue it for a move now; otherwise the cursor finds it in order.
 */
static void
see_awaiting(const Transition *t, int leaf, EngineType *type)
{
	if (t->wake_at <= engine.now && !type->suspended && type->due[leaf].key > t->wake_at && dispatch_room(type) > 0 &&
	    todo_add(&t->event_id, leaf, t))
		dispatch_reserve(type, 1);
	else
		timers_pull_due(type, leaf, t);
}

/* A dispatched event: offer it to workers, or make its delivery. */
static void
see_dispatched(const Transition *t, int leaf, EngineType *type)
{
	if (type->to_broker)
		delivery_add_event(t, leaf);
	else if (engine.recovering) /* it may have moved on: have it looked up first */
		cursor_pull(&engine.dispatched[leaf], t->wake_at, &t->event_id);
	else
		dispatch_offer(t, leaf);
}

/* A suspended event.  If its type is suspended, the cursor finds the event at the unsuspend. */
static void
see_suspended(const Transition *t, int leaf, EngineType *type)
{
	if (t->suspended_by == EDA_BY_TYPE)
		cursor_pull(&type->resume[leaf], t->at, &t->event_id);
}

/*
 * A dead letter.  If no older dead letter of its type waits on disk, make its delivery now;
 * otherwise the cursor finds it in order.
 */
static void
see_dead(const Transition *t, int leaf, EngineType *type)
{
	if (type->to_broker &&
	    (type->dead[leaf].key != EDA_NEVER || !delivery_add_dead_letter(type->id, &t->event_id, leaf, t->at)))
		cursor_pull(&type->dead[leaf], t->at, &t->event_id);
}

/* Pull back the cursor on expiry: there is one for published and one for redriven events. */
static void
see_expiry(const Transition *t, int leaf)
{
	if (t->expires_at == EDA_NEVER)
		return;
	if (t->prev_state == EDA_NONE)
		cursor_pull(&engine.expiry[leaf], t->expires_at, &t->event_id);
	if (t->prev_state == EDA_FAILED || t->prev_state == EDA_EXPIRED)
		cursor_pull(&engine.redriven[leaf], t->expires_at, &t->event_id);
}

/*
 * Process a transition that the tail has read: count it, add it to the feed, drop the offer or
 * delivery of an earlier version, and do what its state asks for.
 */
void
see_transition(const Transition *t, int leaf)
{
	EngineType *type = engine_type(t->type);

	engine.read++;
	engine.changed = true;
	if (type == NULL)
		return;
	counts_add(type, t);
	feed_add(t, leaf, type);
	dispatch_forget(&t->event_id, t->version);
	if (t->state != EDA_DISPATCHED || !type->to_broker) /* else delivery_add_event() does it */
		delivery_forget(t);
	if (t->state != EDA_AWAITING && t->wake_at != EDA_NEVER)
		cursor_pull(&engine.deadline[leaf], t->wake_at, &t->event_id);
	see_expiry(t, leaf);

	switch (t->state)
	{
		case EDA_AWAITING:
			see_awaiting(t, leaf, type);
			break;
		case EDA_DISPATCHED:
			see_dispatched(t, leaf, type);
			break;
		case EDA_SUSPENDED:
			see_suspended(t, leaf, type);
			break;
		case EDA_FAILED:
		case EDA_EXPIRED:
			see_dead(t, leaf, type);
			break;
		case EDA_BEING_PROCESSED: /* the end of its lease is a deadline, see above */
		case EDA_SUCCEEDED:
		case EDA_CANCELED:
		case EDA_NONE:
			break;
	}
}
