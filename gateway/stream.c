/*
 * stream.c
 *		The clients that watch, by Server-Sent Events or WebSocket, and what they are sent.
 *
 * A subscriber has a position in the list of changes (changes.c), and no buffer of its
 * own, except for a few messages that are meant for it alone.  It is sent something
 * whenever its socket can be written to.  So a client that does not read stays where it
 * is, and holds up nobody.  When the change at its position has been dropped from the
 * list, it is told how many changes it has skipped.
 *
 * Most clients watch everything, and have the same position.  So the message that one of
 * them is sent is kept (a Frame), and the others are sent the same bytes.
 */
#include "stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <libpq-fe.h>
#include <libwebsockets.h>
#include <uv.h>

#include "answer.h"
#include "caller.h"
#include "changes.h"
#include "db.h"
#include "filter.h"
#include "hangup.h"
#include "hub.h"
#include "loop.h"
#include "memory.h"
#include "place.h"
#include "route.h"
#include "stats.h"
#include "text.h"

#define FRAME_BYTES 65536 /* no change is added to a message that is longer than this */
#define SCAN 8192         /* how many changes are looked at for one message, at most */
#define KEEP_ALIVE_MS 15000
#define STUCK_MS 120000 /* a client that reads nothing for so long is disconnected */
#define ROUND_US 50     /* between rounds, per subscriber: a few times what a message costs */
#define FRAMES 8        /* that are kept */

/* A message for clients that watch everything, with the changes from one number to another. */
typedef struct Frame
{
	SubscriberKind kind;
	uint64_t from;
	uint64_t to; /* the number after the last one; 0: the frame is not in use */
	Text text;
} Frame;

static Subscriber *subscribers;
static Frame frames[FRAMES];
static int oldest_frame;
static uv_timer_t keep_alive_timer;
static uv_timer_t round_timer;
static uint64_t next_round; /* when it may begin; ms */
static uint64_t round_head; /* in this round, subscribers are sent the changes before this number */

/* ------------------------------------------------------------------------
 * Messages
 * ------------------------------------------------------------------------ */

static void
begin_changes(Text *t, SubscriberKind kind)
{
	text_puts(t, kind == SUBSCRIBER_WS ? "{\"type\":\"changes\",\"changes\":[" : "event: change\ndata: [");
}

static void
end_changes(Text *t, SubscriberKind kind, const char *snapshot)
{
	if (kind == SUBSCRIBER_WS && snapshot != NULL)
		text_printf(t, "],\"id\":\"%s\"}", snapshot);
	else if (kind == SUBSCRIBER_WS)
		text_puts(t, "]}");
	else if (snapshot != NULL)
		text_printf(t, "]\nid: %s\n\n", snapshot);
	else
		text_puts(t, "]\n\n");
}

/* Add a message for this subscriber alone, which is sent before any changes; json is an object. */
void
stream_say(Subscriber *s, const char *type, const char *json)
{
	Text *t = &s->pending;

	/* Each WebSocket message needs a write of its own, so a NUL is put between two of them. */
	if (s->kind == SUBSCRIBER_WS)
	{
		if (t->size > 0)
			text_add(t, "", 1);
		text_printf(t, "{\"type\":\"%s\"%s%s", type, strcmp(json, "{}") == 0 ? "" : ",", json + 1);
	}
	else
		text_printf(t, "event: %s\ndata: %s\n\n", type, json);
}

/* Tell a subscriber that it has skipped n changes (0: nobody knows how many), and why. */
static void
say_skipped(Subscriber *s, uint64_t n, const char *reason)
{
	Text t = {0};

	text_puts(&t, "{\"skipped\":");
	if (n > 0)
		text_printf(&t, "%llu", (unsigned long long) n);
	else
		text_puts(&t, "null");
	text_printf(&t, ",\"reason\":\"%s\"}", reason);
	stream_say(s, "skipped", t.data);
	text_free(&t);
	stats.skipped++;
}

/*
 * Write a message with the changes that the subscriber wants, from its position on.
 * Returns the position after them.
 */
static uint64_t
write_changes(const Subscriber *s, Text *t)
{
	uint64_t n = s->position;
	uint64_t end = round_head - n > SCAN ? n + SCAN : round_head;
	const char *snapshot = NULL;
	bool any = false;

	for (; n < end && t->size < FRAME_BYTES; n++)
	{
		const Change *c = changes_get(n);

		if (s->all || filter_wants(s, c->event_type, c->flow_type, c->flow_id))
		{
			if (!any)
				begin_changes(t, s->kind);
			else
				text_puts(t, ",");
			text_add(t, c->json, c->json_size);
			any = true;
		}
		if (c->snapshot != NULL)
			snapshot = c->snapshot;
	}
	if (any)
		end_changes(t, s->kind, snapshot);
	return n;
}

