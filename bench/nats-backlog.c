/*
 * nats-backlog.c
 *		Measures how fast eda publishes a backlog of events to a JetStream stream, and how
 *		fast a program without a database publishes the same messages.
 *
 *	nats-backlog URL EVENTS ROUNDS
 *
 * For eda, EVENTS events are published while the engine is paused; the time runs from when
 * the engine continues until the last message is acknowledged.  For comparison ("plain"), the
 * messages are read back from the stream, the stream is emptied, and this process publishes
 * them again; the time runs from the first js_PublishMsgAsync() to the last acknowledgement,
 * without the preparation of the messages.
 *
 * The messages have new ids, because the stream would drop duplicates; everything else in them
 * is the same to the byte.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>
#include <nats/nats.h>

#include "bench-nats.h"
#include "bench.h"

#define STREAM "EDA"
#define SUBJECT "event-engine.bench"
#define WARM_UP 2000
#define MAX_PENDING 16384 /* messages without acknowledgement; more do not make it faster */

static PGconn *conn;
static natsConnection *nats;
static jsCtx *js;

/* Wait until a query returns at least a number. */
static void
wait_for(const char *sql, double wanted, double seconds)
{
	double give_up = now_s() + seconds;

	while (number(conn, sql) < wanted)
	{
		if (now_s() > give_up)
		{
			PGresult *result = run(conn, "SELECT s::text FROM eda.engine_status s", 0, NULL);

			fprintf(stderr, "after %.0f s, this is still less than wanted: %s >= %.0f\n%s\n", seconds, sql, wanted,
			        PQgetvalue(result, 0, 0));
			exit(1);
		}
		pause_ms(5);
	}
}

static void
set_engine(const char *mode)
{
	char sql[128];

	snprintf(sql, sizeof(sql), "ALTER SYSTEM SET eda.engine = '%s'", mode);
	PQclear(run(conn, sql, 0, NULL));
	PQclear(run(conn, "SELECT pg_reload_conf()", 0, NULL));
}

static int64_t
in_stream(void)
{
	jsStreamInfo *info;
	int64_t n;

	check(js_GetStreamInfo(&info, js, STREAM, NULL, NULL), "stream");
	n = (int64_t) info->State.Msgs;
	jsStreamInfo_Destroy(info);
	return n;
}

static void
expect_in_stream(int n)
{
	if (in_stream() == n)
		return;
	fprintf(stderr, "%lld messages are in the stream, not %d\n", (long long) in_stream(), n);
	exit(1);
}

static void
empty_stream(void)
{
	check(js_PurgeStream(js, STREAM, NULL, NULL), "purge");
}

/* Publish a backlog through eda; return messages per second. */
static double
measure_eda(int n)
{
	double published = number(conn, "SELECT broker_published FROM eda.engine_status");
	double start;
	double rate;

	set_engine("paused");
	wait_for("SELECT (state = 'paused')::integer FROM eda.engine_status", 1, 30);
	publish(conn, n);
	PQclear(run(conn, "CHECKPOINT", 0, NULL));
	/* The paused engine reads the log: wait until it has read all of it. */
	wait_for("SELECT sum(events) FROM eda.queue_metrics WHERE state = 'awaiting_processing'", n, 60);
	start = now_s();
	set_engine("on");
	wait_for("SELECT broker_published FROM eda.engine_status", published + n, 600);
	rate = n / (now_s() - start);
	expect_in_stream(n);
	return rate;
}

/* Cancel the dispatched events, so that the engine begins each round without any. */
static void
cancel_all(void)
{
	PQclear(run(conn, "SELECT count(eda.cancel(id)) FROM eda.event_state WHERE state = 'dispatched'", 0, NULL));
	wait_for("SELECT -sum(events) FROM eda.queue_metrics WHERE state = 'dispatched'", 0, 60);
}

