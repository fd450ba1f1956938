/*
 * gateway.h
 *		What the files of eda-gateway share.
 *
 * A request comes in at http.c; read.c finds out what it wants, and asks guard.c
 * whether its caller may be here and route.c which SQL function it is for.
 * request.c has db.c call that function as the caller's role, and answer.c sends
 * what came back: JSON that Postgres made, or a problem (problem.c).  hub.c listens to the feed and keeps the last changes in a
 * ring (ring.c); stream.c writes from there to SSE and WebSocket clients (socket.c reads
 * what the latter say), and waiters.c wakes long polls.
 *
 * Everything runs in one thread, on one libuv loop: no callback may wait.
 */
#ifndef EDA_GATEWAY_H
#define EDA_GATEWAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>
#include <libpq-fe.h>
#include <libwebsockets.h>
#include <uv.h>

#define NS_PER_MS 1000000ULL
#define MAX_HEADERS 8192 /* bytes of a request's headers, as long as a stream lives */

/* ------------------------------------------------------------------------
 * util.c
 * ------------------------------------------------------------------------ */

typedef enum LogLevel
{
	LOG_ERROR,
	LOG_WARN,
	LOG_INFO,
	LOG_DEBUG
} LogLevel;

extern LogLevel log_level;

extern void log_line(LogLevel level, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern void memory_end(void) __attribute__((noreturn));
extern void *memory_get(size_t size);                 /* zeroed; ends the program when there is none */
extern char *memory_copy_text(const char *s);         /* NULL for NULL */
extern char *memory_copy(const char *s, size_t size); /* with a NUL after them */
extern uint64_t loop_now_ms(void);

/* Bytes that grow; data has a NUL after it, and room for libwebsockets before it. */
typedef struct Text
{
	char *data; /* NULL: empty */
	size_t size;
	size_t room;
} Text;

extern void text_add(Text *t, const char *data, size_t size);
extern void text_puts(Text *t, const char *s);
extern void text_printf(Text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern void text_json(Text *t, const char *s); /* as a JSON string; null for NULL */
extern void text_free(Text *t);
extern int text_send(Text *t, struct lws *wsi, enum lws_write_protocol how);

/* ------------------------------------------------------------------------
 * loop.c: what belongs to the whole process
 * ------------------------------------------------------------------------ */

extern uv_loop_t *loop;
extern bool stopping; /* the gateway is shutting down: take nothing new */
extern int in_flight; /* requests that are not answered, and answers that are not sent to their end */

extern void loop_open(void);
extern void loop_close(void);

/* ------------------------------------------------------------------------
 * config.c
 * ------------------------------------------------------------------------ */

#define MAX_ORIGINS 32

typedef struct Config
{
	const char *conninfo;
	char address[256];
	int port; /* 0: any free one */
	const char *www;
	const char *tokens_file; /* NULL: no tokens */
	const char *origins[MAX_ORIGINS + 1];
	int pool;
	int max_body; /* bytes */
	int max_connections;
	int max_in_flight; /* requests of one caller */
	const char *tls_cert;
	const char *tls_key;
} Config;

extern Config config;

extern void config_read(int argc, char **argv); /* ends the program when it cannot be right */

/* ------------------------------------------------------------------------
 * caller.c: the callers
 * ------------------------------------------------------------------------ */

/* Somebody with a token, or whoever comes from loopback when there are no tokens. */
typedef struct Caller
{
	struct Caller *next;
	char *token;
	char *role; /* NULL: the gateway's own */
	int in_flight;
	int users;    /* requests and streams that point here */
	bool retired; /* no longer in the tokens file */
} Caller;

struct Subscriber;

extern bool caller_load_tokens(void);
extern Caller caller_anyone; /* the caller when there are no tokens */
extern Caller *caller_find(const char *token);
extern Caller *caller_use(Caller *caller);
extern void caller_leave(Caller *caller);

/* ------------------------------------------------------------------------
 * link.c: a connection to the database that connects again by itself
 * ------------------------------------------------------------------------ */

typedef struct PgConnection
{
	PGconn *conn;
	bool ready;
	void (*on_ready)(struct PgConnection *);
	void (*on_input)(struct PgConnection *); /* PQconsumeInput() has been called */
	void (*on_lost)(struct PgConnection *);
	void *owner;
	uv_poll_t *poll;
	uv_timer_t timer;
	int fd;
	unsigned backoff_ms;
	bool closing;
	bool failed_before;
} PgConnection;

extern void pgconn_open(PgConnection *pg);
extern void pgconn_flush(PgConnection *pg); /* send what libpq holds back, now or later */
extern void pgconn_reconnect(PgConnection *pg);
extern void pgconn_close(PgConnection *pg);

/* ------------------------------------------------------------------------
 * db.c: the pool
 * ------------------------------------------------------------------------ */

#define MAX_ARGUMENTS 6

/* Why a call has no result. */
typedef enum DbTrouble
{
	DB_FINE,
	DB_AWAY,
	DB_BUSY,   /* every connection was busy for too long */
	DB_LOST,   /* the connection broke during the call, which may have committed */
	DB_NO_ROLE /* the caller's role cannot be had; the result says why */
} DbTrouble;

typedef void (*DbDone)(void *who, PGresult *result, DbTrouble trouble);

/* The result belongs to "done"; values and sql must live until then. */
extern void db_call(const char *sql, int nvalues, char *const *values, const char *role, DbDone done, void *who);
extern void db_start(void);
extern void db_stop(void);
extern bool db_is_up(void);

/* ------------------------------------------------------------------------
 * route.c: which SQL function a request is for
 * ------------------------------------------------------------------------ */

typedef enum Method
{
	METHOD_GET,
	METHOD_POST,
	METHOD_PUT,
	METHOD_PATCH,
	METHOD_OTHER
} Method;

typedef enum ArgumentSource
{
	FROM_NOWHERE,
	FROM_PATH, /* the next {} of the pattern */
	FROM_BODY,
	FROM_QUERY,
	FROM_IF_MATCH,
	FROM_HEADER,
	FROM_SINCE /* where a stream goes on */
} ArgumentSource;

typedef struct Argument
{
	ArgumentSource source;
	const char *name; /* of the query's parameter, or the header */
} Argument;

typedef enum RouteKind
{
	ROUTE_CALL, /* one call of a SQL function, and its answer */
	ROUTE_HEALTH,
	ROUTE_METRICS,
	ROUTE_STREAM,
	ROUTE_SOCKET,
	ROUTE_MCP_STREAM
} RouteKind;

typedef struct Route
{
	Method method;
	const char *pattern;
	RouteKind kind;
	bool open; /* without a token */
	const char *sql;
	Argument arguments[MAX_ARGUMENTS];
	bool acquires; /* events that must be given back if the client is gone */
} Route;

extern const char route_stream_sql[];
extern const Route routes[];
extern const int nroutes;
extern const char *route_method_name(Method method);

/* NULL if no path is like this; of "allowed" methods if only the method is wrong. */
extern const Route *route_find(Method method, const char *path, char *values[MAX_ARGUMENTS], Text *allowed);

/* ------------------------------------------------------------------------
 * http.c
 * ------------------------------------------------------------------------ */

/* Where a request stands; request.c's head says who frees it in which stage. */
typedef enum RequestStage
{
	REQUEST_READING,  /* its body, or a part of it, is still to come */
	REQUEST_REFUSED,  /* the same, but it has its answer already: the body is thrown away */
	REQUEST_READY,    /* all of it is here; it is acted on, or answered, before the loop waits again */
	REQUEST_CALLING,  /* the database is being called for it */
	REQUEST_WAITING,  /* a long poll without an event: it waits for one (waiters.c) */
	REQUEST_DRAINING, /* it was refused and has been answered; the connection ends soon, its body may still come */
	REQUEST_SENT      /* it has been answered; the connection ends soon */
} RequestStage;

/*
 * Called when a request leaves its connection while that is open.  "subscriber" goes
 * on with the connection (NULL: the next request may come); "unsent" says that
 * libwebsockets has still to send a part of the answer.
 */
typedef void (*RequestLeft)(struct lws *wsi, struct Subscriber *subscriber, bool unsent);

typedef struct Request
{
	struct lws *wsi; /* NULL: the client is gone */
	RequestLeft left;
	RequestStage stage;
	struct Request *next; /* in the list of those that are ready (request.c), or that wait (waiters.c) */
	const Route *route;
	Caller *caller;
	char *path;
	uint64_t started; /* uv_hrtime() */
	char *values[MAX_ARGUMENTS];
	Text body;
	uint64_t body_left;  /* bytes that are still to come */
	uint64_t first_part; /* of the body came in this round of the loop; 0: none */
	bool head;           /* no content, please */
	bool close_after;    /* the rest of the body was not read */

	/* the answer */
	int status;
	const char *content_type;
	const char *content;
	size_t content_size;
	PGresult *result; /* what content and the headers below point into */
	Text own;         /* or this */
	const char *etag;
	const char *location;
	const char *allow;
	const char *cache;
	int retry_after;               /* seconds; 0: none */
	struct Subscriber *subscriber; /* that it becomes */

	/* waiters.c */
	char *flow_type;
	uint64_t give_up_at; /* ms */
	uint64_t asked_at;   /* the database, the last time; uv_hrtime() */
} Request;

extern const struct lws_protocols http_protocols[];

extern void http_start(void);
extern void http_stop(void);

/* ------------------------------------------------------------------------
 * read.c
 * ------------------------------------------------------------------------ */

extern Method read_method(struct lws *wsi, char **path, int *size, bool *head);
extern bool read_header(struct lws *wsi, const char *name, char *out,
                        size_t size);                       /* name in lower case, with a colon; size: MAX_HEADERS */
extern char *read_query(struct lws *wsi, const char *name); /* to be freed; NULL: there is none */
extern bool read_is_sound(struct lws *wsi);
extern bool read_body_size(Request *request, Method method);
extern bool read_body_type(Request *request);
extern bool read_arguments(Request *request);

/* ------------------------------------------------------------------------
 * guard.c
 * ------------------------------------------------------------------------ */

extern bool guard_admit(Request *request, Method method); /* false: it has its answer, a problem or a file */

/* ------------------------------------------------------------------------
 * request.c
 * ------------------------------------------------------------------------ */

extern Request *request_new(struct lws *wsi, const char *path, int size, RequestLeft left);
extern void request_free(Request *request);
extern void request_abandon(Request *request); /* its client is gone */
extern void request_act(Request *request);     /* all of it is here */
extern void request_act_later(Request *request);
extern void request_act_on_ready(void);
extern void request_call(Request *request); /* the SQL function of its route */
extern void request_answer(Request *request);
extern void request_refuse_retired(void); /* those that wait with a token which is no longer known */

/* ------------------------------------------------------------------------
 * answer.c
 * ------------------------------------------------------------------------ */

extern int answer_write(struct lws *wsi, const Request *request);
extern void answer_linger(struct lws *wsi);
extern int answer_start_stream(struct lws *wsi);
extern void answer_end(struct lws *wsi);

/* ------------------------------------------------------------------------
 * problem.c: RFC 9457
 * ------------------------------------------------------------------------ */

extern void problem_set(Request *request, int status, const char *detail, const char *hint);
extern void problem_set_error(Request *request, const PGresult *result);
extern void problem_set_trouble(Request *request, DbTrouble trouble);
extern const char *problem_title(int status);

/* ------------------------------------------------------------------------
 * files.c
 * ------------------------------------------------------------------------ */

extern void files_load(const char *www);
extern void files_forget(void);
extern bool files_answer(Request *request); /* false: there is no such file */

/* ------------------------------------------------------------------------
 * ring.c: the last changes
 * ------------------------------------------------------------------------ */

#define CHANGE_KEY 72

/* One change, as it goes to clients. */
typedef struct Change
{
	char key[CHANGE_KEY]; /* "event id/version/state" */
	char *json;           /* and after it, in the same memory, what filters look at */
	uint32_t json_size;
	const char *event_type;
	const char *flow_type;
	const char *flow_id;
	char *snapshot; /* all that it sees has been told up to here; or NULL */
} Change;

extern uint64_t changes_head(void); /* the number of the next change */
extern uint64_t changes_tail(void); /* of the oldest one that is still here */
extern const Change *changes_get(uint64_t n);
extern bool changes_find(const char *snapshot, uint64_t *next);
extern void changes_add(const Change *change);
extern void changes_mark(const char *snapshot);
extern void changes_clear(void);

/* ------------------------------------------------------------------------
 * place.c: our place in the history of the database
 * ------------------------------------------------------------------------ */

extern const char *place_snapshot(void);
extern uint64_t place_first_unseen(void);
extern const char *place_at(uint64_t at);
extern bool place_find(const char *snapshot, uint64_t *next);
extern void place_set(const char *snapshot, uint64_t from);
extern void place_look(void);
extern void place_go_back(void);
extern void place_forget(void);
extern bool place_is_refused(const char *sqlstate);

/* ------------------------------------------------------------------------
 * seen.c: what we have seen of the engine
 * ------------------------------------------------------------------------ */

typedef struct EngineSeen
{
	char state[160];     /* of eda.engine_status; "unknown": the database does not say */
	char feed_level[16]; /* the setting eda.feed */
	int pid;             /* 0: no engine runs */
	json_int_t start;    /* the last element's seq is [start, n]; start 0: none came yet */
	json_int_t n;
	json_int_t counted;     /* what the engine had read when we began to listen; -1: not known yet */
	json_int_t told;        /* up to here we have been told, by the feed or by the log when asked */
	json_int_t told_before; /* what "told" was a second ago */
	json_int_t read_before; /* what the engine had read a second ago */
} EngineSeen;

extern EngineSeen seen;
extern const char seen_sql[];

extern void seen_begin(void);
extern bool seen_take_seq(const json_t *element);
extern bool seen_take_status(const PGresult *row);
extern void seen_take_nothing(void);

/* ------------------------------------------------------------------------
 * hub.c: the feed
 * ------------------------------------------------------------------------ */

/* What the hub tells its readers; main.c says who they are. */
typedef struct HubEvents
{
	void (*on_changes)(void);                     /* there are new changes in the ring */
	void (*on_gap)(const char *reason);           /* there are changes that nobody will be shown */
	void (*on_status)(void);                      /* hub_status() has changed */
	void (*on_dispatched)(const char *flow_type); /* a worker can acquire an event of this flow type */
} HubEvents;

extern void hub_start(const HubEvents *events);
extern void hub_stop(void);
extern const char *hub_status(void); /* a JSON object */

/* ------------------------------------------------------------------------
 * stream.c, filter.c, socket.c: who watches
 * ------------------------------------------------------------------------ */

#define MAX_SUBSCRIPTIONS 32

/* What somebody wants to see: NULL is anything. */
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

typedef struct Subscriber
{
	struct Subscriber *next;
	struct Subscriber *prev;
	struct lws *wsi;
	SubscriberKind kind;
	Caller *caller;
	Subscription *subscriptions;
	int nsubscriptions;
	bool let_in;       /* the database has said that it may look */
	bool asking;       /* it is being asked (WebSocket) */
	bool all;          /* one subscription, without filters */
	uint64_t position; /* of the next change that it has not seen */
	char *since;       /* where it was before, when the ring does not know that; or NULL */
	Text pending;      /* messages of its own, before all others */
	bool headers_due;
	bool status_due;
	bool keep_alive_due;
	bool close_due;
	uint64_t write_asked; /* ms; 0: it is not to write */
	int watched;          /* the socket, if it is looked at for a hangup; or 0 */
	Text incoming;        /* a message in parts */
} Subscriber;

extern void stream_start(void);
extern void stream_stop(void);
extern Subscriber *stream_open(struct lws *wsi, SubscriberKind kind, Caller *caller, char *since);
extern void stream_begin(Subscriber *s, const char *missed);
extern void stream_ask_database(Subscriber *s);
extern void stream_close(Subscriber *s);
extern int stream_write(Subscriber *s);
extern void stream_send_changes(void);           /* there are changes */
extern void stream_send_status(void);            /* the state of database or engine has changed */
extern void stream_send_gap(const char *reason); /* nobody has seen all */
extern void stream_drop_retired(void);           /* their token is gone */
extern void stream_say(Subscriber *s, const char *type, const char *json); /* json: an object */
extern bool filter_add(Subscriber *s, const char *id, const char *event_type, const char *flow_type,
                       const char *flow_id);
extern void filter_remove(Subscriber *s, const char *id);
extern void filter_clear(Subscriber *s);
extern bool filter_wants(const Subscriber *s, const char *event_type, const char *flow_type, const char *flow_id);
extern int socket_receive(Subscriber *s, const char *data, size_t size, bool final, bool binary);

/* ------------------------------------------------------------------------
 * waiters.c: long polls
 * ------------------------------------------------------------------------ */

extern void waiters_start(void (*ask_database)(Request *));
extern void waiters_stop(void);
extern bool waiters_add(Request *request, const char *flow_type, uint64_t wait_ms); /* false: ask again at once */
extern void waiters_leave(Request *request);
extern void waiters_wake(const char *flow_type);
extern Request *waiters_take_retired(void); /* NULL: every waiting request's token is still known */

/* ------------------------------------------------------------------------
 * stats.c
 * ------------------------------------------------------------------------ */

typedef struct Stats
{
	uint64_t connections;
	uint64_t rejected;
	uint64_t changes;
	uint64_t gaps;
	uint64_t skipped;
	uint64_t feed_connects;
	uint64_t given_back;
	int open_connections;
	int waiting;
	int subscribers[SUBSCRIBER_KINDS]; /* that are connected */
} Stats;

extern Stats stats;

extern void stats_count_request(const Request *request);
extern void stats_write(Text *out);

#endif
