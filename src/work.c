/*
 * work.c
 *		What workers call.
 *
 * A token is the version of the transition that opened the lease.  Every row of
 * the lease carries it, and so does the row with which its holder closes it;
 * rows by which somebody else takes the lease away (the engine's rescue,
 * cancel) do not.  That is how "already finished" is told from "stale".
 */
#include "eda.h"

#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#define MAX_WAIT_MS 60000

PG_FUNCTION_INFO_V1(eda_acquire);
PG_FUNCTION_INFO_V1(eda_acquire_next);
PG_FUNCTION_INFO_V1(eda_succeed);
PG_FUNCTION_INFO_V1(eda_succeed_many);
PG_FUNCTION_INFO_V1(eda_fail);
PG_FUNCTION_INFO_V1(eda_fail_many);
PG_FUNCTION_INFO_V1(eda_heartbeat);
PG_FUNCTION_INFO_V1(eda_heartbeat_many);
PG_FUNCTION_INFO_V1(eda_release);
PG_FUNCTION_INFO_V1(eda_release_many);

/* ------------------------------------------------------------------------
 * Shared with control.c and the engine
 * ------------------------------------------------------------------------ */

/* Who is calling, for transition.worker: the application's name, else the role. */
const char *
work_caller(void)
{
	return application_name && application_name[0] ? application_name : GetUserNameFromId(GetSessionUserId(), false);
}

/* The event type of the step's event; an error if its row is gone. */
const EventType *
work_type(const JournalStep *step)
{
	const EventType *type = event_type_by_id(step->current.type);

	if (type == NULL)
		ereport(ERROR, errcode(ERRCODE_EDA_UNKNOWN_EVENT_TYPE),
				errmsg("event %s has an event type that no longer exists", eda_uuid_text(&step->event_id)),
				errhint("Insert the row with id %d into eda.event_type again.", step->current.type));
	return type;
}

/* Raise ED004 for a step whose event is not there. */
void
work_require_found(const JournalStep *step)
{
	if (step->status == JOURNAL_MISSING)
		ereport(ERROR, errcode(ERRCODE_EDA_UNKNOWN_EVENT), errmsg("event %s does not exist", eda_uuid_text(&step->event_id)),
				errhint("It was never published, or its transaction rolled back."));
}

