/*
 * journal.c
 *		Append to the log and look events up.  Only this file writes eda.event and
 *		eda.transition.
 *
 * The primary key (event_id, version) of eda.transition is an optimistic lock.  An append
 * looks at the latest transition of the event with a dirty snapshot, lets the caller decide
 * what comes next, and inserts that as version n + 1.  The look comes before the write, so
 * that most races are noticed before anything has been written.  The unique index decides
 * the others: of two rows with the same key it accepts the first, and the writer of the
 * second deletes its own row and looks again.  No subtransaction is needed.
 *
 * A caller that has read an event's latest transition from the log can append without a
 * look (journal_know()).  If the event has moved on since, the insert loses its race, and the
 * look comes then.
 *
 * Dirty snapshots make appends see the latest committed state at all isolation levels, as
 * foreign-key checks do.
 *
 * Events are visited in the order of their ids, so that two appends can wait for each other
 * in one direction only.  Each round of an append does all its waiting before its first write.
 */
#include "log/log.h"

#include "access/subtrans.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/memutils.h"

/* The tables that one call has opened so far. */
typedef struct OpenTables
{
	MemoryContext context;          /* lasts for the whole call */
	JournalRel *rel[2][EDA_LEAVES]; /* by JournalTable and leaf; NULL: not opened yet */
} OpenTables;

/*
 * Raise PostgreSQL's usual error if nothing may be written here: in a read-only transaction
 * or during recovery (25006), or in a parallel operation (25000).  function is the name
 * of the SQL function, for the message.
 */
void
journal_require_write(const char *function)
{
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	PreventCommandDuringRecovery(function);
}

/* Raise ED004 if journal_append() has not found the step's event. */
void
journal_require_found(const JournalStep *step)
{
	if (step->status == JOURNAL_MISSING)
		ereport(ERROR, errcode(ERRCODE_EDA_UNKNOWN_EVENT),
		        errmsg("event %s does not exist", uuid_text(&step->event_id)),
		        errhint("It was never published, or its transaction rolled back."));
}

/* Returns the rules of the event type of the step's event; raises ED005 if they were deleted. */
const EventType *
journal_require_type(const JournalStep *step)
{
	const EventType *type = event_type_by_id(step->current.type);

	if (type == NULL)
		ereport(ERROR, errcode(ERRCODE_EDA_UNKNOWN_EVENT_TYPE),
		        errmsg("event %s has an event type that no longer exists", uuid_text(&step->event_id)));
	return type;
}

/* A table of a leaf, opened for writing if this call has not opened it yet. */
static JournalRel *
tables_get(OpenTables *tables, JournalTable table, int leaf)
{
	JournalRel **jrel = &tables->rel[table][leaf];

	if (*jrel == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(tables->context);

		*jrel = journal_rel_open(catalog_get(false)->leaf[table][leaf], RowExclusiveLock);
		MemoryContextSwitchTo(caller);
	}
	return *jrel;
}

static void
tables_close(OpenTables *tables)
{
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		for (int table = 0; table < 2; table++)
			if (tables->rel[table][leaf])
				journal_rel_close(tables->rel[table][leaf]);
}

/* ------------------------------------------------------------------------
 * Waiting
 * ------------------------------------------------------------------------ */

/* Raise ED008: transaction xid, which has changed the event, has not ended within waited ms. */
static void
report_busy(TransactionId xid, const pg_uuid_t *id, int waited)
{
	/* 0 if the transaction is a prepared one, or has ended just now */
	int pid = BackendXidGetPid(SubTransGetTopmostTransaction(xid));

	ereport(
		ERROR, errcode(ERRCODE_EDA_BUSY), errmsg("event %s is being changed by another transaction", uuid_text(id)),
		pid ? errdetail("Process %d has changed the event in transaction %u, which did not end within %d ms.", pid, xid,
	                    waited)
			: errdetail("Transaction %u, perhaps a prepared one, has changed the event and did not end within %d ms.",
	                    xid, waited),
		pid ? errhint("Try again when that transaction has ended, raise eda.lock_wait, or end the process with "
	                  "pg_terminate_backend().")
			: errhint("Try again when that transaction has ended, raise eda.lock_wait, or end a prepared "
	                  "transaction with COMMIT PREPARED or ROLLBACK PREPARED."));
}

/*
 * Wait for a transaction to end, but no longer than eda.lock_wait, or than lock_timeout if
 * that is shorter; then raise ED008, which names the transaction.  This is a lock wait like
 * any other: pg_locks shows it, and the deadlock detector knows it.
 */
