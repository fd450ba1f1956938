/*
 * db.c
 *		The pool: calls of SQL functions, each on a connection that is free.
 *
 * A call that finds no free connection waits in a queue.  A connection is called a worker
 * here, and a call is its job.
 *
 * A worker keeps the role of its last job.  For a job of another role it sends the setting
 * of the role ahead of the call, in the same round trip (libpq's pipeline); and so the
 * preparation of a statement that is new to the connection.  The whole pipeline is one
 * implicit transaction.  When it fails, the role is what it was before, or is not known:
 * so the next job sets it again.
 */
#include "db.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libpq-fe.h>
#include <uv.h>

#include "config.h"
#include "loop.h"
#include "memory.h"
#include "pgconn.h"

#define MAX_STATEMENTS 64
#define QUEUE_MS 5000  /* how long a call waits for a free connection */
#define QUEUE_MAX 4096 /* calls that wait at most */
#define STATEMENT_TIMEOUT "SET statement_timeout = '30s'"

typedef struct Job
{
	struct Job *next;
	const char *sql;
	int nvalues;
	char *const *values;
	char *role;
	DbDone done;
	void *arg;
	uint64_t queued_at;
} Job;

typedef struct Worker
{
	PgConnection pg;
	struct Worker *next_free;
	bool set_up;
	Job *job;
	char *role; /* its present role; NULL: that of the connection string */
	bool role_known;
	const char *prepared[MAX_STATEMENTS];
	int nprepared;
	int settings; /* results that are to come before the job's own */
	bool preparing;
	bool setting_role;
	bool no_role; /* the role could not be set */
	PGresult *result;
} Worker;

static Worker *workers;
static Worker *free_workers; /* the last one used comes first, as its caches are warm */
static Job *queue;
static Job **queue_end = &queue;
static int queued;
static uv_timer_t queue_timer;

static void give_jobs(void);

/* ------------------------------------------------------------------------
 * Jobs
 * ------------------------------------------------------------------------ */

static void
job_finish(Job *job, PGresult *result, DbTrouble trouble)
{
	DbDone done = job->done;
	void *arg = job->arg;

	free(job->role);
	free(job);
	done(arg, result, trouble);
}

static Job *
job_take(void)
{
	Job *job = queue;

	queue = job->next;
	if (queue == NULL)
		queue_end = &queue;
	queued--;
	return job;
}

bool
db_is_up(void)
{
	for (int i = 0; i < config.pool; i++)
		if (workers[i].set_up)
			return true;
	return false;
}

/* Whether every connection has been tried, and none could be made. */
static bool
db_is_away(void)
{
	for (int i = 0; i < config.pool; i++)
		if (workers[i].set_up || !workers[i].pg.failed_before)
			return false;
	return true;
}

/* End the calls that have waited for too long, or all of them when there is no connection. */
static void
on_queue_timer(uv_timer_t *timer)
{
	bool away = db_is_away();
	uint64_t now = loop_now_ms();

	(void) timer;
	while (queue != NULL && (away || now - queue->queued_at > QUEUE_MS))
		job_finish(job_take(), NULL, away || !db_is_up() ? DB_AWAY : DB_BUSY);
}

/*
 * Call a SQL function as a role (NULL: that of the connection string).  "done" is called
 * once, perhaps before this returns; "sql" and "values" must live until then.  "sql" is
 * also the name of its prepared statement: the same text must have the same address.
 */
void
db_call(const char *sql, int nvalues, char *const *values, const char *role, DbDone done, void *arg)
{
	Job *job;

	if (queued >= QUEUE_MAX)
	{
		done(arg, NULL, DB_BUSY);
		return;
	}
	job = memory_get(sizeof(Job));
	job->sql = sql;
	job->nvalues = nvalues;
	job->values = values;
	job->role = memory_copy_text(role);
	job->done = done;
	job->arg = arg;
	job->queued_at = loop_now_ms();
	*queue_end = job;
	queue_end = &job->next;
	queued++;
	give_jobs();
}

/* ------------------------------------------------------------------------
 * Connections
 * ------------------------------------------------------------------------ */

static bool
worker_has_role(const Worker *w, const char *role)
{
	if (!w->role_known)
		return false;
	return role == NULL || w->role == NULL ? role == w->role : strcmp(role, w->role) == 0;
}

static int
worker_statement(const Worker *w, const char *sql)
{
	for (int i = 0; i < w->nprepared; i++)
		if (w->prepared[i] == sql)
			return i;
	return -1;
}

