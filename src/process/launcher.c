/*
 * launcher.c
 *		Starts one engine per database that has the extension.  (ddl.c stops it
 *		for the DDL that cannot have anybody connected.)
 *
 * The launcher is a static background worker on the shared catalogs.  It cannot
 * see which databases have the extension, so it starts an engine in each once;
 * one that finds nothing to do says so and leaves (a probe).  An engine:
 *
 *		                 probe: no extension (or it was dropped)
 *		   +------------------------------------------------> without extension
 *		   |                                                         |
 *		unknown --> asked --> running --> stopped (exit 0) --+       | CREATE EXTENSION
 *		   ^          |          |                           |       | commits: a wish
 *		   |          | never    | ERROR, FATAL, SIGTERM     |       |
 *		   |          v attached v                           |       |
 *		   |        backoff 1 s, 2 s ... 60 s                |       |
 *		   |        (after a healthy minute: 1 s)            |       |
 *		   +----------+--------------------------------------+-------+
 *
 * What happens when:
 *
 * server start			the launcher probes all databases, two at a time.
 * standby				nothing runs; both workers are BgWorkerStart_RecoveryFinished.
 * promotion			like server start.
 * pg_upgrade			no launcher: it would be in the way of connections.
 * CREATE EXTENSION		eda.start_engine() in the script leaves a wish with the
 *						launcher at commit; a rollback leaves nothing.
 *						A prepared transaction: the first publish makes the wish.
 * DROP EXTENSION		the engine finds it gone after the commit, says so, leaves, and
 *						its area is free again; a rollback changes nothing.
 * DROP DATABASE		the hook blocks the database, stops its engine, and undoes the
 *						block at the end of the transaction.  Committed: the launcher
 *						does not find the database any more and frees its area.
 *						Failed: it starts the engine again.  The own database:
 *						PostgreSQL refuses, so nothing is stopped.
 * DROP of another		our part is CHECK_FOR_INTERRUPTS on every turn, for the
 *						barrier that DROP DATABASE waits for.
 * RENAME TO, SET TABLESPACE	as DROP DATABASE.  RENAME runs in a transaction
 *						block: the block lasts until its end.
 * CREATE DATABASE ... TEMPLATE	as DROP DATABASE, for the template (template1 unless
 *						named).  The clone is probed; its engine stays idle, for the
 *						log says that its home is elsewhere.
 * template databases	get an engine only when asked for since server start: it
 *						would be stopped for each CREATE DATABASE.
 * ERROR in an engine	it ends; the launcher starts another after the backoff.
 * kill -9 of an engine	the postmaster restarts all; as server start.
 * ERROR in the launcher	the postmaster restarts it.  Engines go on; areas and
 *						notes are in shared memory; probes are made again.
 * eda.engine = off		engines see it when they reload, and leave; on: the launcher
 *						sees it likewise, and starts them.
 * too many databases	an engine that finds the extension and no area says so and
 *						leaves; one line in the log; tried again when one is free.
 * no worker slot		one line in the log; tried again with the backoff.
 * datallowconn = false	no new engine; a running one goes on, as sessions do.
 * invalid database		(an interrupted DROP) never connected to.
 * fast shutdown		SIGTERM is die.  Smart: the postmaster does likewise once
 *						the clients are gone.
 *
 * An engine is known by its area's engine_pid, set and cleared by the engine
 * itself under EdaShmem.lock; its exit callback runs before it gives up its
 * session lock and its place among the processes, so "gone" is a little early.
 * The launcher waits for the postmaster's word, the hook leaves the rest to
 * PostgreSQL's own wait for other sessions.
 */
#include "process/process.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#define SCAN_INTERVAL_MS (60 * 1000)
#define HEALTHY_MS (60 * 1000)
#define MAX_BACKOFF_S 60
#define STARTS_AT_ONCE 2

/* What the launcher knows of a database. */
typedef struct Database
{
	Oid oid; /* hash key */
	NameData name;
	bool seen; /* by the scan under way */
	bool connectable;
	bool is_template;
	bool wished;       /* somebody asked for an engine */
	bool wished_again; /* since the last start */
	bool no_extension;
	bool no_area;
	BackgroundWorkerHandle *handle; /* NULL: we started none, or it has ended */
	TimestampTz started_at;
	int failures; /* without a healthy minute */
	TimestampTz retry_at;
} Database;

