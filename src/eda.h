/*
 * eda.h
 *		What the files of the extension share.  The words are those of the
 *		design: an event is written once, each step of its life is a transition,
 *		and its state is the transition with the highest version.
 */
#ifndef EDA_H
#define EDA_H

#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"

#define EDA_LEAVES 17
#define EDA_ATTIC 0        /* the leaf of ids that carry no time */
#define EDA_NEVER DT_NOEND /* in C, where SQL has a null deadline */

/* ------------------------------------------------------------------------
 * eda.c: settings
 * ------------------------------------------------------------------------ */

typedef enum EdaEngineMode
{
	EDA_ENGINE_OFF,
	EDA_ENGINE_PAUSED,
	EDA_ENGINE_ON
} EdaEngineMode;

typedef enum EdaFeedLevel
{
	EDA_FEED_OFF,
	EDA_FEED_IDS,
	EDA_FEED_FULL
} EdaFeedLevel;

/* The build passes the control file's version. */
#ifndef EDA_VERSION
#define EDA_VERSION "unknown"
#endif

extern int eda_engine_mode;
extern int eda_feed_level;
extern int eda_max_databases;
extern int eda_max_event_types;
extern int eda_queue_size;       /* events: offers a database can have out */
extern int eda_ready_window;     /* events dispatched ahead of the workers, per flow type */
extern int eda_max_payload_size; /* kB */
extern int eda_lock_wait;        /* ms */
extern int eda_max_returns;
extern int eda_idempotency_ttl;  /* s */
extern int eda_segment_interval; /* s */
extern char *eda_nats_url;
extern char *eda_nats_credentials;
extern char *eda_nats_tls_ca_file;
extern char *eda_nats_tls_cert_file;
extern char *eda_nats_tls_key_file;
extern char *eda_nats_stream;
extern int eda_nats_max_age;          /* s */
extern int eda_nats_duplicate_window; /* s */
extern int eda_nats_replicas;

/* ------------------------------------------------------------------------
 * lifecycle.c: states, legal moves, errors
 * ------------------------------------------------------------------------ */

typedef enum EdaState
{
	EDA_NONE = -1, /* before the first transition */
	EDA_AWAITING,
	EDA_DISPATCHED,
	EDA_BEING_PROCESSED,
	EDA_SUCCEEDED,
	EDA_FAILED,
	EDA_SUSPENDED,
	EDA_EXPIRED,
	EDA_CANCELED
} EdaState;
#define EDA_STATES 8

#define ERRCODE_EDA_ILLEGAL_MOVE MAKE_SQLSTATE('E', 'D', '0', '0', '1')
#define ERRCODE_EDA_STALE_TOKEN MAKE_SQLSTATE('E', 'D', '0', '0', '2')
#define ERRCODE_EDA_ALREADY_FINISHED MAKE_SQLSTATE('E', 'D', '0', '0', '3')
#define ERRCODE_EDA_UNKNOWN_EVENT MAKE_SQLSTATE('E', 'D', '0', '0', '4')
#define ERRCODE_EDA_UNKNOWN_EVENT_TYPE MAKE_SQLSTATE('E', 'D', '0', '0', '5')
#define ERRCODE_EDA_TOKEN_REQUIRED MAKE_SQLSTATE('E', 'D', '0', '0', '6')
#define ERRCODE_EDA_KEY_REUSED MAKE_SQLSTATE('E', 'D', '0', '0', '7')
#define ERRCODE_EDA_BUSY MAKE_SQLSTATE('E', 'D', '0', '0', '8')
#define ERRCODE_EDA_TOO_LARGE MAKE_SQLSTATE('E', 'D', '0', '0', '9')
#define ERRCODE_EDA_LOG_IS_APPEND_ONLY MAKE_SQLSTATE('E', 'D', '0', '1', '0')
#define ERRCODE_EDA_LOG_ALTERED MAKE_SQLSTATE('E', 'D', '0', '1', '1')

typedef enum EdaSuspendedBy
{
	EDA_BY_NOBODY,
	EDA_BY_TYPE,
	EDA_BY_OPERATOR,
	EDA_BY_WORKER
} EdaSuspendedBy;

/* A row of eda.transition. */
typedef struct Transition
{
	pg_uuid_t event_id;
	int32 version;
	int32 type;
	EdaState state;
	EdaState prev_state;
	int16 leaf;
	int32 attempt;
	int32 attempt_base;
	int16 returns;
	int32 token; /* 0: none */
	EdaSuspendedBy suspended_by;
	TimestampTz at;
	TimestampTz wake_at;    /* EDA_NEVER: null */
	TimestampTz expires_at; /* EDA_NEVER: null */
	uint64 xid;
	const char *worker; /* may be NULL */
	Jsonb *detail;      /* may be NULL */
	bool retry;         /* as read: an attempt failed, and another one is to follow */
} Transition;

/* As much of a transition that was read as the next one is made of. */
typedef struct Brief
{
	TimestampTz at;
	TimestampTz wake_at;
	TimestampTz expires_at;
	int32 version; /* 0: nothing is known */
	int32 type;
	int32 attempt;
	int32 attempt_base;
	int16 returns;
} Brief;

