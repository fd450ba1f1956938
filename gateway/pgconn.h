/*
 * pgconn.h
 *		A connection to the database that is made again by itself when it is lost.
 */
#ifndef EDA_GATEWAY_PGCONN_H
#define EDA_GATEWAY_PGCONN_H

#include <stdbool.h>

#include <libpq-fe.h>
#include <uv.h>

/* The owner sets the callbacks; all else is pgconn.c's. */
typedef struct PgConnection
{
	PGconn *conn;
	bool ready; /* it can be used */
	void (*on_ready)(struct PgConnection *);
	void (*on_input)(struct PgConnection *); /* PQconsumeInput() has been called */
	void (*on_lost)(struct PgConnection *);  /* it was ready, and is no longer */
	void *owner;
	uv_poll_t *poll;
	uv_timer_t timer;
	int fd; /* that is polled */
	unsigned backoff_ms;
	bool closing;
	bool failed_before; /* since it was last ready: this is logged already */
} PgConnection;

extern void pgconn_open(PgConnection *pg);
extern void pgconn_flush(PgConnection *pg);
extern void pgconn_reconnect(PgConnection *pg);
extern void pgconn_close(PgConnection *pg);

#endif
