/*
 * compat.h
 *		The only file that knows PostgreSQL versions (PG_VERSION_NUM), 15 to 18.
 */
#ifndef EDA_COMPAT_H
#define EDA_COMPAT_H

#include "access/genam.h"
#include "storage/proc.h"

/* 18 (commit 0fbceae841) added a place for instrumentation */
#if PG_VERSION_NUM >= 180000
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
