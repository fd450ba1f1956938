/*
 * wakeup.c
 *		Wake the engine when a transaction that appended to the log commits.
 *
 * A latch and not NOTIFY: all notifying commits of a cluster wait for one lock.
 */
#include "process/process.h"

#include "access/xact.h"
#include "miscadmin.h"

/* How often a backend tells the launcher that its database has no engine. */
#define WISH_INTERVAL_MS 10000

static bool wakeup_wanted = false;

/* Tell the engine that the log has grown, or the launcher that there is no engine. */
static void
wakeup_now(void)
{
	EngineArea *area = shmem_my_area();

	if (area != NULL && area->engine_pid == MyProcPid)
		return; /* it reads its own writes in the next tick */
	if (area != NULL && area->engine_pid != 0)
		shmem_wake_engine(area);
	else
		wakeup_wish_engine();
}

/*
 * At commit the rows are visible before this is called.  A prepared transaction
 * is not: the engine's timer finds what it wrote.
 */
static void
wakeup_xact_callback(XactEvent event, void *arg)
{
	bool wanted = wakeup_wanted;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	wakeup_wanted = false;
	if (wanted && event == XACT_EVENT_COMMIT)
		wakeup_now();
}

/* Have the engine woken when this transaction commits. */
void
wakeup_at_commit(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(wakeup_xact_callback, NULL);
	registered = true;
	wakeup_wanted = true;
}

/* Ask the launcher for this database's engine, but not at every turn: it may be its choice that there is none. */
void
wakeup_wish_engine(void)
{
	static TimestampTz wished_at = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (eda_shmem == NULL || eda_engine_mode == EDA_ENGINE_OFF ||
	    !TimestampDifferenceExceeds(wished_at, now, WISH_INTERVAL_MS))
		return;
	wished_at = now;
	attach_wish(MyDatabaseId, WISH_SOON);
}