/* What shared memory says of a database. */
typedef struct DatabaseStatus
{
	pid_t engine_pid;
	int blocked;
	EngineStart start;
} DatabaseStatus;

/* launcher */
static HTAB *databases = NULL;
static EngineNote *wishes = NULL; /* copied out of shared memory */
static Oid *held = NULL;          /* by area: its database before a scan */
static TimestampTz scan_at = 0;
static bool said_no_slot = false;

PGDLLEXPORT void eda_launcher_main(Datum arg);

/* ------------------------------------------------------------------------
 * The launcher: one turn is wishes, endings, pg_database, starts
 * ------------------------------------------------------------------------ */

/* The launcher's entry for a database. */
static Database *
database_entry(Oid db)
{
	bool found;
	Database *d = hash_search(databases, &db, HASH_ENTER, &found);

	if (!found)
	{
		memset(d, 0, sizeof(Database));
		d->oid = db;
	}
	return d;
}

static void
database_status(Oid db, DatabaseStatus *status)
{
	EngineArea *area;
	EngineNote *note;

	LWLockAcquire(&eda_shmem->lock, LW_SHARED);
	area = shmem_area_of(db);
	note = attach_note(db, false);
	status->engine_pid = area ? area->engine_pid : 0;
	status->blocked = note ? note->blocked : 0;
	status->start = note ? note->start : START_NONE;
	LWLockRelease(&eda_shmem->lock);
}

/* Hear who wants an engine; true if pg_database has to be read now. */
static bool
launcher_take_wishes(void)
{
	int n = 0;
	bool rescan;
	bool lost;

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	rescan = eda_shmem->rescan;
	lost = eda_shmem->wish_lost;
	eda_shmem->rescan = eda_shmem->wish_lost = false;
	for (int i = 0; i < eda_shmem->nnotes; i++)
	{
		EngineNote *note = shmem_note(i);

		if (!OidIsValid(note->database) || note->wish == WISH_NONE)
			continue;
		wishes[n++] = *note;
		note->wish = WISH_NONE;
		attach_tidy_note(note);
	}
	LWLockRelease(&eda_shmem->lock);

	for (int i = 0; i < n; i++)
	{
		Database *d = database_entry(wishes[i].database);

		d->wished = true;
		d->wished_again = true;
		d->no_extension = false;
		if (wishes[i].wish == WISH_NOW)
		{
			d->no_area = false;
			d->failures = 0;
			d->retry_at = 0;
		}
	}
	if (lost)
	{
		HASH_SEQ_STATUS seq;
		Database *d;

		hash_seq_init(&seq, databases);
		while ((d = hash_seq_search(&seq)) != NULL)
			d->no_extension = false;
	}
	return rescan || lost;
}

/* Have the database wait before its next engine: 1 s, doubling to a minute. */
static void
database_backoff(Database *d, TimestampTz now)
{
	int wait = Min(1 << Min(d->failures, 6), MAX_BACKOFF_S);

	d->failures++;
	d->retry_at = TimestampTzPlusMilliseconds(now, wait * 1000);
}

