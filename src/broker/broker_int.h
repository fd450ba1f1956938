/*
 * broker_int.h
 *		What the files of the broker share.
 *
 * Three kinds of threads meet in struct Broker: the caller's thread, the courier
 * (a thread of ours, which does everything that can block), and the threads of
 * nats.c, which call back with acknowledgements and errors.  Two rules keep them
 * apart.  All of struct Broker is read and written with its lock held, except the
 * members that are marked as the courier's.  And nobody calls nats.c with our lock
 * held, because nats.c holds locks of its own while it writes to a socket.
 *
 * Times are microseconds on the monotonic clock (state_now()) unless a comment says
 * otherwise.
 */
#ifndef EDA_BROKER_INT_H
#define EDA_BROKER_INT_H

#include <pthread.h>
#include <signal.h>

#include "broker/broker.h"

/*
 * Hide the functions below from other libraries in the process, whose functions may
 * have the same names.
 */
#pragma GCC visibility push(hidden)

#define MILLISECOND INT64_C(1000)
#define SECOND INT64_C(1000000)
#define NS_PER_SECOND INT64_C(1000000000) /* JetStream counts nanoseconds */
#define NEVER INT64_MAX

/* ------------------------------------------------------------------------
 * settings.c: a copy of BrokerConfig
 * ------------------------------------------------------------------------ */

typedef struct Settings
{
	int users;           /* the caller, the courier, or both; no other member ever changes */
	BrokerConfig config; /* its strings belong to this struct */
	char **servers;      /* URLs with a scheme; NULL ends the list */
	char **subjects;     /* subjects of a stream that we create; NULL ends the list */
	int nservers;
} Settings;

extern Settings *settings_create(const BrokerConfig *config);
extern bool settings_equal(const Settings *settings, const BrokerConfig *config);
extern void settings_release(Settings *settings);
extern int64_t settings_duplicate_window(const BrokerConfig *config);

/* ------------------------------------------------------------------------
 * ring.c: messages without a receipt, and receipts that the caller has not read
 * ------------------------------------------------------------------------ */

/* A message, in one block of memory. */
typedef struct Parcel
{
	int64_t expires_at; /* us since 1970; 0: never */
	size_t size;        /* bytes of memory */
	size_t wire;        /* bytes of headers and body, as servers count them */
	const char *subject;
	const char *body;
	size_t body_length;
	const char *headers[]; /* name, value, ..., NULL; the first is Nats-Msg-Id */
} Parcel;

typedef enum SlotState
{
	SLOT_FREE,
	SLOT_WAITING, /* its message waits for an acknowledgement */
	SLOT_RECEIPT  /* the caller has not read the receipt of its message */
} SlotState;

typedef struct Slot
{
	BrokerTag tag;
	SlotState state;
	BrokerVerdict verdict;
	bool sent;       /* at least once */
	int64_t sent_at; /* the last time */
	Parcel *parcel;  /* NULL once nobody needs it */
	char *error;     /* of the receipt; may be NULL */
} Slot;

/*
 * Messages are numbered; number n is in slots[n % BROKER_WINDOW].  Always first <=
 * next <= last.  The messages in [first, next) have been sent since the last
 * setback, those in [next, last) have not.  The courier pins the messages that it is
 * sending, because it reads them without the lock: nobody may free a pinned parcel.
 */
typedef struct Ring
{
	uint64_t first;
	uint64_t next;
	uint64_t last;
	uint64_t pin_from;
	uint64_t pin_to;
	int waiting;   /* slots in the state SLOT_WAITING */
	int in_flight; /* those of them that come before next */
	size_t bytes;  /* of the parcels of waiting messages */
	uint64_t receipt_first;
	uint64_t receipt_last;
	uint64_t receipts[BROKER_WINDOW]; /* numbers of messages, in the order of their receipts */
	Slot slots[BROKER_WINDOW];
} Ring;

