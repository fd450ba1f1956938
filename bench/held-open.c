/*
 * held-open.c
 *		Publishes and processes events in slices while two transactions are held open, and
 *		counts the dead tuples that are left.
 *
 * A slice is eda.publish_many() in batches of 1000, and then eda.acquire_next() with at most
 * 500 events and eda.succeed_many() until all are done.  Each call is its own transaction.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>

#include "bench.h"

#define SLICES 10

/* Acquire n events and report their success; ids and tokens go to the client and back, as with any worker. */
static void
work(PGconn *conn, int n)
{
	size_t size = 500 * 40 + 16;
	char *ids = malloc(size);
	char *tokens = malloc(size);
	const char *values[2] = {ids, tokens};

	while (n > 0)
	{
		PGresult *events =
			run(conn, "SELECT event_id, token, payload FROM eda.acquire_next('bench', 500, '30 s')", 0, NULL);
		char *i = ids;
		char *t = tokens;

		if (PQntuples(events) == 0)
		{
			fprintf(stderr, "no event came within 30 s, %d are missing\n", n);
			exit(1);
		}
		for (int row = 0; row < PQntuples(events); row++)
		{
			i += sprintf(i, "%c%s", row == 0 ? '{' : ',', PQgetvalue(events, row, 0));
			t += sprintf(t, "%c%s", row == 0 ? '{' : ',', PQgetvalue(events, row, 1));
		}
		strcpy(i, "}");
		strcpy(t, "}");
		PQclear(run(conn, "SELECT eda.succeed_many($1, $2)", 2, values));
		n -= PQntuples(events);
		PQclear(events);
	}
	free(ids);
	free(tokens);
}

/* Print how many live and dead tuples there are on the log's leaves and in the other tables. */
static void
show_tuples(PGconn *worker)
{
	double dead;

	printf("live tuples on the log's leaves: %.0f\n",
	       number(worker, "SELECT sum((pgstattuple(c.oid)).tuple_count) FROM pg_class c WHERE c.relkind = 'r'"
	                      " AND c.relnamespace = 'eda'::regnamespace AND c.relname ~ '^(event|transition)_[0-9]+$'"));
	dead = number(worker, "SELECT sum((pgstattuple(c.oid)).dead_tuple_count) FROM pg_class c WHERE c.relkind = 'r'"
	                      " AND c.relnamespace = 'eda'::regnamespace AND c.relname ~ '^(event|transition)_[0-9]+$'");
	printf(
		"dead tuples on the log's leaves: %.0f (pgstattuple), %.0f (n_dead_tup), %.0f updated or deleted\n", dead,
		number(
			worker,
			"SELECT sum(n_dead_tup) FROM pg_stat_all_tables WHERE schemaname = 'eda' AND relname ~ '^(event|transition)_[0-9]+$'"),
		number(
			worker,
			"SELECT sum(n_tup_upd + n_tup_del) FROM pg_stat_all_tables WHERE schemaname = 'eda' AND relname ~ '^(event|transition)_[0-9]+$'"));
	printf("dead tuples in other tables of eda: %.0f (the engine's saved state)\n",
	       number(worker, "SELECT sum((pgstattuple(c.oid)).dead_tuple_count) FROM pg_class c WHERE c.relkind = 'r'"
	                      " AND c.relnamespace = 'eda'::regnamespace AND c.relname !~ '^(event|transition)_[0-9]+$'"));
}

int
main(int argc, char **argv)
{
	int events = argc > 1 ? atoi(argv[1]) : 200000;
	int slice = events / SLICES;
	PGconn *reader = connect_or_die();
	PGconn *writer = connect_or_die();
	PGconn *worker = connect_or_die();
	double first = 0;
	double last = 0;
	double total;

	if (slice < 1)
	{
		fprintf(stderr, "usage: %s EVENTS\n", argv[0]);
		return 2;
	}
	PQclear(
		run(worker, "SELECT eda.configure('BENCH', 'bench', attempt_delays => '{0 s}', lease => '10 min')", 0, NULL));
	PQclear(run(worker, "SET client_min_messages = warning", 0, NULL));
	/* Warm up. */
	publish(worker, 2000);
	work(worker, 2000);

	PQclear(run(reader, "BEGIN ISOLATION LEVEL REPEATABLE READ", 0, NULL));
	number(reader, "SELECT count(*) FROM eda.event");
	PQclear(run(writer, "BEGIN", 0, NULL));
	number(writer, "SELECT pg_current_xact_id()");

	printf("two transactions held open, %d events in slices of %d\n", slice * SLICES, slice);
	total = now_s();
	for (int i = 1; i <= SLICES; i++)
	{
		double start = now_s();
		double middle;
		double end;

		publish(worker, slice);
		middle = now_s();
		work(worker, slice);
		end = now_s();
		last = slice / (end - start);
		if (i == 1)
			first = last;
		printf("%8d   publish %7.0f /s   acquire and succeed %7.0f /s   together %7.0f events/s\n", i * slice,
		       slice / (middle - start), slice / (end - middle), last);
		fflush(stdout);
	}
	total = now_s() - total;

	PQclear(run(worker, "SELECT pg_stat_force_next_flush()", 0, NULL));
	printf("%.0f events/s over all; last slice / first slice: %.2f\n", slice * SLICES / total, last / first);
	printf(
		"still held open: %.0f transactions, the oldest for %.0f s\n",
		number(worker, "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"),
		number(
			worker,
			"SELECT extract(epoch FROM now() - min(xact_start)) FROM pg_stat_activity WHERE state = 'idle in transaction'"));
	show_tuples(worker);
	printf("not succeeded: %.0f\n",
	       number(worker, "SELECT sum(events) FROM eda.queue_metrics WHERE state <> 'succeeded'"));

	PQclear(run(reader, "COMMIT", 0, NULL));
	PQclear(run(writer, "COMMIT", 0, NULL));
	PQfinish(reader);
	PQfinish(writer);
	PQfinish(worker);
	return 0;
}
