/*
 * state.c
 *		The small functions on struct Broker that all other files build on.
 *
 * All of them but state_now() must be called with the broker's lock held.
 */
#include "broker/broker_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BACKOFF_MIN (100 * MILLISECOND)
#define BACKOFF_MAX (10 * SECOND)

/* The monotonic clock in microseconds: setting the system's time does not change it. */
int64_t
state_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * SECOND + now.tv_nsec / 1000;
}

/* Make event_fd readable, unless it is, so that the caller looks for receipts and status. */
void
state_signal_caller(Broker *broker)
{
	uint64_t one = 1;

	if (broker->signalled)
		return;
	broker->signalled = write(broker->event_fd, &one, sizeof(one)) == (ssize_t) sizeof(one);
}

/* Set the state, and the error unless it is NULL.  Signal the caller if one has changed. */
void
state_set(Broker *b, BrokerState state, const char *error)
{
	char *last = b->status.error;

	if (state == b->status.state && (error == NULL || strcmp(error, last) == 0))
		return;
	b->status.state = state;
	if (error != NULL)
		snprintf(last, sizeof(b->status.error), "%s", error);
	state_signal_caller(b);
}

/* Forget which subjects the server did not let us publish to. */
void
state_forget_denied(Broker *b)
{
	if (b->denied[0] != NULL)
		b->status.subject_changes++;
	texts_clear(b->denied);
}

/*
 * The pause after so many failures in a row.  It doubles with each failure from 0.1 s to
 * 10 s, less a random part of up to one half, so that engines do not retry in step.
 */
int64_t
state_backoff(Broker *b, int failures)
{
	int64_t pause = failures < 8 ? BACKOFF_MIN << failures : BACKOFF_MAX;

	if (pause > BACKOFF_MAX)
		pause = BACKOFF_MAX;
	return pause / 2 + pause / 2 * (rand_r(&b->seed) % 1024) / 1024;
}

/*
 * Must the courier stop what it is doing?  It must when the broker ends, when the
 * settings have changed, when the connection is lost and when a subject was denied.
 */
bool
state_interrupted(const Broker *b)
{
	return b->stop || b->generation != b->generation_in_use || b->trouble == TROUBLE_LOST ||
	       b->trouble == TROUBLE_DENIED;
}

/*
 * Let the courier sleep until it is woken or the time has come; the lock is released
 * meanwhile.  Returns true if the courier was woken and may go on with what it is doing.
 */
bool
state_wait(Broker *b, int64_t until)
{
	struct timespec t = {.tv_sec = (time_t) (until / SECOND), .tv_nsec = (long) (until % SECOND * 1000)};
	bool woken;

	if (state_interrupted(b))
		return false;
	b->sleeping = true;
	if (until == NEVER)
		woken = pthread_cond_wait(&b->wake, &b->lock) == 0;
	else
		woken = pthread_cond_timedwait(&b->wake, &b->lock, &t) == 0;
	b->sleeping = false;
	return woken && !state_interrupted(b);
}
