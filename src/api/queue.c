/*
 * queue.c
 *		The workers' side of the ready queue.
 *
 * An offer that a transaction has popped goes back if that transaction, or the subtransaction
 * that popped it, rolls back: the offer is marked OFFER_RETURNED, and the engine decides what
 * becomes of the event.  At commit there is nothing to do: the engine reads the new transition
 * in the log and frees the offer.  The engine may have used its place for another offer since;
 * then the generation has changed.
 */
#include "api/api.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* libpq/libpq.h declares this, but cannot be included without the headers of GSSAPI. */
extern bool pq_check_connection(void);

#define CHECK_CLIENT_MS 1000 /* how often a waiting session checks its connection */

typedef struct Pop
{
	int offer;
	uint32 generation;
	SubTransactionId subid;
} Pop;

/* The offers that this transaction has popped. */
static Pop *pops = NULL;
static int npops = 0;
static int max_pops = 0;

/* ------------------------------------------------------------------------
 * Giving back
 * ------------------------------------------------------------------------ */

/*
 * Give an offer back to the engine in the state OFFER_RETURNED or OFFER_REFUSED, if we still
 * have it.
 */
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

/* At the end of a transaction, forget its offers; if it rolled back, give them back first. */
static void
queue_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		for (int i = 0; i < npops; i++)
			give_offer_back(pops[i].offer, pops[i].generation, OFFER_RETURNED);
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		npops = 0;
}

/*
 * At the end of a subtransaction, give its offers back if it rolled back; if it committed, they
 * are its parent's from now on.
 */
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

/*
 * Make room to remember n more offers.  This comes before they are popped, because it may
 * raise an error.
 */
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
	max_pops = size; /* not earlier: if there is no memory, the array keeps its old size */
}

/* ------------------------------------------------------------------------
 * Popping
 * ------------------------------------------------------------------------ */

/*
 * This database's area; NULL if there is none, or if its offers are of an extension that was
 * dropped since.
 */
static EngineArea *
area_of_log(void)
{
	EngineArea *area = shmem_my_area();

	return area != NULL && area->extension == catalog_get(false)->extension ? area : NULL;
}

/*
 * Pop up to max offers of a flow type from the ready queue, those with the highest priority
 * first.  Returns how many there were.  The events may have moved on since they were offered,
 * so the caller has to check them.
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

/* Give back an offer whose event could not be acquired; the engine decides what becomes of it. */
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
	int wanted; /* how many events the worker has asked for */
} Waiter;

/* Add the waiter to the queue's counts (sign is 1), or take it off (-1). */
static void
count_waiter(const Waiter *w, int sign)
{
	LWLockAcquire(&w->area->lock, LW_EXCLUSIVE);
	w->queue->waiting += sign;
	w->queue->wanted += sign * w->wanted;
	LWLockRelease(&w->area->lock);
}

/* Undo count_waiter(); also called if there is an error, or if the process exits. */
static void
stop_waiting(int code, Datum arg)
{
	ConditionVariableCancelSleep();
	count_waiter((const Waiter *) DatumGetPointer(arg), -1);
}

/*
 * End the session if its client is gone.  Otherwise it would acquire an event and send it to
 * nobody, which costs the event an attempt, and a whole lease before the next one.
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

/*
 * Sleep until the queue has an offer.  False if the time until has come before, or if the area
 * has been given to another database.
 */
static bool
sleep_in_queue(const Waiter *w, TimestampTz until)
{
	for (;;)
	{
		long ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), until);
		bool ready;

		/*
		 * Enter the list of sleepers before each look at the queue, so that no wake-up is lost
		 * between the look and the sleep, or in check_client(), which may reset our latch.
		 */
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
 * Wait until the flow type's queue has an offer, but no longer than until, a time of the
 * system's clock.  True means that the caller should look at the queue again; false, that the
 * time is over.
 *
 * wanted is how many events the worker has asked for.  While it waits, the queue counts the
 * worker and the wanted events, and the engine dispatches more events for them.
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
		/* No engine has run yet.  Ask for one, and have the caller look again after 100 ms. */
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
