/*
 * lease.c
 *		The right to process one attempt, and the token that proves it.
 *
 * A token is the version of the transition that opened the lease.  Every row of
 * the lease carries it, and so does the row with which its holder closes it;
 * rows by which somebody else takes the lease away (the engine's rescue,
 * cancel) do not.  That is how "already finished" differs from "stale".
 */
#include "log/log.h"

#include "access/xact.h"

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
