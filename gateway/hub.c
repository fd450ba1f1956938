/*
 * hub.c
 *		The feed: what the engine tells by NOTIFY, kept in a ring of the last changes.
 *
 * Clients read from the ring, each from its own position, so one that is slow costs
 * nothing but its place, and is told when the ring has gone past it.
 *
 * The feed is a hint.  A message that another process than the engine sent is
 * forged, and some changes are left out on purpose, which shows as a gap in the
 * numbers, or, when nothing is told after them (an engine that begins tells nothing of
 * what happened before it), in what the engine says that it has read.  The last element
 * of each tick carries a snapshot: "all that it sees has been told".  We remember the
 * last one as our position, and after a new connection, a gap, or with a feed that does
 * not say enough, ask eda_http.changes() for all that the position does not see.  What
 * the feed tells meanwhile is held back until the
 * answer is there, or an event's later steps would be told before its earlier ones;
 * what both tell is left out once.  What clients get until nothing is missing carries
 * no snapshot: one that goes on from there would miss what we are still asking for.
 *
 * A crash of the server forgets transactions that were not written to disk yet (the
 * engine does not wait for that, nor does who rolls back), and gives their numbers
 * again: to a snapshot that has seen the old ones the new ones are nothing new.  So
 * after each loss of the connection we go on from a place of a second before.
 */
#include "gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#define MAX_CATCH_UP "10000"
#define MAX_HELD 20000 /* of the feed, for an answer; then it has been too long in coming */
#define CHECK_MS 1000  /* how often we look how the engine is, and poll when there is no feed */

static const char changes_sql[] = "SELECT body FROM eda_http.changes($1::pg_snapshot, " MAX_CATCH_UP ")";
static const char status_sql[] =
	"SELECT state, pid, current_setting('eda.feed'), transitions_read FROM eda.engine_status";

typedef struct Place
{
	char *snapshot; /* all that it sees is in the ring, or was; NULL: not known */
	uint64_t at;    /* the number of the first change after it */
	uint64_t from;  /* changes from this number on, it may not see */
} Place;

static const HubEvents *readers;
static Link feed;
static uv_timer_t check_timer;
static Place position;
static Place older[2];       /* what it was one and two looks ago, while we listened */
static bool listening;       /* LISTEN has been done */
static bool behind;          /* there is something that the feed did not tell */
static bool asking;          /* changes_sql is under way */
static bool stale;           /* the feed's connection was lost since: its answer is ignored */
static bool missed;          /* something more since it began */
static bool checking;        /* status_sql is */
static uint64_t asked_at;    /* the number of the next change then */
static json_t *told_by_log;  /* the keys of what its last answer told */
static json_t *held;         /* what the feed has told since we are behind; or NULL */
static json_int_t seq_start; /* 0: nothing was heard of this engine yet */
static json_int_t seq_n;
static json_int_t counted = -1; /* by the engine when we began to listen, or later; -1: not asked yet */
static json_int_t told;         /* of this engine's count, by the feed, or by the log when it is asked */

static char engine[160] = "unknown";
static int engine_pid;
static char feed_level[16] = "full";
static Text status;
static Text status_told;

/* A snapshot that sees nothing which a client at this place has not been told; NULL: not known. */
const char *
hub_position(uint64_t at)
{
	return at >= position.at ? position.snapshot : NULL;
}

/* Where a client goes on that has seen all that a snapshot sees; false: the ring does not know. */
bool
hub_find(const char *snapshot, uint64_t *next)
{
	if (position.snapshot != NULL && strcmp(snapshot, position.snapshot) == 0 && position.at >= ring_tail())
	{
		*next = position.at;
		return true;
	}
	return ring_find(snapshot, next);
}

/* ------------------------------------------------------------------------
 * Status
 * ------------------------------------------------------------------------ */

const char *
hub_status(void)
{
	bool up = listening && db_up();

	text_free(&status);
	text_printf(&status, "{\"database\":\"%s\",\"engine\":", up ? "up" : "down");
	text_json(&status, up ? engine : "unknown");
	text_printf(&status, ",\"feed\":\"%s\"}", feed_level);
	return status.data;
}

