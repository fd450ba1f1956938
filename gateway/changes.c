/*
 * changes.c
 *		The list of the last changes, numbered as they came: a ring buffer that hub.c fills
 *		and stream.c reads.
 *
 * The numbers begin with 1 and never go back.  The list holds those from changes_tail()
 * to changes_head() - 1; an older change is dropped when there are too many, or too many
 * bytes of them.
 */
#include "changes.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "memory.h"

#define MAX_CHANGES 131072
#define MAX_CHANGE_BYTES (64 << 20) /* of JSON */

static Change changes[MAX_CHANGES];
static uint64_t head = 1;
static uint64_t tail = 1;
static size_t bytes;

uint64_t
changes_head(void)
{
	return head;
}

uint64_t
changes_tail(void)
{
	return tail;
}

/* The change with this number, which must be in the list. */
const Change *
changes_get(uint64_t n)
{
	return &changes[n % MAX_CHANGES];
}

/*
 * Find the change that a snapshot came with: it is the last one that the snapshot sees.
 * "next" is the number after it.  False: there is no such change in the list.
 */
bool
changes_find(const char *snapshot, uint64_t *next)
{
	for (uint64_t n = head; n > tail; n--)
	{
		const Change *c = changes_get(n - 1);

		if (c->snapshot != NULL && strcmp(c->snapshot, snapshot) == 0)
		{
			*next = n;
			return true;
		}
	}
	return false;
}

static void
drop_oldest_change(void)
{
	Change *c = &changes[tail % MAX_CHANGES];

	bytes -= c->json_size;
	free(c->json);
	free(c->snapshot);
	*c = (Change){0};
	tail++;
}

/* Drop all changes; the numbers go on. */
void
changes_clear(void)
{
	while (tail < head)
		drop_oldest_change();
}

/* Copy a text to *at, and move *at behind it. */
static const char *
copy_behind(char **at, const char *s)
{
	size_t size = strlen(s) + 1;
	char *start = *at;

	memcpy(start, s, size);
	*at += size;
	return start;
}

/* Add a change.  Its texts are copied; its snapshot too, which may be NULL. */
void
changes_add(const Change *change)
{
	Change *c;
	char *at;

	while (head - tail >= MAX_CHANGES || (head > tail && bytes > MAX_CHANGE_BYTES))
		drop_oldest_change();
	c = &changes[head % MAX_CHANGES];
	*c = *change;
	c->json_size = strlen(change->json);
	c->json =
		memory_get(c->json_size + strlen(change->event_type) + strlen(change->flow_type) + strlen(change->flow_id) + 4);
	at = c->json;
	copy_behind(&at, change->json);
	c->event_type = copy_behind(&at, change->event_type);
	c->flow_type = copy_behind(&at, change->flow_type);
	c->flow_id = copy_behind(&at, change->flow_id);
	c->snapshot = memory_copy_text(change->snapshot);
	bytes += c->json_size;
	head++;
}

/* With the last change, all that the snapshot sees is in the list. */
void
changes_mark(const char *snapshot)
{
	Change *c = &changes[(head - 1) % MAX_CHANGES];

	free(c->snapshot);
	c->snapshot = memory_copy_text(snapshot);
}
