/*
 * waiters.c
 *		Long polls: requests for the next events of a flow type that found none, and wait.
 *
 * A waiting request holds no connection to the database.  When the feed says that an
 * event of its flow type was dispatched, the request of that flow type that has waited
 * longest calls the database again.  If the feed is silent, the first waiter of each flow
 * type calls again once a second, for at most 64 flow types at a time.  A request that
 * gets nothing keeps its place in the line.
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

#define ASK_MS 1000    /* how often waiters call without being woken */
#define ASK_AT_ONCE 64 /* how many of them at a time */
#define LOOK_MS 50     /* how late the end of a wait may be noticed */

static Request *waiting; /* the request that has waited longest comes first */
static uv_timer_t timer;
static uint64_t asked_at;
static uint64_t polled_up_to; /* the next poll is for requests that started later */
static void (*ask)(Request *);

/* When an event was last dispatched for which no request waited, by a hash of its flow type. */
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

/* The client of a waiting request has hung up. */
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
 * Let a request wait.  wait_ms counts from the first time on that it waits.  False: an
 * event was dispatched while the database looked for one, so call it again at once.
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

/* An event of this flow type was dispatched: wake the request that has waited longest. */
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

/* Take a request whose token is no longer in the file out of the line; NULL: there is none. */
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

/*
 * Wake requests whose time is up; whatever the database answers now, they do not wait
 * again.  And once a second, wake the first request of each flow type.
 */
static void
on_waiters_timer(uv_timer_t *t)
{
	uint64_t now = loop_now_ms();
	bool poll = now - asked_at >= ASK_MS;
	Request *next;
	Request *chosen[ASK_AT_ONCE];
	int n = 0;

	(void) t;
	for (Request *r = waiting; r != NULL; r = next)
	{
		next = r->next;
		if (now >= r->give_up_at || stopping)
			ask_again(r);
		else if (poll && n < ASK_AT_ONCE && r->started > polled_up_to && is_first_of_flow_type(r))
			chosen[n++] = r;
	}
	if (!poll)
		return;
	asked_at = now;
	polled_up_to = n == ASK_AT_ONCE ? chosen[n - 1]->started : 0;
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
