/*
 * work.c
 *		What workers call to get events: acquire and acquire_next; and the rule
 *		of the token, which report.c, control.c and the engine go by too.
 *
 * A token is the version of the transition that opened the lease.  Every row of
 * the lease carries it, and so does the row with which its holder closes it;
 * rows by which somebody else takes the lease away (the engine's rescue,
 * cancel) do not.  That is how "already finished" is told from "stale".
 */
#include "eda.h"

#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/tuplestore.h"

static const Interval max_wait = {.time = USECS_PER_MINUTE};

PG_FUNCTION_INFO_V1(eda_acquire);
PG_FUNCTION_INFO_V1(eda_acquire_next);

/* ------------------------------------------------------------------------
 * Shared with control.c and the engine
 * ------------------------------------------------------------------------ */

/* Who is calling, for transition.worker: the application's name, else the role. */
const char *
args_caller(void)
{
	return application_name && application_name[0] ? application_name : GetUserNameFromId(GetSessionUserId(), false);
}

/* The event type of the step's event; an error if its row is gone. */
const EventType *
journal_require_type(const JournalStep *step)
{
	const EventType *type = event_type_by_id(step->current.type);

	if (type == NULL)
		ereport(ERROR, errcode(ERRCODE_EDA_UNKNOWN_EVENT_TYPE),
		        errmsg("event %s has an event type that no longer exists", uuid_text(&step->event_id)));
	return type;
}

/* Raise ED004 for a step whose event is not there. */
void
journal_require_found(const JournalStep *step)
{
	if (step->status == JOURNAL_MISSING)
		ereport(ERROR, errcode(ERRCODE_EDA_UNKNOWN_EVENT),
		        errmsg("event %s does not exist", uuid_text(&step->event_id)),
		        errhint("It was never published, or its transaction rolled back."));
}

/* End an attempt without success: another one at retry_at if there is one left, else failed. */
void
lease_end_attempt(JournalStep *step, const EventType *type, bool retry, TimestampTz retry_at)
{
	int attempts = step->current.attempt - step->current.attempt_base;

	if (retry && type && attempts < type->max_attempts)
	{
		step->next.state = EDA_AWAITING;
		step->next.wake_at = retry_at;
	}
	else
		step->next.state = EDA_FAILED;
}

/* Publish the on-fail events of those steps that moved to failed. */
void
on_fail_publish(JournalStep *steps, int nsteps)
{
	PublishItem *items;
	int failed = 0;
	int n = 0;

	for (int i = 0; i < nsteps; i++)
		failed += steps[i].status == JOURNAL_APPENDED && steps[i].next.state == EDA_FAILED;
	if (failed == 0)
		return;
	items = palloc0(sizeof(PublishItem) * failed);
	for (int i = 0; i < nsteps; i++)
	{
		const Transition *t = &steps[i].next;
		const EventType *type;
		const char *on_fail;
		Event event;
		JsonObject payload;

		if (steps[i].status != JOURNAL_APPENDED || t->state != EDA_FAILED)
			continue;
		type = event_type_by_id(t->type);
		if (!journal_event(steps[i].leaf, &steps[i].event_id, false, &event))
			continue;
		on_fail = event.on_fail_event_type ? event.on_fail_event_type : (type ? type->on_fail : "");
		if (on_fail[0] == '\0')
			continue;
		if (event_type_by_name(on_fail, true) == NULL)
		{
			ereport(WARNING, errcode(ERRCODE_EDA_UNKNOWN_EVENT_TYPE),
			        errmsg("event %s failed, and its on-fail event type \"%s\" does not exist", uuid_text(&event.id),
			               on_fail));
			continue;
		}
		(void) journal_event(steps[i].leaf, &steps[i].event_id, true, &event);
		json_begin(&payload);
		json_put_text(&payload, "failed_event_id", uuid_text(&event.id));
		json_put_text(&payload, "failed_event_type", event.event_type);
		json_put_int(&payload, "attempts", t->attempt);
		json_put_text(&payload, "error", json_get_text(t->detail, "error"));
		json_put_json(&payload, "payload", event.payload);
		items[n].event_type = on_fail;
		items[n].payload = json_end(&payload);
		items[n].on_fail_event_type = "";
		items[n].no_size_limit = true;
		item_inherit(&items[n], &event);
		n++;
	}
	publish_items(items, n, palloc(sizeof(pg_uuid_t) * failed));
}

