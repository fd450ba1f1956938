/*
 * attach.c
 *		How an engine takes its place and leaves it, and how sessions ask for
 *		one: what launcher.c reads.  The scenarios are listed there.
 */
#include "process/process.h"

#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/snapmgr.h"

/* field4 of the engine's advisory lock; SQL can only make 1 and 2 */
#define LOCK_CLASS 0xEDA
#define LOCK_KEY 1

static bool start_wished = false;

PG_FUNCTION_INFO_V1(eda_start_engine);

/* ------------------------------------------------------------------------
 * Notes: what is under way with a database.  The caller holds EdaShmem.lock.
 * ------------------------------------------------------------------------ */

/* The note on a database; a new one if asked and there is room, else NULL. */
EngineNote *
attach_note(Oid db, bool make)
{
	EngineNote *unused = NULL;

	for (int i = 0; i < eda_shmem->nnotes; i++)
	{
		EngineNote *note = shmem_note(i);

		if (note->database == db)
			return note;
		if (!OidIsValid(note->database) && unused == NULL)
			unused = note;
	}
	if (make && unused != NULL)
		unused->database = db;
	return make ? unused : NULL;
}

/* Give a note back that says nothing any more. */
void
attach_tidy_note(EngineNote *note)
{
	if (note->blocked == 0 && note->start == START_NONE && note->wish == WISH_NONE)
		note->database = InvalidOid;
}

/* Write down how far an engine has got; false if there is no room. */
bool
attach_note_start(Oid db, EngineStart start)
{
	EngineNote *note = attach_note(db, start != START_NONE);

	if (note == NULL)
		return start == START_NONE;
	note->start = start;
	attach_tidy_note(note);
	return true;
}

/* ------------------------------------------------------------------------
 * Wishes
 * ------------------------------------------------------------------------ */

/* Ask the launcher to look at a database; raises no error, any process may call it. */
void
attach_wish(Oid db, EngineWish wish)
{
	EngineNote *note;
	EngineArea *area;

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	note = attach_note(db, true);
	if (note == NULL)
		eda_shmem->wish_lost = true;
	else if (note->wish < wish)
		note->wish = wish;
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
wish_xact_callback(XactEvent event, void *arg)
{
	bool wished = start_wished;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	start_wished = false;
	if (wished && event == XACT_EVENT_COMMIT)
		attach_wish(MyDatabaseId, WISH_NOW);
}

/* SQL: eda.start_engine(); the wish is made when the transaction commits. */
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
		RegisterXactCallback(wish_xact_callback, NULL);
	registered = true;
	start_wished = true;
	PG_RETURN_VOID();
}

/* ------------------------------------------------------------------------
 * The engine's side: called in the engine's process only
 * ------------------------------------------------------------------------ */

/*
 * Take the session lock that keeps engines single; false if another has it.
 * Users cannot make a lock with this tag.
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

/* Leave before having become the database's engine, and say why. */
static void
engine_decline(Oid db, EngineStart why)
{
	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	attach_note_start(db, why);
	LWLockRelease(&eda_shmem->lock);
	shmem_wake_launcher();
	proc_exit(0);
}

/* Exit callback: leave the area, if it is still ours. */
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
		attach_note_start(MyDatabaseId, how);
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
 * Become the engine of the database that this process is connected to, and
 * return its area; ends the process when there is nothing to do here: no
 * extension, another engine, DDL under way, no area left.
 */
EngineArea *
attach_engine(Oid db)
{
	EngineArea *area;
	bool mine = false;

	Assert(db == MyDatabaseId);

	if (!attach_lock())
	{
		/* the launcher finds that this one never had an area, and waits a little */
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
		attach_note_start(db, START_RUNNING);
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
 * Note that the extension is gone from this database; the engine exits with code
 * 0 next, and the area is released on its way out.
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
