/*
 * http.c
 *		libwebsockets' callbacks: requests and WebSockets come and go.
 *
 * libwebsockets (4.1) would read and parse a pipelined request while the database still
 * works on the one before.  So during a call nothing is read from the connection (flow
 * control).  libwebsockets does not report such a connection as writable either, so an
 * answer is written as soon as it is there.  While a long poll waits, its connection is
 * read again: otherwise we would not notice that its client has hung up.
 */
#include "http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <libwebsockets.h>
#include <uv.h>

#include "answer.h"
#include "caller.h"
#include "config.h"
#include "filter.h"
#include "guard.h"
#include "loop.h"
#include "memory.h"
#include "problem.h"
#include "read.h"
#include "request.h"
#include "route.h"
#include "socket.h"
#include "stats.h"
#include "stream.h"
#include "text.h"

#define LEFTOVER_MS 5000 /* how long a refused client may go on sending its body */

/* What libwebsockets keeps for each connection; this file alone changes it. */
typedef struct Session
{
	Request *request;
	Subscriber *subscriber;
	bool unsent;            /* libwebsockets has not sent all of the last answer yet */
	uint64_t body_complete; /* the round of the loop that reported the body complete; or 0 */
} Session;

static uint64_t rounds = 1; /* how often the loop has gone round */
static uv_prepare_t prepare;

/* A client that sends "Expect: 100-continue" waits for this before it sends the body. */
static void
send_continue(Request *request)
{
	static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";
	unsigned char buffer[LWS_PRE + sizeof(text)];

	if (lws_hdr_total_length(request->wsi, WSI_TOKEN_HTTP_EXPECT) <= 0)
		return;
	memcpy(buffer + LWS_PRE, text, sizeof(text));
	lws_write(request->wsi, buffer + LWS_PRE, sizeof(text) - 1, LWS_WRITE_HTTP_HEADERS);
}

/* Make the subscriber that this request will become, with its filters and its place. */
static void
prepare_stream(Request *request)
{
	struct lws *wsi = request->wsi;
	char *values[] = {read_query(wsi, "event_type"), read_query(wsi, "flow_type"), read_query(wsi, "flow_id")};
	char text[MAX_HEADERS];
	char *since;

	if (read_header(wsi, "last-event-id:", text, sizeof(text)) && text[0] != '\0')
		since = memory_copy_text(text);
	else
		since = read_query(wsi, "last_event_id");
	request->subscriber = stream_open(wsi, request->route->kind == ROUTE_STREAM ? SUBSCRIBER_SSE : SUBSCRIBER_MCP,
	                                  request->caller, since);
	request->values[0] = memory_copy_text(request->subscriber->since);
	filter_add(request->subscriber, "", values[0], values[1], values[2]);
	for (int i = 0; i < 3; i++)
		free(values[i]);
}

static bool
is_stream(const Request *request)
{
	return request->route != NULL && (request->route->kind == ROUTE_STREAM || request->route->kind == ROUTE_MCP_STREAM);
}

/*
 * A request has left its connection: a subscriber continues on it, or the next request may
 * come.
 */
static void
session_left(struct lws *wsi, Subscriber *subscriber, bool unsent)
{
	Session *session = lws_wsi_user(wsi);

	session->request = NULL;
	session->subscriber = subscriber;
	if (unsent)
	{
		session->unsent = true; /* until session_answer_sent() */
		in_flight++;
	}
}

static int
on_request(struct lws *wsi, Session *session, const char *in)
{
	char *path;
	int size;
	bool head;
	Method method = read_method(wsi, &path, &size, &head);
	Request *request;

	if (session->request != NULL || session->subscriber != NULL)
		return -1; /* the client sends a request on the connection of a stream */
	request = request_new(wsi, in, (int) strlen(in), session_left);
	request->head = head;
	session->request = request;
	session->body_complete = 0;
	if (!guard_admit(request, method))
	{
		/*
		 * Read the body first, unless it is too large: if we answered now, its rest would
		 * be taken for the next request.
		 */
		request->stage = REQUEST_REFUSED;
		if (request->body_left == 0 || request->close_after)
			request_answer(request);
		return 0;
	}
	if (is_stream(request) && !head)
		prepare_stream(request);
	if (request->body_left == 0)
		request_act(request);
	else
		send_continue(request);
	return 0;
}

