/*
 * http.c
 *		Requests: from libwebsockets' callbacks to the SQL call, and back.
 *
 * A request outlives its connection when the client goes away during the call; its
 * answer is then thrown away, and events that it acquired are given back.
 *
 * libwebsockets (4.1) would read and parse a pipelined request while we still look
 * for the answer to the one before.  So nothing is read of a connection meanwhile
 * (its flow control), and answers are written when they come: a connection whose
 * reading is stopped is not told that it can write.  A long poll that waits goes on
 * reading, or it would not learn that its client is gone.
 */
#include "gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define LEFTOVER_MS 5000 /* for a client that goes on sending a body that is too large */

bool stopping = false;

static Request *ready; /* all of them are here, and nothing was done yet */
static uv_prepare_t prepare;

static void forget_ready(Request *request);

/* ------------------------------------------------------------------------
 * Headers
 * ------------------------------------------------------------------------ */

bool
http_header(struct lws *wsi, const char *name, char *out, size_t size)
{
	int n = lws_hdr_custom_copy(wsi, out, (int) size, name, (int) strlen(name));

	if (n < 0)
		return false;
	out[n] = '\0';
	return true;
}

/* A parameter of the query; an empty one counts as none. */
char *
http_query(struct lws *wsi, const char *name)
{
	size_t size = strlen(name);
	char part[4096];
	int n;

	for (int i = 0; (n = lws_hdr_copy_fragment(wsi, part, sizeof(part), WSI_TOKEN_HTTP_URI_ARGS, i)) >= 0; i++)
		if (strncmp(part, name, size) == 0 && part[size] == '=' && n > (int) size + 1)
			return copy_bytes(part + size + 1, n - size - 1);
	return NULL;
}

static Method
method_of(struct lws *wsi, char **path, int *size, bool *head)
{
	*head = false;
	switch (lws_http_get_uri_and_method(wsi, path, size))
	{
		case LWSHUMETH_GET:
			return METHOD_GET;
		case LWSHUMETH_HEAD:
			*head = true;
			return METHOD_GET;
		case LWSHUMETH_POST:
			return METHOD_POST;
		case LWSHUMETH_PUT:
			return METHOD_PUT;
		case LWSHUMETH_PATCH:
			return METHOD_PATCH;
		default:
			return METHOD_OTHER;
	}
}

static bool
is_json(struct lws *wsi)
{
	char type[128];

	if (lws_hdr_copy(wsi, type, sizeof(type), WSI_TOKEN_HTTP_CONTENT_TYPE) <= 0)
		return false;
	return strncasecmp(type, "application/json", 16) == 0 && strchr("; \t", type[16]) != NULL;
}

/* ------------------------------------------------------------------------
 * A request's life
 * ------------------------------------------------------------------------ */

