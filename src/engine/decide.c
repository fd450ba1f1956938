/*
 * decide.c
 *		The rule by which the engine moves an event.
 *
 * The rule depends on the event's latest transition only, not on why the event was queued: by a
 * timer, by the tail, after a worker's rollback, or because an open transaction has ended.  So it
 * does no harm to queue an event once too often.
 */
#include "engine/engine.h"

#define MAX_RETURN_DELAY_S 300
#define MAX_BROKER_TIMEOUT USECS_PER_HOUR

static void
set_detail(JournalStep *step, const char *error, const char *reason)
{
	JsonObject o;

	json_begin(&o);
	json_put_text(&o, "error", error);
	json_put_text(&o, "reason", reason);
	step->next.detail = json_end(&o);
}

static bool
move_to(JournalStep *step, EdaState state, TimestampTz wake_at)
{
	step->next.state = state;
	step->next.wake_at = wake_at;
	return true;
}

static bool
suspend_by_type(JournalStep *step)
{
	step->next.suspended_by = EDA_BY_TYPE;
	return move_to(step, EDA_SUSPENDED, EDA_NEVER);
}

/*
 * Until when a worker must have acquired a dispatched event and committed.  If the event is
 * delivered through NATS, the dispatch timeout doubles with each return, up to an hour.
 * Otherwise slow workers would have the stream filled with repeated messages.
 */
static TimestampTz
dispatch_deadline(const EventType *rules, TimestampTz from, int returns)
{
	int64 timeout = interval_add_to(from, &rules->dispatch_timeout) - from;

	if (rules->to_broker && timeout < MAX_BROKER_TIMEOUT)
		timeout = Min(timeout << Min(returns, 20), MAX_BROKER_TIMEOUT);
	return from + timeout;
}

/* An awaiting event: if it is due, dispatch it if there is room, else leave it to the cursor. */
static bool
decide_awaiting(JournalStep *step, const EventType *rules, EngineType *type)
{
	const Transition *t = &step->current;

	if (t->wake_at > engine.now)
		return false;
	if (rules->suspended)
		return suspend_by_type(step);
	if (!dispatch_take_room(type))
	{
		timers_pull_due(type, step->leaf, t);
		return false;
	}
	timing_record_due(t);
	elog(DEBUG2, "eda engine: dispatching event %s", uuid_text(&t->event_id));
	return move_to(step, EDA_DISPATCHED, dispatch_deadline(rules, step->now, t->returns));
}

/*
 * Make a dispatched event awaiting again after its returns-th return in a row.  It is due at once
 * after the first return, and later after each further one, up to MAX_RETURN_DELAY_S.
 */
static bool
take_back(JournalStep *step, int returns, const char *reason)
{
	int64 delay = returns == 1 ? 0 : Min((int64) 1 << Min(returns - 2, 20), MAX_RETURN_DELAY_S);

	step->next.returns = Min(returns, PG_INT16_MAX);
	set_detail(step, NULL, reason);
	return move_to(step, EDA_AWAITING, step->now + delay * USECS_PER_SEC);
}

/*
 * A worker got the event from the ready queue and did not commit its acquire.  Dispatch the event
 * again, or fail it after eda.max_returns returns in a row.
 */
static bool
take_back_from_worker(JournalStep *step)
{
	int before = step->current.returns;

	/*
	 * A count this high cannot come from acquires that were not committed, because the event
	 * would have failed.  It was reached while the type was delivered through NATS, where the
	 * number of returns is not limited.  Start over.
	 */
	if (before >= eda_max_returns)
		before = 0;
	if (before + 1 < eda_max_returns)
		return take_back(step, before + 1, "the worker's acquire was not committed");
	step->next.returns = before + 1;
	set_detail(step, "no acquire was committed", psprintf("handed to a worker %d times in a row", before + 1));
	return move_to(step, EDA_FAILED, EDA_NEVER);
}

/*
 * A dispatched event that is delivered through NATS.  If no worker acquires it within the dispatch
 * timeout, it is sent again, without a limit: the engine cannot know whether a worker failed to
 * acquire it or whether there is no worker, and the latter is no reason to fail the event.
 */
static bool
decide_delivered(JournalStep *step, const EventType *rules)
{
	const Transition *t = &step->current;
	Delivery *d = delivery_of(&t->event_id);
	TimestampTz due = t->wake_at;

	if (d == NULL && delivery_take_recovered(&t->event_id))
	{
		delivery_add_event(t, step->leaf);
		return false;
	}
	if (rules->suspended)
		return suspend_by_type(step);
	if (d && d->state == DELIVERY_REJECTED)
	{
		set_detail(step, "cannot be delivered", d->error);
		return move_to(step, EDA_FAILED, EDA_NEVER);
	}
	if (d && d->state == DELIVERY_RETURNED)
		return take_back(step, t->returns + 1, d->error);
	if (d && d->state != DELIVERY_ACKNOWLEDGED)
		return false;
	if (d)
		due = Max(due, dispatch_deadline(rules, d->since, t->returns));
	if (due > engine.now)
	{
		if (t->wake_at <= engine.now)
			delivery_watch(d, due);
		return false;
	}
	step->next.returns = Min(t->returns + 1, PG_INT16_MAX);
	set_detail(step, NULL, "no worker acquired it within the dispatch timeout");
	return move_to(step, EDA_AWAITING, step->now);
}

