/*
 * worker.c
 *		A worker for rides: acquires an event, does its step of the ride, and
 *		publishes the next step.
 *
 * No transaction is open during the work:
 *
 *	1. eda.acquire_next() acquires events, or eda.acquire() the event that a message
 *	   names, and commits (source_pull.c, source_nats.c).  From here on, this worker
 *	   has a token and a lease for each of these events.
 *	2. eda.heartbeat() extends the leases when the work takes long.
 *	3. eda.succeed() ends the attempt and publishes the next step, in one transaction
 *	   with the worker's own row in ride.ledger: both are committed or neither.
 *
 * A worker may die at any point.  If step 3 has not committed, the lease ends, and
 * another worker gets the event.  If the connection breaks during COMMIT, the worker
 * cannot know whether the transaction has committed.  It sends the same transaction
 * again: if the first one had committed, eda.succeed() raises ED003, and the second
 * row in ride.ledger is rolled back.
 */
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "worker.h"

typedef struct Step
{
	const char *event_type;
	const char *next;      /* event type that its success publishes; NULL: the last step */
	const char *fact;      /* JSON that the step adds to the payload, with a number */
	int upto;              /* greatest value of that number */
	const char *transient; /* an error after which the event is tried again */
	const char *permanent; /* an error after which it is not */
} Step;

static const Step steps[] = {
	{"RIDE_REQUESTED", "DRIVER_MATCHED", "{\"driver\": \"driver %d\"}", 50, "no driver nearby", "nobody drives there"},
	{"DRIVER_MATCHED", "DRIVER_ARRIVED", "{\"minutes_away\": %d}", 9, "driver does not answer", "rider is banned"},
	{"DRIVER_ARRIVED", "TRIP_STARTED", "{\"minutes_waited\": %d}", 5, "no position known", "rider is not there"},
	{"TRIP_STARTED", "TRIP_COMPLETED", "{\"km\": %d}", 30, "meter is restarting", "car broke down"},
	{"TRIP_COMPLETED", "PAYMENT_PROCESSED", "{\"fare\": \"%d.50\"}", 60, "map service timed out", "no route on record"},
	{"PAYMENT_PROCESSED", NULL, "{\"receipt\": %d}", 999999, "bank answered 503", "card was reported stolen"},
};

/* An event that this worker has a lease on. */
typedef struct Held
{
	char event_id[40];
	char token[16];
	char attempt[16];
	char *ride;
	char *payload;
	const Step *step; /* NULL: an unknown event type */
	bool over;        /* the attempt has ended, or the lease was lost */
} Held;

char name[64];
int batch = 1;
PGconn *conn;
volatile sig_atomic_t stopping = 0;

static const char *conninfo = "";
static int work_ms = 100;
static int heartbeat_ms = 1000;
static double fail_probability = 0.1;
static double permanent_probability = 0.005;
static double crash_probability = 0;

static Held held[MAX_BATCH];
static int nheld;
static long heartbeat_at; /* when to extend the leases */

static void
stop(int signo)
{
	stopping = signo;
}

void
say(const char *format, ...)
{
	char line[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	line[strcspn(line, "\n")] = '\0';
	fprintf(stderr, "%s: %s\n", name, line);
}

static long
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Sleep; a signal to stop ends the sleep. */
void
pause_ms(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	if (!stopping && ms > 0)
		nanosleep(&t, NULL);
}

/*
 * Sleep for about ms, with some randomness, before the next try to connect.
 * Returns the pause before the try after that.
 */
long
more_patience(long ms)
{
	pause_ms((long) ((double) ms * (0.5 + drand48())));
	return ms < 5000 ? ms * 2 : 10000;
}

/* For tests: die at random, as a process does that gets SIGKILL. */
void
maybe_crash(void)
{
	if (drand48() < crash_probability)
		_exit(9);
}

/*
 * Connect to the database unless there is a connection, and try again after longer
 * and longer pauses.  False: a signal to stop came.
 */
bool
connected(void)
{
	const char *const keywords[] = {"dbname", "fallback_application_name", NULL};
	const char *const values[] = {conninfo, name, NULL};
	long patience = 100;

	while (conn == NULL || PQstatus(conn) != CONNECTION_OK)
	{
		if (stopping)
			return false;
		PQfinish(conn);
		conn = PQconnectdbParams(keywords, values, 1);
		if (PQstatus(conn) == CONNECTION_OK)
			break;
		say("%s", PQerrorMessage(conn));
		patience = more_patience(patience);
	}
	return true;
}

Outcome
outcome(const PGresult *res)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	if (PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK)
		return DONE;
	if (state != NULL && strcmp(state, "ED003") == 0)
		return FINISHED;
	if (state != NULL && strcmp(state, "ED002") == 0)
		return LEASE_LOST;
	say("%s", PQerrorMessage(conn));
	/* class 40: serialization failure or deadlock; 57P..: the server shuts down */
	if (PQstatus(conn) != CONNECTION_OK || state == NULL || strncmp(state, "40", 2) == 0 ||
	    strncmp(state, "57P", 3) == 0)
		return UNKNOWN;
	return REFUSED;
}

