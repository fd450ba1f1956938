/*
 * courier.c
 *		The thread that brings messages to the broker.
 *
 * A loop that does one thing at a time:
 *
 *   use new settings -> connect -> check the stream -> send <-> wait
 *                        ^    ^                ^        |
 *                        |    | failed: pause  +setback-+
 *                        |    | and retry               |
 *                        +-------- connection lost -----+
 *
 * Sending is go-back-N.  Messages go out as fast as the socket takes them, and their
 * acknowledgements come back in any order.  A setback is a message that was refused, an
 * acknowledgement that does not come, or a lost connection.  After a setback the courier
 * pauses, and then sends all messages without a receipt again, in order and with the same
 * message ids.  It sends the oldest one alone first (probing), and the others when that
 * one is acknowledged.  The stream recognizes the ids of messages that it already has.
 * So messages are in the stream in their order, unless the stream refuses a message and
 * takes the next one.
 *
 * All functions here are called with the lock held, and release it around whatever can
 * block.  After that anything may have changed: courier_step() decides anew.
 */
#include "broker/broker_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* After a connection that lasted this long, failures are counted from 0 again. */
#define HEALTHY (10 * SECOND)

/* How long we wait for any acknowledgement.  While probing, the wait doubles with each setback. */
#define ACK_WAIT (5 * SECOND)
#define ACK_WAIT_MAX (40 * SECOND)

/* How long we wait for the acknowledgement of one message while others are acknowledged. */
#define STRAGGLER (30 * SECOND)

/* How many messages and bytes we send before courier_step() looks for other things to do. */
#define BATCH 128
#define BATCH_BYTES 262144

/* Servers close a connection that sends a line (two subjects and lengths) of more than 4 kB. */
#define MAX_SUBJECT 2048

/* Is the courier needed at all? */
static bool
courier_wanted(const Broker *b)
{
	return !b->stop && b->settings != NULL && b->settings->nservers > 0;
}

/* ------------------------------------------------------------------------
 * Connection
 * ------------------------------------------------------------------------ */

/*
 * Close the connection, if there is one, and forget what we know about its server.  All
 * messages without a receipt will be sent again.
 */
static void
courier_disconnect(Broker *b)
{
	pthread_mutex_unlock(&b->lock);
	link_close(b);
	pthread_mutex_lock(&b->lock);
	b->stream_known = false;
	b->status.server[0] = '\0';
	b->status.version[0] = '\0';
	b->status.max_message = 0;
	b->status.ttl = false;
	state_forget_denied(b);
	b->epoch++;
	ring_go_back(&b->ring);
	b->probing = true;
}

/* Disconnect, and use the newest settings from now on. */
static void
courier_use_new_settings(Broker *b)
{
	if (b->connection != NULL)
		courier_disconnect(b);
	settings_release(b->settings_in_use);
	b->settings_in_use = b->settings;
	b->settings_in_use->users++;
	b->generation_in_use = b->generation;
	texts_free(b->subjects);
	b->subjects = NULL;
	b->status.subject_changes++;
	b->status.notice[0] = '\0';
	b->server = 0;
	b->failures = b->setbacks = 0;
	b->retry_at = 0;
	state_set(b, BROKER_CONNECTING, NULL);
}

/*
 * Connect to one of the servers.  Each is tried once, beginning with b->server.  If all
 * fail, set state and error, and the time for the next attempt.
 */
static void
courier_connect(Broker *b)
{
	char error[sizeof(b->status.error)];
	char worst[sizeof(b->status.error)] = "";
	BrokerState state = BROKER_UNREACHABLE;

	for (int i = 0; i < b->settings_in_use->nservers && !state_interrupted(b); i++)
	{
		int server = (b->server + i) % b->settings_in_use->nservers;
		const char *url = b->settings_in_use->servers[server];
		BrokerState result;

		pthread_mutex_unlock(&b->lock);
		result = link_open(b, url, error, sizeof(error));
		pthread_mutex_lock(&b->lock);
		if (result == BROKER_CONNECTING)
		{
			b->server = server;
			b->connected_at = state_now();
			b->status.reconnects += b->was_connected;
			b->was_connected = true;
			url_host(url, b->status.server, sizeof(b->status.server));
			return;
		}
		/* Report a server that refuses us rather than one that does not answer. */
		if (worst[0] == '\0' || (result == BROKER_REFUSED && state != BROKER_REFUSED))
		{
			memcpy(worst, error, sizeof(worst));
			state = result;
		}
	}
	if (b->stop || b->generation != b->generation_in_use)
		return;
	state_set(b, state, worst);
	b->retry_at = state_now() + state_backoff(b, b->failures++);
}