/* End an attempt without success: another one at retry_at if there is one left, else failed. */
void
work_fail(JournalStep *step, const EventType *type, bool retry, TimestampTz retry_at)
{
	int			attempts = step->current.attempt - step->current.attempt_base;

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
work_publish_on_fail(JournalStep *steps, int nsteps)
{
	PublishItem *items = palloc0(sizeof(PublishItem) * Max(nsteps, 1));
	pg_uuid_t  *ids = palloc(sizeof(pg_uuid_t) * Max(nsteps, 1));
	int			n = 0;

	for (int i = 0; i < nsteps; i++)
	{
		const Transition *t = &steps[i].next;
		const EventType *type;
		const char *on_fail;
		Event		event;
		JsonObject	payload;

		if (steps[i].status != JOURNAL_APPENDED || t->state != EDA_FAILED)
			continue;
		type = event_type_by_id(t->type);
		if (!journal_event(steps[i].leaf, &steps[i].event_id, &event))
			continue;
		on_fail = event.on_fail_event_type ? event.on_fail_event_type : (type ? type->on_fail : "");
		if (on_fail[0] == '\0')
			continue;
		if (event_type_by_name(on_fail, true) == NULL)
		{
			ereport(WARNING, errcode(ERRCODE_EDA_UNKNOWN_EVENT_TYPE),
					errmsg("event %s failed, and its on-fail event type \"%s\" does not exist",
						   eda_uuid_text(&event.id), on_fail));
			continue;
		}
		json_begin(&payload);
		json_put_text(&payload, "failed_event_id", eda_uuid_text(&event.id));
		json_put_text(&payload, "failed_event_type", event.event_type);
		json_put_int(&payload, "attempts", t->attempt);
		json_put_text(&payload, "error", json_get_text(t->detail, "error"));
		json_put_json(&payload, "payload", event.payload);
		items[n].event_type = on_fail;
		items[n].payload = json_end(&payload);
		items[n].on_fail_event_type = "";
		items[n].trusted = true;
		publish_inherit(&items[n], &event);
		n++;
	}
	publish_items(items, n, ids);
}

/* The row with which the lease of this token was closed; an error if there was no such lease. */
static void
find_closing(const JournalStep *step, int32 token, Transition *closing)
{
	if (token <= 0 || token >= step->current.version ||
		!journal_find_transition(step->leaf, &step->event_id, token, false, closing) ||
		closing->state != EDA_BEING_PROCESSED || closing->token != token)
		ereport(ERROR, errcode(ERRCODE_EDA_STALE_TOKEN),
				errmsg("token %d never opened a lease on event %s", token, eda_uuid_text(&step->event_id)),
				errhint("Pass the token that eda.acquire() or eda.acquire_next() returned with the event."));
	while (closing->state == EDA_BEING_PROCESSED && closing->token == token)
		if (!journal_find_transition(step->leaf, &step->event_id, closing->version + 1, true, closing))
			elog(ERROR, "event %s has a gap in its versions", eda_uuid_text(&step->event_id));
}

static bool
is_my_transaction(uint64 xid)
{
	FullTransactionId mine = GetTopFullTransactionIdIfAny();

	return FullTransactionIdIsValid(mine) && U64FromFullTransactionId(mine) == xid;
}

/*
 * Whether the caller holds the event's lease.  False if it has closed it
 * already, in this transaction and to the same end, or with finished_ok;
 * otherwise an error: ED002 stale, ED003 already finished, ED006 no token.
 * token 0 stands for one that was left out.
 */
bool
work_lease_is_open(const JournalStep *step, int32 token, EdaState wanted, bool finished_ok)
{
	const Transition *t = &step->current;
	Transition	row;

	if (t->state == EDA_BEING_PROCESSED && token == t->token)
		return true;
	if (token == 0)
	{
		if (t->token != 0 && journal_find_transition(step->leaf, &step->event_id, t->token, false, &row) &&
			is_my_transaction(row.xid))
			token = t->token;
		else if (lifecycle_is_final(t->state) || t->state == EDA_BEING_PROCESSED || t->token != 0)
			ereport(ERROR, errcode(ERRCODE_EDA_TOKEN_REQUIRED),
					errmsg("a token is needed for event %s", eda_uuid_text(&step->event_id)),
					errdetail("It may be left out only in the transaction that acquired the event."),
					errhint("Pass the token that eda.acquire() or eda.acquire_next() returned with the event."));
		else
			lifecycle_check(t, wanted);
		if (t->state == EDA_BEING_PROCESSED)
			return true;
	}
	find_closing(step, token, &row);
	if (row.token == token)
	{
		if (finished_ok || (is_my_transaction(row.xid) && (row.state == EDA_SUCCEEDED) == (wanted == EDA_SUCCEEDED)))
			return false;
		ereport(ERROR, errcode(ERRCODE_EDA_ALREADY_FINISHED),
				errmsg("event %s is already finished under token %d", eda_uuid_text(&step->event_id), token),
				errdetail("It moved to \"%s\" at %s.", lifecycle_state_name(row.state), timestamptz_to_str(row.at)),
				errhint("Roll back what this transaction did again.  If the work is outside the database, treat this as "
						"success, or pass if_finished => 'ok'."));
	}
	ereport(ERROR, errcode(ERRCODE_EDA_STALE_TOKEN),
			errmsg("token %d is stale for event %s", token, eda_uuid_text(&step->event_id)),
			errdetail("The lease was lost: the event moved to \"%s\" at %s%s%s.", lifecycle_state_name(row.state),
					  timestamptz_to_str(row.at), row.worker ? " by " : "", row.worker ? row.worker : ""),
			errhint("Roll back the work of this attempt; another attempt has taken over, or will."));
}

/* ------------------------------------------------------------------------
 * Acquire
 * ------------------------------------------------------------------------ */

typedef struct AcquireArgs
{
	const char *worker;
	bool		has_lease;
	Interval	lease;
} AcquireArgs;

static bool
decide_acquire(JournalStep *step, void *arg)
{
	const AcquireArgs *args = arg;
	const EventType *type = event_type_by_id(step->current.type);
	Transition *next = &step->next;

	if (step->current.state != EDA_DISPATCHED || type == NULL || type->suspended || next->expires_at <= next->at)
		return false;
	next->state = EDA_BEING_PROCESSED;
	next->attempt++;
	next->returns = 0;
	next->token = next->version;
	next->wake_at = eda_add_interval(next->at, args->has_lease ? &args->lease : &type->lease);
	next->worker = args->worker;
	return true;
}

static void
read_acquire_args(FunctionCallInfo fcinfo, int first, AcquireArgs *args)
{
	args->worker = PG_ARGISNULL(first) ? work_caller() : text_to_cstring(PG_GETARG_TEXT_PP(first));
	args->has_lease = !PG_ARGISNULL(first + 1);
	if (!args->has_lease)
		return;
	args->lease = *PG_GETARG_INTERVAL_P(first + 1);
	if (eda_add_interval(0, &args->lease) <= 0)
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
	Event	   *events = palloc(sizeof(Event) * Max(nsteps, 1));
	int			n = 0;

	qsort(steps, nsteps, sizeof(JournalStep), compare_items);
	journal_step_events(steps, nsteps, events);
	for (int i = 0; i < nsteps; i++)
	{
		const Transition *t = &steps[i].next;
		const Event *e = &events[i];
		Datum		values[11];
		bool		nulls[11] = {0};

		if (steps[i].status != JOURNAL_APPENDED)
			continue;
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
		n++;
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
	work_require_found(&step);
	return_acquired(fcinfo, &step, 1);
	return (Datum) 0;
}

/* Pop up to max events and take those that can be taken; how many. */
static int
acquire_popped(FunctionCallInfo fcinfo, const char *flow_type, int max, AcquireArgs *args, bool *popped_any)
{
	Popped	   *popped = palloc(sizeof(Popped) * max);
	int			n = queue_pop(flow_type, max, popped);
	JournalStep *steps = palloc0(sizeof(JournalStep) * Max(n, 1));

	*popped_any = n > 0;
	for (int i = 0; i < n; i++)
	{
		steps[i].event_id = popped[i].event_id;
		steps[i].leaf = popped[i].leaf;
		steps[i].item = i;
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
	int			n = event_type_all(&types);

	for (int i = 0; i < n; i++)
		if (strcmp(types[i]->flow_type, flow_type) == 0)
			return;
	ereport(ERROR, errcode(ERRCODE_EDA_UNKNOWN_EVENT_TYPE), errmsg("no event type has flow type \"%s\"", flow_type),
			errhint("Configure one first: SELECT eda.configure('...', flow_type => '%s').", flow_type));
}

/* eda.acquire_next(): errors ED005, 22023. */
Datum
eda_acquire_next(PG_FUNCTION_ARGS)
{
	const char *flow_type;
	int			max;
	AcquireArgs args;
	TimestampTz until = GetCurrentTimestamp();
	bool		popped_any;

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
		until = Min(eda_add_interval(until, PG_GETARG_INTERVAL_P(2)), until + MAX_WAIT_MS * (int64) 1000);

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

/* ------------------------------------------------------------------------
 * Reports: succeed, fail, heartbeat, release, for one event or many
 * ------------------------------------------------------------------------ */

/* What a worker says of one event. */
typedef struct Report
{
	pg_uuid_t	event_id;
	int32		token; /* 0: left out */
	const char *error;
	const char *stack;
	Jsonb	   *json; /* result or progress */
	Jsonb	   *spinoffs;
} Report;

/* A call: the reports and what they have in common. */
typedef struct Reports
{
	int			n;
	Report	   *report;
	bool		finished_ok;
	bool		retry;
	bool		has_interval;
	Interval	interval; /* retry_in, or the lease's extension */
	const char *reason;
	const char *worker;
} Reports;

static Jsonb *
make_detail(const Report *r, const char *json_key, const char *reason)
{
	JsonObject	o;

	json_begin(&o);
	json_put_text(&o, "error", r->error);
	json_put_text(&o, "stack", r->stack);
	json_put_text(&o, "reason", reason);
	json_put_json(&o, json_key, r->json);
	return json_end(&o);
}

/* What all closing rows have in common. */
static void
close_lease(JournalStep *step, const Reports *reports)
{
	step->next.token = step->current.token;
	step->next.worker = step->current.worker ? step->current.worker : reports->worker;
}

static bool
decide_succeed(JournalStep *step, void *arg)
{
	const Reports *reports = arg;
	const Report *r = &reports->report[step->item];

	if (!work_lease_is_open(step, r->token, EDA_SUCCEEDED, reports->finished_ok))
		return false;
	step->next.state = EDA_SUCCEEDED;
	close_lease(step, reports);
	step->next.detail = make_detail(r, "result", NULL);
	return true;
}

static bool
decide_fail(JournalStep *step, void *arg)
{
	const Reports *reports = arg;
	const Report *r = &reports->report[step->item];
	const EventType *type = work_type(step);
	TimestampTz now = step->next.at;

	if (!work_lease_is_open(step, r->token, EDA_FAILED, reports->finished_ok))
		return false;
	work_fail(step, type, reports->retry,
			  reports->has_interval
				  ? eda_add_interval(now, &reports->interval)
				  : event_type_retry_at(type, step->current.attempt - step->current.attempt_base, now));
	close_lease(step, reports);
	step->next.detail = make_detail(r, "result", NULL);
	return true;
}

static bool
decide_heartbeat(JournalStep *step, void *arg)
{
	const Reports *reports = arg;
	const Report *r = &reports->report[step->item];

	(void) work_lease_is_open(step, r->token, EDA_BEING_PROCESSED, false);
	lifecycle_check(&step->current, EDA_BEING_PROCESSED);
	step->next.state = EDA_BEING_PROCESSED;
	close_lease(step, reports);
	step->next.wake_at =
		eda_add_interval(step->next.at, reports->has_interval ? &reports->interval : &work_type(step)->lease);
	step->next.detail = make_detail(r, "progress", NULL);
	return true;
}

static bool
decide_release(JournalStep *step, void *arg)
{
	const Reports *reports = arg;
	const Report *r = &reports->report[step->item];

	if (!work_lease_is_open(step, r->token, EDA_AWAITING, false))
		return false;
	step->next.state = EDA_AWAITING;
	step->next.wake_at =
		reports->has_interval ? eda_add_interval(step->next.at, &reports->interval) : step->next.at;
	step->next.attempt--;
	close_lease(step, reports);
	step->next.detail = make_detail(r, "result", reports->reason);
	return true;
}

/* Publish the spinoffs of those events that this call finished. */
static void
publish_spinoffs(const Reports *reports, const JournalStep *steps)
{
	PublishItem *all = NULL;
	int			nall = 0;

	for (int i = 0; i < reports->n; i++)
	{
		Jsonb	   *spinoffs = reports->report[steps[i].item].spinoffs;
		PublishItem *items;
		Event		parent;
		int			n;

		if (spinoffs == NULL || steps[i].status != JOURNAL_APPENDED)
			continue;
		if (!journal_event(steps[i].leaf, &steps[i].event_id, &parent))
			elog(ERROR, "event %s has transitions and no event", eda_uuid_text(&steps[i].event_id));
		n = publish_parse(spinoffs, "spinoffs", &parent, &items);
		all = all ? repalloc(all, sizeof(PublishItem) * (nall + n + 1)) : palloc(sizeof(PublishItem) * (n + 1));
		memcpy(all + nall, items, sizeof(PublishItem) * n);
		nall += n;
	}
	if (nall > 0)
		publish_items(all, nall, palloc(sizeof(pg_uuid_t) * nall));
}

/* Carry out a call; the steps, sorted by event id, tell what became of each event. */
static JournalStep *
carry_out(Reports *reports, const char *what, JournalDecide decide, int *appended)
{
	JournalStep *steps = palloc0(sizeof(JournalStep) * Max(reports->n, 1));

	journal_require_write(what);
	reports->worker = work_caller();
	for (int i = 0; i < reports->n; i++)
	{
		steps[i].event_id = reports->report[i].event_id;
		steps[i].leaf = -1;
		steps[i].item = i;
	}
	*appended = journal_append(steps, reports->n, JOURNAL_WAIT, decide, reports);
	for (int i = 0; i < reports->n; i++)
		work_require_found(&steps[i]);
	work_publish_on_fail(steps, reports->n);
	publish_spinoffs(reports, steps);
	return steps;
}

/* ------------------------------------------------------------------------
 * Arguments
 * ------------------------------------------------------------------------ */

static bool
read_if_finished(FunctionCallInfo fcinfo, int n)
{
	const char *value = PG_ARGISNULL(n) ? "error" : text_to_cstring(PG_GETARG_TEXT_PP(n));

	if (strcmp(value, "ok") != 0 && strcmp(value, "error") != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("if_finished is \"%s\"", value),
				errhint("It must be 'error' or 'ok'."));
	return strcmp(value, "ok") == 0;
}

static void
read_interval(FunctionCallInfo fcinfo, int n, const char *name, bool above_zero, Reports *reports)
{
	TimestampTz moved;

	reports->has_interval = !PG_ARGISNULL(n);
	if (!reports->has_interval)
		return;
	reports->interval = *PG_GETARG_INTERVAL_P(n);
	moved = eda_add_interval(0, &reports->interval);
	if (moved < 0 || (above_zero && moved == 0))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				errmsg("%s must %s", name, above_zero ? "be above zero" : "not be negative"));
}

/* The reports of a call for one event: its id and token. */
static Reports
one_report(FunctionCallInfo fcinfo, int token_arg)
{
	Reports		reports = {.n = 1, .report = palloc0(sizeof(Report))};

	if (PG_ARGISNULL(0))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("event_id must not be null"));
	reports.report->event_id = *PG_GETARG_UUID_P(0);
	reports.report->token = PG_ARGISNULL(token_arg) ? 0 : PG_GETARG_INT32(token_arg);
	if (!PG_ARGISNULL(token_arg) && reports.report->token <= 0)
		reports.report->token = -1; /* never a token; 0 would stand for none */
	return reports;
}

/* An array argument that goes with event_ids, or NULL. */
static Datum *
read_array(FunctionCallInfo fcinfo, int arg, const char *name, Oid type, int typlen, char align, bool **nulls, int n)
{
	Datum	   *elements;
	int			count;

	if (PG_ARGISNULL(arg))
		return NULL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), type, typlen, type == INT4OID, align, &elements, nulls, &count);
	if (n >= 0 && count != n)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("there are %d event ids and %d %s", n, count, name),
				errhint("Give one for each event id."));
	return elements;
}

