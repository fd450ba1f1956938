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
	int16 segment;
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
} Transition;

extern const char *lifecycle_state_name(EdaState state);
extern const char *lifecycle_suspended_by_name(EdaSuspendedBy by);
extern bool lifecycle_is_final(EdaState state);
extern bool lifecycle_is_legal(EdaState from, EdaState to);
extern void lifecycle_check(const Transition *current, EdaState to);
extern char *eda_uuid_text(const pg_uuid_t *id);

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

extern const EdaCatalog *eda_catalog(bool missing_ok);
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
	int priority;
	int max_in_flight; /* 0: no limit */
} EventType;

extern const EventType *event_type_by_name(const char *name, bool missing_ok);
extern const EventType *event_type_by_id(int32 id);
extern int event_type_all(const EventType ***types);
extern TimestampTz event_type_retry_at(const EventType *type, int attempts, TimestampTz now);
extern TimestampTz event_type_expires_at(const EventType *type, TimestampTz from);
extern TimestampTz eda_add_interval(TimestampTz t, const Interval *i);
extern int segment_of(const pg_uuid_t *id);
extern int segment_leaves(const pg_uuid_t *id, int leaves[EDA_LEAVES]);
extern void config_forget(void);

/* ------------------------------------------------------------------------
 * journal.c: the only writer of event and transition
 * ------------------------------------------------------------------------ */

/* A row of eda.event. */
typedef struct Event
{
	pg_uuid_t id;
	int16 segment;
	TimestampTz created_at;
	TimestampTz expires_at; /* EDA_NEVER: null */
	const char *event_type;
	const char *flow_type;
	const char *flow_id;
	bool has_parent;
	pg_uuid_t parent_id;
	const char *correlation_id;     /* may be NULL */
	const char *on_fail_event_type; /* may be NULL; empty: none */
	Jsonb *headers;                 /* may be NULL */
	Jsonb *payload;
} Event;

typedef enum JournalPolicy
{
	JOURNAL_SKIP,        /* leave what an open transaction has touched */
	JOURNAL_WAIT,        /* wait for that transaction */
	JOURNAL_WAIT_BRIEFLY /* wait up to eda.lock_wait, then name the blocker */
} JournalPolicy;

typedef enum JournalStatus
{
	JOURNAL_MISSING, /* no such event */
	JOURNAL_FOUND,   /* looked at, nothing appended */
	JOURNAL_BUSY,    /* an open transaction has appended to it */
	JOURNAL_APPENDED
} JournalStatus;

/* One event on its way through journal_append(). */
typedef struct JournalStep
{
	pg_uuid_t event_id;
	int leaf; /* where to look first; where it was found */
	JournalStatus status;
	TransactionId busy_with; /* JOURNAL_BUSY: that transaction */
	Transition current;      /* the latest transition, unless missing or busy */
	Transition next;         /* what decide() wants appended */
	TimestampTz now;         /* the clock's time; next.at is never before current.at */
	int item;                /* for the caller: steps are sorted by event id */
	bool moving;
} JournalStep;

/*
 * Looks at step->current and either fills in step->next (prepared as a copy of
 * current with version, prev_state, at and xid set, and what belongs to one
 * transition only cleared) and returns true, or returns false to leave the
 * event alone.  May raise an error.  It is asked again after a lost race.
 */
typedef bool (*JournalDecide)(JournalStep *step, void *arg);

extern int journal_append(JournalStep *steps, int nsteps, JournalPolicy policy, JournalDecide decide, void *arg);
extern void journal_publish(Event *events, Transition *first, int n, bool *lost);
extern bool journal_claim_key(const char *scope, const pg_uuid_t *key_hash, const pg_uuid_t *event_id,
                              pg_uuid_t *first);
extern bool journal_event(int leaf, const pg_uuid_t *id, Event *out);
extern void journal_step_events(const JournalStep *steps, int nsteps, Event *events);
extern bool journal_find_event(const pg_uuid_t *id, Event *out);
extern bool journal_find_transition(int leaf, const pg_uuid_t *id, int32 version, bool or_later, Transition *out);
extern void journal_require_write(const char *what);

/* ------------------------------------------------------------------------
 * journal_rel.c: a table of the log with its indexes, opened for direct access
 * ------------------------------------------------------------------------ */

/* Columns of eda.transition, in order. */
enum
{
	T_EVENT_ID,
	T_AT,
	T_XID,
	T_VERSION,
	T_TYPE,
	T_STATE,
	T_ATTEMPT,
	T_ATTEMPT_BASE,
	T_RETURNS,
	T_SEGMENT,
	T_PREV_STATE,
	T_TOKEN,
	T_WAKE_AT,
	T_EXPIRES_AT,
	T_SUSPENDED_BY,
	T_WORKER,
	T_DETAIL,
	T_COUNT
};

