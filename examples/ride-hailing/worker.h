/*
 * worker.h
 *		Declarations that worker.c, which processes events, shares with the source of
 *		the events: source_pull.c calls eda.acquire_next(), source_nats.c gets messages.
 */
#ifndef WORKER_H
#define WORKER_H

#include <signal.h>
#include <stdbool.h>

#include <libpq-fe.h>

#define MAX_BATCH 100

/* The outcome of a statement. */
typedef enum Outcome
{
	DONE,
	FINISHED,   /* ED003: this attempt has already ended, by an earlier try of the same report */
	LEASE_LOST, /* ED002: another worker has the event, or will have it */
	UNKNOWN,    /* the connection broke, or a serialization failure: run the statement again */
	REFUSED     /* any other error */
} Outcome;

/* The columns that hold() expects: SELECT ACQUIRED FROM eda.acquire...() */
#define ACQUIRED "event_id, token, attempt, event_type, flow_id, payload"

extern char name[64];
extern int batch;
extern PGconn *conn;
extern volatile sig_atomic_t stopping;

extern bool connected(void);
extern Outcome outcome(const PGresult *res);
extern void hold(const PGresult *res);
extern void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
extern void pause_ms(long ms);
extern long more_patience(long ms);
extern void maybe_crash(void);

/*
 * The source.  source_take() waits a few seconds at most for events, acquires them,
 * and passes them to hold(); a signal to stop ends the wait.
 */
extern const char source_help[];
extern void source_take(void);
extern void source_close(void);

#endif