/* Handle a lost connection: set state and error, and let the next server be tried first. */
static void
courier_lose_connection(Broker *b)
{
	bool refused = strstr(b->trouble_text, "uthorization") != NULL || strstr(b->trouble_text, "uthentication") != NULL;
	int64_t now = state_now();
	char error[sizeof(b->status.error)];

	snprintf(error, sizeof(error), "connection to %.100s lost: %.120s", b->status.server, b->trouble_text);
	courier_disconnect(b);
	state_set(b, refused ? BROKER_REFUSED : BROKER_UNREACHABLE, error);
	if (now - b->connected_at >= HEALTHY)
		b->failures = 0;
	b->retry_at = b->failures == 0 ? 0 : now + state_backoff(b, b->failures);
	b->failures++;
	b->server = (b->server + 1) % b->settings_in_use->nservers;
}

/* ------------------------------------------------------------------------
 * Sending
 * ------------------------------------------------------------------------ */

/*
 * Is this a message that we must not send?  If so, *verdict and *error are those of its
 * receipt.
 */
static bool
parcel_unsendable(Broker *b, const Parcel *parcel, BrokerVerdict *verdict, char *error, size_t size)
{
	struct timespec now;

	error[0] = '\0';
	*verdict = BROKER_REJECTED;
	if (parcel->wire > b->status.max_message)
		snprintf(error, size, "message of %zu bytes is larger than the %zu bytes that the broker takes", parcel->wire,
		         b->status.max_message);
	else if (strlen(parcel->subject) > MAX_SUBJECT)
		snprintf(error, size, "subject of %zu bytes is too long", strlen(parcel->subject));
	else if (strpbrk(parcel->subject, " \t\r\n") != NULL)
		snprintf(error, size, "subject contains white space");
	else if (texts_contain(b->denied, parcel->subject))
	{
		*verdict = BROKER_UNCOVERED;
		snprintf(error, size, "not allowed to publish to \"%.100s\"", parcel->subject);
	}
	else if (b->subjects != NULL && !texts_cover(b->subjects, parcel->subject))
	{
		*verdict = BROKER_UNCOVERED;
		snprintf(error, size, "stream \"%s\" does not take subject \"%.80s\"", b->settings_in_use->config.stream,
		         parcel->subject);
	}
	if (error[0] != '\0' || parcel->expires_at == 0)
		return error[0] != '\0';
	*verdict = BROKER_EXPIRED;
	clock_gettime(CLOCK_REALTIME, &now);
	return parcel->expires_at <= (int64_t) now.tv_sec * SECOND + now.tv_nsec / 1000;
}

/*
 * Choose the next messages to send, at most max of them, and pin them.  Returns how many.
 * Messages that cannot be sent get their receipts here.
 */
static int
choose_batch(Broker *b, const Parcel **parcels, uint64_t *numbers, int max)
{
	Ring *ring = &b->ring;
	int64_t now = state_now();
	uint64_t number = ring->next;
	size_t bytes = 0;
	int n = 0;

	if (ring->in_flight == 0)
		b->last_ack = now;
	for (; number < ring->last && n < max && bytes < BATCH_BYTES; number++)
	{
		Slot *slot = ring_find_waiting(ring, number);
		BrokerVerdict verdict;
		char error[sizeof(((BrokerReceipt *) NULL)->error)];

		if (slot == NULL)
			continue;
		if (parcel_unsendable(b, slot->parcel, &verdict, error, sizeof(error)))
		{
			ring_write_receipt(ring, number, verdict, error);
			state_signal_caller(b);
			continue;
		}
		b->status.resent += slot->sent;
		slot->sent = true;
		slot->sent_at = now;
		bytes += slot->parcel->wire;
		parcels[n] = slot->parcel;
		numbers[n++] = number;
	}
	ring_pin(ring, number);
	return n;
}

