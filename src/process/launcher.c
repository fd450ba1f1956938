/*
 * launcher.c
 *		Starts one engine for each database that has the extension.  (ddl.c stops it for the
 *		commands that fail while anybody is connected.)
 *
 * The launcher is a static background worker that is connected to no database.  It reads
 * pg_database, but it cannot see which databases have the extension.  So it starts an engine in
 * each database once, as a probe; an engine that finds no extension reports that and ends.  The
 * states of a database:
 *
 *		                 probe: no extension (or it was dropped)
 *		   +------------------------------------------------> without extension
 *		   |                                                         |
 *		unknown --> asked --> running --> stopped (exit 0) --+       | CREATE EXTENSION
 *		   ^          |          |                           |       | commits: a request
 *		   |          | never    | ERROR, FATAL, SIGTERM     |       |
 *		   |          v attached v                           |       |
 *		   |        backoff 1 s, 2 s ... 60 s                |       |
 *		   |        (after a healthy minute: 1 s)            |       |
 *		   +----------+--------------------------------------+-------+
 *
 * What happens when:
 *
 * server start			the launcher probes all databases, two at a time.
 * standby				nothing runs: both workers are started at BgWorkerStart_RecoveryFinished.
 * promotion			as at server start.
 * pg_upgrade			no launcher is registered: it would count as a connection.
 * CREATE EXTENSION		eda.start_engine() in the install script asks the launcher for an engine
 *						when the transaction commits; a rollback leaves no request.  After COMMIT
 *						PREPARED, the first publish makes the request.
 * DROP EXTENSION		after the commit the engine finds the extension gone, reports that and
 *						ends; its area is free again.  A rollback changes nothing.
 * DROP DATABASE		ddl.c blocks the database, stops its engine, and lifts the block at the
 *						end of the transaction.  If it commits, the launcher no longer finds the
 *						database and frees its area.  If it fails, the launcher starts the engine
 *						again.  For the session's own database PostgreSQL refuses the command, so
 *						no engine is stopped.
 * DROP of another one	DROP DATABASE waits for all processes of the cluster to accept a barrier:
 *						each engine calls CHECK_FOR_INTERRUPTS() on every turn.
 * RENAME TO, SET TABLESPACE
 *						as DROP DATABASE.  RENAME can run in a transaction block: the database is
 *						blocked until that block ends.
 * CREATE DATABASE ... TEMPLATE
 *						as DROP DATABASE, for the template (template1 unless another one is
 *						named). The new database is probed; if it is a copy of a log, its engine
 *						stays idle, because the saved state names another database as the log's
 *						home.
 * template databases	get an engine only if one was asked for since server start: each CREATE
 *						DATABASE would have to stop it.
 * ERROR in an engine	the engine ends; the launcher starts another one after the backoff.
 * kill -9 of an engine	the postmaster restarts all processes; then as at server start.
 * ERROR in the launcher
 *						the postmaster restarts it.  Engines go on, because areas and slots are
 *						in shared memory; the databases are probed again.
 * eda.engine = off		engines see the setting when they reload, and end.  When it is on again,
 *						the launcher sees that when it reloads, and starts them.
 * too many databases	an engine that finds the extension but no free area reports that and
 *						ends.  The launcher logs one line, and tries again when an area is free.
 * no worker slot		the launcher logs one line, and tries again after the backoff.
 * datallowconn = false	no new engine is started; a running engine goes on, as sessions do.
 * invalid database		(after an interrupted DROP DATABASE) the launcher never connects to it.
 * fast shutdown		SIGTERM ends engine and launcher like any session.  At a smart shutdown
 *						the postmaster sends it when the last client has disconnected.
 *
 * The engine of a database is the process whose pid is in its area's engine_pid; the engine
 * itself sets and clears it under EdaShmem.lock.  Its exit callback clears it before the
 * process releases its session lock and its entry among the processes, so engine_pid is 0 a
 * little before the engine is really gone.  Therefore the launcher waits until the postmaster
 * reports the end of the process; ddl.c leaves that to PostgreSQL, which waits for other
 * sessions by itself.
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
	bool seen; /* the scan of pg_database that is under way has found it */
	bool connectable;
	bool is_template;
	bool requested;       /* a session has asked for an engine */
	bool requested_again; /* ... since the last start of an engine */
	bool no_extension;
	bool no_area;
	BackgroundWorkerHandle *handle; /* NULL: the launcher has started no engine, or it has ended */
	TimestampTz started_at;
	int failures; /* in a row, without an engine that ran for a minute */
	TimestampTz retry_at;
} Database;

/* What shared memory says of a database. */
typedef struct DatabaseStatus
{
	pid_t engine_pid;
	int blocked;
	EngineStart start;
} DatabaseStatus;

static HTAB *databases = NULL;
static DatabaseSlot *requests = NULL; /* copied out of shared memory */
static Oid *area_databases = NULL;    /* by area: its database before the scan of pg_database */
static TimestampTz scan_at = 0;
static bool said_no_slot = false;

PGDLLEXPORT void eda_launcher_main(Datum arg);