extern Parcel *parcel_create(const BrokerMessage *message);
extern bool ring_add(Ring *ring, const BrokerTag *tag, Parcel *parcel);
extern Slot *ring_find_waiting(Ring *ring, uint64_t number);
extern void ring_write_receipt(Ring *ring, uint64_t number, BrokerVerdict verdict, const char *error);
extern int ring_write_subject_receipts(Ring *ring, const char *subject, BrokerVerdict verdict, const char *error);
extern void ring_withdraw(Ring *ring, const BrokerTag *tag);
extern int ring_read_receipts(Ring *ring, BrokerReceipt *out, int max);
extern void ring_pin(Ring *ring, uint64_t to);
extern void ring_unpin(Ring *ring);
extern void ring_go_back(Ring *ring);
extern Slot *ring_oldest_in_flight(Ring *ring);
extern void ring_free(Ring *ring);

/* ------------------------------------------------------------------------
 * state.c: the state that all threads share
 * ------------------------------------------------------------------------ */

#define MAX_DENIED 64 /* denied subjects that we remember; others are tried and denied again */

/*
 * What a callback of nats.c reports to the courier.  A second report before the
 * courier has handled the first is dropped, unless it is TROUBLE_LOST.
 */
typedef enum Trouble
{
	TROUBLE_NONE,
	TROUBLE_LOST,      /* the connection was lost */
	TROUBLE_DENIED,    /* the server does not let us publish to a subject */
	TROUBLE_REFUSED,   /* the stream refused a message */
	TROUBLE_NO_STREAM, /* no stream took a message, or another stream took it */
	TROUBLE_TTL        /* the stream refused a message because of its Nats-TTL header */
} Trouble;

/* The connection and the subscription of nats.c; only link.c includes nats.h. */
typedef struct __natsConnection LinkConnection;
typedef struct __natsSubscription LinkSubscription;

struct Broker
{
	pthread_mutex_t lock;
	pthread_cond_t wake;  /* the courier waits here for work */
	pthread_cond_t ended; /* the caller waits here for the courier's end */
	pthread_t courier;
	bool started;      /* there is a thread to join */
	bool running;      /* the courier has not ended */
	bool sleeping;     /* the courier waits for work */
	bool stop;         /* the courier has to end for good */
	bool threads_left; /* threads of nats.c did not end when we asked them to */
	int event_fd;
	bool signalled; /* event_fd is readable */
	Settings *settings;
	uint64_t generation; /* counts changes of settings */
	BrokerStatus status;
	char **subjects; /* of the stream; NULL: not known */

	/* Subjects that the server did not let us publish to since we last checked the stream */
	char *denied[MAX_DENIED + 1]; /* NULL ends the list */
	bool no_ttl;                  /* the stream refused a Nats-TTL, despite its configuration */

	/* Sending */
	Ring ring;
	uint64_t epoch;   /* counts setbacks; an acknowledgement names the epoch of its message */
	int64_t last_ack; /* when a message was last acknowledged, or sent with none in flight */
	bool probing;     /* send one message at a time until one of this epoch is acknowledged */
	Trouble trouble;  /* reported, and not yet handled */
	char trouble_text[200];

	/* The request under way; there is one at a time */
	uint64_t request_number;
	bool answered;
	char *answer; /* NULL: the server says that nobody listens to such requests */

	/* Only the courier writes these, with the lock held; so it may read them without the lock */
	Settings *settings_in_use;
	LinkConnection *connection;
	LinkSubscription *subscription;
	char inbox[80];

	/* Only the courier uses these */
	uint64_t generation_in_use; /* of settings_in_use */
	int server;                 /* index of the server that we are connected to, or try first */
	bool stream_known;
	bool was_connected;
	int64_t connected_at;
	int64_t check_at;  /* when to check the stream again */
	int64_t retry_at;  /* when to retry what failed */
	int failures;      /* to connect or to check the stream, in a row */
	int setbacks;      /* while sending, in a row */
	unsigned int seed; /* of the jitter in pauses */
};

