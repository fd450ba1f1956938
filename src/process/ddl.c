/*
 * ddl.c
 *		Stops the engine of a database for the commands that fail while anybody is connected
 *		to it: DROP DATABASE, RENAME TO, SET TABLESPACE, and CREATE DATABASE with this
 *		database as TEMPLATE.
 *
 * The scenarios are listed in launcher.c.  While a database is blocked, no engine starts
 * there.  A block is counted in the database's slot and lasts until the end of the transaction,
 * because other processes see what the command did only then.  A command that fails lifts its
 * block at once.
 */
#include "process/process.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lock.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"

/*
 * How long a command waits for an engine: to leave by itself, and altogether before it gives
 * up.
 */
#define LEAVE_MS 2000
#define STOP_MS 10000

/* How many databases one transaction can block. */
#define MAX_BLOCKED 8

static ProcessUtility_hook_type prev_process_utility = NULL;
static Oid blocked[MAX_BLOCKED]; /* databases that this transaction has blocked */
static int nblocked = 0;

/* Keep engines away from a database until ddl_unblock(); false if no slot is free for that. */
static bool
ddl_block(Oid db)
{
	DatabaseSlot *slot;
	EngineArea *area;

	if (nblocked >= MAX_BLOCKED)
		return false;

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	slot = attach_slot(db, true);
	if (slot != NULL)
	{
		slot->blocked++;
		area = shmem_area_of(db);
		if (area != NULL)
			area->blocked = slot->blocked;
		blocked[nblocked++] = db;
	}
	LWLockRelease(&eda_shmem->lock);
	return slot != NULL;
}

/* Undo this transaction's latest ddl_block() of a database, if it has one. */
static void
ddl_unblock(Oid db)
{
	int i = nblocked - 1;
	DatabaseSlot *slot;
	EngineArea *area;

	while (i >= 0 && blocked[i] != db)
		i--;
	if (i < 0)
		return;
	blocked[i] = blocked[--nblocked];

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	slot = attach_slot(db, false);
	if (slot != NULL && slot->blocked > 0)
	{
		slot->blocked--;
		area = shmem_area_of(db);
		if (area != NULL)
			area->blocked = slot->blocked;
		attach_free_unused_slot(slot);
	}
	eda_shmem->rescan = true;
	LWLockRelease(&eda_shmem->lock);
	shmem_wake_launcher();
}

/*
 * Wait until the engine of a blocked database has left: by itself, or terminated after
 * 2 s.  Gives up after 10 s; the command then fails and says how many sessions are connected.
 */
