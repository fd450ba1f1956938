/*
 * broker_int.h
 *		What the files of the broker share.
 *
 * Three kinds of threads meet here: the caller's, the courier (ours: everything
 * that can block happens there), and those of nats.c, which call back with
 * replies and bad news.  The rule is short: what is in struct Broker is read and
 * written under its lock, except what is marked as the courier's; and nobody
 * calls nats.c with the lock held, because nats.c holds locks of its own while
 * it writes to a socket.
 */
#ifndef EDA_BROKER_INT_H
#define EDA_BROKER_INT_H

#include <pthread.h>
#include <signal.h>

#include "broker/broker.h"

/* Nothing here is for other libraries of the process, and theirs of the same name are not for us. */
#pragma GCC visibility push(hidden)

#define CONNECT_TIMEOUT 1500 /* ms; less than broker_destroy() waits, or it would often fail */
#define WRITE_TIMEOUT 1500   /* ms for one message; likewise */
#define MAX_DENIED 64        /* subjects; of more is not kept in mind that they are denied */
#define MS INT64_C(1000)     /* times are in us */
#define SECOND INT64_C(1000000)
#define NS INT64_C(1000000000) /* JetStream's times are in ns: a second */
#define NEVER INT64_MAX

typedef struct __natsConnection LinkConnection;
typedef struct __natsSubscription LinkSubscription;

/* ------------------------------------------------------------------------
 * Settings: a copy of BrokerConfig
 * ------------------------------------------------------------------------ */

typedef struct Settings
{
	int users;           /* the caller's side, the courier, or both; nothing else here ever changes */
	BrokerConfig config; /* its strings are ours */
	char **servers;      /* URLs with a scheme, NULL at the end */
	char **subjects;     /* likewise, of a stream that is made */
	int nservers;
} Settings;

extern Settings *settings_create(const BrokerConfig *config);
extern bool settings_equal(const Settings *settings, const BrokerConfig *config);
extern void settings_release(Settings *settings);
extern int64_t settings_duplicate_window(const BrokerConfig *config);

/* ------------------------------------------------------------------------
 * Ring: messages without a receipt, and receipts that nobody has read yet
 * ------------------------------------------------------------------------ */

/* A message, in one block of memory. */
typedef struct Parcel
{
	int64_t expires_at;
	size_t size; /* that it takes here */
	size_t wire; /* headers and body, as servers count them */
	const char *subject;
	const char *body;
	size_t body_length;
	const char *headers[]; /* name, value, ..., NULL; the first is Nats-Msg-Id */
} Parcel;

typedef enum SlotState
{
	SLOT_FREE,
	SLOT_WAITING, /* for an acknowledgement */
	SLOT_SETTLED  /* its receipt has not been read */
} SlotState;

typedef struct Slot
{
	BrokerTag tag;
	SlotState state;
	BrokerVerdict verdict;
	bool sent;       /* once at least */
	int64_t sent_at; /* the last time */
	Parcel *parcel;  /* NULL once nobody needs it */
	char *error;     /* of the receipt; may be NULL */
} Slot;

/*
 * Messages are numbered; number n is in slots[n % BROKER_WINDOW].  first <= next
 * <= last: [first, next) has been sent since the last setback, [next, last) has
 * not.  What the courier is sending, outside the lock, is pinned: nobody frees it.
 */
typedef struct Ring
{
	uint64_t first;
	uint64_t next;
	uint64_t last;
	uint64_t pin_from;
	uint64_t pin_to;
	int waiting;   /* slots that are SLOT_WAITING */
	int in_flight; /* of them: before next */
	size_t bytes;  /* of parcels of waiting messages */
	uint64_t receipt_first;
	uint64_t receipt_last;
	uint64_t receipts[BROKER_WINDOW]; /* numbers, in the order in which they were settled */
	Slot slots[BROKER_WINDOW];
} Ring;

extern Parcel *parcel_create(const BrokerMessage *message);
extern bool ring_add(Ring *ring, const BrokerTag *tag, Parcel *parcel);
extern Slot *ring_waiting(Ring *ring, uint64_t number);
extern void ring_settle(Ring *ring, uint64_t number, BrokerVerdict verdict, const char *error);
extern int ring_settle_subject(Ring *ring, const char *subject, BrokerVerdict verdict, const char *error);
extern void ring_withdraw(Ring *ring, const BrokerTag *tag);
extern int ring_read(Ring *ring, BrokerReceipt *out, int max);
extern void ring_pin(Ring *ring, uint64_t to);
extern void ring_unpin(Ring *ring);
extern void ring_go_back(Ring *ring);
extern Slot *ring_oldest(Ring *ring);
extern void ring_free(Ring *ring);

/* ------------------------------------------------------------------------
 * Broker
 * ------------------------------------------------------------------------ */

/* What a callback found; the courier deals with the first of them. */
typedef enum Trouble
{
	TROUBLE_NONE,
	TROUBLE_LOST,      /* the connection */
	TROUBLE_DENIED,    /* a subject is not allowed to us */
	TROUBLE_REFUSED,   /* the stream did not take a message */
	TROUBLE_NO_STREAM, /* nobody took a message, or the wrong stream did */
	TROUBLE_TTL        /* the stream takes no Nats-TTL */
} Trouble;

