/*
 * todo.c
 *		The events that are queued for a move in this tick, and those that are parked.
 *
 * An event is queued for a move when it may have to move: when the tail reads its transition,
 * when its time has come, when its offer comes back, or because of a receipt.  It is parked while
 * it cannot move: until the open transaction that has appended to it ends, or until a time.
 */
#include "engine/engine.h"

#include "access/transam.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define TODO_SIZE 4096 /* events that can be queued */

/* An event that cannot be moved now. */
typedef struct Parked
{
	Todo todo;
	TransactionId xid; /* parked until this transaction ends, or if it is invalid, until a time */
	TimestampTz until; /* that time */
} Parked;

static Todo queued[TODO_SIZE];
static int nqueued = 0;
static Parked *parked = NULL;
static int nparked = 0;
static int max_parked = 0;
static HTAB *parked_ids; /* so that an event is parked once */

/* Start with nothing queued and nothing parked. */
void
todo_init(void)
{
	HASHCTL ctl = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(pg_uuid_t), .hcxt = engine.context};

	parked_ids = hash_create("eda parked", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static bool
add_queued(const Todo *todo)
{
	if (!engine.moves || nqueued == TODO_SIZE)
		return false;
	queued[nqueued++] = *todo;
	return true;
}

/*
 * Queue an event to be moved in this tick.  If its latest transition is passed as "awaiting",
 * journal_append() need not look the event up.  Returns false if the list is full or the engine
 * is paused.
 */
bool
todo_add(const pg_uuid_t *id, int leaf, const Transition *awaiting)
{
	Todo todo = {*id, leaf};

	if (awaiting)
		todo.awaiting = journal_brief(awaiting);
	return add_queued(&todo);
}

/* The queued events, in the order in which they were queued; todo_done() removes them. */
Todo *
todo_list(int *n)
{
	*n = nqueued;
	return queued;
}

/* Take the first n events off the list. */
void
todo_done(int n)
{
	nqueued -= n;
	memmove(queued, queued + n, sizeof(Todo) * nqueued);
}

/* Whether no event is queued. */
bool
todo_is_empty(void)
{
	return nqueued == 0;
}

/*
 * Park an event until a transaction has ended or, with InvalidTransactionId, until a time.  If it
 * is parked already, nothing changes: it is queued when the first reason is over.
 */
void
todo_park(const Todo *todo, TransactionId xid, TimestampTz until)
{
	bool found;

	hash_search(parked_ids, &todo->event_id, HASH_ENTER, &found);
	if (found)
		return;
	ARRAY_GROW(parked, nparked, max_parked, engine.context);
	parked[nparked] = (Parked){*todo, xid, until};
	parked[nparked++].todo.awaiting.version = 0;
	elog(DEBUG2, "eda engine: event %s is parked until %s", uuid_text(&todo->event_id),
	     TransactionIdIsValid(xid) ? psprintf("transaction %u ends", xid) : timestamptz_to_str(until));
}

/* Queue the parked events whose reason is over, as far as the list has room. */
void
todo_unpark(void)
{
	TransactionId last = InvalidTransactionId;
	bool last_runs = false;
	int kept = 0;

	for (int i = 0; i < nparked; i++)
	{
		Parked *p = &parked[i];
		bool ready;

		if (TransactionIdIsValid(p->xid) && p->xid != last)
		{
			last = p->xid;
			last_runs = TransactionIdIsInProgress(last);
		}
		ready = TransactionIdIsValid(p->xid) ? !last_runs : p->until <= engine.now;
		if (ready && add_queued(&p->todo))
			hash_search(parked_ids, &p->todo.event_id, HASH_REMOVE, NULL);
		else
			parked[kept++] = *p;
	}
	nparked = kept;
}

/* The earliest time until which an event is parked; EDA_NEVER if there is none. */
TimestampTz
todo_next_parked(void)
{
	TimestampTz next = EDA_NEVER;

	for (int i = 0; i < nparked; i++)
		if (!TransactionIdIsValid(parked[i].xid))
			next = Min(next, parked[i].until);
	return next;
}

/* How many events are parked.  Unless ids is NULL, also list their ids (palloc'd uuids). */
int
todo_parked_ids(Datum **ids)
{
	if (ids)
		*ids = palloc(sizeof(Datum) * Max(nparked, 1));
	for (int i = 0; ids && i < nparked; i++)
		(*ids)[i] = UUIDPGetDatum(&parked[i].todo.event_id);
	return nparked;
}

/* How many of the parked events are held back because their move raises an error. */
int
todo_held_back(void)
{
	int held_back = 0;

	for (int i = 0; i < nparked; i++)
		held_back += parked[i].todo.errors > 0;
	return held_back;
}
