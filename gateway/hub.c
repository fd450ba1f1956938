/*
 * hub.c
 *		The feed: changes that the engine publishes by NOTIFY go into the list of the last
 *		changes.
 *
 * The feed is a hint.  Anyone can send a forged message, and the engine omits changes on
 * purpose when there are too many; seen.c notices that by the engine's numbers.  We ask
 * the log for omitted changes: eda_http.changes() returns every change that the snapshot
 * of our position does not see (place.c).  The feed's state says how far we are with that:
 *
 *                 LISTEN is done                  the engine's numbers are known
 *   FEED_DOWN ──────────────────▶ FEED_LISTENING ────────────────▶ FEED_BEHIND
 *       ▲                               ▲                           │       ▲
 *       │ the connection is lost        │ a message from another    │       │ the feed has
 *       │                               │ process than the engine   │       │ omitted changes
 *       │                               │                           │       │
 *   any state                  FEED_BEHIND, FEED_LIVE               ▼       │
 *                                                                   FEED_LIVE
 *                                                      the log has returned all
 *
 * In FEED_LISTENING and FEED_BEHIND, changes from the feed are held back until the log has
 * answered: otherwise an event's later steps could reach clients before its earlier ones.
 * A change that both the feed and the log contain goes into the list once.  Changes that
 * go into the list in these states carry no snapshot: a client that continued from there
 * would miss those that we are still asking for.
 *
 * In FEED_LIVE, changes from the feed go into the list at once.  The log is asked in
 * FEED_BEHIND, and also in FEED_LIVE once a second if the feed is not complete (eda.feed
 * is not "full").  One question is under way at a time, and it may outlast the state in
 * which it was asked.
 *
 * A gateway that has just been started has no position, so its first question asks for
 * nothing and only fetches a snapshot.  What was committed before that snapshot is never
 * sent.  So until the log has answered, the status that clients are told says that the
 * database is down, and a client that is told "up" is sent everything from then on.
 */
#include "hub.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <libpq-fe.h>
#include <uv.h>

#include "changes.h"
#include "db.h"
#include "log.h"
#include "loop.h"
#include "memory.h"
#include "pgconn.h"
#include "place.h"
#include "seen.h"
#include "stats.h"
#include "text.h"

#define MAX_CATCH_UP "10000" /* changes in one answer of the log, at most */
#define MAX_HELD 20000       /* changes that are held back for an answer, at most */
#define CHECK_MS 1000        /* how often we ask how the engine is, and poll an incomplete feed */

typedef enum FeedState
{
	FEED_DOWN,      /* we do not listen */
	FEED_LISTENING, /* we listen, but do not know yet how much the engine has read */
	FEED_BEHIND,    /* the feed has omitted changes: the log is asked for them */
	FEED_LIVE       /* we have all changes */
} FeedState;

/* The question to the log: what does the snapshot of our position not see? */
typedef struct Question
{
	bool under_way;
	bool stale;        /* the connection was lost since it was asked: the answer is ignored */
	bool missed;       /* the feed has omitted changes since then, which the answer may not contain */
	bool refused;      /* this is logged already */
	uint64_t asked_at; /* the number that the next change had then */
	char *snapshot;    /* the argument, which must live until the answer is there */
	json_t *answered;  /* the keys of the changes in the last answer */
} Question;

static const char changes_sql[] = "SELECT body FROM eda_http.changes($1::pg_snapshot, " MAX_CATCH_UP ")";

static const HubEvents *readers;
static PgConnection feed;
static FeedState state = FEED_DOWN;
static bool begun;          /* the log has answered a question, or never will */
static bool listen_refused; /* this is logged already */
static json_t *held;        /* the changes that are held back; or NULL */
static Question question;
static bool checking; /* seen_sql is under way */
static uv_timer_t check_timer;
static Text status;
static Text status_sent;

/* ------------------------------------------------------------------------
 * Transitions
 * ------------------------------------------------------------------------ */

static void hub_check_engine(void);

/* LISTEN is done, or another process than the engine that we know sends messages. */
static void
feed_begin(void)
{
	state = FEED_LISTENING;
	question.missed = true;
	seen_begin();
	hub_check_engine();
}

