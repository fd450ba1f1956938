/*
 * worker.h
 *		What worker.c, which does the work, shares with the source of its events:
 *		source_pull.c asks Postgres for the next one, source_nats.c gets messages.
 */
#ifndef WORKER_H
#define WORKER_H

#include <signal.h>
#include <stdbool.h>

#include <libpq-fe.h>

#define MAX_BATCH 100

/* What became of a statement. */
typedef enum Outcome
{
	DONE,
	FINISHED,   /* ED003: this very attempt is finished already, which is as good as done */
	LEASE_LOST, /* ED002: the event is no longer ours */
	UNKNOWN,    /* the connection broke, or another transaction was in the way: ask again */
	REFUSED     /* an error that we know no remedy for */
} Outcome;

/* What hold() is to be given: SELECT ACQUIRED FROM eda.acquire...() */
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
 * The source.  source_take() waits some seconds at most for events, acquires
 * them, and has worker.c hold() them; a signal to stop ends the wait.
 */
extern const char source_help[];
extern void source_take(void);
extern void source_close(void);

#endif
