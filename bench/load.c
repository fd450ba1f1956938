/*
 * load.c
 *		Runs producers and workers against any queue that has a SQL interface.
 *
 *	load NAME=VALUE ...
 *
 * The arguments have the SQL of the queue, which each connection prepares once.  The workers
 * do nothing with the jobs.
 *
 *	send	publishes jobs: $1 is the payload, or with per > 1 an array of payloads; $2, if used,
 *			is a flow id for each
 *	fetch	fetches up to $1 jobs; returns id, payload, and a token if the queue has tokens
 *	done	finishes jobs: $1 are the ids, $2, if used, the tokens: arrays, or with batch = 1 values
 *	next	returns the number of a batch, or null (PgQ); it is then $1 of fetch and of done
 *	tick	is run every tick_ms milliseconds, by its own connection
 *
 *	clients per payload		number of producers, jobs per call, bytes per job
 *	workers batch			number of workers, jobs per fetch
 *	backlog					producers pause while so many jobs are unfinished; 0: they never pause
 *	seconds warm			duration of the run in seconds, and how much of it is not counted
 *	total limit				instead of seconds: run until so many jobs are done, at most limit seconds
 *
 * The output is JSON: the numbers of jobs sent and done, the seconds, and the rate per second.
 * With workers, a job counts when the call that finishes it has returned; without workers, when
 * the call that publishes it has.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#include "bench.h"

static const char *send_sql, *fetch_sql, *done_sql, *next_sql, *tick_sql;
static long clients, per = 1, payload = 200, workers, batch = 1, backlog, seconds = 5, warm, total, limit = 60, tick_ms;

static atomic_llong claimed; /* jobs that producers have begun to send */
static atomic_llong sent;
static atomic_llong done;
static atomic_int ready;
static atomic_bool go;
static atomic_bool stop;

/* ------------------------------------------------------------------------
 * Statements
 * ------------------------------------------------------------------------ */

static void
prepare(PGconn *conn, const char *name, const char *sql)
{
	PQclear(checked(conn, PQprepare(conn, name, sql, 0, NULL)));
}

/* Run a prepared statement with as many of the two values as it has parameters. */
static PGresult *
execute(PGconn *conn, const char *name, const char *sql, const char *first, const char *second)
{
	const char *values[2] = {first, second};
	int n = strstr(sql, "$2") ? 2 : strstr(sql, "$1") ? 1 : 0;

	return checked(conn, PQexecPrepared(conn, name, n, values, NULL, NULL, 0));
}

/* Wait until all threads are ready. */
static void
wait_for_go(void)
{
	ready++;
	while (!go)
		pause_ms(1);
}

/* ------------------------------------------------------------------------
 * Producers
 * ------------------------------------------------------------------------ */

/* Write a JSON payload of about the wanted size, each different; within an array its quotes are escaped. */
static char *
put_payload(char *out, int64_t id, const char *quote)
{
	char *start = out;

	out += sprintf(out, "{%sid%s: %lld, %skind%s: %semail.send%s, %sto%s: %suser%lld@example.com%s, %spad%s: %s", quote,
	               quote, (long long) id, quote, quote, quote, quote, quote, quote, quote, (long long) id, quote, quote,
	               quote, quote);
	for (long n = out - start - 13 * (long) (strlen(quote) - 1); n < payload - 2; n++)
		*out++ = "abcdefghijklmnopqrstuvwxyz012345"[(n * 7 + id) & 31];
	return out + sprintf(out, "%s}", quote);
}

static void
make_call(char *payloads, char *flows, int64_t id)
{
	if (per == 1)
	{
		put_payload(payloads, id, "\"");
		sprintf(flows, "order-%lld", (long long) id);
		return;
	}
	for (int i = 0; i < per; i++)
	{
		payloads += sprintf(payloads, "%c\"", i == 0 ? '{' : ',');
		payloads = put_payload(payloads, id + i, "\\\"");
		payloads += sprintf(payloads, "\"");
		flows += sprintf(flows, "%corder-%lld", i == 0 ? '{' : ',', (long long) (id + i));
	}
	strcpy(payloads, "}");
	strcpy(flows, "}");
}

/* Wait while the backlog is full; return whether the producer is to send another call. */
static bool
may_send(void)
{
	while (!stop && backlog > 0 && claimed - done >= backlog)
		pause_ms(1);
	if (stop)
		return false;
	if (atomic_fetch_add(&claimed, per) < total || total == 0)
		return true;
	claimed -= per;
	return false;
}

static void *
produce(void *arg)
{
	PGconn *conn = connect_or_die();
	int64_t id = ((int64_t) (intptr_t) arg + 1) * 100000000;
	char *payloads = malloc(per * (payload + 256));
	char *flows = malloc(per * 32 + 16);

	prepare(conn, "send", send_sql);
	wait_for_go();
	while (may_send())
	{
		make_call(payloads, flows, id);
		id += per;
		PQclear(execute(conn, "send", send_sql, payloads, flows));
		sent += per;
	}
	PQfinish(conn);
	free(payloads);
	free(flows);
	return NULL;
}

/* ------------------------------------------------------------------------
 * Workers
 * ------------------------------------------------------------------------ */