/* Run a statement whose rows are not needed. */
static Outcome
run(const char *sql, int nparams, const char *const *params)
{
	PGresult *res = PQexecParams(conn, sql, nparams, NULL, params, NULL, NULL, 0);
	Outcome result = outcome(res);

	PQclear(res);
	return result;
}

/* Keep the events that a statement has acquired, to process them. */
void
hold(const PGresult *res)
{
	for (int row = 0; row < PQntuples(res); row++)
	{
		Held *h = &held[nheld++];

		memset(h, 0, sizeof(*h));
		snprintf(h->event_id, sizeof(h->event_id), "%s", PQgetvalue(res, row, 0));
		snprintf(h->token, sizeof(h->token), "%s", PQgetvalue(res, row, 1));
		snprintf(h->attempt, sizeof(h->attempt), "%s", PQgetvalue(res, row, 2));
		for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
			if (strcmp(steps[i].event_type, PQgetvalue(res, row, 3)) == 0)
				h->step = &steps[i];
		h->ride = strdup(PQgetvalue(res, row, 4));
		h->payload = strdup(PQgetvalue(res, row, 5));
	}
	heartbeat_at = now_ms() + heartbeat_ms;
}

/* Extend all leases of this worker, also those of events that it has not begun to process. */
static void
heartbeat(void)
{
	for (Held *h = held; h < held + nheld; h++)
	{
		const char *params[] = {h->event_id, h->token};

		if (!h->over && run("SELECT eda.heartbeat($1::uuid, $2::integer)", 2, params) == LEASE_LOST)
			h->over = true;
	}
	heartbeat_at = now_ms() + heartbeat_ms;
}

/* Stands for the work.  False: a signal to stop came, or the lease was lost; drop the event. */
static bool
work(const Held *h)
{
	long done_at = now_ms() + (long) (work_ms * (0.5 + drand48()));

	while (!stopping && !h->over && now_ms() < done_at)
	{
		pause_ms((done_at < heartbeat_at ? done_at : heartbeat_at) - now_ms());
		if (now_ms() >= heartbeat_at && connected())
			heartbeat();
	}
	maybe_crash();
	return !stopping && !h->over;
}

/* Run the transaction that ends an attempt with success. */
static Outcome
try_succeed(const Held *h, const char *fact)
{
	const char *row[] = {h->ride, h->step->event_type, h->event_id, h->token, h->attempt, name, fact};
	const char *end[] = {h->event_id, h->token, fact, h->step->next, h->payload};
	Outcome result = run("BEGIN", 0, NULL);

	if (result == DONE)
		result = run("INSERT INTO ride.ledger (ride, step, event_id, token, attempt, worker, fact) VALUES"
		             " ($1, $2, $3::uuid, $4::integer, $5::integer, $6, $7::jsonb)",
		             7, row);
	maybe_crash();
	if (result == DONE)
		result = run("SELECT eda.succeed($1::uuid, $2::integer, result => $3::jsonb, spinoffs =>"
		             " CASE WHEN $4::text IS NOT NULL THEN jsonb_build_array(jsonb_build_object("
		             "'event_type', $4::text, 'payload', $5::jsonb || $3::jsonb)) END)",
		             5, end);
	maybe_crash();
	if (result == DONE)
		return run("COMMIT", 0, NULL);
	run("ROLLBACK", 0, NULL);
	return result;
}

/* End an attempt with an error; the rules of the event type decide whether it is tried again. */
static Outcome
try_fail(const Held *h, const char *error, bool retry)
{
	char stack[256];
	const char *params[] = {h->event_id, error, stack, h->token, retry ? "true" : "false"};

	snprintf(stack, sizeof(stack), "in %s, attempt %s\nin process (worker.c)\nin main (worker.c)",
	         h->step ? h->step->event_type : "?", h->attempt);
	return run("SELECT eda.fail($1::uuid, error_message => $2::text, stack_trace => $3::text,"
	           " token => $4::integer, retry => $5::boolean)",
	           5, params);
}

