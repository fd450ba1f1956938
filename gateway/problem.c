/*
 * problem.c
 *		Errors as RFC 9457 problem details.
 *
 * What eda says of an error is meant for its user: message, detail and hint are
 * passed on.  What else the database may say, such as that a function is missing,
 * is not: it is logged here, and the client learns that something is wrong.
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
	const char *sqlstate; /* or its beginning */
	int status;
	int retry_after;
	bool told; /* the client may read the message */
} Mapping;

/* The first that fits. */
static const Mapping mappings[] = {
	{"ED001", 409, 0, true},   /* illegal move */
	{"ED002", 412, 0, true},   /* stale token */
	{"ED003", 409, 0, true},   /* already finished */
	{"ED004", 404, 0, true},   /* no such event */
	{"ED005", 404, 0, true},   /* no such event type: 422 when the body names it */
	{"ED006", 422, 0, true},   /* the token was left out */
	{"ED007", 422, 0, true},   /* key reused: draft-ietf-httpapi-idempotency-key-header asks for 422 */
	{"ED008", 409, 1, true},   /* busy */
	{"ED009", 413, 0, true},   /* too large */
	{"ED010", 409, 0, true},   /* append-only */
	{"ED011", 503, 30, false}, /* a table of the log was altered */
	{"42501", 403, 0, false},  /* not allowed */
	{"22P02", 400, 0, true},   /* not what its type looks like */
	{"22P05", 400, 0, true},   /* \u0000 */
	{"22021", 400, 0, true},   /* not UTF-8 */
	{"22", 422, 0, true},      /* it looks right, and cannot be */
	{"23", 422, 0, true},      /* the same */
	{"54001", 422, 0, true},   /* nested too deep */
	{"54", 413, 0, true},      /* too much of something */
	{"40", 503, 1, false},     /* deadlocks and the like */
	{"53", 503, 5, false},     /* out of something */
	{"57014", 503, 5, false},  /* took too long */
	{"57", 503, 2, false},     /* shutting down */
	{"08", 503, 2, false},     /* the connection */
	{"25006", 503, 10, false}, /* a standby */
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
	/* about:blank: the title is the status' own; "code" says which error of eda it is. */
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

/* A problem that the gateway itself has with a request. */
void
problem_set(Request *request, int status, const char *detail, const char *hint)
{
	problem_write(request, status, detail, hint, NULL);
}

/* One that the database has. */
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
		code = "08006"; /* libpq's own: the connection broke */
	while (strncmp(m->sqlstate, code, strlen(m->sqlstate)) != 0)
		m++;
	status = m->status;
	if (request->route->open) /* /ready: whatever it is, a database without the extension for instance, it is not */
		status = 503;
	/* What eda hints at is for who speaks SQL. */
	if (strcmp(code, "ED005") == 0)
		hint = "Names are matched with their case. PUT /api/event-types/{type} configures a new one.";
	else if (hint != NULL && (strstr(hint, "SELECT ") != NULL || strstr(hint, "postgresql.conf") != NULL))
		hint = NULL;
	if (strcmp(code, "ED005") == 0 && strstr(request->route->pattern, "type}") == NULL)
		status = 422;
	if (status == 403)
		problem_write(request, status, "The caller's database role may not do this.",
		              "A superuser can let it in as publisher, worker, operator or monitor, with eda.grant_access().",
		              code);
	else if (m->told && status != 503)
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
		              status == 503 ? "The database cannot do this just now."
		                            : "Something is wrong on our side; the log says what.",
		              status == 503 ? "Try again." : NULL, NULL);
	}
	text_free(&text);
	request->retry_after = status == 503 && m->retry_after == 0 ? 10 : m->retry_after;
}

/* There is no answer of the database. */
void
problem_set_trouble(Request *request, DbTrouble trouble)
{
	request->retry_after = trouble == DB_BUSY ? 1 : 2;
	problem_set(request, 503,
	            trouble == DB_BUSY ? "Every connection to the database is busy."
	            : trouble == DB_LOST
	                ? "The connection to the database broke; what was asked may or may not have been done."
	                : "The database cannot be reached.",
	            trouble == DB_LOST ? "Send the same again: tokens, event ids and idempotency keys make that safe."
	                               : "Try again.");
}
