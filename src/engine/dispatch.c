/*
 * dispatch.c
 *		How many events may be dispatched, and the engine's side of the ready queue.
 *
 * An offer is a dispatched event in the ready queue, or one that a worker has popped in a
 * transaction that is still open.  It lives from the moment when the tail reads the dispatched
 * transition until the tail reads what became of the event.  Only the engine takes offers from
 * the area's free list and gives them back.  It finds the offer of an event by a hash table of
 * its own.
 *
 * A Window says how many events may be dispatched.  There is one for each event type (its
 * max_in_flight or max_dispatched), and one for where its events go: the ready queue of its
 * flow type, or the broker.  An event needs room in both.  A Window has two numbers:
 *
 * room			how many events may still become dispatched.  dispatch_size_windows() computes it
 *				from the queue, the limits and the counts.  decide.c calls dispatch_take_room()
 *				for each event that it dispatches, which takes 1 off and so keeps the limits.
 * reserved		how many due events have been queued for a move in this tick.  The tail and the
 *				timers queue a due event only while room - reserved is above 0 (dispatch_room()),
 *				and then call dispatch_reserve().
 *
 * Example: a type has room for 10 more events, and 1,000 that are due are published at once.
 * The tail queues 10 of them, which makes reserved 10, and pulls the type's cursor back to the
 * other 990.  Then decide.c dispatches the 10, and room is 0.  Without "reserved" the tail would
 * queue all 1,000, because room does not change before decide.c runs: journal_append() would
 * look up 990 events in vain.
 *
 * Reserved room is not given back before the next tick.  If a queued event need not be dispatched
 * after all, another one waits for one tick.  Events queued for other reasons (because they
 * were parked, say) reserve nothing; if there is no room for them, they are left to the cursor.
 *
 * The ready queues of all flow types share eda.queue_size offers.  Example: 1,000 offers, 3 flow
 * types, eda.max_event_types = 50, all queues empty.  A quarter, 250 offers, is kept back; from
 * it 250 / 50 = 5 are guaranteed to each flow type.  The other 750 (queue_left) go to the flow
 * types in the order in which their events are dispatched.  But above its guaranteed 5 no flow
 * type gets more than its share of 1000 / 3 = 333, nor more in its queue than eda.ready_window
 * or, if that is more, twice the number of events that its workers wait for.
 */
#include "engine/engine.h"

#include "miscadmin.h"
#include "utils/memutils.h"

typedef struct OfferEntry
{
	pg_uuid_t event_id; /* hash key */
	int offer;          /* the offer's index in the area; -1 - i if it is still offering[i] */
} OfferEntry;

static HTAB *offer_by_id;
static Offer *offering = NULL; /* offers for dispatch_push(); version 0: dropped */
static int noffering = 0;
static int max_offering = 0;
static int queue_left = 0;   /* free offers that any flow type may use */
static Window broker_window; /* for the events of all types that are delivered through NATS */

/* Start with empty ready queues. */
void
dispatch_init(void)
{
	HASHCTL ctl = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(OfferEntry), .hcxt = engine.context};

	offer_by_id = hash_create("eda offers", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	area_reset_queues(engine.area);
}

/* The ready queue of a flow type, or NULL if there is no place for one.  Under the area's lock. */
static FlowQueue *
flow_queue(EngineFlow *flow)
{
	FlowQueue *queue;

	if (flow->queue >= 0)
		return &area_queues(engine.area)[flow->queue];
	queue = ready_queue_of(engine.area, flow->flow_type);
	if (queue)
		flow->queue = queue - area_queues(engine.area);
	return queue;
}

/* The ready queue of an event type; NULL if there is no place for one.  Under the area's lock. */
FlowQueue *
dispatch_queue_of(const EngineType *type)
{
	return flow_queue(&engine.flows[type->flow]);
}