/* The message for a subscriber that watches everything; it is made now if it is not kept. */
static Frame *
frame_get(const Subscriber *s)
{
	Frame *f;

	for (int i = 0; i < FRAMES; i++)
		if (frames[i].to != 0 && frames[i].from == s->position && frames[i].kind == s->kind)
			return &frames[i];
	f = &frames[oldest_frame++ % FRAMES];
	f->kind = s->kind;
	f->from = s->position;
	f->text.size = 0;
	f->to = write_changes(s, &f->text);
	return f;
}

/* ------------------------------------------------------------------------
 * Writing
 * ------------------------------------------------------------------------ */

/* Have stream_write() called when the subscriber's socket can be written to. */
static void
ask_to_write(Subscriber *s)
{
	if (s->write_asked == 0)
		s->write_asked = loop_now_ms();
	lws_callback_on_writable(s->wsi);
}

static int
send_text(Subscriber *s, Text *t)
{
	int n = text_send(t, s->wsi, s->kind == SUBSCRIBER_WS ? LWS_WRITE_TEXT : LWS_WRITE_HTTP);

	return n < 0 ? -1 : 0;
}

/* Send the first of the messages that are for this subscriber alone. */
static int
write_pending(Subscriber *s)
{
	size_t size = s->kind == SUBSCRIBER_WS ? strlen(s->pending.data) : s->pending.size;
	Text rest = {0};
	int result;

	if (size < s->pending.size)
		text_add(&rest, s->pending.data + size + 1, s->pending.size - size - 1);
	s->pending.size = size;
	result = send_text(s, &s->pending);
	text_free(&s->pending);
	s->pending = rest;
	return result;
}

static int
write_keep_alive(Subscriber *s)
{
	const char *snapshot = s->kind == SUBSCRIBER_SSE ? place_at(s->position) : NULL;
	Text t = {0};
	int result;

	if (s->kind == SUBSCRIBER_WS)
		return lws_write(s->wsi, (unsigned char[LWS_PRE + 1]){0} + LWS_PRE, 0, LWS_WRITE_PING) < 0 ? -1 : 0;
	/*
	 * A client with filters may not have been sent a change, and so no id, for long: send
	 * the id that it can continue from after a disconnect.
	 */
	if (snapshot != NULL)
		text_printf(&t, "id: %s\n", snapshot);
	text_puts(&t, ": keep-alive\n\n");
	result = send_text(s, &t);
	text_free(&t);
	return result;
}

static int
write_due_changes(Subscriber *s)
{
	Text t = {0};
	int result;

	if (s->all)
	{
		Frame *f = frame_get(s);

		s->position = f->to;
		return send_text(s, &f->text);
	}
	s->position = write_changes(s, &t);
	result = send_text(s, &t);
	text_free(&t);
	return result;
}

static bool
has_changes(const Subscriber *s)
{
	return s->kind != SUBSCRIBER_MCP && s->let_in && s->position < round_head;
}

/* The socket can be written to: send the most urgent message.  < 0: close the connection. */
int
stream_write(Subscriber *s)
{
	int result = 0;

	s->write_asked = 0;
	if (s->close_due && s->pending.size == 0)
	{
		if (s->kind == SUBSCRIBER_WS)
			lws_close_reason(s->wsi, s->let_in ? LWS_CLOSE_STATUS_GOINGAWAY : LWS_CLOSE_STATUS_POLICY_VIOLATION, NULL,
			                 0);
		return -1;
	}
	if (s->headers_due)
	{
		s->headers_due = false;
		result = answer_start_stream(s->wsi);
	}
	else if (s->pending.size > 0)
		result = write_pending(s);
	else if (s->status_due)
	{
		s->status_due = false;
		stream_say(s, "status", hub_status());
		result = write_pending(s);
	}
	else if (has_changes(s) && s->position < changes_tail())
	{
		say_skipped(s, round_head - s->position, "this client reads too slowly");
		s->position = round_head;
		result = write_pending(s);
	}
	else if (has_changes(s))
		result = write_due_changes(s);
	else if (s->keep_alive_due)
	{
		s->keep_alive_due = false;
		result = write_keep_alive(s);
	}
	if (result == 0 && (s->pending.size > 0 || s->status_due || s->keep_alive_due || s->close_due || has_changes(s)))
		ask_to_write(s);
	return result;
}

