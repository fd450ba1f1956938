/*
 * compat.h
 *		The differences between PostgreSQL 15 to 19.  Only this file tests PG_VERSION_NUM.
 */
#ifndef EDA_COMPAT_H
#define EDA_COMPAT_H

#include "access/genam.h"
#include "storage/proc.h"
#include "utils/jsonb.h"

/* 19 (commit 325fc0ab14) moved the declaration of get_database_name() */
#if PG_VERSION_NUM >= 190000
#include "utils/lsyscache.h"
#else
#include "commands/dbcommands.h"
#endif

/* 18 (commit 9324c8c580) lets a library give its name and version, for pg_get_loaded_modules() */
#if PG_VERSION_NUM >= 180000
#define PG_MODULE_MAGIC_COMPAT(name_, version_) PG_MODULE_MAGIC_EXT(.name = name_, .version = version_)
#else
#define PG_MODULE_MAGIC_COMPAT(name_, version_) PG_MODULE_MAGIC
#endif

/*
 * 19 (commit dcd8cc1c85) added flags to a scan.  One of them promises that the transaction does
 * not modify the table, so that the scan may mark pages as all-visible.  Our scans set no flag.
 */
#if PG_VERSION_NUM >= 190000
#define table_beginscan_compat(rel, snap) table_beginscan(rel, snap, 0, NULL, SO_NONE)
#else
#define table_beginscan_compat(rel, snap) table_beginscan(rel, snap, 0, NULL)
#endif

/*
 * 18 (commit 0fbceae841) added an argument for instrumentation, 19 the flags of
 * table_beginscan()
 */
#if PG_VERSION_NUM >= 190000
#define index_beginscan_compat(heap, index, snap, nkeys) index_beginscan(heap, index, snap, NULL, nkeys, 0, SO_NONE)
#elif PG_VERSION_NUM >= 180000
#define index_beginscan_compat(heap, index, snap, nkeys) index_beginscan(heap, index, snap, NULL, nkeys, 0)
#else
#define index_beginscan_compat(heap, index, snap, nkeys) index_beginscan(heap, index, snap, nkeys, 0)
#endif

/*
 * 17 (commit c1ec02be1d) lets an index access method keep state between inserts, and free it at
 * the end
 */
#if PG_VERSION_NUM >= 170000
#define index_insert_cleanup_compat(index, info) index_insert_cleanup(index, info)
#else
#define index_insert_cleanup_compat(index, info) ((void) 0)
#endif

/*
 * 19 (commit c456e39113) added a flag by which the caller promises that the slot has no null in
 * a column that is NOT NULL.  Rows that come from the table have none, but our slots are for
 * rows to insert, and nothing has checked these yet.
 */
#if PG_VERSION_NUM >= 190000
#define MakeTupleTableSlot_compat(desc, ops) MakeTupleTableSlot(desc, ops, 0)
#else
#define MakeTupleTableSlot_compat(desc, ops) MakeTupleTableSlot(desc, ops)
#endif

/*
 * 19 replaced the last argument of table_tuple_delete(), which says whether the row moves to
 * another partition, by a set of options.
 */
#if PG_VERSION_NUM >= 190000
#define table_tuple_delete_compat(rel, tid, cid, failure) \
	table_tuple_delete(rel, tid, cid, 0, InvalidSnapshot, InvalidSnapshot, true, failure)
#else
#define table_tuple_delete_compat(rel, tid, cid, failure) \
	table_tuple_delete(rel, tid, cid, InvalidSnapshot, InvalidSnapshot, true, failure, false)
#endif

/*
 * 19 (commit 0986e95161) made JsonbInState public, and pushJsonbValue() stores its result in it.
 * Before 19 the caller has two variables, one for the parse state and one for the result.
 */
#if PG_VERSION_NUM >= 190000
#define pushJsonbValue_compat(state, token, value) pushJsonbValue(state, token, value)
#else
typedef struct JsonbInState
{
	JsonbValue *result;
	JsonbParseState *parseState;
} JsonbInState;
#define pushJsonbValue_compat(state, token, value) \
	((state)->result = pushJsonbValue(&(state)->parseState, token, value))
#endif

/*
 * 19 (commit 38b602b028) stores the names of LWLock tranches in shared memory.  Before 19 each
 * process registers them.
 */
#if PG_VERSION_NUM >= 190000
#define LWLockNewTrancheId_compat(name) LWLockNewTrancheId(name)
#define LWLockRegisterTranche_compat(id, name) ((void) 0)
#else
#define LWLockNewTrancheId_compat(name) LWLockNewTrancheId()
#define LWLockRegisterTranche_compat(id, name) LWLockRegisterTranche(id, name)
#endif

/* 18 (commit 6d376c3b0d) added an argument: whether to log that the lock was not available */
#if PG_VERSION_NUM >= 180000
#define ConditionalXactLockTableWait_compat(xid) ConditionalXactLockTableWait(xid, false)
#else
#define ConditionalXactLockTableWait_compat(xid) ConditionalXactLockTableWait(xid)
#endif

/* 17 (commit 173b56f1ef) added an argument: whether to flush the message to disk at once */
#if PG_VERSION_NUM >= 170000
#define LogLogicalMessage_compat(prefix, message, size, transactional) \
	LogLogicalMessage(prefix, message, size, transactional, false)
#else
#define LogLogicalMessage_compat(prefix, message, size, transactional) \
	LogLogicalMessage(prefix, message, size, transactional)
#endif

/* 17 (commit 024c521117) replaced pgprocno and backend ids by one number for each process */
#if PG_VERSION_NUM >= 170000
#define MY_PROC_NUMBER MyProcNumber
#else
#define MY_PROC_NUMBER MyProc->pgprocno
#endif

/*
 * 16 (commit afbfc02983) replaced the ownership checks, one for each class of objects, by one
 * function
 */
#if PG_VERSION_NUM >= 160000
#define database_ownercheck_compat(db, role) object_ownercheck(DatabaseRelationId, db, role)
#else
#define database_ownercheck_compat(db, role) pg_database_ownercheck(db, role)
#endif

/*
 * Whether DROP DATABASE was interrupted: since 15.4, datconnlimit is -2 then.  Earlier minor
 * versions have no name for this value.
 */
#define DATABASE_IS_INVALID_COMPAT(form) ((form)->datconnlimit == -2)

#endif
