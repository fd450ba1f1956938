/*
 * engine.c
 *		The background worker that moves events on.
 *
 * A tick reads (one transaction, no xid), moves (one transaction for each batch), tells (one transaction),
 * and now and then saves its state.  The engine never waits for a client: it takes locks only if it gets
 * them at once, and an event that an open transaction has written to is parked until that has ended.
 *
 * Errors: one in a batch of moves halves the batch down to the event that causes it, which is held back
 * and shown; the rest goes on.  On a full disk all wait.  Any other error ends the process, and the
 * launcher starts another one from the saved state.
 *
 * Its commits are asynchronous.  What it dispatches to workers of this database
 * cannot get ahead of it: a worker's commit flushes the log up to there.
 */
#include "engine.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#define IDLE_MS 1000 /* longest sleep: prepared transactions, and the clock, send no signal */
#define HOUSEKEEPING_INTERVAL (10 * USECS_PER_SEC)
#define MAX_HOLD_S 300
#define FULL_DISK_WAIT (5 * USECS_PER_SEC)
#define PACE_MS 1          /* between ticks, if busy and no worker waits */
#define PACE_FROM 10       /* transitions in some 2 ms: busy */
#define FAILED_IN_A_ROW 30 /* events that cannot be moved, and none that can: it is not them */

Engine engine;

PGDLLEXPORT void eda_engine_main(Datum arg);

/* ------------------------------------------------------------------------
 * Transactions
 * ------------------------------------------------------------------------ */

/* Begin a transaction as the extension's owner, in the tick's memory. */
void
xact_begin(void)
{
	const EdaCatalog *c;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	c = catalog_get(true);
	SetUserIdAndSecContext(c ? c->owner : BOOTSTRAP_SUPERUSERID, SECURITY_RESTRICTED_OPERATION);
	MemoryContextSwitchTo(engine.tick);
}

/* Commit it. */
void
xact_commit(void)
{
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, 0);
	CommitTransactionCommand();
	MemoryContextSwitchTo(engine.tick);
	pgstat_report_stat(false);
}

/* In a PG_CATCH block: report the error, roll back, go on.  The order is AutoVacLauncherMain's. */
void
xact_recover(MemoryContext caller, const char *what)
{
	ErrorData *error;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(caller);
	error = CopyErrorData();
	if (status_take_log_budget())
		EmitErrorReport();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(caller);
	FlushErrorState();
	status_set_error(psprintf("%s: %s", what, error->message));
	FreeErrorData(error);
	RESUME_INTERRUPTS();
}

/* ------------------------------------------------------------------------
 * What is noted
 * ------------------------------------------------------------------------ */

static bool
add_todo(const Todo *todo)
{
	if (!engine.moves || engine.ntodo == TODO_SIZE)
		return false;
	engine.todo[engine.ntodo++] = *todo;
	return true;
}

/* Note an event to be moved in this tick, after a look at it unless its latest transition is given; false if there is no room for more. */
bool
todo_add(const pg_uuid_t *id, int leaf, const Transition *awaiting)
{
	Todo todo = {*id, leaf};

	if (awaiting)
		todo.awaiting = journal_brief(awaiting);
	return add_todo(&todo);
}

/* Note an event to be looked at when a transaction has ended, or, without one, at a time; once is enough. */
void
todo_park(const Todo *todo, TransactionId xid, TimestampTz until)
{
	bool found;

	hash_search(engine.parked_ids, &todo->event_id, HASH_ENTER, &found);
	if (found)
		return;
	if (engine.nparked == engine.max_parked)
	{
		engine.max_parked = Max(64, 2 * engine.max_parked);
		engine.parked = engine.parked == NULL ? MemoryContextAlloc(engine.context, sizeof(Parked) * engine.max_parked)
		                                      : repalloc_huge(engine.parked, sizeof(Parked) * engine.max_parked);
	}
	engine.parked[engine.nparked] = (Parked){*todo, xid, until};
	engine.parked[engine.nparked++].todo.awaiting.version = 0;
}

/* Note what was parked and need not be any longer. */
static void
todo_unpark(void)
{
	TransactionId last = InvalidTransactionId;
	bool last_runs = false;
	int kept = 0;

	for (int i = 0; i < engine.nparked; i++)
	{
		Parked *p = &engine.parked[i];
		bool ready;

		if (TransactionIdIsValid(p->xid) && p->xid != last)
		{
			last = p->xid;
			last_runs = TransactionIdIsInProgress(last);
		}
		ready = TransactionIdIsValid(p->xid) ? !last_runs : p->until <= engine.now;
		if (ready && add_todo(&p->todo))
			hash_search(engine.parked_ids, &p->todo.event_id, HASH_REMOVE, NULL);
		else
			engine.parked[kept++] = *p;
	}
	engine.nparked = kept;
}