/* Tell who watches, if there is news. */
static void
status_changed(void)
{
	const char *now = hub_status();

	if (status_told.data != NULL && strcmp(now, status_told.data) == 0)
		return;
	text_free(&status_told);
	text_puts(&status_told, now);
	readers->on_status();
}

static void ask(void);

static void
fall_behind(void)
{
	behind = true;
	missed = true;
}

/*
 * What the engine had read a second ago has been told by now; or it was left out, and
 * nothing told after it.  A feed that is late goes on telling meanwhile.
 */
static void
check_told(int pid, json_int_t read)
{
	static json_int_t told_before;
	static json_int_t read_before;

	if (pid != engine_pid)
		told = read_before = 0;
	if (read_before > told && told == told_before)
	{
		told = read_before;
		fall_behind();
		stats.gaps++;
	}
	told_before = told;
	read_before = read;
}

static void
status_known(void *who, PGresult *result, DbTrouble trouble)
{
	(void) who;
	(void) trouble;
	checking = false;
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
	{
		snprintf(engine, sizeof(engine), "%s", PQgetvalue(result, 0, 0));
		check_told(atoi(PQgetvalue(result, 0, 1)), atoll(PQgetvalue(result, 0, 3)));
		engine_pid = atoi(PQgetvalue(result, 0, 1));
		snprintf(feed_level, sizeof(feed_level), "%s", PQgetvalue(result, 0, 2));
		if (counted < 0)
			counted = atoll(PQgetvalue(result, 0, 3));
	}
	else
		snprintf(engine, sizeof(engine), "unknown");
	PQclear(result);
	status_changed();
	if (behind)
		ask();
}

static void
check_status(void)
{
	if (checking)
		return;
	checking = true;
	db_call(status_sql, 0, NULL, NULL, status_known, NULL);
}

/* ------------------------------------------------------------------------
 * The ring
 * ------------------------------------------------------------------------ */

/* All that is in the ring now, and before, covers what the snapshot sees. */
static void
set_position(const char *snapshot)
{
	free(position.snapshot);
	position = (Place){copy_text(snapshot), ring_head(), ring_head()};
}

static void
copy_place(Place *to, const Place *from)
{
	free(to->snapshot);
	*to = *from;
	to->snapshot = copy_text(from->snapshot);
}

static void
forget_places(void)
{
	free(position.snapshot);
	free(older[0].snapshot);
	free(older[1].snapshot);
	position = older[0] = older[1] = (Place){0};
}

static const char *
text_of(const json_t *element, const char *key)
{
	const char *s = json_string_value(json_object_get(element, key));

	return s == NULL ? "" : s;
}

/* The state is in it because a crash can take the last steps back, and others get their versions. */
static void
key_of(const json_t *element, char *key, size_t size)
{
	snprintf(key, size, "%.36s/%d/%.20s", text_of(element, "event_id"),
	         (int) json_integer_value(json_object_get(element, "version")), text_of(element, "state"));
}

/* One element of the feed, or of the log, goes into the ring; a worker that waits for it is woken. */
static void
take_change(json_t *element)
{
	char *snapshot = behind ? NULL : copy_text(json_string_value(json_object_get(element, "snapshot")));
	Change c = {.event_type = text_of(element, "event_type"),
	            .flow_type = text_of(element, "flow_type"),
	            .flow_id = text_of(element, "flow_id"),
	            .snapshot = snapshot};

	json_object_del(element, "snapshot");
	c.json = json_dumps(element, JSON_COMPACT | JSON_PRESERVE_ORDER);
	if (c.json != NULL)
	{
		key_of(element, c.key, sizeof(c.key));
		ring_add(&c);
		stats.changes++;
		if (snapshot != NULL)
			set_position(snapshot);
		if (strcmp(text_of(element, "state"), "dispatched") == 0)
			readers->on_dispatched(c.flow_type);
	}
	free(c.json);
	free(snapshot);
}

