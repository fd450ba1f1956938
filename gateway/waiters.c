/*
 * waiters.c
 *		Long polls: requests for the next events of a flow type that found none.
 *
 * They hold no connection to the database.  The feed says when an event of their
 * flow type is dispatched, and the one that has waited longest asks again; should
 * the feed be silent, it asks once a second, or 64 flow types do of more.  Who gets
 * nothing goes back to the head of the line.
 */
#include "waiters.h"

#include <stdlib.h>
#include <string.h>

#include <libwebsockets.h>
#include <uv.h>

#include "loop.h"
#include "memory.h"
#include "request.h"
#include "stats.h"

#define ASK_MS 1000
#define LOOK_MS 50 /* how exactly the end of a wait is kept */

static Request *waiting; /* who has waited longest comes first */
static uv_timer_t timer;
static uint64_t asked_at;
static uint64_t polled_up_to; /* requests that started later have their turn in the next poll; 0: all */
static void (*ask)(Request *);

/* When an event was dispatched that nobody waited for, by a hash of its flow type. */
static uint64_t untaken[256];

static void
unlink_waiter(Request *request)
{
	for (Request **p = &waiting; *p != NULL; p = &(*p)->next)
		if (*p == request)
		{
			*p = request->next;
			break;
		}
	request->next = NULL;
	stats.waiting--;
}

/* The client is gone. */
void
waiters_leave(Request *request)
{
	unlink_waiter(request);
}

static uint64_t *
untaken_of(const char *flow_type)
{
	unsigned hash = 5381;

	for (const char *c = flow_type; *c; c++)
		hash = hash * 33 + (unsigned char) *c;
	return &untaken[hash % 256];
}

static void
ask_again(Request *request)
{
	unlink_waiter(request);
	ask(request);
}

/*
 * Let a request wait, for wait_ms from the first time on.  False: an event was
 * dispatched while the database was looking for one, so ask it again at once.
 */
bool
waiters_add(Request *request, const char *flow_type, uint64_t wait_ms)
{
	Request **p = &waiting;

	if (request->flow_type == NULL)
	{
		request->flow_type = memory_copy_text(flow_type);
		request->give_up_at = loop_now_ms() + wait_ms;
	}
	if (*untaken_of(flow_type) > request->asked_at && loop_now_ms() < request->give_up_at)
		return false;
	while (*p != NULL && (*p)->started <= request->started)
		p = &(*p)->next;
	request->next = *p;
	*p = request;
	lws_rx_flow_control(request->wsi, 1);
	stats.waiting++;
	return true;
}

/* An event of this flow type was dispatched. */
void
waiters_wake(const char *flow_type)
{
	for (Request *r = waiting; r != NULL; r = r->next)
		if (strcmp(r->flow_type, flow_type) == 0)
		{
			ask_again(r);
			return;
		}
	*untaken_of(flow_type) = uv_hrtime();
}

/* Take a request whose token is no longer known out of the line; NULL: there is none (any more). */
Request *
waiters_take_retired(void)
{
	for (Request *r = waiting; r != NULL; r = r->next)
		if (r->caller->retired)
		{
			unlink_waiter(r);
			return r;
		}
	return NULL;
}

static bool
is_first_of_flow_type(const Request *request)
{
	for (const Request *r = waiting; r != request; r = r->next)
		if (strcmp(r->flow_type, request->flow_type) == 0)
			return false;
	return true;
}

/* Time is up: the last answer, which was empty, is asked for once more and goes out. */
static void
on_waiters_timer(uv_timer_t *t)
{
	uint64_t now = loop_now_ms();
	bool poll = now - asked_at >= ASK_MS;
	Request *next;
	Request *chosen[64];
	int n = 0;

	(void) t;
	for (Request *r = waiting; r != NULL; r = next)
	{
		next = r->next;
		if (now >= r->give_up_at || stopping)
			ask_again(r);
		else if (poll && n < 64 && r->started > polled_up_to && is_first_of_flow_type(r))
			chosen[n++] = r;
	}
	if (!poll)
		return;
	asked_at = now;
	polled_up_to = n == 64 ? chosen[n - 1]->started : 0;
	for (int i = 0; i < n; i++)
		ask_again(chosen[i]);
}

void
waiters_start(void (*ask_database)(Request *))
{
	ask = ask_database;
	uv_timer_init(loop, &timer);
	uv_timer_start(&timer, on_waiters_timer, LOOK_MS, LOOK_MS);
}

void
waiters_stop(void)
{
	uv_close((uv_handle_t *) &timer, NULL);
}
