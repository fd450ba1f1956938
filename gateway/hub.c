/*
 * hub.c
 *		The feed: what the engine tells by NOTIFY goes into the ring of the last changes.
 *
 * The feed is a hint.  Anyone can send a forged message, and the engine leaves changes
 * out on purpose when there are too many; seen.c finds that out.  Whatever the feed has
 * not told, we ask the log for: eda_http.changes() tells all that the snapshot of our
 * position does not see (place.c).  What is still to be asked for is the feed's state:
 *
 *                 LISTEN is done                  the engine's numbers are known
 *   FEED_DOWN ──────────────────▶ FEED_LISTENING ────────────────▶ FEED_BEHIND
 *       ▲                               ▲                           │       ▲
 *       │ the connection is lost        │ a message of another      │       │ the feed has left
 *       │                               │ process than the engine   │       │ something out
 *       │                               │               the log has │       │
 *   any state                  FEED_BEHIND, FEED_LIVE   told us all ▼       │
 *                                                                   FEED_LIVE
 *
 * In FEED_LISTENING and FEED_BEHIND, changes that the feed tells are held back until the
 * log has answered: otherwise an event's later steps could reach clients before its
 * earlier ones.  What both the feed and the log tell goes into the ring once.  What goes
 * into it in these states carries no snapshot: a client that went on from there would
 * miss what we are still asking for.
 *
 * Only FEED_LIVE lets changes through at once.  The log is asked in FEED_BEHIND, and also
 * in FEED_LIVE once a second if the feed is not complete (eda.feed is not "full").  One
 * question is under way at a time, and it may outlast the state in which it was asked.
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

#define MAX_CATCH_UP "10000"
#define MAX_HELD 20000 /* changes that are held back for an answer; with more it has taken too long */
#define CHECK_MS 1000  /* how often we look how the engine is, and poll when the feed is not complete */

typedef enum FeedState
{
	FEED_DOWN,      /* we do not listen */
	FEED_LISTENING, /* we listen, but do not know yet how much the engine has read */
	FEED_BEHIND,    /* something was not told: the log is to be asked for it */
	FEED_LIVE       /* all was told */
} FeedState;

/* The question to the log: what does the snapshot of our position not see? */
typedef struct Question
{
	bool under_way;
	bool stale;        /* the connection was lost since it was asked: the answer is ignored */
	bool missed;       /* the feed has left something out since, which the answer may not have */
	bool refused;      /* this is logged already */
	uint64_t asked_at; /* the number that the next change had then */
	char *snapshot;    /* the argument, which must live until the answer is there */
	json_t *told;      /* the keys of the changes that the last answer brought */
} Question;

static const char changes_sql[] = "SELECT body FROM eda_http.changes($1::pg_snapshot, " MAX_CATCH_UP ")";

static const HubEvents *readers;
static PgConnection feed;
static FeedState state = FEED_DOWN;
static bool listen_refused; /* this is logged already */
static json_t *held;        /* the changes that are held back; or NULL */
static Question question;
static bool checking; /* seen_sql is under way */
static uv_timer_t check_timer;
static Text status;
static Text status_told;

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

/* The engine's numbers are known: what it had read until now, the log will tell. */
static void
feed_counted(void)
{
	if (state == FEED_LISTENING)
		state = FEED_BEHIND;
}

/* There is something that the feed has not told. */
static void
feed_fell_behind(void)
{
	question.missed = true;
	if (state == FEED_LIVE)
		state = FEED_BEHIND;
}

/* The log has answered; unless something was missed since it was asked, we have all. */
static void
feed_caught_up(void)
{
	if (state == FEED_BEHIND && !question.missed)
		state = FEED_LIVE;
}

/*
 * The connection is lost.  What was held back, and an answer that is still to come, are
 * not taken any more.  After a crash of the server they may tell steps that it has
 * forgotten, and clients would take those for later than the ones that really followed;
 * and they would move the position past the place that we go back to.
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
	bool up = state != FEED_DOWN && db_is_up();

	text_free(&status);
	text_printf(&status, "{\"database\":\"%s\",\"engine\":", up ? "up" : "down");
	text_json(&status, up ? seen.state : "unknown");
	text_printf(&status, ",\"feed\":\"%s\"}", seen.feed_level);
	return status.data;
}

/* Tell the readers, if the status is another one than they were told. */
static void
hub_tell_status(void)
{
	const char *now = hub_status();

	if (status_told.data != NULL && strcmp(now, status_told.data) == 0)
		return;
	text_free(&status_told);
	text_puts(&status_told, now);
	readers->on_status();
}

static void hub_ask(void);

