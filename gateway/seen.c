/*
 * seen.c
 *		What we have seen of the engine: its process, its state, and its numbers.
 *
 * The numbers show what the engine has left out of the feed, which it does on purpose
 * above 10,000 transitions a second.  They do so in two ways:
 *
 *   A message's elements carry "seq": [start, n], where "start" is the second in which the
 *   engine was started, and n counts what it has read since.  After [start, 7] must come
 *   [start, 8].  Of an engine that we hear for the first time, n must not be above what
 *   it had counted (eda.engine_status.transitions_read) before we asked the log for the
 *   first time, by more than 1: what is counted up to there, the log tells us.
 *
 *   When no message follows what was left out, there is no number to compare.  So once a
 *   second we look how much the engine has read.  If it had read more a second ago than
 *   we have been told, and we were told nothing since, then the rest was left out.  (A
 *   feed that is only late goes on telling.  An engine that begins tells nothing of what
 *   happened before it.)
 */
#include "seen.h"

#include <stdio.h>
#include <stdlib.h>

#include <jansson.h>
#include <libpq-fe.h>

#include "stats.h"

const char seen_sql[] = "SELECT state, pid, current_setting('eda.feed'), transitions_read FROM eda.engine_status";

/* Its columns. */
enum
{
	SEEN_STATE,
	SEEN_PID,
	SEEN_FEED,
	SEEN_READ
};

EngineSeen seen = {.state = "unknown", .feed_level = "full", .counted = -1};

/* We begin to listen, or to another engine: no number is known. */
void
seen_begin(void)
{
	seen.start = 0;
	seen.counted = -1;
}

/* Take the numbers of a message's element; false: something before it was left out. */
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
	seen.n = seen.told = n;
	return follows;
}

/*
 * Take a row of eda.engine_status; false: the engine had left something out, a second
 * ago, after all that we have been told.
 */
bool
seen_take_status(const PGresult *row)
{
	int pid = atoi(PQgetvalue(row, 0, SEEN_PID));
	json_int_t read = atoll(PQgetvalue(row, 0, SEEN_READ));
	bool told_all = true;

	if (pid != seen.pid)
		seen.told = seen.read_before = 0;
	if (seen.read_before > seen.told && seen.told == seen.told_before)
	{
		seen.told = seen.read_before; /* by the log, which is asked for it now */
		told_all = false;
		stats.gaps++;
	}
	seen.told_before = seen.told;
	seen.read_before = read;
	seen.pid = pid;
	if (seen.counted < 0)
		seen.counted = read;
	snprintf(seen.state, sizeof(seen.state), "%s", PQgetvalue(row, 0, SEEN_STATE));
	snprintf(seen.feed_level, sizeof(seen.feed_level), "%s", PQgetvalue(row, 0, SEEN_FEED));
	return told_all;
}

/* The database does not say how the engine is. */
void
seen_take_nothing(void)
{
	snprintf(seen.state, sizeof(seen.state), "unknown");
}
