/*
 * route.c
 *		The routes: a method, a pattern, and the SQL function that answers.
 *
 * A {name} in a pattern stands for a part of the path between slashes.  {flow_id} stands
 * for all that is left of the path, as a flow id may contain slashes.  libwebsockets
 * decodes a path, and takes "//" and "/../" out of it, before we see it.  So a flow id
 * that contains those can be given as ?flow_id= instead.
 */
#include "route.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "text.h"

#define PATH            \
	{                   \
		FROM_PATH, NULL \
	}
#define BODY            \
	{                   \
		FROM_BODY, NULL \
	}
#define TOKEN               \
	{                       \
		FROM_IF_MATCH, NULL \
	}
#define QUERY(name)      \
	{                    \
		FROM_QUERY, name \
	}
#define HEADER(name)      \
	{                     \
		FROM_HEADER, name \
	}
#define CALL "SELECT status, etag, location, body, wait_for, wait_ms FROM eda_http."

const char route_stream_sql[] = CALL "changes($1, 10000)";

const Route routes[] = {
	{METHOD_GET, "/api/events/{id}", .sql = CALL "event($1)", .arguments = {PATH}},
	{METHOD_POST, "/api/events", .sql = CALL "publish($1, $2)", .arguments = {BODY, HEADER("idempotency-key:")}},
	{METHOD_POST, "/api/acquire", .sql = CALL "acquire_next($1)", .arguments = {BODY}, .acquires = true},
	{METHOD_POST, "/api/events/{id}/acquire", .sql = CALL "acquire($1, $2)", .arguments = {PATH, BODY},
     .acquires = true},
	{METHOD_POST, "/api/events/{id}/success", .sql = CALL "succeed($1, $2, $3)", .arguments = {PATH, BODY, TOKEN}},
	{METHOD_POST, "/api/events/{id}/failure", .sql = CALL "fail($1, $2, $3)", .arguments = {PATH, BODY, TOKEN}},
	{METHOD_POST, "/api/events/{id}/heartbeat", .sql = CALL "heartbeat($1, $2, $3)", .arguments = {PATH, BODY, TOKEN}},
	{METHOD_POST, "/api/events/{id}/release", .sql = CALL "release($1, $2, $3)", .arguments = {PATH, BODY, TOKEN}},
	{METHOD_POST, "/api/events/{id}/cancel", .sql = CALL "cancel($1, $2)", .arguments = {PATH, BODY}},
	{METHOD_POST, "/api/events/{id}/suspend", .sql = CALL "suspend($1, $2, $3)", .arguments = {PATH, BODY, TOKEN}},
	{METHOD_POST, "/api/events/{id}/resume", .sql = CALL "resume($1, $2)", .arguments = {PATH, BODY}},
	{METHOD_POST, "/api/events/{id}/redrive", .sql = CALL "redrive($1, $2)", .arguments = {PATH, BODY}},
	{METHOD_GET, "/api/events", .sql = CALL "events($1, $2, $3, $4, $5, $6)",
     .arguments = {QUERY("state"), QUERY("flow_type"), QUERY("flow_id"), QUERY("event_type"), QUERY("before"),
                   QUERY("limit")}},
	{METHOD_GET, "/api/flows/{flow_type}/{flow_id}", .sql = CALL "flow($1, $2)", .arguments = {PATH, PATH}},
	{METHOD_GET, "/api/flows/{flow_type}", .sql = CALL "flow($1, $2)", .arguments = {PATH, QUERY("flow_id")}},
	{METHOD_GET, "/api/counts", .sql = CALL "counts()"},
	{METHOD_GET, "/api/event-types", .sql = CALL "event_types()"},
	{METHOD_GET, "/api/event-types/{type}", .sql = CALL "event_type($1)", .arguments = {PATH}},
	{METHOD_PUT, "/api/event-types/{type}", .sql = CALL "configure($1, $2, true)", .arguments = {PATH, BODY}},
	{METHOD_PATCH, "/api/event-types/{type}", .sql = CALL "configure($1, $2, false)", .arguments = {PATH, BODY}},
	{METHOD_POST, "/api/event-types/{type}/suspend", .sql = CALL "suspend_event_type($1, true)", .arguments = {PATH}},
	{METHOD_POST, "/api/event-types/{type}/unsuspend", .sql = CALL "suspend_event_type($1, false)",
     .arguments = {PATH}},
	{METHOD_GET, "/api/dead-letters", .sql = CALL "dead_letters($1, $2, $3, $4)",
     .arguments = {QUERY("flow_type"), QUERY("event_type"), QUERY("before"), QUERY("limit")}},
	{METHOD_POST, "/api/dead-letters/redrive", .sql = CALL "redrive_dead_letters($1)", .arguments = {BODY}},
	{METHOD_GET, "/api/lifecycle", .sql = CALL "lifecycle()"},
	{METHOD_GET, "/api/errors", .sql = CALL "errors($1)", .arguments = {QUERY("limit")}},
	{METHOD_GET, "/api/stream", .kind = ROUTE_STREAM, .sql = route_stream_sql, .arguments = {{FROM_SINCE, NULL}}},
	{METHOD_GET, "/ws", .kind = ROUTE_SOCKET},
	{METHOD_GET, "/health", .kind = ROUTE_HEALTH, .open = true},
	{METHOD_GET, "/ready", .open = true, .sql = CALL "ready()"},
	{METHOD_GET, "/metrics", .kind = ROUTE_METRICS, .sql = "SELECT 200, NULL, NULL, eda_http.metrics(), NULL, NULL"},
	{METHOD_POST, "/mcp", .sql = CALL "mcp($1, nullif($2, ''), nullif($3, ''), nullif($4, ''))",
     .arguments = {BODY, HEADER("mcp-protocol-version:"), HEADER("mcp-method:"), HEADER("mcp-name:")}},
	{METHOD_GET, "/mcp", .kind = ROUTE_MCP_STREAM},
};

