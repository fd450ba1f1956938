/*
 * request.c
 *		A request's life from its complete arrival to its answer: the SQL call, and what
 *		becomes of its result.
 *
 * Who frees a request.  http.c makes it, in REQUEST_READING or REQUEST_REFUSED, and hands
 * it over with request_act() or request_answer().  From then on this file frees it:
 *
 *   its answer is sent                     request_answer() frees it
 *   and the connection is to end           request_answer() leaves it, in REQUEST_SENT or
 *                                          REQUEST_DRAINING, to request_abandon()
 *   it becomes a stream                    become_stream() frees it
 *   its client hangs up                    request_abandon() frees it, or leaves it, in
 *                                          REQUEST_CALLING, to the call's callback, which
 *                                          frees it with request_answer() or gives the
 *                                          acquired events back and frees it then
 *
 * Another file frees a request in one case: that of a WebSocket's upgrade, which http.c
 * answers where it makes it, and which never comes here.
 */
#include "request.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>
#include <libwebsockets.h>
#include <uv.h>

#include "answer.h"
#include "caller.h"
#include "db.h"
#include "log.h"
#include "loop.h"
#include "memory.h"
#include "place.h"
#include "problem.h"
#include "route.h"
#include "stats.h"
#include "stream.h"
#include "text.h"
#include "waiters.h"

static Request *ready; /* the list of requests in REQUEST_READY */

/* Make a request; "left" may be NULL if it will never call the database or become a stream. */
Request *
request_new(struct lws *wsi, const char *path, int size, RequestLeft left)
{
	Request *request = memory_get(sizeof(Request));

	request->wsi = wsi;
	request->left = left;
	request->path = memory_copy(path, size);
	request->started = uv_hrtime();
	in_flight++;
	return request;
}

void
request_free(Request *request)
{
	in_flight--;
	if (request->caller != NULL)
	{
		request->caller->in_flight--;
		caller_leave(request->caller);
	}
	for (int i = 0; i < MAX_ARGUMENTS; i++)
		free(request->values[i]);
	free(request->path);
	free(request->flow_type);
	text_free(&request->body);
	text_free(&request->own);
	PQclear(request->result);
	if (request->subscriber != NULL)
		stream_close(request->subscriber);
	free(request);
}

/*
 * Send the answer that stands in the request.  Then the request is freed, and its
 * connection is ready for the next one; or both end soon, if the request says so.
 */
void
request_answer(Request *request)
{
	struct lws *wsi = request->wsi;
	bool broken;

	if (wsi == NULL)
	{
		request_free(request);
		return;
	}
	lws_rx_flow_control(wsi, 1);
	broken = answer_write(wsi, request) < 0;
	if (!broken && request->close_after)
	{
		request->stage = request->stage == REQUEST_REFUSED ? REQUEST_DRAINING : REQUEST_SENT;
		answer_linger(wsi);
		return;
	}
	request->left(wsi, NULL, !broken && lws_partial_buffered(wsi));
	request_free(request);
	if (broken || lws_http_transaction_completed(wsi))
		answer_end(wsi);
}

static void
ready_remove(Request *request)
{
	for (Request **p = &ready; *p != NULL; p = &(*p)->next)
		if (*p == request)
		{
			*p = request->next;
			return;
		}
}

/* The request's client has hung up. */
void
request_abandon(Request *request)
{
	request->wsi = NULL;
	if (request->subscriber != NULL) /* it uses the same connection */
		stream_close(request->subscriber);
	request->subscriber = NULL;
	if (request->stage == REQUEST_CALLING)
		return; /* the call's callback frees it */
	if (request->stage == REQUEST_READY)
		ready_remove(request);
	else if (request->stage == REQUEST_WAITING)
		waiters_leave(request);
	request_free(request);
}

/* The request ends here, and its subscriber continues on the connection. */
static void
become_stream(Request *request, const char *missed)
{
	Subscriber *s = request->subscriber;

	request->subscriber = NULL;
	request->status = 200;
	stats_count_request(request);
	lws_rx_flow_control(request->wsi, 1);
	request->left(request->wsi, s, false);
	request_free(request);
	stream_begin(s, missed);
}