/* A transition that waits for its time. */
static void
see_awaiting(const Transition *t, int leaf, EngineType *type)
{
	/* Due, and nothing before it waits on disk: it need not be found there again. */
	if (t->wake_at <= engine.now && !type->suspended && type->due[leaf].key > t->wake_at && dispatch_room(type) > 0 &&
	    todo_add(&t->event_id, leaf, t))
		dispatch_reserve(type, 1);
	else
		timers_pull_due(type, leaf, t);
}

/* A transition that the tail has read: count it, tell it, and note what it means for the engine. */
void
see_transition(const Transition *t, int leaf)
{
	EngineType *type = engine_type(t->type);

	engine.read++;
	engine.changed = true;
	if (type == NULL)
		return;
	counts_add(type, t);
	feed_add(t, leaf, type);
	dispatch_forget(&t->event_id, t->version);
	if (t->state == EDA_DISPATCHED && type->to_broker)
		delivery_add_event(t, leaf);
	else
		delivery_forget(t);

	if (t->state == EDA_AWAITING)
		see_awaiting(t, leaf, type);
	else if (t->wake_at != EDA_NEVER)
		cursor_pull(&engine.deadline[leaf], t->wake_at, &t->event_id);
	if (t->state == EDA_DISPATCHED && !type->to_broker && !engine.recovering)
		dispatch_offer(t, leaf);
	else if (t->state == EDA_DISPATCHED && !type->to_broker)
		cursor_pull(&engine.dispatched[leaf], t->wake_at, &t->event_id);
	/* Told at once where none waits on disk: it need not be found there again. */
	if (type->to_broker && (t->state == EDA_FAILED || t->state == EDA_EXPIRED) &&
	    (type->dead[leaf].key != EDA_NEVER || !delivery_add_dead_letter(type->id, &t->event_id, leaf, t->at)))
		cursor_pull(&type->dead[leaf], t->at, &t->event_id);
	if (t->state == EDA_SUSPENDED && t->suspended_by == EDA_BY_TYPE)
		cursor_pull(&type->resume[leaf], t->at, &t->event_id);
	if (t->expires_at != EDA_NEVER && t->prev_state == EDA_NONE)
		cursor_pull(&engine.expiry[leaf], t->expires_at, &t->event_id);
	if (t->expires_at != EDA_NEVER && (t->prev_state == EDA_FAILED || t->prev_state == EDA_EXPIRED))
		cursor_pull(&engine.redriven[leaf], t->expires_at, &t->event_id);
}

/* ------------------------------------------------------------------------
 * A tick
 * ------------------------------------------------------------------------ */