/* ------------------------------------------------------------------------
 * All subscribers
 * ------------------------------------------------------------------------ */

/* Have all subscribers that are behind sent what is in the list now. */
static void
start_round(void)
{
	int n = stats.subscribers[SUBSCRIBER_SSE] + stats.subscribers[SUBSCRIBER_WS];

	round_head = changes_head();
	for (Subscriber *s = subscribers; s != NULL; s = s->next)
		if (has_changes(s) && s->write_asked == 0)
			ask_to_write(s);
	next_round = loop_now_ms() + n * ROUND_US / 1000;
}

static void
on_round(uv_timer_t *timer)
{
	(void) timer;
	start_round();
}

/*
 * The list has new changes.  If there are few subscribers, they are sent them at once.
 * With many of them, the next round waits until the last one can be over: then each
 * message carries more changes when much happens, and the loop has time for other work.
 */
void
stream_send_changes(void)
{
	uint64_t now = loop_now_ms();

	if (now >= next_round)
		start_round();
	else if (!uv_is_active((uv_handle_t *) &round_timer))
		uv_timer_start(&round_timer, on_round, next_round - now, 0);
}

/* The state of the database or the engine has changed. */
void
stream_send_status(void)
{
	for (Subscriber *s = subscribers; s != NULL; s = s->next)
		if (s->let_in && s->kind != SUBSCRIBER_MCP)
		{
			s->status_due = true;
			ask_to_write(s);
		}
}

/*
 * There were changes that no subscriber will be sent.  A subscriber that is not let in yet is
 * told when it is.
 */
void
stream_send_gap(const char *reason)
{
	for (Subscriber *s = subscribers; s != NULL; s = s->next)
		if (!s->let_in)
			s->gap = reason;
		else if (s->kind != SUBSCRIBER_MCP)
		{
			say_skipped(s, 0, reason);
			ask_to_write(s);
		}
}

static void
on_keep_alive(uv_timer_t *timer)
{
	uint64_t now = loop_now_ms();

	(void) timer;
	for (Subscriber *s = subscribers; s != NULL; s = s->next)
		if (s->write_asked == 0)
		{
			s->keep_alive_due = true;
			ask_to_write(s);
		}
		else if (now - s->write_asked > STUCK_MS)
			answer_end(s->wsi);
}

/* The file of tokens was read again: close streams whose token is no longer in it. */
void
stream_drop_retired(void)
{
	for (Subscriber *s = subscribers; s != NULL; s = s->next)
		if (s->caller->retired)
		{
			s->close_due = true;
			ask_to_write(s);
		}
}

/* ------------------------------------------------------------------------
 * One subscriber
 * ------------------------------------------------------------------------ */

/*
 * Make a subscriber.  "since" is the snapshot that it continues from (NULL: from now on),
 * and belongs to the subscriber.  It has its position from now on and will miss nothing,
 * but it is sent nothing before the database has said that its caller may watch.
 */
Subscriber *
stream_open(struct lws *wsi, SubscriberKind kind, Caller *caller, char *since)
{
	Subscriber *s = memory_get(sizeof(Subscriber));

	s->wsi = wsi;
	s->kind = kind;
	s->caller = caller_use(caller);
	s->position = changes_head();
	s->continues = since != NULL;
	if (since != NULL && place_find(since, &s->position))
	{
		free(since);
		since = NULL;
	}
	s->since = since;
	s->next = subscribers;
	if (subscribers != NULL)
		subscribers->prev = s;
	subscribers = s;
	stats.subscribers[kind]++;
	return s;
}

/* Send a subscriber what it has missed; "missed" is the body that eda_http.changes() returned. */
static void
say_missed(Subscriber *s, const char *missed)
{
	json_t *answer = json_loads(missed, 0, NULL);
	const char *snapshot = json_string_value(json_object_get(answer, "snapshot"));
	json_t *changes = json_object_get(answer, "changes");
	bool any = false;
	size_t i;
	json_t *c;

	if (!json_is_true(json_object_get(answer, "complete")))
		say_skipped(s, 0, "this client was away for too long");
	else
		json_array_foreach(changes, i, c)
		{
			char *text;

			if (!filter_wants(s, json_string_value(json_object_get(c, "event_type")),
			                  json_string_value(json_object_get(c, "flow_type")),
			                  json_string_value(json_object_get(c, "flow_id"))))
				continue;
			text = json_dumps(c, JSON_COMPACT | JSON_PRESERVE_ORDER);
			if (any)
				text_puts(&s->pending, ",");
			else if (s->kind == SUBSCRIBER_WS && s->pending.size > 0)
				text_add(&s->pending, "", 1);
			if (!any)
				begin_changes(&s->pending, s->kind);
			text_puts(&s->pending, text);
			free(text);
			any = true;
		}
	if (any)
		end_changes(&s->pending, s->kind, snapshot);
	json_decref(answer);
}

