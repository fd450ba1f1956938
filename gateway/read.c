/*
 * read.c
 *		What a request says: its method, headers, query and arguments.
 */
#include "read.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <libwebsockets.h>

#include "config.h"
#include "memory.h"
#include "problem.h"
#include "request.h"
#include "route.h"

/*
 * Read a header that libwebsockets has no token for.  The name is in lower case and ends
 * with a colon.  False: there is none, or it is longer than "out" (MAX_HEADERS is enough).
 */
bool
read_header(struct lws *wsi, const char *name, char *out, size_t size)
{
	int n = lws_hdr_custom_copy(wsi, out, (int) size, name, (int) strlen(name));

	if (n < 0)
		return false;
	while (n > 0 && (out[n - 1] == ' ' || out[n - 1] == '\t'))
		n--;
	out[n] = '\0';
	return true;
}

/* Read a parameter of the query; an empty one counts as none. */
char *
read_query(struct lws *wsi, const char *name)
{
	size_t size = strlen(name);
	char part[MAX_HEADERS + 1];
	int n;

	for (int i = 0; (n = lws_hdr_copy_fragment(wsi, part, sizeof(part), WSI_TOKEN_HTTP_URI_ARGS, i)) >= 0; i++)
		if (strncmp(part, name, size) == 0 && part[size] == '=' && n > (int) size + 1)
			return memory_copy(part + size + 1, n - size - 1);
	return NULL;
}

Method
read_method(struct lws *wsi, char **path, int *size, bool *head)
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

static bool
is_encoded(struct lws *wsi)
{
	char coding[16];

	if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_ENCODING) <= 0)
		return false;
	return lws_hdr_copy(wsi, coding, sizeof(coding), WSI_TOKEN_HTTP_CONTENT_ENCODING) <= 0 ||
	       strcasecmp(coding, "identity") != 0;
}

/* Read the token from If-Match: "7", with its quotes, stands for token 7. */
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
		request->values[i] = memory_copy(text + 1, size - 2);
		return true;
	}
	problem_set(request, 412, "The If-Match header is not a token of this event.",
	            "Send the ETag that came with the event when it was acquired, such as \"3\" with its quotes.");
	return false;
}

/*
 * Read the arguments of the SQL function, except the body.  Those from the path are in
 * request->values already, one after the other; they are moved to their positions.
 */
bool
read_arguments(Request *request)
{
	const Argument *a = request->route->arguments;
	char *paths[MAX_ARGUMENTS];
	int npaths = 0;
	char text[MAX_HEADERS];

	memcpy(paths, request->values, sizeof(paths));
	memset((void *) request->values, 0, sizeof(request->values));
	for (int i = 0; i < MAX_ARGUMENTS; i++)
		if (a[i].source == FROM_PATH)
			request->values[i] = paths[npaths++];
	for (int i = 0; i < MAX_ARGUMENTS; i++)
		switch (a[i].source)
		{
			case FROM_QUERY:
				request->values[i] = read_query(request->wsi, a[i].name);
				break;
			case FROM_IF_MATCH:
				if (!read_if_match(request, i))
					return false;
				break;
			case FROM_HEADER:
				/*
				 * An empty header is passed on, and the database refuses it: a client that
				 * sends an empty key wants idempotency, and must not publish without it.
				 */
				if (read_header(request->wsi, a[i].name, text, sizeof(text)))
					request->values[i] = memory_copy_text(text);
				break;
			default:
				break;
		}
	return true;
}

/*
 * Whether a header was taken for a part of another header's name.  libwebsockets (4.1)
 * does not notice the end of a name which is the beginning of a name that it knows, such
 * as X-Auth, nor of a line without a colon.  The following line is lost, and that may be
 * a Content-Length or an Idempotency-Key.
 *
 * Such a name is kept with the line break in it, after two bytes for its size, two for
 * its value's and four for the place of the next one.  That layout is private to
 * libwebsockets, so we do not trust it: for each candidate we ask with
 * lws_hdr_custom_length() whether such a header exists.
 */