/* ------------------------------------------------------------------------
 * The call
 * ------------------------------------------------------------------------ */

/*
 * Give acquired events back: their attempt is then not used up, and nobody has to wait
 * until their lease ends.
 */
static const char give_back_sql[] =
	"SELECT eda.release_many(array_agg((e ->> 'event_id')::uuid), array_agg((e ->> 'token')::integer),"
	" reason => 'the client that asked for it was gone')"
	" FROM json_array_elements(coalesce($1::json -> 'events', json_build_array($1::json))) e";

static void
on_given_back(void *arg, PGresult *result, DbTrouble trouble)
{
	Request *request = arg;

	(void) trouble;
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		stats.given_back++;
	PQclear(result);
	request_free(request);
}

/*
 * Whether the client has hung up.  Nothing was read from its connection during the call,
 * so unread bytes may come before the end of the stream (with TLS they always do).  So we
 * ask the kernel, which knows of the end, or of a reset.
 */
static bool
client_is_gone(const Request *request)
{
	struct pollfd p = {.events = POLLRDHUP};

	if (request->wsi == NULL)
		return true;
	p.fd = lws_get_socket_fd(request->wsi);
	return poll(&p, 1, 0) > 0;
}

/* The client is gone, and cannot be sent the events that it has acquired. */
static void
give_events_back(Request *request)
{
	if (request->wsi != NULL)
	{
		answer_end(request->wsi);
		request->left(request->wsi, NULL, false);
		request->wsi = NULL;
	}
	free(request->values[0]);
	request->values[0] = memory_copy_text(request->content);
	db_call(give_back_sql, 1, request->values, request->caller->role, on_given_back, request);
}

static const char *
result_column(const PGresult *result, int i)
{
	return PQgetisnull(result, 0, i) ? NULL : PQgetvalue(result, 0, i);
}

static void
take_answer(Request *request, PGresult *result)
{
	const char *status = result_column(result, 0);

	request->result = result;
	request->status = status == NULL ? 500 : atoi(status);
	request->etag = result_column(result, 1);
	request->location = result_column(result, 2);
	request->content = result_column(result, 3);
	request->content_size = request->content == NULL ? 0 : PQgetlength(result, 0, 3);
	request->content_type = "application/json";
	if (request->status == 503)
		request->retry_after = 2;
	if (request->route->kind == ROUTE_METRICS)
	{
		text_add(&request->own, request->content, request->content_size);
		stats_write(&request->own);
		request->content = request->own.data;
		request->content_size = request->own.size;
		request->content_type = "text/plain; version=0.0.4; charset=utf-8";
	}
}

/*
 * Whether the database lets the caller watch.  A place that it cannot continue from is no
 * reason to refuse the caller: the stream begins with "skipped".
 */
static bool
may_stream(const PGresult *result)
{
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return PQresultStatus(result) == PGRES_TUPLES_OK || place_is_refused(code);
}

/* Whether the error lies in what we have sent, and not in the state of the server. */
static bool
is_users_mistake(const PGresult *result)
{
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return code != NULL && (strncmp(code, "22", 2) == 0 || strncmp(code, "42", 2) == 0);
}