/* ------------------------------------------------------------------------
 * One turn of the launcher: requests, engines that have ended, pg_database, starts
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
	DatabaseSlot *slot;

	LWLockAcquire(&eda_shmem->lock, LW_SHARED);
	area = shmem_area_of(db);
	slot = attach_slot(db, false);
	status->engine_pid = area ? area->engine_pid : 0;
	status->blocked = slot ? slot->blocked : 0;
	status->start = slot ? slot->start : START_NONE;
	LWLockRelease(&eda_shmem->lock);
}

/* Take the requests for engines out of shared memory; true if pg_database must be read now. */
static bool
launcher_take_requests(void)
{
	int n = 0;
	bool rescan;
	bool lost;

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	rescan = eda_shmem->rescan;
	lost = eda_shmem->request_lost;
	eda_shmem->rescan = eda_shmem->request_lost = false;
	for (int i = 0; i < eda_shmem->nslots; i++)
	{
		DatabaseSlot *slot = shmem_slot(i);

		if (!OidIsValid(slot->database) || slot->request == REQUEST_NONE)
			continue;
		requests[n++] = *slot;
		slot->request = REQUEST_NONE;
		attach_free_unused_slot(slot);
	}
	LWLockRelease(&eda_shmem->lock);

	for (int i = 0; i < n; i++)
	{
		Database *d = database_entry(requests[i].database);

		d->requested = true;
		d->requested_again = true;
		d->no_extension = false;
		if (requests[i].request == REQUEST_NOW)
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

/*
 * Make the database wait before its next engine: 1 s, then twice as long each time, up to a
 * minute.
 */
static void
database_backoff(Database *d, TimestampTz now)
{
	int wait = Min(1 << Min(d->failures, 6), MAX_BACKOFF_S);

	d->failures++;
	d->retry_at = TimestampTzPlusMilliseconds(now, wait * 1000);
}

/* If the engine of a database has ended, decide when it gets another one. */
static void
database_reap(Database *d, TimestampTz now)
{
	bool ours = d->handle != NULL;
	EngineStart end = START_NONE;
	DatabaseSlot *slot;
	pid_t pid;

	if (ours)
	{
		if (GetBackgroundWorkerPid(d->handle, &pid) != BGWH_STOPPED)
			return;
		pfree(d->handle);
		d->handle = NULL;
	}

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	slot = attach_slot(d->oid, false);
	if (slot != NULL)
	{
		end = slot->start;
		/* An engine that an earlier launcher started may still be running. */
		if (ours || end > START_RUNNING)
		{
			slot->start = START_NONE;
			attach_free_unused_slot(slot);
		}
	}
	LWLockRelease(&eda_shmem->lock);
	if (!ours && end <= START_RUNNING)
		return;

	switch (end)
	{
		case START_NO_EXTENSION:
			/* CREATE EXTENSION may have been committed while the engine was ending. */
			d->no_extension = !d->requested_again;
			d->requested = d->requested_again;
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
			/* Start another one, but not more often than once a second. */
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

/* Read pg_database: add the databases that are new, forget those that are gone. */
static void
launcher_scan(void)
{
	HASH_SEQ_STATUS seq;
	Database *d;
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;

	/*
	 * An area that is claimed from here on may belong to a database that this scan does not
	 * see.
	 */
	for (int i = 0; i < eda_max_databases; i++)
		area_databases[i] = shmem_area(i)->database;
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
			if (area_databases[i] == d->oid)
				shmem_release_area(shmem_area(i), d->oid);
		}
		if (d->handle == NULL)
		{
			LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
			attach_set_start(d->oid, START_NONE);
			LWLockRelease(&eda_shmem->lock);
			hash_search(databases, &d->oid, HASH_REMOVE, NULL);
		}
	}
}

/* Ask the postmaster to start an engine for the database. */
static void
database_start(Database *d, TimestampTz now)
{
	BackgroundWorker worker;
	MemoryContext old;
	bool ok;

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	ok = attach_set_start(d->oid, START_ASKED);
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
		d->requested_again = false;
		d->no_area = false;
		said_no_slot = false;
		return;
	}

	d->handle = NULL;
	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	attach_set_start(d->oid, START_NONE);
	LWLockRelease(&eda_shmem->lock);
	if (!said_no_slot)
		ereport(WARNING, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
		        errmsg("no background worker slot for the engine of database \"%s\"", NameStr(d->name)),
		        errhint("Raise max_worker_processes and restart the server."));
	said_no_slot = true;
	database_backoff(d, now);
}

/* Start the engines that are missing; returns the time at which to look again. */
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
		if (d->is_template && !d->requested)
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
			continue; /* an engine wakes the launcher when it has its area, or has ended */
		database_start(d, now);
		if (d->handle != NULL)
			starting++;
		else
			next = Min(next, d->retry_at);
	}
	return next;
}

/*
 * One turn: requests, engines that have ended, pg_database, starts.  Returns when the next
 * turn is due.
 */
static TimestampTz
launcher_turn(void)
{
	TimestampTz now = GetCurrentTimestamp();
	bool rescan = launcher_take_requests();
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

/*
 * Exit callback: another process will get our place among the processes, and must not be woken
 * for us.
 */
static void
launcher_exited(int code, Datum arg)
{
	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	if (eda_shmem->launcher_proc == MY_PROC_NUMBER)
		eda_shmem->launcher_proc = -1;
	LWLockRelease(&eda_shmem->lock);
}

/*
 * Become the launcher that others wake, and forget what an earlier launcher had asked the
 * postmaster for.
 */
static void
launcher_attach(void)
{
	HASHCTL ctl;

	requests = MemoryContextAlloc(TopMemoryContext, eda_shmem->nslots * sizeof(DatabaseSlot));
	area_databases = MemoryContextAlloc(TopMemoryContext, eda_max_databases * sizeof(Oid));
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(Database);
	ctl.hcxt = TopMemoryContext;
	databases = hash_create("eda databases", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	eda_shmem->launcher_proc = MY_PROC_NUMBER;
	for (int i = 0; i < eda_shmem->nslots; i++)
	{
		DatabaseSlot *slot = shmem_slot(i);

		if (OidIsValid(slot->database) && slot->start == START_ASKED)
		{
			slot->start = START_NONE;
			attach_free_unused_slot(slot);
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

/* Register the launcher; called once, from _PG_init() at server start. */
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
