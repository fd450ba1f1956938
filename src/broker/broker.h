/*
 * broker.h
 *		Hand messages to a NATS JetStream stream without ever making the caller wait.
 *
 * This is plain C without PostgreSQL: the broker runs threads, and PostgreSQL's code
 * must not run outside the main thread.
 *
 * The caller hands messages over and gets a receipt for each.  The broker deals with
 * everything in between: servers that go away, a stream that is full or missing,
 * acknowledgements that are lost.  It sends a message without a receipt again, in
 * order and with the same message id, until there is a receipt.
 *
 * All functions must be called by the same thread.  None of them does network I/O or
 * waits for network I/O, except that broker_destroy() waits for at most 2 s.
 */
#ifndef EDA_BROKER_H
#define EDA_BROKER_H

#include "broker/status.h"

/* How many messages without a receipt the broker holds, and their bytes. */
#define BROKER_WINDOW 8192
#define BROKER_WINDOW_BYTES (32 * 1024 * 1024)

typedef struct Broker Broker;

/* The broker copies the strings.  A setting that is not set is an empty string, not NULL. */
typedef struct BrokerConfig
{
	const char *servers;     /* URLs separated by commas; empty: no broker */
	const char *credentials; /* a file with the user's JWT and seed */
	const char *tls_ca_file; /* PEM file; a CA, a certificate or a tls:// URL asks for TLS */
	const char *tls_cert_file;
	const char *tls_key_file;
	const char *name;         /* of the connection, as the server's monitoring shows it */
	const char *stream;       /* created if it does not exist, never altered */
	const char *subjects;     /* of a stream that we create; likewise all below */
	int64_t max_age;          /* s; 0: the stream keeps messages for ever */
	int64_t duplicate_window; /* s */
	int replicas;
} BrokerConfig;

/* Identifies a message for the caller; the broker only compares it. */
typedef struct BrokerTag
{
	unsigned char id[16];
	int32_t version;
	int32_t kind;
} BrokerTag;

typedef struct BrokerMessage
{
	BrokerTag tag;
	int64_t expires_at; /* us since 1970, system clock; not sent after that; 0: never expires */
	const char *subject;
	const char *id;             /* Nats-Msg-Id */
	const char *const *headers; /* name, value, ..., NULL; no empty name, no line breaks */
	const char *body;
	size_t body_length;
} BrokerMessage;

typedef enum BrokerVerdict
{
	BROKER_ACKNOWLEDGED, /* the message is in the stream */
	BROKER_REJECTED,     /* the message can never be in the stream: it is too large, for example */
	BROKER_EXPIRED,      /* the message expired before it could be sent */
	BROKER_UNCOVERED     /* the stream does not take its subject (see broker_covers()) */
} BrokerVerdict;

typedef struct BrokerReceipt
{
	BrokerTag tag;
	BrokerVerdict verdict;
	char error[160]; /* for BROKER_REJECTED and BROKER_UNCOVERED */
} BrokerReceipt;

/*
 * Make a broker that is off.  *event_fd is an eventfd, which becomes readable when there
 * are receipts or the status has changed.
 *
 * Returns NULL if memory or file descriptors have run out.  Starts no thread.
 */
extern Broker *broker_create(int *event_fd);

/*
 * Use these settings from now on.
 *
 * The first settings that name a server start the courier thread.  Other settings make
 * it connect again.  Settings without servers make it disconnect and end.  Messages
 * without a receipt stay, and go to the servers that are set next.
 *
 * Returns false, and changes nothing, if there is no memory or no thread can be started.
 */
extern bool broker_configure(Broker *broker, const BrokerConfig *config);

/* How many messages can be handed over now; 0 unless the state is BROKER_READY. */
extern int broker_room(Broker *broker);

/*
 * Hand a message over, which is copied.  Call broker_flush() after the last message of
 * a batch.
 *
 * Returns false if there is no room for the message, by number or by bytes, or no
 * memory.  The state does not matter: after its restart the engine hands over messages
 * that then wait here for the servers.
 */
extern bool broker_publish(Broker *broker, const BrokerMessage *message);
extern void broker_flush(Broker *broker);

/*
 * Do not send a message that has no receipt yet, or not again, and give no receipt for
 * it.  Does nothing if the message has a receipt.
 */
extern void broker_withdraw(Broker *broker, const BrokerTag *tag);

/*
 * Read the next receipts, at most max of them, and return how many.  If there were fewer
 * than max, event_fd is no longer readable.
 */
extern int broker_receipts(Broker *broker, BrokerReceipt *out, int max);

extern void broker_status(Broker *broker, BrokerStatus *out);

/* The name of a state, such as "ready". */
extern const char *broker_state_name(BrokerState state);

/*
 * Does the stream take messages to this subject, as far as we know?  True as long as
 * nothing is known about the stream.
 */
extern bool broker_covers(Broker *broker, const char *subject);

/*
 * Disconnect and end the threads, waiting for them for at most 2 s.
 *
 * Returns false if a thread still hangs in a system call.  The process must then end
 * without running exit handlers, which would unload libraries that the thread uses.
 */
extern bool broker_destroy(Broker *broker);

#endif
