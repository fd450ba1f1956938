/*
 * acquire.c
 *		The SQL functions by which workers acquire events: eda.acquire() and eda.acquire_next().
 */
#include "api/api.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/tuplestore.h"

static const Interval max_wait = {.time = USECS_PER_MINUTE};

PG_FUNCTION_INFO_V1(eda_acquire);
PG_FUNCTION_INFO_V1(eda_acquire_next);

typedef struct AcquireArgs
{
	const char *worker;
	bool has_lease; /* false: the lease is as long as the event type says */
	Interval lease;
} AcquireArgs;

/*
 * JournalDecide: a dispatched event is acquired, unless its type is suspended or the event has
 * expired.
 */
static bool
decide_acquire(JournalStep *step, void *arg)
{
	const AcquireArgs *args = arg;
	const EventType *type = event_type_by_id(step->current.type);
	Transition *next = &step->next;

	if (step->current.state != EDA_DISPATCHED || type == NULL || type->suspended || next->expires_at <= step->now)
		return false;
	next->state = EDA_BEING_PROCESSED;
	next->attempt++;
	next->returns = 0;
	next->token = next->version;
	next->wake_at = interval_add_to(step->now, args->has_lease ? &args->lease : &type->lease);
	next->worker = args->worker;
	return true;
}

/* Read the arguments worker (number first) and lease (the next one). */
static void
read_acquire_args(FunctionCallInfo fcinfo, int first, AcquireArgs *args)
{
	args->worker = PG_ARGISNULL(first) ? args_caller() : text_to_cstring(PG_GETARG_TEXT_PP(first));
	args->has_lease = !PG_ARGISNULL(first + 1);
	if (!args->has_lease)
		return;
	args->lease = *PG_GETARG_INTERVAL_P(first + 1);
	if (interval_add_to(0, &args->lease) <= 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("lease must be above zero"));
}

static int
compare_items(const void *a, const void *b)
{
	return ((const JournalStep *) a)->item - ((const JournalStep *) b)->item;
}

/*
 * Add a row to the SQL function's result for each event that was acquired, in the order of the
 * steps' items.  Returns how many rows.
 */
static int
return_acquired(FunctionCallInfo fcinfo, JournalStep *steps, int nsteps)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	EventRef *refs = palloc(sizeof(EventRef) * Max(nsteps, 1));
	Event *events = palloc(sizeof(Event) * Max(nsteps, 1));
	int n = 0;

	qsort(steps, nsteps, sizeof(JournalStep), compare_items);
	for (int i = 0; i < nsteps; i++)
		if (steps[i].status == JOURNAL_APPENDED)
		{
			steps[n] = steps[i];
			refs[n++] = (EventRef){steps[i].event_id, steps[i].leaf};
		}
	journal_read_events(refs, n, true, events);
	for (int i = 0; i < n; i++)
	{
		const Transition *t = &steps[i].next;
		const Event *e = &events[i];
		Datum values[11];
		bool nulls[11] = {0};

		values[0] = UUIDPGetDatum(&e->id);
		values[1] = Int32GetDatum(t->token);
		values[2] = CStringGetTextDatum(e->event_type);
		values[3] = CStringGetTextDatum(e->flow_type);
		values[4] = CStringGetTextDatum(e->flow_id);
		values[5] = Int32GetDatum(t->attempt);
		values[6] = JsonbPGetDatum(e->payload);
		nulls[7] = e->headers == NULL;
		values[7] = nulls[7] ? (Datum) 0 : JsonbPGetDatum(e->headers);
		values[8] = TimestampTzGetDatum(t->wake_at);
		nulls[9] = e->correlation_id == NULL;
		values[9] = nulls[9] ? (Datum) 0 : CStringGetTextDatum(e->correlation_id);
		nulls[10] = !e->has_parent;
		values[10] = nulls[10] ? (Datum) 0 : UUIDPGetDatum(&e->parent_id);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return n;
}

/* eda.acquire(); raises ED004 */
Datum
eda_acquire(PG_FUNCTION_ARGS)
{
	AcquireArgs args;
	JournalStep step = {.leaf = -1};

	journal_require_write("eda.acquire()");
	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("event_id must not be null"));
	step.event_id = *PG_GETARG_UUID_P(0);
	read_acquire_args(fcinfo, 1, &args);
	journal_append(&step, 1, JOURNAL_SKIP, decide_acquire, &args);
	journal_require_found(&step);
	return_acquired(fcinfo, &step, 1);
	return (Datum) 0;
}

/*
 * Pop up to max offers, and acquire and return those events that can be acquired.  The other
 * offers go back to the engine.  Returns how many events were acquired; *popped_any says
 * whether there was an offer.
 */
static int
acquire_popped(FunctionCallInfo fcinfo, const char *flow_type, int max, AcquireArgs *args, bool *popped_any)
{
	Popped *popped = palloc(sizeof(Popped) * max);
	int n = queue_pop(flow_type, max, popped);
	JournalStep *steps = palloc0(sizeof(JournalStep) * Max(n, 1));

	*popped_any = n > 0;
	for (int i = 0; i < n; i++)
	{
		steps[i].event_id = popped[i].event_id;
		steps[i].leaf = popped[i].leaf;
		steps[i].item = i;
		journal_know(&steps[i], EDA_DISPATCHED, &popped[i].dispatched);
	}
	journal_append(steps, n, JOURNAL_SKIP, decide_acquire, args);
	for (int i = 0; i < n; i++)
		if (steps[i].status != JOURNAL_APPENDED)
			queue_refuse(&popped[steps[i].item]);
	return return_acquired(fcinfo, steps, n);
}

/* Raise ED005 if no event type has this flow type. */
static void
require_flow_type(const char *flow_type)
{
	const EventType **types;
	const char *similar = NULL;
	int n = event_type_all(&types);

	for (int i = 0; i < n; i++)
	{
		if (strcmp(types[i]->flow_type, flow_type) == 0)
			return;
		if (pg_strcasecmp(types[i]->flow_type, flow_type) == 0)
			similar = types[i]->flow_type;
	}
	ereport(ERROR, errcode(ERRCODE_EDA_UNKNOWN_EVENT_TYPE), errmsg("no event type has flow type \"%s\"", flow_type),
	        similar ? errhint("Did you mean \"%s\"?", similar)
	                : errhint("Configure one first: SELECT eda.configure('...', flow_type => '%s').", flow_type));
}

/* eda.acquire_next(); raises 22004, 22023 and ED005 */
Datum
eda_acquire_next(PG_FUNCTION_ARGS)
{
	const char *flow_type;
	int max;
	AcquireArgs args;
	TimestampTz until = GetCurrentTimestamp();
	bool popped_any;

	journal_require_write("eda.acquire_next()");
	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("flow_type and max_events must not be null"));
	flow_type = text_to_cstring(PG_GETARG_TEXT_PP(0));
	max = PG_GETARG_INT32(1);
	if (max < 1 || max > 10000)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("max_events is %d", max),
		        errhint("It must be from 1 to 10000."));
	read_acquire_args(fcinfo, 3, &args);
	require_flow_type(flow_type);
	if (!PG_ARGISNULL(2))
		until = interval_add_to(until, DatumGetIntervalP(DirectFunctionCall2(interval_smaller, PG_GETARG_DATUM(2),
		                                                                     IntervalPGetDatum(&max_wait))));

	for (;;)
	{
		if (acquire_popped(fcinfo, flow_type, max, &args, &popped_any) > 0)
			break;
		if (!popped_any && !queue_wait(flow_type, max, until))
			break;
		CHECK_FOR_INTERRUPTS();
	}
	return (Datum) 0;
}