/*
 * Compute the room of each flow type, event type and the broker.
 *
 * A flow type gets eda.ready_window, or twice the number of events that its workers wait for,
 * but no more than its share of the queue.  A quarter of the queue is kept for a few events of
 * each flow type.  Otherwise flow types without workers, which filled the queue while there
 * was room, could keep another one from being dispatched at all.
 *
 * A type's max_in_flight is kept exactly: only this engine dispatches, and after tail_read() the
 * counts include all that it has dispatched.  That is why a tick calls this once more then.
 */
void
dispatch_size_windows(void)
{
	int share = Max(eda_queue_size / Max(engine.nflows, 1), 1);
	int reserve = eda_queue_size / 4;
	int minimum = Max(reserve / eda_max_event_types, 1);

	LWLockAcquire(&engine.area->lock, LW_EXCLUSIVE);
	queue_left = Max(engine.area->nfree - reserve, 0);
	for (int i = 0; i < engine.nflows; i++)
	{
		EngineFlow *flow = &engine.flows[i];
		FlowQueue *queue = flow_queue(flow);
		int window;

		flow->window.room = flow->guaranteed = 0;
		if (queue == NULL)
			continue;
		window = Min(Max(eda_ready_window, 2 * queue->wanted), share);
		flow->guaranteed = Max(Min(Min(minimum, window) - queue->queued, engine.area->nfree), 0);
		flow->window.room = Min(window - queue->queued, share - queue->queued - queue->popped);
		flow->window.room = Min(Max(flow->window.room, flow->guaranteed), flow->guaranteed + queue_left);
	}
	LWLockRelease(&engine.area->lock);
	broker_window.room = delivery_room();

	for (int i = 0; i < engine.ntypes; i++)
	{
		EngineType *type = engine.types[i];
		int64 room = INT_MAX;

		if (type->max_in_flight > 0)
			room = type->max_in_flight - type->counts[EDA_DISPATCHED] - type->counts[EDA_BEING_PROCESSED];
		if (type->to_broker)
			room = type->covered ? Min(room, type->max_dispatched - type->counts[EDA_DISPATCHED]) : 0;
		type->window.room = Max(room, 0);
	}
}

/* At the start of a tick no room is reserved. */
void
dispatch_begin_tick(void)
{
	broker_window.reserved = 0;
	for (int i = 0; i < engine.ntypes; i++)
		engine.types[i]->window.reserved = engine.flows[engine.types[i]->flow].window.reserved = 0;
}

/* The window of the place that a type's events go to: the broker, or a ready queue. */
static Window *
outer_window(const EngineType *type)
{
	return type->to_broker ? &broker_window : &engine.flows[type->flow].window;
}

/* How many due events of a type may still be queued for a move in this tick; 0 or less: none. */
int
dispatch_room(const EngineType *type)
{
	const Window *outer = outer_window(type);

	return Min(type->window.room - type->window.reserved, outer->room - outer->reserved);
}

/* Whether an event of a type could be dispatched now; what is reserved does not matter. */
bool
dispatch_has_room(const EngineType *type)
{
	return type->window.room > 0 && outer_window(type)->room > 0;
}

/* Reserve room for n events of a type that were queued to be dispatched in this tick. */
void
dispatch_reserve(EngineType *type, int n)
{
	type->window.reserved += n;
	outer_window(type)->reserved += n;
}

/* Use up room for one event of a type; false if there is none. */
bool
dispatch_take_room(EngineType *type)
{
	EngineFlow *flow = &engine.flows[type->flow];

	if (!dispatch_has_room(type) || (!type->to_broker && flow->guaranteed <= 0 && queue_left <= 0))
		return false;
	if (!type->to_broker)
	{
		if (flow->guaranteed > 0)
			flow->guaranteed--;
		else
			queue_left--;
	}
	type->window.room--;
	outer_window(type)->room--;
	return true;
}

