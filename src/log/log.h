/*
 * log.h
 *		The log of events: append to it, read it, and announce new rows to the engine.
 */
#ifndef EDA_LOG_H
#define EDA_LOG_H

#include "process/process.h"

/* ------------------------------------------------------------------------
 * journal.c: append to the log and look events up
 * ------------------------------------------------------------------------ */

/* A row of eda.event. */
typedef struct Event
{
	pg_uuid_t id;
	int16 leaf;
	TimestampTz created_at;
	TimestampTz expires_at; /* EDA_NEVER if the column is null */
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

/* An event and the leaf that it is in. */
typedef struct EventRef
{
	pg_uuid_t id;
	int leaf;
} EventRef;

/* What journal_append() does with an event that another, open transaction has changed. */
typedef enum JournalPolicy
{
	JOURNAL_SKIP,        /* leave the event alone */
	JOURNAL_WAIT,        /* wait until that transaction ends */
	JOURNAL_WAIT_BRIEFLY /* wait up to eda.lock_wait, then raise ED008 */
} JournalPolicy;

typedef enum JournalStatus
{
	JOURNAL_MISSING, /* there is no such event */
	JOURNAL_FOUND,   /* the event was looked up, and nothing was appended */
	JOURNAL_BUSY,    /* another, open transaction has changed the event, which was left alone */
	JOURNAL_APPENDED /* step->next is in the log */
} JournalStatus;

/* One event on its way through journal_append(). */
typedef struct JournalStep
{
	pg_uuid_t event_id;
	int leaf; /* before: the leaf to search first, or -1; after: the leaf that the event is in */
	JournalStatus status;
	TransactionId busy_with; /* with JOURNAL_BUSY: the transaction that has changed the event */
	Transition current;      /* the latest transition, unless the event is missing or busy */
	Transition next;         /* the transition that decide() wants appended */
	TimestampTz now;         /* the clock's time; next.at is Max(now, current.at) */
	bool known;              /* see journal_know() */
	int item;                /* for the caller: the event's place in its arguments */
	int errors;              /* for the engine: how often this move has raised an error */
	bool moving;             /* decide() wants step->next appended */
} JournalStep;

/*
 * Decides what the step's event moves to, given step->current.  Either fills in step->next and
 * returns true, or returns false to leave the event alone.  May raise an error.
 *
 * step->next comes as a copy of step->current in which version, prev_state, leaf and at are
 * those of the new transition, and token, suspended_by, wake_at, worker and detail are empty.
 *
 * After a lost race the function is called again, with a newer step->current.
 */
typedef bool (*JournalDecide)(JournalStep *step, void *arg);

extern void journal_require_write(const char *function);
extern void journal_require_found(const JournalStep *step);
extern const EventType *journal_require_type(const JournalStep *step);
extern int journal_append(JournalStep *steps, int nsteps, JournalPolicy policy, JournalDecide decide, void *arg);
extern Brief journal_brief(const Transition *t);
extern void journal_know(JournalStep *step, EdaState state, const Brief *brief);
extern int journal_unique(JournalStep *steps, int nsteps);
extern void journal_publish(const Event *events, Transition *first, int n);
extern bool journal_publish_given(const Event *event, Transition *first);

/* ------------------------------------------------------------------------
 * journal_read.c: reading events and transitions
 * ------------------------------------------------------------------------ */

extern bool journal_event(int leaf, const pg_uuid_t *id, bool whole, Event *out);
extern void journal_read_events(const EventRef *refs, int n, bool whole, Event *out);
extern bool journal_find_event(const pg_uuid_t *id, Event *out);
extern bool journal_find_transition(int leaf, const pg_uuid_t *id, int32 version, bool or_later, Transition *out);
extern int journal_history(int leaf, const pg_uuid_t *id, Transition *out, int max);

/* ------------------------------------------------------------------------
 * journal_shape.c: what an insert into a table needs to know about it, cached for the session
 * ------------------------------------------------------------------------ */

/*
 * The columns and indexes of a table; shared by all its JournalRels until somebody alters the
 * table.
 */
typedef struct JournalShape
{
	struct JournalShape *next;
	MemoryContext context; /* holds this struct and all that it points to */
	bool valid;            /* no relcache message has come for the table or its indexes */
	Oid relid;
	TupleDesc desc; /* a copy without reference count, so that slots need no resource owner */
	EState *estate; /* evaluates predicates and expressions */
	int nindexes;   /* including indexes that are not ready for inserts yet */
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
	TupleDesc desc;          /* describes the slots of rows to insert */
	IndexScanDesc scan;      /* over the primary key; NULL before the first look */
	SnapshotData dirty;      /* also says what the last look found: see InitDirtySnapshot() */
	TransactionId busy_with; /* after LOOK_BUSY: the open transaction that has inserted the row */
	TupleTableSlot *found;   /* the row that the last look has found */
	struct
	{
		Relation rel; /* NULL: no row has needed this index so far */
		IndexInfo *info;
	} index[FLEXIBLE_ARRAY_MEMBER]; /* in the order of shape->index */
} JournalRel;

typedef enum JournalLook
{
	LOOK_NOTHING, /* there is no row */
	LOOK_FOUND,   /* the row is committed, or our own transaction has inserted it */
	LOOK_BUSY     /* another, open transaction has inserted the row */
} JournalLook;

extern void journal_rel_uuid_key(ScanKey key, AttrNumber column, const pg_uuid_t *id);
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

#define EDA_TOKEN_LEFT_OUT PG_INT32_MIN /* in place of a token: the caller has passed none */

typedef enum LeaseCheck
{
	LEASE_OPEN,        /* the caller holds the lease */
	LEASE_CLOSED_BY_US /* the caller repeats what it has reported: nothing to append */
} LeaseCheck;

extern void lease_end_attempt(JournalStep *step, const EventType *type, bool retry, TimestampTz retry_at);
extern LeaseCheck lease_check(const JournalStep *step, int32 token, EdaState wanted, bool finished_ok);

/* ------------------------------------------------------------------------
 * news.c: writers announce to the engine where their new transitions are
 * ------------------------------------------------------------------------ */

extern void news_init(void);
extern void news_widen(NewsRange *range, Oid file, BlockNumber begin, BlockNumber end);
extern void news_add(Relation rel, int leaf, uint64 xid, TupleTableSlot **slots, int n, const bool *lost);
extern int news_take(EngineArea *area, NewsItem *items, bool *is_full, NewsRange omitted[EDA_LEAVES]);

#endif
