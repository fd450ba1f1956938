/*
 * journal.c
 *		Append and look up: the only writer of event and transition.
 *
 * The primary key (event_id, version) is the optimistic lock.  An append looks
 * at the latest transition with a dirty snapshot, lets the caller decide, and
 * inserts version n + 1.  The look comes before the write, so that a race is
 * seen early and nearly no row is written in vain; the index decides the rest:
 * of two rows with the same key it takes the first, and the loser deletes its
 * own and looks again.  No subtransaction is needed.  Who has just read an event's
 * latest transition from the log appends to it unseen: the index tells if it was not
 * the latest any more.
 *
 * Dirty snapshots make all isolation levels see the latest committed state, as
 * foreign-key checks do.
 *
 * Steps are sorted by event id, so that two appends wait for each other in one
 * direction only; all waits of a round come before its first write.
 */
#include "log/log.h"

#include "access/skey.h"
#include "access/subtrans.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* The tables one call has open. */
typedef struct Session
{
	MemoryContext context;
	JournalRel *rel[2][EDA_LEAVES]; /* by JournalTable */
} Session;

/* Raise the usual error where nothing may be written; what names the function. */
void
journal_require_write(const char *what)
{
	PreventCommandIfReadOnly(what);
	PreventCommandIfParallelMode(what);
	PreventCommandDuringRecovery(what);
}

/* Raise ED004 for a step whose event is not there. */
void
journal_require_found(const JournalStep *step)
{
	if (step->status == JOURNAL_MISSING)
		ereport(ERROR, errcode(ERRCODE_EDA_UNKNOWN_EVENT),
		        errmsg("event %s does not exist", uuid_text(&step->event_id)),
		        errhint("It was never published, or its transaction rolled back."));
}

/* The event type of the step's event; an error if its row is gone. */
const EventType *
journal_require_type(const JournalStep *step)
{
	const EventType *type = event_type_by_id(step->current.type);

	if (type == NULL)
		ereport(ERROR, errcode(ERRCODE_EDA_UNKNOWN_EVENT_TYPE),
		        errmsg("event %s has an event type that no longer exists", uuid_text(&step->event_id)));
	return type;
}

static JournalRel *
session_rel(Session *session, JournalTable table, int leaf)
{
	JournalRel **jrel = &session->rel[table][leaf];

	if (*jrel == NULL)
	{
		MemoryContext caller = MemoryContextSwitchTo(session->context);

		*jrel = journal_rel_open(catalog_get(false)->leaf[table][leaf], RowExclusiveLock);
		MemoryContextSwitchTo(caller);
	}
	return *jrel;
}

static void
session_close(Session *session)
{
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		for (int table = 0; table < 2; table++)
			if (session->rel[table][leaf])
				journal_rel_close(session->rel[table][leaf]);
}

/* ------------------------------------------------------------------------
 * Waiting
 * ------------------------------------------------------------------------ */

static void
report_busy(TransactionId xid, const pg_uuid_t *id)
{
	int pid = BackendXidGetPid(SubTransGetTopmostTransaction(xid));

	ereport(ERROR, errcode(ERRCODE_EDA_BUSY), errmsg("event %s is being changed by another transaction", uuid_text(id)),
	        pid ? errdetail("Process %d holds it, in transaction %u; waited %d ms.", pid, xid, eda_lock_wait)
	            : errdetail("Transaction %u (prepared?) holds it; waited %d ms.", xid, eda_lock_wait),
	        errhint("Try again when it has ended, raise eda.lock_wait, or end it with pg_terminate_backend()."));
}

/*
 * Wait up to eda.lock_wait for a transaction, then name it.  This is a lock wait
 * like any other: pg_locks shows it, and the deadlock detector sees it.
 */
static void
wait_briefly(TransactionId xid, const pg_uuid_t *id, Relation rel)
{
	int saved = LockTimeout;

	if (eda_lock_wait == 0)
	{
		if (!ConditionalXactLockTableWait_compat(xid))
			report_busy(xid, id);
		return;
	}
	LockTimeout = saved > 0 ? Min(saved, eda_lock_wait) : eda_lock_wait;
	PG_TRY();
	{
		XactLockTableWait(xid, rel, NULL, XLTW_None);
	}
	PG_CATCH();
	{
		LockTimeout = saved;
		/* A deadlock or a cancel stays what it is; the lock manager has cleaned up before it raised the error. */
		if (geterrcode() != ERRCODE_LOCK_NOT_AVAILABLE)
			PG_RE_THROW();
		FlushErrorState();
		report_busy(xid, id);
	}
	PG_END_TRY();
	LockTimeout = saved;
}

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

