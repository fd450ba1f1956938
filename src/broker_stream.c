/*
 * broker_stream.c
 *		What is asked of JetStream and what it answers, in JSON.
 *
 * Plain requests to $JS.API, because the functions of nats.c 3.4 (Debian 12) do
 * not know allow_msg_ttl.  A server that is older than 2.11 does not know it
 * either, ignores it, and leaves it out of its answer: that is how we know that
 * messages cannot have a time to live.
 *
 * PostgreSQL has a function json_object() too, and would be called in place of
 * jansson's: not used here.
 */
#include "broker_int.h"

#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS INT64_C(1000000000)           /* a second */
#define REQUEST_WAIT INT64_C(4000000)    /* us */
#define CHECK_INTERVAL INT64_C(15000000) /* us */

/* ------------------------------------------------------------------------
 * The stream
 * ------------------------------------------------------------------------ */

/* A stream without a window for duplicates would take each message that is sent again, and one longer than max_age is refused. */
static int64_t
duplicate_window(const BrokerConfig *config)
{
	if (config->max_age > 0 && config->duplicate_window > config->max_age)
		return config->max_age;
	return config->duplicate_window;
}

/*
 * The request that makes the stream.  discard "new": a full stream refuses what
 * comes, which is seen and tried again, instead of dropping what nobody has read.
 */
static char *
create_request(const Settings *settings)
{
	const BrokerConfig *config = &settings->config;
	json_t *subjects = json_array();
	json_t *request;
	char *text;

	for (char **s = settings->subjects; *s != NULL; s++)
		json_array_append_new(subjects, json_string(*s));
	request = json_pack("{s:s, s:o, s:s, s:s, s:s, s:i, s:I, s:I, s:i, s:i, s:i, s:i, s:b}", "name", config->stream,
	                    "subjects", subjects, "retention", "limits", "storage", "file", "discard", "new",
	                    "num_replicas", config->replicas, "max_age", (json_int_t) config->max_age * NS,
	                    "duplicate_window", (json_int_t) duplicate_window(config) * NS, "max_msgs", -1, "max_bytes", -1,
	                    "max_msg_size", -1, "max_consumers", -1, "allow_msg_ttl", 1);
	text = request != NULL ? json_dumps(request, JSON_COMPACT) : NULL;
	json_decref(request);
	return text;
}

/* A number of an object; 0: it is not there. */
static int64_t
get_integer(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

/* A text of an object; empty: it is not there. */
static const char *
get_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL ? text : "";
}

/* The error of an answer; code 0: it has none. */
static void
read_error(const json_t *answer, ApiError *error)
{
	const json_t *e = json_object_get(answer, "error");

	*error = (ApiError){0};
	if (e == NULL)
		return;
	error->code = (int) get_integer(e, "code");
	error->err_code = (int) get_integer(e, "err_code");
	if (error->code == 0)
		error->code = 500;
	snprintf(error->text, sizeof(error->text), "%s", get_text(e, "description"));
}

/* A list of what is in an array; NULL: no memory. */
static char **
read_subjects(const json_t *array)
{
	char **list = calloc(json_array_size(array) + 1, sizeof(char *));
	size_t n = 0;

	for (size_t i = 0; list != NULL && i < json_array_size(array); i++)
	{
		const char *subject = json_string_value(json_array_get(array, i));

		if (subject != NULL && (list[n++] = strdup(subject)) == NULL)
		{
			texts_free(list);
			return NULL;
		}
	}
	return list;
}

/* Read the answer to a request to inform about or make a stream.  False: it is an error, or not readable. */
static bool
read_stream(const char *text, StreamInfo *info, ApiError *error)
{
	json_t *answer = json_loads(text, 0, NULL);
	const json_t *config = json_object_get(answer, "config");

	*info = (StreamInfo){0};
	read_error(answer, error);
	if (error->code == 0 && config == NULL)
		*error = (ApiError){.code = 500, .text = "the server's answer cannot be read"};
	if (error->code == 0)
	{
		info->file = strcmp(get_text(config, "storage"), "memory") != 0;
		info->no_ack = json_is_true(json_object_get(config, "no_ack"));
		info->ttl = json_is_true(json_object_get(config, "allow_msg_ttl"));
		info->replicas = (int) get_integer(config, "num_replicas");
		info->max_age = get_integer(config, "max_age");
		info->duplicate_window = get_integer(config, "duplicate_window");
		info->max_message = get_integer(config, "max_msg_size");
		snprintf(info->version, sizeof(info->version), "%s",
		         get_text(json_object_get(config, "metadata"), "_nats.ver"));
		info->subjects = read_subjects(json_object_get(config, "subjects"));
		if (info->subjects == NULL)
			*error = (ApiError){.code = 500, .text = "out of memory"};
	}
	json_decref(answer);
	return error->code == 0;
}

