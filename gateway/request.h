/*
 * request.h
 *		A request, and its life.
 */
#ifndef EDA_GATEWAY_REQUEST_H
#define EDA_GATEWAY_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>
#include <libwebsockets.h>

#include "caller.h"
#include "route.h"
#include "text.h"

struct Subscriber;

/* Where a request stands; the head of request.c says who frees it. */
typedef enum RequestStage
{
	REQUEST_READING,  /* a part of its body is still to come */
	REQUEST_REFUSED,  /* the same, but its answer is known: the body is thrown away */
	REQUEST_READY,    /* all of it is here; we act on it, or answer it, before the loop waits */
	REQUEST_CALLING,  /* the database is being called for it */
	REQUEST_WAITING,  /* it is a long poll, and waits for an event (waiters.c) */
	REQUEST_DRAINING, /* refused and answered; its body may still come; the connection ends soon */
	REQUEST_SENT      /* it was answered, and the connection ends soon */
} RequestStage;

/*
 * Called when a request leaves its connection while that is open.  "subscriber" continues
 * on the connection (NULL: the next request may come); "unsent" says that libwebsockets
 * has not sent all of the answer yet.
 */
typedef void (*RequestLeft)(struct lws *wsi, struct Subscriber *subscriber, bool unsent);

typedef struct Request
{
	struct lws *wsi; /* NULL: the client is gone */
	RequestLeft left;
	RequestStage stage;
	struct Request *next; /* in the list of ready (request.c) or waiting (waiters.c) requests */
	const Route *route;
	Caller *caller;
	char *path;
	uint64_t started;            /* uv_hrtime() */
	char *values[MAX_ARGUMENTS]; /* the arguments of the SQL function */
	bool head;                   /* the method is HEAD: the answer has no content */
	bool close_after;            /* end the connection after the answer; the body is not read */

	/* the body */
	Text body;
	uint64_t body_left;  /* bytes that are still to come */
	uint64_t first_part; /* the round of the loop in which its first part came; 0: none came */

	/* the answer */
	int status; /* 0: there is no answer yet */
	const char *content_type;
	const char *content;
	size_t content_size;
	PGresult *result; /* what content and the headers below point into */
	Text own;         /* or this */
	const char *etag;
	const char *location;
	const char *allow;
	const char *cache;
	int retry_after;               /* seconds; 0: no such header */
	struct Subscriber *subscriber; /* that this request becomes; or NULL */

	/* a long poll */
	char *flow_type;     /* NULL: it has not found the queue empty yet */
	uint64_t give_up_at; /* ms */
	uint64_t asked_at;   /* when the database was last called for it; uv_hrtime() */
} Request;

extern Request *request_new(struct lws *wsi, const char *path, int size, RequestLeft left);
extern void request_free(Request *request);
extern void request_abandon(Request *request);   /* its client has hung up */
extern void request_act(Request *request);       /* all of it is here */
extern void request_act_later(Request *request); /* the same, but act before the loop waits again */
extern void request_act_on_ready(void);
extern void request_call(Request *request); /* call the SQL function of its route */
extern void request_answer(Request *request);
extern void request_refuse_retired(void);

#endif