/* The engine's numbers are known; the log has all that it has read until now. */
static void
feed_counted(void)
{
	if (state == FEED_LISTENING)
		state = FEED_BEHIND;
}

/* The feed has omitted changes. */
static void
feed_fell_behind(void)
{
	question.missed = true;
	if (state == FEED_LIVE)
		state = FEED_BEHIND;
}

/* The log has answered.  Unless the feed has omitted changes since we asked, we have all. */
static void
feed_caught_up(void)
{
	if (state == FEED_BEHIND && !question.missed)
		state = FEED_LIVE;
}

/*
 * The connection is lost.  Changes that were held back, and an answer that is still to
 * come, are dropped.  After a crash of the server they may contain steps that the server
 * has forgotten, and clients would take those for later than the steps that really
 * happened.  They would also move our position past the place that we go back to.
 */
static void
feed_went_down(void)
{
	state = FEED_DOWN;
	json_decref(held);
	held = NULL;
	question.stale = question.under_way;
	place_go_back();
}

/* ------------------------------------------------------------------------
 * Status
 * ------------------------------------------------------------------------ */

const char *
hub_status(void)
{
	bool up = state != FEED_DOWN && begun && db_is_up();

	text_free(&status);
	text_printf(&status, "{\"database\":\"%s\",\"engine\":", up ? "up" : "down");
	text_json(&status, up ? seen.state : "unknown");
	text_printf(&status, ",\"feed\":\"%s\"}", seen.feed_level);
	return status.data;
}

/* Tell the readers when the status is not the one that they were last told. */
static void
hub_report_status(void)
{
	const char *now = hub_status();

	if (status_sent.data != NULL && strcmp(now, status_sent.data) == 0)
		return;
	text_free(&status_sent);
	text_puts(&status_sent, now);
	readers->on_status();
}

static void hub_ask(void);

static void
on_engine_status(void *arg, PGresult *result, DbTrouble trouble)
{
	(void) arg;
	(void) trouble;
	checking = false;
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
	{
		if (!seen_take_status(result))
			feed_fell_behind();
		feed_counted();
	}
	else
		seen_take_nothing();
	PQclear(result);
	hub_report_status();
	if (state == FEED_BEHIND)
		hub_ask();
}

static void
hub_check_engine(void)
{
	if (checking)
		return;
	checking = true;
	db_call(seen_sql, 0, NULL, NULL, on_engine_status, NULL);
}

/* ------------------------------------------------------------------------
 * Changes go into the list
 * ------------------------------------------------------------------------ */

static const char *
element_text(const json_t *element, const char *key)
{
	const char *s = json_string_value(json_object_get(element, key));

	return s == NULL ? "" : s;
}

/*
 * The key by which an element of the feed and one of the log are known to be the same
 * step.  It contains the state because after a crash of the server an event's last steps
 * may be forgotten, and other steps have their versions.
 */
static void
element_key(const json_t *element, char *key, size_t size)
{
	snprintf(key, size, "%.36s/%d/%.20s", element_text(element, "event_id"),
	         (int) json_integer_value(json_object_get(element, "version")), element_text(element, "state"));
}

/* Put an element of the feed or of the log into the list of changes. */
static void
take_element(json_t *element)
{
	char *snapshot =
		state == FEED_LIVE ? memory_copy_text(json_string_value(json_object_get(element, "snapshot"))) : NULL;
	Change c = {.event_type = element_text(element, "event_type"),
	            .flow_type = element_text(element, "flow_type"),
	            .flow_id = element_text(element, "flow_id"),
	            .snapshot = snapshot};

	json_object_del(element, "snapshot");
	c.json = json_dumps(element, JSON_COMPACT | JSON_PRESERVE_ORDER);
	if (c.json != NULL)
	{
		element_key(element, c.key, sizeof(c.key));
		changes_add(&c);
		stats.changes++;
		if (snapshot != NULL)
			place_set(snapshot, changes_head());
		if (strcmp(element_text(element, "state"), "dispatched") == 0)
			readers->on_dispatched(c.flow_type);
	}
	free(c.json);
	free(snapshot);
}