static void
ddl_stop_engine(Oid db)
{
	TimestampTz began = GetCurrentTimestamp();
	bool terminated = false;

	ConditionVariablePrepareToSleep(&eda_shmem->engine_gone);
	for (;;)
	{
		long waited = TimestampDifferenceMilliseconds(began, GetCurrentTimestamp());
		EngineArea *area;
		pid_t pid;

		/*
		 * While the lock is held, the engine cannot end, so its pid cannot become another
		 * process's.
		 */
		LWLockAcquire(&eda_shmem->lock, LW_SHARED);
		area = shmem_area_of(db);
		pid = area ? area->engine_pid : 0;
		if (pid != 0 && waited >= LEAVE_MS && !terminated)
			terminated = kill(pid, SIGTERM) == 0;
		LWLockRelease(&eda_shmem->lock);

		if (pid == 0)
			break;
		if (waited >= STOP_MS)
		{
			ereport(WARNING, errcode(ERRCODE_OBJECT_IN_USE),
			        errmsg("the engine of the database, process %d, has not stopped within %d s", (int) pid,
			               STOP_MS / 1000));
			break;
		}
		shmem_wake_engine(area);
		(void) ConditionVariableTimedSleep(&eda_shmem->engine_gone, 200, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

/* Whether the current user may create (and so rename) databases. */
static bool
user_creates_databases(void)
{
	HeapTuple tuple;
	bool may = false;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		may = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return may;
}

static bool
user_owns_database(Oid db)
{
	return database_ownercheck_compat(db, GetUserId());
}

static bool
database_is_template(Oid db)
{
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(db));
	bool is = false;

	if (HeapTupleIsValid(tuple))
	{
		is = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return is;
}

/* The option of that name, or NULL. */
static DefElem *
ddl_option(List *options, const char *name)
{
	ListCell *lc;

	foreach (lc, options)
	{
		DefElem *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, name) == 0)
			return option;
	}
	return NULL;
}

static Oid
ddl_dropped(const DropdbStmt *stmt)
{
	Oid db = get_database_oid(stmt->dbname, true);

	if (!OidIsValid(db) || db == MyDatabaseId || !user_owns_database(db) || database_is_template(db))
		return InvalidOid;
	return db;
}

static Oid
ddl_renamed(const RenameStmt *stmt)
{
	Oid db = get_database_oid(stmt->subname, true);

	if (!OidIsValid(db) || db == MyDatabaseId || !user_owns_database(db) || !user_creates_databases() ||
	    OidIsValid(get_database_oid(stmt->newname, true)))
		return InvalidOid;
	return db;
}

static Oid
ddl_moved(const AlterDatabaseStmt *stmt)
{
	Oid db = get_database_oid(stmt->dbname, true);

	if (!OidIsValid(db) || db == MyDatabaseId || !user_owns_database(db))
		return InvalidOid;
	return db;
}

static Oid
ddl_copied(const CreatedbStmt *stmt)
{
	DefElem *option = ddl_option(stmt->options, "template");
	const char *name = option != NULL && option->arg != NULL ? defGetString(option) : "template1";
	Oid db = get_database_oid(name, true);

	if (!OidIsValid(db) || !user_creates_databases() || OidIsValid(get_database_oid(stmt->dbname, true)))
		return InvalidOid;
	if (!database_is_template(db) && !user_owns_database(db))
		return InvalidOid;
	return db;
}

/*
 * The database that a command needs free of other sessions; InvalidOid if there is none, or if
 * PostgreSQL will refuse the command anyway (then no engine is stopped for it).
 */
static Oid
ddl_database(Node *command, bool top_level)
{
	switch (nodeTag(command))
	{
		case T_DropdbStmt:
		case T_CreatedbStmt:
			if (IsInTransactionBlock(top_level))
				return InvalidOid;
			break;
		case T_AlterDatabaseStmt:
			if (ddl_option(((AlterDatabaseStmt *) command)->options, "tablespace") == NULL ||
			    IsInTransactionBlock(top_level))
				return InvalidOid;
			break;
		case T_RenameStmt:
			if (((RenameStmt *) command)->renameType != OBJECT_DATABASE)
				return InvalidOid;
			break;
		default:
			return InvalidOid;
	}
	if (eda_shmem == NULL || XactReadOnly || RecoveryInProgress() || IsInParallelMode())
		return InvalidOid;

	switch (nodeTag(command))
	{
		case T_DropdbStmt:
			return ddl_dropped((DropdbStmt *) command);
		case T_CreatedbStmt:
			return ddl_copied((CreatedbStmt *) command);
		case T_AlterDatabaseStmt:
			return ddl_moved((AlterDatabaseStmt *) command);
		default:
			return ddl_renamed((RenameStmt *) command);
	}
}

static void
ddl_run(PlannedStmt *pstmt, const char *query, bool read_only_tree, ProcessUtilityContext context, ParamListInfo params,
        QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (prev_process_utility)
		prev_process_utility(pstmt, query, read_only_tree, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest, qc);
}

/*
 * The utility hook.  A command that succeeds keeps its block until the transaction ends,
 * because other processes see what it did only then.  After a FATAL error, the abort of the
 * transaction lifts the block.
 */
static void
ddl_process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree, ProcessUtilityContext context,
                    ParamListInfo params, QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	volatile Oid db = ddl_database(pstmt->utilityStmt, context == PROCESS_UTILITY_TOPLEVEL);

	if (!OidIsValid(db) || !ddl_block(db))
	{
		ddl_run(pstmt, query, read_only_tree, context, params, env, dest, qc);
		return;
	}

	PG_TRY();
	{
		ddl_stop_engine(db);
		ddl_run(pstmt, query, read_only_tree, context, params, env, dest, qc);
	}
	PG_CATCH();
	{
		ddl_unblock(db);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* At the end of the transaction, lift its blocks. */
static void
ddl_xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		while (nblocked > 0)
			ddl_unblock(blocked[nblocked - 1]);
}

/* Install the hook and the callback; called once, from _PG_init(). */
void
ddl_init(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = ddl_process_utility;
	RegisterXactCallback(ddl_xact_callback, NULL);
}
