/*
 * shmem.c
 *		What backends, the launcher and the engines share.
 *
 * There are eda.max_databases areas, one for each database with an engine.  Three things are
 * easy to get wrong.
 *
 * An area can change hands: it is released when its database, or the extension in that
 * database, is gone.  It may serve another database a moment later, while a session of the
 * first database still has a pointer to it.  So a session calls shmem_my_area() again after
 * each wait instead of keeping the pointer, checks area->database after taking area->lock, and
 * subtracts from "waiting" what it has added, whatever has happened in between.  For the same
 * reason the condition variables are initialized only at server start, the generation of a
 * queue entry only counts up, and an area in which workers still wait is not given to another
 * database.
 *
 * area->database is read without a lock, because clock_now() reads it for every row.  So it is
 * set last, when everything else in the area is in place.
 *
 * EdaShmem.lock is taken before area->lock or the lock of the area's news.  No lock is held
 * over anything that can wait for a transaction or raise an error.
 */
#include "shared/shared.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/builtins.h"

/* Slots beyond one for each area, for databases that have no area. */
#define EDA_SPARE_SLOTS 64

EdaShmem *eda_shmem = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

/* ------------------------------------------------------------------------
 * Layout
 * ------------------------------------------------------------------------ */

static Size
metrics_size(void)
{
	return MAXALIGN(mul_size(eda_max_event_types, sizeof(TypeMetrics)));
}

static Size
queues_size(void)
{
	return MAXALIGN(mul_size(eda_max_event_types, sizeof(FlowQueue)));
}

static Size
offers_size(void)
{
	return MAXALIGN(mul_size(eda_queue_size, sizeof(Offer)));
}

/* The size of an area with the arrays that follow it, in whole cache lines. */
static Size
area_size(void)
{
	Size size = MAXALIGN(sizeof(EngineArea));

	size = add_size(size, metrics_size());
	size = add_size(size, queues_size());
	size = add_size(size, offers_size());
	size = add_size(size, sizeof(News));
	return CACHELINEALIGN(size);
}

/* Where the first area begins. */
static Size
areas_offset(void)
{
	Size slots = mul_size(eda_max_databases + EDA_SPARE_SLOTS, sizeof(DatabaseSlot));

	return CACHELINEALIGN(add_size(MAXALIGN(sizeof(EdaShmem)), slots));
}

static Size
shmem_size(void)
{
	return add_size(areas_offset(), mul_size(eda_max_databases, area_size()));
}

DatabaseSlot *
shmem_slot(int i)
{
	return (DatabaseSlot *) ((char *) eda_shmem + MAXALIGN(sizeof(EdaShmem))) + i;
}

EngineArea *
shmem_area(int i)
{
	return (EngineArea *) ((char *) eda_shmem + areas_offset() + i * area_size());
}

TypeMetrics *
area_metrics(EngineArea *area)
{
	return (TypeMetrics *) ((char *) area + MAXALIGN(sizeof(EngineArea)));
}

FlowQueue *
area_queues(EngineArea *area)
{
	return (FlowQueue *) ((char *) area_metrics(area) + metrics_size());
}

Offer *
area_offers(EngineArea *area)
{
	return (Offer *) ((char *) area_queues(area) + queues_size());
}

News *
area_news(EngineArea *area)
{
	return (News *) ((char *) area_offers(area) + offers_size());
}

/* ------------------------------------------------------------------------
 * Server start
 * ------------------------------------------------------------------------ */

static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();

	RequestAddinShmemSpace(shmem_size());
}

/*
 * Initialize an area at server start.  Its offers and news are initialized when a database
 * claims it.
 */
static void
area_init(EngineArea *area)
{
	FlowQueue *queues = area_queues(area);

	memset(area, 0, sizeof(EngineArea));
	memset(queues, 0, queues_size());
	area->engine_proc = -1;
	pg_atomic_init_u64(&area->clock_offset, 0);
	LWLockInitialize(&area->lock, eda_shmem->tranche);
	LWLockInitialize(&area_news(area)->lock, eda_shmem->tranche);
	for (int i = 0; i < eda_max_event_types; i++)
		ConditionVariableInit(&queues[i].ready);
}

