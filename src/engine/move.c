/*
 * move.c
 *		Move the queued events, batch by batch, each batch in a transaction of its own.
 *
 * If a batch raises an error, it is tried again with half as many events, down to the one event
 * that causes the error.  That event is held back for a while and counted in eda.engine_status;
 * the others move.  If the disk is full, all events wait.
 */
#include "engine/engine.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define MAX_HOLD_S 300 /* an event that raises an error is parked for no longer than this */
#define FULL_DISK_WAIT (5 * USECS_PER_SEC)
#define MAX_FAILED_IN_A_ROW 30 /* from so many on, the cause is not a single event */

static int batch_size = ENGINE_BATCH; /* events in the next batch; halved by errors */
static int failed_in_a_row = 0;       /* events that could not be moved, since one could */
static TimestampTz full_until = 0;    /* if the disk was full: when to try again */

/* Whether moves keep failing, so that the cause is not a single event. */
bool
move_is_failing(void)
{
	return failed_in_a_row >= MAX_FAILED_IN_A_ROW;
}

/* Whether an event could not be moved, and none has been moved since. */
bool
move_has_failed(void)
{
	return failed_in_a_row > 0;
}

/* Moving this event raises an error: park it for a while, each time twice as long as before. */
static void
hold_back(Todo *todo)
{
	int seconds = Min(1 << Min(todo->errors, 10), MAX_HOLD_S);

	todo->errors++;
	failed_in_a_row++;
	if (status_take_log_budget())
		ereport(LOG, errmsg("eda engine: event %s is held back for %d s because it could not be moved",
		                    uuid_text(&todo->event_id), seconds));
	todo_park(todo, InvalidTransactionId, engine.now + seconds * USECS_PER_SEC);
	todo_done(1);
}

/* Make the steps of the first n queued events, one for each event.  Returns how many there are. */
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
	/* An event that was queued twice must not be appended to twice. */
	return journal_unique(steps, n);
}

/* Move the next batch of queued events.  Returns false if the rest must wait for a later tick. */
static bool
move_batch(void)
{
	int nqueued;
	Todo *queued = todo_list(&nqueued);
	int n = Min(nqueued, batch_size);
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
		/* If the disk is full, no event is the cause.  A log line for each would fill it more. */
		full_until = geterrcode() == ERRCODE_DISK_FULL ? engine.now + FULL_DISK_WAIT : 0;
		xact_recover(engine.tick, "could not move events");
		if (full_until > 0)
			return false;
		if (n == 1)
			hold_back(&queued[0]);
		batch_size = Max(n / 2, 1);
		return !move_is_failing();
	}
	PG_END_TRY();
	if (!locked)
		return false;
	failed_in_a_row = 0;
	for (int i = 0; i < nsteps; i++)
		if (steps[i].status == JOURNAL_BUSY)
		{
			Todo todo = {steps[i].event_id, steps[i].leaf, steps[i].errors};

			todo_park(&todo, steps[i].busy_with, 0);
		}
	todo_done(n);
	batch_size = Min(batch_size * 2, ENGINE_BATCH);
	return true;
}

/* Move the queued events; outside any transaction. */
void
move_queued(void)
{
	while (!todo_is_empty() && move_batch())
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(engine.tick);
	}
}
