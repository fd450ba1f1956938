/*
 * send.c
 *		Make messages of the deliveries that wait, and hand them over to the broker.
 *
 * Messages are made inside a transaction and handed over outside any.  broker_publish() takes
 * a message at once or not at all, so the engine never waits.  Before a message is handed over,
 * the WAL is flushed, so that a crash cannot undo what the message tells of.
 */
#include "engine/engine.h"

#include "access/xact.h"
#include "replication/message.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "replication/walsender_private.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#define BATCH 1000                    /* at most so many messages are made in a tick */
#define BATCH_BYTES (8 * 1024 * 1024) /* and no more after so many bytes of them */
#define MAX_PAUSE 100                 /* ms between two looks at the standbys */
#define READ_AT_ONCE 32               /* events in memory, each up to eda.max_payload_size */

static struct
{
	Delivery *delivery;
	BrokerMessage message;
} prepared[BATCH];
static int nprepared = 0;
static int batch_size = BATCH; /* messages in the next batch; halved by errors */

/*
 * Deliveries up to number "durable" may be handed over.  Those up to "flushing" may be, once
 * the standbys have flushed the WAL up to flushed_to; 0 if nothing waits for standbys.
 */
static uint64 durable = 0;
static uint64 flushing = 0;
static XLogRecPtr flushed_to = 0;
static int pause_ms = 1; /* see send_next_pause() */

/* Convert a time by eda's clock, which tests move, to us since 1970 by the system's clock. */
static int64
unix_time(TimestampTz t)
{
	if (t == EDA_NEVER)
		return 0;
	return GetCurrentTimestamp() + (t - engine.now) + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
}

/* Make the message of a delivery.  Returns false if there is nothing to send. */
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
			delivery_mark_failed(d, DELIVERY_REJECTED, "some of its text cannot be converted to UTF-8");
			return false;
		case MESSAGE_OBSOLETE:
			delivery_drop(d);
			return false;
	}
	return false;
}

/*
 * Make the messages of the first waiting deliveries, at most limit of them, fewer if they are
 * large.  They live in the tick's memory.
 */
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
 * Make the next messages.  Returns false if that raised an error.  Then the next batch is half as
 * large, down to the one event that causes the error.  That event is dispatched again later,
 * because the cause may be gone by then.
 */
static bool
prepare_safely(int limit)
{
	volatile bool good = false;
	int n = Min(limit, batch_size);

	nprepared = 0;
	PG_TRY();
	{
		xact_begin();
		PushActiveSnapshot(GetTransactionSnapshot());
		if (xact_lock_log())
			prepare_batch(n);
		PopActiveSnapshot();
		xact_commit();
		batch_size = Min(2 * batch_size, BATCH);
		good = true;
	}
	PG_CATCH();
	{
		nprepared = 0;
		xact_recover(engine.tick, "could not make messages");
		if (n == 1 && delivery_first_waiting() != NULL)
			delivery_mark_failed(delivery_first_waiting(), DELIVERY_RETURNED,
			                     "its message could not be made; the server log has the error");
		batch_size = Max(n / 2, 1);
	}
	PG_END_TRY();
	return good;
}

/* ------------------------------------------------------------------------
 * What a message tells of must survive a crash
 * ------------------------------------------------------------------------ */

/*
 * Flush the WAL, so that all that was committed up to now survives a crash, and so all that the
 * messages of the deliveries up to now tell of.  A commit flushes only if its transaction has an
 * xid and has written something; the logical message does both.
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

/*
 * Whether synchronous standbys, if any are configured, have flushed the WAL up to lsn.  A commit
 * could wait for that itself, but the engine must not wait.
 */
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

/* Find out up to which number deliveries may be handed over; flush the WAL if need be. */
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

/*
 * In how many ms to look again whether the standbys have flushed; -1: nothing waits for them.
 * They do not wake the engine.  The pause doubles with each call, up to MAX_PAUSE.
 */
int
send_next_pause(void)
{
	if (flushing == 0)
		return -1;
	return pause_ms = Min(2 * pause_ms, MAX_PAUSE);
}

/*
 * Hand the messages of waiting deliveries over to the broker, as many as it takes; outside any
 * transaction.  Returns whether to try again at once, after an error.
 */
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