/* The call for a request has ended. */
static void
on_called(void *arg, PGresult *result, DbTrouble trouble)
{
	Request *request = arg;

	if (request->subscriber != NULL && request->wsi != NULL && trouble != DB_NO_ROLE && may_stream(result))
	{
		become_stream(request, PQntuples(result) == 1 ? result_column(result, 3) : NULL);
		PQclear(result);
		return;
	}
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
	{
		const char *wait_for = result_column(result, 4);

		if (wait_for != NULL && request->wsi != NULL && !stopping && !request->caller->retired &&
		    (request->flow_type == NULL || loop_now_ms() < request->give_up_at))
		{
			bool waits;

			request->stage = REQUEST_WAITING;
			waits = waiters_add(request, wait_for, strtoull(PQgetvalue(result, 0, 5), NULL, 10));
			PQclear(result);
			if (!waits)
				request_call(request);
			return;
		}
		take_answer(request, result);
	}
	else if (result == NULL && request->route->kind == ROUTE_METRICS)
	{
		/* Prometheus learns from the gateway's own numbers that the database is away. */
		stats_write(&request->own);
		request->status = 200;
		request->content = request->own.data;
		request->content_size = request->own.size;
		request->content_type = "text/plain; version=0.0.4; charset=utf-8";
	}
	else
	{
		if (result == NULL)
			problem_set_trouble(request, trouble);
		else if (trouble == DB_NO_ROLE && is_users_mistake(result))
		{
			log_line(LOG_WARN, "cannot set the database role of a token: %s", PQresultErrorMessage(result));
			problem_set(request, 403, "The database role of this token cannot be used.", "The gateway's log says why.");
		}
		else
			problem_set_error(request, result);
		PQclear(result);
	}
	/* An answer without a token, such as {"events": []}, has no event that could be given back. */
	if (request->route->acquires && request->status == 200 && client_is_gone(request) &&
	    strstr(request->content, "\"token\"") != NULL)
		give_events_back(request);
	else
		request_answer(request);
}

void
request_call(Request *request)
{
	int n = 0;

	while (n < MAX_ARGUMENTS && request->route->arguments[n].source != FROM_NOWHERE)
		n++;
	request->stage = REQUEST_CALLING;
	request->asked_at = uv_hrtime();
	if (request->wsi != NULL)
	{
		lws_rx_flow_control(request->wsi, 0);
		/* The call has timeouts of its own: QUEUE_MS and statement_timeout (db.c). */
		lws_set_timeout(request->wsi, NO_PENDING_TIMEOUT, 0);
	}
	db_call(request->route->sql, n, request->values, request->caller->role, on_called, request);
}

/* ------------------------------------------------------------------------
 * Acting on a request
 * ------------------------------------------------------------------------ */

/* All of the request is here: do what its route is for. */
void
request_act(Request *request)
{
	switch (request->route->kind)
	{
		case ROUTE_HEALTH:
			request->status = 200;
			request->content_type = "application/json";
			request->content = "{\"status\":\"alive\"}";
			request->content_size = strlen(request->content);
			request_answer(request);
			return;
		case ROUTE_STREAM:
		case ROUTE_MCP_STREAM:
			if (request->head)
			{
				request->status = 200;
				request->content_type = "text/event-stream";
				request_answer(request);
			}
			else if (request->route->kind == ROUTE_STREAM)
				request_call(request);
			else
				become_stream(request, NULL);
			return;
		case ROUTE_SOCKET:
			problem_set(request, 426, "This is a WebSocket.", "Connect with a WebSocket client.");
			request_answer(request);
			return;
		default:
			for (int i = 0; i < MAX_ARGUMENTS; i++)
				if (request->route->arguments[i].source == FROM_BODY && request->body.size > 0)
				{
					if (memchr(request->body.data, '\0', request->body.size) != NULL)
					{
						problem_set(request, 400, "The body contains a NUL byte.", NULL);
						request_answer(request);
						return;
					}
					request->values[i] = memory_copy(request->body.data, request->body.size);
				}
			text_free(&request->body);
			request_call(request);
	}
}

/* Act on a request when request_act_on_ready() is called, before the loop waits again. */
void
request_act_later(Request *request)
{
	request->stage = REQUEST_READY;
	request->next = ready;
	ready = request;
}

void
request_act_on_ready(void)
{
	while (ready != NULL)
	{
		Request *request = ready;

		ready = request->next;
		request->next = NULL;
		if (request->status != 0) /* it was refused */
			request_answer(request);
		else
			request_act(request);
	}
}

/* The file of tokens was read again: refuse long polls whose token is no longer in it. */
void
request_refuse_retired(void)
{
	Request *request;

	while ((request = waiters_take_retired()) != NULL)
	{
		problem_set(request, 401, "The token is no longer valid.", NULL);
		request_answer(request);
	}
}
