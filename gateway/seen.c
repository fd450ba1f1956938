/*
 * seen.c
 *		What we have seen of the engine: its process, its state, and its numbers.
 *
 * By the numbers we notice which changes the engine has omitted from the feed.  It does so
 * on purpose above 10,000 transitions a second.  There are two checks:
 *
 *   Each element of a message carries "seq": [start, n].  "start" is the second in which
 *   the engine was started, and n counts the transitions that it has read since.  After
 *   [start, 7] must come [start, 8].  The first element since we listen has no
 *   predecessor.  It may be at most one above the number that the engine had read when we
 *   began to listen (transitions_read in eda.engine_status), because the log, which we
 *   ask next, returns everything up to that number.
 *
 *   If nothing follows the omitted changes, there is no number to compare.  So once a
 *   second we ask how many transitions the engine has read.  If it had read more a second
 *   ago than we have received, and we have received nothing since, the rest was omitted.
 *   (If the feed is only slow, something was received.)  An engine that has just started
 *   is such a case: it publishes nothing of what happened before.
 */
#include "seen.h"

#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>
#include <libpq-fe.h>

#include "stats.h"

const char seen_sql[] = "SELECT state, pid, current_setting('eda.feed'), transitions_read FROM eda.engine_status";

/* The columns of seen_sql. */
enum
{
	SEEN_STATE,
	SEEN_PID,
	SEEN_FEED,
	SEEN_READ
};

EngineSeen seen = {.state = "unknown", .feed_level = "full", .counted = -1};

/* We begin to listen, perhaps to another engine: its numbers are not known. */
void
seen_begin(void)
{
	seen.start = 0;
	seen.counted = -1;
}

/* Take the numbers of an element of the feed; false: changes before it were omitted. */
bool
seen_take_seq(const json_t *element)
{
	const json_t *seq = json_object_get(element, "seq");
	json_int_t start = json_integer_value(json_array_get(seq, 0));
	json_int_t n = json_integer_value(json_array_get(seq, 1));
	bool follows;

	if (seen.start == 0)
		follows = n <= seen.counted + 1;
	else
	{
		follows = start == seen.start && n == seen.n + 1;
		if (!follows)
			stats.gaps++;
	}
	seen.start = start;
	seen.n = seen.received = n;
	return follows;
}

/*
 * Take the row that seen_sql returns; false: by a second ago, the engine had omitted changes
 * after the last one that we have received.
 */
bool
seen_take_status(const PGresult *row)
{
	int pid = atoi(PQgetvalue(row, 0, SEEN_PID));
	json_int_t read = atoll(PQgetvalue(row, 0, SEEN_READ));
	bool complete = true;

	if (pid != seen.pid)
		seen.received = seen.read_before = 0;
	if (seen.read_before > seen.received && seen.received == seen.received_before)
	{
		seen.received = seen.read_before; /* the log, which is asked now, returns all up to this */
		complete = false;
		stats.gaps++;
	}
	seen.received_before = seen.received;
	seen.read_before = read;
	seen.pid = pid;
	if (seen.counted < 0)
		seen.counted = read;
	snprintf(seen.state, sizeof(seen.state), "%s", PQgetvalue(row, 0, SEEN_STATE));
	snprintf(seen.feed_level, sizeof(seen.feed_level), "%s", PQgetvalue(row, 0, SEEN_FEED));
	return complete;
}

/* The database has not answered how the engine is. */
void
seen_take_nothing(void)
{
	snprintf(seen.state, sizeof(seen.state), "unknown");
}
