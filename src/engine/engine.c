/*
 * engine.c
 *		The background worker that moves events on.
 *
 * engine_tick() is the table of contents.  A tick reads the log (one transaction without an
 * xid), hands messages over to the broker, moves events (one transaction for each batch) and
 * publishes the feed (one transaction).  At most every five seconds it saves its state.
 *
 * The engine never waits for a client.  It takes a lock only if it gets it at once, and if an
 * open transaction has appended to an event, it parks the event until that transaction ends.
 *
 * Errors while events are moved, messages are made or the feed is published are caught: see
 * move.c, send.c and feed.c.  Any other error ends the process.  Then the launcher starts another
 * engine, which goes on from the saved state.
 *
 * The engine's commits are asynchronous.  A crash cannot lose the dispatch of an event and keep
 * a worker's acquire of it, because the acquire comes later in the WAL.
 */
#include "engine/engine.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#define IDLE_MS 1000 /* longest sleep: COMMIT PREPARED and steps of the clock send no signal */
#define HOUSEKEEPING_INTERVAL (10 * USECS_PER_SEC)
#define PACE_MS 1          /* pause between ticks if the engine is busy and no worker waits */
#define PACE_FROM 10       /* the engine is busy from this many transitions in about 2 ms on */
#define FAILING_PACE_MS 10 /* pause between ticks while no event can be moved */

PGDLLEXPORT void eda_engine_main(Datum arg);

static bool state_is_loaded = false;
static bool once_a_second;            /* this tick also does what is done once a second */
static TimestampTz looked_at = 0;     /* when a tick last did so, by the system's clock */
static TimestampTz housekept_at = 0;  /* when housekeeping last ran, by eda's clock */
static TimestampTz paced_at = 0;      /* when the last tick began */
static double recent_transitions = 0; /* read by the tail; those of 2 ms ago count half */

/* ------------------------------------------------------------------------
 * A tick
 * ------------------------------------------------------------------------ */

/* Set the tick's time, reset its counters, and find out whether a second has passed. */
static void
begin_tick(TimestampTz start)
{
	engine.now = clock_now();
	engine.moves = eda_engine_mode == EDA_ENGINE_ON;
	engine.read = engine.made = 0;
	dispatch_begin_tick();
	once_a_second = start >= looked_at + USECS_PER_SEC || start < looked_at;
	if (once_a_second)
		catalog_forget();
}

/*
 * Lock the extension and the log, take the tick's snapshot and make it active, read the rules of
 * event types and, the first time, load the saved state.  Returns NULL, or why the engine cannot
 * work now.
 *
 * The snapshot is taken after the locks.  An ALTER TABLE that rewrites a leaf makes new rows, and
 * a snapshot from before its commit does not see them.
 */
static const char *
prepare_log(Snapshot *snapshot)
{
	const EdaCatalog *c = xact_lock_extension();
	const char *why;

	if (c == NULL)
		return "the extension is being dropped";
	if (strcmp(c->version, EDA_VERSION) != 0)
		return psprintf("the library is version %s, the extension %s", EDA_VERSION, c->version);
	/* The extension was dropped and created again: what this process knows is of the old log. */
	if (OidIsValid(engine.extension) && engine.extension != c->extension)
		proc_exit(0);
	engine.area->extension = engine.extension = c->extension;
	if (!journal_lock_leaves())
		return "a table of the log is locked";
	*snapshot = GetTransactionSnapshot();
	PushActiveSnapshot(*snapshot);
	engine_type_read_rules(*snapshot);
	if (state_is_loaded)
		return NULL;
	why = state_load();
	state_is_loaded = why == NULL;
	return why;
}

/*
 * Begin the transaction in which the log is read.  If the engine cannot work now, set the reason
 * in eda.engine_status, and return false without a transaction.  If the database does not have
 * the extension, end the process.
 */
static bool
open_log(Snapshot *snapshot)
{
	const char *why;

	*snapshot = NULL;
	xact_begin();
	if (catalog_get(true) == NULL)
	{
		attach_no_extension(engine.area);
		proc_exit(0);
	}
	why = prepare_log(snapshot);
	if (why == NULL)
		return true;
	if (*snapshot)
		PopActiveSnapshot();
	xact_commit();
	engine.idle = true;
	status_set_state(psprintf("idle: %s", why));
	return false;
}