static void
shmem_startup(void)
{
	bool found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	eda_shmem = ShmemInitStruct("eda", shmem_size(), &found);
	if (!found)
	{
		memset(eda_shmem, 0, areas_offset());
		eda_shmem->tranche = LWLockNewTrancheId_compat("eda");
		eda_shmem->nslots = eda_max_databases + EDA_SPARE_SLOTS;
		eda_shmem->launcher_proc = -1;
		ConditionVariableInit(&eda_shmem->engine_gone);
		LWLockInitialize(&eda_shmem->lock, eda_shmem->tranche);
		for (int i = 0; i < eda_max_databases; i++)
			area_init(shmem_area(i));
	}
	LWLockRelease(AddinShmemInitLock);

	/* Before PostgreSQL 19 the name is kept by each process; child processes inherit it. */
	LWLockRegisterTranche_compat(eda_shmem->tranche, "eda");
}

/*
 * Install the hooks that reserve and initialize shared memory; _PG_init() calls it at server
 * start.
 */
void
shmem_init(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

/* Raise an error (55000) if the library was not loaded at server start. */
void
shmem_require(void)
{
	if (eda_shmem == NULL)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		        errmsg("eda must be loaded via \"shared_preload_libraries\""),
		        errhint("Add it to shared_preload_libraries and restart the server."));
}

/* ------------------------------------------------------------------------
 * Areas
 * ------------------------------------------------------------------------ */

/*
 * The area of a database, or NULL.  Unless the caller holds EdaShmem.lock, the area may already
 * belong to another database when this returns.
 */
EngineArea *
shmem_area_of(Oid db)
{
	if (eda_shmem == NULL || !OidIsValid(db))
		return NULL;
	for (int i = 0; i < eda_max_databases; i++)
	{
		EngineArea *area = shmem_area(i);

		if (area->database == db)
		{
			pg_read_barrier();
			return area;
		}
	}
	return NULL;
}

/* The area of this session's database, or NULL.  Cheap, and takes no lock. */
EngineArea *
shmem_my_area(void)
{
	static EngineArea *mine = NULL;

	if (mine == NULL || mine->database != MyDatabaseId || !OidIsValid(MyDatabaseId))
		mine = shmem_area_of(MyDatabaseId);
	return mine;
}

/* Put all entries of the ready queues back on the free list.  The caller holds the area's lock. */
static void
area_free_offers(EngineArea *area)
{
	Offer *offers = area_offers(area);
	FlowQueue *queues = area_queues(area);

	for (int i = 0; i < eda_queue_size; i++)
	{
		Offer *offer = &offers[i];

		/* A session that has popped this entry must not give it back any more. */
		offer->generation++;
		offer->state = OFFER_FREE;
		offer->prev = -1;
		offer->next = i + 1 < eda_queue_size ? i + 1 : -1;
	}
	area->free_head = eda_queue_size > 0 ? 0 : -1;
	area->nfree = eda_queue_size;
	area->offers_need_look = false;

	for (int i = 0; i < eda_max_event_types; i++)
	{
		for (int p = 0; p < EDA_PRIORITIES; p++)
			queues[i].head[p] = queues[i].tail[p] = -1;
		queues[i].queued = 0;
		queues[i].popped = 0;
	}
}

/*
 * Empty the ready queues for an engine that starts.  Workers that wait in them go on waiting; a
 * worker that has popped an entry finds that the entry has another generation.
 */
void
area_reset_queues(EngineArea *area)
{
	LWLockAcquire(&area->lock, LW_EXCLUSIVE);
	area_free_offers(area);
	LWLockRelease(&area->lock);
}

/* Empty the news of an area.  The caller holds the lock of the news. */
void
area_clear_news(News *news)
{
	news->nitems = 0;
	news->is_full = false;
	memset(news->omitted, 0, sizeof(news->omitted));
}