/* The offer of an event, or NULL. */
Offer *
dispatch_offer_of(const pg_uuid_t *id)
{
	OfferEntry *entry = hash_search(offer_by_id, id, HASH_FIND, NULL);

	if (entry == NULL)
		return NULL;
	return entry->offer >= 0 ? &area_offers(engine.area)[entry->offer] : &offering[-1 - entry->offer];
}

/* Make an offer of a dispatched event; the next dispatch_push() puts it into the ready queue. */
void
dispatch_offer(const Transition *t, int leaf)
{
	Offer *o;
	OfferEntry *entry;
	bool found;

	entry = hash_search(offer_by_id, &t->event_id, HASH_ENTER, &found);
	if (found)
		return;
	entry->offer = -1 - noffering;
	ARRAY_GROW(offering, noffering, max_offering, engine.context);
	o = &offering[noffering++];
	memset(o, 0, sizeof(*o));
	o->event_id = t->event_id;
	o->dispatched = journal_brief(t);
	o->leaf = leaf;
	o->since = t->at;
	o->state = OFFER_QUEUED;
}

/* Copy an offer to a free entry, and return its index; -1: no entry.  Under the area's lock. */
static int
take_entry(const Offer *wanted, const EngineType *type)
{
	EngineArea *area = engine.area;
	int i = area->free_head;
	FlowQueue *queue = dispatch_queue_of(type);
	Offer *o;
	uint32 generation;

	if (i < 0 || queue == NULL)
		return -1;
	o = &area_offers(area)[i];
	area->free_head = o->next;
	area->nfree--;
	generation = o->generation;
	*o = *wanted;
	o->generation = generation;
	o->queue = queue - area_queues(area);
	o->priority = type->priority;
	return i;
}

/* Give an offer's entry back to the free list, whatever its state is.  Under the area's lock. */
static void
free_entry(int i)
{
	EngineArea *area = engine.area;
	Offer *o = &area_offers(area)[i];

	if (o->state == OFFER_QUEUED)
		ready_queue_unlink(area, i);
	else if (o->state == OFFER_POPPED)
		area_queues(area)[o->queue].popped--;
	o->state = OFFER_FREE;
	o->generation++;
	o->next = area->free_head;
	area->free_head = i;
	area->nfree++;
}

/* The event has got this version: drop the offer of an earlier one. */
void
dispatch_forget(const pg_uuid_t *id, int32 version)
{
	OfferEntry *entry = version > 1 ? hash_search(offer_by_id, id, HASH_FIND, NULL) : NULL;

	if (entry == NULL || dispatch_offer_of(id)->dispatched.version >= version)
		return;
	if (entry->offer < 0)
		offering[-1 - entry->offer].dispatched.version = 0;
	else
	{
		LWLockAcquire(&engine.area->lock, LW_EXCLUSIVE);
		free_entry(entry->offer);
		LWLockRelease(&engine.area->lock);
	}
	hash_search(offer_by_id, id, HASH_REMOVE, NULL);
}

/* Put an offer that has come back into the ready queue again. */
void
dispatch_requeue(Offer *offer)
{
	LWLockAcquire(&engine.area->lock, LW_EXCLUSIVE);
	if (offer->state == OFFER_REFUSED || offer->state == OFFER_RETURNED)
	{
		offer->generation++; /* the worker that had it cannot give it back once more */
		ready_queue_link(engine.area, offer - area_offers(engine.area));
	}
	LWLockRelease(&engine.area->lock);
}

/* Whether any worker waits for an event. */
bool
dispatch_is_awaited(void)
{
	FlowQueue *queues = area_queues(engine.area);

	for (int i = 0; i < eda_max_event_types && queues[i].flow_type[0] != '\0'; i++)
		if (queues[i].waiting > 0)
			return true;
	return false;
}

