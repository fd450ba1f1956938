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
 * what happened before it), in what the engine says that it has read.  The last element of each tick carries a snapshot: "all that it sees has
 * been told".  We remember the last one as our position, and after a new connection,
 * a gap, or with a feed that does not say enough, ask eda_http.changes() for all that
 * the position does not see.  What the feed tells meanwhile is held back until the
 * answer is there, or an event's later steps would be told before its earlier ones;
 * what both tell is left out once.  What clients get until nothing is missing carries
 * no snapshot: one that goes on from there would miss what we are still asking for.
 */
#include "gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#define RING_SIZE 131072
#define RING_BYTES (64 << 20)
#define MAX_CATCH_UP "10000"
#define MAX_HELD 20000 /* of the feed, for an answer; then it has been too long in coming */
#define CHECK_MS 1000  /* how often we look how the engine is, and poll when there is no feed */

static const char changes_sql[] = "SELECT body FROM eda_http.changes($1::pg_snapshot, " MAX_CATCH_UP ")";
static const char status_sql[] =
	"SELECT state, pid, current_setting('eda.feed'), transitions_read FROM eda.engine_status";

static Link feed;
static uv_timer_t check_timer;
static Change ring[RING_SIZE];
static uint64_t head = 1;
static uint64_t tail = 1;
static size_t ring_bytes;

static char *position;       /* a snapshot: all that it sees is in the ring, or was */
static uint64_t position_at; /* the number of the first change after it */
static bool listening;       /* LISTEN has been done */
static bool behind;          /* there is something that the feed did not tell */
static bool asking;          /* changes_sql is under way */
static bool missed;          /* something more since it began */
static bool checking;        /* status_sql is */
static uint64_t asked_at;    /* the number of the next change then */
static uint64_t told_from;   /* changes from this number on, the position may not see */
static json_t *told_by_log;  /* "event id/version" of what its last answer told */
static json_t *held;         /* what the feed has told since we are behind; or NULL */
static json_int_t seq_start; /* 0: nothing was heard of this engine yet */
static json_int_t seq_n;
static json_int_t counted = -1; /* by the engine when we began to listen, or later; -1: not asked yet */
static json_int_t told;         /* of this engine's count, by the feed, or by the log when it is asked */
static json_int_t read_before;  /* its count when it was looked at the last time */

static char engine[160] = "unknown";
static int engine_pid;
static char feed_level[16] = "full";
static Text status;
static Text status_told;

uint64_t
hub_head(void)
{
	return head;
}

uint64_t
hub_tail(void)
{
	return tail;
}

const Change *
hub_change(uint64_t n)
{
	return &ring[n % RING_SIZE];
}

/* A snapshot that sees nothing which a client at this place has not been told; NULL: not known. */
const char *
hub_position(uint64_t at)
{
	return at >= position_at ? position : NULL;
}

/* Where a client goes on that has seen all that a snapshot sees; false: the ring does not know. */
bool
hub_find(const char *snapshot, uint64_t *next)
{
	if (position != NULL && strcmp(snapshot, position) == 0 && position_at >= tail)
	{
		*next = position_at;
		return true;
	}
	for (uint64_t n = head; n > tail; n--)
	{
		const Change *c = hub_change(n - 1);

		if (c->snapshot != NULL && strcmp(c->snapshot, snapshot) == 0)
		{
			*next = n;
			return true;
		}
	}
	return false;
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
	stream_status();
}

static void ask(void);

static void
fall_behind(void)
{
	behind = true;
	missed = true;
}

