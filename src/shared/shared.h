/*
 * shared.h
 *		Shared memory: what backends, the launcher and the engines have in common.
 */
#ifndef EDA_SHARED_H
#define EDA_SHARED_H

#include "base/base.h"
#include "broker/status.h"

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
	Brief dispatched;
	uint32 generation; /* counts the uses of this entry */
	int32 next;        /* in the list of its priority, or the free list; -1: end */
	int32 prev;
	int16 queue;
	int8 leaf;
	int8 priority;
	int8 state;
	TimestampTz since; /* of this state */
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

/* Rates: moves into each state, and attempts that ended and are to be followed by another. */
#define EDA_RETRIED EDA_STATES
#define EDA_RATES (EDA_STATES + 1)

#define EDA_TIME_BUCKETS 18 /* the last one has no upper bound */

/* How long something took, and how often. */
typedef struct TimeHistogram
{
	int64 buckets[EDA_TIME_BUCKETS];
	int64 sum; /* us */
} TimeHistogram;

/* What counts up from the engine's start. */
typedef struct TypeCounters
{
	int64 transitions[EDA_STATES];
	int64 attempts;
	int64 retries;
	int64 rescues;
	int64 redrives;
	TimeHistogram due_to_acquired;
	TimeHistogram acquired_to_done;
} TypeCounters;

typedef struct TypeMetrics
{
	int32 type;
	int64 counts[EDA_STATES];
	int64 moved[EDA_RATE_BUCKETS][EDA_RATES];
	int64 bucket; /* the five seconds since the epoch that moved[bucket % n] belongs to */
	TimestampTz oldest_due_at;
	TypeCounters counters;
} TypeMetrics;

#define NEWS_SIZE 16384

/* Rows of a leaf of eda.transition that lie next to each other, of one transaction. */
typedef struct NewsItem
{
	uint64 xid; /* of the top-level transaction */
	Oid file;   /* the leaf's relfilenode: what rewrites a leaf moves its rows */
	BlockNumber block;
	OffsetNumber first;
	OffsetNumber last;
	int8 leaf;
} NewsItem;

/* Blocks of a leaf, as long as it has this file, else all of it; all zero: none. */
typedef struct NewsRange
{
	Oid file;
	BlockNumber begin;
	BlockNumber end; /* the first one behind it */
} NewsRange;

#define NEWS_EVERYWHERE ((NewsRange){InvalidOid, 0, MaxBlockNumber})

/* What writers have told the engine since it last looked; see news.c.  The lock is held for a moment only. */
typedef struct News
{
	LWLock lock;
	int nitems;
	bool is_full;                  /* there was more: */
	NewsRange omitted[EDA_LEAVES]; /* it is here */
	NewsItem items[NEWS_SIZE];
} News;

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
	double total_tick_ms;
	int32 parked;
	int32 held_back;
	BrokerStatus broker;
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
	bool no_extension; /* the engine looked and found none */
	int blocked;       /* DROP DATABASE and its like under way */
	pid_t engine_pid;  /* 0: none */
	int engine_proc;   /* its number in ProcGlobal, to set the latch */

	Oid extension; /* whose events are on offer: the database's may be another one, just created */

	LWLock lock;
	EngineInfo info;
	int nmetrics;
	int nfree;
	int32 free_head;
	bool offers_need_look; /* the engine is to look at its offers: one came back, or the rules changed */
						   /* then: TypeMetrics[max_event_types], FlowQueue[max_event_types], Offer[queue_size], News */
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
extern News *area_news(EngineArea *area);
extern void area_clear_news(News *news);
extern void shmem_wake_engine(EngineArea *area);
extern void shmem_wake_launcher(void);

/* ------------------------------------------------------------------------
 * ready_queue.c: the lists of the ready queue
 * ------------------------------------------------------------------------ */

extern FlowQueue *ready_queue_of(EngineArea *area, const char *flow_type); /* made if it is missing */
extern void ready_queue_link(EngineArea *area, int i);
extern void ready_queue_unlink(EngineArea *area, int i);

/* ------------------------------------------------------------------------
 * clock.c: the time that eda goes by
 * ------------------------------------------------------------------------ */

extern TimestampTz clock_now(void);

#endif
