/*
 * timing.c
 *		Totals and histograms of times by event type, for monitoring systems.
 *
 * The engine keeps them from the transitions that it reads, and counts_publish() copies them to
 * shared memory, where sessions read them.  They count up from the engine's start.  A new engine
 * reads the transitions after the saved state again, and counts them again.
 *
 * To measure times, the engine remembers an event from its dispatch until its attempt has ended.
 * The table for that has a fixed size, and a lookup costs one cache line: each event id belongs
 * to a set of four places, and if these are taken, the event is not remembered.  Its attempt
 * is then counted, but its times are not: this happens to one attempt in 10,000 if 1,000 events
 * are being processed, and to one in 16 if there are 10,000.  The same holds for an attempt
 * that began before the engine's start.
 *
 * The tail may read the transitions of one tick in any order.  If it reads the end of an attempt
 * before the acquire, the end is kept until all transitions of the tick have been read.
 */
#include "engine/engine.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/tuplestore.h"

#define SET_BITS 12 /* the sets take 256 kB, which fits into the processor's cache */
#define SETS (1 << SET_BITS)
#define PLACES 4
#define ACQUIRED UINT64CONST(1) /* flag in a key: "since" is when the event was acquired */
#define IN_USE UINT64CONST(2)   /* flag in a key, so that no key is 0 */

/* An event whose times are being measured. */
typedef struct Timed
{
	uint64 key;        /* hash of the event id, with flags; 0: this place is free */
	TimestampTz since; /* when the event was due or, with ACQUIRED, acquired */
} Timed;

typedef Timed TimedSet[PLACES];

/* The end of an attempt that was read before its acquire. */
typedef struct EarlyEnd
{
	uint64 key;
	TimestampTz at;
	EngineType *type;
} EarlyEnd;

/* The upper bounds of the histograms' buckets, in seconds. */
static const double bounds[EDA_TIME_BUCKETS] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
                                                1,     2.5,    5,     10,   30,    60,   300, 1800, INFINITY};

static TimedSet *sets;
static EarlyEnd *ends = NULL;
static int nends = 0;
static int max_ends = 0;

PG_FUNCTION_INFO_V1(eda_type_counters);

/* ------------------------------------------------------------------------
 * The engine's side
 * ------------------------------------------------------------------------ */

/* Start with no event remembered. */
void
timing_init(void)
{
	char *memory = MemoryContextAllocZero(engine.context, sizeof(TimedSet) * SETS + PG_CACHE_LINE_SIZE);

	sets = (TimedSet *) TYPEALIGN(PG_CACHE_LINE_SIZE, memory);
}

static uint64
key_of(const pg_uuid_t *id)
{
	uint64 halves[2];
	uint64 hash;

	memcpy(halves, id, sizeof(halves));
	hash = halves[0] ^ (halves[1] << 32 | halves[1] >> 32);
	hash = (hash ^ hash >> 33) * UINT64CONST(0xff51afd7ed558ccd);
	return (hash | IN_USE) & ~ACQUIRED;
}

static Timed *
set_of(uint64 key)
{
	return sets[key >> (64 - SET_BITS)];
}

static Timed *
find_timed(uint64 key)
{
	Timed *set = set_of(key);

	for (int i = 0; i < PLACES; i++)
		if ((set[i].key & ~ACQUIRED) == key)
			return &set[i];
	return NULL;
}

/* Remember a time, in the event's own place (timed) or a free one, if there is any. */
static void
remember_time(Timed *timed, uint64 key, TimestampTz since)
{
	Timed *set = set_of(key);

	for (int i = 0; timed == NULL && i < PLACES; i++)
		if (set[i].key == 0)
			timed = &set[i];
	if (timed)
		*timed = (Timed){key, since};
}

static void
forget_timed(const pg_uuid_t *id)
{
	Timed *timed = find_timed(key_of(id));

	if (timed)
		timed->key = 0;
}

/* An event is being dispatched: remember when it became due.  After a return, keep the time. */
void
timing_record_due(const Transition *t)
{
	uint64 key = key_of(&t->event_id);
	Timed *timed = find_timed(key);

	if (timed && t->returns > 0 && !(timed->key & ACQUIRED))
		return;
	remember_time(timed, key, t->wake_at);
}

static void
add_to_histogram(TimeHistogram *histogram, int64 us)
{
	int i = 0;

	us = Max(us, 0);
	while (us > bounds[i] * USECS_PER_SEC)
		i++;
	histogram->buckets[i]++;
	histogram->sum += us;
}

/* Count the start of an attempt, and how long the event had been due. */
static void
count_acquired(EngineType *type, const Transition *t)
{
	uint64 key = key_of(&t->event_id);
	Timed *timed = find_timed(key);

	type->counters.attempts++;
	if (timed && !(timed->key & ACQUIRED))
		add_to_histogram(&type->counters.due_to_acquired, t->at - timed->since);
	remember_time(timed, key | ACQUIRED, t->at);
}

