/*
 * latency.c
 *		Measures the time from eda.publish() until a worker has the event, with one
 *		publisher and one worker, each with its own connection.
 *
 * The publisher waits until the worker has processed the event, and then for 1 to 20 ms at
 * random, so that the engine falls asleep and no two events share a tick.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <libpq-fe.h>

#include "bench.h"

#define WARM_UP 100

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t handled = PTHREAD_COND_INITIALIZER;
static double *started; /* ms, by event */
static int nhandled;
static int nevents;

static PGresult *
run_prepared(PGconn *conn, const char *statement, int n, const char *const *values)
{
	PGresult *result = PQexecPrepared(conn, statement, n, values, NULL, NULL, 0);

	if (!succeeded(result))
		fprintf(stderr, "%s: ", statement);
	return checked(conn, result);
}

static void *
work(void *arg)
{
	PGconn *conn = connect_or_die();

	(void) arg;
	PQclear(PQprepare(conn, "acquire", "SELECT event_id, token, payload FROM eda.acquire_next('bench', 1, '10 s')", 0,
	                  NULL));
	PQclear(PQprepare(conn, "succeed", "SELECT eda.succeed($1, $2)", 2, NULL));
	while (nhandled < nevents)
	{
		PGresult *event = run_prepared(conn, "acquire", 0, NULL);
		double at = now_ms();

		if (PQntuples(event) > 0)
		{
			const char *values[2] = {PQgetvalue(event, 0, 0), PQgetvalue(event, 0, 1)};

			started[atoi(PQgetvalue(event, 0, 2))] = at;
			PQclear(run_prepared(conn, "succeed", 2, values));
			pthread_mutex_lock(&mutex);
			nhandled++;
			pthread_cond_signal(&handled);
			pthread_mutex_unlock(&mutex);
		}
		PQclear(event);
	}
	PQfinish(conn);
	return NULL;
}

int
main(int argc, char **argv)
{
	PGconn *conn = connect_or_die();
	pthread_t worker;
	double *sent;
	double *published;
	int measured;

	measured = argc > 1 ? atoi(argv[1]) : 2000;
	if (measured < 1)
	{
		fprintf(stderr, "usage: %s EVENTS\n", argv[0]);
		return 2;
	}
	nevents = measured + WARM_UP;
	started = calloc(nevents, sizeof(double));
	sent = calloc(nevents, sizeof(double));
	published = calloc(nevents, sizeof(double));

	PQclear(PQexec(conn, "SELECT eda.configure('BENCH', 'bench', attempt_delays => '{0 s}')"));
	PQclear(PQprepare(conn, "publish", "SELECT eda.publish('BENCH', 'flow', $1::jsonb)", 1, NULL));
	pthread_create(&worker, NULL, work, NULL);
	srandom(1);

	for (int i = 0; i < nevents; i++)
	{
		char payload[16];
		const char *values[1] = {payload};

		pause_ms(1 + random() % 20);
		snprintf(payload, sizeof(payload), "%d", i);
		sent[i] = now_ms();
		PQclear(run_prepared(conn, "publish", 1, values));
		published[i] = now_ms();
		pthread_mutex_lock(&mutex);
		while (nhandled <= i)
			pthread_cond_wait(&handled, &mutex);
		pthread_mutex_unlock(&mutex);
	}
	pthread_join(worker, NULL);
	PQfinish(conn);

	for (int i = 0; i < nevents; i++)
	{
		started[i] -= sent[i];
		published[i] -= sent[i];
	}
	printf("%d events, one at a time\n", measured);
	report(34, "publish call to handler start", started + WARM_UP, measured);
	report(34, "of that, the publish call itself", published + WARM_UP, measured);
	return 0;
}