/* A part of the body has come. */
static int
on_body(Request *request, const char *data, size_t size)
{
	if (request == NULL ||
	    (request->stage != REQUEST_READING && request->stage != REQUEST_REFUSED && request->stage != REQUEST_DRAINING))
		return 0;
	/*
	 * libwebsockets (4.1) hands out the body of a pipelined request twice, the second
	 * time from memory that it has freed.  Both come in the same round of the loop: end
	 * the connection when that happens.
	 */
	if (request->first_part == rounds)
		return -1;
	if (request->first_part == 0)
		request->first_part = rounds;
	if (request->stage == REQUEST_DRAINING) /* the client has some time to notice its answer */
		return uv_hrtime() - request->started > LEFTOVER_MS * NS_PER_MS ? -1 : 0;
	if (request->stage == REQUEST_READING)
		text_add(&request->body, data, size);
	request->body_left -= size < request->body_left ? size : request->body_left;
	return 0;
}

/*
 * The body is here.  The request is not acted on now, but before the loop waits again.
 * When a pipelined request follows the body, libwebsockets (4.1) reports the body as
 * complete again and again in one round of the loop.  The second report shows that, and
 * we end the connection before anything was done for the request.
 */
static int
on_body_complete(Session *session)
{
	Request *request = session->request;
	bool in_circles = session->body_complete == rounds;

	session->body_complete = rounds;
	if (in_circles)
		return -1;
	if (request == NULL)
		return 0;
	switch (request->stage)
	{
		case REQUEST_READING:
		case REQUEST_REFUSED:
			if (request->body_left == 0)
				request_act_later(request);
			return 0;
		case REQUEST_CALLING:
			return 0;
		default:
			return -1;
	}
}