static void
wait_briefly(TransactionId xid, const pg_uuid_t *id, Relation rel)
{
	int saved = LockTimeout;
	int wait = saved > 0 ? Min(saved, eda_lock_wait) : eda_lock_wait;

	if (eda_lock_wait == 0)
	{
		if (!ConditionalXactLockTableWait_compat(xid))
			report_busy(xid, id, 0);
		return;
	}
	LockTimeout = wait;
	PG_TRY();
	{
		XactLockTableWait(xid, rel, NULL, XLTW_None);
	}
	PG_CATCH();
	{
		LockTimeout = saved;
		/*
		 * Only a timeout becomes ED008; a deadlock or a cancel is raised as it is.  The lock
		 * manager has cleaned up before it raised the error.
		 */
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		FlushErrorState();
		report_busy(xid, id, wait);
	}
	PG_END_TRY();
	LockTimeout = saved;
}

/*
 * Wait for the transaction that the last look at jrel found busy with the event.  Only a
 * transaction is waited for "briefly": a speculative insertion ends within a moment.
 */
static void
wait_for_writer(JournalRel *jrel, JournalPolicy policy, const pg_uuid_t *id)
{
	if (policy == JOURNAL_WAIT_BRIEFLY && jrel->dirty.speculativeToken == 0)
		wait_briefly(jrel->busy_with, id, jrel->rel);
	else
		journal_rel_wait(jrel);
}

/* ------------------------------------------------------------------------
 * Looking
 * ------------------------------------------------------------------------ */

/*
 * Look for the latest transition of the step's event in one leaf, and read it into
 * step->current if it is found.
 *
 * If an insert of this step has lost its race but no newer transition is visible, it lost to a
 * row whose own transaction has already deleted it.  The unique index keeps that row's entry
 * until the transaction ends, so we must wait for it: the event is busy.
 */
static JournalLook
look_in_leaf(JournalRel *jrel, JournalStep *step)
{
	ScanKeyData key;
	JournalLook look;

	journal_rel_uuid_key(&key, 1, &step->event_id);
	look = journal_rel_look(jrel, &key, 1, BackwardScanDirection);
	if (look == LOOK_FOUND)
	{
		journal_read_transition(jrel->found, &step->current, false);
		if (step->moving && step->current.version < step->next.version && journal_rel_lost_row(jrel, &key, 1))
			look = LOOK_BUSY;
	}
	step->busy_with = jrel->busy_with;
	return look;
}

/*
 * Look the step's event up, first in step->leaf, then where its id says, then in the other
 * leaves; wait for another transaction if the policy says so.  Fills in the step's status
 * (JOURNAL_MISSING, JOURNAL_FOUND or JOURNAL_BUSY), leaf, current transition and busy_with.
 */
static void
look_for_event(OpenTables *tables, JournalStep *step, JournalPolicy policy)
{
	int leaves[EDA_LEAVES + 1];
	int n = 0;

	CHECK_FOR_INTERRUPTS();
	if (step->leaf >= 0)
		leaves[n++] = step->leaf;
	n += segment_leaves_of(&step->event_id, leaves + n);

	step->status = JOURNAL_MISSING;
	for (int i = 0; i < n; i++)
	{
		JournalRel *jrel;
		JournalLook found;

		if (i > 0 && step->leaf == leaves[i])
			continue;
		jrel = tables_get(tables, JOURNAL_TRANSITION, leaves[i]);
		/*
		 * Wait for a speculative insertion under any policy: its row stays or is gone in a
		 * moment.
		 */
		while ((found = look_in_leaf(jrel, step)) == LOOK_BUSY &&
		       (policy != JOURNAL_SKIP || jrel->dirty.speculativeToken != 0))
			wait_for_writer(jrel, policy, &step->event_id);
		if (found != LOOK_NOTHING)
		{
			step->leaf = leaves[i];
			step->status = found == LOOK_BUSY ? JOURNAL_BUSY : JOURNAL_FOUND;
			return;
		}
	}
}

/* ------------------------------------------------------------------------
 * Appending
 * ------------------------------------------------------------------------ */

/*
 * Fill in what is the same in every next transition of the step's event, before decide() does
 * the rest.
 */