/* An element of the feed, unless the log has told it. */
static void
take_told(json_t *element)
{
	char key[CHANGE_KEY];

	key_of(element, key, sizeof(key));
	if (told_by_log == NULL || json_object_del(told_by_log, key) != 0)
		take_change(element);
	else if (!behind && json_object_get(element, "snapshot") != NULL)
		set_position(text_of(element, "snapshot"));
}

/* What was held back goes into the ring now. */
static void
take_held(void)
{
	json_t *elements = held;
	size_t i;
	json_t *element;

	held = NULL;
	json_array_foreach(elements, i, element) take_told(element);
	json_decref(elements);
}

/* ------------------------------------------------------------------------
 * Asking the log
 * ------------------------------------------------------------------------ */

/* What happened since the position, but for what the feed has told meanwhile. */
static void
take_missed(json_t *changes)
{
	json_t *told_by_feed = json_object();
	char key[CHANGE_KEY];
	size_t i;
	json_t *element;

	for (uint64_t n = position.from > ring_tail() ? position.from : ring_tail(); n < ring_head(); n++)
		json_object_set_new(told_by_feed, ring_change(n)->key, json_true());
	json_decref(told_by_log);
	told_by_log = json_object();
	json_array_foreach(changes, i, element)
	{
		key_of(element, key, sizeof(key));
		if (json_object_get(told_by_feed, key) != NULL)
			continue;
		json_object_set_new(told_by_log, key, json_true());
		take_change(element);
	}
	json_decref(told_by_feed);
}

/*
 * More has happened than can be told one by one: who watches has to look again, also
 * who comes back from before, so the ring is emptied.
 */
static void
begin_anew(const char *reason)
{
	forget_places();
	ring_clear();
	readers->on_gap(reason);
}

static void
take_answer(const char *text)
{
	json_t *answer = json_loads(text, 0, NULL);
	const char *snapshot = json_string_value(json_object_get(answer, "snapshot"));
	json_t *changes = json_object_get(answer, "changes");
	uint64_t before = ring_head();
	bool anew = position.snapshot == NULL;

	if (json_is_false(json_object_get(answer, "complete")))
		begin_anew("more has happened than can be told");
	else if (snapshot != NULL)
	{
		take_missed(changes);
		behind = missed;
		set_position(snapshot);
		position.from = asked_at;
		if (anew) /* what happened until now may have been told, or not */
			readers->on_gap("the gateway has begun anew");
		if (ring_head() > before)
		{
			ring_mark(snapshot);
			readers->on_changes();
		}
	}
	json_decref(answer);
}

static void
answered(void *who, PGresult *result, DbTrouble trouble)
{
	static bool complained = false;
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	uint64_t before;

	(void) who;
	(void) trouble;
	asking = false;
	if (stale)
	{
		stale = false;
		if (behind && PQresultStatus(result) == PGRES_TUPLES_OK)
			ask();
		PQclear(result);
		return;
	}
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
	{
		complained = false;
		take_answer(PQgetvalue(result, 0, 0));
	}
	else if (is_useless_place(code) && position.snapshot != NULL)
	{
		/* From before the database was restored, or too far back. */
		begin_anew("what happened since cannot be told");
	}
	else if (result != NULL && !complained)
	{
		complained = true;
		log_line(LOG_WARN, "the gateway's own role cannot read the changes: %s", PQresultErrorMessage(result));
	}
	/* Without an answer, it is asked again; one that will not be had is not waited for. */
	before = ring_head();
	if (PQresultStatus(result) == PGRES_TUPLES_OK || is_useless_place(code) ||
	    (code != NULL && strncmp(code, "42", 2) == 0))
		take_held();
	if (ring_head() > before)
		readers->on_changes();
	if (behind && PQresultStatus(result) == PGRES_TUPLES_OK)
		ask();
	PQclear(result);
}

/* Ask the log for what the position does not see. */
static void
ask(void)
{
	static char *values[1];

	if (asking || !listening || counted < 0)
		return;
	asking = true;
	missed = false;
	asked_at = ring_head();
	free(values[0]);
	values[0] = copy_text(position.snapshot);
	db_call(changes_sql, 1, values, NULL, answered, NULL);
}

