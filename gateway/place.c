/*
 * place.c
 *		Our place in the history of the database: what is in the list of changes, or was in it.
 *
 * A place is a snapshot.  Everything that the snapshot sees has been put into the list
 * of changes (and perhaps dropped from it since), so asking eda_http.changes() for what the
 * snapshot does not see gives all that is missing.  A client that has been
 * sent the list up to a place can continue from there in the same way.
 *
 * A crash of the server forgets transactions that had not been written to disk (the
 * engine does not wait for that, and a rollback never does), and the server gives their
 * numbers to new transactions.  A snapshot from before the crash that sees the old ones
 * takes the new ones for seen.  So after each lost connection we go back to a place that
 * is at least one second old.  What that one sees is on disk: the WAL writer flushes
 * asynchronous commits within three times wal_writer_delay, which is 0.6 s by default.
 */
#include "place.h"

#include <stdlib.h>
#include <string.h>

#include "changes.h"
#include "memory.h"

typedef struct Place
{
	char *snapshot; /* NULL: not known */
	uint64_t at;    /* the number of the first change after it */
	uint64_t from;  /* changes from this number on, it may not see */
} Place;

static Place position;
static Place older[2]; /* what the position was at the last look and at the one before */

/* The snapshot of our position; NULL: we have none, and must begin anew. */
const char *
place_snapshot(void)
{
	return position.snapshot;
}

/* The number of the first change in the list that our position may not see. */
uint64_t
place_first_unseen(void)
{
	return position.from;
}

/*
 * A snapshot for a client that has been sent the list up to "at": it sees nothing that the
 * client has not been sent.  NULL: we know none.
 */
const char *
place_at(uint64_t at)
{
	return at >= position.at ? position.snapshot : NULL;
}

/*
 * Find where in the list a client continues that has been sent all that a snapshot sees.
 * False: we do not know.
 */
bool
place_find(const char *snapshot, uint64_t *next)
{
	if (position.snapshot != NULL && strcmp(snapshot, position.snapshot) == 0 && position.at >= changes_tail())
	{
		*next = position.at;
		return true;
	}
	return changes_find(snapshot, next);
}

/* All that the snapshot sees is in the list now; it may not see changes from number "from" on. */
void
place_set(const char *snapshot, uint64_t from)
{
	char *copy = memory_copy_text(snapshot);

	free(position.snapshot);
	position = (Place){copy, changes_head(), from};
}

static void
copy_place(Place *to, const Place *from)
{
	free(to->snapshot);
	*to = *from;
	to->snapshot = memory_copy_text(from->snapshot);
}

/* Look at our position; this is called once a second while we listen to the feed. */
void
place_look(void)
{
	copy_place(&older[1], &older[0]);
	copy_place(&older[0], &position);
}

/* Go back to the place of the look before the last one, if there was one. */
void
place_go_back(void)
{
	if (older[1].snapshot != NULL)
		copy_place(&position, &older[1]);
}

void
place_forget(void)
{
	free(position.snapshot);
	free(older[0].snapshot);
	free(older[1].snapshot);
	position = older[0] = older[1] = (Place){0};
}

/*
 * Whether eda_http.changes() refused a snapshot, with this SQLSTATE: it is malformed or
 * from another server (class 22), or too much has happened since (class 54).
 */
bool
place_is_refused(const char *sqlstate)
{
	return sqlstate != NULL && (strncmp(sqlstate, "22", 2) == 0 || strncmp(sqlstate, "54", 2) == 0);
}