static void
on_engine_status(void *who, PGresult *result, DbTrouble trouble)
{
	(void) who;
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
	hub_tell_status();
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
 * Changes go into the ring
 * ------------------------------------------------------------------------ */

static const char *
element_text(const json_t *element, const char *key)
{
	const char *s = json_string_value(json_object_get(element, key));

	return s == NULL ? "" : s;
}

/*
 * What an element of the feed and one of the log have in common if they tell the same
 * step.  The state is a part of it because a crash of the server can forget an event's
 * last steps, and then other steps get their versions.
 */
static void
element_key(const json_t *element, char *key, size_t size)
{
	snprintf(key, size, "%.36s/%d/%.20s", element_text(element, "event_id"),
	         (int) json_integer_value(json_object_get(element, "version")), element_text(element, "state"));
}

/* Put an element of the feed or of the log into the ring. */
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

/* Take an element of the feed, unless the log has told it already. */
static void
take_feed_element(json_t *element)
{
	char key[CHANGE_KEY];

	element_key(element, key, sizeof(key));
	if (question.told == NULL || json_object_del(question.told, key) != 0)
		take_element(element);
	else if (state == FEED_LIVE && json_object_get(element, "snapshot") != NULL)
		place_set(element_text(element, "snapshot"), changes_head());
}

/* What was held back is held back no longer. */
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

/* Take the log's elements, but for those that the feed has told since our position. */
static void
take_log_elements(json_t *changes)
{
	json_t *told_by_feed = json_object();
	uint64_t n = place_first_unseen() > changes_tail() ? place_first_unseen() : changes_tail();
	char key[CHANGE_KEY];
	size_t i;
	json_t *element;

	for (; n < changes_head(); n++)
		json_object_set_new(told_by_feed, changes_get(n)->key, json_true());
	json_decref(question.told);
	question.told = json_object();
	json_array_foreach(changes, i, element)
	{
		element_key(element, key, sizeof(key));
		if (json_object_get(told_by_feed, key) != NULL)
			continue;
		json_object_set_new(question.told, key, json_true());
		take_element(element);
	}
	json_decref(told_by_feed);
}

/* ------------------------------------------------------------------------
 * Asking the log
 * ------------------------------------------------------------------------ */

/*
 * More has happened than can be told one by one.  Clients have to read anew what they
 * show, and so has a client that comes back from before: the ring is emptied.
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
		hub_begin_anew("more has happened than can be told");
	else if (snapshot != NULL)
	{
		take_log_elements(changes);
		feed_caught_up();
		place_set(snapshot, question.asked_at);
		if (anew) /* we cannot tell whether clients know all that happened until now */
			readers->on_gap("the gateway has begun anew");
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
	uint64_t before;

	if (answered && PQntuples(result) == 1)
	{
		question.refused = false;
		take_answer(PQgetvalue(result, 0, 0));
	}
	else if (place_is_refused(code) && place_snapshot() != NULL)
	{
		/* The database was restored from a backup, or too much has happened since. */
		hub_begin_anew("what happened since cannot be told");
	}
	else if (result != NULL && !question.refused)
	{
		question.refused = true;
		log_line(LOG_WARN, "the gateway's own role cannot read the changes: %s", PQresultErrorMessage(result));
	}
	/*
	 * Without an answer the same is asked again, and what the feed has told waits for it.
	 * It does not wait where no answer will come: the question is refused (class 42).
	 */
	before = changes_head();
	if (answered || place_is_refused(code) || (code != NULL && strncmp(code, "42", 2) == 0))
		take_held_elements();
	if (changes_head() > before)
		readers->on_changes();
}

static void
on_answer(void *who, PGresult *result, DbTrouble trouble)
{
	bool stale = question.stale;
	bool answered = PQresultStatus(result) == PGRES_TUPLES_OK;

	(void) who;
	(void) trouble;
	question.under_way = question.stale = false;
	if (!stale)
		take_result(result);
	PQclear(result);
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
		log_line(LOG_WARN, "the feed cannot be had: %s", PQresultErrorMessage(result));
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
		/* A new engine, or a forged message: the log knows. */
		feed_begin();
		return;
	}
	message = json_loads(notify->extra, 0, NULL);
	json_array_foreach(message, i, element)
	{
		if (!seen_take_seq(element))
			feed_fell_behind();
		if (json_object_get(element, "flow_type") == NULL)
			feed_fell_behind(); /* eda.feed = ids: it says too little */
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
	hub_tell_status();
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
	hub_tell_status();
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
	json_decref(question.told);
	json_decref(held);
	text_free(&status);
	text_free(&status_told);
}