/* Send the next messages. */
static void
send_batch(Broker *b)
{
	const Parcel *parcels[BATCH];
	uint64_t numbers[BATCH];
	int n = choose_batch(b, parcels, numbers, b->probing ? 1 : BATCH);
	uint64_t epoch = b->epoch;
	bool ttl = b->status.ttl;
	SendResult sent = SENT;
	int i;

	pthread_mutex_unlock(&b->lock);
	for (i = 0; i < n && sent == SENT; i++)
		sent = link_send(b, parcels[i], epoch, numbers[i], ttl);
	pthread_mutex_lock(&b->lock);
	ring_unpin(&b->ring);
	if (sent == SEND_REFUSED)
	{
		if (ring_find_waiting(&b->ring, numbers[i - 1]) != NULL)
			ring_write_receipt(&b->ring, numbers[i - 1], BROKER_REJECTED, "nats.c refuses the message");
		state_signal_caller(b);
		/* The later messages of this batch were not sent: start over with the oldest. */
		b->epoch++;
		ring_go_back(&b->ring);
	}
	if (sent == SEND_LOST && b->trouble != TROUBLE_LOST)
	{
		b->trouble = TROUBLE_LOST;
		snprintf(b->trouble_text, sizeof(b->trouble_text), "cannot send to the server");
	}
}

/*
 * Handle a setback: after a pause, send the oldest message without a receipt alone, and
 * the others when it is acknowledged.
 */
static void
retry_from_oldest(Broker *b)
{
	if (!b->probing)
		b->setbacks = 0;
	b->epoch++;
	ring_go_back(&b->ring);
	b->probing = true;
	b->retry_at = state_now() + state_backoff(b, b->setbacks++);
}

/*
 * Handle an error that says that we may not publish to a subject: write receipts for the
 * messages to it, remember the subject, and go on with other messages.
 *
 * Returns false if the error names no subject, or none that a message has.
 */
static bool
deny_subject(Broker *b)
{
	static const char before[] = "ublish to \"";
	char *subject = strstr(b->trouble_text, before);
	char error[sizeof(b->status.error)];
	int n = 0;

	if (subject == NULL || strrchr(subject, '"') == subject + sizeof(before) - 2)
		return false;
	snprintf(error, sizeof(error), "%s", b->trouble_text);
	subject += sizeof(before) - 1;
	*strrchr(subject, '"') = '\0';
	if (texts_contain(b->denied, subject))
		return true;
	if (ring_write_subject_receipts(&b->ring, subject, BROKER_UNCOVERED, error) == 0)
		return false;
	while (b->denied[n] != NULL)
		n++;
	if (n < MAX_DENIED)
		b->denied[n] = strdup(subject);
	b->status.subject_changes++;
	snprintf(b->status.error, sizeof(b->status.error), "%s", error);
	state_signal_caller(b);
	return true;
}

/* Handle the trouble that a callback has reported, except for a lost connection. */
static void
handle_trouble(Broker *b)
{
	Trouble trouble = b->trouble;
	char text[sizeof(b->status.error)];

	b->trouble = TROUBLE_NONE;
	if (trouble == TROUBLE_DENIED && deny_subject(b))
		return;
	if (trouble == TROUBLE_TTL)
	{
		b->no_ttl = true;
		b->status.ttl = false;
		b->epoch++;
		ring_go_back(&b->ring);
		return;
	}
	if (trouble == TROUBLE_REFUSED)
		snprintf(text, sizeof(text), "stream \"%.80s\": %.150s", b->settings_in_use->config.stream, b->trouble_text);
	else
		snprintf(text, sizeof(text), "%s", b->trouble_text);
	state_set(b, trouble == TROUBLE_DENIED ? BROKER_REFUSED : BROKER_BLOCKED, text);
	/* The stream was deleted, its subjects have changed, or it has no leader: check it again. */
	if (trouble == TROUBLE_NO_STREAM)
		b->stream_known = false;
	retry_from_oldest(b);
}