/* Columns of eda.event, in order. */
enum
{
	E_ID,
	E_CREATED_AT,
	E_SEGMENT,
	E_EVENT_TYPE,
	E_FLOW_TYPE,
	E_FLOW_ID,
	E_EXPIRES_AT,
	E_PARENT_ID,
	E_CORRELATION_ID,
	E_ON_FAIL,
	E_HEADERS,
	E_PAYLOAD,
	E_COUNT
};

/* Columns of eda.idempotency, in order. */
enum
{
	K_SCOPE,
	K_KEY_HASH,
	K_EVENT_ID,
	K_EXPIRES_AT,
	K_COUNT
};

typedef struct JournalRel
{
	Relation rel;
	TupleDesc desc; /* of slots to insert */
	int nindexes;
	Relation *index; /* index[0] is the primary key */
	IndexInfo **info;
	EState *estate;
	IndexScanDesc scan; /* of the primary key, with a dirty snapshot; NULL until asked for */
	SnapshotData dirty;
	TupleTableSlot *found;
} JournalRel;

typedef enum JournalLook
{
	LOOK_NOTHING,
	LOOK_FOUND,
	LOOK_BUSY
} JournalLook;

extern JournalRel *journal_rel_open(Oid relid, LOCKMODE lock);
extern void journal_rel_close(JournalRel *jrel);
extern void journal_rel_insert(JournalRel *jrel, TupleTableSlot **slots, int n, bool *lost);
extern JournalLook journal_rel_look(JournalRel *jrel, ScanKey keys, int nkeys, ScanDirection direction,
                                    TransactionId *busy_with);
extern void journal_read_transition(TupleTableSlot *slot, Transition *out, bool whole);
extern void journal_read_event(TupleTableSlot *slot, Event *out);
extern TupleTableSlot *journal_transition_slot(JournalRel *jrel, const Transition *t);
extern TupleTableSlot *journal_event_slot(JournalRel *jrel, const Event *e);
extern bool journal_lock_leaves(void);

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
	bool trusted; /* made by the engine: no size limits */
} PublishItem;

extern void publish_items(PublishItem *items, int n, pg_uuid_t *ids);
extern int publish_parse(Jsonb *array, const char *what, const Event *parent, PublishItem **items);
extern void publish_inherit(PublishItem *item, const Event *parent);

extern void work_fail(JournalStep *step, const EventType *type, bool retry, TimestampTz retry_at);
extern void work_publish_on_fail(JournalStep *steps, int nsteps);
extern const EventType *work_type(const JournalStep *step);
extern bool work_lease_is_open(const JournalStep *step, int32 token, EdaState wanted, bool finished_ok);
extern const char *work_caller(void);
extern void work_require_found(const JournalStep *step);

/* ------------------------------------------------------------------------
 * json.c: making and reading jsonb
 * ------------------------------------------------------------------------ */

