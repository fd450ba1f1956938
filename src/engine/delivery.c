/*
 * delivery.c
 *		The engine's side of the broker: what is handed to it, what comes back.
 *
 * A delivery lives from the moment a dispatched transition has committed until
 * the log shows what became of the event.  It waits, is handed over (with no
 * transaction open, and only after everything it says has reached the disk), and
 * is acknowledged; from then on the dispatch timeout counts.  The broker sends
 * again by itself what gets lost on its way, so what is handed over is done with
 * here.
 *
 * After a restart the deliveries without an acknowledgement are found again: by
 * the saved list, and, for those dispatched since it was saved, by the tail.  They
 * go out with the same message id.  Dead letters need no list: a cursor over
 * their index is saved, not beyond the oldest one that is not acknowledged.
 *
 * What is dispatched and acknowledged, and not here, was acknowledged before a
 * restart: its deadline is that of the dispatched transition.
 */
#include "engine/engine.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#define RECEIPTS 256
#define PUT_OFF (10 * USECS_PER_SEC)

static HTAB *deliveries;
static dlist_head waiting = DLIST_STATIC_INIT(waiting); /* to be handed over */
static dlist_head sent = DLIST_STATIC_INIT(sent);       /* handed over, without a receipt */
static int nwaiting = 0;
static uint64 last_number = 0;
static pairingheap *watched;              /* acknowledged later than their deadline was set for */
static TimestampTz dead_letters_from = 0; /* not before */
static HTAB *recovered;                   /* event ids, unacknowledged before a restart, to be looked at */

/* ------------------------------------------------------------------------
 * Deliveries
 * ------------------------------------------------------------------------ */

static int
compare_until(const pairingheap_node *a, const pairingheap_node *b, void *arg)
{
	const Delivery *x = pairingheap_const_container(Delivery, node, a);
	const Delivery *y = pairingheap_const_container(Delivery, node, b);

	return (x->until < y->until) - (x->until > y->until); /* the first one on top */
}

/* Start with nothing to deliver. */
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

/* Whoever waits or is sent is in the queue of that name. */
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

/* What the broker knows it by. */
BrokerTag
delivery_tag(const Delivery *d)
{
	BrokerTag tag;

	memcpy(tag.id, &d->key.event_id, UUID_LEN);
	tag.version = d->version;
	tag.kind = d->key.kind;
	return tag;
}

/* A new delivery, that waits; NULL if there is one already. */
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

/* How many messages more the broker takes: what is dispatched and not seen yet comes on top. */
int
delivery_room(void)
{
	return engine.broker == NULL || !engine.moves ? 0 : Max(broker_room(engine.broker) - nwaiting, 0);
}

