/*
 * queue.c
 *		The workers' side of the ready queue.
 *
 * What a transaction pops comes back if that transaction, or the subtransaction
 * that popped it, rolls back: the entry is marked RETURNED and the engine
 * decides what becomes of the event.  A commit needs nothing: the engine sees
 * the new transition in the log and frees the entry.  Entries are checked by
 * generation, because the engine may have reused one meanwhile.
 */
#include "api/api.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* Of libpq/libpq.h, which cannot be included without the headers of GSSAPI. */
extern bool pq_check_connection(void);

#define CHECK_CLIENT_MS 1000 /* how often a waiting session looks whether its client is there */

typedef struct Pop
{
	int offer;
	uint32 generation;
	SubTransactionId subid;
} Pop;

/* What this transaction has popped. */
static Pop *pops = NULL;
static int npops = 0;
static int max_pops = 0;

/* ------------------------------------------------------------------------
 * Giving back
 * ------------------------------------------------------------------------ */

/* Move an entry that is still ours out of POPPED, and let the engine know. */
static void
give_offer_back(int offer, uint32 generation, OfferState state)
{
	EngineArea *area = shmem_my_area();
	Offer *o;

	if (area == NULL)
		return;
	o = &area_offers(area)[offer];
	LWLockAcquire(&area->lock, LW_EXCLUSIVE);
	if (area->database == MyDatabaseId && o->generation == generation && o->state == OFFER_POPPED)
	{
		o->state = state;
		area_queues(area)[o->queue].popped--;
		area->offers_need_look = true;
	}
	LWLockRelease(&area->lock);
	shmem_wake_engine(area);
}

/* At the end of a transaction: keep nothing; give back what was popped if it rolled back. */
static void
queue_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		for (int i = 0; i < npops; i++)
			give_offer_back(pops[i].offer, pops[i].generation, OFFER_RETURNED);
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		npops = 0;
}

static void
queue_subxact_callback(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int kept = 0;

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	for (int i = 0; i < npops; i++)
	{
		if (pops[i].subid == mine && event == SUBXACT_EVENT_ABORT_SUB)
		{
			give_offer_back(pops[i].offer, pops[i].generation, OFFER_RETURNED);
			continue;
		}
		if (pops[i].subid == mine)
			pops[i].subid = parent;
		pops[kept++] = pops[i];
	}
	npops = kept;
}

/* Make room to remember n more entries, before any is popped. */
static void
reserve_pops(int n)
{
	static bool registered = false;
	int size = Max(npops + n, 2 * max_pops);

	if (!registered)
	{
		RegisterXactCallback(queue_xact_callback, NULL);
		RegisterSubXactCallback(queue_subxact_callback, NULL);
		registered = true;
	}
	if (npops + n <= max_pops)
		return;
	pops = pops == NULL ? MemoryContextAlloc(TopMemoryContext, sizeof(Pop) * size)
	                    : repalloc_huge(pops, sizeof(Pop) * size);
	max_pops = size; /* not before: there may be no memory, and the session goes on */
}

/* ------------------------------------------------------------------------
 * Taking
 * ------------------------------------------------------------------------ */

/* The area, if what is on offer in it is of this log. */
static EngineArea *
area_of_log(void)
{
	EngineArea *area = shmem_my_area();

	return area != NULL && area->extension == catalog_get(false)->extension ? area : NULL;
}

/*
 * Take up to max events of a flow type from the ready queue, the highest
 * priority first; how many.  The events may have moved on meanwhile: look.
 */