/*
 * Until when we wait for the next acknowledgement before we call it a setback; NEVER if
 * no message is in flight.
 */
static int64_t
silence_deadline(Broker *b)
{
	int64_t wait = ACK_WAIT << (b->setbacks < 3 ? b->setbacks : 3);
	const Slot *oldest = ring_oldest_in_flight(&b->ring);
	int64_t until;

	if (oldest == NULL)
		return NEVER;
	if (wait > ACK_WAIT_MAX)
		wait = ACK_WAIT_MAX;
	until = b->last_ack + (b->probing ? wait : ACK_WAIT);
	return until < oldest->sent_at + STRAGGLER ? until : oldest->sent_at + STRAGGLER;
}

/*
 * Send the next messages, if there are any and they may be sent now.  Otherwise wait for
 * acknowledgements or for messages.
 */
static void
send_or_wait(Broker *b)
{
	Ring *ring = &b->ring;
	int64_t now = state_now();
	int64_t silence;
	char text[sizeof(b->status.error)];

	/* Without a message to probe with, the stream counts as ready. */
	if (!b->probing || ring->waiting == 0)
		state_set(b, BROKER_READY, NULL);
	if (!b->probing)
		b->failures = 0;
	if (ring->next < ring->last && (!b->probing || ring->in_flight == 0))
	{
		send_batch(b);
		return;
	}
	silence = silence_deadline(b);
	if (silence > now)
	{
		(void) state_wait(b, silence < b->check_at ? silence : b->check_at);
		return;
	}
	if (now - b->last_ack >= ACK_WAIT)
	{
		snprintf(text, sizeof(text), "no acknowledgement from stream \"%.100s\" for %d s",
		         b->settings_in_use->config.stream, (int) ((now - b->last_ack) / SECOND));
		state_set(b, BROKER_BLOCKED, text);
	}
	retry_from_oldest(b);
}

/* ------------------------------------------------------------------------
 * The thread
 * ------------------------------------------------------------------------ */

/* Do the next thing that there is to do.  The newest settings name a server. */
static void
courier_step(Broker *b)
{
	if (b->generation != b->generation_in_use)
		courier_use_new_settings(b);
	else if (b->trouble == TROUBLE_LOST)
		courier_lose_connection(b);
	else if (b->trouble != TROUBLE_NONE)
		handle_trouble(b);
	else if (state_now() < b->retry_at)
		(void) state_wait(b, b->retry_at);
	else if (b->connection == NULL)
		courier_connect(b);
	else if (!b->stream_known || state_now() >= b->check_at)
		stream_check(b);
	else
		send_or_wait(b);
}

/*
 * The thread's main function: work as long as the settings name a server, then disconnect
 * and end the threads of nats.c.
 */
static void *
courier_main(void *arg)
{
	Broker *b = arg;
	bool closed;

	pthread_mutex_lock(&b->lock);
	do
	{
		while (courier_wanted(b))
			courier_step(b);
		courier_disconnect(b);
		pthread_mutex_unlock(&b->lock);
		closed = link_close_library();
		pthread_mutex_lock(&b->lock);
	} while (courier_wanted(b));
	b->threads_left |= !closed;
	b->status.notice[0] = '\0';
	state_set(b, BROKER_OFF, NULL);
	b->running = false;
	pthread_cond_signal(&b->ended);
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

/*
 * Start the thread.  All signals are blocked in it, and so in the threads of nats.c that
 * it starts: signals are for PostgreSQL's main thread.
 */
bool
courier_start(Broker *b)
{
	sigset_t all;
	sigset_t before;

	/* An earlier thread has ended, or is about to return from courier_main(). */
	if (b->started)
		pthread_join(b->courier, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	b->started = b->running = pthread_create(&b->courier, NULL, courier_main, b) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return b->running;
}