const int nroutes = sizeof(routes) / sizeof(routes[0]);

const char *
route_method_name(Method method)
{
	static const char *const names[] = {"GET", "POST", "PUT", "PATCH", "OTHER"};

	return names[method];
}

static void
free_values(char *values[MAX_ARGUMENTS])
{
	for (int i = 0; i < MAX_ARGUMENTS; i++)
	{
		free(values[i]);
		values[i] = NULL;
	}
}

/*
 * Compare a path with a pattern.  What stands for each {name} is copied to "values", even
 * if the rest does not match; the caller frees it.
 */
static bool
match_path(const char *pattern, const char *path, char *values[MAX_ARGUMENTS])
{
	int n = 0;

	for (;;)
	{
		if (*pattern == '{')
		{
			size_t size = strcmp(pattern, "{flow_id}") == 0 ? strlen(path) : strcspn(path, "/");

			if (size == 0)
				return false;
			values[n++] = memory_copy(path, size);
			pattern = strchr(pattern, '}') + 1;
			path += size;
		}
		if (*pattern != *path)
			return false;
		if (*pattern == '\0')
			return true;
		pattern++;
		path++;
	}
}

/*
 * Find the route of a method and a path, and the parts of the path that its pattern names.
 * NULL: there is none.  If only the method is wrong, "allowed" lists those that there are.
 */
const Route *
route_find(Method method, const char *path, char *values[MAX_ARGUMENTS], Text *allowed)
{
	for (int i = 0; i < nroutes; i++)
	{
		if (match_path(routes[i].pattern, path, values))
		{
			if (routes[i].method == method)
			{
				text_free(allowed);
				return &routes[i];
			}
			text_printf(allowed, "%s%s", allowed->size > 0 ? ", " : "", route_method_name(routes[i].method));
			if (routes[i].method == METHOD_GET)
				text_puts(allowed, ", HEAD");
		}
		free_values(values);
	}
	return NULL;
}
