/*
 * jetstream.c
 *		The JSON of what we ask JetStream and of what it answers.
 *
 * We send plain requests to $JS.API, because the functions of nats.c 3.4 (Debian 12) do
 * not know allow_msg_ttl.  A server older than 2.11 does not know it either: it ignores
 * it in a request and leaves it out of the answer.  That is how we learn that messages
 * cannot have a time to live.
 *
 * Never use json_object() of jansson here.  PostgreSQL has a function of that name, which
 * would be called in its place.
 */
#include "broker/broker_int.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * Write the request that creates the stream; NULL if there is no memory.
 *
 * With discard "new" a full stream refuses new messages, which we notice and send again.
 * The other choice, "old", would drop messages that no consumer has read.
 */
char *
jetstream_create_request(const Settings *settings)
{
	const BrokerConfig *config = &settings->config;
	json_int_t max_age = (json_int_t) config->max_age * NS_PER_SECOND;
	json_int_t window = (json_int_t) settings_duplicate_window(config) * NS_PER_SECOND;
	json_t *subjects = json_array();
	json_t *request;
	char *text;

	for (char **s = settings->subjects; *s != NULL; s++)
		json_array_append_new(subjects, json_string(*s));
	request = json_pack("{s:s, s:o, s:s, s:s, s:s, s:i, s:I, s:I, s:i, s:i, s:i, s:i, s:b}", "name", config->stream,
	                    "subjects", subjects, "retention", "limits", "storage", "file", "discard", "new",
	                    "num_replicas", config->replicas, "max_age", max_age, "duplicate_window", window, "max_msgs",
	                    -1, "max_bytes", -1, "max_msg_size", -1, "max_consumers", -1, "allow_msg_ttl", 1);
	text = request != NULL ? json_dumps(request, JSON_COMPACT) : NULL;
	json_decref(request);
	return text;
}

/* A number in a JSON object; 0 if it is missing. */
static int64_t
get_integer(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

/* A string in a JSON object; empty if it is missing. */
static const char *
get_text(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	return text != NULL ? text : "";
}

/* Read the error of an answer; its code is 0 if there is none. */
static void
read_error(const json_t *answer, JetStreamError *error)
{
	const json_t *e = json_object_get(answer, "error");

	*error = (JetStreamError){0};
	if (e == NULL)
		return;
	error->code = (int) get_integer(e, "code");
	error->err_code = (int) get_integer(e, "err_code");
	if (error->code == 0)
		error->code = 500;
	snprintf(error->text, sizeof(error->text), "%s", get_text(e, "description"));
}

/* Copy the strings of a JSON array to a list; returns NULL if there is no memory. */
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

/*
 * Read the answer to a request for a stream's configuration, or to create a stream.
 * Returns false if the answer is an error or cannot be read; then *error says which.
 */
bool
jetstream_read_stream(const char *text, StreamInfo *info, JetStreamError *error)
{
	json_t *answer = json_loads(text, 0, NULL);
	const json_t *config = json_object_get(answer, "config");

	*info = (StreamInfo){0};
	read_error(answer, error);
	if (error->code == 0 && config == NULL)
		*error = (JetStreamError){.code = 500, .text = "the server's answer cannot be read"};
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
			*error = (JetStreamError){.code = 500, .text = "out of memory"};
	}
	json_decref(answer);
	return error->code == 0;
}

/*
 * Read the acknowledgement of a message.
 *
 * There is one for each message, so the usual ones are recognized without a parser: they
 * begin with the stream's name and contain no error.
 */
Ack
jetstream_read_ack(const char *data, size_t length, const char *stream, JetStreamError *error)
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
		*error = (JetStreamError){.code = 500, .text = "the acknowledgement cannot be read"};
	if (error->code == 0)
		result = strcmp(get_text(ack, "stream"), stream) == 0 ? ACK_GOOD : ACK_WRONG_STREAM;
	json_decref(ack);
	return result;
}
