/*
 * message.c
 *		Make the NATS message of an event or a dead letter: its subject, its headers, and a
 *		CloudEvents 1.0 body in JSON (structured mode).
 *
 * A message is legal whatever values the publisher chose.  In the subject all characters of a
 * value except letters, digits and "_-~" are percent-encoded, so that a flow id can neither
 * split a token nor be a wildcard.  eda.publish() has checked the headers.  The body is UTF-8.
 */
#include "engine/engine.h"

#include "catalog/namespace.h"
#include "common/string.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#define DEFAULT_SUBJECT "event-engine.{flow_type}"
#define DEAD_SUBJECT "event-engine._DLQ."
#define MAX_HISTORY 100 /* the last transitions of a dead letter that its message lists */
#define MAX_TEXT 4000   /* bytes of an error or reason in a dead letter */
#define SMALL 1024      /* bytes of a jsonb value that is_longer_as_text() does not check */
#define OWN_HEADERS 3   /* Content-Type, Eda-Expires-At, and NULL at the end */

/* This database's name; the first call must be inside a transaction.  A rename ends the engine. */
static const char *
database_name(void)
{
	static const char *name = NULL;

	if (name == NULL)
		name = MemoryContextStrdup(engine.context, get_database_name(MyDatabaseId));
	return name;
}

/* Whether all text of the message that is being made is UTF-8, or could be converted. */
static bool in_utf8;

/*
 * Convert a text to UTF-8.  On failure clear in_utf8 instead of raising an error, which would undo
 * the transaction and with it the other messages.
 */
static char *
to_utf8(char *text, int length)
{
	int encoding = GetDatabaseEncoding();
	int size = length * MAX_CONVERSION_GROWTH + 1;
	char *out;

	if (encoding == PG_UTF8 || pg_is_ascii(text))
		return text;
	/* The encoding of text in an SQL_ASCII database is not known; it must be UTF-8 already. */
	if (encoding == PG_SQL_ASCII)
	{
		in_utf8 &= pg_verify_mbstr(PG_UTF8, text, length, true);
		return text;
	}
	out = palloc(size);
	in_utf8 &=
		pg_do_encoding_conversion_buf(FindDefaultConversionProc(encoding, PG_UTF8), encoding, PG_UTF8,
	                                  (unsigned char *) text, length, (unsigned char *) out, size, true) == length;
	return out;
}

/* ------------------------------------------------------------------------
 * Subjects
 * ------------------------------------------------------------------------ */

/* Append a value, percent-encoded. */
static void
append_encoded(StringInfo s, const char *value, bool lower)
{
	for (const char *c = value; *c; c++)
	{
		bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '_' ||
		             *c == '-' || *c == '~';

		if (plain)
			appendStringInfoChar(s, lower ? pg_ascii_tolower(*c) : *c);
		else
			appendStringInfo(s, "%%%02X", (unsigned char) *c);
	}
}

/*
 * The subject of the messages of a type's events with this flow id.  The database's name is not
 * converted to UTF-8, because its encoding is not known.
 */
const char *
message_subject(const EventType *type, const char *flow_id)
{
	char *flow = pstrdup(flow_id);
	const struct
	{
		const char *name;
		const char *value;
		bool lower;
	} places[] = {
		{"{flow_type}", type->flow_type, true},
		{"{event_type}", type->name, true},
		{"{flow_id}", to_utf8(flow, strlen(flow)), false},
		{"{database}", database_name(), false},
	};
	const char *c = type->subject ? type->subject : DEFAULT_SUBJECT;
	StringInfoData s;

	initStringInfo(&s);
	while (*c)
	{
		int i = *c == '{' ? 0 : (int) lengthof(places);

		while (i < (int) lengthof(places) && strncmp(c, places[i].name, strlen(places[i].name)) != 0)
			i++;
		if (i < (int) lengthof(places))
		{
			append_encoded(&s, places[i].value, places[i].lower);
			c += strlen(places[i].name);
		}
		else
			appendStringInfoChar(&s, *c++);
	}
	return s.data;
}

/* The subject of a flow type's dead letters. */
const char *
message_dead_subject(const char *flow_type)
{
	StringInfoData s;

	initStringInfo(&s);
	appendStringInfoString(&s, DEAD_SUBJECT);
	append_encoded(&s, flow_type, true);
	return s.data;
}

/* ------------------------------------------------------------------------
 * JSON, written as text without a jsonb value in between
 * ------------------------------------------------------------------------ */

static void
put_name(StringInfo s, const char *name)
{
	if (s->data[s->len - 1] != '{')
		appendStringInfoChar(s, ',');
	appendStringInfoChar(s, '"');
	appendStringInfoString(s, name);
	appendStringInfoString(s, "\":");
}

static void
put_text(StringInfo s, const char *name, const char *value)
{
	if (value == NULL)
		return;
	put_name(s, name);
	escape_json(s, value);
}

static void
put_int(StringInfo s, const char *name, int value)
{
	char digits[16];

	put_name(s, name);
	appendBinaryStringInfo(s, digits, pg_ltoa(value, digits));
}

