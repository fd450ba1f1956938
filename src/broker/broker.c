/*
 * broker.c
 *		The functions of broker.h, for the caller's thread.
 *
 * Whatever can block is done by the courier (courier.c).  The functions here hold the
 * lock for moments only, and never call nats.c.
 */
#include "broker/broker_int.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#ifndef DESTROY_WAIT   /* the broker's test has a longer one, for slow machines */
#define DESTROY_WAIT 2 /* s; link.c has shorter timeouts */
#endif

/* ------------------------------------------------------------------------
 * Begin, change, end
 * ------------------------------------------------------------------------ */

/* Free a broker.  None of its threads may still run. */
static void
broker_free(Broker *broker)
{
	ring_free(&broker->ring);
	settings_release(broker->settings);
	settings_release(broker->settings_in_use);
	texts_free(broker->subjects);
	texts_clear(broker->denied);
	close(broker->event_fd);
	pthread_cond_destroy(&broker->ended);
	pthread_cond_destroy(&broker->wake);
	pthread_mutex_destroy(&broker->lock);
	free(broker);
}

Broker *
broker_create(int *event_fd)
{
	Broker *broker = calloc(1, sizeof(Broker));
	pthread_condattr_t monotonic;

	if (broker == NULL)
		return NULL;
	broker->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (broker->event_fd < 0)
	{
		free(broker);
		return NULL;
	}
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&broker->lock, NULL);
	pthread_cond_init(&broker->wake, &monotonic);
	pthread_cond_init(&broker->ended, &monotonic);
	pthread_condattr_destroy(&monotonic);
	broker->epoch = 1;
	broker->probing = true;
	broker->seed = (unsigned int) (state_now() ^ getpid());
	*event_fd = broker->event_fd;
	return broker;
}

bool
broker_configure(Broker *broker, const BrokerConfig *config)
{
	Settings *before = broker->settings;
	Settings *settings;
	bool done = true;

	/* Only this thread changes broker->settings, so it may read them without the lock. */
	if (before != NULL && settings_equal(before, config) && (broker->started || before->nservers == 0))
		return true;
	settings = settings_create(config);
	if (settings == NULL)
		return false;
	pthread_mutex_lock(&broker->lock);
	broker->settings = settings;
	broker->generation++;
	if (settings->nservers > 0 && !broker->running)
	{
		/* The last courier never takes the lock again, so courier_start() may join it here. */
		done = courier_start(broker);
		if (!done)
		{
			broker->settings = before;
			broker->generation--;
		}
	}
	settings_release(done ? before : settings);
	pthread_cond_signal(&broker->wake);
	pthread_mutex_unlock(&broker->lock);
	return done;
}

bool
broker_destroy(Broker *broker)
{
	struct timespec until;
	bool ended;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += DESTROY_WAIT;
	pthread_mutex_lock(&broker->lock);
	broker->stop = true;
	pthread_cond_signal(&broker->wake);
	while (broker->running && pthread_cond_timedwait(&broker->ended, &broker->lock, &until) == 0)
		;
	ended = !broker->running;
	pthread_mutex_unlock(&broker->lock);
	if (!ended)
		return false;
	if (broker->started)
		pthread_join(broker->courier, NULL);
	/* Threads of nats.c may still call back with this broker: do not free it. */
	if (broker->threads_left)
		return false;
	broker_free(broker);
	return true;
}

/* ------------------------------------------------------------------------
 * Messages and receipts
 * ------------------------------------------------------------------------ */

int
broker_room(Broker *broker)
{
	const Ring *ring = &broker->ring;
	int room = 0;

	pthread_mutex_lock(&broker->lock);
	if (broker->status.state == BROKER_READY && ring->bytes < BROKER_WINDOW_BYTES)
		room = BROKER_WINDOW - (int) (ring->last - ring->first);
	pthread_mutex_unlock(&broker->lock);
	return room;
}

bool
broker_publish(Broker *broker, const BrokerMessage *message)
{
	Parcel *parcel = parcel_create(message);
	bool taken;

	if (parcel == NULL)
		return false;
	pthread_mutex_lock(&broker->lock);
	taken = ring_add(&broker->ring, &message->tag, parcel);
	pthread_mutex_unlock(&broker->lock);
	if (!taken)
		free(parcel);
	return taken;
}

void
broker_flush(Broker *broker)
{
	pthread_mutex_lock(&broker->lock);
	if (broker->sleeping && broker->ring.next < broker->ring.last)
		pthread_cond_signal(&broker->wake);
	pthread_mutex_unlock(&broker->lock);
}

void
broker_withdraw(Broker *broker, const BrokerTag *tag)
{
	pthread_mutex_lock(&broker->lock);
	ring_withdraw(&broker->ring, tag);
	/* The courier may have been waiting for the acknowledgement of this message only. */
	if (broker->sleeping && broker->ring.waiting == 0)
		pthread_cond_signal(&broker->wake);
	pthread_mutex_unlock(&broker->lock);
}

int
broker_receipts(Broker *broker, BrokerReceipt *out, int max)
{
	uint64_t count;
	int n;

	pthread_mutex_lock(&broker->lock);
	n = ring_read_receipts(&broker->ring, out, max);
	if (n < max && broker->signalled)
		broker->signalled = read(broker->event_fd, &count, sizeof(count)) < 0;
	pthread_mutex_unlock(&broker->lock);
	return n;
}

void
broker_status(Broker *broker, BrokerStatus *out)
{
	pthread_mutex_lock(&broker->lock);
	*out = broker->status;
	out->unacknowledged = broker->ring.waiting;
	pthread_mutex_unlock(&broker->lock);
}

bool
broker_covers(Broker *broker, const char *subject)
{
	bool covers;

	pthread_mutex_lock(&broker->lock);
	covers = broker->subjects == NULL || texts_cover(broker->subjects, subject);
	covers &= !texts_contain(broker->denied, subject);
	pthread_mutex_unlock(&broker->lock);
	return covers;
}

const char *
broker_state_name(BrokerState state)
{
	static const char *const names[] = {"off", "connecting", "ready", "unreachable", "refused", "blocked"};

	return names[state];
}
