/*
 * stats.h
 *		What the gateway counts, for GET /metrics.
 */
#ifndef EDA_GATEWAY_STATS_H
#define EDA_GATEWAY_STATS_H

#include <stdint.h>

#include "request.h"
#include "stream.h"
#include "text.h"

typedef struct Stats
{
	uint64_t connections; /* of clients */
	uint64_t rejected;    /* of these, over the limit */
	uint64_t changes;     /* that came from the feed or the log */
	uint64_t gaps;        /* times that the feed had left something out */
	uint64_t skipped;     /* times that a client was told that it has skipped changes */
	uint64_t feed_connects;
	uint64_t given_back; /* times that acquired events were given back */
	int open_connections;
	int waiting;                       /* long polls */
	int subscribers[SUBSCRIBER_KINDS]; /* that are connected */
} Stats;

extern Stats stats;

extern void stats_count_request(const Request *request);
extern void stats_write(Text *out);

#endif