static bool
has_lost_a_header(struct lws *wsi, const char *uri)
{
	/* The URI is near the beginning of the memory for headers, but behind the method. */
	const unsigned char *end = (const unsigned char *) uri + MAX_HEADERS - 64;

	/* This is true of nearly every request, and quick to see. */
	if (memchr(uri, '\n', MAX_HEADERS - 64) == NULL)
		return false;
	for (const unsigned char *at = (const unsigned char *) uri; at + 8 < end; at++)
	{
		const char *name = (const char *) at + 8;
		int size = at[0] << 8 | at[1];

		if (size > 1 && size <= end - at - 8 && name[size - 1] == ':' && memchr(name, '\n', size) != NULL &&
		    lws_hdr_custom_length(wsi, name, size) >= 0)
			return true;
	}
	return false;
}

/*
 * Whether the request can be read in one way only.  libwebsockets (4.1) decodes %0A in a
 * path before it looks for the end of the line, so a path could contain headers; the HTTP
 * version is then missing.  Of two headers with the same name it takes the first.  Later
 * versions let %00 through in a query, and what follows it would be cut off.
 */
bool
read_is_sound(struct lws *wsi)
{
	char version[16];
	char part[MAX_HEADERS + 1];
	char *uri;
	int size;

	for (int i = 0; (size = lws_hdr_copy_fragment(wsi, part, sizeof(part), WSI_TOKEN_HTTP_URI_ARGS, i)) >= 0; i++)
		if (memchr(part, '\0', (size_t) size) != NULL)
			return false;
	return lws_http_get_uri_and_method(wsi, &uri, &size) >= 0 && !has_lost_a_header(wsi, uri) &&
	       lws_hdr_copy(wsi, version, sizeof(version), WSI_TOKEN_HTTP) > 0 &&
	       (strcmp(version, "HTTP/1.1") == 0 || strcmp(version, "HTTP/1.0") == 0) &&
	       lws_hdr_fragment_length(wsi, WSI_TOKEN_HOST, 1) <= 0 &&
	       lws_hdr_fragment_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, 1) <= 0;
}

/* Read the size of the body, and whether the connection can be used after it. */
bool
read_body_size(Request *request, Method method)
{
	char text[32];
	struct lws *wsi = request->wsi;
	int size = lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH);

	if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0)
	{
		request->close_after = true;
		problem_set(request, 411, "A body must come with a Content-Length; a Transfer-Encoding is not supported.",
		            NULL);
		return false;
	}
	if (size > 0 && (lws_hdr_copy(wsi, text, sizeof(text), WSI_TOKEN_HTTP_CONTENT_LENGTH) <= 0 ||
	                 strspn(text, "0123456789") != strlen(text) || size > 18))
	{
		request->close_after = true;
		problem_set(request, 400, "The Content-Length is not a number of bytes.", NULL);
		return false;
	}
	if (size > 0)
		request->body_left = strtoull(text, NULL, 10);
	else if (method != METHOD_GET)
		request->close_after = true; /* libwebsockets takes all that follows for the body */
	if (request->body_left > (uint64_t) config.max_body)
	{
		request->close_after = true;
		problem_set(request, 413, "The body is too large.",
		            "Publish a reference to the data instead, or raise the gateway's option --max-body.");
		return false;
	}
	return true;
}

static bool
takes_body(const Route *route)
{
	for (int i = 0; i < MAX_ARGUMENTS; i++)
		if (route->arguments[i].source == FROM_BODY)
			return true;
	return false;
}

/* Read whether the body is JSON, if the route takes a body. */
bool
read_body_type(Request *request)
{
	if (request->body_left == 0 || !takes_body(request->route))
		return true;
	if (is_encoded(request->wsi))
	{
		problem_set(request, 415, "The body must not be compressed.", "Send it without a Content-Encoding.");
		return false;
	}
	if (!is_json(request->wsi))
	{
		problem_set(request, 415, "The body must be JSON.", "Send the header \"Content-Type: application/json\".");
		return false;
	}
	return true;
}
