/*
 * guard.h
 *		Whether a request is let in.
 */
#ifndef EDA_GATEWAY_GUARD_H
#define EDA_GATEWAY_GUARD_H

#include <stdbool.h>

#include "request.h"

extern bool guard_admit(Request *request, Method method); /* false: it has its answer, a problem or a file */

#endif
