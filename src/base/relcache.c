/*
 * relcache.c
 *		Relcache messages (invalidations), for all caches of eda.
 *
 * PostgreSQL has room for 10 callbacks in a process, its own and those of all extensions
 * together, and ends a process that registers one more.  So eda registers one, which calls a
 * function of each cache.
 */
#include "base/base.h"

#include "utils/inval.h"

#define MAX_CALLBACKS 4

static RelcacheCallback callbacks[MAX_CALLBACKS];
static int ncallbacks = 0;

static void
call_all(Datum arg, Oid relid)
{
	for (int i = 0; i < ncallbacks; i++)
		callbacks[i](relid);
}

/*
 * From now on, have a function called when a relation cache message comes in: with the
 * relation's oid, or InvalidOid for all relations.  To say it again has no effect.
 */
void
relcache_watch(RelcacheCallback callback)
{
	static bool registered = false;

	for (int i = 0; i < ncallbacks; i++)
		if (callbacks[i] == callback)
			return;
	if (ncallbacks == MAX_CALLBACKS)
		elog(ERROR, "too many caches watch the relation cache");
	if (!registered)
		CacheRegisterRelcacheCallback(call_all, (Datum) 0);
	registered = true;
	callbacks[ncallbacks++] = callback;
}
