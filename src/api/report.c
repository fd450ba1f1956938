/*
 * report.c
 *		The SQL functions by which workers report on events that they have acquired: succeed,
 *		fail, heartbeat and release, for one event or many.  A call for one is the case n = 1.
 */
#include "api/api.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eda_succeed);
PG_FUNCTION_INFO_V1(eda_succeed_many);
PG_FUNCTION_INFO_V1(eda_fail);
PG_FUNCTION_INFO_V1(eda_fail_many);
PG_FUNCTION_INFO_V1(eda_heartbeat);
PG_FUNCTION_INFO_V1(eda_heartbeat_many);
PG_FUNCTION_INFO_V1(eda_release);
PG_FUNCTION_INFO_V1(eda_release_many);

/* A worker's report on one event.  Fields that do not apply are NULL. */
typedef struct Report
{
	pg_uuid_t event_id;
	int32 token; /* or EDA_TOKEN_LEFT_OUT */
	const char *error;
	const char *stack;
	Jsonb *json; /* the result, or with heartbeat the progress */
	Jsonb *spinoffs;
} Report;

/* The reports of one call, and the arguments that apply to all of them. */
typedef struct Reports
{
	int n;
	Report *report;
	bool finished_ok; /* if_finished => 'ok' */
	bool retry;
	bool has_interval;
	Interval interval; /* the argument retry_in, or extend of a heartbeat */
	const char *reason;
	const char *worker; /* for leases that were acquired without a worker's name */
} Reports;

/* The transition's detail; NULL if all of its fields are NULL.  json_key is the key of r->json. */
static Jsonb *
make_detail(const Report *r, const char *json_key, const char *reason)
{
	JsonObject o;

	json_begin(&o);
	json_put_text(&o, "error", r->error);
	json_put_text(&o, "stack", r->stack);
	json_put_text(&o, "reason", reason);
	json_put_json(&o, json_key, r->json);
	return json_end(&o);
}

/* Fill in the fields of step->next that all transitions by the holder of the lease have. */
static void
put_lease(JournalStep *step, const Reports *reports)
{
	step->next.token = step->current.token;
	step->next.worker = step->current.worker ? step->current.worker : reports->worker;
}

/* JournalDecide: the event has succeeded. */
static bool
decide_succeed(JournalStep *step, void *arg)
{
	const Reports *reports = arg;
	const Report *r = &reports->report[step->item];

	if (lease_check(step, r->token, EDA_SUCCEEDED, reports->finished_ok) != LEASE_OPEN)
		return false;
	step->next.state = EDA_SUCCEEDED;
	put_lease(step, reports);
	step->next.detail = make_detail(r, "result", NULL);
	return true;
}

/*
 * JournalDecide: the attempt has failed.  The event waits for its next attempt, or fails if none
 * is left or the worker wants none.
 */
static bool
decide_fail(JournalStep *step, void *arg)
{
	const Reports *reports = arg;
	const Report *r = &reports->report[step->item];
	const EventType *type = journal_require_type(step);
	TimestampTz now = step->now;

	if (lease_check(step, r->token, EDA_FAILED, reports->finished_ok) != LEASE_OPEN)
		return false;
	lease_end_attempt(step, type, reports->retry,
	                  reports->has_interval
	                      ? interval_add_to(now, &reports->interval)
	                      : event_type_attempt_at(type, step->current.attempt - step->current.attempt_base, now));
	put_lease(step, reports);
	step->next.detail = make_detail(r, "result", NULL);
	return true;
}

/* JournalDecide: extend the lease. */
static bool
decide_heartbeat(JournalStep *step, void *arg)
{
	const Reports *reports = arg;
	const Report *r = &reports->report[step->item];

	/* A lease that this transaction has closed cannot be extended: the lifecycle refuses that. */
	(void) lease_check(step, r->token, EDA_BEING_PROCESSED, false);
	lifecycle_check(&step->current, EDA_BEING_PROCESSED);
	step->next.state = EDA_BEING_PROCESSED;
	put_lease(step, reports);
	step->next.wake_at =
		interval_add_to(step->now, reports->has_interval ? &reports->interval : &journal_require_type(step)->lease);
	step->next.detail = make_detail(r, "progress", NULL);
	return true;
}