struct Broker
{
	pthread_mutex_t lock;
	pthread_cond_t wake;  /* the courier waits here */
	pthread_cond_t ended; /* and the caller, for its end */
	pthread_t courier;
	bool started;  /* there is a thread to join */
	bool running;  /* and it has not ended */
	bool sleeping; /* and waits for something to do */
	bool stop;     /* for good */
	bool unclosed; /* threads of nats.c did not end */
	int event_fd;
	bool told; /* the descriptor is readable */
	Settings *settings;
	uint64_t generation; /* of the settings */
	BrokerStatus status;
	char **subjects; /* of the stream; NULL: not known */
	char *denied[MAX_DENIED +
	             1]; /* subjects that we may not publish to, since the last look at the stream; NULL at the end */
	bool no_ttl;     /* the stream said that it takes none, whatever its configuration says */

	/* Sending */
	Ring ring;
	uint64_t epoch;   /* counts setbacks; an acknowledgement names the epoch of its message */
	int64_t last_ack; /* when something was acknowledged, or sent while nothing was in flight */
	bool probing;     /* one message at a time, until there is an acknowledgement of this epoch */
	Trouble trouble;  /* found, and not dealt with */
	char trouble_text[200];

	/* A request under way: one at a time */
	uint64_t request;
	bool answered;
	char *answer; /* NULL: nobody is there to answer */

	/* Written by the courier under the lock, so it may read them without */
	Settings *using;
	LinkConnection *connection;
	LinkSubscription *subscription;
	char inbox[80];

	/* The courier's own */
	uint64_t seen_generation; /* of the settings that it works with */
	int server;               /* which of them it is connected to, or tries first */
	bool stream_known;
	bool was_connected;
	int64_t connected_at;
	int64_t check_at;   /* when to look at the stream again */
	int64_t not_before; /* when to try again what failed */
	int failures;       /* to connect, or to find the stream, one after the other */
	int setbacks;       /* while sending, one after the other */
	unsigned int seed;  /* of jitter */
};

extern bool courier_start(Broker *broker);

/* ------------------------------------------------------------------------
 * State
 * ------------------------------------------------------------------------ */

extern int64_t broker_clock(void);
extern void broker_tell(Broker *broker);
extern void courier_set_state(Broker *broker, BrokerState state, const char *error);
extern void courier_allow_all(Broker *broker);
extern int64_t courier_backoff(Broker *broker, int failures);
extern bool courier_disturbed(const Broker *broker);
extern bool courier_sleep(Broker *broker, int64_t until);

/* ------------------------------------------------------------------------
 * Link: the connection
 * ------------------------------------------------------------------------ */

typedef enum Answer
{
	ANSWER_GIVEN,
	ANSWER_NOBODY, /* there is nobody who could */
	ANSWER_NONE    /* in time, or the courier is wanted elsewhere */
} Answer;

typedef enum Sent
{
	SEND_DONE,
	SEND_LOST,
	SEND_NEVER
} Sent;

extern BrokerState link_open(Broker *broker, const char *url, char *error, size_t size);
extern void link_close(Broker *broker);
extern bool link_library_close(void);
extern Sent link_send(Broker *broker, const Parcel *parcel, uint64_t epoch, uint64_t number, bool ttl);
extern Answer link_request(Broker *broker, const char *subject, const char *body, int64_t until, char **answer);
extern int64_t link_max_payload(Broker *broker);

/* ------------------------------------------------------------------------
 * JetStream: what servers are asked and answer, in JSON
 * ------------------------------------------------------------------------ */

/* What is known of the stream. */
typedef struct StreamInfo
{
	char **subjects; /* NULL at the end */
	bool file;
	bool no_ack;
	bool ttl;
	int replicas;
	int64_t max_age; /* ns */
	int64_t duplicate_window;
	int64_t max_message; /* -1: no limit */
	char version[32];    /* of the server, if it says so: since 2.11 */
} StreamInfo;

typedef struct ApiError
{
	int code; /* as of HTTP; 0: none */
	int err_code;
	char text[160];
} ApiError;

typedef enum Ack
{
	ACK_GOOD,
	ACK_ELSEWHERE, /* another stream took it */
	ACK_ERROR
} Ack;

extern char *jetstream_create_request(const Settings *settings);
extern bool jetstream_read_stream(const char *text, StreamInfo *info, ApiError *error);
extern Ack jetstream_read_ack(const char *data, size_t length, const char *stream, ApiError *error);

/* ------------------------------------------------------------------------
 * Stream
 * ------------------------------------------------------------------------ */

extern void stream_look(Broker *broker);

/* ------------------------------------------------------------------------
 * URLs
 * ------------------------------------------------------------------------ */

extern void url_host(const char *url, char *out, size_t size);
extern void url_mask(char *text);
extern void url_decode(const char *from, const char *end, char *out, size_t size);
extern void url_escape(const char *from, char *out, size_t size);

/* ------------------------------------------------------------------------
 * Texts: lists of strings, and subjects
 * ------------------------------------------------------------------------ */

extern char **texts_split(const char *text, const char *prefix, int *count);
extern bool texts_equal(char *const *a, char *const *b);
extern bool texts_contain(char *const *list, const char *text);
extern void texts_clear(char **list);
extern void texts_free(char **list);
extern bool subject_matches(const char *pattern, const char *subject);
extern bool subjects_cover(char *const *patterns, const char *subject);

#pragma GCC visibility pop

#endif
