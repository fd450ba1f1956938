/*
 * stream.h
 *		The clients that watch, and what they are sent.
 */
#ifndef EDA_GATEWAY_STREAM_H
#define EDA_GATEWAY_STREAM_H

#include <stdbool.h>
#include <stdint.h>

#include <libwebsockets.h>

#include "caller.h"
#include "text.h"

/* What a client wants to see; NULL stands for anything. */
typedef struct Subscription
{
	struct Subscription *next;
	char *id;
	char *event_type;
	char *flow_type;
	char *flow_id;
} Subscription;

typedef enum SubscriberKind
{
	SUBSCRIBER_SSE,
	SUBSCRIBER_WS,
	SUBSCRIBER_MCP,
	SUBSCRIBER_KINDS
} SubscriberKind;

/* A client that watches. */
typedef struct Subscriber
{
	struct Subscriber *next;
	struct Subscriber *prev;
	struct lws *wsi; /* NULL: the client is gone */
	SubscriberKind kind;
	Caller *caller;
	Subscription *subscriptions;
	int nsubscriptions;
	bool let_in;       /* the database has said that it may watch */
	bool asking;       /* the database is being asked (WebSocket) */
	bool all;          /* it has one subscription, without filters */
	uint64_t position; /* the number of the next change that it has not been sent */
	char *since;       /* the snapshot it continues from, if changes.c does not know it; or NULL */
	bool continues;    /* it has named a snapshot to continue from */
	const char *gap;   /* why there are changes that nobody was sent while it was not let in; or NULL */
	Text pending;      /* messages for this client alone, which go before all others */
	bool headers_due;
	bool status_due;
	bool keep_alive_due;
	bool close_due;
	uint64_t write_asked; /* since when we wait for its socket to be writable, in ms; or 0 */
	int watched;          /* its socket, if that is watched for a hangup; or 0 */
	Text incoming;        /* the parts of a message that have come */
} Subscriber;

extern void stream_start(void);
extern void stream_stop(void);
extern Subscriber *stream_open(struct lws *wsi, SubscriberKind kind, Caller *caller, char *since);
extern void stream_begin(Subscriber *s, const char *missed);
extern void stream_ask_database(Subscriber *s);
extern void stream_close(Subscriber *s);
extern int stream_write(Subscriber *s);
extern void stream_say(Subscriber *s, const char *type, const char *json); /* json: an object */
extern void stream_drop_retired(void);

/* For the hub. */
extern void stream_send_changes(void);
extern void stream_send_status(void);
extern void stream_send_gap(const char *reason);

#endif
