/*
 * control.c
 *		The SQL functions for operators.  If another transaction, which is still open, has
 *		changed the event, they wait for it up to eda.lock_wait, and then raise ED008, which
 *		names it.
 */
#include "api/api.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(eda_cancel);
PG_FUNCTION_INFO_V1(eda_suspend);
PG_FUNCTION_INFO_V1(eda_resume);
PG_FUNCTION_INFO_V1(eda_redrive);
PG_FUNCTION_INFO_V1(eda_redrive_many);
PG_FUNCTION_INFO_V1(eda_redrive_if_dead);

/* The arguments of a call. */
typedef struct Request
{
	EdaState to;
	const char *reason;
	const char *caller;
	int32 token;          /* suspend: the worker's token, or EDA_TOKEN_LEFT_OUT */
	bool has_deadline;    /* suspend: false if the event type's suspend_timeout decides */
	TimestampTz deadline; /* suspend: until when; EDA_NEVER: for ever */
	bool if_dead;         /* redrive: leave events alone that are neither failed nor expired */
} Request;

/* Fill in the fields of step->next that all requests set. */
static void
fill_in_request(JournalStep *step, const Request *request)
{
	JsonObject o;

	json_begin(&o);
	json_put_text(&o, "reason", request->reason);
	step->next.detail = json_end(&o);
	step->next.worker = request->caller;
	step->next.state = request->to;
}

/* JournalDecide: cancel the event, in any state from which that is legal. */
static bool
decide_cancel(JournalStep *step, void *arg)
{
	fill_in_request(step, arg);
	return true;
}

/* JournalDecide: a suspended event waits again and is due at once; others raise ED001. */
static bool
decide_resume(JournalStep *step, void *arg)
{
	if (step->current.state != EDA_SUSPENDED)
		ereport(ERROR, errcode(ERRCODE_EDA_ILLEGAL_MOVE),
		        errmsg("event %s cannot be resumed: it is \"%s\"", uuid_text(&step->event_id),
		               lifecycle_state_name(step->current.state)),
		        errdetail("Version %d was written at %s.", step->current.version, timestamptz_to_str(step->current.at)),
		        errhint("Only a suspended event can be resumed."));
	fill_in_request(step, arg);
	step->next.wake_at = step->now;
	return true;
}

/*
 * JournalDecide: a failed or expired event waits again and is due at once, with all its attempts
 * and a new lifespan.  Other events raise ED001, or are left alone with if_dead.
 */
static bool
decide_redrive(JournalStep *step, void *arg)
{
	bool dead = step->current.state == EDA_FAILED || step->current.state == EDA_EXPIRED;

	if (!dead && ((const Request *) arg)->if_dead)
		return false;
	if (!dead)
		ereport(ERROR, errcode(ERRCODE_EDA_ILLEGAL_MOVE),
		        errmsg("event %s cannot be redriven: it is \"%s\"", uuid_text(&step->event_id),
		               lifecycle_state_name(step->current.state)),
		        errdetail("Version %d was written at %s.", step->current.version, timestamptz_to_str(step->current.at)),
		        errhint("Only a failed or expired event can be redriven."));
	fill_in_request(step, arg);
	step->next.wake_at = step->now;
	step->next.attempt_base = step->current.attempt;
	step->next.returns = 0;
	step->next.expires_at = event_type_expires_at(journal_require_type(step), step->now);
	return true;
}

/*
 * JournalDecide: suspend the event.  An event that is being processed can be suspended only by
 * its worker, with the token, and gets the attempt back.
 */
static bool
decide_suspend(JournalStep *step, void *arg)
{
	const Request *request = arg;
	const EventType *type = journal_require_type(step);
	bool by_worker = step->current.state == EDA_BEING_PROCESSED || request->token != EDA_TOKEN_LEFT_OUT;

	if (by_worker && lease_check(step, request->token, EDA_SUSPENDED, false) != LEASE_OPEN)
		return false;
	fill_in_request(step, arg);
	if (by_worker)
	{
		step->next.token = step->current.token;
		step->next.attempt--;
	}
	step->next.suspended_by = by_worker ? EDA_BY_WORKER : EDA_BY_OPERATOR;
	step->next.wake_at = request->deadline;
	if (!request->has_deadline && type->has_suspend_timeout)
		step->next.wake_at = interval_add_to(step->now, &type->suspend_timeout);
	return true;
}

