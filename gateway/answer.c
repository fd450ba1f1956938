/*
 * answer.c
 *		Answers: the status, the headers, the content.
 *
 * A request's answer stands in the Request; the functions here send it, and free nothing.
 */
#include "answer.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <libwebsockets.h>
#include <uv.h>

#include "config.h"
#include "log.h"
#include "problem.h"
#include "request.h"
#include "stats.h"

#define HEADER_ROOM 2048
#define SMALL 16384 /* content of up to so many bytes is sent together with the headers */
#define LEFTOVER_SECONDS 5

#define PAGE_POLICY                                                                                       \
	"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " \
	"font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
#define DATA_POLICY "default-src 'none'; frame-ancestors 'none'"

typedef struct Head
{
	struct lws *wsi;
	unsigned char *at;
	unsigned char *end;
	bool full;
} Head;

static void
add_header(Head *h, const char *name, const char *value)
{
	if (lws_add_http_header_by_name(h->wsi, (const unsigned char *) name, (const unsigned char *) value,
	                                (int) strlen(value), &h->at, h->end))
		h->full = true;
}

static void
add_number_header(Head *h, const char *name, unsigned long value)
{
	char text[24];

	snprintf(text, sizeof(text), "%lu", value);
	add_header(h, name, text);
}

/* Add the status line, and the headers that every answer has. */
static void
add_common_headers(Head *h, int status, const char *content_type, const char *cache)
{
	bool page = content_type != NULL && strncmp(content_type, "text/html", 9) == 0;

	/* We write the status line: libwebsockets has no reason phrases for 201, 422 and others. */
	h->at += snprintf((char *) h->at, h->end - h->at, "HTTP/1.1 %d %s\r\n", status, problem_title(status));
	if (content_type != NULL)
		add_header(h, "content-type:", content_type);
	add_header(h, "cache-control:", cache == NULL ? "no-store" : cache);
	add_header(h, "x-content-type-options:", "nosniff");
	add_header(h, "referrer-policy:", "no-referrer");
	add_header(h, "content-security-policy:", page ? PAGE_POLICY : DATA_POLICY);
}

static void
add_answer_headers(Head *h, const Request *request)
{
	char text[64];

	add_common_headers(h, request->status, request->content_type, request->cache);
	if (request->status != 204 && request->status != 304)
		add_number_header(h, "content-length:", request->content_size);
	if (request->etag != NULL)
	{
		snprintf(text, sizeof(text), "\"%.50s\"", request->etag);
		add_header(h, "etag:", text);
	}
	if (request->location != NULL)
		add_header(h, "location:", request->location);
	if (request->allow != NULL)
		add_header(h, "allow:", request->allow);
	if (request->retry_after > 0)
		add_number_header(h, "retry-after:", request->retry_after);
	if (request->status == 401)
		add_header(h, "www-authenticate:", "Bearer realm=\"eda\"");
	if (request->status == 426)
		add_header(h, "sec-websocket-version:", "13");
	if (request->close_after)
		add_header(h, "connection:", "close");
	if (lws_finalize_http_header(h->wsi, &h->at, h->end))
		h->full = true;
}

/* Send the headers and the content of a request's answer; < 0: the connection is broken. */
int
answer_write(struct lws *wsi, const Request *request)
{
	static unsigned char buffer[LWS_PRE + HEADER_ROOM + SMALL];
	unsigned char *start = buffer + LWS_PRE;
	Head h = {wsi, start, start + HEADER_ROOM, false};
	size_t size = request->head ? 0 : request->content_size;
	bool small = size <= SMALL;

	stats_count_request(request);
	log_line(LOG_DEBUG, "%d %s %.1f ms", request->status, request->path, (uv_hrtime() - request->started) / 1e6);
	add_answer_headers(&h, request);
	if (h.full)
		return -1;
	if (small && size > 0)
	{
		memcpy(h.at, request->content, size);
		h.at += size;
	}
	if (lws_write(wsi, start, h.at - start, LWS_WRITE_HTTP_HEADERS) < 0)
		return -1;
	if (!small && lws_write(wsi, (unsigned char *) request->content, size, LWS_WRITE_HTTP_FINAL) < 0)
		return -1;
	return 0;
}

/*
 * End a connection soon, but not now, as our caller may still use it.  A timeout does
 * that.  libwebsockets looks at its timeouts only when something happens on one of its
 * own sockets, and we are often called because of a socket of the database: so wake it.
 */
void
answer_end(struct lws *wsi)
{
	lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_ASYNC);
	lws_cancel_service(lws_get_context(wsi));
}

/*
 * End a connection after LEFTOVER_SECONDS.  If we closed it while bytes from the client
 * are unread, the kernel would send a reset, and the client could lose the answer.
 */
void
answer_linger(struct lws *wsi)
{
	if (config.tls_cert == NULL && !lws_partial_buffered(wsi))
		shutdown(lws_get_socket_fd(wsi), SHUT_WR);
	lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LEFTOVER_SECONDS);
}

/* Send the headers of an SSE stream; < 0: the connection is broken. */
int
answer_start_stream(struct lws *wsi)
{
	unsigned char buffer[LWS_PRE + HEADER_ROOM];
	unsigned char *start = buffer + LWS_PRE;
	Head h = {wsi, start, start + HEADER_ROOM, false};

	add_common_headers(&h, 200, "text/event-stream", NULL);
	add_header(&h, "x-accel-buffering:", "no");
	add_header(&h, "connection:", "close");
	if (h.full || lws_finalize_http_header(wsi, &h.at, h.end))
		return -1;
	return lws_write(wsi, start, h.at - start, LWS_WRITE_HTTP_HEADERS) < 0 ? -1 : 0;
}