/* The extension, locked against DROP EXTENSION until the end of the transaction; NULL if gone or being dropped. */
static const EdaCatalog *
lock_extension(void)
{
	const EdaCatalog *c = catalog_get(true);
	LOCKTAG tag;
	Oid extension;

	if (c == NULL)
		return NULL;
	extension = c->extension;
	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId, extension, 0);
	if (LockAcquire(&tag, AccessShareLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return NULL;
	AcceptInvalidationMessages();
	c = catalog_get(true);
	return c && c->extension == extension ? c : NULL;
}

/* Lock extension and log in this transaction, unless that would mean waiting, or it is another log by now. */
bool
xact_lock_log(void)
{
	const EdaCatalog *c = lock_extension();

	return c != NULL && c->extension == engine.extension && journal_lock_leaves();
}

/*
 * Whether the engine can work in this transaction: NULL, or why not.  The snapshot, which is
 * active then, comes after the locks: an ALTER TABLE that rewrites a leaf makes new rows, which one
 * from before its commit does not see.
 */
static const char *
check_in(Snapshot *snapshot)
{
	static bool loaded = false;
	const EdaCatalog *c = lock_extension();
	const char *why = NULL;

	if (c == NULL)
		return "the extension is being dropped";
	if (strcmp(c->version, EDA_VERSION) != 0)
		return psprintf("the library is version %s, the extension %s", EDA_VERSION, c->version);
	/* Dropped and made again behind our back: what we remember is of another log. */
	if (OidIsValid(engine.extension) && engine.extension != c->extension)
		proc_exit(0);
	engine.area->extension = engine.extension = c->extension;
	if (!journal_lock_leaves())
		return "a table of the log is locked";
	*snapshot = GetTransactionSnapshot();
	PushActiveSnapshot(*snapshot);
	engine_type_read_rules(*snapshot);
	if (!loaded)
		why = state_load();
	loaded = why == NULL;
	return why;
}

/* Read what is new and what is due.  False if the engine cannot work now; it says why. */
static bool
read_log(bool collect)
{
	Snapshot snapshot = NULL;
	const char *why;

	xact_begin();
	if (catalog_get(true) == NULL)
	{
		attach_no_extension(engine.area);
		proc_exit(0);
	}
	why = check_in(&snapshot);
	if (why == NULL)
	{
		delivery_collect();
		todo_unpark();
		dispatch_size_windows();
		tail_read(snapshot);
		timing_match_early_ends();
		engine.recovering = false;
		dispatch_push(); /* before the windows are sized: what is on offer counts */
		dispatch_size_windows();
		if (collect || engine.area->offers_need_look)
			dispatch_collect();
		if (engine.moves)
		{
			timers_recover_offers(snapshot);
			timers_read(snapshot);
		}
	}
	if (snapshot)
		PopActiveSnapshot();
	xact_commit();
	engine.idle = why != NULL;
	if (why)
		status_set_state(psprintf("idle: %s", why));
	else
		status_set_state(engine.moves ? "running" : "paused");
	return why == NULL;
}

/* Take the first n off the list of what is noted. */
static void
done_todo(int n)
{
	engine.ntodo -= n;
	memmove(engine.todo, engine.todo + n, sizeof(Todo) * engine.ntodo);
}

/* An event's move raises an error by itself: set it aside for a while. */
static void
hold_back(Todo *todo)
{
	int seconds = Min(1 << Min(todo->errors, 10), MAX_HOLD_S);

	todo->errors++;
	engine.failed++;
	if (status_take_log_budget())
		ereport(LOG, errmsg("eda engine: event %s is held back for %d s", uuid_text(&todo->event_id), seconds));
	todo_park(todo, InvalidTransactionId, engine.now + seconds * USECS_PER_SEC);
	done_todo(1);
}

/* Move the next batch of noted events.  False if that must wait. */
static bool
move_batch(void)
{
	int n = Min(engine.ntodo, engine.batch);
	JournalStep *steps = palloc0(sizeof(JournalStep) * n);
	int nsteps;
	volatile bool locked = false;
	static TimestampTz full_until = 0;

	if (full_until > engine.now && full_until <= engine.now + FULL_DISK_WAIT)
		return false;
	for (int i = 0; i < n; i++)
	{
		steps[i].event_id = engine.todo[i].event_id;
		steps[i].leaf = engine.todo[i].leaf;
		steps[i].errors = engine.todo[i].errors;
		if (engine.todo[i].awaiting.version > 0)
			journal_know(&steps[i], EDA_AWAITING, &engine.todo[i].awaiting);
	}
	nsteps = journal_unique(steps, n); /* what was noted twice would lose a race against itself */
	PG_TRY();
	{
		xact_begin();
		PushActiveSnapshot(GetTransactionSnapshot());
		locked = xact_lock_log();
		if (locked)
		{
			engine.made += journal_append(steps, nsteps, JOURNAL_SKIP, engine_decide, NULL);
			on_fail_publish(steps, nsteps);
		}
		PopActiveSnapshot();
		xact_commit();
	}
	PG_CATCH();
	{
		/* That is not the events' fault: a word on each of them would only fill the disk more. */
		full_until = geterrcode() == ERRCODE_DISK_FULL ? engine.now + FULL_DISK_WAIT : 0;
		xact_recover(engine.tick, "could not move events");
		if (full_until > 0)
			return false;
		if (n == 1)
			hold_back(&engine.todo[0]);
		engine.batch = Max(n / 2, 1);
		return engine.failed < FAILED_IN_A_ROW;
	}
	PG_END_TRY();
	if (!locked)
		return false;
	engine.failed = 0;
	for (int i = 0; i < nsteps; i++)
		if (steps[i].status == JOURNAL_BUSY)
		{
			Todo todo = {steps[i].event_id, steps[i].leaf, steps[i].errors};

			todo_park(&todo, steps[i].busy_with, 0);
		}
	done_todo(n);
	engine.batch = Min(engine.batch * 2, ENGINE_BATCH);
	return true;
}

/* One turn.  True if there may be more to do at once. */
static bool
engine_tick(void)
{
	static TimestampTz collected_at = 0;
	static TimestampTz housekept_at = 0;
	TimestampTz start = GetCurrentTimestamp();
	bool collect = start >= collected_at + USECS_PER_SEC || start < collected_at;
	bool more;

	engine.now = clock_now();
	engine.moves = eda_engine_mode == EDA_ENGINE_ON;
	engine.read = engine.made = 0;
	engine.broker_window.noted = 0;
	for (int i = 0; i < engine.ntypes; i++)
		engine.types[i]->window.noted = engine.flows[engine.types[i]->flow].window.noted = 0;
	if (collect)
		catalog_forget();
	if (!read_log(collect))
		return false;
	if (collect)
		collected_at = start;
	more = send_waiting();
	while (engine.ntodo > 0 && move_batch())
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextReset(engine.tick);
	}
	dispatch_push();
	feed_send();
	state_save();
	if (engine.now >= housekept_at + HOUSEKEEPING_INTERVAL || engine.now < housekept_at)
	{
		state_housekeeping();
		housekept_at = engine.now;
	}
	counts_publish((GetCurrentTimestamp() - start) / 1000.0);
	return more || engine.made > 0 || (engine.failed > 0 && engine.ntodo > 0);
}

