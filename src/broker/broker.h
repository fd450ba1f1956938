/*
 * broker.h
 *		The broker: messages to a NATS JetStream stream, without ever making the
 *		caller wait.
 *
 * Plain C, no PostgreSQL: the broker runs threads, and nothing of PostgreSQL may be
 * touched outside the main thread.  The caller hands messages over and gets a
 * receipt for each; whatever happens in between (servers that go away, a stream
 * that is full or gone, acknowledgements that get lost) is the broker's to bear:
 * a message without a receipt is sent again, in order, with the same id, until
 * there is one.
 *
 * All functions are for one thread, the caller's.  None of them does network
 * I/O or waits for one that does, except broker_destroy() for a bounded time.
 */
#ifndef EDA_BROKER_H
#define EDA_BROKER_H

#include "broker/status.h"

#define BROKER_WINDOW 8192                     /* messages without a receipt */
#define BROKER_WINDOW_BYTES (32 * 1024 * 1024) /* of them */

typedef struct Broker Broker;

/* Strings are copied; an empty one (not NULL) stands for "not set". */
typedef struct BrokerConfig
{
	const char *servers;     /* URLs, separated by commas; empty: no broker */
	const char *credentials; /* file: user JWT and seed */
	const char *tls_ca_file; /* PEM files; one of them, or a tls:// URL, asks for TLS */
	const char *tls_cert_file;
	const char *tls_key_file;
	const char *name;         /* of the connection, for the server's monitoring */
	const char *stream;       /* made when missing, never altered */
	const char *subjects;     /* of a stream that is made */
	int64_t max_age;          /* s, of a stream that is made; 0: for ever */
	int64_t duplicate_window; /* s, likewise */
	int replicas;             /* likewise */
} BrokerConfig;

/* What the caller knows a message by. */
typedef struct BrokerTag
{
	unsigned char id[16];
	int32_t version;
	int32_t kind;
} BrokerTag;

typedef struct BrokerMessage
{
	BrokerTag tag;
	int64_t expires_at; /* us since 1970, by the system's clock; not sent after that.  0: never */
	const char *subject;
	const char *id;             /* Nats-Msg-Id */
	const char *const *headers; /* name, value, name, value, ..., NULL; no name is empty, and none has a line break */
	const char *body;
	size_t body_length;
} BrokerMessage;

typedef enum BrokerVerdict
{
	BROKER_ACKNOWLEDGED, /* it is in the stream */
	BROKER_REJECTED,     /* it never will be: too large */
	BROKER_EXPIRED,      /* its time was over before it could be sent */
	BROKER_UNCOVERED     /* the stream has no subject for it; broker_covers() says when it has */
} BrokerVerdict;

typedef struct BrokerReceipt
{
	BrokerTag tag;
	BrokerVerdict verdict;
	char error[160]; /* of BROKER_REJECTED and BROKER_UNCOVERED */
} BrokerReceipt;

/*
 * A broker that is off, and a file descriptor (an eventfd) that becomes readable
 * when there are receipts or the status has changed.  NULL if there is no memory
 * or no descriptor left.  Starts no thread.
 */
extern Broker *broker_create(int *event_fd);

/*
 * Take over settings.  The first that name a server start the thread; other
 * settings make it connect anew; none (servers empty) make it disconnect and end.
 * Messages without a receipt stay, and go to whatever is set next.
 * False: no memory or no thread; nothing has changed.
 */
extern bool broker_configure(Broker *broker, const BrokerConfig *config);

/* How many messages could be published now: 0 unless the state is BROKER_READY. */
extern int broker_room(Broker *broker);

/*
 * Hand a message over (it is copied); broker_flush() after the last of a batch.
 * False: no room, by number or by bytes.  Taken whatever the state is: a message
 * of a restarted engine may wait here for the broker.
 */
extern bool broker_publish(Broker *broker, const BrokerMessage *message);
extern void broker_flush(Broker *broker);

/* Do not send a message (again) that has no receipt yet, and give none for it.  No-op if it has one. */
extern void broker_withdraw(Broker *broker, const BrokerTag *tag);

/* The next receipts, at most max of them; how many. Fewer than max: the descriptor is not readable any more. */
extern int broker_receipts(Broker *broker, BrokerReceipt *out, int max);

extern void broker_status(Broker *broker, BrokerStatus *out);

/* "ready" and so on. */
extern const char *broker_state_name(BrokerState state);

/* Whether the stream, as last seen, has a subject that this one matches.  True while nothing is known. */
extern bool broker_covers(Broker *broker, const char *subject);

/*
 * Disconnect and end the threads; waits for them up to 2 s.  False: one of them
 * still hangs in a system call; the process must then end without running exit
 * handlers, which would pull libraries from under it.
 */
extern bool broker_destroy(Broker *broker);

#endif
