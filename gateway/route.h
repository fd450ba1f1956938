/*
 * route.h
 *		The routes: which SQL function a request is for.
 */
#ifndef EDA_GATEWAY_ROUTE_H
#define EDA_GATEWAY_ROUTE_H

#include <stdbool.h>

#include "text.h"

#define MAX_ARGUMENTS 6

typedef enum Method
{
	METHOD_GET,
	METHOD_POST,
	METHOD_PUT,
	METHOD_PATCH,
	METHOD_OTHER
} Method;

typedef enum ArgumentSource
{
	FROM_NOWHERE,
	FROM_PATH, /* the next {} of the pattern */
	FROM_BODY,
	FROM_QUERY,
	FROM_IF_MATCH,
	FROM_HEADER,
	FROM_SINCE /* the place from which a stream continues */
} ArgumentSource;

typedef struct Argument
{
	ArgumentSource source;
	const char *name; /* of the query's parameter, or of the header */
} Argument;

typedef enum RouteKind
{
	ROUTE_CALL, /* one call of a SQL function, and its answer */
	ROUTE_HEALTH,
	ROUTE_METRICS,
	ROUTE_STREAM,
	ROUTE_SOCKET,
	ROUTE_MCP_STREAM
} RouteKind;

typedef struct Route
{
	Method method;
	const char *pattern;
	RouteKind kind;
	bool open; /* no token is needed */
	const char *sql;
	Argument arguments[MAX_ARGUMENTS];
	bool acquires; /* it acquires events, which must be given back if the client is gone */
} Route;

extern const char route_stream_sql[];
extern const Route routes[];
extern const int nroutes;

extern const char *route_method_name(Method method);
extern const Route *route_find(Method method, const char *path, char *values[MAX_ARGUMENTS], Text *allowed);

#endif