/* JournalDecide: hand the event back; the attempt does not count. */
static bool
decide_release(JournalStep *step, void *arg)
{
	const Reports *reports = arg;
	const Report *r = &reports->report[step->item];

	if (lease_check(step, r->token, EDA_AWAITING, false) != LEASE_OPEN)
		return false;
	step->next.state = EDA_AWAITING;
	step->next.wake_at = reports->has_interval ? interval_add_to(step->now, &reports->interval) : step->now;
	step->next.attempt--;
	put_lease(step, reports);
	step->next.detail = make_detail(r, "result", reports->reason);
	return true;
}

/* Publish the spinoffs of those events that this call has finished. */
static void
publish_spinoffs(const Reports *reports, const JournalStep *steps)
{
	PublishItem *all = NULL;
	int nall = 0;

	for (int i = 0; i < reports->n; i++)
	{
		Jsonb *spinoffs = reports->report[steps[i].item].spinoffs;
		PublishItem *items;
		Event parent;
		int n;

		if (spinoffs == NULL || steps[i].status != JOURNAL_APPENDED)
			continue;
		if (!journal_event(steps[i].leaf, &steps[i].event_id, true, &parent))
			elog(ERROR, "event %s has transitions but no row in eda.event", uuid_text(&steps[i].event_id));
		n = item_parse(spinoffs, "spinoffs", &parent, &items);
		all = all ? repalloc(all, sizeof(PublishItem) * (nall + n + 1)) : palloc(sizeof(PublishItem) * (n + 1));
		memcpy(all + nall, items, sizeof(PublishItem) * n);
		nall += n;
	}
	if (nall > 0)
		publish_items(all, nall, palloc(sizeof(pg_uuid_t) * nall));
}

/*
 * Carry out a call of the named SQL function, and publish the on-fail events and
 * spinoffs that follow from it.  Raises ED004 if an event does not exist, and the errors of
 * lease_check().
 *
 * *appended is set to how many events have moved.  Returns the steps, sorted by event id, whose
 * status says what became of each event.
 */
static JournalStep *
carry_out_reports(Reports *reports, const char *function, JournalDecide decide, int *appended)
{
	JournalStep *steps = palloc0(sizeof(JournalStep) * Max(reports->n, 1));

	journal_require_write(function);
	reports->worker = args_caller();
	for (int i = 0; i < reports->n; i++)
	{
		steps[i].event_id = reports->report[i].event_id;
		steps[i].leaf = -1;
		steps[i].item = i;
	}
	*appended = journal_append(steps, reports->n, JOURNAL_WAIT, decide, reports);
	for (int i = 0; i < reports->n; i++)
		journal_require_found(&steps[i]);
	on_fail_publish(steps, reports->n);
	publish_spinoffs(reports, steps);
	return steps;
}

/* ------------------------------------------------------------------------
 * Arguments
 * ------------------------------------------------------------------------ */

/* Argument n, if_finished: whether it is 'ok'. */
static bool
read_if_finished(FunctionCallInfo fcinfo, int n)
{
	const char *value = PG_ARGISNULL(n) ? "error" : text_to_cstring(PG_GETARG_TEXT_PP(n));

	if (strcmp(value, "ok") != 0 && strcmp(value, "error") != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("if_finished is \"%s\"", value),
		        errhint("It must be 'error' or 'ok'."));
	return strcmp(value, "ok") == 0;
}

/*
 * Argument n, an interval, into reports.  Raises 22023 if it is negative, or with above_zero if
 * it is zero.
 */
