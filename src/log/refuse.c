/*
 * refuse.c
 *		The triggers on the tables of the log and of the rules: SQL may not write the log,
 *		and a change of the rules is announced.
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

/* Whether the engine's state has a row: this database is, or was, the log's home. */
static bool
has_home(void)
{
	bool found = false;

	catalog_for_each_row(catalog_get(false)->engine_state, mark_found, &found);
	return found;
}

/*
 * Statement trigger on the log and each of its leaves, and against the deletion
 * of event types.  A dump is restored into
 * a fresh extension by plain INSERT or COPY, before any eda.configure() has made
 * the database the log's home; from then on there is no writing by SQL.
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
	        errdetail("The log of events is append-only, and refers to its event types for ever."),
	        errhint("Use eda.publish(), eda.cancel(), eda.redrive() and the like."));
}

/*
 * Statement trigger on eda.event_type and eda.segment: have every session read the table
 * again (a change of rows sends no relation cache message by itself), and the engine too.
 */
Datum
eda_config_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("not called as a trigger"));

	CacheInvalidateRelcacheByRelid(RelationGetRelid(((TriggerData *) fcinfo->context)->tg_relation));
	SPI_connect();
	if (SPI_execute("UPDATE eda.config SET version = version OPERATOR(pg_catalog.+) 1", false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not count eda.config up");
	SPI_finish();
	wakeup_at_commit();
	return PointerGetDatum(NULL);
}
