/*
 * lease.c
 *		A worker's right to process one attempt of an event (the lease), and the number that
 *		proves it (the token).
 *
 * The token is the version of the transition that opened the lease.  Every transition of the
 * lease carries the token, and so does the one with which the worker closes the lease.  A
 * transition by which somebody else ends the lease (the engine when it has run out, or
 * eda.cancel()) does not.  This tells "already finished" from "stale".
 */
#include "log/log.h"

#include "access/xact.h"

/*
 * Let the step's event move on after an attempt without success: fill in step->next to wait
 * until retry_at if retry is set and an attempt is left, else to fail.  type has the rules of
 * the event type; without rules (NULL) no attempt is left.
 */
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

/*
 * Find the transition that closed the lease with this token; the caller has seen that the lease
 * is not open.  Raises ED002 if no lease of the event has ever had this token.
 */
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
 * Check that the caller holds the event's lease.  token is the one that the caller has passed,
 * or EDA_TOKEN_LEFT_OUT, which is allowed in the transaction that has acquired the event;
 * wanted is the state that the caller moves the event to.
 *
 * Returns LEASE_OPEN, or LEASE_CLOSED_BY_US if the caller repeats itself: the lease was closed
 * under this token, and either finished_ok is set, or this same transaction has closed it with
 * the same outcome (success or not).
 *
 * Raises ED001 if the event is not being processed, ED002 if the token is stale, ED003 if the
 * event is already finished under this token, and ED006 if the token is missing.
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
			/* Even if an operator may make this move, such as suspend, a worker may not. */
			lifecycle_check(t, wanted);
			ereport(ERROR, errcode(ERRCODE_EDA_ILLEGAL_MOVE),
			        errmsg("event %s is not being processed: it is \"%s\"", uuid_text(&step->event_id),
			               lifecycle_state_name(t->state)),
			        errdetail("Version %d was written at %s.", t->version, timestamptz_to_str(t->at)),
			        errhint("Acquire the event first, with eda.acquire() or eda.acquire_next()."));
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
			errhint("Roll back this transaction, which has done the work again.  If the work is outside the database, "
		            "treat this as success, or pass if_finished => 'ok'."));
	}
	ereport(ERROR, errcode(ERRCODE_EDA_STALE_TOKEN),
	        errmsg("token %d is stale for event %s", token, uuid_text(&step->event_id)),
	        errdetail("The lease was lost: the event moved to \"%s\" at %s%s%s.", lifecycle_state_name(row.state),
	                  timestamptz_to_str(row.at), row.worker ? " by " : "", row.worker ? row.worker : ""),
	        errhint("Roll back the work of this attempt; this worker may no longer finish the event."));
}
