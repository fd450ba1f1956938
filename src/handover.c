/*
 * handover.c
 *		Make messages of what waits for the broker, and hand them over.
 *
 * Made inside a transaction and handed over outside of any: the broker takes them
 * at once, or not at all.  What is said in them must be on disk before.
 */
#include "engine.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "replication/message.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define BATCH 1000                    /* messages made in a tick */
#define BATCH_BYTES (8 * 1024 * 1024) /* of them */
#define READ_AT_ONCE 32               /* events, each up to eda.max_payload_size */

static struct
{
	Delivery *delivery;
	BrokerMessage message;
} prepared[BATCH];
static int nprepared = 0;

/* The messages' time is that of the system's clock, whatever tests have done to eda's. */
static int64
unix_time(TimestampTz t)
{
	if (t == EDA_NEVER)
		return 0;
	return GetCurrentTimestamp() + (t - engine.now) + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
}

/* Make the message of a delivery; false if there is nothing to send any more. */
static bool
prepare(Delivery *d, const Event *event, BrokerMessage *message)
{
	size_t limit = outlet_max_message();
	size_t size;

	memset(message, 0, sizeof(*message));
	if (d->key.kind == DELIVERY_EVENT)
		message_of_event(event, d, message);
	else if (!message_of_dead_letter(event, d, limit, message))
	{
		deliver_drop(d); /* redriven meanwhile */
		return false;
	}
	message->tag = deliver_tag(d);
	message->expires_at = d->key.kind == DELIVERY_EVENT ? unix_time(d->expires_at) : 0;
	size = message_size(message);
	if (size <= limit)
		return true;
	deliver_fail(d, DELIVERY_REJECTED, psprintf("message of %zu bytes: the broker takes %zu", size, limit));
	return false;
}

/* Make the messages of the first that wait, at most limit of them, fewer if they are large; in the tick's memory. */
static void
prepare_batch(int limit)
{
	Delivery **chosen = palloc(sizeof(Delivery *) * limit);
	int n = deliver_waiting(chosen, limit);
	size_t bytes = 0;

	for (int first = 0; first < n && bytes < BATCH_BYTES; first += READ_AT_ONCE)
	{
		JournalStep steps[READ_AT_ONCE] = {0};
		Event events[READ_AT_ONCE];
		int count = Min(n - first, READ_AT_ONCE);

		for (int i = 0; i < count; i++)
		{
			steps[i].event_id = chosen[first + i]->key.event_id;
			steps[i].leaf = chosen[first + i]->leaf;
			steps[i].status = JOURNAL_APPENDED;
		}
		journal_step_events(steps, count, true, events);
		for (int i = 0; i < count; i++)
		{
			prepared[nprepared].delivery = chosen[first + i];
			if (!prepare(chosen[first + i], &events[i], &prepared[nprepared].message))
				continue;
			bytes += prepared[nprepared].message.body_length;
			nprepared++;
		}
	}
}

/*
 * Make the next messages, in a transaction that flushes all that was committed
 * up to now, on replicas too: what leaves the building must survive a crash.
 * An error halves the batch down to the event that causes it, which comes back to
 * be dispatched later: the cause may be gone by then.
 */
static void
prepare_durably(int limit)
{
	static int batch = BATCH;
	int n = Min(limit, batch);

	nprepared = 0;
	PG_TRY();
	{
		engine_begin();
		PushActiveSnapshot(GetTransactionSnapshot());
		if (engine_lock())
			prepare_batch(n);
		PopActiveSnapshot();
		if (nprepared > 0)
		{
			/* A commit is flushed, and waits for replicas, only where the transaction wrote something, besides having an xid. */
			(void) LogLogicalMessage_compat("eda", "", 1, true);
			(void) set_config_option("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
			                         false);
		}
		engine_commit();
		batch = Min(2 * batch, BATCH);
	}
	PG_CATCH();
	{
		nprepared = 0;
		engine_recover_from_error(engine.tick, "could not make messages");
		if (n == 1 && deliver_first_waiting() != NULL)
			deliver_fail(deliver_first_waiting(), DELIVERY_RETURNED,
			             "no message could be made of it; the server's log says why");
		batch = Max(n / 2, 1);
	}
	PG_END_TRY();
}

/* Hand the broker what waits, as much as it takes; outside of any transaction. */
void
handover_run(void)
{
	int room = engine.broker == NULL || !engine.moves || engine.broker_full ? 0 : broker_room(engine.broker);

	if (room <= 0 || deliver_first_waiting() == NULL)
		return;
	prepare_durably(room);
	/* Ended while it waited for a replica: then it has not waited to the end. */
	CHECK_FOR_INTERRUPTS();
	for (int i = 0; i < nprepared; i++)
	{
		Delivery *d = prepared[i].delivery;

		if (!broker_publish(engine.broker, &prepared[i].message))
		{
			engine.broker_full = true;
			break;
		}
		deliver_sent(d);
	}
	broker_flush(engine.broker);
	nprepared = 0;
}
