/*
 * xact.c
 *		The engine's transactions and locks, and the variable that all its files share.
 *
 * The engine runs as the owner of the extension.  It takes a lock only if it gets it at once.
 */
#include "engine/engine.h"

#include "catalog/pg_authid.h"
#include "catalog/pg_extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/memutils.h"

Engine engine;

/* Begin a transaction as the extension's owner; what is allocated lives until the tick ends. */
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

/* Commit the transaction that xact_begin() has begun. */
void
xact_commit(void)
{
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, 0);
	CommitTransactionCommand();
	MemoryContextSwitchTo(engine.tick);
	pgstat_report_stat(false);
}

/*
 * In a PG_CATCH block: report the error, and abort the transaction, so that the engine can go on.
 * The order of the steps is that of AutoVacLauncherMain().
 */
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

/*
 * Lock the extension against DROP EXTENSION until the end of the transaction.  Returns NULL if
 * the extension is gone or being dropped.
 */
const EdaCatalog *
xact_lock_extension(void)
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

/*
 * Lock the extension and the log until the end of the transaction.  Returns false if the engine
 * would have to wait for a lock, or if the extension was dropped and created again.
 */
bool
xact_lock_log(void)
{
	const EdaCatalog *c = xact_lock_extension();

	return c != NULL && c->extension == engine.extension && journal_lock_leaves();
}