/* Whether no database has the area and no worker waits in it.  The caller holds EdaShmem.lock. */
static bool
area_is_free(EngineArea *area)
{
	FlowQueue *queues = area_queues(area);
	bool empty = true;

	if (OidIsValid(area->database) || area->engine_pid != 0)
		return false;

	LWLockAcquire(&area->lock, LW_SHARED);
	for (int i = 0; i < eda_max_event_types && empty; i++)
		empty = queues[i].waiting <= 0;
	LWLockRelease(&area->lock);
	return empty;
}

/* Give a free area to a database.  The caller holds EdaShmem.lock. */
static void
area_give(EngineArea *area, Oid db)
{
	FlowQueue *queues = area_queues(area);

	pg_atomic_write_u64(&area->clock_offset, 0);
	area->no_extension = false;
	area->blocked = 0;
	area->engine_proc = -1;
	area->extension = InvalidOid;
	for (int i = 0; i < eda_shmem->nslots; i++)
	{
		if (shmem_slot(i)->database == db)
			area->blocked = shmem_slot(i)->blocked;
	}

	LWLockAcquire(&area->lock, LW_EXCLUSIVE);
	memset(&area->info, 0, sizeof(area->info));
	memset(area_metrics(area), 0, metrics_size());
	area->nmetrics = 0;
	area_free_offers(area);
	for (int i = 0; i < eda_max_event_types; i++)
	{
		memset(queues[i].flow_type, 0, sizeof(queues[i].flow_type));
		queues[i].waiting = 0;
		queues[i].wanted = 0;
	}
	LWLockRelease(&area->lock);
	LWLockAcquire(&area_news(area)->lock, LW_EXCLUSIVE);
	area_clear_news(area_news(area));
	LWLockRelease(&area_news(area)->lock);

	/* From here on, readers without a lock find the area. */
	pg_write_barrier();
	area->database = db;
}

/* The area of a database, which gets a free one if it has none; NULL if no area is free. */
EngineArea *
shmem_claim_area(Oid db)
{
	EngineArea *area;

	Assert(OidIsValid(db));
	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	area = shmem_area_of(db);
	for (int i = 0; i < eda_max_databases && area == NULL; i++)
	{
		if (area_is_free(shmem_area(i)))
		{
			area = shmem_area(i);
			area_give(area, db);
		}
	}
	LWLockRelease(&eda_shmem->lock);
	return area;
}

/*
 * Take the area from a database that is gone or has lost the extension.  False if the area
 * belongs to another database or has an engine.
 */
bool
shmem_release_area(EngineArea *area, Oid db)
{
	FlowQueue *queues = area_queues(area);
	bool released;

	LWLockAcquire(&eda_shmem->lock, LW_EXCLUSIVE);
	released = area->database == db && area->engine_pid == 0;
	if (released)
		area->database = InvalidOid;
	LWLockRelease(&eda_shmem->lock);

	/*
	 * Workers that wait find that the area is no longer that of their database, and stop
	 * waiting.
	 */
	for (int i = 0; released && i < eda_max_event_types; i++)
		ConditionVariableBroadcast(&queues[i].ready);
	return released;
}

/* Whether shmem_claim_area() would find a free area for one more database. */
bool
shmem_area_left(void)
{
	bool left = false;

	LWLockAcquire(&eda_shmem->lock, LW_SHARED);
	for (int i = 0; i < eda_max_databases && !left; i++)
		left = area_is_free(shmem_area(i));
	LWLockRelease(&eda_shmem->lock);
	return left;
}

/* ------------------------------------------------------------------------
 * Waking the engine and the launcher
 * ------------------------------------------------------------------------ */

/*
 * Set the latch of a process that may have ended; at worst, another process wakes up for
 * nothing.
 */
static void
wake_process(int proc)
{
	if (proc >= 0 && proc < (int) ProcGlobal->allProcCount)
		SetLatch(&ProcGlobal->allProcs[proc].procLatch);
}

/* Wake the area's engine, if it has one. */
void
shmem_wake_engine(EngineArea *area)
{
	wake_process(area->engine_proc);
}

/* Wake the launcher.  The caller has written the request to shared memory before. */
void
shmem_wake_launcher(void)
{
	wake_process(eda_shmem->launcher_proc);
}