/*
 * The caller may watch: begin to send.  "missed" is the body that eda_http.changes()
 * returned; NULL: the database cannot continue from the subscriber's "since".
 */
void
stream_begin(Subscriber *s, const char *missed)
{
	s->let_in = true;
	if (s->kind != SUBSCRIBER_WS)
	{
		lws_set_timeout(s->wsi, NO_PENDING_TIMEOUT, 0);
		s->headers_due = true;
		s->watched = hangup_watch(s->wsi);
	}
	if (s->kind != SUBSCRIBER_MCP)
	{
		stream_say(s, "status", hub_status());
		if (s->since != NULL && missed != NULL)
			say_missed(s, missed);
		else if (s->since != NULL)
			say_skipped(s, 0, "the place to continue from is not known");
		/* What was missed may have been read before the changes that nobody was sent. */
		if (s->gap != NULL && s->continues)
			say_skipped(s, 0, s->gap);
	}
	free(s->since);
	s->since = NULL;
	if (stopping)
		s->close_due = true;
	ask_to_write(s);
}

/* The database has said whether the caller of a WebSocket may watch. */
static void
on_permission(void *arg, PGresult *result, DbTrouble trouble)
{
	Subscriber *s = arg;
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	s->asking = false;
	if (s->wsi == NULL)
		stream_close(s);
	else if (PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
		stream_begin(s, PQgetvalue(result, 0, 3));
	else if (place_is_refused(code) && trouble != DB_NO_ROLE)
		stream_begin(s, NULL);
	else
	{
		stream_say(s, "error",
		           (code != NULL && strcmp(code, "42501") == 0) || trouble == DB_NO_ROLE
		               ? "{\"status\":403,\"detail\":\"The caller's database role may not watch.\"}"
		               : "{\"status\":503,\"detail\":\"The database cannot be reached. Try again.\"}");
		s->close_due = true;
		ask_to_write(s);
	}
	PQclear(result);
}

/*
 * Ask the database whether the caller of a WebSocket may watch, and what it has missed.
 * The WebSocket is open already, and stays silent until the answer is there.
 */
void
stream_ask_database(Subscriber *s)
{
	s->asking = true;
	db_call(route_stream_sql, 1, &s->since, s->caller->role, on_permission, s);
}

/* The connection is closed: free the subscriber. */
void
stream_close(Subscriber *s)
{
	if (s->watched > 0) /* libwebsockets has not closed the socket yet */
		hangup_forget(s->watched);
	s->watched = 0;
	s->wsi = NULL;
	if (s->prev != NULL || subscribers == s)
	{
		if (s->prev != NULL)
			s->prev->next = s->next;
		else
			subscribers = s->next;
		if (s->next != NULL)
			s->next->prev = s->prev;
		s->next = s->prev = NULL;
		stats.subscribers[s->kind]--;
	}
	if (s->asking)
		return; /* on_permission() frees it */
	caller_leave(s->caller);
	filter_clear(s);
	free(s->since);
	text_free(&s->pending);
	text_free(&s->incoming);
	free(s);
}

void
stream_start(void)
{
	uv_timer_init(loop, &keep_alive_timer);
	uv_timer_start(&keep_alive_timer, on_keep_alive, KEEP_ALIVE_MS, KEEP_ALIVE_MS);
	uv_timer_init(loop, &round_timer);
	hangup_start();
}

/* The gateway is shutting down: close each stream as soon as its socket can be written to. */
void
stream_stop(void)
{
	for (Subscriber *s = subscribers; s != NULL; s = s->next)
	{
		s->close_due = true;
		text_free(&s->pending);
		if (s->let_in || s->kind == SUBSCRIBER_WS)
			ask_to_write(s);
	}
	uv_close((uv_handle_t *) &keep_alive_timer, NULL);
	uv_close((uv_handle_t *) &round_timer, NULL);
	hangup_stop();
	for (int i = 0; i < FRAMES; i++)
		text_free(&frames[i].text);
	memset(frames, 0, sizeof(frames));
}