/* Draw the conclusions where an engine has ended. */
static void
database_reap(Database *d, TimestampTz now)
{
	bool ours = d->handle != NULL;
	EngineStart end = START_NONE;
	EngineNote *note;
	pid_t pid;

	if (ours)
	{
		if (GetBackgroundWorkerPid(d->handle, &pid) != BGWH_STOPPED)
			return;
		pfree(d->handle);
		d->handle = NULL;
	}

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	note = attach_note(d->oid, false);
	if (note != NULL)
	{
		end = note->start;
		/* an engine that an earlier launcher started may be running still */
		if (ours || end > START_RUNNING)
		{
			note->start = START_NONE;
			attach_tidy_note(note);
		}
	}
	LWLockRelease(&eda_shmem->lock);
	if (!ours && end <= START_RUNNING)
		return;

	switch (end)
	{
		case START_NO_EXTENSION:
			/* unless CREATE EXTENSION came while it was leaving */
			d->no_extension = !d->wished_again;
			d->wished = d->wished_again;
			d->failures = 0;
			d->retry_at = 0;
			break;

		case START_NO_AREA:
			if (!d->no_area)
				ereport(WARNING, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				        errmsg("no engine for database \"%s\"", NameStr(d->name)),
				        errdetail("All %d databases of eda.max_databases are in use.", eda_max_databases),
				        errhint("Raise eda.max_databases and restart the server."));
			d->no_area = true;
			break;

		case START_STOPPED:
			/* at once, but never in a tight circle */
			d->retry_at = TimestampTzPlusMilliseconds(d->started_at, 1000);
			break;

		case START_NONE:
		case START_ASKED:
		case START_RUNNING:
		case START_CRASHED:
			if (TimestampDifferenceExceeds(d->started_at, now, HEALTHY_MS))
				d->failures = 0;
			database_backoff(d, now);
			break;
	}
}

/* Read pg_database: note what is new, forget what is gone. */
static void
launcher_scan(void)
{
	HASH_SEQ_STATUS seq;
	Database *d;
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;

	/* An area claimed from here on is not judged by what this scan finds. */
	for (int i = 0; i < eda_max_databases; i++)
		held[i] = shmem_area(i)->database;
	hash_seq_init(&seq, databases);
	while ((d = hash_seq_search(&seq)) != NULL)
		d->seen = false;

	pgstat_report_activity(STATE_RUNNING, "reading pg_database");
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		d = database_entry(form->oid);
		d->name = form->datname;
		d->seen = true;
		d->connectable = form->datallowconn && !DATABASE_IS_INVALID_COMPAT(form);
		d->is_template = form->datistemplate;
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);

	hash_seq_init(&seq, databases);
	while ((d = hash_seq_search(&seq)) != NULL)
	{
		if (d->seen)
			continue;
		d->connectable = false;
		for (int i = 0; i < eda_max_databases; i++)
		{
			if (held[i] == d->oid)
				shmem_release_area(shmem_area(i), d->oid);
		}
		if (d->handle == NULL)
		{
			LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
			attach_note_start(d->oid, START_NONE);
			LWLockRelease(&eda_shmem->lock);
			hash_search(databases, &d->oid, HASH_REMOVE, NULL);
		}
	}
}

/* Ask the postmaster for an engine. */
static void
database_start(Database *d, TimestampTz now)
{
	BackgroundWorker worker;
	MemoryContext old;
	bool ok;

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	ok = attach_note_start(d->oid, START_ASKED);
	LWLockRelease(&eda_shmem->lock);
	if (!ok)
	{
		database_backoff(d, now);
		return;
	}

	memset(&worker, 0, sizeof(worker));
	snprintf(worker.bgw_name, sizeof(worker.bgw_name), "eda engine for database %u", d->oid);
	strlcpy(worker.bgw_type, "eda engine", sizeof(worker.bgw_type));
	strlcpy(worker.bgw_library_name, "eda", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "eda_engine_main", sizeof(worker.bgw_function_name));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(d->oid);
	worker.bgw_notify_pid = MyProcPid;

	old = MemoryContextSwitchTo(TopMemoryContext);
	ok = RegisterDynamicBackgroundWorker(&worker, &d->handle);
	MemoryContextSwitchTo(old);

	if (ok)
	{
		d->started_at = now;
		d->wished_again = false;
		d->no_area = false;
		said_no_slot = false;
		return;
	}

	d->handle = NULL;
	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	attach_note_start(d->oid, START_NONE);
	LWLockRelease(&eda_shmem->lock);
	if (!said_no_slot)
		ereport(WARNING, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
		        errmsg("no background worker slot for the engine of database \"%s\"", NameStr(d->name)),
		        errhint("Raise max_worker_processes and restart the server."));
	said_no_slot = true;
	database_backoff(d, now);
}