static void
on_prepare(uv_prepare_t *handle)
{
	(void) handle;
	rounds++;
	request_act_on_ready();
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

static bool
is_websocket_13(struct lws *wsi)
{
	char version[8];

	return lws_hdr_copy(wsi, version, sizeof(version), WSI_TOKEN_VERSION) > 0 && strcmp(version, "13") == 0;
}

/* A client asks for another protocol.  0: it may have it; 1: it has been answered; -1: hang up. */
static int
on_upgrade(struct lws *wsi, char *protocol)
{
	char *path;
	int size;
	bool head;
	Method method = read_method(wsi, &path, &size, &head);
	Request *request;
	bool fine = false;

	/*
	 * Java's client and curl --http2 offer h2c with their first request.  A server that
	 * does not speak h2c ignores the offer.  libwebsockets reads the protocol's name again
	 * after this call, and ignores a name that it does not know.
	 */
	if (strcasecmp(protocol, "h2c") == 0)
	{
		protocol[0] = '-';
		return 0;
	}
	if (strcasecmp(protocol, "websocket") != 0)
		return -1;
	request = request_new(wsi, path, size, NULL);
	if (guard_admit(request, method))
	{
		if (request->route->kind == ROUTE_SOCKET && is_websocket_13(wsi))
			fine = true;
		else if (request->route->kind == ROUTE_SOCKET)
			problem_set(request, 426, "This server speaks version 13 of the WebSocket protocol only.", NULL);
		else
			problem_set(request, 400, "There is no WebSocket at this path.", "Connect to /ws.");
	}
	if (fine)
		lws_set_opaque_user_data(wsi, caller_use(request->caller));
	else
	{
		request->close_after = true;
		answer_write(wsi, request); /* libwebsockets ends the transaction itself */
	}
	request_free(request);
	return fine ? 0 : 1;
}

static int
on_socket(struct lws *wsi, Session *session)
{
	Caller *caller = lws_get_opaque_user_data(wsi);
	char *values[] = {read_query(wsi, "event_type"), read_query(wsi, "flow_type"), read_query(wsi, "flow_id")};
	char part[8];
	Subscriber *s;

	if (caller == NULL)
		return -1;
	s = stream_open(wsi, SUBSCRIBER_WS, caller, read_query(wsi, "last_event_id"));
	caller_leave(caller); /* the subscriber points to it now */
	lws_set_opaque_user_data(wsi, NULL);
	session->subscriber = s;
	if (values[0] != NULL || values[1] != NULL || values[2] != NULL ||
	    lws_hdr_copy_fragment(wsi, part, sizeof(part), WSI_TOKEN_HTTP_URI_ARGS, 0) == 3)
		filter_add(s, "", values[0], values[1], values[2]);
	for (int i = 0; i < 3; i++)
		free(values[i]);
	stream_ask_database(s);
	return 0;
}

/* libwebsockets has sent all of the last answer, or has given up. */
static void
session_answer_sent(Session *session)
{
	if (session == NULL || !session->unsent)
		return;
	session->unsent = false;
	in_flight--;
}

static void
on_closed(Session *session)
{
	if (session == NULL)
		return;
	session_answer_sent(session);
	if (session->request != NULL)
		request_abandon(session->request);
	session->request = NULL;
	if (session->subscriber != NULL)
		stream_close(session->subscriber);
	session->subscriber = NULL;
}

static int
on_writable(Session *session)
{
	return session->subscriber != NULL ? stream_write(session->subscriber) : 0;
}

/* All of libwebsockets' callbacks, for HTTP and WebSocket connections. */
static int
on_event(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	Session *session = user;

	switch (reason)
	{
		case LWS_CALLBACK_FILTER_NETWORK_CONNECTION:
			if (stats.open_connections >= config.max_connections)
			{
				stats.rejected++;
				return 1;
			}
			return 0;
		/* WSI_CREATE and WSI_DESTROY come in pairs, also for a TLS handshake that fails. */
		case LWS_CALLBACK_WSI_CREATE:
			stats.connections++;
			stats.open_connections++;
			return 0;
		case LWS_CALLBACK_WSI_DESTROY:
			stats.open_connections--;
			if (lws_get_opaque_user_data(wsi) != NULL)
				caller_leave(lws_get_opaque_user_data(wsi));
			return 0;
		case LWS_CALLBACK_HTTP:
			return on_request(wsi, session, in);
		case LWS_CALLBACK_HTTP_BODY:
			return on_body(session->request, in, len);
		case LWS_CALLBACK_HTTP_BODY_COMPLETION:
			return on_body_complete(session);
		case LWS_CALLBACK_HTTP_WRITEABLE:
		case LWS_CALLBACK_SERVER_WRITEABLE:
			return on_writable(session);
		case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
			return on_upgrade(wsi, in);
		case LWS_CALLBACK_ESTABLISHED:
			return on_socket(wsi, session);
		case LWS_CALLBACK_RECEIVE:
			return session->subscriber == NULL ? -1
			                                   : socket_receive(session->subscriber, in, len,
			                                                    lws_is_final_fragment(wsi), lws_frame_is_binary(wsi));
		case LWS_CALLBACK_CLOSED:
		case LWS_CALLBACK_CLOSED_HTTP:
			on_closed(session);
			return 0;
		case LWS_CALLBACK_RAW_SKT_BIND_PROTOCOL: /* the method CONNECT */
		case LWS_CALLBACK_RAW_ADOPT:
		case LWS_CALLBACK_RAW_RX:
			return -1;
		case LWS_CALLBACK_HTTP_DROP_PROTOCOL: /* after each transaction */
			session_answer_sent(session);
			return 0;
		case LWS_CALLBACK_HTTP_BIND_PROTOCOL:
		case LWS_CALLBACK_FILTER_HTTP_CONNECTION:
		case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
			return 0;
		default:
			return lws_callback_http_dummy(wsi, reason, user, in, len);
	}
}

const struct lws_protocols http_protocols[] = {
	{"eda", on_event, sizeof(Session), 4096, 0, NULL, 0},
	{NULL, NULL, 0, 0, 0, NULL, 0},
};