static bool
decide_dispatched(JournalStep *step, const EventType *rules)
{
	Offer *offer = dispatch_offer_of(&step->event_id);

	if (offer == NULL && rules->to_broker)
		return decide_delivered(step, rules);

	if (rules->suspended && (offer == NULL || offer->state != OFFER_POPPED))
		return suspend_by_type(step);
	if (offer == NULL)
	{
		delivery_forget_recovered(&step->event_id);
		delivery_withdraw(&step->event_id);
		dispatch_offer(&step->current, step->leaf);
		return false;
	}
	if (rules->to_broker && offer->state == OFFER_QUEUED)
	{
		set_detail(step, NULL, "its event type is delivered through NATS now");
		return move_to(step, EDA_AWAITING, step->now);
	}
	if (offer->state == OFFER_RETURNED)
		return take_back_from_worker(step);
	if (offer->state == OFFER_REFUSED)
		dispatch_requeue(offer);
	if (offer->state == OFFER_POPPED && interval_add_to(offer->since, &rules->dispatch_timeout) <= engine.now)
		return take_back_from_worker(step);
	return false;
}

/* An event that is being processed: if its lease has run out, its worker is taken for dead. */
static bool
rescue(JournalStep *step, const EventType *rules)
{
	const Transition *t = &step->current;

	if (t->wake_at > engine.now)
		return false;
	lease_end_attempt(step, rules, true, event_type_attempt_at(rules, t->attempt - t->attempt_base, step->now));
	set_detail(step, "lease ran out",
	           psprintf("at %s, held by %s", timestamptz_to_str(t->wake_at), t->worker ? t->worker : "unknown"));
	return true;
}

static bool
decide_suspended(JournalStep *step, const EventType *rules, EngineType *type)
{
	const Transition *t = &step->current;

	if (t->suspended_by == EDA_BY_TYPE)
	{
		if (!rules->suspended)
			return move_to(step, EDA_AWAITING, step->now);
		/* The type was suspended again after the event was queued: wait for the next unsuspend. */
		cursor_pull(&type->resume[step->leaf], t->at, &t->event_id);
		return false;
	}
	if (t->wake_at > engine.now)
		return false;
	set_detail(step, NULL, "the deadline of the suspension passed");
	if (rules->resume_on_timeout)
		return move_to(step, EDA_AWAITING, step->now);
	return move_to(step, EDA_EXPIRED, EDA_NEVER);
}

/* Pull cursors back to the event's times that lie ahead, so that it is queued again then. */
static void
pull_cursors(const JournalStep *step, EngineType *type)
{
	const Transition *t = &step->current;

	if (t->wake_at > engine.now)
		cursor_pull(t->state == EDA_AWAITING ? &type->due[step->leaf] : &engine.deadline[step->leaf], t->wake_at,
		            &t->event_id);
	if (t->expires_at > engine.now && t->expires_at != EDA_NEVER)
	{
		cursor_pull(&engine.expiry[step->leaf], t->expires_at, &t->event_id);
		cursor_pull(&engine.redriven[step->leaf], t->expires_at, &t->event_id);
	}
}

/* Whether and how an event moves; the JournalDecide function of all moves by the engine. */
bool
decide_move(JournalStep *step, void *arg)
{
	const Transition *t = &step->current;
	const EventType *rules = event_type_by_id(t->type);
	EngineType *type = engine_type(t->type);

	/* If the clock has stepped back since the event was queued, its times may lie ahead again. */
	if (type)
		pull_cursors(step, type);
	dispatch_forget(&t->event_id, t->version);
	delivery_forget(t);
	if (t->state != EDA_DISPATCHED)
		delivery_forget_recovered(&t->event_id);
	if (lifecycle_is_final(t->state) || rules == NULL || type == NULL)
		return false;
	step->next.worker = ENGINE_NAME;
	if (t->state != EDA_BEING_PROCESSED && t->expires_at <= engine.now)
		return move_to(step, EDA_EXPIRED, EDA_NEVER);
	switch (t->state)
	{
		case EDA_AWAITING:
			return decide_awaiting(step, rules, type);
		case EDA_DISPATCHED:
			return decide_dispatched(step, rules);
		case EDA_BEING_PROCESSED:
			return rescue(step, rules);
		case EDA_SUSPENDED:
			return decide_suspended(step, rules, type);
		default:
			return false;
	}
}
