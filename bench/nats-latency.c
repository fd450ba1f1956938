/*
 * nats-latency.c
 *		Measures the time from eda.publish() until a subscriber has the message, with one
 *		publisher and two subscribers in the same process.
 *
 *	nats-latency URL EVENTS
 *
 * The publisher waits for the message of its event, and then for 1 to 20 ms at random, so
 * that the engine falls asleep and no two events share a tick.  Two subscribers get each
 * message: a plain one gets it when the server passes it on, and a JetStream consumer, such
 * as a worker has, when the stream has stored it.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <libpq-fe.h>
#include <nats/nats.h>

#include "bench-nats.h"
#include "bench.h"

#define SUBJECT "event-engine.bench"
#define WARM_UP 100

/* When a subscriber got its messages. */
typedef struct Subscriber
{
	double *at; /* ms, by event */
	int n;
} Subscriber;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t got = PTHREAD_COND_INITIALIZER;
static int nevents;

/* Called by a thread of nats.c for each message; the messages come in order, one at a time. */
static void
note(natsConnection *nats, natsSubscription *sub, natsMsg *message, void *closure)
{
	Subscriber *subscriber = closure;
	double at = now_ms();

	(void) nats;
	(void) sub;
	pthread_mutex_lock(&mutex);
	if (subscriber->n < nevents)
		subscriber->at[subscriber->n++] = at;
	pthread_cond_broadcast(&got);
	pthread_mutex_unlock(&mutex);
	natsMsg_Destroy(message);
}

/* Wait until a subscriber has n messages. */
static void
wait_for(Subscriber *subscriber, int n)
{
	struct timespec give_up;

	clock_gettime(CLOCK_REALTIME, &give_up);
	give_up.tv_sec += 30;
	pthread_mutex_lock(&mutex);
	while (subscriber->n < n)
		if (pthread_cond_timedwait(&got, &mutex, &give_up) != 0)
		{
			fprintf(stderr, "message %d did not come within 30 s\n", n);
			exit(1);
		}
	pthread_mutex_unlock(&mutex);
}

int
main(int argc, char **argv)
{
	int measured = argc > 2 ? atoi(argv[2]) : 0;
	PGconn *conn;
	natsConnection *nats;
	natsSubscription *plain_sub;
	natsSubscription *stream_sub;
	jsCtx *js;
	jsSubOptions options;
	Subscriber plain = {0};
	Subscriber stream = {0};
	double *sent;
	double *published;

	if (measured < 1)
	{
		fprintf(stderr, "usage: %s URL EVENTS\n", argv[0]);
		return 2;
	}
	conn = connect_or_die();
	nevents = measured + WARM_UP;
	plain.at = calloc(nevents, sizeof(double));
	stream.at = calloc(nevents, sizeof(double));
	sent = calloc(nevents, sizeof(double));
	published = calloc(nevents, sizeof(double));

	check(natsConnection_ConnectTo(&nats, argv[1]), argv[1]);
	check(natsConnection_JetStream(&js, nats, NULL), "JetStream");
	check(natsConnection_Subscribe(&plain_sub, nats, SUBJECT, note, &plain), "subscribe");
	check(jsSubOptions_Init(&options), "options");
	options.Ordered = true;
	options.Config.DeliverPolicy = js_DeliverNew;
	check(js_Subscribe(&stream_sub, js, SUBJECT, note, &stream, NULL, &options, NULL), "consumer");

	PQclear(checked(conn, PQprepare(conn, "publish", "SELECT eda.publish('BENCH', 'flow', $1::jsonb)", 1, NULL)));
	srandom(1);

	for (int i = 0; i < nevents; i++)
	{
		char payload[16];
		const char *values[1] = {payload};

		pause_ms(1 + random() % 20);
		snprintf(payload, sizeof(payload), "%d", i);
		sent[i] = now_ms();
		PQclear(checked(conn, PQexecPrepared(conn, "publish", 1, values, NULL, NULL, 0)));
		published[i] = now_ms();
		wait_for(&plain, i + 1);
		wait_for(&stream, i + 1);
	}
	natsSubscription_Destroy(plain_sub);
	natsSubscription_Destroy(stream_sub);
	jsCtx_Destroy(js);
	natsConnection_Destroy(nats);
	nats_Close();
	PQfinish(conn);

	for (int i = 0; i < nevents; i++)
	{
		plain.at[i] -= sent[i];
		stream.at[i] -= sent[i];
		published[i] -= sent[i];
	}
	printf("%d events, one at a time\n", measured);
	report(42, "publish call to message, plain subscriber", plain.at + WARM_UP, measured);
	report(42, "publish call to message, stream consumer", stream.at + WARM_UP, measured);
	report(42, "of that, the publish call itself", published + WARM_UP, measured);
	return 0;
}
