/*
 * cursor.c
 *		Places in the indexes on time.  timers.c explains how they are used.
 */
#include "engine/engine.h"

/* Pull a cursor back to an index entry, unless it stands before that entry already. */
void
cursor_pull(Cursor *cursor, TimestampTz key, const pg_uuid_t *id)
{
	if (key > cursor->key || (key == cursor->key && memcmp(id, &cursor->id, UUID_LEN) >= 0))
		return;
	cursor->key = key;
	cursor->id = *id;
}

/* Put a cursor at the end: no entry of the index needs a visit. */
void
cursor_reset(Cursor *cursor)
{
	cursor->key = EDA_NEVER;
	memset(&cursor->id, 0, sizeof(pg_uuid_t));
}