/* The reports of a call for many events: their ids and tokens. */
static Reports
many_reports(FunctionCallInfo fcinfo, int token_arg)
{
	Reports		reports = {0};
	Datum	   *ids;
	Datum	   *tokens;
	bool	   *null_ids;
	bool	   *null_tokens;

	if (PG_ARGISNULL(0))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("event_ids must not be null"));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &ids, &null_ids, &reports.n);
	reports.report = palloc0(sizeof(Report) * Max(reports.n, 1));
	tokens = read_array(fcinfo, token_arg, "tokens", INT4OID, 4, TYPALIGN_INT, &null_tokens, reports.n);
	for (int i = 0; i < reports.n; i++)
	{
		if (null_ids[i])
			ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("event_ids must not hold a null"));
		reports.report[i].event_id = *DatumGetUUIDP(ids[i]);
		if (tokens && !null_tokens[i])
			reports.report[i].token = DatumGetInt32(tokens[i]) > 0 ? DatumGetInt32(tokens[i]) : -1;
	}
	return reports;
}

static const char *
text_or_null(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/* ------------------------------------------------------------------------
 * SQL.  All reports: errors ED001 to ED004, ED006.
 * ------------------------------------------------------------------------ */

/* eda.succeed() */
Datum
eda_succeed(PG_FUNCTION_ARGS)
{
	Reports		reports = one_report(fcinfo, 1);
	int			appended;

	reports.report->json = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	reports.report->spinoffs = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	reports.finished_ok = read_if_finished(fcinfo, 4);
	carry_out(&reports, "eda.succeed()", decide_succeed, &appended);
	PG_RETURN_BOOL(appended > 0);
}

/* eda.succeed_many() */
Datum
eda_succeed_many(PG_FUNCTION_ARGS)
{
	Reports		reports = many_reports(fcinfo, 1);
	bool	   *null_results;
	bool	   *null_spinoffs;
	Datum	   *results = read_array(fcinfo, 2, "results", JSONBOID, -1, TYPALIGN_INT, &null_results, reports.n);
	Datum	   *spinoffs = read_array(fcinfo, 3, "spinoffs", JSONBOID, -1, TYPALIGN_INT, &null_spinoffs, reports.n);
	int			appended;

	for (int i = 0; i < reports.n; i++)
	{
		reports.report[i].json = results && !null_results[i] ? DatumGetJsonbP(results[i]) : NULL;
		reports.report[i].spinoffs = spinoffs && !null_spinoffs[i] ? DatumGetJsonbP(spinoffs[i]) : NULL;
	}
	reports.finished_ok = read_if_finished(fcinfo, 4);
	carry_out(&reports, "eda.succeed_many()", decide_succeed, &appended);
	PG_RETURN_INT32(appended);
}

/* eda.fail() */
Datum
eda_fail(PG_FUNCTION_ARGS)
{
	Reports		reports = one_report(fcinfo, 3);
	JournalStep *step;
	int			appended;

	reports.report->error = PG_ARGISNULL(1) ? "(no error message)" : text_to_cstring(PG_GETARG_TEXT_PP(1));
	reports.report->stack = text_or_null(fcinfo, 2);
	reports.retry = PG_ARGISNULL(4) || PG_GETARG_BOOL(4);
	read_interval(fcinfo, 5, "retry_in", false, &reports);
	reports.finished_ok = read_if_finished(fcinfo, 6);
	step = carry_out(&reports, "eda.fail()", decide_fail, &appended);
	PG_RETURN_TEXT_P(cstring_to_text(lifecycle_state_name(appended > 0 ? step->next.state : step->current.state)));
}

/* eda.fail_many() */
Datum
eda_fail_many(PG_FUNCTION_ARGS)
{
	Reports		reports = many_reports(fcinfo, 3);
	bool	   *null_errors;
	bool	   *null_stacks;
	Datum	   *errors = read_array(fcinfo, 1, "error messages", TEXTOID, -1, TYPALIGN_INT, &null_errors, reports.n);
	Datum	   *stacks = read_array(fcinfo, 2, "stack traces", TEXTOID, -1, TYPALIGN_INT, &null_stacks, reports.n);
	int			appended;

	for (int i = 0; i < reports.n; i++)
	{
		reports.report[i].error =
			errors && !null_errors[i] ? TextDatumGetCString(errors[i]) : "(no error message)";
		reports.report[i].stack = stacks && !null_stacks[i] ? TextDatumGetCString(stacks[i]) : NULL;
	}
	reports.retry = PG_ARGISNULL(4) || PG_GETARG_BOOL(4);
	read_interval(fcinfo, 5, "retry_in", false, &reports);
	reports.finished_ok = read_if_finished(fcinfo, 6);
	carry_out(&reports, "eda.fail_many()", decide_fail, &appended);
	PG_RETURN_INT32(appended);
}

/* eda.heartbeat() */
Datum
eda_heartbeat(PG_FUNCTION_ARGS)
{
	Reports		reports = one_report(fcinfo, 1);
	JournalStep *step;
	int			appended;

	read_interval(fcinfo, 2, "extend", true, &reports);
	reports.report->json = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	step = carry_out(&reports, "eda.heartbeat()", decide_heartbeat, &appended);
	PG_RETURN_TIMESTAMPTZ(step->next.wake_at);
}

/* eda.heartbeat_many() */
Datum
eda_heartbeat_many(PG_FUNCTION_ARGS)
{
	Reports		reports = many_reports(fcinfo, 1);
	int			appended;

	read_interval(fcinfo, 2, "extend", true, &reports);
	carry_out(&reports, "eda.heartbeat_many()", decide_heartbeat, &appended);
	PG_RETURN_INT32(appended);
}

/* eda.release() */
Datum
eda_release(PG_FUNCTION_ARGS)
{
	Reports		reports = one_report(fcinfo, 1);
	JournalStep *step;
	int			appended;

	read_interval(fcinfo, 2, "retry_in", false, &reports);
	reports.reason = text_or_null(fcinfo, 3);
	step = carry_out(&reports, "eda.release()", decide_release, &appended);
	PG_RETURN_TEXT_P(cstring_to_text(lifecycle_state_name(appended > 0 ? step->next.state : step->current.state)));
}

/* eda.release_many() */
Datum
eda_release_many(PG_FUNCTION_ARGS)
{
	Reports		reports = many_reports(fcinfo, 1);
	int			appended;

	read_interval(fcinfo, 2, "retry_in", false, &reports);
	reports.reason = text_or_null(fcinfo, 3);
	carry_out(&reports, "eda.release_many()", decide_release, &appended);
	PG_RETURN_INT32(appended);
}