/* Wake the workers that wait, but no more than there are events in their queue. */
static void
wake_workers(void)
{
	FlowQueue *queues = area_queues(engine.area);

	for (int i = 0; i < eda_max_event_types && queues[i].flow_type[0] != '\0'; i++)
	{
		/* No lock is needed: a worker that begins to wait looks at the queue before it sleeps. */
		int wake = Min(queues[i].queued, queues[i].waiting);

		for (int n = 0; n < wake; n++)
			ConditionVariableSignal(&queues[i].ready);
	}
}

/* Put the collected offers into the ready queue, and wake workers. */
void
dispatch_push(void)
{
	for (int i = 0; i < noffering; i++)
	{
		Offer *wanted = &offering[i];
		EngineType *type = engine_type(wanted->dispatched.type);
		OfferEntry *entry;
		int offer = -1;

		if (wanted->dispatched.version == 0)
			continue;
		LWLockAcquire(&engine.area->lock, LW_EXCLUSIVE);
		if (type)
			offer = take_entry(wanted, type);
		if (offer >= 0)
			ready_queue_link(engine.area, offer);
		LWLockRelease(&engine.area->lock);

		entry = hash_search(offer_by_id, &wanted->event_id, HASH_FIND, NULL);
		if (offer >= 0)
			entry->offer = offer;
		else
		{
			/* The queue is full: queue the event for a move in a second, to be offered again. */
			Todo todo = {wanted->event_id, wanted->leaf};

			hash_search(offer_by_id, &wanted->event_id, HASH_REMOVE, NULL);
			todo_park(&todo, InvalidTransactionId, engine.now + USECS_PER_SEC);
		}
	}
	noffering = 0;
	wake_workers();
}

/* Whether the event of an offer has to be queued for a move; the offer is in the area. */
static bool
needs_look(const Offer *o)
{
	const EventType *rules;

	switch (o->state)
	{
		case OFFER_RETURNED:
		case OFFER_REFUSED:
			return true;
		case OFFER_QUEUED:
			rules = event_type_by_id(o->dispatched.type);
			return rules && (rules->suspended || rules->to_broker);
		case OFFER_POPPED:
			rules = event_type_by_id(o->dispatched.type);
			return rules && interval_add_to(o->since, &rules->dispatch_timeout) <= engine.now;
		default:
			return false;
	}
}

/*
 * Queue the events of some offers for a move: of those that came back, of those that a worker
 * has popped and not committed within the dispatch timeout, and of those whose type is suspended
 * or delivered through NATS now.  Also find the oldest offer of each type, for the metrics.
 *
 * Called once a second, and when an offer has come back or the rules have changed.
 */
void
dispatch_collect(void)
{
	HASH_SEQ_STATUS seq;
	OfferEntry *entry;
	bool room = true;

	for (int i = 0; i < engine.ntypes; i++)
		engine.types[i]->oldest_offer = EDA_NEVER;
	engine.area->offers_need_look = false;
	pg_memory_barrier(); /* an offer that comes back from here on sets it again */
	hash_seq_init(&seq, offer_by_id);
	while ((entry = hash_seq_search(&seq)) != NULL)
	{
		Offer *o = dispatch_offer_of(&entry->event_id);
		EngineType *type = engine_type(o->dispatched.type);

		if (type && o->state != OFFER_POPPED)
			type->oldest_offer = Min(type->oldest_offer, o->dispatched.at);
		if (room && entry->offer >= 0 && needs_look(o))
			room = todo_add(&o->event_id, o->leaf, NULL);
	}
	if (!room)
		engine.area->offers_need_look = true; /* the list was full: go on in the next tick */
}

/* The earliest wake_at of all offers; EDA_NEVER if there is none. */
TimestampTz
dispatch_oldest(void)
{
	HASH_SEQ_STATUS seq;
	OfferEntry *entry;
	TimestampTz oldest = EDA_NEVER;

	hash_seq_init(&seq, offer_by_id);
	while ((entry = hash_seq_search(&seq)) != NULL)
		oldest = Min(oldest, dispatch_offer_of(&entry->event_id)->dispatched.wake_at);
	return oldest;
}