/* Read the messages back from the stream and give them new ids; return how many bytes they have. */
static int64_t
read_back(natsMsg **messages, int n, int round)
{
	natsSubscription *sub;
	jsSubOptions options;
	int64_t bytes = 0;

	check(jsSubOptions_Init(&options), "options");
	options.Ordered = true;
	check(js_SubscribeSync(&sub, js, SUBJECT, NULL, &options, NULL), "subscribe");
	for (int i = 0; i < n; i++)
	{
		natsMsg *m;
		const char **names;
		const char *value;
		int nnames;

		check(natsSubscription_NextMsg(&m, sub, 10000), "read back");
		check(natsMsg_Create(&messages[i], natsMsg_GetSubject(m), NULL, natsMsg_GetData(m), natsMsg_GetDataLength(m)),
		      "message");
		bytes += natsMsg_GetDataLength(m) + (int64_t) strlen("NATS/1.0\r\n\r\n");
		check(natsMsgHeader_Keys(m, &names, &nnames), "headers");
		for (int h = 0; h < nnames; h++)
		{
			check(natsMsgHeader_Get(m, names[h], &value), names[h]);
			if (strcmp(names[h], "Nats-Msg-Id") == 0)
			{
				char *id = strdup(value);

				id[0] = (char) ('p' + round);
				check(natsMsgHeader_Set(messages[i], names[h], id), names[h]);
				free(id);
			}
			else
				check(natsMsgHeader_Set(messages[i], names[h], value), names[h]);
			bytes += (int64_t) (strlen(names[h]) + strlen(value) + strlen(": \r\n"));
		}
		free(names);
		natsMsg_Destroy(m);
	}
	natsSubscription_Destroy(sub);
	return bytes;
}

static void
count_error(jsCtx *context, jsPubAckErr *error, void *closure)
{
	(void) context;
	(*(int *) closure)++;
	fprintf(stderr, "plain: %s\n", error->ErrText);
}

/* Publish the same messages without eda; return messages per second. */
static double
measure_plain(natsMsg **messages, int n)
{
	jsCtx *publisher;
	jsOptions options;
	int errors = 0;
	double start;
	double rate;

	check(jsOptions_Init(&options), "options");
	options.PublishAsync.MaxPending = MAX_PENDING;
	options.PublishAsync.StallWait = 60000;
	options.PublishAsync.ErrHandler = count_error;
	options.PublishAsync.ErrHandlerClosure = &errors;
	check(natsConnection_JetStream(&publisher, nats, &options), "JetStream");
	start = now_s();
	for (int i = 0; i < n; i++)
		check(js_PublishMsgAsync(publisher, &messages[i], NULL), "publish");
	check(js_PublishAsyncComplete(publisher, NULL), "acknowledgements");
	rate = n / (now_s() - start);
	jsCtx_Destroy(publisher);
	if (errors > 0)
		exit(1);
	expect_in_stream(n);
	return rate;
}

static double
median(double *values, int n)
{
	qsort(values, n, sizeof(double), compare);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

int
main(int argc, char **argv)
{
	int n = argc > 2 ? atoi(argv[2]) : 0;
	int rounds = argc > 3 ? atoi(argv[3]) : 0;
	double *eda;
	double *plain;
	natsMsg **messages;

	if (n < 1 || rounds < 1 || rounds > 9)
	{
		fprintf(stderr, "usage: %s URL EVENTS ROUNDS\n", argv[0]);
		return 2;
	}
	eda = calloc(rounds, sizeof(double));
	plain = calloc(rounds, sizeof(double));
	messages = calloc(n, sizeof(natsMsg *));
	conn = connect_or_die();
	check(natsConnection_ConnectTo(&nats, argv[1]), argv[1]);
	check(natsConnection_JetStream(&js, nats, NULL), "JetStream");

	empty_stream();
	/* Warm up. */
	(void) measure_eda(WARM_UP);
	(void) read_back(messages, n < WARM_UP ? n : WARM_UP, 0);
	empty_stream();
	(void) measure_plain(messages, n < WARM_UP ? n : WARM_UP);
	empty_stream();
	cancel_all();

	for (int round = 1; round <= rounds; round++)
	{
		int64_t bytes;

		eda[round - 1] = measure_eda(n);
		bytes = read_back(messages, n, round);
		empty_stream();
		plain[round - 1] = measure_plain(messages, n);
		empty_stream();
		cancel_all();
		if (round == 1)
			printf("backlog of %d events, messages of %.0f bytes with headers\n", n, (double) bytes / n);
		printf("%-6d   eda %7.0f /s   plain C %7.0f /s   eda / plain %.2f\n", round, eda[round - 1], plain[round - 1],
		       eda[round - 1] / plain[round - 1]);
		fflush(stdout);
	}
	printf("median   eda %7.0f /s   plain C %7.0f /s   eda / plain %.2f\n", median(eda, rounds), median(plain, rounds),
	       median(eda, rounds) / median(plain, rounds));
	natsConnection_Destroy(nats);
	nats_Close();
	PQfinish(conn);
	return 0;
}