/* Also again, when it was refused: a standby cannot, until it is promoted, which ends no connection. */
static void
listen_to_feed(Link *link)
{
	if (PQsendQuery(link->conn, "LISTEN eda_events"))
		link_flush(link);
	else
		link_lost(link);
}

static void
on_check(uv_timer_t *timer)
{
	(void) timer;
	if (feed.ready && !listening && PQtransactionStatus(feed.conn) == PQTRANS_IDLE)
		listen_to_feed(&feed);
	if (listening)
	{
		copy_place(&older[1], &older[0]);
		copy_place(&older[0], &position);
	}
	status_changed();
	check_status();
	if (behind || strcmp(feed_level, "full") != 0)
		ask();
}

/* ------------------------------------------------------------------------
 * Listening
 * ------------------------------------------------------------------------ */

/* Whether a message's numbers follow on those before; a new engine begins again. */
static void
check_seq(const json_t *element)
{
	const json_t *seq = json_object_get(element, "seq");
	json_int_t start = json_integer_value(json_array_get(seq, 0));
	json_int_t n = json_integer_value(json_array_get(seq, 1));

	/* What the engine had counted before we asked the log for the first time, the log has told. */
	if (seq_start == 0 ? n > counted + 1 : start != seq_start || n != seq_n + 1)
	{
		fall_behind();
		if (seq_start != 0)
			stats.gaps++;
	}
	seq_start = start;
	seq_n = told = n;
}

static void
take_message(const PGnotify *notify)
{
	json_t *message;
	size_t i;
	json_t *element;

	if (notify->be_pid != engine_pid)
	{
		/* A new engine, or a forged message: the log knows. */
		fall_behind();
		seq_start = 0;
		counted = -1;
		check_status();
		return;
	}
	message = json_loads(notify->extra, 0, NULL);
	json_array_foreach(message, i, element)
	{
		check_seq(element);
		if (json_object_get(element, "flow_type") == NULL)
			fall_behind(); /* eda.feed = ids: it says too little */
		else if (!behind)
			take_told(element);
		else
		{
			if (held == NULL)
				held = json_array();
			json_array_append(held, element);
		}
	}
	json_decref(message);
	if (json_array_size(held) > MAX_HELD)
		take_held();
}

static void
on_input(Link *link)
{
	static bool refused = false;
	PGnotify *notify;
	PGresult *result;
	uint64_t before = ring_head();

	while (link->ready && !PQisBusy(link->conn) && (result = PQgetResult(link->conn)) != NULL)
	{
		if (PQresultStatus(result) == PGRES_COMMAND_OK)
		{
			listening = true;
			refused = false;
			counted = -1;
			fall_behind();
			stats.feed_connects++;
			check_status();
		}
		else if (!refused)
		{
			refused = true;
			log_line(LOG_WARN, "the feed cannot be had: %s", PQresultErrorMessage(result));
		}
		PQclear(result);
	}
	while (link->ready && (notify = PQnotifies(link->conn)) != NULL)
	{
		take_message(notify);
		PQfreemem(notify);
	}
	if (ring_head() > before)
		readers->on_changes();
	if (behind)
		ask();
}

static void
on_lost(Link *link)
{
	(void) link;
	listening = false;
	seq_start = 0;
	/*
	 * Neither what was held back nor an answer that is still to come may be taken later:
	 * they may tell, after the log has told what happened instead, steps that a crash has
	 * forgotten, and move the position past the place that we go back to.
	 */
	json_decref(held);
	held = NULL;
	stale = asking;
	if (older[1].snapshot != NULL)
		copy_place(&position, &older[1]);
	status_changed();
}

void
hub_start(const HubEvents *events)
{
	readers = events;
	feed.on_ready = listen_to_feed;
	feed.on_input = on_input;
	feed.on_lost = on_lost;
	link_open(&feed);
	uv_timer_init(loop, &check_timer);
	uv_timer_start(&check_timer, on_check, CHECK_MS, CHECK_MS);
}

void
hub_stop(void)
{
	link_close(&feed);
	uv_close((uv_handle_t *) &check_timer, NULL);
	ring_clear();
	forget_places();
	json_decref(told_by_log);
	json_decref(held);
	text_free(&status);
	text_free(&status_told);
}
