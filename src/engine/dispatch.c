/*
 * dispatch.c
 *		How many events may be dispatched, and the engine's side of the ready queue: offers, and
 *		the offers that come back.
 *
 * An offer lives from the moment a dispatched transition has committed until the log shows what became
 * of the event.  Only the engine takes entries from the free list and gives them back, and it finds them
 * by event id in a hash table of its own.
 *
 * Two accounts say how much may be dispatched, for each event type and for what it goes through (its flow
 * type's ready queue, or the broker):
 *
 * room			how many events may still become dispatched.  dispatch_size_windows() computes it anew
 *				from the queue, the limits and the counts; decide.c takes 1 off for each event that it
 *				dispatches (dispatch_take_room()).
 * reserved		how many events have been queued in this tick to be dispatched.  The tail and the timers
 *				queue more only while room - reserved is above 0 (dispatch_room()), and then call
 *				dispatch_reserve().
 *
 * Without "reserved", a type with room for 10 and 1,000 due events would have all 1,000 queued; 10 would be
 * dispatched, and 990 looked up in vain and left to the cursor again, in each tick.  What is reserved is
 * not given back before the next tick starts: an event that was queued and need not be dispatched makes
 * another one wait for one tick.  So whoever queues a due event reserves, and only decide.c takes room.
 *
 * Example: eda.queue_size = 1000, 3 flow types, eda.max_event_types = 50.  A quarter of the queue, 250
 * places, is kept back: 250 / 50 = 5 places are guaranteed to each flow type, whatever others have taken.
 * The other 750 (queue_left) go to whoever comes first, up to a share of 1000 / 3 = 333 for a flow type.
 */
#include "engine/engine.h"

#include "miscadmin.h"
#include "utils/memutils.h"

typedef struct OfferEntry
{
	pg_uuid_t event_id; /* hash key */
	int offer;          /* in the area; or -1 - i: offering[i], not there yet */
} OfferEntry;

static HTAB *offer_by_id;
static Offer *offering = NULL; /* to be put into the ready queue by dispatch_push() */
static int noffering = 0;
static int max_offering = 0;
static int queue_left = 0;   /* free entries of the queue that any flow type may have */
static Window broker_window; /* what may be dispatched to the broker */

/* Start with an empty queue. */
void
dispatch_init(void)
{
	HASHCTL ctl = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(OfferEntry), .hcxt = engine.context};

	offer_by_id = hash_create("eda offers", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	area_reset_queues(engine.area);
}

/* The ready queue of a flow type, looked up once.  Under the lock. */
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

/* The ready queue of a type's flow; NULL if there is no place for it.  Under the lock. */
FlowQueue *
dispatch_queue_of(const EngineType *type)
{
	return flow_queue(&engine.flows[type->flow]);
}

/*
 * How many events each flow type and event type may have dispatched more.
 *
 * A flow type gets eda.ready_window, or twice what its workers wait for, but no
 * more than its share of the queue.  A quarter of the queue is kept for a few
 * events of each flow type, so that others without workers, who took their
 * places when there was more room, cannot shut it out.
 *
 * A type's max_in_flight is exact: the tail has seen all that this engine
 * dispatched, and nobody else dispatches.
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

/* Nothing has been queued for a move in this tick so far. */
void
dispatch_begin_tick(void)
{
	broker_window.reserved = 0;
	for (int i = 0; i < engine.ntypes; i++)
		engine.types[i]->window.reserved = engine.flows[engine.types[i]->flow].window.reserved = 0;
}

static Window *
outer_window(const EngineType *type)
{
	return type->to_broker ? &broker_window : &engine.flows[type->flow].window;
}

/* How many events of a type may still be noted in this tick; not above zero if none. */
int
dispatch_room(const EngineType *type)
{
	const Window *outer = outer_window(type);

	return Min(type->window.room - type->window.reserved, outer->room - outer->reserved);
}

/* Whether an event of a type could be dispatched now. */
bool
dispatch_has_room(const EngineType *type)
{
	return type->window.room > 0 && outer_window(type)->room > 0;
}

/* Events of a type were noted, to be dispatched in this tick. */
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

/* Have an event put into the ready queue by the next dispatch_push(). */
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

/* Take an entry from the free list for an offer; -1 if there is none.  Under the lock. */
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

/* Give an entry back to the free list, whatever state it is in.  Under the lock. */
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

/* The log has this version of an event: an offer of an earlier one is settled. */
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

/* Offer an event again that came back unused. */
void
dispatch_requeue(Offer *offer)
{
	LWLockAcquire(&engine.area->lock, LW_EXCLUSIVE);
	if (offer->state == OFFER_REFUSED || offer->state == OFFER_RETURNED)
	{
		offer->generation++; /* whoever had it gives nothing back any more */
		ready_queue_link(engine.area, offer - area_offers(engine.area));
	}
	LWLockRelease(&engine.area->lock);
}

/* Whether a worker waits for something to do. */
bool
dispatch_is_awaited(void)
{
	FlowQueue *queues = area_queues(engine.area);

	for (int i = 0; i < eda_max_event_types && queues[i].flow_type[0] != '\0'; i++)
		if (queues[i].waiting > 0)
			return true;
	return false;
}

/* Wake as many waiting workers as there is something for. */
static void
wake_workers(void)
{
	FlowQueue *queues = area_queues(engine.area);

	for (int i = 0; i < eda_max_event_types && queues[i].flow_type[0] != '\0'; i++)
	{
		/* Unlocked: a worker that starts to wait now sees the queue before it sleeps. */
		int wake = Min(queues[i].queued, queues[i].waiting);

		for (int n = 0; n < wake; n++)
			ConditionVariableSignal(&queues[i].ready);
	}
}

/* Put what dispatch_offer() collected into the ready queue and wake workers, one for each event. */
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
			/* The queue is full: look at the event again in a while. */
			Todo todo = {wanted->event_id, wanted->leaf};

			hash_search(offer_by_id, &wanted->event_id, HASH_REMOVE, NULL);
			todo_park(&todo, InvalidTransactionId, engine.now + USECS_PER_SEC);
		}
	}
	noffering = 0;
	wake_workers();
}

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
 * Note the events whose offers need a look: those that came back, those that a
 * worker has had for longer than the dispatch timeout, and those whose type was
 * suspended or goes to the broker now.  Called each second, and when something has come back.
 * By the way it finds the oldest offer of each type.
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
	pg_memory_barrier(); /* what comes back from here on sets it again, after its state */
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
		engine.area->offers_need_look = true; /* look again */
}

/* The time of the oldest dispatched transition that is not settled, by its deadline; EDA_NEVER if none. */
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