int
queue_pop(const char *flow_type, int max, Popped *out)
{
	EngineArea *area = area_of_log();
	TimestampTz now = clock_now();
	FlowQueue *queue;
	int n = 0;

	if (area == NULL)
		return 0;
	reserve_pops(max);
	LWLockAcquire(&area->lock, LW_EXCLUSIVE);
	queue = area->database == MyDatabaseId ? ready_queue_of(area, flow_type) : NULL;
	for (int priority = EDA_PRIORITIES - 1; queue && priority >= 0; priority--)
		while (n < max && queue->head[priority] >= 0)
		{
			int i = queue->head[priority];
			Offer *o = &area_offers(area)[i];

			ready_queue_unlink(area, i);
			o->state = OFFER_POPPED;
			o->since = now;
			queue->popped++;
			out[n++] = (Popped){i, o->generation, o->event_id, o->leaf, o->dispatched};
			pops[npops++] = (Pop){i, o->generation, GetCurrentSubTransactionId()};
		}
	LWLockRelease(&area->lock);
	return n;
}

/* Put back an event that could not be taken just now; the engine looks after it. */
void
queue_refuse(const Popped *p)
{
	give_offer_back(p->offer, p->generation, OFFER_REFUSED);
}

/* ------------------------------------------------------------------------
 * Waiting
 * ------------------------------------------------------------------------ */

typedef struct Waiter
{
	EngineArea *area;
	FlowQueue *queue;
	int wanted;
} Waiter;

static void
count_waiter(const Waiter *w, int sign)
{
	LWLockAcquire(&w->area->lock, LW_EXCLUSIVE);
	w->queue->waiting += sign;
	w->queue->wanted += sign * w->wanted;
	LWLockRelease(&w->area->lock);
}

static void
stop_waiting(int code, Datum arg)
{
	ConditionVariableCancelSleep();
	count_waiter((const Waiter *) DatumGetPointer(arg), -1);
}

/*
 * End the session if its client is gone: it must not take an event that nobody
 * would ever see, which would cost an attempt and a whole lease.
 */
static void
check_client(void)
{
	if (MyProcPort == NULL || whereToSendOutput != DestRemote || pq_check_connection())
		return;
	ClientConnectionLost = true;
	InterruptPending = true;
	CHECK_FOR_INTERRUPTS();
}

/* Sleep until the queue has something; false if the time has come, or the area is another database's now. */
static bool
sleep_in_queue(const Waiter *w, TimestampTz until)
{
	for (;;)
	{
		long ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		bool ready;

		/* Be on the list before looking, in each turn: check_client() may swallow a wake-up. */
		ConditionVariablePrepareToSleep(&w->queue->ready);
		LWLockAcquire(&w->area->lock, LW_SHARED);
		ready = w->queue->queued > 0;
		LWLockRelease(&w->area->lock);
		if (ready || ms <= 0 || w->area->database != MyDatabaseId)
			return ready;
		(void) ConditionVariableTimedSleep(&w->queue->ready, Min(ms, CHECK_CLIENT_MS), PG_WAIT_EXTENSION);
		ConditionVariableCancelSleep();
		check_client();
	}
}

/*
 * Sleep until the flow type's queue has something or the time (of the system's
 * clock) has come; false then.  The wait shows in the queue's count of waiting
 * workers, also by which the engine sizes its window.
 */
bool
queue_wait(const char *flow_type, int wanted, TimestampTz until)
{
	Waiter w = {area_of_log(), NULL, wanted};
	bool ready = false;

	if (w.area)
	{
		LWLockAcquire(&w.area->lock, LW_EXCLUSIVE);
		w.queue = w.area->database == MyDatabaseId ? ready_queue_of(w.area, flow_type) : NULL;
		LWLockRelease(&w.area->lock);
	}
	if (w.queue == NULL)
	{
		/* No engine has run yet: look again in a moment. */
		wakeup_request_engine();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 100, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		return GetCurrentTimestamp() < until;
	}

	count_waiter(&w, +1);
	PG_ENSURE_ERROR_CLEANUP(stop_waiting, PointerGetDatum(&w));
	{
		ready = sleep_in_queue(&w, until);
	}
	PG_END_ENSURE_ERROR_CLEANUP(stop_waiting, PointerGetDatum(&w));
	stop_waiting(0, PointerGetDatum(&w));
	return ready;
}
