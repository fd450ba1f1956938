/*
 * link.c
 *		A connection to the database on the loop: it connects without blocking, and
 *		again by itself, first at once and then ever later (up to 5 s).
 *
 * PQconnectStart() looks up host names by itself and waits for the answer; a
 * gateway that is far from its name server should be given hostaddr.
 */
#include "gateway.h"

#include <stdlib.h>

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 5000
#define CONNECT_TIMEOUT_MS 10000

static void on_poll(uv_poll_t *poll, int status, int events);
static void start(Link *link);

static void
free_handle(uv_handle_t *handle)
{
	free(handle);
}

static void
unwatch(Link *link)
{
	if (link->poll == NULL)
		return;
	uv_poll_stop(link->poll);
	uv_close((uv_handle_t *) link->poll, free_handle);
	link->poll = NULL;
}

/* Wait for these events; libpq may have opened another socket meanwhile. */
static void
watch(Link *link, int events)
{
	int fd = PQsocket(link->conn);

	if (link->poll != NULL && link->fd != fd)
		unwatch(link);
	if (link->poll == NULL)
	{
		link->poll = get_memory(sizeof(uv_poll_t));
		uv_poll_init(loop, link->poll, fd);
		link->poll->data = link;
		link->fd = fd;
	}
	uv_poll_start(link->poll, events, on_poll);
}

static void
on_retry(uv_timer_t *timer)
{
	Link *link = timer->data;

	if (link->conn != NULL) /* it took too long */
		link_lost(link);
	else
		start(link);
}

static void
later(Link *link)
{
	uv_timer_start(&link->timer, on_retry, link->backoff_ms, 0);
	link->backoff_ms = link->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : link->backoff_ms * 2;
}

/* The connection is gone, or was never made: say so once, clean up, try again. */
void
link_lost(Link *link)
{
	bool was_ready = link->ready;

	if (link->conn != NULL && !link->closing && (was_ready || !link->failed_before))
		log_line(LOG_WARN, "database: %s", PQerrorMessage(link->conn)[0] ? PQerrorMessage(link->conn) : "no answer");
	link->failed_before = true;
	link->ready = false;
	unwatch(link);
	PQfinish(link->conn);
	link->conn = NULL;
	if (was_ready)
		link->on_lost(link);
	if (!link->closing)
		later(link);
}

static void
poll_connecting(Link *link)
{
	switch (PQconnectPoll(link->conn))
	{
		case PGRES_POLLING_READING:
			watch(link, UV_READABLE);
			return;
		case PGRES_POLLING_WRITING:
			watch(link, UV_WRITABLE);
			return;
		case PGRES_POLLING_OK:
			uv_timer_stop(&link->timer);
			PQsetnonblocking(link->conn, 1);
			watch(link, UV_READABLE);
			link->ready = true;
			link->failed_before = false;
			link->backoff_ms = BACKOFF_MIN_MS;
			link->on_ready(link);
			return;
		default:
			link_lost(link);
	}
}

static void
no_notices(void *arg, const PGresult *result)
{
	(void) arg;
	(void) result;
}

static void
start(Link *link)
{
	const char *const keywords[] = {"dbname", "fallback_application_name", "client_encoding", NULL};
	const char *const values[] = {config.conninfo, "eda-gateway", "UTF8", NULL};

	link->conn = PQconnectStartParams(keywords, values, 1);
	if (link->conn == NULL || PQstatus(link->conn) == CONNECTION_BAD)
	{
		link_lost(link);
		return;
	}
	PQsetNoticeReceiver(link->conn, no_notices, NULL);
	uv_timer_start(&link->timer, on_retry, CONNECT_TIMEOUT_MS, 0);
	watch(link, UV_WRITABLE);
}

static void
on_poll(uv_poll_t *poll, int status, int events)
{
	Link *link = poll->data;

	if (!link->ready)
	{
		poll_connecting(link);
		return;
	}
	if (status < 0)
	{
		link_lost(link);
		return;
	}
	if (events & UV_WRITABLE)
		link_flush(link);
	if (link->ready && (events & UV_READABLE))
	{
		if (PQconsumeInput(link->conn))
			link->on_input(link);
		else
			link_lost(link);
	}
}

void
link_flush(Link *link)
{
	int left = PQflush(link->conn);

	if (left < 0)
		link_lost(link);
	else
		watch(link, left > 0 ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

/* Begin; the callbacks must be set. */
void
link_open(Link *link)
{
	uv_timer_init(loop, &link->timer);
	link->timer.data = link;
	link->backoff_ms = BACKOFF_MIN_MS;
	start(link);
}

void
link_close(Link *link)
{
	link->closing = true;
	link->ready = false;
	unwatch(link);
	PQfinish(link->conn);
	link->conn = NULL;
	uv_close((uv_handle_t *) &link->timer, NULL);
}