/* ------------------------------------------------------------------------
 * The process
 * ------------------------------------------------------------------------ */

/* Settings that a role or database default could change, and on which the engine relies. */
static void
pin_settings(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog"},
		{"synchronous_commit", "off"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "1s"}, /* no lock is waited for on purpose */
		{"idle_in_transaction_session_timeout", "0"},
		{"session_replication_role", "origin"},
		{"row_security", "on"},
		{"TimeZone", "GMT"},
		{"DateStyle", "ISO"},
		{"jit", "off"},
		{"client_min_messages", "warning"},
	};

	for (int i = 0; i < (int) lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

static void
engine_init(void)
{
	HASHCTL ctl = {.keysize = sizeof(pg_uuid_t), .entrysize = sizeof(pg_uuid_t)};

	engine.context = AllocSetContextCreate(TopMemoryContext, "eda engine", ALLOCSET_DEFAULT_SIZES);
	engine.tick = AllocSetContextCreate(engine.context, "eda tick", ALLOCSET_DEFAULT_SIZES);
	ctl.hcxt = engine.context;
	engine_type_init();
	engine.parked_ids = hash_create("eda parked", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	engine.batch = ENGINE_BATCH;
	engine.recovering = true;
	engine.config_version = -1;
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
	{
		cursor_reset(&engine.deadline[leaf]);
		cursor_reset(&engine.expiry[leaf]);
		cursor_reset(&engine.redriven[leaf]);
		cursor_reset(&engine.dispatched[leaf]);
	}
	tail_init();
	dispatch_init();
	status_started();
	timing_init();
	delivery_init();
	engine_nats_init();
	MemoryContextSwitchTo(engine.tick);
}

/* Sleep until woken, or until the next cursor's time; where nothing can be moved anyway, without looking at it. */
static void
engine_wait(void)
{
	TimestampTz next = timers_next();
	int pause = send_next_pause();
	long ms = IDLE_MS;

	if (next != EDA_NEVER && engine.moves && !engine.idle)
		ms = Min(ms, TimestampDifferenceMilliseconds(clock_now(), next));
	if (pause >= 0)
		ms = Min(ms, pause);
	pgstat_report_activity(STATE_IDLE, NULL);
	/* While idle nobody reads it. */
	if (engine_nats_event_fd() >= 0 && !engine.idle)
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
		                         engine_nats_event_fd(), Max(ms, 1), PG_WAIT_EXTENSION);
	else
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Max(ms, 1), PG_WAIT_EXTENSION);
	pgstat_report_activity(STATE_RUNNING, "eda engine");
}

/*
 * Busy, no worker waits, and the tick that began at start was a short one: sleep for PACE_MS.  What is committed
 * meanwhile costs one tick together, and no signal, because the latch of a process that does not wait is only set.
 * And where nothing can be moved, be slow to use up xids in vain.
 */
static void
engine_pace(TimestampTz start)
{
	static TimestampTz last = 0;
	static double recent = 0; /* transitions read, those of some milliseconds ago hardly counted */
	TimestampTz elapsed = GetCurrentTimestamp() - start;
	bool failing = engine.failed >= FAILED_IN_A_ROW;

	recent = recent / (1 + Max(start - last, 0) / (PACE_MS * 2000.0)) + engine.read;
	last = start;
	if (!failing && (recent < PACE_FROM || elapsed < 0 || elapsed >= PACE_MS * 1000 || dispatch_is_awaited()))
		return;
	(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, failing ? 10 : PACE_MS, PG_WAIT_EXTENSION);
}

/* The engine of one database; arg is the database's oid. */
void
eda_engine_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	pin_settings();
	engine.area = attach_engine(DatumGetObjectId(arg));
	engine_init();

	for (;;)
	{
		TimestampTz start = GetCurrentTimestamp();
		bool more;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			engine_nats_settings_changed();
		}
		if (attach_must_stop(engine.area))
			proc_exit(0);
		PG_TRY();
		{
			more = engine_tick();
		}
		PG_CATCH();
		{
			/* Not one event's error: the launcher starts another engine.  Leave word. */
			MemoryContextSwitchTo(engine.tick);
			status_set_error(CopyErrorData()->message);
			PG_RE_THROW();
		}
		PG_END_TRY();
		MemoryContextReset(engine.tick);
		engine_pace(start);
		if (!more)
			engine_wait();
	}
}
