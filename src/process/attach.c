/*
 * attach.c
 *		How an engine becomes the engine of its database and how it leaves, and how sessions
 *		ask for an engine.  The scenarios are listed in launcher.c.
 */
#include "process/process.h"

#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/snapmgr.h"

/* field4 of the engine's advisory lock.  SQL functions make only locks with 1 and 2 there. */
#define LOCK_CLASS 0xEDA
#define LOCK_KEY 1

static bool start_requested = false;

PG_FUNCTION_INFO_V1(eda_start_engine);

/* ------------------------------------------------------------------------
 * Slots: what is under way with a database.  The caller of these functions holds EdaShmem.lock.
 * ------------------------------------------------------------------------ */

/* The slot of a database.  If it has none: a new slot with make, if one is free; else NULL. */
DatabaseSlot *
attach_slot(Oid db, bool make)
{
	DatabaseSlot *unused = NULL;

	for (int i = 0; i < eda_shmem->nslots; i++)
	{
		DatabaseSlot *slot = shmem_slot(i);

		if (slot->database == db)
			return slot;
		if (!OidIsValid(slot->database) && unused == NULL)
			unused = slot;
	}
	if (make && unused != NULL)
		unused->database = db;
	return make ? unused : NULL;
}

/* Free a slot if nothing is under way with its database any more. */
void
attach_free_unused_slot(DatabaseSlot *slot)
{
	if (slot->blocked == 0 && slot->start == START_NONE && slot->request == REQUEST_NONE)
		slot->database = InvalidOid;
}

/* Record how far an engine has got; false if no slot is free for that. */
bool
attach_set_start(Oid db, EngineStart start)
{
	DatabaseSlot *slot = attach_slot(db, start != START_NONE);

	if (slot == NULL)
		return start == START_NONE;
	slot->start = start;
	attach_free_unused_slot(slot);
	return true;
}

/* ------------------------------------------------------------------------
 * Requests
 * ------------------------------------------------------------------------ */

/* Ask the launcher for an engine of a database.  Raises no error; any process may call it. */
void
attach_request_engine(Oid db, EngineRequest request)
{
	DatabaseSlot *slot;
	EngineArea *area;

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	slot = attach_slot(db, true);
	if (slot == NULL)
		eda_shmem->request_lost = true;
	else if (slot->request < request)
		slot->request = request;
	area = shmem_area_of(db);
	if (area != NULL)
	{
		area->no_extension = false;
	}
	eda_shmem->rescan = true;
	LWLockRelease(&eda_shmem->lock);

	shmem_wake_launcher();
}

static void
request_xact_callback(XactEvent event, void *arg)
{
	bool requested = start_requested;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	start_requested = false;
	if (requested && event == XACT_EVENT_COMMIT)
		attach_request_engine(MyDatabaseId, REQUEST_NOW);
}

/* SQL: eda.start_engine().  The launcher is asked when the transaction commits. */
Datum
eda_start_engine(PG_FUNCTION_ARGS)
{
	static bool registered = false;

	shmem_require();
	if (shmem_my_area() == NULL && !shmem_area_left())
		ereport(WARNING, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
		        errmsg("no room for the engine of this database"),
		        errdetail("All %d databases of eda.max_databases are in use.", eda_max_databases),
		        errhint("Raise eda.max_databases and restart the server."));
	if (!registered)
		RegisterXactCallback(request_xact_callback, NULL);
	registered = true;
	start_requested = true;
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * The engine's side: called in the engine's process only
 * ------------------------------------------------------------------------ */

/*
 * Take the session lock that only one engine of a database can have; false if another engine
 * has it. SQL cannot take a lock with this tag.
 */
static bool
attach_lock(void)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, 0, LOCK_KEY, LOCK_CLASS);
	return LockAcquire(&tag, ExclusiveLock, true, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* Whether this database has the extension. */
static bool
extension_exists(void)
{
	bool exists;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	exists = OidIsValid(get_extension_oid("eda", true));
	PopActiveSnapshot();
	CommitTransactionCommand();
	return exists;
}

/* End this process before it has become the database's engine, and tell the launcher why. */
static void
engine_decline(Oid db, EngineStart why)
{
	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	attach_set_start(db, why);
	LWLockRelease(&eda_shmem->lock);
	shmem_wake_launcher();
	proc_exit(0);
}

/* Exit callback: give up the area, if it is still this engine's. */
static void
engine_exited(int code, Datum arg)
{
	EngineArea *area = (EngineArea *) DatumGetPointer(arg);
	bool release = false;

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	if (area->database == MyDatabaseId && area->engine_pid == MyProcPid)
	{
		EngineStart how = START_STOPPED;

		if (area->no_extension)
			how = START_NO_EXTENSION;
		else if (code != 0 && area->blocked == 0)
			how = START_CRASHED;
		attach_set_start(MyDatabaseId, how);
		area->engine_pid = 0;
		area->engine_proc = -1;
		release = area->no_extension;
	}
	LWLockRelease(&eda_shmem->lock);

	if (release)
		shmem_release_area(area, MyDatabaseId);
	ConditionVariableBroadcast(&eda_shmem->engine_gone);
	shmem_wake_launcher();
}

/*
 * Become the engine of the database that this process is connected to, and return the area of
 * that database. Ends the process if it cannot be the engine: there is no extension, or
 * another engine, or DDL under way that needs the database, or no free area.
 */
EngineArea *
attach_engine(Oid db)
{
	EngineArea *area;
	bool mine = false;

	Assert(db == MyDatabaseId);

	if (!attach_lock())
	{
		/*
		 * The launcher finds that this process never got an area, and waits before it starts
		 * another one.
		 */
		ereport(DEBUG1, errmsg_internal("eda: this database has an engine"));
		proc_exit(0);
	}
	if (!extension_exists())
		engine_decline(db, START_NO_EXTENSION);

	area = shmem_claim_area(db);
	if (area == NULL)
		engine_decline(db, START_NO_AREA);

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	if (area->database == db && area->blocked == 0)
	{
		attach_set_start(db, START_RUNNING);
		area->engine_pid = MyProcPid;
		area->engine_proc = MY_PROC_NUMBER;
		area->no_extension = false;
		mine = true;
	}
	LWLockRelease(&eda_shmem->lock);
	if (!mine)
		engine_decline(db, START_STOPPED);

	before_shmem_exit(engine_exited, PointerGetDatum(area));
	shmem_wake_launcher();
	return area;
}

/*
 * Record that the extension is gone from this database.  The engine exits with code 0 next, and
 * its exit callback releases the area.
 */
void
attach_no_extension(EngineArea *area)
{
	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	area->no_extension = true;
	LWLockRelease(&eda_shmem->lock);
}

/* Whether the engine must exit with code 0: DDL needs the database, or eda.engine is off. */
bool
attach_must_stop(EngineArea *area)
{
	return eda_engine_mode == EDA_ENGINE_OFF || *(volatile int *) &area->blocked > 0;
}
