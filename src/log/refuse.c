/*
 * refuse.c
 *		The triggers on the extension's tables.  One refuses to let SQL write the log; the other
 *		makes all processes read the event types or the segments again after a change.
 */
#include "log/log.h"

#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/inval.h"

PG_FUNCTION_INFO_V1(eda_refuse_write);
PG_FUNCTION_INFO_V1(eda_config_changed);

static void
mark_found(TupleTableSlot *slot, void *found)
{
	*(bool *) found = true;
}

/* Whether eda.engine_state has a row: some database has become the log's home. */
static bool
has_home(void)
{
	bool found = false;

	catalog_for_each_row(catalog_get(false)->engine_state, mark_found, &found);
	return found;
}

/*
 * Statement trigger on eda.event, eda.transition and each of their leaves, and on
 * eda.event_type against DELETE and TRUNCATE: raises ED010.  INSERT and COPY are allowed as
 * long as the log has no home, which the first eda.configure() gives it, because that is how a
 * dump is restored into a fresh extension.
 */
Datum
eda_refuse_write(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("not called as a trigger"));
	if (TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) && !has_home())
		return PointerGetDatum(NULL);
	ereport(ERROR, errcode(ERRCODE_EDA_LOG_IS_APPEND_ONLY),
	        errmsg("\"%s\" is written through eda's functions only", RelationGetRelationName(trigdata->tg_relation)),
	        errdetail("The log of events is append-only, and its events refer to their event types for ever."),
	        errhint("Use functions such as eda.publish(), eda.cancel() and eda.redrive()."));
}

/*
 * Statement trigger on eda.event_type and eda.segment: makes every session read the changed
 * table again, by a relcache message, which a change of rows does not send by itself.  The
 * engine compares eda.config.version, as it may be awake before the message has arrived.
 */
Datum
eda_config_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("not called as a trigger"));

	CacheInvalidateRelcacheByRelid(RelationGetRelid(((TriggerData *) fcinfo->context)->tg_relation));
	SPI_connect();
	if (SPI_execute("UPDATE eda.config SET version = version OPERATOR(pg_catalog.+) 1", false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not increment the version in eda.config");
	SPI_finish();
	wakeup_at_commit();
	return PointerGetDatum(NULL);
}
