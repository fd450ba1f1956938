/*
 * lifecycle.c
 *		The table of legal moves, and the error for an illegal move.
 *
 * The table exists once, here, as data.  The view eda.lifecycle shows it, and docs/reference.md
 * repeats it word for word (a test compares them).
 */
#include "base/base.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"

typedef struct Move
{
	EdaState from;
	EdaState to;
	const char *made_by;
	const char *happens;
} Move;

static const Move moves[] = {
	{EDA_NONE, EDA_AWAITING, "publish", "an event is published"},
	{EDA_AWAITING, EDA_DISPATCHED, "engine", "the event is due, its type is not suspended, and the limits leave room"},
	{EDA_AWAITING, EDA_SUSPENDED, "engine, suspend",
     "the event is due while its type is suspended, or somebody suspends it"},
	{EDA_AWAITING, EDA_EXPIRED, "engine", "expires_at passed"},
	{EDA_AWAITING, EDA_CANCELED, "cancel", "an operator cancels the event"},
	{EDA_DISPATCHED, EDA_BEING_PROCESSED, "acquire, acquire_next",
     "a worker takes the event: its attempt goes up by one and a lease begins"},
	{EDA_DISPATCHED, EDA_AWAITING, "engine", "no acquire was committed within the dispatch timeout"},
	{EDA_DISPATCHED, EDA_SUSPENDED, "engine, suspend", "its type is suspended, or somebody suspends the event"},
	{EDA_DISPATCHED, EDA_FAILED, "engine", "it came back from workers too often, or it is too large for the broker"},
	{EDA_DISPATCHED, EDA_EXPIRED, "engine", "expires_at passed"},
	{EDA_DISPATCHED, EDA_CANCELED, "cancel", "an operator cancels the event"},
	{EDA_BEING_PROCESSED, EDA_BEING_PROCESSED, "heartbeat",
     "the worker extends its lease and may report progress; the token stays the same"},
	{EDA_BEING_PROCESSED, EDA_SUCCEEDED, "succeed", "the worker finished the event; its spinoff events are published"},
	{EDA_BEING_PROCESSED, EDA_AWAITING, "fail, release, engine",
     "an attempt failed and another is left, the worker handed the event back, or its lease ran out"},
	{EDA_BEING_PROCESSED, EDA_FAILED, "fail, engine",
     "no attempt is left, or the worker said retry => false; the on-fail event is published"},
	{EDA_BEING_PROCESSED, EDA_EXPIRED, "fail, release, suspend, engine",
     "the event would have to wait again, but expires_at passed"},
	{EDA_BEING_PROCESSED, EDA_SUSPENDED, "suspend with the token",
     "the worker suspends the event to wait for something outside; the attempt is given back"},
	{EDA_BEING_PROCESSED, EDA_CANCELED, "cancel", "an operator cancels the event; the worker's lease is void"},
	{EDA_SUSPENDED, EDA_AWAITING, "resume, engine",
     "somebody resumes it, its type is unsuspended, or its suspend deadline passed and the type says resume"},
	{EDA_SUSPENDED, EDA_EXPIRED, "engine", "expires_at passed, or its suspend deadline did and the type says expire"},
	{EDA_SUSPENDED, EDA_CANCELED, "cancel", "an operator cancels the event"},
	{EDA_FAILED, EDA_AWAITING, "redrive", "an operator gives the event its attempts and its lifespan again"},
	{EDA_EXPIRED, EDA_AWAITING, "redrive", "an operator gives the event its attempts and its lifespan again"},
};

static const char *const state_names[EDA_STATES] = {
	"awaiting_processing", "dispatched", "being_processed", "succeeded", "failed", "suspended", "expired", "canceled"};

PG_FUNCTION_INFO_V1(eda_lifecycle_moves);

/* The state's label in the enum eda.state. */
const char *
lifecycle_state_name(EdaState state)
{
	return state == EDA_NONE ? "(nothing)" : state_names[state];
}

/* What stands in transition.suspended_by; NULL for nobody. */
const char *
lifecycle_suspended_by_name(EdaSuspendedBy by)
{
	static const char *const names[] = {NULL, "type", "operator", "worker"};

	return names[by];
}

/* Whether nothing but a redrive moves the event any more. */
bool
lifecycle_is_final(EdaState state)
{
	return state == EDA_SUCCEEDED || state == EDA_FAILED || state == EDA_EXPIRED || state == EDA_CANCELED;
}

/* Whether the table has the move. */
static bool
lifecycle_is_legal(EdaState from, EdaState to)
{
	for (int i = 0; i < (int) lengthof(moves); i++)
		if (moves[i].from == from && moves[i].to == to)
			return true;
	return false;
}

/* Raise ED001, with what would be legal, unless the event may move to the state. */
void
lifecycle_check(const Transition *current, EdaState to)
{
	StringInfoData legal;

	if (lifecycle_is_legal(current->state, to))
		return;

	initStringInfo(&legal);
	for (int i = 0; i < (int) lengthof(moves); i++)
		if (moves[i].from == current->state)
			appendStringInfo(&legal, "%s\"%s\" (%s)", legal.len > 0 ? ", " : "", state_names[moves[i].to],
			                 moves[i].made_by);
	ereport(ERROR, errcode(ERRCODE_EDA_ILLEGAL_MOVE),
	        errmsg("event %s cannot move from \"%s\" to \"%s\"", uuid_text(&current->event_id),
	               state_names[current->state], state_names[to]),
	        errdetail("Version %d was written at %s by %s.", current->version, timestamptz_to_str(current->at),
	                  current->worker ? current->worker : "its publisher"),
	        legal.len > 0 ? errhint("From \"%s\" it can move to %s.", state_names[current->state], legal.data)
	                      : errhint("\"%s\" is final.", state_names[current->state]));
}

/*
 * Check a move that has been decided (ED001 if it is illegal), and make an event that would
 * have to wait, although its expires_at has passed, expire instead.  now is the clock's time.
 */
void
lifecycle_finish_move(const Transition *current, Transition *next, TimestampTz now)
{
	lifecycle_check(current, next->state);
	if ((next->state == EDA_AWAITING || next->state == EDA_SUSPENDED) && next->expires_at <= now)
	{
		next->state = EDA_EXPIRED;
		next->wake_at = EDA_NEVER;
		next->suspended_by = EDA_BY_NOBODY;
	}
}

/* The rows of eda.lifecycle. */
Datum
eda_lifecycle_moves(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < (int) lengthof(moves); i++)
	{
		Datum values[4];
		bool nulls[4] = {0};

		if (moves[i].from == EDA_NONE)
			nulls[0] = true;
		else
			values[0] = CStringGetTextDatum(state_names[moves[i].from]);
		values[1] = CStringGetTextDatum(state_names[moves[i].to]);
		values[2] = CStringGetTextDatum(moves[i].made_by);
		values[3] = CStringGetTextDatum(moves[i].happens);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
