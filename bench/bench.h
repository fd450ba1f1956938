/*
 * bench.h
 *		Functions that the programs of this folder share: the clock, calls that exit on an
 *		error, and the line with percentiles.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <libpq-fe.h>

static inline double
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

static inline double
now_s(void)
{
	return now_ms() / 1e3;
}

static inline void
pause_ms(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

/* Connect with libpq's environment variables, or exit. */
static inline PGconn *
connect_or_die(void)
{
	PGconn *conn = PQconnectdb("");

	if (PQstatus(conn) != CONNECTION_OK)
	{
		fprintf(stderr, "%s", PQerrorMessage(conn));
		exit(1);
	}
	return conn;
}

static inline bool
succeeded(const PGresult *result)
{
	return PQresultStatus(result) == PGRES_TUPLES_OK || PQresultStatus(result) == PGRES_COMMAND_OK;
}

/* Exit if the result is an error.  The caller clears the result, here and below. */
static inline PGresult *
checked(PGconn *conn, PGresult *result)
{
	if (!succeeded(result))
	{
		fprintf(stderr, "%s", PQerrorMessage(conn));
		exit(1);
	}
	return result;
}

static inline PGresult *
run(PGconn *conn, const char *sql, int n, const char *const *values)
{
	PGresult *result = PQexecParams(conn, sql, n, NULL, values, NULL, NULL, 0);

	if (!succeeded(result))
		fprintf(stderr, "%s\n", sql);
	return checked(conn, result);
}

/* Return the number that a query returns; 0 for no row and for null. */
static inline double
number(PGconn *conn, const char *sql)
{
	PGresult *result = run(conn, sql, 0, NULL);
	double value = PQntuples(result) > 0 ? atof(PQgetvalue(result, 0, 0)) : 0;

	PQclear(result);
	return value;
}

/* Publish n events in batches of 1000; within a batch, each event has its own flow id. */
static inline void
publish(PGconn *conn, int n)
{
	for (int done = 0; done < n; done += 1000)
	{
		char count[16];
		const char *values[1] = {count};

		snprintf(count, sizeof(count), "%d", n - done < 1000 ? n - done : 1000);
		PQclear(run(conn,
		            "SELECT eda.publish_many('BENCH', (SELECT array_agg('flow ' || i) FROM generate_series(1, "
		            "$1::integer) i), (SELECT array_agg(jsonb_build_object('order', i, 'text', repeat('x', 100))) FROM "
		            "generate_series(1, $1::integer) i))",
		            1, values));
	}
}

/* For qsort(). */
static inline int
compare(const void *a, const void *b)
{
	double x = *(const double *) a;
	double y = *(const double *) b;

	return (x > y) - (x < y);
}

/* Sort n times and print a line with their percentiles; width is that of the column of names. */
static inline void
report(int width, const char *what, double *ms, int n)
{
	double sum = 0;

	qsort(ms, n, sizeof(double), compare);
	for (int i = 0; i < n; i++)
		sum += ms[i];
	printf("%-*s p50 %6.2f   p90 %6.2f   p99 %6.2f   max %6.2f   mean %6.2f ms\n", width, what, ms[n / 2],
	       ms[n * 90 / 100], ms[n * 99 / 100], ms[n - 1], sum / n);
}

#endif
