/*
 * counts.c
 *		Counts by event type: events in each state now, and moves in the last minute.
 *
 * The engine keeps them from the transitions that it reads, and copies them to shared memory
 * after each tick.  Sessions read them there, which costs the same with ten million events.
 *
 * After a restart there are no counts until the engine has loaded its saved state:
 * eda.queue_metrics shows 0, and eda.engine_status says what the engine waits for.
 */
#include "engine/engine.h"

#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#define BUCKET_US (60 * USECS_PER_SEC / EDA_RATE_BUCKETS)

PG_FUNCTION_INFO_V1(eda_type_metrics);

/* ------------------------------------------------------------------------
 * The engine's side
 * ------------------------------------------------------------------------ */

/* Advance a ring of buckets to bucket number "now", and empty the buckets that it reuses. */
static void
roll_buckets(int64 moved[EDA_RATE_BUCKETS][EDA_RATES], int64 *bucket, int64 now)
{
	for (int i = 0; *bucket < now && i < EDA_RATE_BUCKETS; i++)
		memset(moved[++*bucket % EDA_RATE_BUCKETS], 0, sizeof(moved[0]));
	*bucket = now;
}

/* Count a transition that the tail has read. */
void
counts_add(EngineType *type, const Transition *t)
{
	int64 now = engine.now / BUCKET_US;
	int64 then = t->at / BUCKET_US;

	type->counts[t->state]++;
	if (t->prev_state != EDA_NONE)
		type->counts[t->prev_state]--;
	roll_buckets(type->moved, &type->bucket, now);
	if (then > now - EDA_RATE_BUCKETS)
	{
		int64 *rates = type->moved[Min(then, now) % EDA_RATE_BUCKETS];

		if (t->state != t->prev_state) /* not a heartbeat */
			rates[t->state]++;
		if (t->state == EDA_AWAITING && t->prev_state == EDA_BEING_PROCESSED)
			rates[EDA_RETRIED]++;
	}
	timing_add(type, t);
	type->counted = true;
}

/* When the oldest due event of a type became due, as far as the timers know; EDA_NEVER: none. */
static TimestampTz
oldest_due(const EngineType *type)
{
	TimestampTz oldest = EDA_NEVER;

	if (type->counts[EDA_AWAITING] + type->counts[EDA_DISPATCHED] == 0)
		return EDA_NEVER;
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		oldest = Min(oldest, timers_due(type, leaf));
	return oldest <= engine.now ? oldest : EDA_NEVER;
}

/*
 * After a tick, copy the numbers that have changed to shared memory; in most ticks those of few
 * types.  The buckets of the other types are rolled when a session reads them.
 */
void
counts_publish(double tick_ms)
{
	EngineArea *area = engine.area;
	TypeMetrics *out = area_metrics(area);
	Offer *offers = area_offers(area);
	int n = Min(engine.ntypes, eda_max_event_types);

	LWLockAcquire(&area->lock, LW_EXCLUSIVE);
	for (int i = 0; i < n; i++)
	{
		EngineType *type = engine.types[i];
		FlowQueue *queue;
		int head;

		if (type->counted)
		{
			out[i].type = type->id;
			memcpy(out[i].counts, type->counts, sizeof(type->counts));
			memcpy(out[i].moved, type->moved, sizeof(type->moved));
			out[i].bucket = type->bucket;
			out[i].counters = type->counters;
			type->counted = false;
		}
		out[i].oldest_due_at = Min(oldest_due(type), delivery_oldest(type));
		/*
		 * A dispatched event became due when it was dispatched, or earlier.  The types of a flow
		 * type share one ready queue, so the offer at its head may be of another type.
		 */
		if (type->counts[EDA_DISPATCHED] > 0)
			out[i].oldest_due_at = Min(out[i].oldest_due_at, type->oldest_offer);
		queue = dispatch_queue_of(type);
		head = queue ? queue->head[type->priority] : -1;
		if (head >= 0 && offers[head].dispatched.type == type->id)
			out[i].oldest_due_at = Min(out[i].oldest_due_at, offers[head].dispatched.at);
	}
	area->nmetrics = n;
	area->info.last_tick_at = engine.now;
	area->info.ticks++;
	area->info.transitions_read += engine.read;
	area->info.transitions_made += engine.made;
	area->info.last_tick_ms = tick_ms;
	area->info.max_tick_ms = Max(area->info.max_tick_ms, tick_ms);
	area->info.total_tick_ms += tick_ms;
	area->info.held_back = todo_held_back();
	area->info.parked = todo_parked_ids(NULL) - area->info.held_back;
	LWLockRelease(&area->lock);
}

/* ------------------------------------------------------------------------
 * The side of the sessions that read the counts
 * ------------------------------------------------------------------------ */

/* SQL: eda.type_metrics(), the rows behind eda.queue_metrics */
Datum
eda_type_metrics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	EngineArea *area = shmem_my_area();
	TypeMetrics *copy = palloc(sizeof(TypeMetrics) * eda_max_event_types);
	int64 now = clock_now() / BUCKET_US;
	int n = 0;

	InitMaterializedSRF(fcinfo, 0);
	if (area)
	{
		LWLockAcquire(&area->lock, LW_SHARED);
		n = area->database == MyDatabaseId ? area->nmetrics : 0;
		memcpy(copy, area_metrics(area), sizeof(TypeMetrics) * n);
		LWLockRelease(&area->lock);
	}
	for (int i = 0; i < n; i++)
	{
		int64 last_minute[EDA_RATES] = {0};
		Datum values[4];
		bool nulls[4] = {0};

		roll_buckets(copy[i].moved, &copy[i].bucket, now);
		for (int b = 0; b < EDA_RATE_BUCKETS; b++)
			for (int s = 0; s < EDA_RATES; s++)
				last_minute[s] += copy[i].moved[b][s];
		values[0] = Int32GetDatum(copy[i].type);
		values[1] = array_of_int8(copy[i].counts, EDA_STATES);
		nulls[2] = copy[i].oldest_due_at == EDA_NEVER;
		values[2] = TimestampTzGetDatum(copy[i].oldest_due_at);
		values[3] = array_of_int8(last_minute, EDA_RATES);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