/* Add to a list of differences. */
static void
add(char *list, size_t size, const char *difference)
{
	size_t length = strlen(list);

	snprintf(list + length, size - length, "%s%s", length > 0 ? "; " : "", difference);
}

/* Say how a stream differs from the settings; empty: it does not. */
static void
put_differences(const StreamInfo *info, const Settings *settings, char *out, size_t size)
{
	const BrokerConfig *config = &settings->config;
	char list[400] = "";
	char part[120];

	for (char **s = settings->subjects; *s != NULL; s++)
	{
		if (subjects_cover(info->subjects, *s))
			continue;
		snprintf(part, sizeof(part), "it does not take all of \"%s\"", *s);
		add(list, sizeof(list), part);
	}
	if (!info->file)
		add(list, sizeof(list), "its storage is memory, not file");
	if (info->replicas != config->replicas)
	{
		snprintf(part, sizeof(part), "it has %d replicas, not %d", info->replicas, config->replicas);
		add(list, sizeof(list), part);
	}
	if (info->max_age != config->max_age * NS)
	{
		snprintf(part, sizeof(part), "its max_age is %lld s, not %lld s", (long long) (info->max_age / NS),
		         (long long) config->max_age);
		add(list, sizeof(list), part);
	}
	if (info->duplicate_window != duplicate_window(config) * NS)
	{
		snprintf(part, sizeof(part), "its duplicate_window is %lld s, not %lld s",
		         (long long) (info->duplicate_window / NS), (long long) duplicate_window(config));
		add(list, sizeof(list), part);
	}
	out[0] = '\0';
	if (list[0] != '\0')
		snprintf(out, size, "stream \"%.80s\" differs from the settings: %s", config->stream, list);
}

/* ------------------------------------------------------------------------
 * Acknowledgements
 * ------------------------------------------------------------------------ */

/* Read what came back for a message, which is worth some speed: it begins with the stream's name if it is good. */
Ack
stream_read_ack(const char *data, size_t length, const char *stream, ApiError *error)
{
	static const char start[] = "{\"stream\":\"";
	size_t skip = sizeof(start) - 1;
	size_t name = strlen(stream);
	json_t *ack;
	Ack result = ACK_ERROR;

	if (length > skip + name && memcmp(data, start, skip) == 0 && memcmp(data + skip, stream, name) == 0 &&
	    data[skip + name] == '"' && memmem(data, length, "\"error\"", 7) == NULL)
		return ACK_GOOD;
	ack = json_loadb(data, length, 0, NULL);
	read_error(ack, error);
	if (error->code == 0 && json_object_get(ack, "seq") == NULL)
		*error = (ApiError){.code = 500, .text = "the acknowledgement cannot be read"};
	if (error->code == 0)
		result = strcmp(get_text(ack, "stream"), stream) == 0 ? ACK_GOOD : ACK_ELSEWHERE;
	json_decref(ack);
	return result;
}

/* ------------------------------------------------------------------------
 * The courier looks at the stream; with the lock held, but while it asks
 * ------------------------------------------------------------------------ */

/* Remember what the stream is like. */
static void
note_stream(Broker *b, StreamInfo *info, int64_t max_payload)
{
	char notice[sizeof(b->status.notice)];

	put_differences(info, b->using, notice, sizeof(notice));
	if (!texts_equal(b->subjects, info->subjects))
	{
		texts_free(b->subjects);
		b->subjects = info->subjects;
		b->status.streams++;
		broker_tell(b);
	}
	else
		texts_free(info->subjects);
	if (strcmp(notice, b->status.notice) != 0)
	{
		memcpy(b->status.notice, notice, sizeof(notice));
		broker_tell(b);
	}
	b->status.max_message = (size_t) max_payload;
	if (info->max_message > 0 && info->max_message < max_payload)
		b->status.max_message = (size_t) info->max_message;
	b->no_ttl &= info->ttl;
	b->status.ttl = info->ttl && !b->no_ttl;
	memcpy(b->status.version, info->version, sizeof(info->version));
}