/* Take an element of the feed, unless the log's answer contained it. */
static void
take_feed_element(json_t *element)
{
	char key[CHANGE_KEY];

	element_key(element, key, sizeof(key));
	if (question.answered == NULL || json_object_del(question.answered, key) != 0)
		take_element(element);
	else if (state == FEED_LIVE && json_object_get(element, "snapshot") != NULL)
		place_set(element_text(element, "snapshot"), changes_head());
}

/* Take the elements of the feed that were held back. */
static void
take_held_elements(void)
{
	json_t *elements = held;
	size_t i;
	json_t *element;

	held = NULL;
	json_array_foreach(elements, i, element) take_feed_element(element);
	json_decref(elements);
}

/*
 * Take the elements of the log's answer, except those that came from the feed since our
 * position.
 */
static void
take_log_elements(json_t *changes)
{
	json_t *feed_keys = json_object();
	uint64_t n = place_first_unseen() > changes_tail() ? place_first_unseen() : changes_tail();
	char key[CHANGE_KEY];
	size_t i;
	json_t *element;

	for (; n < changes_head(); n++)
		json_object_set_new(feed_keys, changes_get(n)->key, json_true());
	json_decref(question.answered);
	question.answered = json_object();
	json_array_foreach(changes, i, element)
	{
		element_key(element, key, sizeof(key));
		if (json_object_get(feed_keys, key) != NULL)
			continue;
		json_object_set_new(question.answered, key, json_true());
		take_element(element);
	}
	json_decref(feed_keys);
}

/* ------------------------------------------------------------------------
 * Asking the log
 * ------------------------------------------------------------------------ */

/*
 * There are changes that we cannot send.  Clients have to read again what they show.  The
 * list is emptied, so that a client which continues from an earlier place has to, too.
 */
static void
hub_begin_anew(const char *reason)
{
	place_forget();
	changes_clear();
	readers->on_gap(reason);
}

static void
take_answer(const char *text)
{
	json_t *answer = json_loads(text, 0, NULL);
	const char *snapshot = json_string_value(json_object_get(answer, "snapshot"));
	json_t *changes = json_object_get(answer, "changes");
	uint64_t before = changes_head();
	bool anew = place_snapshot() == NULL;

	if (json_is_false(json_object_get(answer, "complete")))
		hub_begin_anew("more has happened than can be sent");
	else if (snapshot != NULL)
	{
		take_log_elements(changes);
		feed_caught_up();
		place_set(snapshot, question.asked_at);
		if (anew) /* nobody knows whether clients have seen all that happened until now */
			readers->on_gap("the gateway has just begun to listen");
		if (changes_head() > before)
		{
			changes_mark(snapshot);
			readers->on_changes();
		}
	}
	json_decref(answer);
}

/* The log has answered, if only with an error. */
static void
take_result(const PGresult *result)
{
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	bool answered = PQresultStatus(result) == PGRES_TUPLES_OK;
	bool forbidden = code != NULL && strncmp(code, "42", 2) == 0;
	uint64_t before;

	if (answered && PQntuples(result) == 1)
	{
		question.refused = false;
		begun = true;
		take_answer(PQgetvalue(result, 0, 0));
	}
	else if (place_is_refused(code) && place_snapshot() != NULL)
	{
		/* The database was restored from a backup, or too much has happened since. */
		hub_begin_anew("the changes since the last one cannot be read");
	}
	else if (result != NULL && !question.refused)
	{
		question.refused = true;
		log_line(LOG_WARN, "the gateway's own role cannot read the changes: %s", PQresultErrorMessage(result));
	}
	/*
	 * Without an answer, the next check asks again, and elements of the feed are held back
	 * until then.  But if the question is refused (class 42), no answer will come.
	 */
	begun = begun || forbidden;
	before = changes_head();
	if (answered || place_is_refused(code) || forbidden)
		take_held_elements();
	if (changes_head() > before)
		readers->on_changes();
}

static void
on_answer(void *arg, PGresult *result, DbTrouble trouble)
{
	bool stale = question.stale;
	bool answered = PQresultStatus(result) == PGRES_TUPLES_OK;

	(void) arg;
	(void) trouble;
	question.under_way = question.stale = false;
	if (!stale)
		take_result(result);
	PQclear(result);
	hub_report_status();
	/* After an error, the next check asks again. */
	if (state == FEED_BEHIND && answered)
		hub_ask();
}

