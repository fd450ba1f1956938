/*
 * event_type.c
 *		The rules of each event type, and the map of segments, cached.
 *
 * A change of a table's rows sends no invalidation by itself, so a trigger on
 * event_type and segment sends one (for eda.event_type's relation), and counts
 * eda.config up for the engine, which may be awake before the message is there.
 *
 * The cache is read with the latest snapshot whatever the isolation level.  A
 * pointer into it stays good until the end of the transaction, also when the
 * cache is read anew meanwhile.
 */
#include "eda.h"

#include <math.h>

#include "access/table.h"
#include "access/tableam.h"
#include "commands/trigger.h"
#include "common/pg_prng.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define MAX_BACKOFF_DAYS 30

typedef struct Segment
{
	int leaf;
	TimestampTz starts_at;
	TimestampTz ends_at;
} Segment;

typedef struct Config
{
	MemoryContext context;
	int ntypes;
	EventType **by_name;
	EventType **by_id;
	int nsegments;
	Segment segments[EDA_LEAVES]; /* newest first */
} Config;

static Config config;
static bool config_valid = false;

PG_FUNCTION_INFO_V1(eda_event_type_id);
PG_FUNCTION_INFO_V1(eda_config_changed);

/* Have the next look read the tables again. */
void
config_forget(void)
{
	config_valid = false;
}

static int
compare_names(const void *a, const void *b)
{
	return strcmp((*(EventType *const *) a)->name, (*(EventType *const *) b)->name);
}

static int
compare_ids(const void *a, const void *b)
{
	int32 x = (*(EventType *const *) a)->id;
	int32 y = (*(EventType *const *) b)->id;

	return (x > y) - (x < y);
}

static int
compare_segments(const void *a, const void *b)
{
	TimestampTz x = ((const Segment *) a)->starts_at;
	TimestampTz y = ((const Segment *) b)->starts_at;

	return (x < y) - (x > y);
}

/* Columns of eda.event_type, in order. */
enum
{
	COL_ID,
	COL_EVENT_TYPE,
	COL_FLOW_TYPE,
	COL_MAX_ATTEMPTS,
	COL_LIFESPAN,
	COL_ATTEMPT_DELAYS,
	COL_BACKOFF,
	COL_JITTER,
	COL_LEASE,
	COL_DISPATCH_TIMEOUT,
	COL_ON_FAIL,
	COL_SUSPENDED,
	COL_SUSPEND_TIMEOUT,
	COL_ON_SUSPEND_TIMEOUT,
	COL_DELIVERY,
	COL_SUBJECT,
	COL_PRIORITY,
	COL_MAX_IN_FLIGHT,
	COL_MAX_DISPATCHED,
	COL_COUNT
};

static EventType *
read_event_type(TupleTableSlot *slot)
{
	EventType *t = palloc0(sizeof(EventType));
	Datum *v = slot->tts_values;
	bool *null = slot->tts_isnull;
	Datum *delays;

	slot_getallattrs(slot);
	t->id = DatumGetInt32(v[COL_ID]);
	strlcpy(t->name, TextDatumGetCString(v[COL_EVENT_TYPE]), NAMEDATALEN);
	strlcpy(t->flow_type, TextDatumGetCString(v[COL_FLOW_TYPE]), NAMEDATALEN);
	t->max_attempts = DatumGetInt32(v[COL_MAX_ATTEMPTS]);
	t->has_lifespan = !null[COL_LIFESPAN];
	if (t->has_lifespan)
		t->lifespan = *DatumGetIntervalP(v[COL_LIFESPAN]);
	deconstruct_array(DatumGetArrayTypeP(v[COL_ATTEMPT_DELAYS]), INTERVALOID, sizeof(Interval), false, TYPALIGN_DOUBLE,
	                  &delays, NULL, &t->ndelays);
	t->delays = palloc(sizeof(Interval) * Max(t->ndelays, 1));
	for (int i = 0; i < t->ndelays; i++)
		t->delays[i] = *DatumGetIntervalP(delays[i]);
	t->backoff = DatumGetFloat8(v[COL_BACKOFF]);
	t->jitter = DatumGetFloat8(v[COL_JITTER]);
	t->lease = *DatumGetIntervalP(v[COL_LEASE]);
	t->dispatch_timeout = *DatumGetIntervalP(v[COL_DISPATCH_TIMEOUT]);
	if (!null[COL_ON_FAIL])
		strlcpy(t->on_fail, TextDatumGetCString(v[COL_ON_FAIL]), NAMEDATALEN);
	t->suspended = DatumGetBool(v[COL_SUSPENDED]);
	t->has_suspend_timeout = !null[COL_SUSPEND_TIMEOUT];
	if (t->has_suspend_timeout)
		t->suspend_timeout = *DatumGetIntervalP(v[COL_SUSPEND_TIMEOUT]);
	t->resume_on_timeout = strcmp(TextDatumGetCString(v[COL_ON_SUSPEND_TIMEOUT]), "resume") == 0;
	t->to_broker = strcmp(TextDatumGetCString(v[COL_DELIVERY]), "nats") == 0;
	t->subject = null[COL_SUBJECT] ? NULL : TextDatumGetCString(v[COL_SUBJECT]);
	t->priority = DatumGetInt32(v[COL_PRIORITY]);
	t->max_in_flight = null[COL_MAX_IN_FLIGHT] ? 0 : DatumGetInt32(v[COL_MAX_IN_FLIGHT]);
	t->max_dispatched = DatumGetInt32(v[COL_MAX_DISPATCHED]);
	return t;
}