extern int64_t state_now(void);
extern void state_signal_caller(Broker *broker);
extern void state_set(Broker *broker, BrokerState state, const char *error);
extern void state_forget_denied(Broker *broker);
extern int64_t state_backoff(Broker *broker, int failures);
extern bool state_interrupted(const Broker *broker);
extern bool state_wait(Broker *broker, int64_t until);

/* ------------------------------------------------------------------------
 * courier.c: the thread
 * ------------------------------------------------------------------------ */

extern bool courier_start(Broker *broker);

/* ------------------------------------------------------------------------
 * stream.c: the courier checks the stream
 * ------------------------------------------------------------------------ */

extern void stream_check(Broker *broker);

/* ------------------------------------------------------------------------
 * link.c: the connection to a server
 * ------------------------------------------------------------------------ */

typedef enum RequestResult
{
	REQUEST_ANSWERED,
	REQUEST_NO_RESPONDER, /* the server says that nobody listens to such requests */
	REQUEST_GIVEN_UP      /* no answer came in time, or the courier was interrupted */
} RequestResult;

typedef enum SendResult
{
	SENT,
	SEND_LOST,   /* the connection is lost, or soon will be */
	SEND_REFUSED /* nats.c cannot send this message over any connection */
} SendResult;

extern BrokerState link_open(Broker *broker, const char *url, char *error, size_t size);
extern void link_close(Broker *broker);
extern bool link_close_library(void);
extern SendResult link_send(Broker *broker, const Parcel *parcel, uint64_t epoch, uint64_t number, bool ttl);
extern RequestResult link_request(Broker *broker, const char *subject, const char *body, int64_t until, char **answer);
extern int64_t link_max_payload(Broker *broker);

/* ------------------------------------------------------------------------
 * jetstream.c: what we ask JetStream and what it answers, in JSON
 * ------------------------------------------------------------------------ */

/* Error numbers of JetStream (err_code) that mean something to us. */
#define JS_NOT_ENABLED_FOR_ACCOUNT 10039
#define JS_MESSAGE_TOO_LARGE 10054
#define JS_STREAM_NAME_IN_USE 10058
#define JS_STREAM_NOT_FOUND 10059
#define JS_REPLICAS_NEED_CLUSTER 10074
#define JS_NOT_ENABLED 10076
#define JS_TTL_INVALID 10165
#define JS_TTL_DISABLED 10166

typedef struct JetStreamError
{
	int code; /* like a status code of HTTP; 0: no error */
	int err_code;
	char text[160];
} JetStreamError;

/* The configuration of an existing stream. */
typedef struct StreamInfo
{
	char **subjects; /* NULL ends the list */
	bool file;
	bool no_ack;
	bool ttl;
	int replicas;
	int64_t max_age;          /* ns */
	int64_t duplicate_window; /* ns */
	int64_t max_message;      /* bytes; -1: no limit */
	char version[32];         /* of the server; empty: the server is older than 2.11 */
} StreamInfo;

typedef enum Ack
{
	ACK_GOOD,
	ACK_WRONG_STREAM, /* another stream took the message */
	ACK_ERROR
} Ack;

extern char *jetstream_create_request(const Settings *settings);
extern bool jetstream_read_stream(const char *text, StreamInfo *info, JetStreamError *error);
extern Ack jetstream_read_ack(const char *data, size_t length, const char *stream, JetStreamError *error);

/* ------------------------------------------------------------------------
 * url.c: URLs of servers, and the secrets in them
 * ------------------------------------------------------------------------ */

extern void url_host(const char *url, char *out, size_t size);
extern void url_mask(char *text);
extern void url_decode(const char *from, const char *end, char *out, size_t size);
extern void url_escape(const char *from, char *out, size_t size);

/* ------------------------------------------------------------------------
 * text.c: lists of strings, and of subjects
 * ------------------------------------------------------------------------ */

extern char **texts_split(const char *text, const char *prefix, int *count);
extern bool texts_equal(char *const *a, char *const *b);
extern bool texts_contain(char *const *list, const char *text);
extern void texts_clear(char **list);
extern void texts_free(char **list);
extern bool texts_cover(char *const *patterns, const char *subject);

#pragma GCC visibility pop

#endif
