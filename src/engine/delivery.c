/*
 * delivery.c
 *		Deliveries: the events and dead letters that the broker (NATS) is to send.
 *
 * A delivery of an event lives from the moment when the tail reads the dispatched transition
 * until the tail reads what became of the event.  First it waits.  Then send.c hands its message
 * over to the broker: outside any transaction, and only after the WAL is flushed so far that a
 * crash cannot undo what the message tells of.  At last the broker acknowledges it; the dispatch
 * timeout counts from then on.  Between the last two steps nothing is left to do here, because
 * the broker sends a message again by itself if it gets lost on its way.
 *
 * After a restart, deliveries that were not acknowledged are made again: from the list of
 * their events that the engine saved or, if dispatched after that, when the tail reads their
 * transitions.  They are sent with the same message id.  Dead letters need no list: the saved
 * cursor over their index is not beyond the oldest one that was not acknowledged.
 *
 * A dispatched event without a delivery in memory was acknowledged before the last restart.  Its
 * dispatch timeout counts from the transition.
 */
#include "engine/engine.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#define RECEIPTS 256                           /* fetched from the broker at once */
#define DEAD_LETTER_PAUSE (10 * USECS_PER_SEC) /* after a dead letter could not be sent */

static HTAB *deliveries;
static dlist_head waiting = DLIST_STATIC_INIT(waiting); /* the deliveries that wait */
static dlist_head sent = DLIST_STATIC_INIT(sent);       /* the others, without a receipt yet */
static int nwaiting = 0;
static uint64 last_number = 0;            /* the number of the newest delivery */
static pairingheap *watched;              /* see delivery_watch() */
static TimestampTz dead_letters_from = 0; /* when the next dead letter may be delivered */
static HTAB *recovered;                   /* event ids, see delivery_recover() */

/* ------------------------------------------------------------------------
 * Deliveries
 * ------------------------------------------------------------------------ */

static int
compare_until(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Delivery *x = pairingheap_const_container(Delivery, node, a);
	const Delivery *y = pairingheap_const_container(Delivery, node, b);

	return (x->until < y->until) - (x->until > y->until); /* the earliest time on top */
}

