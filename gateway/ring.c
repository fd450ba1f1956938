/*
 * ring.c
 *		The last changes, numbered as they came; hub.c fills it, stream.c reads it.
 */
#include "gateway.h"

#include <stdlib.h>
#include <string.h>

#define RING_SIZE 131072
#define RING_BYTES (64 << 20)

static Change ring[RING_SIZE];
static uint64_t head = 1;
static uint64_t tail = 1;
static size_t bytes;

uint64_t
ring_head(void)
{
	return head;
}

uint64_t
ring_tail(void)
{
	return tail;
}

const Change *
ring_change(uint64_t n)
{
	return &ring[n % RING_SIZE];
}

/* The number after the change that told the last of what the snapshot sees; false: it is not here. */
bool
ring_find(const char *snapshot, uint64_t *next)
{
	for (uint64_t n = head; n > tail; n--)
	{
		const Change *c = ring_change(n - 1);

		if (c->snapshot != NULL && strcmp(c->snapshot, snapshot) == 0)
		{
			*next = n;
			return true;
		}
	}
	return false;
}

static void
drop_oldest(void)
{
	Change *c = &ring[tail % RING_SIZE];

	bytes -= c->json_size;
	free(c->json);
	free(c->snapshot);
	*c = (Change){0};
	tail++;
}

void
ring_clear(void)
{
	while (tail < head)
		drop_oldest();
}

/* Keep a text in the memory after a change's JSON. */
static const char *
keep(char **at, const char *s)
{
	size_t size = strlen(s) + 1;
	char *start = *at;

	memcpy(start, s, size);
	*at += size;
	return start;
}

/* The texts are copied, and the snapshot too (NULL: none). */
void
ring_add(const Change *change)
{
	Change *c;
	char *at;

	while (head - tail >= RING_SIZE || (head > tail && bytes > RING_BYTES))
		drop_oldest();
	c = &ring[head % RING_SIZE];
	*c = *change;
	c->json_size = strlen(change->json);
	c->json =
		get_memory(c->json_size + strlen(change->event_type) + strlen(change->flow_type) + strlen(change->flow_id) + 4);
	at = c->json;
	keep(&at, change->json);
	c->event_type = keep(&at, change->event_type);
	c->flow_type = keep(&at, change->flow_type);
	c->flow_id = keep(&at, change->flow_id);
	c->snapshot = copy_text(change->snapshot);
	bytes += c->json_size;
	head++;
}

/* The last change completes what the snapshot sees. */
void
ring_mark(const char *snapshot)
{
	Change *c = &ring[(head - 1) % RING_SIZE];

	free(c->snapshot);
	c->snapshot = copy_text(snapshot);
}