/*
 * Carry a request out on n events, or on none if there is an error; ED004 if one does not
 * exist.  function is the name of the SQL function.  Returns how many events have moved.
 */
static int
carry_out_request(const pg_uuid_t *ids, int n, const char *function, JournalDecide decide, Request *request)
{
	JournalStep *steps = palloc0(sizeof(JournalStep) * Max(n, 1));
	int moved;

	journal_require_write(function);
	request->caller = args_caller();
	for (int i = 0; i < n; i++)
	{
		steps[i].event_id = ids[i];
		steps[i].leaf = -1;
	}
	moved = journal_append(steps, n, JOURNAL_WAIT_BRIEFLY, decide, request);
	for (int i = 0; i < n; i++)
		journal_require_found(&steps[i]);
	return moved;
}

/* The argument event_id. */
static const pg_uuid_t *
id_arg(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("event_id must not be null"));
	return PG_GETARG_UUID_P(0);
}

/* eda.cancel(); raises ED001, ED004, ED008 */
Datum
eda_cancel(PG_FUNCTION_ARGS)
{
	Request request = {.to = EDA_CANCELED, .reason = args_text(fcinfo, 1)};

	PG_RETURN_INT32(carry_out_request(id_arg(fcinfo), 1, "eda.cancel()", decide_cancel, &request));
}

/* eda.suspend(); raises ED001 to ED004, ED006, ED008 */
Datum
eda_suspend(PG_FUNCTION_ARGS)
{
	Request request = {.to = EDA_SUSPENDED, .reason = args_text(fcinfo, 3), .deadline = EDA_NEVER};

	request.has_deadline = !PG_ARGISNULL(1);
	if (request.has_deadline)
		request.deadline = PG_GETARG_TIMESTAMPTZ(1);
	request.token = PG_ARGISNULL(2) ? EDA_TOKEN_LEFT_OUT : PG_GETARG_INT32(2);
	PG_RETURN_INT32(carry_out_request(id_arg(fcinfo), 1, "eda.suspend()", decide_suspend, &request));
}

/* eda.resume(); raises ED001, ED004, ED008 */
Datum
eda_resume(PG_FUNCTION_ARGS)
{
	Request request = {.to = EDA_AWAITING, .reason = args_text(fcinfo, 1)};

	PG_RETURN_INT32(carry_out_request(id_arg(fcinfo), 1, "eda.resume()", decide_resume, &request));
}

/* eda.redrive(uuid); raises ED001, ED004, ED008 */
Datum
eda_redrive(PG_FUNCTION_ARGS)
{
	Request request = {.to = EDA_AWAITING, .reason = args_text(fcinfo, 1)};

	PG_RETURN_INT32(carry_out_request(id_arg(fcinfo), 1, "eda.redrive()", decide_redrive, &request));
}

static Datum
redrive_array(FunctionCallInfo fcinfo, bool if_dead)
{
	Request request = {.to = EDA_AWAITING, .reason = args_text(fcinfo, 1), .if_dead = if_dead};
	Datum *elements;
	bool *nulls;
	pg_uuid_t *ids;
	int n;

	if (PG_ARGISNULL(0))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("event_ids must not be null"));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &elements, &nulls, &n);
	ids = palloc(sizeof(pg_uuid_t) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("event_ids must not hold a null"));
		ids[i] = *DatumGetUUIDP(elements[i]);
	}
	PG_RETURN_INT32(carry_out_request(ids, n, "eda.redrive_many()", decide_redrive, &request));
}

/* eda.redrive_many(); raises ED001, ED004, ED008 */
Datum
eda_redrive_many(PG_FUNCTION_ARGS)
{
	return redrive_array(fcinfo, false);
}

/* eda.redrive_if_dead(), which eda.redrive(text) calls; raises ED004, ED008 */
Datum
eda_redrive_if_dead(PG_FUNCTION_ARGS)
{
	return redrive_array(fcinfo, true);
}
