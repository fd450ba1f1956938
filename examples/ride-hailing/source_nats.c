/*
 * source_nats.c
 *		A source of events: messages from NATS, for event types with delivery => 'nats'.
 *
 * A message says that there is an event; only Postgres knows whether it still is to
 * be processed.  eda.acquire() returns no row for a message that came twice or too
 * late.  So the worker acknowledges the message whatever the answer is, before it
 * begins to work.  From then on the lease counts: if the worker dies, the engine
 * ends the attempt when the lease ends, and sends a new message.  If the worker dies
 * before it acknowledges the message, NATS sends the message to another worker.
 *
 * All workers share one durable consumer, which the first one creates.
 */
#include <pthread.h>
#include <stdlib.h>

#include <nats/nats.h>

#include "worker.h"

#define SUBJECT "event-engine.flow_b"
#define DURABLE "flow_b"
#define ACK_WAIT_S 5 /* seconds; an acknowledgement takes no longer than an eda.acquire() */

const char source_help[] = "environment:\n"
						   "  NATS_URL            servers, separated by commas (nats://127.0.0.1:4222)\n";

static natsConnection *nats;
static jsCtx *jetstream;
static natsSubscription *subscription;

void
source_close(void)
{
	natsSubscription_Destroy(subscription); /* the durable consumer stays in the server */
	jsCtx_Destroy(jetstream);
	natsConnection_Destroy(nats);
	subscription = NULL;
	jetstream = NULL;
	nats = NULL;
}

/* Try once to connect and subscribe. */
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
		s = natsOptions_SetAllowReconnect(options, false); /* subscribed() reconnects */
	if (s == NATS_OK)
		s = natsOptions_SetPingInterval(options, 5000); /* ms; notices a server that no longer answers */
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

/*
 * Subscribe unless there is a subscription, and try again after longer and longer
 * pauses.  False: a signal to stop came.
 */
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
		/* The library's threads inherit the signal mask: only the main thread gets signals. */
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

/* Acquire the event of a message, if it still can be acquired, and acknowledge the message. */
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
			natsMsg_Nak(message, NULL); /* NATS sends it to another worker at once */
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

/* Wait for one message, for 500 ms at most, because a signal to stop does not end the wait. */
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
