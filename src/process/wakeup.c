/*
 * wakeup.c
 *		Wake the engine when a transaction that appended to the log commits.
 *
 * It sets a latch instead of using NOTIFY, because all commits of a cluster that notify wait
 * for one lock.
 */
#include "process/process.h"

#include "access/xact.h"
#include "miscadmin.h"

/* How often a backend tells the launcher that its database has no engine. */
#define REQUEST_INTERVAL_MS 10000

static bool wakeup_wanted = false;

/* Wake the engine because the log has grown; if there is no engine, ask the launcher for one. */
static void
wakeup_now(void)
{
	EngineArea *area = shmem_my_area();

	if (area != NULL && area->engine_pid == MyProcPid)
		return; /* the engine itself reads its own writes in its next tick */
	if (area != NULL && area->engine_pid != 0)
		shmem_wake_engine(area);
	else
		wakeup_request_engine();
}

/*
 * When the commit callback runs, the rows are already visible.  COMMIT PREPARED calls no such
 * callback: the engine finds the rows of a prepared transaction when it next wakes up by
 * itself, within a second.
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

/* Wake the engine when this transaction commits. */
void
wakeup_at_commit(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(wakeup_xact_callback, NULL);
	registered = true;
	wakeup_wanted = true;
}

/*
 * Ask the launcher for an engine of this database, at most every 10 s: it may have a reason to
 * run none.
 */
void
wakeup_request_engine(void)
{
	static TimestampTz requested_at = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (eda_shmem == NULL || eda_engine_mode == EDA_ENGINE_OFF ||
	    !TimestampDifferenceExceeds(requested_at, now, REQUEST_INTERVAL_MS))
		return;
	requested_at = now;
	attach_request_engine(MyDatabaseId, REQUEST_SOON);
}