static void
put_json(StringInfo s, const char *name, Jsonb *value)
{
	if (value == NULL)
		return;
	put_name(s, name);
	(void) JsonbToCString(s, &value->root, VARSIZE(value));
}

/*
 * Whether a value has more bytes as text than limit; punctuation is not counted.  Checked before
 * the text is made: a number with an exponent can take 12 bytes as jsonb and 131,000 as text.
 */
static bool
is_longer_as_text(Jsonb *value, size_t limit)
{
	JsonbIterator *it = JsonbIteratorInit(&value->root);
	JsonbIteratorToken token;
	JsonbValue v;
	size_t length = 0;

	if (VARSIZE(value) < SMALL)
		return false;
	while (length <= limit && (token = JsonbIteratorNext(&it, &v, false)) != WJB_DONE)
	{
		if ((token == WJB_VALUE || token == WJB_ELEM) && v.type == jbvNumeric)
		{
			char *text = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(v.val.numeric)));

			length += strlen(text);
			pfree(text);
		}
		else if ((token == WJB_KEY || token == WJB_VALUE || token == WJB_ELEM) && v.type == jbvString)
			length += v.val.string.len;
	}
	return length > limit;
}

/* A time in RFC 3339 format, in UTC; made without printf, which is slow. */
static const char *
time_text(TimestampTz time)
{
	struct pg_tm tm;
	fsec_t fsec;
	char *text = palloc(48);
	char *c = text;

	if (timestamp2tm(time, NULL, &tm, &fsec, NULL, NULL) != 0)
		elog(ERROR, "timestamp out of range");
	c = pg_ultostr_zeropad(c, tm.tm_year, 4);
	*c++ = '-';
	c = pg_ultostr_zeropad(c, tm.tm_mon, 2);
	*c++ = '-';
	c = pg_ultostr_zeropad(c, tm.tm_mday, 2);
	*c++ = 'T';
	c = pg_ultostr_zeropad(c, tm.tm_hour, 2);
	*c++ = ':';
	c = pg_ultostr_zeropad(c, tm.tm_min, 2);
	*c++ = ':';
	c = pg_ultostr_zeropad(c, tm.tm_sec, 2);
	*c++ = '.';
	c = pg_ultostr_zeropad(c, fsec, 6);
	*c++ = 'Z';
	*c = '\0';
	return text;
}

static void
put_time(StringInfo s, const char *name, TimestampTz time)
{
	if (time != EDA_NEVER)
		put_text(s, name, time_text(time));
}

/* ------------------------------------------------------------------------
 * Bodies, headers and messages
 * ------------------------------------------------------------------------ */

/* Begin a CloudEvent with the attributes that all messages have. */
static void
begin_body(StringInfo s, const Event *event, const char *id, const char *type, TimestampTz time)
{
	initStringInfo(s);
	appendStringInfoString(s, "{\"specversion\":\"1.0\"");
	put_text(s, "id", id);
	put_text(s, "type", type);
	put_name(s, "source");
	appendStringInfoString(s, "\"/eda/");
	append_encoded(s, database_name(), false);
	appendStringInfoChar(s, '"');
	put_text(s, "subject", event->flow_id);
	put_time(s, "time", time);
	put_text(s, "datacontenttype", "application/json");
	put_text(s, "flowtype", event->flow_type);
	put_text(s, "correlationid", event->correlation_id);
	if (event->has_parent)
		put_text(s, "parentid", uuid_text(&event->parent_id));
	put_text(s, "traceparent", json_get_text(event->headers, "traceparent"));
	put_text(s, "tracestate", json_get_text(event->headers, "tracestate"));
}

static void
end_body(StringInfo s, BrokerMessage *out)
{
	appendStringInfoChar(s, '}');
	out->body = to_utf8(s->data, s->len);
	out->body_length = out->body == s->data ? (size_t) s->len : strlen(out->body);
}

/* The headers of a message: eda's and the publisher's. */
static const char *const *
make_headers(const Event *event, TimestampTz expires_at)
{
	int max = event->headers ? JB_ROOT_COUNT(event->headers) : 0;
	const char **headers = palloc(sizeof(char *) * 2 * (max + OWN_HEADERS));
	int n = 0;

	headers[n++] = "Content-Type";
	headers[n++] = "application/cloudevents+json";
	if (expires_at != EDA_NEVER)
	{
		headers[n++] = "Eda-Expires-At";
		headers[n++] = time_text(expires_at);
	}
	if (event->headers)
	{
		JsonbIterator *it = JsonbIteratorInit(&event->headers->root);
		JsonbIteratorToken token;
		JsonbValue v;

		while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
			if (token == WJB_KEY || token == WJB_VALUE)
			{
				headers[n++] = to_utf8(pnstrdup(v.val.string.val, v.val.string.len), v.val.string.len);
				if (token == WJB_VALUE && pg_strcasecmp(headers[n - 2], headers[0]) == 0)
					n -= 2; /* the publisher's Content-Type does not describe this body */
			}
	}
	headers[n] = NULL;
	return headers;
}

