/*
 * guard.c
 *		Who is asking, and may he be here.
 *
 * With a file of tokens, a caller is whoever has one, and works as the database
 * role that stands beside it; the database decides what that role may do.  Without
 * the file callers have the gateway's own role, and so must come from this machine,
 * and with a Host header that names it: a page on the web that has its name point
 * to 127.0.0.1 (DNS rebinding) sends its own.
 *
 * An Origin header says that a browser sends this for a page.  Pages of other
 * origins are refused, whatever they want.
 */
#include "gateway.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include <openssl/crypto.h>

static Caller *callers;
static Caller anyone; /* the caller when there are no tokens */

Caller *
caller_use(Caller *caller)
{
	caller->users++;
	return caller;
}

void
caller_leave(Caller *caller)
{
	caller->users--;
}

/* ------------------------------------------------------------------------
 * The file of tokens
 * ------------------------------------------------------------------------ */

static Caller *
find_token(const char *token)
{
	Caller *found = NULL;
	size_t size = strlen(token);

	/* All of them, and each to its end: how long it takes must not tell how much was right. */
	for (Caller *c = callers; c != NULL; c = c->next)
		if (!c->retired && strlen(c->token) == size && CRYPTO_memcmp(c->token, token, size) == 0)
			found = c;
	return found;
}

/* Forget callers that nothing points to any more. */
static void
sweep(void)
{
	Caller **p = &callers;

	while (*p != NULL)
	{
		Caller *c = *p;

		if (c->retired && c->users == 0)
		{
			*p = c->next;
			OPENSSL_cleanse(c->token, strlen(c->token));
			free(c->token);
			free(c->role);
			free(c);
		}
		else
			p = &c->next;
	}
}

static bool
read_line(char *line, int number, Caller **list)
{
	char *token = strtok(line, " \t\r\n");
	char *role = token == NULL ? NULL : strtok(NULL, " \t\r\n");
	Caller *c;

	if (token == NULL || token[0] == '#')
		return true;
	if (role == NULL || strtok(NULL, " \t\r\n") != NULL)
	{
		log_line(LOG_ERROR, "%s: line %d is not \"TOKEN ROLE\"", config.tokens_file, number);
		return false;
	}
	if (strlen(token) < 16)
	{
		log_line(LOG_ERROR, "%s: the token of line %d has less than 16 characters", config.tokens_file, number);
		return false;
	}
	c = get_memory(sizeof(Caller));
	c->token = copy_text(token);
	c->role = copy_text(role);
	c->next = *list;
	*list = c;
	return true;
}

static bool
read_tokens(FILE *file, Caller **list)
{
	char line[1024];
	struct stat st;

	if (fstat(fileno(file), &st) != 0 || (st.st_mode & (S_IRWXO | S_IWGRP)) != 0)
	{
		log_line(LOG_ERROR, "%s: others may read it; run: chmod 640 %s", config.tokens_file, config.tokens_file);
		return false;
	}
	for (int number = 1; fgets(line, sizeof(line), file) != NULL; number++)
		if (!read_line(line, number, list))
			return false;
	return true;
}

/*
 * Read the tokens, at the start and on SIGHUP.  Who has still the same token and role
 * goes on; a file with a mistake changes nothing.
 */
bool
guard_load_tokens(void)
{
	Caller *list = NULL;
	FILE *file;
	bool ok;

	if (config.tokens_file == NULL)
		return true;
	file = fopen(config.tokens_file, "r");
	if (file == NULL)
	{
		log_line(LOG_ERROR, "%s: %s", config.tokens_file, strerror(errno));
		return false;
	}
	ok = read_tokens(file, &list);
	fclose(file);
	if (ok)
		for (Caller *c = callers; c != NULL; c = c->next)
			c->retired = true;
	while (list != NULL)
	{
		Caller *c = list;
		Caller *old;

		list = c->next;
		for (old = callers; old != NULL; old = old->next)
			if (strcmp(old->token, c->token) == 0 && strcmp(old->role, c->role) == 0)
				break;
		if (ok && old == NULL)
		{
			c->next = callers;
			callers = c;
			continue;
		}
		if (ok)
			old->retired = false;
		free(c->token);
		free(c->role);
		free(c);
	}
	sweep();
	return ok;
}

/* ------------------------------------------------------------------------
 * Admission
 * ------------------------------------------------------------------------ */

static bool
is_loopback_address(const char *address)
{
	if (strncmp(address, "::ffff:", 7) == 0)
		address += 7;
	return strncmp(address, "127.", 4) == 0 || strcmp(address, "::1") == 0;
}

/* The host of HOST or HOST:PORT; empty if it is anything else. */
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
	/* A whole address, not a name that begins like one. */
	return inet_pton(AF_INET, host, &in) == 1 && strncmp(host, "127.", 4) == 0;
}

static bool
is_origin(const char *origin)
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

/* The token of the Authorization header, or of a WebSocket's subprotocol "bearer.TOKEN". */
static bool
find_bearer(struct lws *wsi, char *out, size_t size)
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

/* Find the request's caller; false: the request has the problem to answer. */
bool
guard_admit(struct lws *wsi, Request *request, bool open)
{
	char text[1024];
	char address[64] = "";

	if (lws_hdr_total_length(wsi, WSI_TOKEN_ORIGIN) > 0 &&
	    (lws_hdr_copy(wsi, text, sizeof(text), WSI_TOKEN_ORIGIN) <= 0 || !is_origin(text)))
	{
		problem(request, 403, "Pages of this origin may not call.", "Allow it with the option --origin.");
		return false;
	}
	if (config.tokens_file == NULL)
	{
		if (lws_hdr_copy(wsi, text, sizeof(text), WSI_TOKEN_HOST) <= 0 || !is_known_host(text))
		{
			problem(request, 403, "The Host header does not name this machine.",
			        "Call it by 127.0.0.1 or localhost, or name its origin with the option --origin.");
			return false;
		}
		lws_get_peer_simple(wsi, address, sizeof(address));
		if (!open && !is_loopback_address(address))
		{
			problem(request, 403, "Without tokens only callers on the same machine are let in.",
			        "Start the gateway with the option --tokens.");
			return false;
		}
		request->caller = caller_use(&anyone);
		return true;
	}
	if (open)
	{
		request->caller = caller_use(&anyone);
		return true;
	}
	request->caller = find_bearer(wsi, text, sizeof(text)) ? find_token(text) : NULL;
	if (request->caller == NULL)
	{
		problem(request, 401, "A token is missing, or is not known here.",
		        "Send the header \"Authorization: Bearer TOKEN\".");
		return false;
	}
	caller_use(request->caller);
	return true;
}
