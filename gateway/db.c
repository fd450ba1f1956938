/*
 * db.c
 *		The pool: calls of SQL functions, each on a connection that is free.
 *
 * A connection works as one role at a time.  A call for another role sets it in the
 * same round trip (libpq's pipeline), as does the preparation of a statement that
 * the connection has not seen yet.  All of that is one implicit transaction: if it
 * fails, so has the setting of the role, and the connection forgets which it has.
 */
#include "gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_STATEMENTS 64
#define QUEUE_MS 5000  /* how long a call waits for a free connection */
#define QUEUE_MAX 4096 /* calls that wait */
#define STATEMENT_TIMEOUT "SET statement_timeout = '30s'"

typedef struct Job
{
	struct Job *next;
	const char *sql;
	int nvalues;
	char *const *values;
	char *role;
	DbDone done;
	void *who;
	uint64_t queued_at;
} Job;

typedef struct Worker
{
	Link link;
	struct Worker *next_free;
	bool set_up;
	Job *job;
	char *role; /* that it has; NULL: its own */
	bool role_known;
	const char *prepared[MAX_STATEMENTS];
	int nprepared;
	int settings; /* results to come before the job's own */
	bool preparing;
	bool setting_role;
	bool no_role; /* it could not be set */
	PGresult *result;
} Worker;

static Worker *workers;
static Worker *free_workers; /* the last one used first: its caches are warm */
static Job *queue;
static Job **queue_end = &queue;
static int queued;
static uv_timer_t queue_timer;

static void give_work(void);

/* ------------------------------------------------------------------------
 * Jobs
 * ------------------------------------------------------------------------ */

static void
finish(Job *job, PGresult *result, DbTrouble trouble)
{
	DbDone done = job->done;
	void *who = job->who;

	free(job->role);
	free(job);
	done(who, result, trouble);
}

static Job *
take_job(void)
{
	Job *job = queue;

	queue = job->next;
	if (queue == NULL)
		queue_end = &queue;
	queued--;
	return job;
}

bool
db_up(void)
{
	for (int i = 0; i < config.pool; i++)
		if (workers[i].set_up)
			return true;
	return false;
}

/* No connection, and none that was not tried yet. */
static bool
db_away(void)
{
	for (int i = 0; i < config.pool; i++)
		if (workers[i].set_up || !workers[i].link.failed_before)
			return false;
	return true;
}

/* Calls that have waited for too long, or have nothing to wait for. */
static void
on_queue_timer(uv_timer_t *timer)
{
	bool away = db_away();
	uint64_t now = now_ms();

	(void) timer;
	while (queue != NULL && (away || now - queue->queued_at > QUEUE_MS))
		finish(take_job(), NULL, away || !db_up() ? DB_AWAY : DB_BUSY);
}

/* Call a SQL function as a role (NULL: the gateway's own).  "done" is called once, perhaps from here. */
void
db_call(const char *sql, int nvalues, char *const *values, const char *role, DbDone done, void *who)
{
	Job *job;

	if (queued >= QUEUE_MAX)
	{
		done(who, NULL, DB_BUSY);
		return;
	}
	job = get_memory(sizeof(Job));
	job->sql = sql;
	job->nvalues = nvalues;
	job->values = values;
	job->role = copy_text(role);
	job->done = done;
	job->who = who;
	job->queued_at = now_ms();
	*queue_end = job;
	queue_end = &job->next;
	queued++;
	give_work();
}

/* ------------------------------------------------------------------------
 * Connections
 * ------------------------------------------------------------------------ */

static bool
same_role(const Worker *w, const char *role)
{
	if (!w->role_known)
		return false;
	return role == NULL || w->role == NULL ? role == w->role : strcmp(role, w->role) == 0;
}

static int
statement_number(const Worker *w, const char *sql)
{
	for (int i = 0; i < w->nprepared; i++)
		if (w->prepared[i] == sql)
			return i;
	return -1;
}

/* Send a job's messages; false: the connection is broken. */
static bool
send_job(Worker *w)
{
	Job *job = w->job;
	PGconn *conn = w->link.conn;
	char name[16];
	int n;
	bool ok = true;

	w->settings = 0;
	w->preparing = false;
	w->setting_role = false;
	w->no_role = false;
	if (!same_role(w, job->role))
	{
		const char *values[] = {job->role == NULL ? "none" : job->role};

		ok = PQsendQueryParams(conn, "SELECT set_config('role', $1, false)", 1, NULL, values, NULL, NULL, 0);
		free(w->role);
		w->role = copy_text(job->role);
		w->role_known = true;
		w->setting_role = true;
		w->settings++;
	}
	n = statement_number(w, job->sql);
	if (ok && n < 0 && w->nprepared < MAX_STATEMENTS)
	{
		n = w->nprepared++;
		w->prepared[n] = job->sql;
		snprintf(name, sizeof(name), "s%d", n);
		ok = PQsendPrepare(conn, name, job->sql, job->nvalues, NULL);
		w->preparing = true;
		w->settings++;
	}
	snprintf(name, sizeof(name), "s%d", n);
	if (n >= 0)
		ok = ok && PQsendQueryPrepared(conn, name, job->nvalues, (const char *const *) job->values, NULL, NULL, 0);
	else
		ok = ok &&
		     PQsendQueryParams(conn, job->sql, job->nvalues, NULL, (const char *const *) job->values, NULL, NULL, 0);
	return ok && PQpipelineSync(conn);
}

