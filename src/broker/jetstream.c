/*
 * jetstream.c
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
#include "broker/broker_int.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/*
 * The request that makes the stream.  discard "new": a full stream refuses what
 * comes, which is seen and tried again, instead of dropping what nobody has read.
 */
char *
jetstream_create_request(const Settings *settings)
{
	const BrokerConfig *config = &settings->config;
	json_t *subjects = json_array();
	json_t *request;
	char *text;

	for (char **s = settings->subjects; *s != NULL; s++)
		json_array_append_new(subjects, json_string(*s));
	request = json_pack("{s:s, s:o, s:s, s:s, s:s, s:i, s:I, s:I, s:i, s:i, s:i, s:i, s:b}", "name", config->stream,
	                    "subjects", subjects, "retention", "limits", "storage", "file", "discard", "new",
	                    "num_replicas", config->replicas, "max_age", (json_int_t) config->max_age * NS_PER_SECOND,
	                    "duplicate_window", (json_int_t) settings_duplicate_window(config) * NS_PER_SECOND, "max_msgs",
	                    -1, "max_bytes", -1, "max_msg_size", -1, "max_consumers", -1, "allow_msg_ttl", 1);
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

/* Read what came back for a message, which is worth some speed: it begins with the stream's name if it is good. */
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
