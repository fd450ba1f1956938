/*
 * pgconn.c
 *		A connection to the database on the loop.
 *
 * It is made without blocking.  When it is lost or cannot be made, the next try comes
 * after 50 ms, and then after twice the time of the last try, up to 5 s.
 *
 * One thing blocks: PQconnectStart() looks up host names and waits for the answer.  A
 * gateway whose name server is slow should be given hostaddr.
 */
#include "pgconn.h"

#include <stdlib.h>

#include <libpq-fe.h>
#include <uv.h>

#include "config.h"
#include "log.h"
#include "loop.h"
#include "memory.h"

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 5000
#define CONNECT_TIMEOUT_MS 10000

static void on_poll(uv_poll_t *poll, int status, int events);
static void pgconn_start(PgConnection *pg);

static void
free_handle(uv_handle_t *handle)
{
	free(handle);
}

static void
pgconn_unwatch(PgConnection *pg)
{
	if (pg->poll == NULL)
		return;
	uv_poll_stop(pg->poll);
	uv_close((uv_handle_t *) pg->poll, free_handle);
	pg->poll = NULL;
}

/* Wait for these events on libpq's socket, which may be another one than at the last call. */
static void
pgconn_watch(PgConnection *pg, int events)
{
	int fd = PQsocket(pg->conn);

	if (pg->poll != NULL && pg->fd != fd)
		pgconn_unwatch(pg);
	if (pg->poll == NULL)
	{
		pg->poll = memory_get(sizeof(uv_poll_t));
		uv_poll_init(loop, pg->poll, fd);
		pg->poll->data = pg;
		pg->fd = fd;
	}
	uv_poll_start(pg->poll, events, on_poll);
}

static void
on_retry(uv_timer_t *timer)
{
	PgConnection *pg = timer->data;

	if (pg->conn != NULL) /* the timer was set to CONNECT_TIMEOUT_MS, and connecting took longer */
		pgconn_reconnect(pg);
	else
		pgconn_start(pg);
}

static void
pgconn_retry_later(PgConnection *pg)
{
	uv_timer_start(&pg->timer, on_retry, pg->backoff_ms, 0);
	pg->backoff_ms = pg->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : pg->backoff_ms * 2;
}

/* The connection is lost or could not be made: log that once, clean up, and try again later. */
void
pgconn_reconnect(PgConnection *pg)
{
	bool was_ready = pg->ready;

	if (pg->conn != NULL && !pg->closing && (was_ready || !pg->failed_before))
		log_line(LOG_WARN, "connection to the database: %s",
		         PQerrorMessage(pg->conn)[0] ? PQerrorMessage(pg->conn) : "the server does not answer");
	pg->failed_before = true;
	pg->ready = false;
	pgconn_unwatch(pg);
	PQfinish(pg->conn);
	pg->conn = NULL;
	if (was_ready)
		pg->on_lost(pg);
	if (!pg->closing)
		pgconn_retry_later(pg);
}

static void
pgconn_poll(PgConnection *pg)
{
	switch (PQconnectPoll(pg->conn))
	{
		case PGRES_POLLING_READING:
			pgconn_watch(pg, UV_READABLE);
			return;
		case PGRES_POLLING_WRITING:
			pgconn_watch(pg, UV_WRITABLE);
			return;
		case PGRES_POLLING_OK:
			uv_timer_stop(&pg->timer);
			PQsetnonblocking(pg->conn, 1);
			pgconn_watch(pg, UV_READABLE);
			pg->ready = true;
			pg->failed_before = false;
			pg->backoff_ms = BACKOFF_MIN_MS;
			pg->on_ready(pg);
			return;
		default:
			pgconn_reconnect(pg);
	}
}

static void
ignore_notice(void *arg, const PGresult *result)
{
	(void) arg;
	(void) result;
}

static void
pgconn_start(PgConnection *pg)
{
	const char *const keywords[] = {"dbname", "fallback_application_name", "client_encoding", NULL};
	const char *const values[] = {config.conninfo, "eda-gateway", "UTF8", NULL};

	pg->conn = PQconnectStartParams(keywords, values, 1);
	if (pg->conn == NULL || PQstatus(pg->conn) == CONNECTION_BAD)
	{
		pgconn_reconnect(pg);
		return;
	}
	PQsetNoticeReceiver(pg->conn, ignore_notice, NULL);
	uv_timer_start(&pg->timer, on_retry, CONNECT_TIMEOUT_MS, 0);
	pgconn_watch(pg, UV_WRITABLE);
}

static void
on_poll(uv_poll_t *poll, int status, int events)
{
	PgConnection *pg = poll->data;

	if (!pg->ready)
	{
		pgconn_poll(pg);
		return;
	}
	if (status < 0)
	{
		pgconn_reconnect(pg);
		return;
	}
	if (events & UV_WRITABLE)
		pgconn_flush(pg);
	if (pg->ready && (events & UV_READABLE))
	{
		if (PQconsumeInput(pg->conn))
			pg->on_input(pg);
		else
			pgconn_reconnect(pg);
	}
}

/* Send what libpq still keeps back; what the socket does not take now is sent later. */
void
pgconn_flush(PgConnection *pg)
{
	int left = PQflush(pg->conn);

	if (left < 0)
		pgconn_reconnect(pg);
	else
		pgconn_watch(pg, left > 0 ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

/* Begin to connect; the owner has set the callbacks. */
void
pgconn_open(PgConnection *pg)
{
	uv_timer_init(loop, &pg->timer);
	pg->timer.data = pg;
	pg->backoff_ms = BACKOFF_MIN_MS;
	pgconn_start(pg);
}

void
pgconn_close(PgConnection *pg)
{
	pg->closing = true;
	pg->ready = false;
	pgconn_unwatch(pg);
	PQfinish(pg->conn);
	pg->conn = NULL;
	uv_close((uv_handle_t *) &pg->timer, NULL);
}