/* Start with no deliveries. */
void
delivery_init(void)
{
	HASHCTL ctl = {.keysize = sizeof(DeliveryKey), .entrysize = sizeof(Delivery), .hcxt = engine.context};
	HASHCTL ids = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(pg_uuid_t), .hcxt = engine.context};
	MemoryContext caller = MemoryContextSwitchTo(engine.context);

	deliveries = hash_create("eda deliveries", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	recovered = hash_create("eda recovered", 64, &ids, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	watched = pairingheap_allocate(compare_until, NULL);
	MemoryContextSwitchTo(caller);
}

static Delivery *
find_delivery(const pg_uuid_t *id, DeliveryKind kind)
{
	DeliveryKey key = {*id, kind};

	return hash_search(deliveries, &key, HASH_FIND, NULL);
}

/* The delivery of a dispatched event, or NULL. */
Delivery *
delivery_of(const pg_uuid_t *id)
{
	return find_delivery(id, DELIVERY_EVENT);
}

/* Set a delivery's state, and keep it in the list of that state if it waits or is sent. */
static void
set_state(Delivery *d, DeliveryState state)
{
	if (d->state == DELIVERY_WAITING || d->state == DELIVERY_SENT)
		dlist_delete(&d->queue);
	nwaiting += (state == DELIVERY_WAITING) - (d->state == DELIVERY_WAITING);
	d->state = state;
	if (state == DELIVERY_WAITING)
		dlist_push_tail(&waiting, &d->queue);
	else if (state == DELIVERY_SENT)
		dlist_push_tail(&sent, &d->queue);
}

static void
forget_delivery(Delivery *d)
{
	set_state(d, DELIVERY_NONE);
	if (d->key.kind == DELIVERY_EVENT)
		dlist_delete(&d->of_type);
	if (d->watched)
		pairingheap_remove(watched, &d->node);
	if (d->error)
		pfree(d->error);
	hash_search(deliveries, &d->key, HASH_REMOVE, NULL);
}

/* What identifies a delivery's message to the broker. */
BrokerTag
delivery_tag(const Delivery *d)
{
	BrokerTag tag;

	memcpy(tag.id, &d->key.event_id, UUID_LEN);
	tag.version = d->version;
	tag.kind = d->key.kind;
	return tag;
}

/* Make a delivery, which then waits.  Returns NULL if the event has one of this kind already. */
static Delivery *
add_delivery(const pg_uuid_t *id, DeliveryKind kind, int32 type, int leaf, TimestampTz wake_at)
{
	DeliveryKey key = {*id, kind};
	bool found;
	Delivery *d = hash_search(deliveries, &key, HASH_ENTER, &found);

	if (found)
		return NULL;
	memset((char *) d + sizeof(key), 0, sizeof(*d) - sizeof(key));
	d->type = type;
	d->leaf = leaf;
	d->wake_at = wake_at;
	d->number = ++last_number;
	set_state(d, DELIVERY_WAITING);
	return d;
}

/*
 * How many more deliveries can be made now.  Does not count the events whose dispatched
 * transition the tail has not read yet.
 */
int
delivery_room(void)
{
	return engine.broker == NULL || !engine.moves ? 0 : Max(broker_room(engine.broker) - nwaiting, 0);
}

/*
 * Make the delivery of a dead letter.  Returns false if the broker takes none now, or has not
 * acknowledged one of an earlier death of this event yet: then a cursor must find it later.
 */
bool
delivery_add_dead_letter(int32 type, const pg_uuid_t *id, int leaf, TimestampTz died_at)
{
	Delivery *d = find_delivery(id, DELIVERY_DEAD_LETTER);

	/*
	 * A delivery that still waits may have been made for an earlier death of this event.  Replace
	 * it by one with a new number: for the old number the WAL may be flushed up to the earlier
	 * death only.
	 */
	if (d && d->state != DELIVERY_WAITING)
		return false;
	if (d)
		forget_delivery(d);
	if (delivery_room() <= 0 || !engine_type(type)->dead_covered ||
	    (engine.now < dead_letters_from && engine.now >= dead_letters_from - DEAD_LETTER_PAUSE))
		return false;
	add_delivery(id, DELIVERY_DEAD_LETTER, type, leaf, died_at);
	return true;
}

static void
withdraw_delivery(Delivery *d)
{
	if (d->state == DELIVERY_SENT)
	{
		BrokerTag tag = delivery_tag(d);

		broker_withdraw(engine.broker, &tag);
	}
	forget_delivery(d);
}

/* Workers take this event from the ready queue now: remove its delivery, and do not send it. */
void
delivery_withdraw(const pg_uuid_t *id)
{
	Delivery *d = find_delivery(id, DELIVERY_EVENT);

	if (d)
		withdraw_delivery(d);
}

/* The event has got this transition: remove a delivery that is of an earlier version. */
void
delivery_forget(const Transition *t)
{
	Delivery *d = t->version > 1 ? find_delivery(&t->event_id, DELIVERY_EVENT) : NULL;

	if (d == NULL || d->version >= t->version)
		return;
	/* An event that was acquired needs no withdrawal: a worker has got the message. */
	if (t->state == EDA_BEING_PROCESSED)
		forget_delivery(d);
	else
		withdraw_delivery(d);
}

/* Make the delivery of a dispatched event. */
void
delivery_add_event(const Transition *t, int leaf)
{
	Delivery *d = add_delivery(&t->event_id, DELIVERY_EVENT, t->type, leaf, t->wake_at);

	/* If there was one, keep it if it is of this version, replace an earlier one. */
	if (d == NULL)
	{
		delivery_forget(t);
		d = add_delivery(&t->event_id, DELIVERY_EVENT, t->type, leaf, t->wake_at);
	}
	if (d == NULL)
		return;
	d->version = t->version;
	d->attempt = t->attempt;
	d->dispatched_at = t->at;
	d->expires_at = t->expires_at;
	d->check = engine.recovering;
	dlist_push_tail(&engine_type(t->type)->deliveries, &d->of_type);
}

/*
 * Queue the event of a delivery for a move when a time has come.  Needed if the broker
 * acknowledged it late: its dispatch timeout then ends after its wake_at, by which the deadline
 * index knows it.
 */
void
delivery_watch(Delivery *d, TimestampTz until)
{
	if (d->watched)
		return;
	d->until = until;
	d->watched = true;
	pairingheap_add(watched, &d->node);
}

/* When the next watched event is to be queued for a move; EDA_NEVER: none is watched. */
TimestampTz
delivery_next_watched(void)
{
	return pairingheap_is_empty(watched) ? EDA_NEVER
	                                     : pairingheap_container(Delivery, node, pairingheap_first(watched))->until;
}

static void
queue_for_move(const Delivery *d)
{
	Todo todo = {d->key.event_id, d->leaf};

	if (!todo_add(&todo.event_id, todo.leaf, NULL))
		todo_park(&todo, InvalidTransactionId, engine.now);
}

static void
queue_watched(void)
{
	while (delivery_next_watched() <= engine.now)
	{
		Delivery *d = pairingheap_container(Delivery, node, pairingheap_remove_first(watched));

		d->watched = false;
		queue_for_move(d);
	}
}

/* When the oldest of a type's events with a delivery was dispatched; EDA_NEVER: there is none. */
TimestampTz
delivery_oldest(EngineType *type)
{
	return dlist_is_empty(&type->deliveries)
	           ? EDA_NEVER
	           : dlist_container(Delivery, of_type, dlist_head_node(&type->deliveries))->dispatched_at;
}

/* ------------------------------------------------------------------------
 * Sending, for send.c
 * ------------------------------------------------------------------------ */

/* Whether a delivery is still to be sent: one made during recovery may be outdated. */
static bool
is_current(const Delivery *d)
{
	Transition later;

	return !d->check || !journal_find_transition(d->leaf, &d->key.event_id, d->version + 1, true, &later);
}

/* The number of the newest delivery. */
uint64
delivery_last_number(void)
{
	return last_number;
}

/*
 * Choose the first waiting deliveries: at most limit of them, with numbers up to last.  Returns
 * how many.  Removes those that are outdated.
 */
int
delivery_choose_waiting(Delivery **chosen, int limit, uint64 last)
{
	dlist_mutable_iter it;
	int n = 0;

	dlist_foreach_modify (it, &waiting)
	{
		Delivery *d = dlist_container(Delivery, queue, it.cur);

		if (n == limit || d->number > last)
			break;
		if (is_current(d))
			chosen[n++] = d;
		else
			forget_delivery(d);
	}
	return n;
}

/* The first waiting delivery, or NULL. */
Delivery *
delivery_first_waiting(void)
{
	return dlist_is_empty(&waiting) ? NULL : dlist_container(Delivery, queue, dlist_head_node(&waiting));
}

/* The message of a delivery has been handed over to the broker. */
void
delivery_mark_sent(Delivery *d)
{
	set_state(d, DELIVERY_SENT);
	elog(DEBUG2, "eda engine: handed event %s, version %d, over to the broker", uuid_text(&d->key.event_id),
	     d->version);
}

/* Remove a delivery that waits: there is nothing to send any more. */
void
delivery_drop(Delivery *d)
{
	forget_delivery(d);
}

/* ------------------------------------------------------------------------
 * Failures and receipts
 * ------------------------------------------------------------------------ */

/* Leave a dead letter to the cursor again, and deliver no dead letters for ten seconds. */
static void
postpone_dead_letter(Delivery *d)
{
	cursor_pull(&engine_type(d->type)->dead[d->leaf], d->wake_at, &d->key.event_id);
	dead_letters_from = engine.now + DEAD_LETTER_PAUSE;
	forget_delivery(d);
}

/*
 * The message of a delivery can never be sent (DELIVERY_REJECTED), or cannot be sent now
 * (DELIVERY_RETURNED).  Queue its event for a move: it fails, or is dispatched again later.
 */
void
delivery_mark_failed(Delivery *d, DeliveryState state, const char *error)
{
	if (d->key.kind == DELIVERY_DEAD_LETTER && state == DELIVERY_RETURNED)
		postpone_dead_letter(d);
	else if (d->key.kind == DELIVERY_DEAD_LETTER)
	{
		ereport(LOG, errmsg("eda engine: the dead letter of event %s cannot be sent: %s", uuid_text(&d->key.event_id),
		                    error));
		forget_delivery(d);
	}
	else
	{
		set_state(d, state);
		d->error = engine_nats_plain_text(MemoryContextStrdup(engine.context, error));
		queue_for_move(d);
	}
}

/* Process a receipt: the message is in the stream, has expired unsent, or cannot be sent. */
static void
process_receipt(const BrokerReceipt *r)
{
	Delivery *d = find_delivery((const pg_uuid_t *) r->tag.id, r->tag.kind);

	engine.changed = true;
	elog(DEBUG2, "eda engine: receipt for event %s, version %d, with verdict %d",
	     uuid_text((const pg_uuid_t *) r->tag.id), r->tag.version, r->verdict);
	if (d == NULL || d->state != DELIVERY_SENT || d->version != r->tag.version)
		return;
	if (r->verdict == BROKER_REJECTED)
		delivery_mark_failed(d, DELIVERY_REJECTED, r->error);
	else if (r->verdict == BROKER_UNCOVERED)
		delivery_mark_failed(d, DELIVERY_RETURNED, r->error);
	else if (d->key.kind == DELIVERY_DEAD_LETTER)
		forget_delivery(d);
	else
	{
		set_state(d, DELIVERY_ACKNOWLEDGED);
		d->since = engine.now;
		/*
		 * The dispatch timeout counts from now on.  The deadline cursor may have passed wake_at
		 * already, even if wake_at lies ahead: the clock can have stepped back.
		 */
		if (d->wake_at <= engine.now)
			delivery_watch(d, engine.now);
		else
			cursor_pull(&engine.deadline[d->leaf], d->wake_at, &d->key.event_id);
	}
}

/* Take over the broker's settings, its receipts and its state; inside a transaction. */
void
delivery_collect(void)
{
	BrokerReceipt receipts[RECEIPTS];
	int n;

	engine_nats_apply_settings();
	if (engine.broker == NULL)
		return;
	do
	{
		n = broker_receipts(engine.broker, receipts, RECEIPTS);
		if (n > 0)
			engine_nats_set_full(false);
		for (int i = 0; i < n; i++)
			process_receipt(&receipts[i]);
	} while (n == RECEIPTS);
	queue_watched();
	engine_nats_read_status(nwaiting);
}

/* ------------------------------------------------------------------------
 * For state.c: saved by one engine, loaded by the next
 * ------------------------------------------------------------------------ */

/*
 * The delivery of this event was not acknowledged when the state was saved.  Queue the event for
 * a move: if it is still dispatched, decide_move() makes the delivery again.
 */
void
delivery_recover(const pg_uuid_t *id)
{
	Todo todo = {*id, -1};

	hash_search(recovered, id, HASH_ENTER, NULL);
	todo_park(&todo, InvalidTransactionId, engine.now);
}

/* Take an event off the list that delivery_recover() made.  Returns false if it is not on it. */
bool
delivery_take_recovered(const pg_uuid_t *id)
{
	bool found = false;

	if (hash_get_num_entries(recovered) > 0)
		hash_search(recovered, id, HASH_REMOVE, &found);
	return found;
}

/* Take an event off the list that delivery_recover() made, if it is on it. */
void
delivery_forget_recovered(const pg_uuid_t *id)
{
	(void) delivery_take_recovered(id);
}

/* List the events whose deliveries are not acknowledged (palloc'd uuids).  Returns how many. */
int
delivery_unacknowledged(Datum **ids)
{
	dlist_head *const queues[] = {&sent, &waiting};
	HASH_SEQ_STATUS seq;
	dlist_iter it;
	pg_uuid_t *id;
	int n = 0;

	*ids = palloc(sizeof(Datum) * (hash_get_num_entries(deliveries) + hash_get_num_entries(recovered) + 1));
	for (int q = 0; q < (int) lengthof(queues); q++)
		dlist_foreach (it, queues[q])
		{
			Delivery *d = dlist_container(Delivery, queue, it.cur);

			if (d->key.kind == DELIVERY_EVENT)
				(*ids)[n++] = UUIDPGetDatum(&d->key.event_id);
		}
	hash_seq_init(&seq, recovered);
	while ((id = hash_seq_search(&seq)) != NULL)
		(*ids)[n++] = UUIDPGetDatum(id);
	return n;
}

/*
 * The earliest wake_at of the watched events of each leaf.  The heap is not saved, so the saved
 * deadline cursors must not be beyond these.
 */
void
delivery_oldest_deadlines(TimestampTz oldest[EDA_LEAVES])
{
	HASH_SEQ_STATUS seq;
	Delivery *d;

	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		oldest[leaf] = EDA_NEVER;
	if (pairingheap_is_empty(watched))
		return;
	hash_seq_init(&seq, deliveries);
	while ((d = hash_seq_search(&seq)) != NULL)
		if (d->watched)
			oldest[d->leaf] = Min(oldest[d->leaf], d->wake_at);
}

/*
 * Set EngineType.dead_since: where the saved cursor over dead letters has to stand, which is not
 * beyond the oldest dead letter that the broker has not acknowledged.
 */
void
delivery_mark_dead_since(void)
{
	dlist_head *const queues[] = {&sent, &waiting};
	dlist_iter it;

	for (int i = 0; i < engine.ntypes; i++)
		for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
			engine.types[i]->dead_since[leaf] = engine.types[i]->dead[leaf].key;
	for (int q = 0; q < (int) lengthof(queues); q++)
		dlist_foreach (it, queues[q])
		{
			Delivery *d = dlist_container(Delivery, queue, it.cur);
			EngineType *type = engine_type(d->type);

			if (d->key.kind == DELIVERY_DEAD_LETTER)
				type->dead_since[d->leaf] = Min(type->dead_since[d->leaf], d->wake_at);
		}
}