/* Hand each row of a small table to a function, as of now. */
static void
for_each_row(Oid relid, void (*take)(TupleTableSlot *slot, Config *c), Config *c)
{
	Relation rel = table_open(relid, AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan_compat(rel, snapshot);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		take(slot, c);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
}

static void
take_event_type(TupleTableSlot *slot, Config *c)
{
	int n = c->ntypes;

	if ((n & (n - 1)) == 0)
	{
		Size size = sizeof(EventType *) * Max(2 * n, 8);

		c->by_name = n == 0 ? palloc(size) : repalloc(c->by_name, size);
	}
	c->by_name[c->ntypes++] = read_event_type(slot);
}

static void
take_segment(TupleTableSlot *slot, Config *c)
{
	slot_getallattrs(slot);
	if (c->nsegments < EDA_LEAVES)
		c->segments[c->nsegments++] =
			(Segment){DatumGetInt16(slot->tts_values[0]), DatumGetTimestampTz(slot->tts_values[1]),
		              DatumGetTimestampTz(slot->tts_values[2])};
}

static const Config *
get_config(void)
{
	const EdaCatalog *c = catalog_get(false);
	Config fresh = {0};
	MemoryContext old;

	AcceptInvalidationMessages();
	if (config_valid)
		return &config;

	/* A message that comes while we read must not be lost: set the flag first. */
	config_valid = true;
	PG_TRY();
	{
		fresh.context = AllocSetContextCreate(TopTransactionContext, "eda config", ALLOCSET_SMALL_SIZES);
		old = MemoryContextSwitchTo(fresh.context);
		for_each_row(c->event_type, take_event_type, &fresh);
		for_each_row(c->segment, take_segment, &fresh);
		fresh.by_id = palloc(sizeof(EventType *) * Max(fresh.ntypes, 1));
		if (fresh.ntypes > 0)
		{
			memcpy(fresh.by_id, fresh.by_name, sizeof(EventType *) * fresh.ntypes);
			qsort(fresh.by_name, fresh.ntypes, sizeof(EventType *), compare_names);
			qsort(fresh.by_id, fresh.ntypes, sizeof(EventType *), compare_ids);
		}
		qsort(fresh.segments, fresh.nsegments, sizeof(Segment), compare_segments);
		MemoryContextSwitchTo(old);
	}
	PG_CATCH();
	{
		config_valid = false;
		PG_RE_THROW();
	}
	PG_END_TRY();

	/* Somebody up the stack may still look at the old one. */
	if (config.context)
		MemoryContextSetParent(config.context, TopTransactionContext);
	MemoryContextSetParent(fresh.context, CacheMemoryContext);
	config = fresh;
	return &config;
}

/* Among the names, one that the user may have meant: alike but for case. */
static const char *
similar_name(const char *name)
{
	for (int i = 0; i < config.ntypes; i++)
		if (pg_strcasecmp(config.by_name[i]->name, name) == 0)
			return config.by_name[i]->name;
	return NULL;
}

/* The event type of that name; if there is none, NULL or the error ED005. */
const EventType *
event_type_by_name(const char *name, bool missing_ok)
{
	const Config *c = get_config();
	EventType key;
	EventType *keyp = &key;
	EventType **found = NULL;
	const char *similar;

	if (strlen(name) < NAMEDATALEN)
	{
		strlcpy(key.name, name, NAMEDATALEN);
		if (c->ntypes > 0)
			found = bsearch(&keyp, c->by_name, c->ntypes, sizeof(EventType *), compare_names);
	}
	if (found)
		return *found;
	if (missing_ok)
		return NULL;
	similar = similar_name(name);
	ereport(ERROR, errcode(ERRCODE_EDA_UNKNOWN_EVENT_TYPE), errmsg("unknown event type \"%s\"", name),
	        similar ? errhint("Did you mean \"%s\"?", similar)
	                : errhint("Configure it first: SELECT eda.configure('%s', flow_type => '...').", name));
}

/* The event type of that id, or NULL: somebody deleted its row. */
const EventType *
event_type_by_id(int32 id)
{
	const Config *c = get_config();
	EventType key;
	EventType *keyp = &key;
	EventType **found = NULL;

	key.id = id;
	if (c->ntypes > 0)
		found = bsearch(&keyp, c->by_id, c->ntypes, sizeof(EventType *), compare_ids);
	return found ? *found : NULL;
}

/* All event types, by id; how many. */
int
event_type_all(const EventType ***types)
{
	const Config *c = get_config();

	*types = (const EventType **) c->by_id;
	return c->ntypes;
}

/*
 * A time and an interval; an error (22008) when the sum is out of range.  From 17 on there
 * are infinite intervals: an event that waits so long, or a lease, would have no deadline, and
 * nobody would ever look at it again.
 */
TimestampTz
interval_add_to(TimestampTz t, const Interval *i)
{
	TimestampTz sum =
		DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(t), IntervalPGetDatum(i)));

	if (TIMESTAMP_NOT_FINITE(sum))
		ereport(ERROR, errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range"),
		        errdetail("No time of an event can be infinite."));
	return sum;
}

