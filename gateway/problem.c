/*
 * problem.c
 *		Errors as RFC 9457 problem details.
 *
 * The messages of eda's own errors, and of errors in the caller's values, are meant for
 * the caller: message, detail and hint are passed on.  Other errors of the database, such
 * as a missing function, are not the caller's business.  They are logged, and the client
 * is told only that something is wrong.
 */
#include "problem.h"

#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "db.h"
#include "log.h"
#include "request.h"
#include "route.h"
#include "text.h"

typedef struct Mapping
{
	const char *sqlstate; /* or the beginning of several */
	int status;
	int retry_after;
	bool passed_on; /* the client is sent the database's message */
} Mapping;

/* The first one that fits counts. */
static const Mapping mappings[] = {
	{"ED001", 409, 0, true},   /* illegal move */
	{"ED002", 412, 0, true},   /* stale token */
	{"ED003", 409, 0, true},   /* already finished */
	{"ED004", 404, 0, true},   /* no such event */
	{"ED005", 404, 0, true},   /* no such event type; 422 when the body names it */
	{"ED006", 422, 0, true},   /* the token was left out */
	{"ED007", 422, 0, true},   /* key reused; see draft-ietf-httpapi-idempotency-key-header */
	{"ED008", 409, 1, true},   /* busy */
	{"ED009", 413, 0, true},   /* too large */
	{"ED010", 409, 0, true},   /* append-only */
	{"ED011", 503, 30, false}, /* a table of the log was altered */
	{"42501", 403, 0, false},  /* not allowed */
	{"22P02", 400, 0, true},   /* not the syntax of its type */
	{"22P05", 400, 0, true},   /* \u0000 */
	{"22021", 400, 0, true},   /* not UTF-8 */
	{"22", 422, 0, true},      /* the right syntax, but not a value that can be */
	{"23", 422, 0, true},      /* a constraint forbids it */
	{"54001", 422, 0, true},   /* nested too deep */
	{"54", 413, 0, true},      /* a limit of the program */
	{"40", 503, 1, false},     /* deadlocks and the like */
	{"53", 503, 5, false},     /* out of memory, disk or connections */
	{"57014", 503, 5, false},  /* statement_timeout */
	{"57", 503, 2, false},     /* the server is shutting down or starting */
	{"08", 503, 2, false},     /* the connection is lost */
	{"25006", 503, 10, false}, /* read-only: the server is a standby */
	{"", 500, 0, false},       /* anything else */
};

const char *
problem_title(int status)
{
	static const struct
	{
		int status;
		const char *title;
	} titles[] = {
		{200, "OK"},
		{201, "Created"},
		{202, "Accepted"},
		{204, "No Content"},
		{304, "Not Modified"},
		{400, "Bad Request"},
		{401, "Unauthorized"},
		{403, "Forbidden"},
		{404, "Not Found"},
		{405, "Method Not Allowed"},
		{409, "Conflict"},
		{411, "Length Required"},
		{412, "Precondition Failed"},
		{413, "Content Too Large"},
		{415, "Unsupported Media Type"},
		{422, "Unprocessable Content"},
		{426, "Upgrade Required"},
		{429, "Too Many Requests"},
		{503, "Service Unavailable"},
	};

	for (size_t i = 0; i < sizeof(titles) / sizeof(titles[0]); i++)
		if (titles[i].status == status)
			return titles[i].title;
	return "Internal Server Error";
}

static void
problem_write(Request *request, int status, const char *detail, const char *hint, const char *code)
{
	Text *t = &request->own;

	text_free(t);
	/* RFC 9457: with about:blank the title is that of the status.  "code" is the SQLSTATE. */
	text_printf(t, "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"detail\":", problem_title(status),
	            status);
	text_json(t, detail);
	text_puts(t, ",\"instance\":");
	text_json(t, request->path);
	if (code != NULL)
	{
		text_puts(t, ",\"code\":");
		text_json(t, code);
	}
	if (hint != NULL)
	{
		text_puts(t, ",\"hint\":");
		text_json(t, hint);
	}
	text_puts(t, "}");
	request->status = status;
	request->content_type = "application/problem+json";
	request->content = t->data;
	request->content_size = t->size;
}

/* Answer a request with a problem that the gateway has found. */
void
problem_set(Request *request, int status, const char *detail, const char *hint)
{
	problem_write(request, status, detail, hint, NULL);
}

/* Answer a request with an error of the database. */
void
problem_set_error(Request *request, const PGresult *result)
{
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *message = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	const char *detail = PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL);
	const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
	const Mapping *m = mappings;
	int status;
	Text text = {0};

	if (code == NULL)
		code = "08006"; /* the error is libpq's own: the connection broke */
	while (strncmp(m->sqlstate, code, strlen(m->sqlstate)) != 0)
		m++;
	status = m->status;
	/* This is /ready: with any error, also that there is no extension, we are not ready. */
	if (request->route->open)
		status = 503;
	/* Replace the hints, or leave them out, that make sense only to a client that sends SQL. */
	if (strcmp(code, "ED005") == 0)
		hint = "Upper and lower case differ in names. PUT /api/event-types/{type} configures a new one.";
	else if (hint != NULL && (strstr(hint, "SELECT ") != NULL || strstr(hint, "postgresql.conf") != NULL))
		hint = NULL;
	if (strcmp(code, "ED005") == 0 && strstr(request->route->pattern, "type}") == NULL)
		status = 422;
	if (status == 403)
		problem_write(request, status, "The caller's database role may not do this.",
		              "A superuser can make it a publisher, worker, operator or monitor with eda.grant_access().",
		              code);
	else if (m->passed_on && status != 503)
	{
		text_puts(&text, message == NULL ? "unknown error" : message);
		if (detail != NULL)
			text_printf(&text, "\n%s", detail);
		problem_write(request, status, text.data, hint, code);
	}
	else
	{
		log_line(LOG_WARN, "%s %s: %s %s%s%s", route_method_name(request->route->method), request->path, code,
		         message == NULL ? "" : message, detail == NULL ? "" : ": ", detail == NULL ? "" : detail);
		problem_write(request, status,
		              status == 503 ? "The database cannot do this at the moment."
		                            : "Something is wrong on the side of the server; the gateway's log says what.",
		              status == 503 ? "Try again." : NULL, NULL);
	}
	text_free(&text);
	request->retry_after = status == 503 && m->retry_after == 0 ? 10 : m->retry_after;
}

/* Answer a request for which the database has given no result. */
void
problem_set_trouble(Request *request, DbTrouble trouble)
{
	request->retry_after = trouble == DB_BUSY ? 1 : 2;
	problem_set(
		request, 503,
		trouble == DB_BUSY   ? "Every connection to the database is busy."
		: trouble == DB_LOST ? "The connection to the database broke; the request may or may not have taken effect."
							 : "The database cannot be reached.",
		trouble == DB_LOST ? "Send the same request again: tokens, event ids and idempotency keys make that safe."
						   : "Try again.");
}