/* Bytes of headers and body, including the headers that the broker code adds. */
static size_t
message_size(const BrokerMessage *message)
{
	size_t size = strlen("NATS/1.0\r\n\r\n") + strlen("Nats-Msg-Id: \r\n") + strlen(message->id) +
	              strlen("Nats-TTL: \r\n") + 20 + message->body_length;

	for (const char *const *h = message->headers; *h; h += 2)
		size += strlen(h[0]) + strlen(h[1]) + strlen(": \r\n");
	return size;
}

static MessageResult
message_result(const BrokerMessage *message, size_t limit)
{
	if (!in_utf8)
		return MESSAGE_NOT_UTF8;
	return message_size(message) > limit ? MESSAGE_TOO_LARGE : MESSAGE_MADE;
}

static const char *
message_id(const char *event_id, int32 version)
{
	int length = strlen(event_id);
	char *id = palloc(length + 16);

	memcpy(id, event_id, length);
	id[length] = '-';
	id[length + 1 + pg_ltoa(version, id + length + 1)] = '\0';
	return id;
}

/* The message of a dispatched event, unless it is larger than limit bytes. */
MessageResult
message_of_event(const Event *event, Delivery *d, size_t limit, BrokerMessage *out)
{
	const EventType *type = event_type_by_id(d->type);
	char *id = uuid_text(&event->id);
	StringInfoData s;

	if (type == NULL)
		elog(ERROR, "event type %d of event %s does not exist", d->type, id);
	if (is_longer_as_text(event->payload, limit))
		return MESSAGE_TOO_LARGE;
	in_utf8 = true;
	out->id = message_id(id, d->version);
	out->subject = message_subject(type, event->flow_id);
	out->headers = make_headers(event, d->expires_at);
	begin_body(&s, event, id, event->event_type, event->created_at);
	put_int(&s, "attempt", d->attempt + 1);
	put_int(&s, "edaversion", d->version);
	put_time(&s, "expirytime", d->expires_at);
	put_json(&s, "data", event->payload);
	end_body(&s, out);
	return message_result(out, limit);
}

/* Cut a text to MAX_TEXT bytes, between two characters. */
static char *
clip_text(char *text)
{
	int length = text ? strlen(text) : 0;

	if (length > MAX_TEXT)
		text[pg_mbcliplen(text, length, MAX_TEXT)] = '\0';
	return text;
}

static void
put_history(StringInfo s, const Transition *steps, int n)
{
	put_name(s, "history");
	appendStringInfoChar(s, '[');
	for (int i = 0; i < n; i++)
	{
		const Transition *t = &steps[i];

		appendStringInfoString(s, i > 0 ? ",{" : "{");
		put_int(s, "version", t->version);
		put_text(s, "state", lifecycle_state_name(t->state));
		put_time(s, "at", t->at);
		put_int(s, "attempt", t->attempt);
		put_text(s, "worker", t->worker);
		put_text(s, "error", clip_text(json_get_text(t->detail, "error")));
		put_text(s, "reason", clip_text(json_get_text(t->detail, "reason")));
		appendStringInfoChar(s, '}');
	}
	appendStringInfoChar(s, ']');
}

static void
make_dead_body(const Event *event, const Transition *steps, int n, bool with_payload, BrokerMessage *out)
{
	const Transition *last = &steps[n - 1];
	StringInfoData s;

	begin_body(&s, event, out->id, "eda.dead_letter", last->at);
	put_name(&s, "data");
	appendStringInfoChar(&s, '{');
	put_text(&s, "event_id", uuid_text(&event->id));
	put_text(&s, "event_type", event->event_type);
	put_text(&s, "flow_type", event->flow_type);
	put_text(&s, "flow_id", event->flow_id);
	put_text(&s, "state", lifecycle_state_name(last->state));
	put_text(&s, "error", clip_text(json_get_text(last->detail, "error")));
	put_text(&s, "reason", clip_text(json_get_text(last->detail, "reason")));
	put_int(&s, "attempts", last->attempt);
	put_time(&s, "died_at", last->at);
	put_history(&s, steps, n);
	put_json(&s, "headers", event->headers);
	if (with_payload)
		put_json(&s, "payload", event->payload);
	appendStringInfoChar(&s, '}');
	end_body(&s, out);
}

/* The message of a dead letter, without the payload if it would exceed limit bytes. */
MessageResult
message_of_dead_letter(const Event *event, Delivery *d, size_t limit, BrokerMessage *out)
{
	Transition steps[MAX_HISTORY];
	int n = journal_history(d->leaf, &event->id, steps, MAX_HISTORY);
	EdaState state = n > 0 ? steps[n - 1].state : EDA_NONE;

	if (state != EDA_FAILED && state != EDA_EXPIRED)
		return MESSAGE_OBSOLETE;
	in_utf8 = true;
	d->version = steps[n - 1].version;
	out->id = message_id(uuid_text(&event->id), d->version);
	out->subject = message_dead_subject(event->flow_type);
	out->headers = make_headers(event, EDA_NEVER);
	make_dead_body(event, steps, n, !is_longer_as_text(event->payload, limit), out);
	if (message_size(out) > limit)
		make_dead_body(event, steps, n, false, out);
	return message_result(out, limit);
}