static void
give_work(void)
{
	while (queue != NULL && free_workers != NULL)
	{
		Worker *w = free_workers;

		free_workers = w->next_free;
		w->job = take_job();
		if (send_job(w))
			link_flush(&w->link);
		else
			link_lost(&w->link);
	}
}

/* The call is over: whatever failed, what came before it in the pipeline is undone too. */
static void
job_over(Worker *w)
{
	Job *job = w->job;
	PGresult *result = w->result;
	ExecStatusType status = PQresultStatus(result);

	w->job = NULL;
	w->result = NULL;
	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
	{
		w->role_known = false;
		if (w->preparing) /* a prepared statement survives the end of its transaction; this one was not made */
			w->nprepared--;
	}
	w->next_free = free_workers;
	free_workers = w;
	finish(job, result, w->no_role ? DB_NO_ROLE : DB_FINE);
	give_work();
}

static void
on_input(Link *link)
{
	Worker *w = link->owner;
	PGresult *result;

	while (link->ready && !PQisBusy(link->conn))
	{
		result = PQgetResult(link->conn);
		if (result == NULL)
		{
			if (w->job == NULL)
				return;
			continue; /* between two results of a pipeline */
		}
		if (!w->set_up)
		{
			PQclear(result);
			while ((result = PQgetResult(link->conn)) != NULL)
				PQclear(result);
			if (!PQenterPipelineMode(link->conn))
			{
				link_lost(link);
				return;
			}
			w->set_up = true;
			w->next_free = free_workers;
			free_workers = w;
			give_work();
			return;
		}
		switch (PQresultStatus(result))
		{
			case PGRES_PIPELINE_SYNC:
				PQclear(result);
				job_over(w);
				return; /* what comes next came too early, or is the next job's */
			case PGRES_PIPELINE_ABORTED:
				PQclear(result);
				break;
			case PGRES_FATAL_ERROR:
				PQclear(w->result);
				w->result = result;
				w->settings = 0;
				w->no_role = w->setting_role;
				break;
			default:
				if (w->settings > 0)
				{
					PQclear(result);
					w->setting_role = false; /* it comes first */
					if (--w->settings == 0)
						w->preparing = false;
				}
				else
				{
					PQclear(w->result);
					w->result = result;
				}
		}
	}
}

static void
on_ready(Link *link)
{
	Worker *w = link->owner;

	w->role_known = true;
	w->nprepared = 0;
	if (PQsendQuery(link->conn, STATEMENT_TIMEOUT))
		link_flush(link);
	else
		link_lost(link);
}

static void
on_lost(Link *link)
{
	Worker *w = link->owner;
	Job *job = w->job;
	PGresult *result = w->result;

	for (Worker **p = &free_workers; *p != NULL; p = &(*p)->next_free)
		if (*p == w)
		{
			*p = w->next_free;
			break;
		}
	free(w->role);
	w->role = NULL;
	w->role_known = false;
	w->set_up = false;
	w->job = NULL;
	w->result = NULL;
	if (job == NULL)
	{
		PQclear(result);
		return;
	}
	/* It would have been committed with the pipeline's end, which did not come. */
	if (PQresultStatus(result) != PGRES_FATAL_ERROR)
	{
		PQclear(result);
		result = NULL;
	}
	/* An error that came before the end says more than that it is the end. */
	finish(job, result, result == NULL ? DB_LOST : DB_FINE);
}

void
db_start(void)
{
	workers = get_memory(sizeof(Worker) * config.pool);
	for (int i = 0; i < config.pool; i++)
	{
		workers[i].link.owner = &workers[i];
		workers[i].link.on_ready = on_ready;
		workers[i].link.on_input = on_input;
		workers[i].link.on_lost = on_lost;
		link_open(&workers[i].link);
	}
	uv_timer_init(loop, &queue_timer);
	uv_timer_start(&queue_timer, on_queue_timer, 50, 50);
}

/* Close the connections; calls under way are not answered any more. */
void
db_stop(void)
{
	uv_close((uv_handle_t *) &queue_timer, NULL);
	while (queue != NULL)
		finish(take_job(), NULL, DB_AWAY);
	for (int i = 0; i < config.pool; i++)
	{
		Worker *w = &workers[i];
		Job *job = w->job;

		link_close(&w->link);
		free(w->role);
		PQclear(w->result);
		w->job = NULL;
		if (job != NULL)
			finish(job, NULL, DB_AWAY);
	}
}
