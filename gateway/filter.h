/*
 * filter.h
 *		What a subscriber wants to see.
 */
#ifndef EDA_GATEWAY_FILTER_H
#define EDA_GATEWAY_FILTER_H

#include <stdbool.h>

#include "stream.h"

#define MAX_SUBSCRIPTIONS 32

extern bool filter_add(Subscriber *s, const char *id, const char *event_type, const char *flow_type,
                       const char *flow_id); /* false: it has MAX_SUBSCRIPTIONS */
extern void filter_remove(Subscriber *s, const char *id);
extern void filter_clear(Subscriber *s);
extern bool filter_wants(const Subscriber *s, const char *event_type, const char *flow_type, const char *flow_id);

#endif
