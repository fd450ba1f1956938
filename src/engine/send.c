/*
 * send.c
 *		Make messages of what waits for the broker, and hand them over.
 *
 * Made inside a transaction and handed over outside of any: the broker takes them
 * at once, or not at all.  What is said in them must be on disk before.
 */
#include "engine/engine.h"

#include "access/xact.h"
#include "replication/message.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#define BATCH 1000                    /* messages made in a tick */
#define BATCH_BYTES (8 * 1024 * 1024) /* of them */
#define MAX_PAUSE 100                 /* ms */
#define READ_AT_ONCE 32               /* events, each up to eda.max_payload_size */

static struct
{
	Delivery *delivery;
	BrokerMessage message;
} prepared[BATCH];
static int nprepared = 0;
static uint64 durable = 0;  /* deliveries up to this number may leave */
static uint64 flushing = 0; /* those up to this one when standbys have the log up to flushed_to; 0: none */
static XLogRecPtr flushed_to = 0;
static int pause_ms = 1;
static int batch = BATCH; /* messages, halved by errors */

/* The messages' time is that of the system's clock, whatever tests have done to eda's. */
static int64
unix_time(TimestampTz t)
{
	if (t == EDA_NEVER)
		return 0;
	return GetCurrentTimestamp() + (t - engine.now) + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
}

/* Make the message of a delivery; false if there is nothing to send (any more). */
static bool
prepare_message(Delivery *d, const Event *event, BrokerMessage *message)
{
	bool dead = d->key.kind == DELIVERY_DEAD_LETTER;
	size_t limit = engine_nats_max_message();

	memset(message, 0, sizeof(*message));
	message->expires_at = dead ? 0 : unix_time(d->expires_at);
	switch ((dead ? message_of_dead_letter : message_of_event)(event, d, limit, message))
	{
		case MESSAGE_MADE:
			message->tag = delivery_tag(d);
			return true;
		case MESSAGE_TOO_LARGE:
			delivery_mark_failed(d, DELIVERY_REJECTED,
			                     psprintf("larger than the %zu bytes that the broker takes", limit));
			return false;
		case MESSAGE_NOT_UTF8:
			delivery_mark_failed(d, DELIVERY_REJECTED, "some of it cannot be said in UTF-8");
			return false;
		case MESSAGE_NOT_ANY_MORE:
			delivery_drop(d);
			return false;
	}
	return false;
}

/* Make the messages of the first that wait, at most limit of them, fewer if they are large; in the tick's memory. */
static void
prepare_batch(int limit)
{
	Delivery **chosen = palloc(sizeof(Delivery *) * limit);
	int n = delivery_choose_waiting(chosen, limit, durable);
	size_t bytes = 0;

	for (int first = 0; first < n && bytes < BATCH_BYTES; first += READ_AT_ONCE)
	{
		EventRef refs[READ_AT_ONCE];
		Event events[READ_AT_ONCE];
		int count = Min(n - first, READ_AT_ONCE);

		for (int i = 0; i < count; i++)
			refs[i] = (EventRef){chosen[first + i]->key.event_id, chosen[first + i]->leaf};
		journal_read_events(refs, count, true, events);
		for (int i = 0; i < count && bytes < BATCH_BYTES; i++)
		{
			prepared[nprepared].delivery = chosen[first + i];
			if (!prepare_message(chosen[first + i], &events[i], &prepared[nprepared].message))
				continue;
			bytes += prepared[nprepared].message.body_length;
			nprepared++;
		}
	}
}

/*
 * Make the next messages.  An error halves the batch down to the event that causes
 * it, which comes back to be dispatched later: the cause may be gone by then.
 * False: there was one.
 */
static bool
prepare_safely(int limit)
{
	volatile bool good = false;
	int n = Min(limit, batch);

	nprepared = 0;
	PG_TRY();
	{
		xact_begin();
		PushActiveSnapshot(GetTransactionSnapshot());
		if (xact_lock_log())
			prepare_batch(n);
		PopActiveSnapshot();
		xact_commit();
		batch = Min(2 * batch, BATCH);
		good = true;
	}
	PG_CATCH();
	{
		nprepared = 0;
		xact_recover(engine.tick, "could not make messages");
		if (n == 1 && delivery_first_waiting() != NULL)
			delivery_mark_failed(delivery_first_waiting(), DELIVERY_RETURNED,
			                     "no message could be made of it; the server's log says why");
		batch = Max(n / 2, 1);
	}
	PG_END_TRY();
	return good;
}

/* ------------------------------------------------------------------------
 * What leaves must survive a crash
 * ------------------------------------------------------------------------ */

/*
 * Flush all that was committed up to now, so also all that the deliveries up to
 * now say.  A commit is flushed only where its transaction wrote something, besides
 * having an xid.
 */
static void
flush_log(void)
{
	xact_begin();
	(void) LogLogicalMessage_compat("eda", "", 1, true);
	(void) set_config_option("synchronous_commit", "local", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
	                         false);
	xact_commit();
	flushing = delivery_last_number();
	flushed_to = XactLastCommitEnd;
	pause_ms = 1;
}

/* Whether synchronous standbys have the log up to there, if there are to be any.  A commit would wait for it; the engine waits for nobody. */
static bool
standbys_have(XLogRecPtr lsn)
{
	bool have;

	if (max_wal_senders == 0 || SyncRepStandbyNames == NULL || SyncRepStandbyNames[0] == '\0')
		return true;
	LWLockAcquire(SyncRepLock, LW_SHARED);
	have = WalSndCtl->lsn[SYNC_REP_WAIT_FLUSH] >= lsn;
	LWLockRelease(SyncRepLock);
	return have;
}

/* Find out up to which number deliveries may leave. */
static void
make_durable(void)
{
	if (flushing == 0 && delivery_last_number() > durable)
		flush_log();
	if (flushing > 0 && standbys_have(flushed_to))
	{
		durable = flushing;
		flushing = 0;
	}
}

/* After how many ms to look whether a standby has got what is to leave: it does not wake us.  -1: there is nothing of that kind. */
int
send_next_pause(void)
{
	if (flushing == 0)
		return -1;
	return pause_ms = Min(2 * pause_ms, MAX_PAUSE);
}

/* Hand the broker what waits, as much as it takes; outside of any transaction.  Whether to try again at once. */
bool
send_waiting(void)
{
	int room = engine.broker == NULL || !engine.moves || engine_nats_is_full() ? 0 : broker_room(engine.broker);
	const Delivery *first = delivery_first_waiting();

	if (first == NULL || room <= 0)
	{
		flushing = 0;
		return false;
	}
	make_durable();
	if (first->number > durable)
		return false;
	if (!prepare_safely(room))
		return true;
	for (int i = 0; i < nprepared; i++)
	{
		if (!broker_publish(engine.broker, &prepared[i].message))
		{
			engine_nats_set_full(true);
			break;
		}
		delivery_mark_sent(prepared[i].delivery);
	}
	broker_flush(engine.broker);
	return false;
}
