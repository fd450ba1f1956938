/*
 * log.h
 *		The log of events: append to it, look it up, and tell the engine what is new.
 */
#ifndef EDA_LOG_H
#define EDA_LOG_H

#include "process/process.h"

/* ------------------------------------------------------------------------
 * journal.c: the only writer of event and transition
 * ------------------------------------------------------------------------ */

/* A row of eda.event. */
typedef struct Event
{
	pg_uuid_t id;
	int16 leaf;
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

/* Where to find an event. */
typedef struct EventRef
{
	pg_uuid_t id;
	int leaf;
} EventRef;

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
	bool known; /* leaf and current are what the caller has read: to be looked at only if the append loses */
	int item;   /* for the caller: the place of this event in its call; journal_append() sorts by event id */
	int errors; /* for the engine: how often the move of this event has raised an error */
	bool moving;
} JournalStep;

/*
 * Looks at step->current and either fills in step->next (prepared as a copy of
 * current with version, prev_state and at set, and what belongs to one
 * transition only cleared) and returns true, or returns false to leave the
 * event alone.  May raise an error.  It is asked again after a lost race.
 */
typedef bool (*JournalDecide)(JournalStep *step, void *arg);

extern int journal_append(JournalStep *steps, int nsteps, JournalPolicy policy, JournalDecide decide, void *arg);
extern Brief journal_brief(const Transition *t);
extern void journal_know(JournalStep *step, EdaState state, const Brief *brief);
extern int journal_unique(JournalStep *steps, int nsteps);
extern void journal_publish(Event *events, Transition *first, int n, bool *lost);
extern bool journal_event(int leaf, const pg_uuid_t *id, bool whole, Event *out);
extern void journal_read_events(const EventRef *refs, int n, bool whole, Event *out);
extern bool journal_find_event(const pg_uuid_t *id, Event *out);
extern bool journal_find_transition(int leaf, const pg_uuid_t *id, int32 version, bool or_later, Transition *out);
extern int journal_history(int leaf, const pg_uuid_t *id, Transition *out, int max);
extern void journal_require_write(const char *what);
extern void journal_require_found(const JournalStep *step);
extern const EventType *journal_require_type(const JournalStep *step);

/* ------------------------------------------------------------------------
 * journal_shape.c: what inserting into a table needs to know, kept for the session
 * ------------------------------------------------------------------------ */

/* What all openings of a table share, as long as nobody alters it. */
typedef struct JournalShape
{
	struct JournalShape *next;
	MemoryContext context; /* of all this */
	bool valid;
	Oid relid;
	TupleDesc desc; /* a copy, not reference-counted: the resource owner need not remember a thousand slots */
	EState *estate; /* evaluates predicates and expressions */
	int nindexes;   /* with those that are not ready for rows */
	Oid *index;     /* index[0] is the primary key */
	IndexInfo **info;
} JournalShape;

extern JournalShape *journal_shape_find(Relation rel, LOCKMODE lock);

/* ------------------------------------------------------------------------
 * idempotency.c: the keys under which events were published
 * ------------------------------------------------------------------------ */

extern bool idempotency_claim(const char *scope, const pg_uuid_t *key_hash, const pg_uuid_t *event_id,
                              pg_uuid_t *first);

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
	LOCKMODE lock;
	JournalShape *shape;
	TupleDesc desc;     /* of slots to insert */
	IndexScanDesc scan; /* of the primary key, with a dirty snapshot; NULL until asked for */
	SnapshotData dirty;
	TransactionId busy_with; /* after LOOK_BUSY */
	TupleTableSlot *found;
	struct
	{
		Relation rel; /* NULL: not needed so far */
		IndexInfo *info;
	} index[FLEXIBLE_ARRAY_MEMBER]; /* in the order of shape->index */
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
extern JournalLook journal_rel_look(JournalRel *jrel, ScanKey keys, int nkeys, ScanDirection direction);
extern bool journal_rel_lost_row(JournalRel *jrel, ScanKey keys, int nkeys);
extern void journal_rel_wait(JournalRel *jrel);
extern void journal_read_transition(TupleTableSlot *slot, Transition *out, bool whole);
extern void journal_read_event(TupleTableSlot *slot, Event *out, bool whole);
extern TupleTableSlot *journal_transition_slot(JournalRel *jrel, const Transition *t);
extern TupleTableSlot *journal_event_slot(JournalRel *jrel, const Event *e);
extern bool journal_lock_leaves(void);

/* ------------------------------------------------------------------------
 * lease.c: the right to process one attempt, and the token that proves it
 * ------------------------------------------------------------------------ */

#define EDA_TOKEN_LEFT_OUT PG_INT32_MIN

typedef enum LeaseCheck
{
	LEASE_OPEN,
	LEASE_CLOSED_BY_US /* a repeat that is permitted: there is nothing to append */
} LeaseCheck;

extern void lease_end_attempt(JournalStep *step, const EventType *type, bool retry, TimestampTz retry_at);
extern LeaseCheck lease_check(const JournalStep *step, int32 token, EdaState wanted, bool finished_ok);

/* ------------------------------------------------------------------------
 * news.c: where the new transitions lie
 * ------------------------------------------------------------------------ */

extern void news_init(void);
extern void news_widen(NewsRange *range, Oid file, BlockNumber begin, BlockNumber end);
extern void news_add(Relation rel, int leaf, uint64 xid, TupleTableSlot **slots, int n, const bool *lost);
extern int news_take(EngineArea *area, NewsItem *items, bool *is_full, NewsRange omitted[EDA_LEAVES]);

#endif