/* Send the messages of a worker's job; false: the connection is broken. */
static bool
worker_send_job(Worker *w)
{
	Job *job = w->job;
	PGconn *conn = w->pg.conn;
	char name[16];
	int n;
	bool ok = true;

	w->settings = 0;
	w->preparing = false;
	w->setting_role = false;
	w->no_role = false;
	if (!worker_has_role(w, job->role))
	{
		const char *values[] = {job->role == NULL ? "none" : job->role};

		ok = PQsendQueryParams(conn, "SELECT set_config('role', $1, false)", 1, NULL, values, NULL, NULL, 0);
		free(w->role);
		w->role = memory_copy_text(job->role);
		w->role_known = true;
		w->setting_role = true;
		w->settings++;
	}
	n = worker_statement(w, job->sql);
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
give_jobs(void)
{
	while (queue != NULL && free_workers != NULL)
	{
		Worker *w = free_workers;

		free_workers = w->next_free;
		w->job = job_take();
		if (worker_send_job(w))
			pgconn_flush(&w->pg);
		else
			pgconn_reconnect(&w->pg);
	}
}

/*
 * The pipeline has ended, and with it the job.  After a failure all of the pipeline is
 * undone, so the role may be another one than we have set.
 */
static void
worker_job_over(Worker *w)
{
	Job *job = w->job;
	PGresult *result = w->result;
	ExecStatusType status = PQresultStatus(result);

	w->job = NULL;
	w->result = NULL;
	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
	{
		w->role_known = false;
		/*
		 * A prepared statement would survive the transaction's end.  This one was not
		 * made: the failure came before it, or it was the failure.
		 */
		if (w->preparing)
			w->nprepared--;
	}
	w->next_free = free_workers;
	free_workers = w;
	job_finish(job, result, w->no_role ? DB_NO_ROLE : DB_FINE);
	give_jobs();
}

static void
on_worker_input(PgConnection *pg)
{
	Worker *w = pg->owner;
	PGresult *result;

	while (pg->ready && !PQisBusy(pg->conn))
	{
		result = PQgetResult(pg->conn);
		if (result == NULL)
		{
			if (w->job == NULL)
				return;
			continue; /* libpq says so between two results of a pipeline */
		}
		if (!w->set_up)
		{
			PQclear(result);
			while ((result = PQgetResult(pg->conn)) != NULL)
				PQclear(result);
			if (!PQenterPipelineMode(pg->conn))
			{
				pgconn_reconnect(pg);
				return;
			}
			w->set_up = true;
			w->next_free = free_workers;
			free_workers = w;
			give_jobs();
			return;
		}
		switch (PQresultStatus(result))
		{
			case PGRES_PIPELINE_SYNC:
				PQclear(result);
				worker_job_over(w);
				return; /* whatever is in the buffer now belongs to the next job */
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
					w->setting_role = false; /* the role is set before all else, so it is set now */
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
on_worker_ready(PgConnection *pg)
{
	Worker *w = pg->owner;

	w->role_known = true;
	w->nprepared = 0;
	if (PQsendQuery(pg->conn, STATEMENT_TIMEOUT))
		pgconn_flush(pg);
	else
		pgconn_reconnect(pg);
}

static void
on_worker_lost(PgConnection *pg)
{
	Worker *w = pg->owner;
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
	/*
	 * A result is of no use without the end of the pipeline, at which the transaction
	 * commits: nobody knows whether it did.
	 */
	if (PQresultStatus(result) != PGRES_FATAL_ERROR)
	{
		PQclear(result);
		result = NULL;
	}
	/* But an error came instead of a commit, and says why the connection was lost. */
	job_finish(job, result, result == NULL ? DB_LOST : DB_FINE);
}

void
db_start(void)
{
	workers = memory_get(sizeof(Worker) * config.pool);
	for (int i = 0; i < config.pool; i++)
	{
		workers[i].pg.owner = &workers[i];
		workers[i].pg.on_ready = on_worker_ready;
		workers[i].pg.on_input = on_worker_input;
		workers[i].pg.on_lost = on_worker_lost;
		pgconn_open(&workers[i].pg);
	}
	uv_timer_init(loop, &queue_timer);
	uv_timer_start(&queue_timer, on_queue_timer, 50, 50);
}

/* Close the connections; calls under way end with DB_AWAY. */
void
db_stop(void)
{
	uv_close((uv_handle_t *) &queue_timer, NULL);
	while (queue != NULL)
		job_finish(job_take(), NULL, DB_AWAY);
	for (int i = 0; i < config.pool; i++)
	{
		Worker *w = &workers[i];
		Job *job = w->job;

		pgconn_close(&w->pg);
		free(w->role);
		PQclear(w->result);
		w->job = NULL;
		if (job != NULL)
			job_finish(job, NULL, DB_AWAY);
	}
}
