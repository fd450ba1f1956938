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
#include "eda.h"

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

typedef struct Held
{
	int offer;
	uint32 generation;
	SubTransactionId subid;
} Held;

/* What this transaction has popped. */
static Held *held = NULL;
static int nheld = 0;
static int max_held = 0;

/* ------------------------------------------------------------------------
 * Giving back
 * ------------------------------------------------------------------------ */

/* Move an entry that is still ours out of POPPED, and let the engine know. */
static void
give_back(int offer, uint32 generation, OfferState state)
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
at_xact_end(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		for (int i = 0; i < nheld; i++)
			give_back(held[i].offer, held[i].generation, OFFER_RETURNED);
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		nheld = 0;
}

static void
at_subxact_end(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int kept = 0;

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	for (int i = 0; i < nheld; i++)
	{
		if (held[i].subid == mine && event == SUBXACT_EVENT_ABORT_SUB)
		{
			give_back(held[i].offer, held[i].generation, OFFER_RETURNED);
			continue;
		}
		if (held[i].subid == mine)
			held[i].subid = parent;
		held[kept++] = held[i];
	}
	nheld = kept;
}

/* Make room to remember n more entries, before any is popped. */
static void
reserve(int n)
{
	static bool registered = false;
	int size = Max(nheld + n, 2 * max_held);

	if (!registered)
	{
		RegisterXactCallback(at_xact_end, NULL);
		RegisterSubXactCallback(at_subxact_end, NULL);
		registered = true;
	}
	if (nheld + n <= max_held)
		return;
	held = held == NULL ? MemoryContextAlloc(TopMemoryContext, sizeof(Held) * size)
	                    : repalloc_huge(held, sizeof(Held) * size);
	max_held = size; /* not before: there may be no memory, and the session goes on */
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

/* The flow type's queue, made if it has none yet; NULL if there is no room.  Under the lock. */
FlowQueue *
ready_queue_of(EngineArea *area, const char *flow_type)
{
	FlowQueue *queues = area_queues(area);

	for (int i = 0; i < eda_max_event_types; i++)
	{
		if (strcmp(queues[i].flow_type, flow_type) == 0)
			return &queues[i];
		if (queues[i].flow_type[0] == '\0')
		{
			strlcpy(queues[i].flow_type, flow_type, NAMEDATALEN);
			return &queues[i];
		}
	}
	return NULL;
}

/* Take the first entry out of the list of its priority.  Under the lock. */
void
ready_queue_unlink(EngineArea *area, int i)
{
	Offer *offers = area_offers(area);
	Offer *o = &offers[i];
	FlowQueue *queue = &area_queues(area)[o->queue];

	if (o->prev >= 0)
		offers[o->prev].next = o->next;
	else
		queue->head[o->priority] = o->next;
	if (o->next >= 0)
		offers[o->next].prev = o->prev;
	else
		queue->tail[o->priority] = o->prev;
	queue->queued--;
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
	reserve(max);
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
			held[nheld++] = (Held){i, o->generation, GetCurrentSubTransactionId()};
		}
	LWLockRelease(&area->lock);
	return n;
}

/* Put back an event that could not be taken just now; the engine looks after it. */
void
queue_refuse(const Popped *p)
{
	give_back(p->offer, p->generation, OFFER_REFUSED);
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
		wakeup_wish_engine();
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
