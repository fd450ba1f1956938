/*
 * stats.c
 *		What the gateway counts, for GET /metrics.
 */
#include "stats.h"

#include <stdio.h>

#include <uv.h>

#include "db.h"
#include "loop.h"
#include "request.h"
#include "route.h"
#include "stream.h"
#include "text.h"

#define NBUCKETS 14
#define MAX_ROUTES 64
#define NSTATUS 20

Stats stats;

static const double bounds[NBUCKETS] = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10};
static uint64_t buckets[NBUCKETS + 1];
static double seconds;
static uint64_t requests;

/* Requests by route and status; MAX_ROUTES stands for files, and for paths that do not exist. */
static const int statuses[NSTATUS] = {200, 201, 202, 204, 304, 400, 401, 403, 404, 405,
                                      409, 411, 412, 413, 415, 422, 426, 429, 500, 503};
static uint64_t counts[MAX_ROUTES + 1][NSTATUS];

/* Count a request that is being answered. */
void
stats_count_request(const Request *request)
{
	double took = (uv_hrtime() - request->started) / 1e9;
	int route = request->route == NULL ? MAX_ROUTES : (int) (request->route - routes);
	int i = 0;

	while (i < NSTATUS - 1 && statuses[i] != request->status)
		i++;
	counts[route][i]++;
	if (request->flow_type != NULL) /* a long poll: most of its time is waiting */
		return;
	for (i = 0; i < NBUCKETS && took > bounds[i]; i++)
		;
	buckets[i]++;
	seconds += took;
	requests++;
}

static void
write_head(Text *t, const char *name, const char *type, const char *help)
{
	text_printf(t, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void
write_metric(Text *t, const char *name, const char *type, const char *help, uint64_t value)
{
	write_head(t, name, type, help);
	text_printf(t, "%s %llu\n", name, (unsigned long long) value);
}

static void
write_requests(Text *t)
{
	write_head(t, "eda_gateway_requests_total", "counter", "Requests by route and status.");
	for (int r = 0; r <= MAX_ROUTES; r++)
		for (int i = 0; i < NSTATUS; i++)
			if (counts[r][i] > 0)
				text_printf(t, "eda_gateway_requests_total{method=\"%s\",route=\"%s\",status=\"%d\"} %llu\n",
				            r < nroutes ? route_method_name(routes[r].method) : "GET",
				            r < nroutes ? routes[r].pattern : "other", statuses[i], (unsigned long long) counts[r][i]);
}

static void
write_durations(Text *t)
{
	uint64_t sum = 0;

	write_head(t, "eda_gateway_request_seconds", "histogram", "How long requests took, without long polls.");
	for (int i = 0; i < NBUCKETS; i++)
	{
		sum += buckets[i];
		text_printf(t, "eda_gateway_request_seconds_bucket{le=\"%g\"} %llu\n", bounds[i], (unsigned long long) sum);
	}
	text_printf(t, "eda_gateway_request_seconds_bucket{le=\"+Inf\"} %llu\n", (unsigned long long) requests);
	text_printf(t, "eda_gateway_request_seconds_sum %.6f\n", seconds);
	text_printf(t, "eda_gateway_request_seconds_count %llu\n", (unsigned long long) requests);
}

/* Write all of it in the text format of Prometheus. */
void
stats_write(Text *t)
{
	write_requests(t);
	write_durations(t);
	write_metric(t, "eda_gateway_database_up", "gauge", "Whether the gateway has a connection to the database.",
	             db_is_up());
	write_metric(t, "eda_gateway_requests_in_flight", "gauge", "Requests that are not answered yet.", in_flight);
	write_metric(t, "eda_gateway_requests_waiting", "gauge", "Of these, long polls that wait for an event.",
	             stats.waiting);
	write_metric(t, "eda_gateway_connections", "gauge", "Connections of clients.", stats.open_connections);
	write_metric(t, "eda_gateway_connections_total", "counter", "Connections of clients so far.", stats.connections);
	write_metric(t, "eda_gateway_connections_rejected_total", "counter",
	             "Connections that were rejected because of the limit.", stats.rejected);
	write_head(t, "eda_gateway_subscribers", "gauge", "Clients that watch.");
	text_printf(t, "eda_gateway_subscribers{kind=\"sse\"} %d\n", stats.subscribers[SUBSCRIBER_SSE]);
	text_printf(t, "eda_gateway_subscribers{kind=\"websocket\"} %d\n", stats.subscribers[SUBSCRIBER_WS]);
	text_printf(t, "eda_gateway_subscribers{kind=\"mcp\"} %d\n", stats.subscribers[SUBSCRIBER_MCP]);
	write_metric(t, "eda_gateway_changes_total", "counter", "Changes that came from the feed or the log.",
	             stats.changes);
	write_metric(t, "eda_gateway_feed_gaps_total", "counter",
	             "Times that the feed had left changes out, and the log was read.", stats.gaps);
	write_metric(t, "eda_gateway_feed_connections_total", "counter",
	             "Times that the gateway began to listen to the feed.", stats.feed_connects);
	write_metric(t, "eda_gateway_skipped_total", "counter", "Times that a client was told that it has skipped changes.",
	             stats.skipped);
	write_metric(t, "eda_gateway_given_back_total", "counter",
	             "Times that acquired events were given back because the client was gone.", stats.given_back);
}
