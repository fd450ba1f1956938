/*
 * housekeeping.c
 *		What the engine does every ten seconds: delete old idempotency keys, and open the next
 *		leaf.
 */
#include "engine/engine.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/snapmgr.h"

#define KEYS_A_TURN 1000 /* expired idempotency keys that one statement deletes */
#define MAX_TURNS 10     /* such DELETE statements in one run */

static void
delete_old_keys(void)
{
	Datum values[] = {TimestampTzGetDatum(engine.now)};
	Oid types[] = {TIMESTAMPTZOID};
	int turns = 0;

	do
		SPI_execute_with_args("DELETE FROM eda.idempotency WHERE ctid = ANY (ARRAY("
		                      "SELECT ctid FROM eda.idempotency WHERE expires_at < $1 LIMIT " CppAsString2(
								  KEYS_A_TURN) " FOR UPDATE SKIP LOCKED))",
		                      1, types, values, NULL, false, 0);
	while (SPI_processed == KEYS_A_TURN && ++turns < MAX_TURNS);
}

/*
 * Open the next free leaf.  The boundary between it and the leaf that is open now lies a minute
 * ahead, so that every session knows it before there can be an event id beyond it.
 *
 * A change of eda.segment also updates the row of eda.config.  Lock that row first: if a client
 * has it locked, leave the change to a later run, because the engine waits for no client.
 */
static void
open_next_leaf(void)
{
	Datum values[] = {TimestampTzGetDatum(engine.now + USECS_PER_MINUTE)};
	Oid types[] = {TIMESTAMPTZOID};

	SPI_execute("SELECT FROM eda.config FOR UPDATE SKIP LOCKED", false, 0);
	if (SPI_processed == 0)
		return;
	SPI_execute_with_args("UPDATE eda.segment SET ends_at = $1 WHERE ends_at = 'infinity'", 1, types, values, NULL,
	                      false, 0);
	SPI_execute_with_args("INSERT INTO eda.segment (segment, starts_at) "
	                      "SELECT pg_catalog.min(n), $1 FROM pg_catalog.generate_series(1, " CppAsString2(
							  EDA_LEAVES) " - 1) n "
	                                      "WHERE n NOT IN (SELECT segment FROM eda.segment)",
	                      1, types, values, NULL, false, 0);
}

/*
 * Delete old idempotency keys, and open the next leaf if the open one is older than
 * eda.segment_interval.  Outside any transaction.
 */
void
housekeeping_run(void)
{
	xact_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (xact_lock_log())
	{
		SPI_connect();
		delete_old_keys();
		if (segment_is_old(engine.now - (int64) eda_segment_interval * USECS_PER_SEC))
			open_next_leaf();
		SPI_finish();
	}
	PopActiveSnapshot();
	xact_commit();
}
