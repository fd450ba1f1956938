/*
 * metrics.c
 *		Counters: kept by the engine from the log, read by anyone from shared
 *		memory, so that looking costs the same at ten million events.
 *
 * After a restart, until the engine has loaded its saved state, there is nothing
 * to show; eda.queue_metrics says 0 and eda.engine_status says why.
 */
#include "engine.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

#define BUCKET_US (60 * USECS_PER_SEC / EDA_RATE_BUCKETS)
#define LOGGED_ERRORS 30 /* in a second: more than it takes to find an event that causes one */

PG_FUNCTION_INFO_V1(eda_type_metrics);
PG_FUNCTION_INFO_V1(eda_engine_info);

/* ------------------------------------------------------------------------
 * The engine's side
 * ------------------------------------------------------------------------ */

/* Empty the buckets of a ring that are older than a minute. */
static void
roll(int64 moved[EDA_RATE_BUCKETS][EDA_RATES], int64 *bucket, int64 now)
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
	roll(type->moved, &type->bucket, now);
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

/* When the oldest event of this type that waits for a worker was due; EDA_NEVER if none is. */
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

/* Show what this tick has counted: of most types nothing, and rates are rolled by who reads them. */
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
		/* What is dispatched and waits was due when it was dispatched, or before.  Types share a queue: its head may be another's. */
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
	area->info.parked = 0;
	area->info.held_back = 0;
	for (int i = 0; i < engine.nparked; i++)
		if (engine.parked[i].todo.errors > 0)
			area->info.held_back++;
		else
			area->info.parked++;
	LWLockRelease(&area->lock);
}

/* A new engine: count from zero, but keep the last one's error in sight. */
void
status_started(void)
{
	EngineInfo *info = &engine.area->info;

	LWLockAcquire(&engine.area->lock, LW_EXCLUSIVE);
	memset(info, 0, offsetof(EngineInfo, last_error));
	strlcpy(info->state, "starting", sizeof(info->state));
	info->started_at = GetCurrentTimestamp();
	engine.area->nmetrics = 0;
	LWLockRelease(&engine.area->lock);
}

/* What the engine is doing: engine_status.state; one line in the log when it changes. */
void
status_set_state(const char *state)
{
	EngineInfo *info = &engine.area->info;

	if (strncmp(state, info->state, sizeof(info->state) - 1) == 0)
		return;
	ereport(LOG, errmsg("eda engine of database %u: %s", MyDatabaseId, state));
	LWLockAcquire(&engine.area->lock, LW_EXCLUSIVE);
	strlcpy(info->state, state, sizeof(info->state));
	LWLockRelease(&engine.area->lock);
}

/* The engine's last error. */
void
status_set_error(const char *message)
{
	LWLockAcquire(&engine.area->lock, LW_EXCLUSIVE);
	strlcpy(engine.area->info.last_error, message, sizeof(engine.area->info.last_error));
	engine.area->info.last_error_at = GetCurrentTimestamp();
	LWLockRelease(&engine.area->lock);
}

/* Whether to log one more error, or what came of it.  Where a disk is full each event has one, and the log may lie on that disk. */
bool
status_take_log_budget(void)
{
	static TimestampTz second = 0;
	static int n = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (now < second || now >= second + USECS_PER_SEC)
	{
		if (n > LOGGED_ERRORS)
			ereport(LOG, errmsg("eda engine: %d more messages about errors were not logged", n - LOGGED_ERRORS));
		second = now;
		n = 0;
	}
	return ++n <= LOGGED_ERRORS;
}

/* How the broker is. */
void
status_set_broker(const BrokerStatus *status)
{
	LWLockAcquire(&engine.area->lock, LW_EXCLUSIVE);
	engine.area->info.broker = *status;
	LWLockRelease(&engine.area->lock);
}

/* ------------------------------------------------------------------------
 * Anyone's side
 * ------------------------------------------------------------------------ */

/* A bigint[] of some counts, at most as many as a histogram has. */
Datum
array_of_int8(const int64 *counts, int n)
{
	Datum elements[EDA_TIME_BUCKETS];

	for (int s = 0; s < n; s++)
		elements[s] = Int64GetDatum(counts[s]);
	return PointerGetDatum(construct_array(elements, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* The rows behind eda.queue_metrics. */
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

		roll(copy[i].moved, &copy[i].bucket, now);
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

static void
put_time(Datum *values, bool *nulls, int i, TimestampTz time)
{
	nulls[i] = time == 0;
	values[i] = TimestampTzGetDatum(time);
}

static void
put_text(Datum *values, bool *nulls, int i, const char *text)
{
	nulls[i] = text[0] == '\0';
	values[i] = CStringGetTextDatum(text);
}

static void
put_broker(Datum *values, bool *nulls, int i, const BrokerStatus *b)
{
	put_text(values, nulls, i++, broker_state_name(b->state));
	put_text(values, nulls, i++, b->version[0] ? psprintf("%s (nats-server %s)", b->server, b->version) : b->server);
	put_text(values, nulls, i++, b->error);
	put_text(values, nulls, i++, b->notice);
	values[i++] = Int32GetDatum(b->unacknowledged);
	values[i++] = Int64GetDatum(b->published);
	values[i++] = Int64GetDatum(b->resent);
	values[i++] = Int64GetDatum(b->reconnects);
}

/* The row behind eda.engine_status. */
Datum
eda_engine_info(PG_FUNCTION_ARGS)
{
	EngineArea *area = shmem_my_area();
	EngineInfo info = {0};
	TupleDesc desc;
	Datum values[25] = {0};
	bool nulls[25] = {0};
	int queued = 0;
	int popped = 0;
	int waiting = 0;
	pid_t pid = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "eda.engine_info() must return a row");
	if (area)
	{
		FlowQueue *queues = area_queues(area);
		bool mine;

		LWLockAcquire(&area->lock, LW_SHARED);
		mine = area->database == MyDatabaseId;
		if (mine)
			info = area->info;
		for (int i = 0; mine && i < eda_max_event_types && queues[i].flow_type[0] != '\0'; i++)
		{
			queued += queues[i].queued;
			popped += queues[i].popped;
			waiting += queues[i].waiting;
		}
		LWLockRelease(&area->lock);
		pid = mine ? area->engine_pid : 0;
	}
	if (pid == 0)
		memset(&info.broker, 0, sizeof(info.broker)); /* nobody is connected */
	values[0] = CStringGetTextDatum(pid != 0 ? info.state : eda_engine_mode == EDA_ENGINE_OFF ? "off" : "not running");
	nulls[1] = pid == 0;
	values[1] = Int32GetDatum(pid);
	put_time(values, nulls, 2, info.started_at);
	put_time(values, nulls, 3, info.last_tick_at);
	values[4] = Int64GetDatum(info.ticks);
	values[5] = Int64GetDatum(info.transitions_read);
	values[6] = Int64GetDatum(info.transitions_made);
	values[7] = Float8GetDatum(info.last_tick_ms);
	values[8] = Float8GetDatum(info.max_tick_ms);
	values[9] = Float8GetDatum(info.total_tick_ms);
	values[10] = Int32GetDatum(queued);
	values[11] = Int32GetDatum(popped);
	values[12] = Int32GetDatum(waiting);
	values[13] = Int32GetDatum(info.parked);
	values[14] = Int32GetDatum(info.held_back);
	put_text(values, nulls, 15, info.last_error);
	put_time(values, nulls, 16, info.last_error_at);
	put_broker(values, nulls, 17, &info.broker);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