/* Have a dead letter told; false if the broker takes none now, or an earlier death is on its way still. */
bool
delivery_add_dead_letter(int32 type, const pg_uuid_t *id, int leaf, TimestampTz died_at)
{
	Delivery *d = find_delivery(id, DELIVERY_DEAD_LETTER);

	/* One that waits is of an earlier death, if it is not this one: it may say no more than has been flushed. */
	if (d && d->state != DELIVERY_WAITING)
		return false;
	if (d)
		forget_delivery(d);
	if (delivery_room() <= 0 || !engine_type(type)->dead_covered ||
	    (engine.now < dead_letters_from && engine.now >= dead_letters_from - PUT_OFF))
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

/* Workers take this event from the database now: leave it to them. */
void
delivery_withdraw(const pg_uuid_t *id)
{
	Delivery *d = find_delivery(id, DELIVERY_EVENT);

	if (d)
		withdraw_delivery(d);
}

/* The log has this transition of an event: a delivery of an earlier version is settled. */
void
delivery_forget(const Transition *t)
{
	Delivery *d = t->version > 1 ? find_delivery(&t->event_id, DELIVERY_EVENT) : NULL;

	if (d == NULL || d->version >= t->version)
		return;
	/* Who has acquired it has had the message. */
	if (t->state == EDA_BEING_PROCESSED)
		forget_delivery(d);
	else
		withdraw_delivery(d);
}

/* Have a dispatched event handed to the broker. */
void
delivery_add_event(const Transition *t, int leaf)
{
	Delivery *d = add_delivery(&t->event_id, DELIVERY_EVENT, t->type, leaf, t->wake_at);

	/* There is one: the same, or of an earlier version. */
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

/* Have an event looked at when a time has come that no index knows. */
void
delivery_watch(Delivery *d, TimestampTz until)
{
	if (d->watched)
		return;
	d->until = until;
	d->watched = true;
	pairingheap_add(watched, &d->node);
}

/* When the next of those is to be looked at. */
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

/* When the oldest of a type that waits for a worker was dispatched; EDA_NEVER: none is known. */
TimestampTz
delivery_oldest(EngineType *type)
{
	return dlist_is_empty(&type->deliveries)
	           ? EDA_NEVER
	           : dlist_container(Delivery, of_type, dlist_head_node(&type->deliveries))->dispatched_at;
}

/* ------------------------------------------------------------------------
 * What goes out
 * ------------------------------------------------------------------------ */

/* Whether a message found after a restart is still to be sent. */
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

/* The first deliveries that wait, up to a number, at most limit of them; how many. */
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

/* The first delivery that waits; NULL: none does. */
Delivery *
delivery_first_waiting(void)
{
	return dlist_is_empty(&waiting) ? NULL : dlist_container(Delivery, queue, dlist_head_node(&waiting));
}

/* The broker has it. */
void
delivery_mark_sent(Delivery *d)
{
	set_state(d, DELIVERY_SENT);
	elog(DEBUG2, "eda engine: handed event %s, version %d, to the broker", uuid_text(&d->key.event_id), d->version);
}

/* There is nothing to deliver any more. */
void
delivery_drop(Delivery *d)
{
	forget_delivery(d);
}

/* ------------------------------------------------------------------------
 * What comes back
 * ------------------------------------------------------------------------ */

/* Leave a dead letter to its index again, and that alone for a while. */
static void
put_off_dead_letter(Delivery *d)
{
	cursor_pull(&engine_type(d->type)->dead[d->leaf], d->wake_at, &d->key.event_id);
	dead_letters_from = engine.now + PUT_OFF;
	forget_delivery(d);
}

/* It can never be delivered (DELIVERY_REJECTED), or not now (DELIVERY_RETURNED): the event moves on accordingly. */
void
delivery_mark_failed(Delivery *d, DeliveryState state, const char *error)
{
	if (d->key.kind == DELIVERY_DEAD_LETTER && state == DELIVERY_RETURNED)
		put_off_dead_letter(d);
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

static void
use_receipt(const BrokerReceipt *r)
{
	Delivery *d = find_delivery((const pg_uuid_t *) r->tag.id, r->tag.kind);

	engine.changed = true;
	elog(DEBUG2, "eda engine: the broker's receipt for event %s, version %d: %d",
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
		/* Its deadline may have come and gone while the broker had it, by a clock that has since stepped back. */
		if (d->wake_at <= engine.now)
			delivery_watch(d, engine.now);
		else
			cursor_pull(&engine.deadline[d->leaf], d->wake_at, &d->key.event_id);
	}
}

/* Take the broker's receipts and its state; inside a transaction. */
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
			use_receipt(&receipts[i]);
	} while (n == RECEIPTS);
	queue_watched();
	engine_nats_read_status(nwaiting);
}

/* ------------------------------------------------------------------------
 * What survives a restart
 * ------------------------------------------------------------------------ */

/* An event that was not acknowledged when the state was saved: look at it. */
void
delivery_recover(const pg_uuid_t *id)
{
	Todo todo = {*id, -1};

	hash_search(recovered, id, HASH_ENTER, NULL);
	todo_park(&todo, InvalidTransactionId, engine.now);
}

/* Take an event off the list of those that delivery_recover() was told of; false if it is not on it. */
bool
delivery_take_recovered(const pg_uuid_t *id)
{
	bool found = false;

	if (hash_get_num_entries(recovered) > 0)
		hash_search(recovered, id, HASH_REMOVE, &found);
	return found;
}

/* Take an event off that list, if it is on it. */
void
delivery_forget_recovered(const pg_uuid_t *id)
{
	(void) delivery_take_recovered(id);
}

/* The events that were dispatched and not acknowledged; how many. */
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

/* From where on the deadline index of each leaf has entries of events that are watched here instead. */
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

/* Note at each event type when the oldest dead letter died that the broker has not acknowledged. */
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