static void
prepare_next(JournalStep *step, TimestampTz now)
{
	Transition *next = &step->next;

	step->now = now;
	*next = step->current;
	next->version++;
	next->prev_state = step->current.state;
	next->leaf = step->leaf;
	next->at = Max(now, step->current.at);
	next->token = 0;
	next->suspended_by = EDA_BY_NOBODY;
	next->wake_at = EDA_NEVER;
	next->worker = NULL;
	next->detail = NULL;
}

static int
compare_steps(const void *a, const void *b)
{
	return memcmp(&((const JournalStep *) a)->event_id, &((const JournalStep *) b)->event_id, UUID_LEN);
}

/* Sort steps by event id, and drop all but one of each event.  Returns how many are left. */
int
journal_unique(JournalStep *steps, int nsteps)
{
	int kept = 0;

	qsort(steps, nsteps, sizeof(JournalStep), compare_steps);
	for (int i = 0; i < nsteps; i++)
		if (kept == 0 || compare_steps(&steps[i], &steps[kept - 1]) != 0)
			steps[kept++] = steps[i];
	return kept;
}

/* The fields of a transition that journal_know() needs later, to append the next one. */
Brief
journal_brief(const Transition *t)
{
	return (Brief){t->at, t->wake_at, t->expires_at, t->version, t->type, t->attempt, t->attempt_base, t->returns};
}

/*
 * Let journal_append() go on from a committed transition that the caller has read earlier,
 * without a look at the log.  state and brief are of that transition; step->event_id and
 * step->leaf must be filled in.  If the event has moved on since, another row has the next
 * version already: the insert loses, and journal_append() looks the event up then.
 */
void
journal_know(JournalStep *step, EdaState state, const Brief *brief)
{
	Transition *t = &step->current;

	step->known = true;
	*t = (Transition){step->event_id, brief->version, brief->type, state};
	t->leaf = step->leaf;
	t->attempt = brief->attempt;
	t->attempt_base = brief->attempt_base;
	t->returns = brief->returns;
	t->at = brief->at;
	t->wake_at = brief->wake_at;
	t->expires_at = brief->expires_at;
}

/*
 * Insert n transitions of this transaction into one leaf, list them for announcement, and
 * have the engine woken at commit.  lost: as in journal_rel_insert().
 */
static void
insert_transitions(OpenTables *tables, int leaf, Transition **rows, int n, bool *lost)
{
	JournalRel *jrel = tables_get(tables, JOURNAL_TRANSITION, leaf);
	TupleTableSlot **slots = palloc(sizeof(TupleTableSlot *) * n);

	for (int i = 0; i < n; i++)
		slots[i] = journal_transition_slot(jrel, rows[i]);
	journal_rel_insert(jrel, slots, n, lost);
	news_add(jrel->rel, leaf, rows[0]->xid, slots, n, lost);
	for (int i = 0; i < n; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	wakeup_at_commit();
}

/*
 * Insert the next transitions of n steps whose events are in one leaf.  The steps whose rows
 * got their primary keys become JOURNAL_APPENDED.  Returns how many did.
 */
static int
insert_steps(OpenTables *tables, int leaf, JournalStep **moving, int n)
{
	Transition **rows = palloc(sizeof(Transition *) * n);
	bool *lost = palloc(sizeof(bool) * n);
	int won = 0;

	for (int i = 0; i < n; i++)
		rows[i] = &moving[i]->next;
	insert_transitions(tables, leaf, rows, n, lost);
	for (int i = 0; i < n; i++)
		if (!lost[i])
		{
			moving[i]->status = JOURNAL_APPENDED;
			won++;
		}
	return won;
}

/*
 * Insert the next transitions of all moving steps, leaf by leaf.  Returns how many rows got
 * their keys.
 */
static int
insert_moving(OpenTables *tables, JournalStep *steps, int nsteps)
{
	JournalStep **moving = palloc(sizeof(JournalStep *) * nsteps);
	int appended = 0;

	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
	{
		int n = 0;

		for (int i = 0; i < nsteps; i++)
			if (steps[i].moving && steps[i].leaf == leaf && steps[i].status != JOURNAL_APPENDED)
				moving[n++] = &steps[i];
		if (n > 0)
			appended += insert_steps(tables, leaf, moving, n);
	}
	return appended;
}

/*
 * Move events.  Look up the latest transition of each event (unless the step is known), let
 * decide() say what the event moves to, and append that.  A step that loses a race is done
 * again with the newer transition, until it wins or decide() leaves the event alone.  Two
 * steps of the same event race like two transactions.
 *
 * Returns how many transitions were appended.  The steps come back sorted by event id; the
 * status of each says what became of its event.  Besides the errors of decide(), raises ED001
 * if decide() has chosen an illegal move, and ED008 under JOURNAL_WAIT_BRIEFLY.
 */
int
journal_append(JournalStep *steps, int nsteps, JournalPolicy policy, JournalDecide decide, void *arg)
{
	OpenTables tables = {CurrentMemoryContext};
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "eda append", ALLOCSET_DEFAULT_SIZES);
	MemoryContext caller = CurrentMemoryContext;
	int appended = 0;
	bool again = true;

	if (nsteps > 1)
		qsort(steps, nsteps, sizeof(JournalStep), compare_steps);
	for (int i = 0; i < nsteps; i++)
		steps[i].status = steps[i].known ? JOURNAL_FOUND : JOURNAL_MISSING;

	for (bool first = true; again; first = false)
	{
		TimestampTz now;
		int nmoving = 0;

		/* In the later rounds, look up only the events whose last insert lost its race. */
		for (int i = 0; i < nsteps; i++)
			if (first ? !steps[i].known : steps[i].moving && steps[i].status != JOURNAL_APPENDED)
				look_for_event(&tables, &steps[i], policy);
		now = clock_now();
		for (int i = 0; i < nsteps; i++)
		{
			if (steps[i].status == JOURNAL_APPENDED || !(first || steps[i].moving))
				continue;
			steps[i].moving = false;
			if (steps[i].status != JOURNAL_FOUND)
				continue;
			prepare_next(&steps[i], now);
			steps[i].moving = decide(&steps[i], arg);
			if (!steps[i].moving)
				continue;
			lifecycle_finish_move(&steps[i].current, &steps[i].next, now);
			steps[i].next.xid = U64FromFullTransactionId(GetTopFullTransactionId());
			nmoving++;
		}
		again = false;
		if (nmoving > 0)
		{
			int won;

			MemoryContextSwitchTo(scratch);
			won = insert_moving(&tables, steps, nsteps);
			MemoryContextSwitchTo(caller);
			MemoryContextReset(scratch);
			appended += won;
			again = won < nmoving;
		}
	}
	tables_close(&tables);
	MemoryContextDelete(scratch);
	return appended;
}