static void
uuid_key(ScanKey key, AttrNumber column, const pg_uuid_t *id)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
}

/*
 * The latest transition of step's event in one leaf.  A step that has lost a
 * race, and finds nobody ahead of it, has lost to a row that is lost itself.
 */
static JournalLook
look_in_leaf(JournalRel *jrel, JournalStep *step)
{
	ScanKeyData key;
	JournalLook look;

	uuid_key(&key, 1, &step->event_id);
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

/* Fill in step's status, leaf and current transition; wait if the policy says so. */
static void
look_for(Session *session, JournalStep *step, JournalPolicy policy)
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
		jrel = session_rel(session, JOURNAL_TRANSITION, leaves[i]);
		/* A speculative row is there or not in a moment: nobody parks on that. */
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

/* What any next transition has in common: the caller decides on top of it. */
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

/* Sort steps by event id and keep one for each event; how many are left. */
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

/* What is to be remembered of a transition for the next one. */
Brief
journal_brief(const Transition *t)
{
	return (Brief){t->at, t->wake_at, t->expires_at, t->version, t->type, t->attempt, t->attempt_base, t->returns};
}

/*
 * Have a step, whose event and leaf are filled in, go on from a committed
 * transition that the caller remembers, without a look at the log.  Should the
 * event have moved on, its next version is taken, and the look comes then.
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

/* Insert the moving steps of one leaf; how many got their key. */
static int
insert_steps(Session *session, int leaf, JournalStep **moving, int n)
{
	JournalRel *jrel = session_rel(session, JOURNAL_TRANSITION, leaf);
	TupleTableSlot **slots = palloc(sizeof(TupleTableSlot *) * n);
	bool *lost = palloc(sizeof(bool) * n);
	int won = 0;

	for (int i = 0; i < n; i++)
		slots[i] = journal_transition_slot(jrel, &moving[i]->next);
	journal_rel_insert(jrel, slots, n, lost);
	news_add(jrel->rel, leaf, moving[0]->next.xid, slots, n, lost);
	for (int i = 0; i < n; i++)
	{
		ExecDropSingleTupleTableSlot(slots[i]);
		if (lost[i])
			continue;
		moving[i]->status = JOURNAL_APPENDED;
		won++;
	}
	wakeup_at_commit();
	return won;
}

/* Append what the callers decided, leaf by leaf; how many rows. */
static int
insert_moving(Session *session, JournalStep *steps, int nsteps)
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
			appended += insert_steps(session, leaf, moving, n);
	}
	return appended;
}

/*
 * Move events: look at each that is not known, let decide() say what it moves to, append.  How
 * many transitions were appended; each step tells what became of its event.
 * Steps come back sorted by event id.
 */
int
journal_append(JournalStep *steps, int nsteps, JournalPolicy policy, JournalDecide decide, void *arg)
{
	Session session = {CurrentMemoryContext};
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

		/* After the first round only those that lost their race are left. */
		for (int i = 0; i < nsteps; i++)
			if (first ? !steps[i].known : steps[i].moving && steps[i].status != JOURNAL_APPENDED)
				look_for(&session, &steps[i], policy);
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
			won = insert_moving(&session, steps, nsteps);
			MemoryContextSwitchTo(caller);
			MemoryContextReset(scratch);
			appended += won;
			again = won < nmoving;
		}
	}
	session_close(&session);
	MemoryContextDelete(scratch);
	return appended;
}

/* ------------------------------------------------------------------------
 * Publishing
 * ------------------------------------------------------------------------ */

/*
 * Insert events with their first transitions.  With lost (of one event only):
 * whether this or another transaction has published an event with this id;
 * nothing was written then.  Without it the ids are fresh.
 */
void
journal_publish(Event *events, Transition *first, int n, bool *lost)
{
	Session session = {CurrentMemoryContext};
	TupleTableSlot **slots = palloc(sizeof(TupleTableSlot *) * n);
	uint64 xid = U64FromFullTransactionId(GetTopFullTransactionId());

	Assert(lost == NULL || n == 1);
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		for (int table = JOURNAL_EVENT; table <= JOURNAL_TRANSITION; table++)
		{
			int m = 0;

			for (int i = 0; i < n; i++)
			{
				if (events[i].leaf != leaf)
					continue;
				first[i].xid = xid;
				slots[m++] = table == JOURNAL_EVENT
				                 ? journal_event_slot(session_rel(&session, table, leaf), &events[i])
				                 : journal_transition_slot(session_rel(&session, table, leaf), &first[i]);
			}
			if (m == 0 || (lost && *lost && table == JOURNAL_TRANSITION))
				continue;
			journal_rel_insert(session_rel(&session, table, leaf), slots, m, table == JOURNAL_EVENT ? lost : NULL);
			if (table == JOURNAL_TRANSITION)
				news_add(session_rel(&session, table, leaf)->rel, leaf, xid, slots, m, NULL);
			for (int j = 0; j < m; j++)
				ExecDropSingleTupleTableSlot(slots[j]);
		}
	wakeup_at_commit();
	session_close(&session);
}

