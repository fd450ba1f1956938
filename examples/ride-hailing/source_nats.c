/*
 * source_nats.c
 *		Events from NATS, for event types with delivery => 'nats'.
 *
 * A message says that an event is to be done; whether it still is, Postgres knows:
 * eda.acquire() gives no row for a message that came twice, or too late.  So the
 * message is acknowledged whatever the answer, and before the work begins.  From
 * there on it is the lease that counts: should we die, the engine takes the event
 * back and sends a new message.  A message that nobody acknowledged, because we
 * died earlier, the NATS server gives to another copy of this program.
 *
 * All copies share one durable consumer, made by whoever comes first.
 */
#include <pthread.h>
#include <stdlib.h>

#include <nats/nats.h>

#include "worker.h"

#define SUBJECT "event-engine.flow_b"
#define DURABLE "flow_b"
#define ACK_WAIT_S 5 /* acknowledging takes as long as an eda.acquire() */

const char source_help[] = "environment:\n"
						   "  NATS_URL            servers, separated by commas (nats://127.0.0.1:4222)\n";

static natsConnection *nats;
static jsCtx *jetstream;
static natsSubscription *subscription;

void
source_close(void)
{
	natsSubscription_Destroy(subscription); /* the consumer stays */
	jsCtx_Destroy(jetstream);
	natsConnection_Destroy(nats);
	subscription = NULL;
	jetstream = NULL;
	nats = NULL;
}

/* One try to have a subscription. */
static natsStatus
subscribe(void)
{
	const char *url = getenv("NATS_URL");
	natsOptions *options = NULL;
	jsSubOptions consumer;
	natsStatus s = natsOptions_Create(&options);

	if (s == NATS_OK)
		s = natsOptions_SetURL(options, url != NULL ? url : NATS_DEFAULT_URL);
	if (s == NATS_OK)
		s = natsOptions_SetName(options, name);
	if (s == NATS_OK)
		s = natsOptions_SetAllowReconnect(options, false); /* subscribed() does it */
	if (s == NATS_OK)
		s = natsOptions_SetPingInterval(options, 5000); /* notice a server that is silently gone */
	if (s == NATS_OK)
		s = natsConnection_Connect(&nats, options);
	if (s == NATS_OK)
		s = natsConnection_JetStream(&jetstream, nats, NULL);
	if (s == NATS_OK)
		s = jsSubOptions_Init(&consumer);
	if (s == NATS_OK)
	{
		consumer.Config.AckPolicy = js_AckExplicit;
		consumer.Config.AckWait = ACK_WAIT_S * 1000000000LL;
		s = js_PullSubscribe(&subscription, jetstream, SUBJECT, DURABLE, NULL, &consumer, NULL);
	}
	natsOptions_Destroy(options);
	return s;
}

/* Have a subscription, and try for one with more and more patience.  False: we are to stop. */
static bool
subscribed(void)
{
	long patience = 100;

	while (subscription == NULL)
	{
		sigset_t all, before;
		natsStatus s;

		if (stopping)
			return false;
		/* The library's threads inherit this; a signal to stop is for the main thread. */
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before);
		s = subscribe();
		pthread_sigmask(SIG_SETMASK, &before, NULL);
		if (s == NATS_OK)
			break;
		say("NATS: %s", nats_GetLastError(NULL));
		source_close();
		patience = more_patience(patience);
	}
	return true;
}

/* Acquire the event of a message, if it is still to be had, and acknowledge the message. */
static void
acquire(natsMsg *message)
{
	const char *params[] = {natsMsg_GetData(message), name};
	Outcome result;

	maybe_crash();
	do
	{
		PGresult *res;

		if (!connected())
		{
			natsMsg_Nak(message, NULL); /* for another copy, at once */
			return;
		}
		res = PQexecParams(conn, "SELECT " ACQUIRED " FROM eda.acquire(($1::jsonb ->> 'id')::uuid, worker => $2::text)",
		                   2, NULL, params, NULL, NULL, 0);
		result = outcome(res);
		hold(res);
		PQclear(res);
	} while (result == UNKNOWN);
	maybe_crash();
	natsMsg_Ack(message, NULL);
}

/* Wait for a message; half a second, since a signal to stop does not end that.  Messages come one at a time. */
void
source_take(void)
{
	natsMsgList messages;
	natsStatus s;

	if (!subscribed())
		return;
	s = natsSubscription_Fetch(&messages, subscription, 1, 500, NULL);
	if (s == NATS_OK)
	{
		acquire(messages.Msgs[0]);
		natsMsgList_Destroy(&messages);
	}
	else if (s != NATS_TIMEOUT)
	{
		say("NATS: %s", natsStatus_GetText(s));
		source_close();
	}
}