/* When the next attempt may begin, after so many attempts (0: the first). */
TimestampTz
event_type_attempt_at(const EventType *type, int attempts, TimestampTz now)
{
	const Interval *delay = &type->delays[Min(attempts, type->ndelays - 1)];
	int beyond = attempts - (type->ndelays - 1);
	TimestampTz base = interval_add_to(now, delay);
	double wait = (double) (base - now);

	if (beyond > 0 && type->backoff > 1)
		wait = Min(wait * Min(pow(type->backoff, beyond), 1e7), Max(wait, MAX_BACKOFF_DAYS * (double) USECS_PER_DAY));
	if (type->jitter > 0)
		wait *= 1 + type->jitter * (2 * pg_prng_double(&pg_global_prng_state) - 1);
	return now + (TimestampTz) wait;
}

/* When an event that starts to live at a time expires. */
TimestampTz
event_type_expires_at(const EventType *type, TimestampTz from)
{
	return type->has_lifespan ? interval_add_to(from, &type->lifespan) : EDA_NEVER;
}

/*
 * The leaf that an event with this id belongs to: by the time that a UUID v7
 * carries, the attic for others.  A hint for looking; the rule for writing.
 */
int
segment_leaf_of(const pg_uuid_t *id)
{
	const Config *c = get_config();
	int64 ms = 0;
	TimestampTz time;

	if ((id->data[6] & 0xF0) != 0x70 || (id->data[8] & 0xC0) != 0x80)
		return EDA_ATTIC;
	for (int i = 0; i < 6; i++)
		ms = (ms << 8) | id->data[i];
	time = ms * 1000 - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	for (int i = 0; i < c->nsegments; i++)
		if (time >= c->segments[i].starts_at)
			return c->segments[i].leaf;
	/* Before the first rotation there is no map; before the first segment's start, no leaf but this. */
	return c->nsegments == 0 ? 1 : EDA_ATTIC;
}

/* The leaves that may hold an event (NULL: any event), most likely first; how many. */
int
segment_leaves_of(const pg_uuid_t *id, int leaves[EDA_LEAVES])
{
	const Config *c = get_config();
	int first = id ? segment_leaf_of(id) : EDA_ATTIC;
	int n = 0;

	leaves[n++] = first;
	for (int i = 0; i < c->nsegments; i++)
		if (c->segments[i].leaf != first)
			leaves[n++] = c->segments[i].leaf;
	if (c->nsegments == 0 && first != 1)
		leaves[n++] = 1;
	if (first != EDA_ATTIC)
		leaves[n++] = EDA_ATTIC;
	return n;
}

/* Whether the open segment began before a time, and there is a free leaf to follow it. */
bool
segment_is_old(TimestampTz before)
{
	const Config *c = get_config();

	return c->nsegments > 0 && c->nsegments < EDA_LEAVES - 1 && c->segments[0].starts_at < before;
}

/* The id of an event type by name. */
Datum
eda_event_type_id(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("event_type must not be null"));
	PG_RETURN_INT32(event_type_by_name(text_to_cstring(PG_GETARG_TEXT_PP(0)), false)->id);
}

/* Statement trigger on event_type and segment: tell every session, and the engine. */
Datum
eda_config_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("not called as a trigger"));

	CacheInvalidateRelcacheByRelid(catalog_get(false)->event_type);
	SPI_connect();
	if (SPI_execute("UPDATE eda.config SET version = version OPERATOR(pg_catalog.+) 1", false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not count eda.config up");
	SPI_finish();
	wakeup_at_commit();
	return PointerGetDatum(NULL);
}
