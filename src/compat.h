/*
 * compat.h
 *		The only file that knows PostgreSQL versions (PG_VERSION_NUM), 15 to 19.
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

/* 18 (commit 9324c8c580) shows a library's name and version in pg_get_loaded_modules() */
#if PG_VERSION_NUM >= 180000
#define PG_MODULE_MAGIC_COMPAT(name_, version_) PG_MODULE_MAGIC_EXT(.name = name_, .version = version_)
#else
#define PG_MODULE_MAGIC_COMPAT(name_, version_) PG_MODULE_MAGIC
#endif

/*
 * 19 (commit dcd8cc1c85) lets the caller of a scan say more about it, most of all that its transaction
 * does not modify the table, so that the scan may mark pages as all-visible.  No scan of ours says so.
 */
#if PG_VERSION_NUM >= 190000
#define table_beginscan_compat(rel, snap) table_beginscan(rel, snap, 0, NULL, SO_NONE)
#else
#define table_beginscan_compat(rel, snap) table_beginscan(rel, snap, 0, NULL)
#endif

/* 18 (commit 0fbceae841) added a place for instrumentation, 19 the flags of table_beginscan() */
#if PG_VERSION_NUM >= 190000
#define index_beginscan_compat(heap, index, snap, nkeys) index_beginscan(heap, index, snap, NULL, nkeys, 0, SO_NONE)
#elif PG_VERSION_NUM >= 180000
#define index_beginscan_compat(heap, index, snap, nkeys) index_beginscan(heap, index, snap, NULL, nkeys, 0)
#else
#define index_beginscan_compat(heap, index, snap, nkeys) index_beginscan(heap, index, snap, nkeys, 0)
#endif

/* 17 (commit c1ec02be1d) lets an access method keep state between inserts of one statement */
#if PG_VERSION_NUM >= 170000
#define index_insert_cleanup_compat(index, info) index_insert_cleanup(index, info)
#else
#define index_insert_cleanup_compat(index, info) ((void) 0)
#endif

/*
 * 19 (commit c456e39113) can be promised that what is stored in a slot has no null in a column that is
 * NOT NULL, as a row read from its table has none.  It is not promised for rows that are yet to be checked.
 */
#if PG_VERSION_NUM >= 190000
#define MakeTupleTableSlot_compat(desc, ops) MakeTupleTableSlot(desc, ops, 0)
#else
#define MakeTupleTableSlot_compat(desc, ops) MakeTupleTableSlot(desc, ops)
#endif

/* 19 made a set of options of the last argument, which says that the row moves to another partition */
#if PG_VERSION_NUM >= 190000
#define table_tuple_delete_compat(rel, tid, cid, failure) \
	table_tuple_delete(rel, tid, cid, 0, InvalidSnapshot, InvalidSnapshot, true, failure)
#else
#define table_tuple_delete_compat(rel, tid, cid, failure) \
	table_tuple_delete(rel, tid, cid, InvalidSnapshot, InvalidSnapshot, true, failure, false)
#endif

/*
 * 19 (commit 0986e95161) made JsonbInState public, and pushJsonbValue() leaves the finished value in it.
 * Before 19, the callers of pushJsonbValue() keep both themselves.
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

/* 19 (commit 38b602b028) keeps the names of LWLock tranches in shared memory; before, each process had to know them */
#if PG_VERSION_NUM >= 190000
#define LWLockNewTrancheId_compat(name) LWLockNewTrancheId(name)
#define LWLockRegisterTranche_compat(id, name) ((void) 0)
#else
#define LWLockNewTrancheId_compat(name) LWLockNewTrancheId()
#define LWLockRegisterTranche_compat(id, name) LWLockRegisterTranche(id, name)
#endif

/* 18 (commit 6d376c3b0d) can log the failure to get a lock at once */
#if PG_VERSION_NUM >= 180000
#define ConditionalXactLockTableWait_compat(xid) ConditionalXactLockTableWait(xid, false)
#else
#define ConditionalXactLockTableWait_compat(xid) ConditionalXactLockTableWait(xid)
#endif

/* 17 (commit 173b56f1ef) can flush a logical message at once */
#if PG_VERSION_NUM >= 170000
#define LogLogicalMessage_compat(prefix, message, size, transactional) \
	LogLogicalMessage(prefix, message, size, transactional, false)
#else
#define LogLogicalMessage_compat(prefix, message, size, transactional) \
	LogLogicalMessage(prefix, message, size, transactional)
#endif

/* 17 (commit 024c521117) replaced pgprocno and backend ids by one number */
#if PG_VERSION_NUM >= 170000
#define MY_PROC_NUMBER MyProcNumber
#else
#define MY_PROC_NUMBER MyProc->pgprocno
#endif

/* 16 (commit afbfc02983) made one function of the ownership checks */
#if PG_VERSION_NUM >= 160000
#define database_ownercheck_compat(db, role) object_ownercheck(DatabaseRelationId, db, role)
#else
#define database_ownercheck_compat(db, role) pg_database_ownercheck(db, role)
#endif

/* 15.4 marks a database whose DROP was interrupted, by a value of its own; older minor versions have no name for it */
#define DATABASE_IS_INVALID_COMPAT(form) ((form)->datconnlimit == -2)

#endif
