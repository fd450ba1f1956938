/*
 * state.c
 *		What all sides of the broker do with the state that they share.
 *
 * The ground on which the other files stand.  All functions but state_now() are
 * called with the lock held.
 */
#include "broker/broker_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BACKOFF_MIN (100 * MILLISECOND)
#define BACKOFF_MAX (10 * SECOND)

/* Microseconds since some time, which no clock change moves. */
int64_t
state_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * SECOND + now.tv_nsec / 1000;
}

/* Make the descriptor readable, once until somebody has read; with the lock held. */
void
state_signal_caller(Broker *broker)
{
	uint64_t one = 1;

	if (broker->signalled)
		return;
	broker->signalled = write(broker->event_fd, &one, sizeof(one)) == (ssize_t) sizeof(one);
}

/* Set the state, and the error unless that is NULL; tell the caller if that is news. */
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

/* Forget which subjects were not allowed to us. */
void
state_forget_denied(Broker *b)
{
	if (b->denied[0] != NULL)
		b->status.subject_changes++;
	texts_clear(b->denied);
}

/* The pause after so many failures in a row: doubling, and not the same for all. */
int64_t
state_backoff(Broker *b, int failures)
{
	int64_t pause = failures < 8 ? BACKOFF_MIN << failures : BACKOFF_MAX;

	if (pause > BACKOFF_MAX)
		pause = BACKOFF_MAX;
	return pause / 2 + pause / 2 * (rand_r(&b->seed) % 1024) / 1024;
}

/* Whether what the courier is doing has become pointless. */
bool
state_interrupted(const Broker *b)
{
	return b->stop || b->generation != b->generation_in_use || b->trouble == TROUBLE_LOST ||
	       b->trouble == TROUBLE_DENIED;
}

/* Sleep until something happens.  False: the time has come, or there is something else to do. */
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