/* Ask for the stream, and make it if there is none.  Without the lock. */
static Answer
ask_for_stream(Broker *b, StreamInfo *info, ApiError *error)
{
	const char *name = b->using->config.stream;
	char subject[320];
	Answer answer = ANSWER_NONE;
	bool made = false;

	*error = (ApiError){0};
	for (int i = 0; i < 3; i++)
	{
		char *text = NULL;
		char *body = made ? create_request(b->using) : NULL;
		bool found;

		snprintf(subject, sizeof(subject), "$JS.API.STREAM.%s.%s", made ? "CREATE" : "INFO", name);
		answer = link_request(b, subject, body != NULL ? body : "", broker_clock() + REQUEST_WAIT, &text);
		free(body);
		if (answer != ANSWER_GIVEN)
			return answer;
		found = read_stream(text, info, error);
		free(text);
		/* Not there: make it.  There after all: somebody else has made it just now. */
		if (found || error->err_code != (made ? 10058 : 10059))
			return answer;
		made = !made;
	}
	return answer;
}

/* Put in words why the stream cannot be used, and tell a stream that cannot be had from one that is not there just now. */
static BrokerState
say_why(Broker *b, Answer answer, const ApiError *error, char *text, size_t size)
{
	const char *name = b->using->config.stream;

	if (answer == ANSWER_NONE)
	{
		snprintf(text, size, "no answer from JetStream about stream \"%.100s\"", name);
		return BROKER_BLOCKED;
	}
	if (answer == ANSWER_NOBODY)
	{
		snprintf(text, size, "JetStream is not enabled at %.100s", b->status.server);
		return BROKER_REFUSED;
	}
	if (error->code == 0)
	{
		snprintf(text, size, "stream \"%.100s\" acknowledges nothing (no_ack)", name);
		return BROKER_REFUSED;
	}
	snprintf(text, size, "stream \"%.80s\": %.150s", name, error->text);
	switch (error->err_code)
	{
		case 10039: /* JetStream is not enabled for the account */
		case 10074: /* replicas, and no cluster */
		case 10076: /* JetStream is not enabled */
			return BROKER_REFUSED;
		default:
			return error->code < 500 ? BROKER_REFUSED : BROKER_BLOCKED;
	}
}

/* Look at the stream; if that fails, say why and try again later. */
void
stream_look(Broker *b)
{
	StreamInfo info = {0};
	ApiError error;
	Answer answer;
	BrokerState state;
	int64_t max_payload;
	char text[sizeof(b->status.error)];

	b->check_at = broker_clock() + CHECK_INTERVAL;
	courier_allow_all(b); /* what is still not allowed will be said again */
	if (strpbrk(b->using->config.stream, " \t\r\n.*>/\\") != NULL || b->using->config.stream[0] == '\0')
	{
		snprintf(text, sizeof(text), "\"%.100s\" is no name of a stream", b->using->config.stream);
		courier_set_state(b, BROKER_REFUSED, text);
		b->not_before = b->check_at;
		return;
	}
	pthread_mutex_unlock(&b->lock);
	max_payload = link_max_payload(b);
	answer = ask_for_stream(b, &info, &error);
	pthread_mutex_lock(&b->lock);
	if (answer == ANSWER_GIVEN && error.code == 0 && !info.no_ack && !courier_disturbed(b))
	{
		note_stream(b, &info, max_payload);
		b->stream_known = true;
		return;
	}
	texts_free(info.subjects);
	/* While messages are acknowledged, a question without an answer means little. */
	if (courier_disturbed(b) || (answer == ANSWER_NONE && b->status.state == BROKER_READY))
		return;
	state = say_why(b, answer, &error, text, sizeof(text));
	courier_set_state(b, state, text);
	b->stream_known = false;
	b->not_before = broker_clock() + courier_backoff(b, b->failures++);
}