/* Ask the log for what our position does not see. */
static void
hub_ask(void)
{
	if (question.under_way || state == FEED_DOWN || state == FEED_LISTENING)
		return;
	question.under_way = true;
	question.missed = false;
	question.asked_at = changes_head();
	free(question.snapshot);
	question.snapshot = memory_copy_text(place_snapshot());
	db_call(changes_sql, 1, &question.snapshot, NULL, on_answer, NULL);
}

/* ------------------------------------------------------------------------
 * Listening
 * ------------------------------------------------------------------------ */

static void
feed_listen(PgConnection *pg)
{
	if (PQsendQuery(pg->conn, "LISTEN eda_events"))
		pgconn_flush(pg);
	else
		pgconn_reconnect(pg);
}

static void
on_listen_result(const PGresult *result)
{
	if (PQresultStatus(result) == PGRES_COMMAND_OK)
	{
		listen_refused = false;
		stats.feed_connects++;
		feed_begin();
	}
	else if (!listen_refused)
	{
		listen_refused = true;
		log_line(LOG_WARN, "cannot listen to the feed, will try again: %s", PQresultErrorMessage(result));
	}
}

static void
take_message(const PGnotify *notify)
{
	json_t *message;
	size_t i;
	json_t *element;

	if (notify->be_pid != seen.pid)
	{
		/* The engine has been restarted, or the message is forged: ask the log instead. */
		feed_begin();
		return;
	}
	message = json_loads(notify->extra, 0, NULL);
	json_array_foreach(message, i, element)
	{
		if (!seen_take_seq(element))
			feed_fell_behind();
		if (json_object_get(element, "flow_type") == NULL)
			feed_fell_behind(); /* eda.feed = ids: the element says too little */
		else if (state == FEED_LIVE)
			take_feed_element(element);
		else
		{
			if (held == NULL)
				held = json_array();
			json_array_append(held, element);
		}
	}
	json_decref(message);
	if (json_array_size(held) > MAX_HELD)
		take_held_elements();
}

static void
on_feed_input(PgConnection *pg)
{
	PGnotify *notify;
	PGresult *result;
	uint64_t before = changes_head();

	while (pg->ready && !PQisBusy(pg->conn) && (result = PQgetResult(pg->conn)) != NULL)
	{
		on_listen_result(result);
		PQclear(result);
	}
	while (pg->ready && (notify = PQnotifies(pg->conn)) != NULL)
	{
		take_message(notify);
		PQfreemem(notify);
	}
	if (changes_head() > before)
		readers->on_changes();
	if (state == FEED_BEHIND)
		hub_ask();
}

static void
on_feed_lost(PgConnection *pg)
{
	(void) pg;
	feed_went_down();
	hub_report_status();
}

static void
on_check(uv_timer_t *timer)
{
	(void) timer;
	/*
	 * LISTEN was refused: a standby does not allow it.  Try again, as the connection
	 * stays when the standby is promoted.
	 */
	if (feed.ready && state == FEED_DOWN && PQtransactionStatus(feed.conn) == PQTRANS_IDLE)
		feed_listen(&feed);
	if (state != FEED_DOWN)
		place_look();
	hub_report_status();
	hub_check_engine();
	if (state == FEED_BEHIND || strcmp(seen.feed_level, "full") != 0)
		hub_ask();
}

void
hub_start(const HubEvents *events)
{
	readers = events;
	feed.on_ready = feed_listen;
	feed.on_input = on_feed_input;
	feed.on_lost = on_feed_lost;
	pgconn_open(&feed);
	uv_timer_init(loop, &check_timer);
	uv_timer_start(&check_timer, on_check, CHECK_MS, CHECK_MS);
}

void
hub_stop(void)
{
	state = FEED_DOWN; /* ask nothing more */
	pgconn_close(&feed);
	uv_close((uv_handle_t *) &check_timer, NULL);
	changes_clear();
	place_forget();
	json_decref(question.answered);
	json_decref(held);
	text_free(&status);
	text_free(&status_sent);
}
