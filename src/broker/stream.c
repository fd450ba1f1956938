/*
 * stream.c
 *		The courier looks at the stream, and makes it if it is missing.
 */
#include "broker/broker_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUEST_WAIT INT64_C(4000000)    /* us */
#define CHECK_INTERVAL INT64_C(15000000) /* us */

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
	if (info->duplicate_window != settings_duplicate_window(config) * NS)
	{
		snprintf(part, sizeof(part), "its duplicate_window is %lld s, not %lld s",
		         (long long) (info->duplicate_window / NS), (long long) settings_duplicate_window(config));
		add(list, sizeof(list), part);
	}
	out[0] = '\0';
	if (list[0] != '\0')
		snprintf(out, size, "stream \"%.80s\" differs from the settings: %s", config->stream, list);
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
		char *body = made ? jetstream_create_request(b->using) : NULL;
		bool found;

		snprintf(subject, sizeof(subject), "$JS.API.STREAM.%s.%s", made ? "CREATE" : "INFO", name);
		answer = link_request(b, subject, body != NULL ? body : "", broker_clock() + REQUEST_WAIT, &text);
		free(body);
		if (answer != ANSWER_GIVEN)
			return answer;
		found = jetstream_read_stream(text, info, error);
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
