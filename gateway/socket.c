/*
 * socket.c
 *		What WebSocket clients say: subscribe, unsubscribe, ping.
 */
#include "socket.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>
#include <libwebsockets.h>

#include "filter.h"
#include "stream.h"
#include "text.h"

#define MAX_MESSAGE 4096 /* bytes of a client's message */

static void
say_error(Subscriber *s, const char *detail)
{
	Text t = {0};

	text_puts(&t, "{\"detail\":");
	text_json(&t, detail);
	text_puts(&t, "}");
	stream_say(s, "error", t.data);
	text_free(&t);
}

static void
say_done(Subscriber *s, const char *type, const char *id)
{
	Text t = {0};

	text_puts(&t, "{\"id\":");
	text_json(&t, id);
	text_puts(&t, "}");
	stream_say(s, type, t.data);
	text_free(&t);
}

/*
 * Check that a message has only known keys, all of them strings or null; else say what is
 * wrong.
 */
static bool
check_keys(Subscriber *s, json_t *message, const char *const *known)
{
	const char *key;
	json_t *value;
	Text t = {0};

	json_object_foreach(message, key, value)
	{
		int i = 0;

		while (known[i] != NULL && strcmp(known[i], key) != 0)
			i++;
		if (known[i] != NULL && (json_is_string(value) || json_is_null(value)))
			continue;
		text_printf(&t, known[i] == NULL ? "unknown key \"%s\"" : "\"%s\" must be a string", key);
		say_error(s, t.data);
		text_free(&t);
		return false;
	}
	return true;
}

static void
handle_message(Subscriber *s, json_t *message)
{
	static const char *const subscribe_keys[] = {"type", "id", "event_type", "flow_type", "flow_id", NULL};
	static const char *const other_keys[] = {"type", "id", NULL};
	const char *type = json_string_value(json_object_get(message, "type"));
	const char *id = json_string_value(json_object_get(message, "id"));

	if (id == NULL)
		id = "";
	if (type != NULL && strcmp(type, "subscribe") == 0)
	{
		if (!check_keys(s, message, subscribe_keys))
			return;
		if (filter_add(s, id, json_string_value(json_object_get(message, "event_type")),
		               json_string_value(json_object_get(message, "flow_type")),
		               json_string_value(json_object_get(message, "flow_id"))))
			say_done(s, "subscribed", id);
		else
			say_error(s, "this connection has 32 subscriptions already; unsubscribe from one first");
	}
	else if (type != NULL && strcmp(type, "unsubscribe") == 0)
	{
		if (!check_keys(s, message, other_keys))
			return;
		filter_remove(s, id);
		say_done(s, "unsubscribed", id);
	}
	else if (type != NULL && strcmp(type, "ping") == 0)
		stream_say(s, "pong", "{}");
	else
		say_error(s, "the \"type\" of a message must be \"subscribe\", \"unsubscribe\" or \"ping\"");
}

/* A message of a client has come, or a part of one.  < 0: close the connection. */
int
socket_receive(Subscriber *s, const char *data, size_t size, bool final, bool binary)
{
	json_t *message;

	if (binary || s->incoming.size + size > MAX_MESSAGE || s->pending.size > 64 * MAX_MESSAGE)
	{
		lws_close_reason(s->wsi, binary ? LWS_CLOSE_STATUS_UNACCEPTABLE_OPCODE : LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE,
		                 NULL, 0);
		return -1;
	}
	text_add(&s->incoming, data, size);
	if (!final || lws_remaining_packet_payload(s->wsi) > 0)
		return 0;
	message = json_loadb(s->incoming.data, s->incoming.size, JSON_REJECT_DUPLICATES, NULL);
	s->incoming.size = 0;
	if (json_is_object(message))
		handle_message(s, message);
	else
		say_error(s, "a message must be a JSON object");
	json_decref(message);
	lws_callback_on_writable(s->wsi);
	return 0;
}