/* Process one event, from after its acquire to eda.succeed() or eda.fail(). */
static void
process(Held *h)
{
	double chance = drand48();
	bool permanent = h->step == NULL || chance < permanent_probability;
	bool failed = permanent || chance < permanent_probability + fail_probability;
	char fact[128] = "";
	char error[128] = "";
	Outcome result;

	if (!work(h))
		return;
	if (h->step == NULL)
		snprintf(error, sizeof(error), "permanent: not a step of a ride");
	else if (failed)
		snprintf(error, sizeof(error), permanent ? "permanent: %s" : "%s",
		         permanent ? h->step->permanent : h->step->transient);
	else
		snprintf(fact, sizeof(fact), h->step->fact, 1 + (int) (drand48() * h->step->upto));

	/*
	 * Report until the outcome is known.  FINISHED is success.  LEASE_LOST means that
	 * another worker does this step, and that our row in the ledger was rolled back.
	 */
	do
	{
		if (!connected())
			return;
		result = failed ? try_fail(h, error, !permanent) : try_succeed(h, fact);
	} while (result == UNKNOWN);
	h->over = true; /* after REFUSED, the engine ends the attempt when the lease ends */
	maybe_crash();
}

/* Release the events that are not done, so that nobody waits for the ends of their leases. */
static void
release(void)
{
	for (Held *h = held; h < held + nheld; h++)
	{
		const char *params[] = {h->event_id, h->token, name};

		if (!h->over && stopping && connected())
			run("SELECT eda.release($1::uuid, $2::integer, reason => 'stopped: ' || $3::text)", 3, params);
		free(h->ride);
		free(h->payload);
	}
	nheld = 0;
}

static void
usage(int status)
{
	fprintf(status ? stderr : stdout,
	        "usage: worker [option ...] [conninfo]\n"
	        "  --name TEXT         name of this worker in the history of events (worker-PID)\n"
	        "  --batch N           acquire up to N events at once; not with NATS (1)\n"
	        "  --work-ms N         an attempt takes about N ms (100)\n"
	        "  --heartbeat-ms N    extend the leases every N ms; must be shorter than every lease (1000)\n"
	        "  --fail P            share of the attempts that fail and may be tried again, 0 to 1 (0.1)\n"
	        "  --permanent P       share of the attempts that fail permanently, 0 to 1 (0.005)\n"
	        "  --crash P           probability to die at each of several points of an attempt, 0 to 1 (0)\n"
	        "%s",
	        source_help);
	exit(status);
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {{"name", required_argument, NULL, 'n'},
	                                        {"batch", required_argument, NULL, 'b'},
	                                        {"work-ms", required_argument, NULL, 'w'},
	                                        {"heartbeat-ms", required_argument, NULL, 'h'},
	                                        {"fail", required_argument, NULL, 'f'},
	                                        {"permanent", required_argument, NULL, 'p'},
	                                        {"crash", required_argument, NULL, 'c'},
	                                        {"help", no_argument, NULL, 'H'},
	                                        {0}};
	struct sigaction action = {.sa_handler = stop};
	int option;

	snprintf(name, sizeof(name), "worker-%d", (int) getpid());
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (option)
		{
			case 'n':
				snprintf(name, sizeof(name), "%s", optarg);
				break;
			case 'b':
				batch = atoi(optarg);
				break;
			case 'w':
				work_ms = atoi(optarg);
				break;
			case 'h':
				heartbeat_ms = atoi(optarg);
				break;
			case 'f':
				fail_probability = atof(optarg);
				break;
			case 'p':
				permanent_probability = atof(optarg);
				break;
			case 'c':
				crash_probability = atof(optarg);
				break;
			default:
				usage(option != 'H');
		}
	if (optind < argc)
		conninfo = argv[optind++];
	if (optind < argc || batch < 1 || batch > MAX_BATCH || heartbeat_ms < 1)
		usage(1);

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	srand48((long) time(NULL) ^ ((long) getpid() << 12));

	while (!stopping && connected())
	{
		source_take();
		for (int i = 0; i < nheld; i++)
			process(&held[i]);
		release();
	}
	source_close();
	PQfinish(conn);
	return 0;
}
