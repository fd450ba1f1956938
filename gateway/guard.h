/*
 * guard.h
 *		Whether a request is let in.
 */
#ifndef EDA_GATEWAY_GUARD_H
#define EDA_GATEWAY_GUARD_H

#include <stdbool.h>

#include "request.h"

/* False: the request has its answer, a problem or a file. */
extern bool guard_admit(Request *request, Method method);

#endif
