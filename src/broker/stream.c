/*
 * stream.c
 *		Check the stream every 15 s, and create it if it does not exist.
 *
 * An existing stream is never altered.  Where it differs from the settings, the status
 * says so in a notice.
 */
#include "broker/broker_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_WAIT (4 * SECOND)
#define CHECK_INTERVAL (15 * SECOND)

/* Append a difference to a list, as far as it fits. */
static void
add_difference(char *list, size_t size, const char *difference)
{
	size_t length = strlen(list);

	snprintf(list + length, size - length, "%s%s", length > 0 ? "; " : "", difference);
}

/* Write how a stream differs from the settings; nothing if it does not. */
static void
describe_differences(const StreamInfo *info, const Settings *settings, char *out, size_t size)
{
	const BrokerConfig *config = &settings->config;
	char list[400] = "";
	char part[120];

	for (char **s = settings->subjects; *s != NULL; s++)
	{
		if (texts_cover(info->subjects, *s))
			continue;
		snprintf(part, sizeof(part), "it does not take all of \"%s\"", *s);
		add_difference(list, sizeof(list), part);
	}
	if (!info->file)
		add_difference(list, sizeof(list), "its storage is memory, not file");
	if (info->replicas != config->replicas)
	{
		snprintf(part, sizeof(part), "it has %d replicas, not %d", info->replicas, config->replicas);
		add_difference(list, sizeof(list), part);
	}
	if (info->max_age != config->max_age * NS_PER_SECOND)
	{
		snprintf(part, sizeof(part), "its max_age is %lld s, not %lld s", (long long) (info->max_age / NS_PER_SECOND),
		         (long long) config->max_age);
		add_difference(list, sizeof(list), part);
	}
	if (info->duplicate_window != settings_duplicate_window(config) * NS_PER_SECOND)
	{
		snprintf(part, sizeof(part), "its duplicate_window is %lld s, not %lld s",
		         (long long) (info->duplicate_window / NS_PER_SECOND), (long long) settings_duplicate_window(config));
		add_difference(list, sizeof(list), part);
	}
	out[0] = '\0';
	if (list[0] != '\0')
		snprintf(out, size, "stream \"%.80s\" differs from the settings: %s", config->stream, list);
}

/* ------------------------------------------------------------------------
 * The check.  The courier holds the lock, except while it waits for an answer.
 * ------------------------------------------------------------------------ */

/* Put what we have learned about the stream into struct Broker; takes over info->subjects. */
static void
remember_stream(Broker *b, StreamInfo *info, int64_t max_payload)
{
	char notice[sizeof(b->status.notice)];

	describe_differences(info, b->settings_in_use, notice, sizeof(notice));
	if (!texts_equal(b->subjects, info->subjects))
	{
		texts_free(b->subjects);
		b->subjects = info->subjects;
		b->status.subject_changes++;
		state_signal_caller(b);
	}
	else
		texts_free(info->subjects);
	if (strcmp(notice, b->status.notice) != 0)
	{
		memcpy(b->status.notice, notice, sizeof(notice));
		state_signal_caller(b);
	}
	b->status.max_message = (size_t) max_payload;
	if (info->max_message > 0 && info->max_message < max_payload)
		b->status.max_message = (size_t) info->max_message;
	b->no_ttl &= info->ttl;
	b->status.ttl = info->ttl && !b->no_ttl;
	memcpy(b->status.version, info->version, sizeof(info->version));
}

/* Find out how the stream is configured, and create it if it does not exist.  Without the lock. */
static RequestResult
find_or_create_stream(Broker *b, StreamInfo *info, JetStreamError *error)
{
	const char *name = b->settings_in_use->config.stream;
	char subject[320];
	RequestResult result = REQUEST_GIVEN_UP;
	bool made = false;

	*error = (JetStreamError){0};
	for (int i = 0; i < 3; i++)
	{
		char *text = NULL;
		char *body = made ? jetstream_create_request(b->settings_in_use) : NULL;
		bool found;

		snprintf(subject, sizeof(subject), "$JS.API.STREAM.%s.%s", made ? "CREATE" : "INFO", name);
		result = link_request(b, subject, body != NULL ? body : "", state_now() + REQUEST_WAIT, &text);
		free(body);
		if (result != REQUEST_ANSWERED)
			return result;
		found = jetstream_read_stream(text, info, error);
		free(text);
		/*
		 * If the stream does not exist, create it.  If somebody else created it just
		 * before us, ask again.
		 */
		if (found || error->err_code != (made ? JS_STREAM_NAME_IN_USE : JS_STREAM_NOT_FOUND))
			return result;
		made = !made;
	}
	return result;
}

/*
 * Write why the stream cannot be used.  Returns BROKER_REFUSED if somebody has to change
 * something first, and BROKER_BLOCKED if the stream may come back by itself.
 */
static BrokerState
explain_stream_failure(Broker *b, RequestResult result, const JetStreamError *error, char *text, size_t size)
{
	const char *name = b->settings_in_use->config.stream;

	if (result == REQUEST_GIVEN_UP)
	{
		snprintf(text, size, "no answer from JetStream about stream \"%.100s\"", name);
		return BROKER_BLOCKED;
	}
	if (result == REQUEST_NO_RESPONDER)
	{
		snprintf(text, size, "JetStream is not enabled at %.100s", b->status.server);
		return BROKER_REFUSED;
	}
	if (error->code == 0)
	{
		snprintf(text, size, "stream \"%.100s\" does not acknowledge messages (no_ack)", name);
		return BROKER_REFUSED;
	}
	snprintf(text, size, "stream \"%.80s\": %.150s", name, error->text);
	switch (error->err_code)
	{
		case JS_NOT_ENABLED_FOR_ACCOUNT:
		case JS_REPLICAS_NEED_CLUSTER:
		case JS_NOT_ENABLED:
			return BROKER_REFUSED;
		default:
			return error->code < 500 ? BROKER_REFUSED : BROKER_BLOCKED;
	}
}

/* Check the stream.  If that fails, set state and error, and the time for the next attempt. */
void
stream_check(Broker *b)
{
	StreamInfo info = {0};
	JetStreamError error;
	RequestResult result;
	BrokerState state;
	int64_t max_payload;
	char text[sizeof(b->status.error)];

	b->check_at = state_now() + CHECK_INTERVAL;
	/* The server will deny them again if they are still not allowed. */
	state_forget_denied(b);
	if (strpbrk(b->settings_in_use->config.stream, " \t\r\n.*>/\\") != NULL ||
	    b->settings_in_use->config.stream[0] == '\0')
	{
		snprintf(text, sizeof(text), "\"%.100s\" is not a valid stream name", b->settings_in_use->config.stream);
		state_set(b, BROKER_REFUSED, text);
		b->retry_at = b->check_at;
		return;
	}
	pthread_mutex_unlock(&b->lock);
	max_payload = link_max_payload(b);
	result = find_or_create_stream(b, &info, &error);
	pthread_mutex_lock(&b->lock);
	if (result == REQUEST_ANSWERED && error.code == 0 && !info.no_ack && !state_interrupted(b))
	{
		remember_stream(b, &info, max_payload);
		b->stream_known = true;
		return;
	}
	texts_free(info.subjects);
	/* As long as messages are acknowledged, a missing answer changes nothing. */
	if (state_interrupted(b) || (result == REQUEST_GIVEN_UP && b->status.state == BROKER_READY))
		return;
	state = explain_stream_failure(b, result, &error, text, sizeof(text));
	state_set(b, state, text);
	b->stream_known = false;
	b->retry_at = state_now() + state_backoff(b, b->failures++);
}