typedef struct JsonObject
{
	JsonbParseState *state;
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
 * shmem.c: what backends, launcher and engines share
 * ------------------------------------------------------------------------ */

typedef enum OfferState
{
	OFFER_FREE,
	OFFER_QUEUED,   /* waits for a worker */
	OFFER_POPPED,   /* a worker has it, and has not committed */
	OFFER_RETURNED, /* it came back: the worker's transaction rolled back */
	OFFER_REFUSED   /* it came back: could not be taken just now */
} OfferState;

/*
 * An event in the ready queue.  Only the engine takes entries from the free
 * list and gives them back; workers move QUEUED to POPPED, and at the end of
 * their transaction perhaps to RETURNED.  All under the area's lock.
 */
typedef struct Offer
{
	pg_uuid_t event_id;
	int32 version;
	int32 type;
	uint32 generation; /* counts the uses of this entry */
	int32 next;        /* in the list of its priority, or the free list; -1: end */
	int32 prev;
	int16 queue;
	int8 leaf;
	int8 priority;
	int8 state;
	TimestampTz since;   /* of this state */
	TimestampTz wake_at; /* of the dispatched transition */
} Offer;

#define EDA_PRIORITIES 10

/* The ready queue of a flow type. */
typedef struct FlowQueue
{
	char flow_type[NAMEDATALEN]; /* empty: unused */
	int32 head[EDA_PRIORITIES];
	int32 tail[EDA_PRIORITIES];
	int32 queued;
	int32 popped;
	int32 waiting; /* workers in acquire_next */
	int32 wanted;  /* events they asked for */
	ConditionVariable ready;
} FlowQueue;

#define EDA_RATE_BUCKETS 12 /* of five seconds: the last minute */

typedef struct TypeMetrics
{
	int32 type;
	int64 counts[EDA_STATES];
	int64 moved[EDA_RATE_BUCKETS][EDA_STATES];
	int64 bucket; /* the five seconds since the epoch that moved[bucket % n] belongs to */
	TimestampTz oldest_due_at;
} TypeMetrics;

/* What an engine says of itself. */
typedef struct EngineInfo
{
	char state[128];
	TimestampTz started_at;
	TimestampTz last_tick_at;
	int64 ticks;
	int64 transitions_read;
	int64 transitions_made;
	double last_tick_ms;
	double max_tick_ms;
	int32 parked;
	int32 held_back;
	char last_error[256];
	TimestampTz last_error_at;
} EngineInfo;

/*
 * One database.  "lock" guards what follows it; it is never held over anything
 * that can wait or raise an error.
 */
typedef struct EngineArea
{
	Oid database;                  /* InvalidOid: unused; guarded by EdaShmem.lock */
	pg_atomic_uint64 clock_offset; /* us, as int64; moved by tests only */

	/* launcher.c; guarded by EdaShmem.lock */
	bool wanted;             /* somebody asked for an engine */
	bool no_extension;       /* the engine looked and found none */
	int blocked;             /* DROP DATABASE and its like under way */
	pid_t engine_pid;        /* 0: none */
	int engine_proc;         /* its number in ProcGlobal, to set the latch */
	TimestampTz start_after; /* restart backoff; told by the launcher, for show */
	int crashes;             /* restarts without a healthy minute; likewise */

	LWLock lock;
	EngineInfo info;
	int nmetrics;
	int nfree;
	int32 free_head;
	bool returned; /* some offer is RETURNED or REFUSED */
				   /* then: TypeMetrics[max_event_types], FlowQueue[max_event_types], Offer[queue_size] */
} EngineArea;

/* Where the start of an engine has got to. */
typedef enum EngineStart
{
	START_NONE,
	START_ASKED,        /* by the launcher, of the postmaster */
	START_RUNNING,      /* it has its area */
	START_STOPPED,      /* it has left as it should */
	START_CRASHED,      /* it has left through an error */
	START_NO_EXTENSION, /* it has left: nothing to do in that database */
	START_NO_AREA       /* it has left: eda.max_databases */
} EngineStart;

/* How much somebody wants an engine. */
typedef enum EngineWish
{
	WISH_NONE,
	WISH_SOON, /* look again, in your own time */
	WISH_NOW   /* forget the backoff */
} EngineWish;

/*
 * What is under way with a database, whether it has an area or not: most
 * databases of a cluster do not have the extension, and must not cost an area.
 */
typedef struct EngineNote
{
	Oid database; /* InvalidOid: unused */
	int blocked;  /* copied to the area's */
	EngineStart start;
	EngineWish wish;
} EngineNote;

/*
 * "lock" guards what follows it, and comes before an area's lock where both are
 * held.
 */
typedef struct EdaShmem
{
	int tranche; /* of all our locks */
	int nnotes;
	ConditionVariable engine_gone; /* an engine has left its area */

	LWLock lock;
	int launcher_proc; /* -1: none */
	bool rescan;       /* the launcher is to look at pg_database now */
	bool wish_lost;    /* no note was left for a wish: look everywhere */
					   /* then: EngineNote[nnotes], EngineArea[max_databases] */
} EdaShmem;

extern EdaShmem *eda_shmem;

extern void shmem_init(void);
extern EngineArea *shmem_area(int i);
extern EngineArea *shmem_my_area(void);      /* NULL: no engine has claimed one */
extern EngineArea *shmem_claim_area(Oid db); /* NULL: none left */
extern EngineArea *shmem_area_of(Oid db);    /* NULL: none */
extern bool shmem_release_area(EngineArea *area, Oid db);
extern bool shmem_area_left(void);
extern EngineNote *shmem_note(int i);
extern void shmem_require(void);
extern void area_reset_queues(EngineArea *area);
extern TypeMetrics *area_metrics(EngineArea *area);
extern FlowQueue *area_queues(EngineArea *area);
extern Offer *area_offers(EngineArea *area);
extern TimestampTz eda_now(void);
extern void shmem_wake_engine(EngineArea *area);
extern void shmem_wake_launcher(void);
extern void shmem_wish_engine(void);
extern void wakeup_at_commit(void);

/* ------------------------------------------------------------------------
 * queue.c: the workers' side of the ready queue
 * ------------------------------------------------------------------------ */

typedef struct Popped
{
	int offer;
	uint32 generation;
	pg_uuid_t event_id;
	int leaf;
} Popped;

extern FlowQueue *area_find_queue(EngineArea *area, const char *flow_type);
extern void area_unlink_offer(EngineArea *area, int i);
extern int queue_pop(const char *flow_type, int max, Popped *out);
extern bool queue_wait(const char *flow_type, int wanted, TimestampTz until);
extern void queue_refuse(const Popped *p);

/* ------------------------------------------------------------------------
 * launcher.c
 * ------------------------------------------------------------------------ */

extern void launcher_register(void);
extern void launcher_wish(Oid db, EngineWish wish);

/* for ddl.c */
extern EngineNote *launcher_note(Oid db, bool make);
extern void launcher_tidy_note(EngineNote *note);

/* for the engine */
extern EngineArea *launcher_engine_started(Oid db);
extern void launcher_engine_no_extension(EngineArea *area);
extern bool launcher_engine_must_stop(EngineArea *area);
extern bool launcher_lock_engine(void);

/* ------------------------------------------------------------------------
 * ddl.c
 * ------------------------------------------------------------------------ */

extern void ddl_init(void);

#endif
