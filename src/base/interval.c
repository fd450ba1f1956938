/*
 * interval.c
 *		Arithmetic on times: every deadline of an event is computed here.
 */
#include "base/base.h"

#include "utils/fmgrprotos.h"

/*
 * The time that lies an interval after another; an error (22008) when it is out of range.
 * From PostgreSQL 17 on there are infinite intervals.  They are refused: an event or a lease
 * that waits for an infinite time has no deadline, so the engine would never look at it again.
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