/* ------------------------------------------------------------------------
 * Reading
 * ------------------------------------------------------------------------ */

static bool
read_event_in(JournalRel *jrel, const pg_uuid_t *id, bool whole, Event *out)
{
	ScanKeyData key;
	JournalLook found;

	uuid_key(&key, 1, id);
	while ((found = journal_rel_look(jrel, &key, 1, ForwardScanDirection)) == LOOK_BUSY)
		journal_rel_wait(jrel);
	if (found == LOOK_FOUND)
		journal_read_event(jrel->found, out, whole);
	return found == LOOK_FOUND;
}

/* The event, as published, if it is in this leaf (see journal_read_event() for whole); waits for an open transaction that is publishing it. */
bool
journal_event(int leaf, const pg_uuid_t *id, bool whole, Event *out)
{
	JournalRel *jrel = journal_rel_open(catalog_get(false)->leaf[JOURNAL_EVENT][leaf], RowExclusiveLock);
	bool found = read_event_in(jrel, id, whole, out);

	journal_rel_close(jrel);
	return found;
}

/* Read events, in the order of their references; one that is missing is an error. */
void
journal_read_events(const EventRef *refs, int n, bool whole, Event *out)
{
	Session session = {CurrentMemoryContext};

	for (int i = 0; i < n; i++)
		if (!read_event_in(session_rel(&session, JOURNAL_EVENT, refs[i].leaf), &refs[i].id, whole, &out[i]))
			elog(ERROR, "event %s has transitions and no event", uuid_text(&refs[i].id));
	session_close(&session);
}

/* The event, as published but for headers and payload, wherever it is. */
bool
journal_find_event(const pg_uuid_t *id, Event *out)
{
	int leaves[EDA_LEAVES];
	int n = segment_leaves_of(id, leaves);

	for (int i = 0; i < n; i++)
		if (journal_event(leaves[i], id, false, out))
			return true;
	return false;
}

/* One transition of an event by version, or the first one of at least that version. */
bool
journal_find_transition(int leaf, const pg_uuid_t *id, int32 version, bool or_later, Transition *out)
{
	JournalRel *jrel = journal_rel_open(catalog_get(false)->leaf[JOURNAL_TRANSITION][leaf], RowExclusiveLock);
	ScanKeyData keys[2];
	JournalLook found;

	uuid_key(&keys[0], 1, id);
	ScanKeyInit(&keys[1], 2, or_later ? BTGreaterEqualStrategyNumber : BTEqualStrategyNumber,
	            or_later ? F_INT4GE : F_INT4EQ, Int32GetDatum(version));
	found = journal_rel_look(jrel, keys, 2, ForwardScanDirection);
	if (found == LOOK_FOUND)
		journal_read_transition(jrel->found, out, true);
	journal_rel_close(jrel);
	return found == LOOK_FOUND;
}

/* The last steps of an event's life, as the active snapshot sees it, at most max of them, oldest first; how many. */
int
journal_history(int leaf, const pg_uuid_t *id, Transition *out, int max)
{
	Relation rel = table_open(catalog_get(false)->leaf[JOURNAL_TRANSITION][leaf], AccessShareLock);
	Relation index = index_open(catalog_index(leaf, JOURNAL_TRANSITION, "pkey"), AccessShareLock);
	IndexScanDesc scan = index_beginscan_compat(rel, index, GetActiveSnapshot(), 1);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData key;
	int n = 0;

	uuid_key(&key, 1, id);
	index_rescan(scan, &key, 1, NULL, 0);
	while (n < max && index_getnext_slot(scan, BackwardScanDirection, slot))
		journal_read_transition(slot, &out[n++], true);
	for (int i = 0; i < n / 2; i++)
	{
		Transition t = out[i];

		out[i] = out[n - 1 - i];
		out[n - 1 - i] = t;
	}
	ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return n;
}
