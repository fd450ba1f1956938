/*
 * clock.c
 *		eda's clock: the system's clock plus an offset that tests can set for a database.
 */
#include "shared/shared.h"

#include "miscadmin.h"
#include "utils/fmgrprotos.h"

PG_FUNCTION_INFO_V1(eda_clock);
PG_FUNCTION_INFO_V1(eda_move_clock);

/* The time by eda's clock in this session's database. */
TimestampTz
clock_now(void)
{
	EngineArea *area = shmem_my_area();
	TimestampTz now = GetCurrentTimestamp();

	if (area != NULL)
		now += (int64) pg_atomic_read_u64(&area->clock_offset);
	return now;
}

/* SQL: eda.clock() */
Datum
eda_clock(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(clock_now());
}

/*
 * SQL: eda.move_clock(interval).  Takes effect at once, even if the transaction rolls back.
 * Errors 42501, 22023, 53400.
 */
Datum
eda_move_clock(PG_FUNCTION_ARGS)
{
	Interval *by = PG_GETARG_INTERVAL_P(0);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz moved;
	EngineArea *area;

	if (!superuser())
		ereport(ERROR, errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("permission denied to move the clock"),
		        errdetail("Only superusers may move the clock."));
	shmem_require();

	moved = DatumGetTimestampTz(
		DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(now), IntervalPGetDatum(by)));
	if (TIMESTAMP_NOT_FINITE(moved))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		        errmsg("the clock cannot be moved by an infinite interval"));

	area = shmem_claim_area(MyDatabaseId);
	if (area == NULL)
		ereport(ERROR, errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
		        errmsg("no room for this database in eda's shared memory"),
		        errdetail("All %d databases of eda.max_databases are in use.", eda_max_databases),
		        errhint("Raise eda.max_databases and restart the server."));

	pg_atomic_write_u64(&area->clock_offset, (uint64) (moved - now));
	shmem_wake_engine(area);
	PG_RETURN_TIMESTAMPTZ(clock_now());
}
