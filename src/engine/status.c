/*
 * status.c
 *		The engine's state, its last error and its broker's state: set by the engine in shared
 *		memory, read by sessions through eda.engine_status.
 */
#include "engine/engine.h"

#include "access/htup_details.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"

#define LOGGED_ERRORS 30 /* per second; enough to halve a batch down to the event that fails */

PG_FUNCTION_INFO_V1(eda_engine_info);

/* ------------------------------------------------------------------------
 * The engine's side
 * ------------------------------------------------------------------------ */

/* A new engine has started: reset its numbers, but keep the last error of the engine before. */
void
status_started(void)
{
	EngineInfo *info = &engine.area->info;

	LWLockAcquire(&engine.area->lock, LW_EXCLUSIVE);
	memset(info, 0, offsetof(EngineInfo, last_error));
	strlcpy(info->state, "starting", sizeof(info->state));
	info->started_at = GetCurrentTimestamp();
	engine.area->nmetrics = 0;
	LWLockRelease(&engine.area->lock);
}

/* Set engine_status.state, and log it if it has changed. */
void
status_set_state(const char *state)
{
	EngineInfo *info = &engine.area->info;

	if (strncmp(state, info->state, sizeof(info->state) - 1) == 0)
		return;
	ereport(LOG, errmsg("eda engine of database %u: %s", MyDatabaseId, state));
	LWLockAcquire(&engine.area->lock, LW_EXCLUSIVE);
	strlcpy(info->state, state, sizeof(info->state));
	LWLockRelease(&engine.area->lock);
}

/* Set engine_status.last_error. */
void
status_set_error(const char *message)
{
	LWLockAcquire(&engine.area->lock, LW_EXCLUSIVE);
	strlcpy(engine.area->info.last_error, message, sizeof(engine.area->info.last_error));
	engine.area->info.last_error_at = GetCurrentTimestamp();
	LWLockRelease(&engine.area->lock);
}

/*
 * Whether one more line about errors may be logged in this second.  If a disk is full, each event
 * can raise an error, and the server log may be on that disk.
 */
bool
status_take_log_budget(void)
{
	static TimestampTz second = 0;
	static int n = 0;
	TimestampTz now = GetCurrentTimestamp();

	if (now < second || now >= second + USECS_PER_SEC)
	{
		if (n > LOGGED_ERRORS)
			ereport(LOG, errmsg("eda engine: %d more lines about errors were not logged", n - LOGGED_ERRORS));
		second = now;
		n = 0;
	}
	return ++n <= LOGGED_ERRORS;
}

/* Set the columns of engine_status about the broker. */
void
status_set_broker(const BrokerStatus *status)
{
	LWLockAcquire(&engine.area->lock, LW_EXCLUSIVE);
	engine.area->info.broker = *status;
	LWLockRelease(&engine.area->lock);
}

/* ------------------------------------------------------------------------
 * The side of the sessions that read the status
 * ------------------------------------------------------------------------ */

static void
put_time(Datum *values, bool *nulls, int i, TimestampTz time)
{
	nulls[i] = time == 0;
	values[i] = TimestampTzGetDatum(time);
}

static void
put_text(Datum *values, bool *nulls, int i, const char *text)
{
	nulls[i] = text[0] == '\0';
	values[i] = CStringGetTextDatum(text);
}

static void
put_broker(Datum *values, bool *nulls, int i, const BrokerStatus *b)
{
	put_text(values, nulls, i++, broker_state_name(b->state));
	put_text(values, nulls, i++, b->version[0] ? psprintf("%s (nats-server %s)", b->server, b->version) : b->server);
	put_text(values, nulls, i++, b->error);
	put_text(values, nulls, i++, b->notice);
	values[i++] = Int32GetDatum(b->unacknowledged);
	values[i++] = Int64GetDatum(b->published);
	values[i++] = Int64GetDatum(b->resent);
	values[i++] = Int64GetDatum(b->reconnects);
}

/* SQL: eda.engine_info(), the row behind eda.engine_status */
Datum
eda_engine_info(PG_FUNCTION_ARGS)
{
	EngineArea *area = shmem_my_area();
	EngineInfo info = {0};
	TupleDesc desc;
	Datum values[25] = {0};
	bool nulls[25] = {0};
	int queued = 0;
	int popped = 0;
	int waiting = 0;
	pid_t pid = 0;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "eda.engine_info() must return a row");
	if (area)
	{
		FlowQueue *queues = area_queues(area);
		bool mine;

		LWLockAcquire(&area->lock, LW_SHARED);
		mine = area->database == MyDatabaseId;
		if (mine)
			info = area->info;
		for (int i = 0; mine && i < eda_max_event_types && queues[i].flow_type[0] != '\0'; i++)
		{
			queued += queues[i].queued;
			popped += queues[i].popped;
			waiting += queues[i].waiting;
		}
		LWLockRelease(&area->lock);
		pid = mine ? area->engine_pid : 0;
	}
	if (pid == 0)
		memset(&info.broker, 0, sizeof(info.broker)); /* no engine, no connection */
	values[0] = CStringGetTextDatum(pid != 0 ? info.state : eda_engine_mode == EDA_ENGINE_OFF ? "off" : "not running");
	nulls[1] = pid == 0;
	values[1] = Int32GetDatum(pid);
	put_time(values, nulls, 2, info.started_at);
	put_time(values, nulls, 3, info.last_tick_at);
	values[4] = Int64GetDatum(info.ticks);
	values[5] = Int64GetDatum(info.transitions_read);
	values[6] = Int64GetDatum(info.transitions_made);
	values[7] = Float8GetDatum(info.last_tick_ms);
	values[8] = Float8GetDatum(info.max_tick_ms);
	values[9] = Float8GetDatum(info.total_tick_ms);
	values[10] = Int32GetDatum(queued);
	values[11] = Int32GetDatum(popped);
	values[12] = Int32GetDatum(waiting);
	values[13] = Int32GetDatum(info.parked);
	values[14] = Int32GetDatum(info.held_back);
	put_text(values, nulls, 15, info.last_error);
	put_time(values, nulls, 16, info.last_error_at);
	put_broker(values, nulls, 17, &info.broker);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