/* The row with which the lease of this token was closed; an error if there was no such lease. */
static void
find_closing(const JournalStep *step, int32 token, Transition *closing)
{
	if (token <= 0 || token >= step->current.version ||
	    !journal_find_transition(step->leaf, &step->event_id, token, false, closing) ||
	    closing->state != EDA_BEING_PROCESSED || closing->token != token)
		ereport(ERROR, errcode(ERRCODE_EDA_STALE_TOKEN),
		        errmsg("token %d never opened a lease on event %s", token, uuid_text(&step->event_id)),
		        errhint("Pass the token that eda.acquire() or eda.acquire_next() returned with the event."));
	while (closing->state == EDA_BEING_PROCESSED && closing->token == token)
		if (!journal_find_transition(step->leaf, &step->event_id, closing->version + 1, true, closing))
			elog(ERROR, "event %s has a gap in its versions", uuid_text(&step->event_id));
}

static bool
is_my_transaction(uint64 xid)
{
	FullTransactionId mine = GetTopFullTransactionIdIfAny();

	return FullTransactionIdIsValid(mine) && U64FromFullTransactionId(mine) == xid;
}

/*
 * Check that the caller holds the event's lease.  A lease that the caller has closed
 * already is permitted in the transaction that closed it, for the same outcome, or with
 * finished_ok.  Otherwise an error: ED001 no lease is open, ED002 stale token, ED003
 * already finished, ED006 the token is missing.
 */
LeaseCheck
lease_check(const JournalStep *step, int32 token, EdaState wanted, bool finished_ok)
{
	const Transition *t = &step->current;
	Transition row;

	if (t->state == EDA_BEING_PROCESSED && token == t->token)
		return LEASE_OPEN;
	if (token == EDA_TOKEN_LEFT_OUT)
	{
		if (t->token != 0 && journal_find_transition(step->leaf, &step->event_id, t->token, false, &row) &&
		    is_my_transaction(row.xid))
			token = t->token;
		else if (lifecycle_is_final(t->state) || t->state == EDA_BEING_PROCESSED || t->token != 0)
			ereport(ERROR, errcode(ERRCODE_EDA_TOKEN_REQUIRED),
			        errmsg("a token is needed for event %s", uuid_text(&step->event_id)),
			        errdetail("It may be left out only in the transaction that acquired the event."),
			        errhint("Pass the token that eda.acquire() or eda.acquire_next() returned with the event."));
		else
		{
			/* Some of these moves are legal, but not a worker's. */
			lifecycle_check(t, wanted);
			ereport(ERROR, errcode(ERRCODE_EDA_ILLEGAL_MOVE),
			        errmsg("event %s is not being processed: it is \"%s\"", uuid_text(&step->event_id),
			               lifecycle_state_name(t->state)),
			        errdetail("Version %d was written at %s.", t->version, timestamptz_to_str(t->at)),
			        errhint("Take it with eda.acquire() or eda.acquire_next() first."));
		}
		if (t->state == EDA_BEING_PROCESSED)
			return LEASE_OPEN;
	}
	find_closing(step, token, &row);
	if (row.token == token)
	{
		if (finished_ok || (is_my_transaction(row.xid) && (row.state == EDA_SUCCEEDED) == (wanted == EDA_SUCCEEDED)))
			return LEASE_CLOSED_BY_US;
		ereport(
			ERROR, errcode(ERRCODE_EDA_ALREADY_FINISHED),
			errmsg("event %s is already finished under token %d", uuid_text(&step->event_id), token),
			errdetail("It moved to \"%s\" at %s.", lifecycle_state_name(row.state), timestamptz_to_str(row.at)),
			errhint("Roll back what this transaction did again.  If the work is outside the database, treat this as "
		            "success, or pass if_finished => 'ok'."));
	}
	ereport(ERROR, errcode(ERRCODE_EDA_STALE_TOKEN),
	        errmsg("token %d is stale for event %s", token, uuid_text(&step->event_id)),
	        errdetail("The lease was lost: the event moved to \"%s\" at %s%s%s.", lifecycle_state_name(row.state),
	                  timestamptz_to_str(row.at), row.worker ? " by " : "", row.worker ? row.worker : ""),
	        errhint("Roll back the work of this attempt: it is no longer this worker's to finish."));
}

/* ------------------------------------------------------------------------
 * Acquire
 * ------------------------------------------------------------------------ */

typedef struct AcquireArgs
{
	const char *worker;
	bool has_lease;
	Interval lease;
} AcquireArgs;

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

/* Return a row for each event that was taken, in the order of their items; how many. */
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

/* eda.acquire(): errors ED004. */
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

/* Pop up to max events and take those that can be taken; how many. */
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

/* eda.acquire_next(): errors ED005, 22023. */
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