/* Return a column of a result as an array, or its first value alone. */
static void
put_column(char *out, const PGresult *jobs, int column)
{
	if (batch == 1)
	{
		strcpy(out, PQgetvalue(jobs, 0, column));
		return;
	}
	for (int row = 0; row < PQntuples(jobs); row++)
		out += sprintf(out, "%c%s", row == 0 ? '{' : ',', PQgetvalue(jobs, row, column));
	strcpy(out, "}");
}

/* Fetch jobs and finish them; return how many, or -1 if there were none. */
static int
work_once(PGconn *conn, char *ids, char *tokens)
{
	char which[32];
	PGresult *jobs;
	int n;

	snprintf(which, sizeof(which), "%ld", batch);
	if (next_sql)
	{
		PGresult *number = execute(conn, "next", next_sql, NULL, NULL);
		bool none = PQgetisnull(number, 0, 0);

		snprintf(which, sizeof(which), "%s", PQgetvalue(number, 0, 0));
		PQclear(number);
		if (none)
			return -1;
	}
	jobs = execute(conn, "fetch", fetch_sql, which, NULL);
	n = PQntuples(jobs);
	if (n > 0 && !next_sql)
	{
		put_column(ids, jobs, 0);
		if (PQnfields(jobs) > 2)
			put_column(tokens, jobs, 2);
	}
	PQclear(jobs);
	if (n > 0 || next_sql)
		PQclear(execute(conn, "done", done_sql, next_sql ? which : ids, tokens));
	return n > 0 || next_sql ? n : -1;
}

static void *
work(void *arg)
{
	PGconn *conn = connect_or_die();
	char *ids = malloc(batch * 40 + 16);
	char *tokens = malloc(batch * 16 + 16);

	(void) arg;
	if (next_sql)
		prepare(conn, "next", next_sql);
	prepare(conn, "fetch", fetch_sql);
	prepare(conn, "done", done_sql);
	wait_for_go();
	while (!stop)
	{
		int n = work_once(conn, ids, tokens);

		if (n < 0)
			pause_ms(1);
		else if (atomic_fetch_add(&done, n) + n >= total && total > 0)
			stop = true;
	}
	PQfinish(conn);
	free(ids);
	free(tokens);
	return NULL;
}

static void *
tick(void *arg)
{
	PGconn *conn = connect_or_die();

	(void) arg;
	prepare(conn, "tick", tick_sql);
	wait_for_go();
	while (!stop)
	{
		PQclear(execute(conn, "tick", tick_sql, NULL, NULL));
		pause_ms(tick_ms);
	}
	PQfinish(conn);
	return NULL;
}

/* ------------------------------------------------------------------------
 * The run
 * ------------------------------------------------------------------------ */

static bool
read_argument(const char *arg)
{
	const struct
	{
		const char *name;
		const char **text;
		long *number;
	} arguments[] = {
		{"send", &send_sql, NULL},   {"fetch", &fetch_sql, NULL}, {"done", &done_sql, NULL},
		{"next", &next_sql, NULL},   {"tick", &tick_sql, NULL},   {"clients", NULL, &clients},
		{"per", NULL, &per},         {"payload", NULL, &payload}, {"workers", NULL, &workers},
		{"batch", NULL, &batch},     {"backlog", NULL, &backlog}, {"seconds", NULL, &seconds},
		{"warm", NULL, &warm},       {"total", NULL, &total},     {"limit", NULL, &limit},
		{"tick_ms", NULL, &tick_ms},
	};
	const char *value = strchr(arg, '=');

	for (size_t i = 0; value && i < sizeof(arguments) / sizeof(arguments[0]); i++)
	{
		if (strncmp(arg, arguments[i].name, value - arg) != 0 || arguments[i].name[value - arg] != '\0')
			continue;
		if (arguments[i].text)
			*arguments[i].text = value + 1;
		else
			*arguments[i].number = atol(value + 1);
		return true;
	}
	fprintf(stderr, "load: unknown argument: %s\n", arg);
	return false;
}

static pthread_t
start(void *(*what)(void *), intptr_t number)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, what, (void *) number) != 0)
	{
		fprintf(stderr, "load: could not start a thread\n");
		exit(1);
	}
	return thread;
}

int
main(int argc, char **argv)
{
	pthread_t threads[1024];
	int n = 0;
	double begin;
	double from;
	double now;
	long long before = 0;
	long long after;

	for (int i = 1; i < argc; i++)
		if (!read_argument(argv[i]))
			return 2;
	if (clients + workers < 1 || clients + workers >= 1000 || per < 1 || batch < 1)
		return 2;
	for (long i = 0; i < clients; i++)
		threads[n++] = start(produce, i);
	for (long i = 0; i < workers; i++)
		threads[n++] = start(work, i);
	if (tick_ms > 0)
		threads[n++] = start(tick, 0);
	while (ready < n)
		pause_ms(1);
	begin = from = now_s();
	go = true;

	do
	{
		pause_ms(1);
		now = now_s();
		after = workers > 0 ? done : sent;
		if (from == begin && warm > 0 && now - begin >= warm)
		{
			from = now;
			before = after;
		}
	} while (total > 0 ? after < total && now - begin < limit : now - begin < seconds);
	stop = true;
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);

	printf("{\"sent\": %lld, \"done\": %lld, \"seconds\": %.3f, \"rate\": %.1f}\n", (long long) sent,
	       workers > 0 ? (long long) done : (long long) sent, now - begin, (after - before) / (now - from));
	return 0;
}