/* Start engines where they are missing; returns when to look again. */
static TimestampTz
launcher_start_engines(TimestampTz now)
{
	HASH_SEQ_STATUS seq;
	Database *d;
	DatabaseStatus status;
	TimestampTz next = scan_at;
	bool area_left = shmem_area_left();
	int starting = 0;

	if (eda_engine_mode == EDA_ENGINE_OFF)
		return next;

	hash_seq_init(&seq, databases);
	while ((d = hash_seq_search(&seq)) != NULL)
	{
		if (d->handle == NULL)
			continue;
		database_status(d->oid, &status);
		if (status.start == START_ASKED)
			starting++;
	}

	hash_seq_init(&seq, databases);
	while ((d = hash_seq_search(&seq)) != NULL)
	{
		if (d->handle != NULL || !d->connectable || d->no_extension)
			continue;
		if (d->is_template && !d->wished)
			continue;
		if (d->no_area && !area_left)
			continue;
		database_status(d->oid, &status);
		if (status.engine_pid != 0 || status.blocked > 0)
			continue;
		if (now < d->retry_at)
		{
			next = Min(next, d->retry_at);
			continue;
		}
		if (starting >= STARTS_AT_ONCE)
			continue; /* we are woken when one has got somewhere */
		database_start(d, now);
		if (d->handle != NULL)
			starting++;
		else
			next = Min(next, d->retry_at);
	}
	return next;
}

/* Do what there is to do; returns when to do it again unless woken. */
static TimestampTz
launcher_turn(void)
{
	TimestampTz now = GetCurrentTimestamp();
	bool rescan = launcher_take_wishes();
	HASH_SEQ_STATUS seq;
	Database *d;

	hash_seq_init(&seq, databases);
	while ((d = hash_seq_search(&seq)) != NULL)
		database_reap(d, now);

	if (rescan || now >= scan_at)
	{
		launcher_scan();
		scan_at = TimestampTzPlusMilliseconds(now, SCAN_INTERVAL_MS);
	}
	return launcher_start_engines(now);
}

/* Exit callback: nobody is to wake whoever gets our place. */
static void
launcher_exited(int code, Datum arg)
{
	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	if (eda_shmem->launcher_proc == MY_PROC_NUMBER)
		eda_shmem->launcher_proc = -1;
	LWLockRelease(&eda_shmem->lock);
}

/* Make ourselves known, and forget what an earlier launcher had asked for. */
static void
launcher_attach(void)
{
	HASHCTL ctl;

	wishes = MemoryContextAlloc(TopMemoryContext, eda_shmem->nnotes * sizeof(EngineNote));
	held = MemoryContextAlloc(TopMemoryContext, eda_max_databases * sizeof(Oid));
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(Database);
	ctl.hcxt = TopMemoryContext;
	databases = hash_create("eda databases", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	eda_shmem->launcher_proc = MY_PROC_NUMBER;
	for (int i = 0; i < eda_shmem->nnotes; i++)
	{
		EngineNote *note = shmem_note(i);

		if (OidIsValid(note->database) && note->start == START_ASKED)
		{
			note->start = START_NONE;
			attach_tidy_note(note);
		}
	}
	LWLockRelease(&eda_shmem->lock);
	before_shmem_exit(launcher_exited, (Datum) 0);
}

/* The launcher's process. */
void
eda_launcher_main(Datum arg)
{
	pqsignal(SIGTERM, die);
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("eda launcher");
	launcher_attach();

	for (;;)
	{
		TimestampTz next;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		next = launcher_turn();
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
		                 TimestampDifferenceMilliseconds(GetCurrentTimestamp(), next), PG_WAIT_EXTENSION);
	}
}

/* Register the launcher; only while shared_preload_libraries is being processed. */
void
launcher_register(void)
{
	BackgroundWorker worker;

	if (IsBinaryUpgrade)
		return;

	memset(&worker, 0, sizeof(worker));
	strlcpy(worker.bgw_name, "eda launcher", sizeof(worker.bgw_name));
	strlcpy(worker.bgw_type, "eda launcher", sizeof(worker.bgw_type));
	strlcpy(worker.bgw_library_name, "eda", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "eda_launcher_main", sizeof(worker.bgw_function_name));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}