/* End the transaction that open_log() has begun. */
static void
close_log(void)
{
	PopActiveSnapshot();
	xact_commit();
	engine.idle = false;
	status_set_state(engine.moves ? "running" : "paused");
}

/* Do the housekeeping every ten seconds. */
static void
housekeeping_if_due(void)
{
	if (engine.now < housekept_at + HOUSEKEEPING_INTERVAL && engine.now >= housekept_at)
		return;
	housekeeping_run();
	housekept_at = engine.now;
}

/* One turn of the engine.  Returns true if the next one should follow without waiting. */
static bool
engine_tick(void)
{
	TimestampTz start = GetCurrentTimestamp();
	Snapshot snapshot;
	bool more;

	begin_tick(start);
	if (!open_log(&snapshot)) /* one transaction: locks, snapshot, rules */
		return false;
	delivery_collect();      /* the broker's receipts */
	todo_unpark();           /* events whose reason to be parked is over */
	dispatch_size_windows(); /* see_transition() asks whether there is room */
	tail_read(snapshot, see_transition);
	timing_match_early_ends();
	engine.recovering = false;
	dispatch_push();         /* wakes workers, so it comes as early as possible */
	dispatch_size_windows(); /* the tail's transitions have changed the room */
	if (once_a_second || engine.area->offers_need_look)
		dispatch_collect(); /* offers that came back, or that a worker has not committed */
	if (engine.moves)
		timers_read(snapshot);
	close_log();
	if (once_a_second)
		looked_at = start;

	more = send_waiting(); /* hand messages over to the broker */
	move_queued();
	dispatch_push(); /* offers that decide_move() has made again */
	feed_send();
	state_save();
	housekeeping_if_due();
	counts_publish((GetCurrentTimestamp() - start) / 1000.0);
	return more || engine.made > 0 || (move_has_failed() && !todo_is_empty());
}

/* ------------------------------------------------------------------------
 * The process
 * ------------------------------------------------------------------------ */

/* Set what the engine relies on, and what defaults of a role or database could change. */
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
		{"lock_timeout", "1s"}, /* the engine waits for no lock on purpose */
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
	engine.context = AllocSetContextCreate(TopMemoryContext, "eda engine", ALLOCSET_DEFAULT_SIZES);
	engine.tick = AllocSetContextCreate(engine.context, "eda tick", ALLOCSET_DEFAULT_SIZES);
	engine_type_init();
	todo_init();
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

/*
 * Sleep until the engine is woken, or until the next time when there is something to do.  If no
 * event can be moved anyway (paused, or idle), those times do not matter.
 */
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
	/* An idle engine reads no receipts, so the broker's descriptor could stay readable. */
	if (engine_nats_event_fd() >= 0 && !engine.idle)
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
		                         engine_nats_event_fd(), Max(ms, 1), PG_WAIT_EXTENSION);
	else
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, Max(ms, 1), PG_WAIT_EXTENSION);
	pgstat_report_activity(STATE_RUNNING, "eda engine");
}

/*
 * Pause between two ticks.  If the engine is busy, no worker waits, and the tick that began at
 * start was shorter than PACE_MS, the engine sleeps for PACE_MS without waiting on its latch.
 * All commits during the pause share one tick, and their SetLatch() calls send no signal.  If
 * moves keep failing, the engine waits longer, so that its retries do not burn xids.
 */
static void
engine_pace(TimestampTz start)
{
	TimestampTz elapsed = GetCurrentTimestamp() - start;

	recent_transitions = recent_transitions / (1 + Max(start - paced_at, 0) / (PACE_MS * 2000.0)) + engine.read;
	paced_at = start;
	if (move_is_failing())
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, FAILING_PACE_MS, PG_WAIT_EXTENSION);
	else if (recent_transitions >= PACE_FROM && elapsed >= 0 && elapsed < PACE_MS * 1000 && !dispatch_is_awaited())
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, PACE_MS, PG_WAIT_EXTENSION);
}

/* Entry point of the engine's process; arg is the oid of its database. */
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
			/* The process ends; the next engine keeps this message in eda.engine_status. */
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