extern const char *lifecycle_state_name(EdaState state);
extern const char *lifecycle_suspended_by_name(EdaSuspendedBy by);
extern bool lifecycle_is_final(EdaState state);
extern void lifecycle_check(const Transition *current, EdaState to);
extern char *uuid_text(const pg_uuid_t *id);

/* ------------------------------------------------------------------------
 * catalog.c: the extension's own relations, by oid
 * ------------------------------------------------------------------------ */

typedef enum JournalTable
{
	JOURNAL_EVENT,
	JOURNAL_TRANSITION
} JournalTable;

typedef struct EdaCatalog
{
	Oid extension;
	char version[32];
	Oid owner;
	Oid schema;
	Oid event_type;
	Oid segment;
	Oid idempotency;
	Oid engine_state;
	Oid config;
	Oid leaf[2][EDA_LEAVES]; /* by JournalTable */
	Oid state[EDA_STATES];   /* the enum's labels */
} EdaCatalog;

extern const EdaCatalog *catalog_get(bool missing_ok);
extern void catalog_forget(void);
extern Oid catalog_index(int leaf, JournalTable table, const char *suffix);
extern EdaState catalog_state(Oid label);

/* ------------------------------------------------------------------------
 * event_type.c: config, cached
 * ------------------------------------------------------------------------ */

typedef struct EventType
{
	int32 id;
	char name[NAMEDATALEN];
	char flow_type[NAMEDATALEN];
	int max_attempts;
	bool has_lifespan;
	Interval lifespan;
	int ndelays;
	Interval *delays;
	double backoff;
	double jitter;
	Interval lease;
	Interval dispatch_timeout;
	char on_fail[NAMEDATALEN]; /* empty: none */
	bool suspended;
	bool has_suspend_timeout;
	Interval suspend_timeout;
	bool resume_on_timeout;
	bool to_broker;      /* delivery = 'nats' */
	const char *subject; /* NULL: the default */
	int priority;
	int max_in_flight; /* 0: no limit */
	int max_dispatched;
} EventType;

extern const EventType *event_type_by_name(const char *name, bool missing_ok);
extern const EventType *event_type_by_id(int32 id);
extern int event_type_all(const EventType ***types);
extern TimestampTz event_type_attempt_at(const EventType *type, int attempts, TimestampTz now);
extern TimestampTz event_type_expires_at(const EventType *type, TimestampTz from);
extern TimestampTz interval_add_to(TimestampTz t, const Interval *i);
extern int segment_leaf_of(const pg_uuid_t *id);
extern bool segment_is_old(TimestampTz before);
extern int segment_leaves_of(const pg_uuid_t *id, int leaves[EDA_LEAVES]);
extern void config_forget(void);

#include "journal.h"

/* ------------------------------------------------------------------------
 * publish.c, work.c, control.c: the SQL API by who calls it
 * ------------------------------------------------------------------------ */

/* What eda.publish() is asked for; also a spinoff or an on-fail event. */
typedef struct PublishItem
{
	const char *event_type;
	const char *flow_id;
	const char *flow_type; /* NULL: the event type's */
	Jsonb *payload;        /* NULL: {} */
	Jsonb *headers;
	bool has_scheduled_at;
	TimestampTz scheduled_at;
	bool has_event_id;
	pg_uuid_t event_id;
	const char *idempotency_key;
	const char *on_fail_event_type;
	const char *correlation_id;
	bool has_parent;
	pg_uuid_t parent_id;
	bool no_size_limit; /* an on-fail event carries the payload of the event that failed */
	const char *list;   /* what holds it, for errors; or NULL */
	int element;        /* where, counted from 1 */
} PublishItem;

extern void publish_items(PublishItem *items, int n, pg_uuid_t *ids);
extern void item_context(void *arg);
extern int item_parse(Jsonb *array, const char *what, const Event *parent, PublishItem **items);
extern void item_inherit(PublishItem *item, const Event *parent);

#define EDA_TOKEN_LEFT_OUT PG_INT32_MIN

extern void lease_end_attempt(JournalStep *step, const EventType *type, bool retry, TimestampTz retry_at);
extern void on_fail_publish(JournalStep *steps, int nsteps);
extern const EventType *journal_require_type(const JournalStep *step);
typedef enum LeaseCheck
{
	LEASE_OPEN,
	LEASE_CLOSED_BY_US /* a repeat that is permitted: there is nothing to append */
} LeaseCheck;

extern LeaseCheck lease_check(const JournalStep *step, int32 token, EdaState wanted, bool finished_ok);
extern const char *args_caller(void);
extern void journal_require_found(const JournalStep *step);

/* ------------------------------------------------------------------------
 * json.c: making and reading jsonb
 * ------------------------------------------------------------------------ */

typedef struct JsonObject
{
	JsonbInState state;
	int members;
} JsonObject;

extern void json_begin(JsonObject *object);
extern void json_put_text(JsonObject *object, const char *key, const char *value); /* NULL: left out */
extern void json_put_int(JsonObject *object, const char *key, int64 value);
extern void json_put_json(JsonObject *object, const char *key, Jsonb *value); /* NULL: left out */
extern Jsonb *json_end(JsonObject *object);                                   /* NULL if nothing was put */
extern char *json_get_text(Jsonb *object, const char *key);
extern char *json_value_text(const JsonbValue *value);

#include "shmem.h"

#endif
