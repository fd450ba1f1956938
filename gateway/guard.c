/*
 * guard.c
 *		Whether a request is let in: it can be read, it has a route, its caller is known.
 *
 * With a file of tokens, a caller is whoever sends one of the tokens.  It works as the
 * database role beside the token, and the database decides what that role may do.
 *
 * Without the file, callers work as the gateway's own role.  So they must be on this
 * machine, and their Host header must name this machine.  The latter is for DNS
 * rebinding: a page on the web can have its own name point to 127.0.0.1, but its browser
 * sends that name as Host.
 *
 * A request with an Origin header is sent by a browser for a page.  Pages of origins that
 * are not allowed are refused, whatever they ask for.
 */
#include "guard.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include <libwebsockets.h>

#include "caller.h"
#include "config.h"
#include "files.h"
#include "loop.h"
#include "memory.h"
#include "problem.h"
#include "read.h"
#include "request.h"
#include "route.h"
#include "text.h"

static bool
is_loopback_address(const char *address)
{
	if (strncmp(address, "::ffff:", 7) == 0)
		address += 7;
	return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0;
}

/* Get the host of HOST or HOST:PORT; an empty one if it is anything else. */
static void
host_of(const char *authority, char *out, size_t size)
{
	size_t n = strlen(authority);
	const char *colon = strrchr(authority, ':');

	if (colon != NULL && strchr(colon, ']') == NULL)
		n = strlen(colon + 1) <= 5 && strspn(colon + 1, "0123456789") == strlen(colon + 1)
		        ? (size_t) (colon - authority)
		        : 0;
	if (n >= size)
		n = 0;
	memcpy(out, authority, n);
	out[n] = '\0';
}

static bool
is_loopback_host(const char *authority)
{
	char host[256];
	struct in_addr in;

	host_of(authority, host, sizeof(host));
	if (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0)
		return true;
	/* It must be an address as a whole, and not a name such as 127.0.0.1.example.com. */
	return inet_pton(AF_INET, host, &in) == 1 && strncmp(host, "127.", 4) == 0;
}

static bool
is_known_origin(const char *origin)
{
	char ours[16];
	const char *scheme = config.tls_cert != NULL ? "https://" : "http://";
	const char *colon = strrchr(origin, ':');

	for (int i = 0; config.origins[i] != NULL; i++)
		if (strcasecmp(config.origins[i], origin) == 0)
			return true;
	snprintf(ours, sizeof(ours), ":%d", config.port);
	return strncmp(origin, scheme, strlen(scheme)) == 0 && colon != NULL && strcmp(colon, ours) == 0 &&
	       is_loopback_host(origin + strlen(scheme));
}

static bool
is_known_host(const char *host)
{
	if (is_loopback_host(host))
		return true;
	for (int i = 0; config.origins[i] != NULL; i++)
		if (strcasecmp(strstr(config.origins[i], "://") + 3, host) == 0)
			return true;
	return false;
}

/* Read the token from the Authorization header, or from a WebSocket's subprotocol bearer.TOKEN. */
static bool
read_bearer(struct lws *wsi, char *out, size_t size)
{
	char header[1024];
	char *item;
	char *rest = header;

	if (lws_hdr_copy(wsi, header, sizeof(header), WSI_TOKEN_HTTP_AUTHORIZATION) > 0)
	{
		if (strncasecmp(header, "Bearer ", 7) != 0)
			return false;
		snprintf(out, size, "%s", header + 7 + strspn(header + 7, " "));
		return true;
	}
	if (lws_hdr_copy(wsi, header, sizeof(header), WSI_TOKEN_PROTOCOL) <= 0)
		return false;
	while ((item = strtok_r(rest, ", ", &rest)) != NULL)
		if (strncmp(item, "bearer.", 7) == 0)
		{
			snprintf(out, size, "%s", item + 7);
			return true;
		}
	return false;
}

/* Find the request's caller.  "open" stands for a route that needs no token. */
static bool
find_caller(struct lws *wsi, Request *request, bool open)
{
	char text[1024];
	char address[64] = "";

	if (lws_hdr_total_length(wsi, WSI_TOKEN_ORIGIN) > 0 &&
	    (lws_hdr_copy(wsi, text, sizeof(text), WSI_TOKEN_ORIGIN) <= 0 || !is_known_origin(text)))
	{
		problem_set(request, 403, "Pages of this origin may not call this server.",
		            "Allow the origin with the gateway's option --origin.");
		return false;
	}
	if (config.tokens_file == NULL)
	{
		if (lws_hdr_copy(wsi, text, sizeof(text), WSI_TOKEN_HOST) <= 0 || !is_known_host(text))
		{
			problem_set(request, 403, "The Host header does not name this machine.",
			            "Call it as 127.0.0.1 or localhost, or name its origin with the gateway's option --origin.");
			return false;
		}
		lws_get_peer_simple(wsi, address, sizeof(address));
		if (!open && !is_loopback_address(address))
		{
			problem_set(request, 403, "Without tokens only callers on the same machine are let in.",
			            "Start the gateway with the option --tokens.");
			return false;
		}
		request->caller = caller_use(&caller_anyone);
		return true;
	}
	if (open)
	{
		request->caller = caller_use(&caller_anyone);
		return true;
	}
	request->caller = read_bearer(wsi, text, sizeof(text)) ? caller_find(text) : NULL;
	if (request->caller == NULL)
	{
		problem_set(request, 401, "A token is missing, or is not valid.",
		            "Send the header \"Authorization: Bearer TOKEN\".");
		return false;
	}
	caller_use(request->caller);
	return true;
}

/*
 * Let a request in: find its route and its caller, and read its arguments.  False: the
 * request has its answer, which is a problem, or a file of the page.
 */
bool
guard_admit(Request *request, Method method)
{
	Text allowed = {0};
	bool open;

	if (!read_is_sound(request->wsi))
	{
		request->close_after = true;
		problem_set(
			request, 400, "This request could be understood in more than one way.",
			"Look for a line break in the path, a header that occurs twice, a line without a colon, and a header "
			"whose name is the beginning of a common one, such as X-Auth. This server cannot read these.");
		return false;
	}
	if (!read_body_size(request, method))
		return false;
	if (stopping)
	{
		request->close_after = true;
		request->retry_after = 2;
		problem_set(request, 503, "The gateway is shutting down.", "Try again.");
		return false;
	}
	request->route = route_find(method, request->path, request->values, &allowed);
	open = request->route != NULL ? request->route->open : allowed.size == 0;
	if (!find_caller(request->wsi, request, open))
	{
		text_free(&allowed);
		return false;
	}
	request->caller->in_flight++;
	if (request->route == NULL && allowed.size > 0)
	{
		request->location = NULL;
		request->allow = request->values[0] = allowed.data == NULL ? NULL : memory_copy_text(allowed.data);
		text_free(&allowed);
		problem_set(request, 405, "This path does not take this method.", NULL);
		return false;
	}
	if (request->route == NULL)
	{
		if (method != METHOD_GET || !files_answer(request))
			problem_set(request, 404, "There is nothing at this path.", "GET /openapi.json lists what there is.");
		return false;
	}
	if (request->caller->in_flight > config.max_in_flight && !open)
	{
		request->retry_after = 1;
		problem_set(request, 429, "This caller has too many requests under way.",
		            "Wait for some of them to be answered.");
		return false;
	}
	return read_body_type(request) && read_arguments(request);
}