static void
read_interval(FunctionCallInfo fcinfo, int n, const char *name, bool above_zero, Reports *reports)
{
	TimestampTz moved;

	reports->has_interval = !PG_ARGISNULL(n);
	if (!reports->has_interval)
		return;
	reports->interval = *PG_GETARG_INTERVAL_P(n);
	moved = interval_add_to(0, &reports->interval);
	if (moved < 0 || (above_zero && moved == 0))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		        above_zero ? errmsg("%s must be above zero", name) : errmsg("%s must not be negative", name));
}

/* The reports of a call for one event: its id and token. */
static Reports
one_report(FunctionCallInfo fcinfo, int token_arg)
{
	Reports reports = {.n = 1, .report = palloc0(sizeof(Report))};

	if (PG_ARGISNULL(0))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("event_id must not be null"));
	reports.report->event_id = *PG_GETARG_UUID_P(0);
	reports.report->token = PG_ARGISNULL(token_arg) ? EDA_TOKEN_LEFT_OUT : PG_GETARG_INT32(token_arg);
	return reports;
}

/*
 * The elements of an array argument; NULL if the argument is null.  Raises 22023 unless there
 * are n of them, one for each event id.  name is the plural of the element's name, for the error.
 */
static Datum *
read_array(FunctionCallInfo fcinfo, int arg, const char *name, Oid type, int typlen, char align, bool **nulls, int n)
{
	Datum *elements;
	int count;

	if (PG_ARGISNULL(arg))
		return NULL;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(arg), type, typlen, type == INT4OID, align, &elements, nulls, &count);
	if (n >= 0 && count != n)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		        errmsg("there are %d event ids and %d %s", n, count, name), errhint("Give one for each event id."));
	return elements;
}

/* The reports of a call for many events: their ids and tokens. */
static Reports
many_reports(FunctionCallInfo fcinfo, int token_arg)
{
	Reports reports = {0};
	Datum *ids;
	Datum *tokens;
	bool *null_ids;
	bool *null_tokens;

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
		reports.report[i].token = tokens && !null_tokens[i] ? DatumGetInt32(tokens[i]) : EDA_TOKEN_LEFT_OUT;
	}
	return reports;
}

/* ------------------------------------------------------------------------
 * SQL.  All these functions raise 22004, 22023, ED001 to ED004, and ED006.
 * ------------------------------------------------------------------------ */

/* eda.succeed() */
Datum
eda_succeed(PG_FUNCTION_ARGS)
{
	Reports reports = one_report(fcinfo, 1);
	int appended;

	reports.report->json = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	reports.report->spinoffs = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	reports.finished_ok = read_if_finished(fcinfo, 4);
	carry_out_reports(&reports, "eda.succeed()", decide_succeed, &appended);
	PG_RETURN_BOOL(appended > 0);
}

/* eda.succeed_many() */
Datum
eda_succeed_many(PG_FUNCTION_ARGS)
{
	Reports reports = many_reports(fcinfo, 1);
	bool *null_results;
	bool *null_spinoffs;
	Datum *results = read_array(fcinfo, 2, "results", JSONBOID, -1, TYPALIGN_INT, &null_results, reports.n);
	Datum *spinoffs = read_array(fcinfo, 3, "spinoffs", JSONBOID, -1, TYPALIGN_INT, &null_spinoffs, reports.n);
	int appended;

	for (int i = 0; i < reports.n; i++)
	{
		reports.report[i].json = results && !null_results[i] ? DatumGetJsonbP(results[i]) : NULL;
		reports.report[i].spinoffs = spinoffs && !null_spinoffs[i] ? DatumGetJsonbP(spinoffs[i]) : NULL;
	}
	reports.finished_ok = read_if_finished(fcinfo, 4);
	carry_out_reports(&reports, "eda.succeed_many()", decide_succeed, &appended);
	PG_RETURN_INT32(appended);
}

