/*
 * db.h
 *		The pool of connections: calls of SQL functions.
 */
#ifndef EDA_GATEWAY_DB_H
#define EDA_GATEWAY_DB_H

#include <stdbool.h>

#include <libpq-fe.h>

/* Why a call has no result. */
typedef enum DbTrouble
{
	DB_FINE,
	DB_AWAY,   /* there is no connection */
	DB_BUSY,   /* every connection was busy for too long */
	DB_LOST,   /* the connection broke during the call, which may have been committed */
	DB_NO_ROLE /* the caller's role cannot be set; the result says why */
} DbTrouble;

/* The result, which may be NULL, belongs to the function that is called. */
typedef void (*DbDone)(void *arg, PGresult *result, DbTrouble trouble);

extern void db_call(const char *sql, int nvalues, char *const *values, const char *role, DbDone done, void *arg);
extern void db_start(void);
extern void db_stop(void);
extern bool db_is_up(void);

#endif
