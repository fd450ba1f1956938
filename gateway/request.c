/*
 * request.c
 *		A request's life: the SQL call, and what becomes of its result.
 *
 * A request outlives its connection when the client goes away during the call; its
 * answer is then thrown away, and events that it acquired are given back.
 */
#include "gateway.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

Request *
request_new(struct lws *wsi, const char *path, int size)
{
	Request *request = get_memory(sizeof(Request));

	request->wsi = wsi;
	request->path = copy_bytes(path, size);
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
		stream_closed(request->subscriber);
	free(request);
}

/* Answer with what stands in the request. */
void
request_answer(Request *request)
{
	request->answered = true;
	if (request->wsi == NULL)
	{
		request_free(request);
		return;
	}
	lws_rx_flow_control(request->wsi, 1);
	answer_write(request);
}

/* The client is gone. */
void
request_abandon(Request *request)
{
	request->wsi = NULL;
	if (request->subscriber != NULL) /* it has the same connection, and is in the list of who watches */
		stream_closed(request->subscriber);
	request->subscriber = NULL;
	if (request->ready)
		http_forget_ready(request);
	if (request->waiting)
	{
		waiters_leave(request);
		request_free(request);
	}
	else if (request->answered || !request->acted)
		request_free(request);
	/* Else a call is under way, and frees it. */
}

/* ------------------------------------------------------------------------
 * The call
 * ------------------------------------------------------------------------ */

/* What acquired events need so that their attempt is not used up, and their lease not waited for. */
static const char give_back_sql[] =
	"SELECT eda.release_many(array_agg((e ->> 'event_id')::uuid), array_agg((e ->> 'token')::integer),"
	" reason => 'the client that asked for it was gone')"
	" FROM json_array_elements(coalesce($1::json -> 'events', json_build_array($1::json))) e";

static void
given_back(void *who, PGresult *result, DbTrouble trouble)
{
	Request *request = who;

	(void) trouble;
	if (PQresultStatus(result) == PGRES_TUPLES_OK)
		stats.given_back++;
	PQclear(result);
	request_free(request);
}

/*
 * Whether the client has hung up; nothing has been read of its connection meanwhile,
 * so that there may be bytes before the end, as always with TLS, or a reset.
 */
static bool
is_gone(const Request *request)
{
	struct pollfd p = {.events = POLLRDHUP};

	if (request->wsi == NULL)
		return true;
	p.fd = lws_get_socket_fd(request->wsi);
	return poll(&p, 1, 0) > 0;
}

/* The answer has nobody to go to. */
static void
give_back(Request *request)
{
	if (request->wsi != NULL)
	{
		Session *session = lws_wsi_user(request->wsi);

		answer_end(request->wsi);
		session->request = NULL;
		request->wsi = NULL;
	}
	free(request->values[0]);
	request->values[0] = copy_text(request->content);
	db_call(give_back_sql, 1, request->values, request->caller->role, given_back, request);
}

static const char *
column(const PGresult *result, int i)
{
	return PQgetisnull(result, 0, i) ? NULL : PQgetvalue(result, 0, i);
}

static void
take_result(Request *request, PGresult *result)
{
	const char *status = column(result, 0);

	request->result = result;
	request->status = status == NULL ? 500 : atoi(status);
	request->etag = column(result, 1);
	request->location = column(result, 2);
	request->content = column(result, 3);
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

/* The request ends here, and what goes on is a subscriber. */
void
request_become_stream(Request *request, const char *missed)
{
	Session *session = lws_wsi_user(request->wsi);
	Subscriber *s = request->subscriber;

	request->subscriber = NULL;
	request->status = 200;
	stats_request(request);
	lws_rx_flow_control(request->wsi, 1);
	session->request = NULL;
	session->subscriber = s;
	request_free(request);
	stream_begin(s, missed);
}

/* The caller may watch, or not; a place to go on from that is of no use is no reason to refuse. */
static bool
may_stream(const PGresult *result)
{
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return PQresultStatus(result) == PGRES_TUPLES_OK || is_useless_place(code);
}

/* Not an error such as that the server is shutting down. */
static bool
is_users_mistake(const PGresult *result)
{
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	return code != NULL && (strncmp(code, "22", 2) == 0 || strncmp(code, "42", 2) == 0);
}

static void
called(void *who, PGresult *result, DbTrouble trouble)
{
	Request *request = who;

	if (request->subscriber != NULL && request->wsi != NULL && trouble != DB_NO_ROLE && may_stream(result))
	{
		request_become_stream(request, PQntuples(result) == 1 ? column(result, 3) : NULL);
		PQclear(result);
		return;
	}
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
	{
		const char *wait_for = column(result, 4);

		if (wait_for != NULL && request->wsi != NULL && !stopping && !request->caller->retired &&
		    (request->flow_type == NULL || now_ms() < request->give_up_at))
		{
			waiters_add(request, wait_for, strtoull(PQgetvalue(result, 0, 5), NULL, 10));
			PQclear(result);
			return;
		}
		take_result(request, result);
	}
	else if (result == NULL && request->route->kind == ROUTE_METRICS)
	{
		/* A scrape learns from the gateway's own numbers that the database is away. */
		stats_write(&request->own);
		request->status = 200;
		request->content = request->own.data;
		request->content_size = request->own.size;
		request->content_type = "text/plain; version=0.0.4; charset=utf-8";
	}
	else
	{
		if (result == NULL)
			problem_of_trouble(request, trouble);
		else if (trouble == DB_NO_ROLE && is_users_mistake(result))
		{
			log_line(LOG_WARN, "a token's role cannot be had: %s", PQresultErrorMessage(result));
			problem(request, 403, "The database role of this token cannot be had.", "The gateway's log says why.");
		}
		else
			problem_of_error(request, result);
		PQclear(result);
	}
	/* Without a token there is nothing that could be given back, as in {"events": []}. */
	if (request->route->acquires && request->status == 200 && is_gone(request) &&
	    strstr(request->content, "\"token\"") != NULL)
		give_back(request);
	else
		request_answer(request);
}

void
request_call(Request *request)
{
	int n = 0;

	while (n < MAX_ARGUMENTS && request->route->arguments[n].source != FROM_NOWHERE)
		n++;
	request->asked_at = uv_hrtime();
	if (request->wsi != NULL)
	{
		lws_rx_flow_control(request->wsi, 0);
		lws_set_timeout(request->wsi, NO_PENDING_TIMEOUT, 0); /* ours are the statement's and the queue's */
	}
	db_call(request->route->sql, n, request->values, request->caller->role, called, request);
}