/* eda.fail() */
Datum
eda_fail(PG_FUNCTION_ARGS)
{
	Reports reports = one_report(fcinfo, 3);
	JournalStep *step;
	int appended;

	reports.report->error = PG_ARGISNULL(1) ? "(no error message)" : text_to_cstring(PG_GETARG_TEXT_PP(1));
	reports.report->stack = args_text(fcinfo, 2);
	reports.retry = PG_ARGISNULL(4) || PG_GETARG_BOOL(4);
	read_interval(fcinfo, 5, "retry_in", false, &reports);
	reports.finished_ok = read_if_finished(fcinfo, 6);
	step = carry_out_reports(&reports, "eda.fail()", decide_fail, &appended);
	PG_RETURN_TEXT_P(cstring_to_text(lifecycle_state_name(appended > 0 ? step->next.state : step->current.state)));
}

/* eda.fail_many() */
Datum
eda_fail_many(PG_FUNCTION_ARGS)
{
	Reports reports = many_reports(fcinfo, 3);
	bool *null_errors;
	bool *null_stacks;
	Datum *errors = read_array(fcinfo, 1, "error messages", TEXTOID, -1, TYPALIGN_INT, &null_errors, reports.n);
	Datum *stacks = read_array(fcinfo, 2, "stack traces", TEXTOID, -1, TYPALIGN_INT, &null_stacks, reports.n);
	int appended;

	for (int i = 0; i < reports.n; i++)
	{
		reports.report[i].error = errors && !null_errors[i] ? TextDatumGetCString(errors[i]) : "(no error message)";
		reports.report[i].stack = stacks && !null_stacks[i] ? TextDatumGetCString(stacks[i]) : NULL;
	}
	reports.retry = PG_ARGISNULL(4) || PG_GETARG_BOOL(4);
	read_interval(fcinfo, 5, "retry_in", false, &reports);
	reports.finished_ok = read_if_finished(fcinfo, 6);
	carry_out_reports(&reports, "eda.fail_many()", decide_fail, &appended);
	PG_RETURN_INT32(appended);
}

/* eda.heartbeat() */
Datum
eda_heartbeat(PG_FUNCTION_ARGS)
{
	Reports reports = one_report(fcinfo, 1);
	JournalStep *step;
	int appended;

	read_interval(fcinfo, 2, "extend", true, &reports);
	reports.report->json = PG_ARGISNULL(3) ? NULL : PG_GETARG_JSONB_P(3);
	step = carry_out_reports(&reports, "eda.heartbeat()", decide_heartbeat, &appended);
	PG_RETURN_TIMESTAMPTZ(step->next.wake_at);
}

/* eda.heartbeat_many() */
Datum
eda_heartbeat_many(PG_FUNCTION_ARGS)
{
	Reports reports = many_reports(fcinfo, 1);
	int appended;

	read_interval(fcinfo, 2, "extend", true, &reports);
	carry_out_reports(&reports, "eda.heartbeat_many()", decide_heartbeat, &appended);
	PG_RETURN_INT32(appended);
}

/* eda.release() */
Datum
eda_release(PG_FUNCTION_ARGS)
{
	Reports reports = one_report(fcinfo, 1);
	JournalStep *step;
	int appended;

	read_interval(fcinfo, 2, "retry_in", false, &reports);
	reports.reason = args_text(fcinfo, 3);
	step = carry_out_reports(&reports, "eda.release()", decide_release, &appended);
	PG_RETURN_TEXT_P(cstring_to_text(lifecycle_state_name(appended > 0 ? step->next.state : step->current.state)));
}

/* eda.release_many() */
Datum
eda_release_many(PG_FUNCTION_ARGS)
{
	Reports reports = many_reports(fcinfo, 1);
	int appended;

	read_interval(fcinfo, 2, "retry_in", false, &reports);
	reports.reason = args_text(fcinfo, 3);
	carry_out_reports(&reports, "eda.release_many()", decide_release, &appended);
	PG_RETURN_INT32(appended);
}