/* What the engine had read a second ago has been told by now, or was left out and nothing told after it. */
static void
check_told(int pid, json_int_t read)
{
	if (pid != engine_pid)
		told = read_before = 0;
	if (read_before > told)
	{
		told = read_before;
		fall_behind();
		stats.gaps++;
	}
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

static void
drop_oldest(void)
{
	Change *c = &ring[tail % RING_SIZE];

	ring_bytes -= c->json_size;
	free(c->json);
	free(c->snapshot);
	*c = (Change){0};
	tail++;
}

/* All that is in the ring now, and before, covers what the snapshot sees. */
static void
set_position(const char *snapshot)
{
	free(position);
	position = copy_text(snapshot);
	position_at = head;
	told_from = head;
}

static const char *
text_of(const json_t *element, const char *key)
{
	const char *s = json_string_value(json_object_get(element, key));

	return s == NULL ? "" : s;
}

/* Keep a text in the memory after a change's JSON. */
static const char *
keep(char **at, const char *s)
{
	size_t size = strlen(s) + 1;
	char *start = *at;

	memcpy(start, s, size);
	*at += size;
	return start;
}

static void
key_of(const json_t *element, char *key, size_t size)
{
	snprintf(key, size, "%.36s/%lld", text_of(element, "event_id"),
	         (long long) json_integer_value(json_object_get(element, "version")));
}

/* One element of the feed, or of the log, goes into the ring; a worker that waits for it is woken. */
static void
take_change(json_t *element)
{
	const char *event_type = text_of(element, "event_type");
	const char *flow_type = text_of(element, "flow_type");
	const char *flow_id = text_of(element, "flow_id");
	char *snapshot = behind ? NULL : copy_text(json_string_value(json_object_get(element, "snapshot")));
	Change *c;
	char *json;
	char *at;

	json_object_del(element, "snapshot");
	json = json_dumps(element, JSON_COMPACT | JSON_PRESERVE_ORDER);
	if (json == NULL)
	{
		free(snapshot);
		return;
	}
	while (head - tail >= RING_SIZE || (head > tail && ring_bytes > RING_BYTES))
		drop_oldest();
	c = &ring[head % RING_SIZE];
	c->json_size = strlen(json);
	c->json = get_memory(c->json_size + strlen(event_type) + strlen(flow_type) + strlen(flow_id) + 4);
	at = c->json;
	keep(&at, json);
	c->event_type = keep(&at, event_type);
	c->flow_type = keep(&at, flow_type);
	c->flow_id = keep(&at, flow_id);
	c->snapshot = snapshot;
	key_of(element, c->key, sizeof(c->key));
	free(json);
	ring_bytes += c->json_size;
	head++;
	stats.changes++;
	if (snapshot != NULL)
		set_position(snapshot);
	if (strcmp(text_of(element, "state"), "dispatched") == 0)
		waiters_wake(c->flow_type);
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

	for (uint64_t n = told_from > tail ? told_from : tail; n < head; n++)
		json_object_set_new(told_by_feed, hub_change(n)->key, json_true());
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
	free(position);
	position = NULL;
	while (tail < head)
		drop_oldest();
	stream_gap(reason);
}

static void
take_answer(const char *text)
{
	json_t *answer = json_loads(text, 0, NULL);
	const char *snapshot = json_string_value(json_object_get(answer, "snapshot"));
	json_t *changes = json_object_get(answer, "changes");
	uint64_t before = head;
	bool anew = position == NULL;

	if (json_is_false(json_object_get(answer, "complete")))
		begin_anew("more has happened than can be told");
	else if (snapshot != NULL)
	{
		take_missed(changes);
		behind = missed;
		set_position(snapshot);
		told_from = asked_at;
		if (anew) /* what happened until now may have been told, or not */
			stream_gap("the gateway has begun anew");
		if (head > before)
		{
			ring[(head - 1) % RING_SIZE].snapshot = copy_text(snapshot);
			stream_news();
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
	if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
	{
		complained = false;
		take_answer(PQgetvalue(result, 0, 0));
	}
	else if (is_useless_place(code) && position != NULL)
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
	before = head;
	if (PQresultStatus(result) == PGRES_TUPLES_OK || is_useless_place(code) || (code != NULL && strncmp(code, "42", 2) == 0))
		take_held();
	if (head > before)
		stream_news();
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
	asked_at = head;
	free(values[0]);
	values[0] = copy_text(position);
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
	uint64_t before = head;

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
	if (head > before)
		stream_news();
	if (behind)
		ask();
}

static void
on_lost(Link *link)
{
	(void) link;
	listening = false;
	seq_start = 0;
	status_changed();
}

void
hub_start(void)
{
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
	while (tail < head)
		drop_oldest();
	free(position);
	position = NULL;
	json_decref(told_by_log);
	json_decref(held);
	text_free(&status);
	text_free(&status_told);
}