/*
 * Count how long an attempt took that ended at this time.  Returns false if its acquire is not
 * known, or has not been read yet.
 */
static bool
time_attempt(EngineType *type, uint64 key, TimestampTz at)
{
	Timed *timed = find_timed(key);

	if (timed == NULL || !(timed->key & ACQUIRED) || timed->since > at)
		return false;
	add_to_histogram(&type->counters.acquired_to_done, at - timed->since);
	timed->key = 0;
	return true;
}

/* Count the end of an attempt. */
static void
count_attempt_end(EngineType *type, const Transition *t)
{
	uint64 key = key_of(&t->event_id);

	type->counters.retries += t->retry;
	/* The transition has a token if the worker itself has ended its attempt. */
	type->counters.rescues += t->token == 0 && t->state != EDA_CANCELED;
	if (time_attempt(type, key, t->at))
		return;
	ARRAY_GROW(ends, nends, max_ends, engine.context);
	ends[nends++] = (EarlyEnd){key, t->at, type};
}

/* After the tail has read: match the ends of attempts that it read before their acquires. */
void
timing_match_early_ends(void)
{
	for (int i = 0; i < nends; i++)
		(void) time_attempt(ends[i].type, ends[i].key, ends[i].at);
	nends = 0;
}

/* Count a transition that the tail has read. */
void
timing_add(EngineType *type, const Transition *t)
{
	TypeCounters *c = &type->counters;

	c->transitions[t->state]++;
	if (t->state == EDA_BEING_PROCESSED && t->prev_state == EDA_DISPATCHED)
		count_acquired(type, t);
	else if (t->state != EDA_BEING_PROCESSED && t->prev_state == EDA_BEING_PROCESSED)
		count_attempt_end(type, t);
	else if (t->prev_state == EDA_FAILED || t->prev_state == EDA_EXPIRED)
		c->redrives++;
	/* It ended or was suspended before any attempt: forget its due time.  A return keeps it. */
	else if (t->prev_state != EDA_NONE && t->state != EDA_AWAITING && t->state != EDA_DISPATCHED &&
	         t->state != EDA_BEING_PROCESSED)
		forget_timed(&t->event_id);
}

/* ------------------------------------------------------------------------
 * The side of the sessions that read the totals
 * ------------------------------------------------------------------------ */

/* For each bound, how many took no longer than that; a bigint array. */
static Datum
cumulative_counts(const TimeHistogram *histogram)
{
	int64 counts[EDA_TIME_BUCKETS];
	int64 n = 0;

	for (int i = 0; i < EDA_TIME_BUCKETS; i++)
		counts[i] = n += histogram->buckets[i];
	return array_of_int8(counts, EDA_TIME_BUCKETS);
}

static Datum
seconds_datum(int64 us)
{
	return Float8GetDatum(us / (double) USECS_PER_SEC);
}

static Datum
bounds_array(void)
{
	Datum elements[EDA_TIME_BUCKETS];

	for (int i = 0; i < EDA_TIME_BUCKETS; i++)
		elements[i] = Float8GetDatum(bounds[i]);
	return PointerGetDatum(construct_array(elements, EDA_TIME_BUCKETS, FLOAT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* SQL: eda.type_counters() */
Datum
eda_type_counters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	EngineArea *area = shmem_my_area();
	int32 *ids = palloc(sizeof(int32) * eda_max_event_types);
	TypeCounters *copy = palloc(sizeof(TypeCounters) * eda_max_event_types);
	int n = 0;

	InitMaterializedSRF(fcinfo, 0);
	if (area)
	{
		TypeMetrics *metrics = area_metrics(area);

		LWLockAcquire(&area->lock, LW_SHARED);
		n = area->database == MyDatabaseId ? area->nmetrics : 0;
		for (int i = 0; i < n; i++)
		{
			ids[i] = metrics[i].type;
			copy[i] = metrics[i].counters;
		}
		LWLockRelease(&area->lock);
	}
	for (int i = 0; i < n; i++)
	{
		const TypeCounters *c = &copy[i];
		Datum values[] = {
			Int32GetDatum(ids[i]),
			array_of_int8(c->transitions, EDA_STATES),
			Int64GetDatum(c->attempts),
			Int64GetDatum(c->retries),
			Int64GetDatum(c->rescues),
			Int64GetDatum(c->redrives),
			bounds_array(),
			cumulative_counts(&c->due_to_acquired),
			seconds_datum(c->due_to_acquired.sum),
			cumulative_counts(&c->acquired_to_done),
			seconds_datum(c->acquired_to_done.sum),
		};
		bool nulls[lengthof(values)] = {0};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
