/*
 * base.h
 *		What eda is about: states and moves, the extension's relations, the rules of event
 *		types, the map of segments; and small helpers.  Nothing here knows shared memory or
 *		the log.
 */
#ifndef EDA_BASE_H
#define EDA_BASE_H

#include "eda.h"

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
	bool retry;         /* set by reading: the attempt failed, and another attempt will follow */
} Transition;

/* The fields of a transition that are needed to compute the next one. */
typedef struct Brief
{
	TimestampTz at;
	TimestampTz wake_at;
	TimestampTz expires_at;
	int32 version; /* 0: the transition is not known */
	int32 type;
	int32 attempt;
	int32 attempt_base;
	int16 returns;
} Brief;

extern const char *lifecycle_state_name(EdaState state);
extern const char *lifecycle_suspended_by_name(EdaSuspendedBy by);
extern bool lifecycle_is_final(EdaState state);
extern void lifecycle_check(const Transition *current, EdaState to);
extern void lifecycle_finish_move(const Transition *current, Transition *next, TimestampTz now);

/* ------------------------------------------------------------------------
 * relcache.c: messages of the relation cache
 * ------------------------------------------------------------------------ */

typedef void (*RelcacheCallback)(Oid relid); /* InvalidOid: all relations */

extern void relcache_watch(RelcacheCallback callback);

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
extern void catalog_for_each_row(Oid relid, void (*take)(TupleTableSlot *slot, void *arg), void *arg);

/* ------------------------------------------------------------------------
 * event_type.c: the rules of each event type, cached
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
extern void event_type_forget(void);

/* ------------------------------------------------------------------------
 * segment.c: which leaf holds which range of time, cached
 * ------------------------------------------------------------------------ */

extern int segment_leaf_of(const pg_uuid_t *id);
extern int segment_leaves_of(const pg_uuid_t *id, int leaves[EDA_LEAVES]);
extern bool segment_is_old(TimestampTz before);
extern void segment_forget(void);

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

/* ------------------------------------------------------------------------
 * interval.c, uuid.c, array.c: small helpers
 * ------------------------------------------------------------------------ */

extern TimestampTz interval_add_to(TimestampTz t, const Interval *i);
extern char *uuid_text(const pg_uuid_t *id);
extern Datum array_of_int8(const int64 *numbers, int n);
extern void *array_grow(void *array, int n, int *max, Size element, MemoryContext context);

/*
 * Make room for one more element in an array of n; max is how many are allocated, an int
 * variable.
 */
#define ARRAY_GROW(array, n, max, context) ((array) = array_grow((array), (n), &(max), sizeof(*(array)), (context)))

#endif
