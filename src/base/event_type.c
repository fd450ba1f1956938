/*
 * event_type.c
 *		The rules of each event type, cached.
 *
 * A change of a table's rows sends no invalidation by itself, so the trigger
 * eda_config_changed() sends one for eda.event_type.  It also counts eda.config up for
 * the engine, which may be awake before the message has arrived.
 *
 * The cache is filled with the latest snapshot whatever the isolation level.  A pointer into it is
 * valid until the end of the transaction, even if the cache is filled again before that.
 */
#include "base/base.h"

#include <math.h>

#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "executor/tuptable.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"

#define MAX_BACKOFF_DAYS 30

typedef struct Config
{
	MemoryContext context;
	int ntypes;
	EventType **by_name;
	EventType **by_id;
} Config;

static Config config;
static bool config_is_valid = false;
static Oid config_relid = InvalidOid; /* eda.event_type, when the rules were read */

PG_FUNCTION_INFO_V1(eda_event_type_id);

static void
event_type_relcache_callback(Oid relid)
{
	if (!OidIsValid(relid) || relid == config_relid)
		config_is_valid = false;
}

/* Have the next function that needs the rules read the table again. */
void
event_type_forget(void)
{
	config_is_valid = false;
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

static void
add_event_type(TupleTableSlot *slot, void *arg)
{
	Config *c = arg;
	int n = c->ntypes;

	if ((n & (n - 1)) == 0)
	{
		Size size = sizeof(EventType *) * Max(2 * n, 8);

		c->by_name = n == 0 ? palloc(size) : repalloc(c->by_name, size);
	}
	c->by_name[c->ntypes++] = read_event_type(slot);
}

static const Config *
get_config(void)
{
	Oid relid = catalog_get(false)->event_type;
	Config fresh = {0};
	MemoryContext old;

	AcceptInvalidationMessages();
	if (config_is_valid)
		return &config;
	relcache_watch(event_type_relcache_callback);

	/* Set the flag before reading: a message that arrives meanwhile clears it again. */
	config_relid = relid;
	config_is_valid = true;
	PG_TRY();
	{
		fresh.context = AllocSetContextCreate(TopTransactionContext, "eda config", ALLOCSET_SMALL_SIZES);
		old = MemoryContextSwitchTo(fresh.context);
		catalog_for_each_row(relid, add_event_type, &fresh);
		fresh.by_id = palloc(sizeof(EventType *) * Max(fresh.ntypes, 1));
		if (fresh.ntypes > 0)
		{
			memcpy(fresh.by_id, fresh.by_name, sizeof(EventType *) * fresh.ntypes);
			qsort(fresh.by_name, fresh.ntypes, sizeof(EventType *), compare_names);
			qsort(fresh.by_id, fresh.ntypes, sizeof(EventType *), compare_ids);
		}
		MemoryContextSwitchTo(old);
	}
	PG_CATCH();
	{
		config_is_valid = false;
		PG_RE_THROW();
	}
	PG_END_TRY();

	/*
	 * A caller further up the stack may still use the old rules: free them with the
	 * transaction.
	 */
	if (config.context)
		MemoryContextSetParent(config.context, TopTransactionContext);
	MemoryContextSetParent(fresh.context, CacheMemoryContext);
	config = fresh;
	return &config;
}

/* A name that differs from the given one only in case, for a hint; NULL if there is none. */
static const char *
similar_name(const char *name)
{
	for (int i = 0; i < config.ntypes; i++)
		if (pg_strcasecmp(config.by_name[i]->name, name) == 0)
			return config.by_name[i]->name;
	return NULL;
}

/* The event type of that name.  If there is none: NULL with missing_ok, else the error ED005. */
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

/* The event type of that id; NULL if its row was deleted. */
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

/* All event types, sorted by id; returns how many there are. */
int
event_type_all(const EventType ***types)
{
	const Config *c = get_config();

	*types = (const EventType **) c->by_id;
	return c->ntypes;
}

/*
 * When the next attempt may begin: now plus the delay that the rules name after so many
 * attempts (0: the delay before the first attempt).  Beyond the last delay the backoff
 * multiplies it; jitter varies it.
 */
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

/* When an event whose life starts at a time expires; EDA_NEVER without a lifespan. */
TimestampTz
event_type_expires_at(const EventType *type, TimestampTz from)
{
	return type->has_lifespan ? interval_add_to(from, &type->lifespan) : EDA_NEVER;
}

/* SQL: eda.event_type_id(text): errors 22004, ED005. */
Datum
eda_event_type_id(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("event_type must not be null"));
	PG_RETURN_INT32(event_type_by_name(text_to_cstring(PG_GETARG_TEXT_PP(0)), false)->id);
}
