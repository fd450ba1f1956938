/*
 * waiters.h
 *		Long polls that wait for an event.
 */
#ifndef EDA_GATEWAY_WAITERS_H
#define EDA_GATEWAY_WAITERS_H

#include <stdbool.h>
#include <stdint.h>

#include "request.h"

extern void waiters_start(void (*ask_database)(Request *));
extern void waiters_stop(void);
extern bool waiters_add(Request *request, const char *flow_type, uint64_t wait_ms);
extern void waiters_leave(Request *request);
extern void waiters_wake(const char *flow_type);
extern Request *waiters_take_retired(void);

#endif
