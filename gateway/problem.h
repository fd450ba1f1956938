/*
 * problem.h
 *		Errors as problem details (RFC 9457).
 */
#ifndef EDA_GATEWAY_PROBLEM_H
#define EDA_GATEWAY_PROBLEM_H

#include <libpq-fe.h>

#include "db.h"
#include "request.h"

extern void problem_set(Request *request, int status, const char *detail, const char *hint);
extern void problem_set_error(Request *request, const PGresult *result);
extern void problem_set_trouble(Request *request, DbTrouble trouble);
extern const char *problem_title(int status);

#endif