/* ------------------------------------------------------------------------
 * Publishing
 * ------------------------------------------------------------------------ */

/* Insert n events into one leaf.  lost: as in journal_rel_insert(). */
static void
insert_events(OpenTables *tables, int leaf, const Event **rows, int n, bool *lost)
{
	JournalRel *jrel = tables_get(tables, JOURNAL_EVENT, leaf);
	TupleTableSlot **slots = palloc(sizeof(TupleTableSlot *) * n);

	for (int i = 0; i < n; i++)
		slots[i] = journal_event_slot(jrel, rows[i]);
	journal_rel_insert(jrel, slots, n, lost);
	for (int i = 0; i < n; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
}

/*
 * Insert n events with their first transitions, whose xids are filled in here.  The ids must
 * be fresh, as publish.c makes them: one that exists already is a unique violation (23505).
 */
void
journal_publish(const Event *events, Transition *first, int n)
{
	OpenTables tables = {CurrentMemoryContext};
	const Event **event_rows = palloc(sizeof(Event *) * n);
	Transition **first_rows = palloc(sizeof(Transition *) * n);
	uint64 xid = U64FromFullTransactionId(GetTopFullTransactionId());

	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
	{
		int m = 0;

		for (int i = 0; i < n; i++)
		{
			if (events[i].leaf != leaf)
				continue;
			first[i].xid = xid;
			event_rows[m] = &events[i];
			first_rows[m++] = &first[i];
		}
		if (m == 0)
			continue;
		insert_events(&tables, leaf, event_rows, m, NULL);
		insert_transitions(&tables, leaf, first_rows, m, NULL);
	}
	tables_close(&tables);
}

/*
 * Insert an event whose id the publisher has chosen, with its first transition, whose xid is
 * filled in here.  Returns false if the id is taken: this or another transaction, which may
 * still be open, has inserted an event with it.  No row of the new event is left then.
 */
bool
journal_publish_given(const Event *event, Transition *first)
{
	OpenTables tables = {CurrentMemoryContext};
	bool lost;

	first->xid = U64FromFullTransactionId(GetTopFullTransactionId());
	insert_events(&tables, event->leaf, &event, 1, &lost);
	if (!lost)
		insert_transitions(&tables, event->leaf, &first, 1, NULL);
	tables_close(&tables);
	return !lost;
}
