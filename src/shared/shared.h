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
	OFFER_QUEUED,   /* the event waits for a worker */
	OFFER_POPPED,   /* a worker has popped it in a transaction that is still open */
	OFFER_RETURNED, /* it came back because that transaction rolled back */
	OFFER_REFUSED   /* it came back because the worker could not acquire it just now */
} OfferState;

/*
 * An entry of the ready queue: an event that a worker may acquire.  Only the engine takes
 * entries from the free list and gives them back.  A worker moves an entry from QUEUED to
 * POPPED and, if its transaction rolls back, to RETURNED.  The area's lock is held for all of
 * this.
 */
typedef struct Offer
{
	pg_uuid_t event_id;
	Brief dispatched;
	uint32 generation; /* counts the uses of the entry: a popped one may have been reused */
	int32 next;        /* in the list of its priority, or the free list; -1: end */
	int32 prev;
	int16 queue;
	int8 leaf;
	int8 priority;
	int8 state;
	TimestampTz since; /* when it got this state */
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
	int32 waiting; /* workers that sleep in eda.acquire_next() */
	int32 wanted;  /* events that these workers have asked for */
	ConditionVariable ready;
} FlowQueue;

#define EDA_RATE_BUCKETS 12 /* of five seconds: the last minute */

/*
 * Rates: how often events moved into each state; and how often an attempt ended that another
 * one follows.
 */
#define EDA_RETRIED EDA_STATES
#define EDA_RATES (EDA_STATES + 1)

#define EDA_TIME_BUCKETS 18 /* the last one has no upper bound */

/* How long something took, and how often that was. */
typedef struct TimeHistogram
{
	int64 buckets[EDA_TIME_BUCKETS];
	int64 sum; /* us */
} TimeHistogram;

/* Counters of an event type; they start at 0 when the engine starts. */
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
	int64 bucket; /* the number of the newest bucket: five-second intervals since the epoch */
	TimestampTz oldest_due_at;
	TypeCounters counters;
} TypeMetrics;

#define NEWS_SIZE 16384

/* Rows of one transaction that lie next to each other in a leaf of eda.transition. */
typedef struct NewsItem
{
	uint64 xid; /* of the top-level transaction */
	Oid file;   /* the leaf's relfilenode: a command that rewrites the leaf moves its rows */
	BlockNumber block;
	OffsetNumber first;
	OffsetNumber last;
	int8 leaf;
} NewsItem;

/*
 * Blocks of a leaf; if the leaf has another file by now, the whole leaf is meant.  All zero:
 * no blocks.
 */
typedef struct NewsRange
{
	Oid file;
	BlockNumber begin;
	BlockNumber end; /* the first block behind the range */
} NewsRange;

#define NEWS_EVERYWHERE ((NewsRange){InvalidOid, 0, MaxBlockNumber})

/*
 * The rows that writers have announced since the engine last looked; see log/news.c.  The lock
 * is held for a moment only.
 */
typedef struct News
{
	LWLock lock;
	int nitems;
	bool is_full;                  /* items has no room for more: */
	NewsRange omitted[EDA_LEAVES]; /* the blocks of the rows that are not in items, by leaf */
	NewsItem items[NEWS_SIZE];
} News;

/* What an engine shows of itself in eda.engine_status. */
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
 * The area of one database.  "lock" guards the members behind it, and is never held over
 * anything that can wait or raise an error.
 */
typedef struct EngineArea
{
	Oid database;                  /* InvalidOid: unused; guarded by EdaShmem.lock */
	pg_atomic_uint64 clock_offset; /* us, as int64; moved by tests only */

	/* for the folder process; guarded by EdaShmem.lock */
	bool no_extension; /* the engine found that the extension is gone */
	int blocked;       /* commands under way that need the engine gone: DROP DATABASE and others */
	pid_t engine_pid;  /* 0: none */
	int engine_proc;   /* its number in ProcGlobal, to set the latch */

	/* The extension whose events are on offer; the database's may be a newer one. */
	Oid extension;

	LWLock lock;
	EngineInfo info;
	int nmetrics;
	int nfree;
	int32 free_head;
	bool offers_need_look; /* for the engine: an offer came back, or the rules changed */
						   /* then: TypeMetrics[max_event_types], FlowQueue[max_event_types], Offer[queue_size], News */
} EngineArea;

/* How far the start of an engine has got. */
typedef enum EngineStart
{
	START_NONE,
	START_ASKED,        /* the launcher has asked the postmaster for it */
	START_RUNNING,      /* the engine has its area */
	START_STOPPED,      /* the engine has ended as it should */
	START_CRASHED,      /* the engine has ended through an error */
	START_NO_EXTENSION, /* the engine has ended because the database does not have the extension */
	START_NO_AREA       /* the engine has ended because all areas (eda.max_databases) are in use */
} EngineStart;

/* How urgently the launcher is asked for an engine. */
typedef enum EngineRequest
{
	REQUEST_NONE,
	REQUEST_SOON, /* start one unless the backoff says to wait */
	REQUEST_NOW   /* start one, and forget the backoff */
} EngineRequest;

/*
 * What is under way with a database, whether it has an area or not.  Most databases of a
 * cluster do not have the extension and must not cost an area, which is large.
 */
typedef struct DatabaseSlot
{
	Oid database; /* InvalidOid: unused */
	int blocked;  /* as in the area, if the database has one */
	EngineStart start;
	EngineRequest request;
} DatabaseSlot;

/*
 * The head of eda's shared memory.  "lock" guards the members behind it.  A process that holds
 * both takes this lock before an area's lock.
 */
typedef struct EdaShmem
{
	int tranche; /* of all our locks */
	int nslots;
	ConditionVariable engine_gone; /* signaled when an engine has left its area */

	LWLock lock;
	int launcher_proc; /* -1: none */
	bool rescan;       /* the launcher must read pg_database now */
	bool request_lost; /* a request found no slot: the launcher must look at all databases */
					   /* then: DatabaseSlot[nslots], EngineArea[max_databases] */
} EdaShmem;

extern EdaShmem *eda_shmem;

extern void shmem_init(void);
extern EngineArea *shmem_area(int i);
extern EngineArea *shmem_my_area(void);      /* NULL: no engine has claimed one */
extern EngineArea *shmem_claim_area(Oid db); /* NULL: none left */
extern EngineArea *shmem_area_of(Oid db);    /* NULL: none */
extern bool shmem_release_area(EngineArea *area, Oid db);
extern bool shmem_area_left(void);
extern DatabaseSlot *shmem_slot(int i);
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