static Request *
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
http_answer(Request *request)
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
static void
abandon(Request *request)
{
	request->wsi = NULL;
	if (request->ready)
		forget_ready(request);
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

/* Whether the client has hung up; nothing has been read of its connection meanwhile. */
static bool
is_gone(const Request *request)
{
	char byte;

	return request->wsi == NULL || recv(lws_get_socket_fd(request->wsi), &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

/* The answer has nobody to go to. */
static void
give_back(Request *request)
{
	if (request->wsi != NULL)
	{
		Session *session = lws_wsi_user(request->wsi);

		lws_set_timeout(request->wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
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
static void
become_stream(Request *request, const char *missed)
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

	return PQresultStatus(result) == PGRES_TUPLES_OK || (code != NULL && strncmp(code, "22", 2) == 0);
}

static void
called(void *who, PGresult *result, DbTrouble trouble)
{
	Request *request = who;

	if (request->subscriber != NULL && request->wsi != NULL && may_stream(result))
	{
		become_stream(request, PQntuples(result) == 1 ? column(result, 3) : NULL);
		PQclear(result);
		return;
	}
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
	{
		const char *wait_for = column(result, 4);

		if (wait_for != NULL && request->wsi != NULL && !stopping &&
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
		else
			problem_of_error(request, result);
		PQclear(result);
	}
	/* Without a token there is nothing that could be given back, as in {"events": []}. */
	if (request->route->acquires && request->status == 200 && is_gone(request) &&
	    strstr(request->content, "\"token\"") != NULL)
		give_back(request);
	else
		http_answer(request);
}

void
http_run(Request *request)
{
	int n = 0;

	while (n < MAX_ARGUMENTS && request->route->arguments[n].source != FROM_NOWHERE)
		n++;
	request->asked_at = uv_hrtime();
	if (request->wsi != NULL)
		lws_rx_flow_control(request->wsi, 0);
	db_call(request->route->sql, n, request->values, request->caller->role, called, request);
}

/* ------------------------------------------------------------------------
 * Reading a request
 * ------------------------------------------------------------------------ */

/* If-Match: "7" is the token 7; anything else would never match. */
static bool
read_if_match(Request *request, int i)
{
	char text[64];
	char *end;
	size_t size;

	if (lws_hdr_total_length(request->wsi, WSI_TOKEN_HTTP_IF_MATCH) <= 0)
		return true;
	if (lws_hdr_copy(request->wsi, text, sizeof(text), WSI_TOKEN_HTTP_IF_MATCH) <= 0)
		text[0] = '\0';
	size = strlen(text);
	if (strcmp(text, "*") == 0)
		return true;
	if (size > 2 && size < 13 && text[0] == '"' && text[size - 1] == '"' && strtoul(text + 1, &end, 10) <= INT32_MAX &&
	    end == text + size - 1)
	{
		request->values[i] = copy_bytes(text + 1, size - 2);
		return true;
	}
	problem(request, 412, "The If-Match header is no token of this event.",
	        "Send the ETag that came with the event when it was acquired, such as \"3\" with its quotes.");
	return false;
}

/* The SQL function's arguments, but for the body; those of the path are there. */
static bool
read_arguments(Request *request)
{
	const Argument *a = request->route->arguments;
	char *paths[MAX_ARGUMENTS];
	int npaths = 0;
	char text[512];

	memcpy(paths, request->values, sizeof(paths));
	memset((void *) request->values, 0, sizeof(request->values));
	for (int i = 0; i < MAX_ARGUMENTS; i++)
		if (a[i].source == FROM_PATH)
			request->values[i] = paths[npaths++];
	for (int i = 0; i < MAX_ARGUMENTS; i++)
		switch (a[i].source)
		{
			case FROM_QUERY:
				request->values[i] = http_query(request->wsi, a[i].name);
				break;
			case FROM_IF_MATCH:
				if (!read_if_match(request, i))
					return false;
				break;
			case FROM_HEADER:
				if (http_header(request->wsi, a[i].name, text, sizeof(text)) && text[0] != '\0')
					request->values[i] = copy_text(text);
				break;
			default:
				break;
		}
	return true;
}

/*
 * Whether this is the request that it looks like.  libwebsockets (4.1) decodes %0A in
 * a path before it looks for the end of the line, so that a path could bring headers
 * of its own; it then sees no version.  And of two headers it takes the first.
 */
static bool
is_sound(struct lws *wsi)
{
	char version[16];

	return lws_hdr_copy(wsi, version, sizeof(version), WSI_TOKEN_HTTP) > 0 &&
	       (strcmp(version, "HTTP/1.1") == 0 || strcmp(version, "HTTP/1.0") == 0) &&
	       lws_hdr_fragment_length(wsi, WSI_TOKEN_HOST, 1) <= 0 &&
	       lws_hdr_fragment_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, 1) <= 0;
}

/* How long the body is, or the problem with it. */
static bool
expect_body(Request *request, Method method)
{
	char text[32];
	struct lws *wsi = request->wsi;
	int size = lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH);

	if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0)
	{
		request->close_after = true;
		problem(request, 411, "A body needs a Content-Length here.", NULL);
		return false;
	}
	if (size > 0 && (lws_hdr_copy(wsi, text, sizeof(text), WSI_TOKEN_HTTP_CONTENT_LENGTH) <= 0 ||
	                 strspn(text, "0123456789") != strlen(text) || size > 18))
	{
		request->close_after = true;
		problem(request, 400, "The Content-Length is no number of bytes.", NULL);
		return false;
	}
	if (size > 0)
		request->body_left = strtoull(text, NULL, 10);
	else if (method != METHOD_GET)
		request->close_after = true; /* libwebsockets takes all that follows for a body */
	if (request->body_left > (uint64_t) config.max_body)
	{
		request->close_after = true;
		problem(request, 413, "The body is too large.",
		        "Publish a reference to it, or raise the gateway's --max-body.");
		return false;
	}
	return true;
}

/* Who sends "Expect: 100-continue" waits for a word before the body. */
static void
encourage(Request *request)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	unsigned char buffer[LWS_PRE + sizeof(text)];

	if (lws_hdr_total_length(request->wsi, WSI_TOKEN_HTTP_EXPECT) <= 0)
		return;
	memcpy(buffer + LWS_PRE, text, sizeof(text));
	lws_write(request->wsi, buffer + LWS_PRE, sizeof(text) - 1, LWS_WRITE_HTTP_HEADERS);
}

static bool
takes_body(const Route *route)
{
	for (int i = 0; i < MAX_ARGUMENTS; i++)
		if (route->arguments[i].source == FROM_BODY)
			return true;
	return false;
}

/* Find out what is wanted.  False: the request has its answer, a problem or a file. */
static bool
understand(Request *request, Method method)
{
	Text allowed = {0};
	bool open;

	if (!is_sound(request->wsi))
	{
		request->close_after = true;
		problem(request, 400, "This is not a request that could be understood in one way only.", NULL);
		return false;
	}
	if (!expect_body(request, method))
		return false;
	if (stopping)
	{
		request->close_after = true;
		request->retry_after = 2;
		problem(request, 503, "The gateway is shutting down.", "Try again.");
		return false;
	}
	request->route = route_find(method, request->path, request->values, &allowed);
	open = request->route != NULL ? request->route->open : allowed.size == 0;
	if (!guard_admit(request->wsi, request, open))
	{
		text_free(&allowed);
		return false;
	}
	request->caller->in_flight++;
	if (request->route == NULL && allowed.size > 0)
	{
		request->location = NULL;
		request->allow = request->values[0] = allowed.data == NULL ? NULL : copy_text(allowed.data);
		text_free(&allowed);
		problem(request, 405, "This path does not take this method.", NULL);
		return false;
	}
	if (request->route == NULL)
	{
		if (method != METHOD_GET || !files_answer(request))
			problem(request, 404, "There is nothing at this path.", "GET /openapi.json lists what there is.");
		return false;
	}
	if (request->caller->in_flight > config.max_in_flight)
	{
		request->retry_after = 1;
		problem(request, 429, "This caller has too many requests under way.", "Wait for some of them to be answered.");
		return false;
	}
	if (request->body_left > 0 && takes_body(request->route) && !is_json(request->wsi))
	{
		problem(request, 415, "The body must be JSON.", "Send the header \"Content-Type: application/json\".");
		return false;
	}
	return read_arguments(request);
}

/* All of the request is here. */
static void
act(Request *request)
{
	request->acted = true;
	switch (request->route->kind)
	{
		case ROUTE_HEALTH:
			request->status = 200;
			request->content_type = "application/json";
			request->content = "{\"status\":\"alive\"}";
			request->content_size = strlen(request->content);
			http_answer(request);
			return;
		case ROUTE_STREAM:
		case ROUTE_MCP_STREAM:
			if (request->head)
			{
				request->status = 200;
				request->content_type = "text/event-stream";
				http_answer(request);
			}
			else if (request->route->kind == ROUTE_STREAM)
				http_run(request);
			else
				become_stream(request, NULL);
			return;
		case ROUTE_SOCKET:
			problem(request, 426, "This is a WebSocket.", "Connect with a WebSocket client.");
			http_answer(request);
			return;
		default:
			for (int i = 0; i < MAX_ARGUMENTS; i++)
				if (request->route->arguments[i].source == FROM_BODY && request->body.size > 0)
				{
					if (memchr(request->body.data, '\0', request->body.size) != NULL)
					{
						problem(request, 400, "The body has a NUL byte.", NULL);
						http_answer(request);
						return;
					}
					request->values[i] = copy_bytes(request->body.data, request->body.size);
				}
			text_free(&request->body);
			http_run(request);
	}
}

/* The subscriber that this request is to become, with what it wants to see and where it was. */
static void
prepare_stream(Request *request)
{
	struct lws *wsi = request->wsi;
	char *values[] = {http_query(wsi, "event_type"), http_query(wsi, "flow_type"), http_query(wsi, "flow_id")};
	char text[8192];
	char *since;

	if (http_header(wsi, "last-event-id:", text, sizeof(text)) && text[0] != '\0')
		since = copy_text(text);
	else
		since = http_query(wsi, "last_event_id");
	request->subscriber = stream_open(wsi, request->route->kind == ROUTE_STREAM ? SUBSCRIBER_SSE : SUBSCRIBER_MCP,
	                                  request->caller, since);
	request->values[0] = copy_text(request->subscriber->since);
	subscribe(request->subscriber, "", values[0], values[1], values[2]);
	for (int i = 0; i < 3; i++)
		free(values[i]);
}

static bool
is_stream(const Request *request)
{
	return request->route != NULL && (request->route->kind == ROUTE_STREAM || request->route->kind == ROUTE_MCP_STREAM);
}

static int
begin(struct lws *wsi, Session *session, const char *in)
{
	char *path;
	int size;
	bool head;
	Method method = method_of(wsi, &path, &size, &head);
	Request *request;

	if (session->request != NULL || session->subscriber != NULL)
		return -1; /* it goes on talking on a stream */
	request = request_new(wsi, in, (int) strlen(in));
	request->head = head;
	session->request = request;
	if (!understand(request, method))
	{
		/* A body of bearable size is read first, or the next request would begin inside of it. */
		request->answered = true;
		if (request->body_left == 0 || request->close_after)
			http_answer(request);
		return 0;
	}
	if (is_stream(request) && !head)
		prepare_stream(request);
	if (request->body_left == 0)
		act(request);
	else
		encourage(request);
	return 0;
}

/* A part of the body. */
static int
body(Request *request, const char *data, size_t size)
{
	if (request == NULL || request->acted)
		return 0;
	if (request->sent) /* with a problem: the client is given some time to notice */
		return uv_hrtime() - request->started > LEFTOVER_MS * NS_PER_MS ? -1 : 0;
	if (!request->answered)
		text_add(&request->body, data, size);
	request->body_left -= size < request->body_left ? size : request->body_left;
	return 0;
}

/*
 * The body is here.  What it is for is done before the loop waits again, and not now:
 * with a pipelined request behind it, libwebsockets (4.1) goes on in circles,
 * completing the body for ever, unless we end the connection; then nothing was done.
 */
static int
body_complete(Request *request)
{
	if (request == NULL || request->sent || request->body_left > 0)
		return 0;
	if (request->ready || request->waiting)
		return -1;
	if (request->acted)
		return 0;
	request->ready = true;
	request->next_waiter = ready;
	ready = request;
	return 0;
}

static void
on_prepare(uv_prepare_t *handle)
{
	(void) handle;
	while (ready != NULL)
	{
		Request *request = ready;

		ready = request->next_waiter;
		request->next_waiter = NULL;
		request->ready = false;
		if (request->answered)
			http_answer(request);
		else
			act(request);
	}
}

static void
forget_ready(Request *request)
{
	for (Request **p = &ready; *p != NULL; p = &(*p)->next_waiter)
		if (*p == request)
		{
			*p = request->next_waiter;
			return;
		}
}

void
http_start(void)
{
	uv_prepare_init(loop, &prepare);
	uv_prepare_start(&prepare, on_prepare);
}

void
http_stop(void)
{
	uv_close((uv_handle_t *) &prepare, NULL);
}

/* ------------------------------------------------------------------------
 * libwebsockets
 * ------------------------------------------------------------------------ */

/* Somebody wants a WebSocket: 0 lets him, 1 says that he has his answer. */
static int
confirm_upgrade(struct lws *wsi, const char *protocol)
{
	char *path;
	int size;
	bool head;
	Method method = method_of(wsi, &path, &size, &head);
	Request *request;
	bool fine = false;

	if (strcmp(protocol, "websocket") != 0)
		return -1;
	request = request_new(wsi, path, size);
	if (understand(request, method))
	{
		if (request->route->kind == ROUTE_SOCKET)
			fine = true;
		else
			problem(request, 400, "There is no WebSocket at this path.", "Connect to /ws.");
	}
	if (fine)
		lws_set_opaque_user_data(wsi, caller_use(request->caller));
	else
	{
		request->close_after = true;
		answer_write_now(wsi, request);
	}
	request_free(request);
	return fine ? 0 : 1;
}

static int
socket_established(struct lws *wsi, Session *session)
{
	Caller *caller = lws_get_opaque_user_data(wsi);
	char *values[] = {http_query(wsi, "event_type"), http_query(wsi, "flow_type"), http_query(wsi, "flow_id")};
	char part[8];
	Subscriber *s;

	if (caller == NULL)
		return -1;
	s = stream_open(wsi, SUBSCRIBER_WS, caller, http_query(wsi, "last_event_id"));
	caller_leave(caller); /* the subscriber holds it now */
	lws_set_opaque_user_data(wsi, NULL);
	session->subscriber = s;
	if (values[0] != NULL || values[1] != NULL || values[2] != NULL ||
	    lws_hdr_copy_fragment(wsi, part, sizeof(part), WSI_TOKEN_HTTP_URI_ARGS, 0) == 3)
		subscribe(s, "", values[0], values[1], values[2]);
	for (int i = 0; i < 3; i++)
		free(values[i]);
	stream_ask_database(s);
	return 0;
}

static void
closed(Session *session)
{
	if (session == NULL)
		return;
	if (session->request != NULL)
		abandon(session->request);
	session->request = NULL;
	if (session->subscriber != NULL)
		stream_closed(session->subscriber);
	session->subscriber = NULL;
}

static int
writable(Session *session)
{
	return session->subscriber != NULL ? stream_write(session->subscriber) : 0;
}

/* Everything that libwebsockets has to say, of HTTP and WebSocket connections alike. */
int
http_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	Session *session = user;

	switch (reason)
	{
		case LWS_CALLBACK_FILTER_NETWORK_CONNECTION:
			if (stopping || stats.open_connections >= config.max_connections)
			{
				stats.rejected++;
				return 1;
			}
			return 0;
		case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
			stats.connections++;
			stats.open_connections++;
			return 0;
		case LWS_CALLBACK_WSI_DESTROY:
			stats.open_connections--;
			if (lws_get_opaque_user_data(wsi) != NULL)
				caller_leave(lws_get_opaque_user_data(wsi));
			return 0;
		case LWS_CALLBACK_HTTP:
			return begin(wsi, session, in);
		case LWS_CALLBACK_HTTP_BODY:
			return body(session->request, in, len);
		case LWS_CALLBACK_HTTP_BODY_COMPLETION:
			return body_complete(session->request);
		case LWS_CALLBACK_HTTP_WRITEABLE:
		case LWS_CALLBACK_SERVER_WRITEABLE:
			return writable(session);
		case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
			return confirm_upgrade(wsi, in);
		case LWS_CALLBACK_ESTABLISHED:
			return socket_established(wsi, session);
		case LWS_CALLBACK_RECEIVE:
			return session->subscriber == NULL ? -1
			                                   : socket_receive(session->subscriber, in, len,
			                                                    lws_is_final_fragment(wsi), lws_frame_is_binary(wsi));
		case LWS_CALLBACK_CLOSED:
		case LWS_CALLBACK_CLOSED_HTTP:
			closed(session);
			return 0;
		case LWS_CALLBACK_HTTP_BIND_PROTOCOL:
		case LWS_CALLBACK_HTTP_DROP_PROTOCOL:
		case LWS_CALLBACK_FILTER_HTTP_CONNECTION:
		case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
			return 0;
		default:
			return lws_callback_http_dummy(wsi, reason, user, in, len);
	}
}
