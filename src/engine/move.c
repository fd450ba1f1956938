/*
 * move.c
 *		Move the queued events, batch by batch, each batch in a transaction of its own.
 *
 * An error in a batch halves it, down to the event that causes it, which is held back and shown
 * in eda.engine_status; the others go on.  On a full disk all events wait.
 */
#include "engine/engine.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define MAX_HOLD_S 300
#define FULL_DISK_WAIT (5 * USECS_PER_SEC)
#define FAILED_IN_A_ROW 30 /* failed moves without a good one between them: no event by itself is the cause */

static int batch = ENGINE_BATCH;   /* events, halved by errors */
static int failed = 0;             /* events in a row that could not be moved */
static TimestampTz full_until = 0; /* the disk was full; the next try comes then */

/* Whether no event at all can be moved. */
bool
move_is_failing(void)
{
	return failed >= FAILED_IN_A_ROW;
}

/* Whether the last batch failed: there are events that might be moved at once. */
bool
move_has_failed(void)
{
	return failed > 0;
}

/* The move of an event raises an error by itself: set the event aside for a while. */
static void
hold_back(Todo *todo)
{
	int seconds = Min(1 << Min(todo->errors, 10), MAX_HOLD_S);

	todo->errors++;
	failed++;
	if (status_take_log_budget())
		ereport(LOG, errmsg("eda engine: event %s is held back for %d s", uuid_text(&todo->event_id), seconds));
	todo_park(todo, InvalidTransactionId, engine.now + seconds * USECS_PER_SEC);
	todo_done(1);
}

/* Make steps of the first n queued events, one for each event; how many. */
static int
make_steps(const Todo *todo, int n, JournalStep *steps)
{
	for (int i = 0; i < n; i++)
	{
		steps[i].event_id = todo[i].event_id;
		steps[i].leaf = todo[i].leaf;
		steps[i].errors = todo[i].errors;
		if (todo[i].awaiting.version > 0)
			journal_know(&steps[i], EDA_AWAITING, &todo[i].awaiting);
	}
	return journal_unique(steps, n); /* an event that was queued twice would lose a race against itself */
}

/* Move the next batch of queued events.  False if the rest must wait for a later tick. */
static bool
move_batch(void)
{
	int nqueued;
	Todo *queued = todo_list(&nqueued);
	int n = Min(nqueued, batch);
	JournalStep *steps = palloc0(sizeof(JournalStep) * n);
	int nsteps;
	volatile bool locked = false;

	if (full_until > engine.now && full_until <= engine.now + FULL_DISK_WAIT)
		return false;
	nsteps = make_steps(queued, n, steps);
	PG_TRY();
	{
		xact_begin();
		PushActiveSnapshot(GetTransactionSnapshot());
		locked = xact_lock_log();
		if (locked)
		{
			engine.made += journal_append(steps, nsteps, JOURNAL_SKIP, decide_move, NULL);
			on_fail_publish(steps, nsteps);
		}
		PopActiveSnapshot();
		xact_commit();
	}
	PG_CATCH();
	{
		/* A full disk is not the events' fault, and a log line on each of them would fill it more. */
		full_until = geterrcode() == ERRCODE_DISK_FULL ? engine.now + FULL_DISK_WAIT : 0;
		xact_recover(engine.tick, "could not move events");
		if (full_until > 0)
			return false;
		if (n == 1)
			hold_back(&queued[0]);
		batch = Max(n / 2, 1);
		return !move_is_failing();
	}
	PG_END_TRY();
	if (!locked)
		return false;
	failed = 0;
	for (int i = 0; i < nsteps; i++)
		if (steps[i].status == JOURNAL_BUSY)
		{
			Todo todo = {steps[i].event_id, steps[i].leaf, steps[i].errors};

			todo_park(&todo, steps[i].busy_with, 0);
		}
	todo_done(n);
	batch = Min(batch * 2, ENGINE_BATCH);
	return true;
}

/* Move all queued events, unless they must wait; outside any transaction. */
void
move_queued(void)
{
	while (!todo_is_empty() && move_batch())
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(engine.tick);
	}
}
