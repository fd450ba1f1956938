/*
 * idempotency.c
 *		The keys under which events were published.
 *
 * The primary key (scope, key_hash) of eda.idempotency decides which of several transactions
 * with the same key publishes its event.  An expired key is deleted by the next publisher that
 * uses it, or by the engine.
 */
#include "log/log.h"

#include "access/skey.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_collation.h"
#include "executor/executor.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"

/*
 * Insert a key, which expires eda.idempotency_ttl from now; false if another transaction was
 * faster.
 */
static bool
insert_key(JournalRel *jrel, Datum scope, const pg_uuid_t *key_hash, const pg_uuid_t *event_id)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(jrel->desc, &TTSOpsVirtual);
	bool lost;

	memset(slot->tts_isnull, true, jrel->desc->natts);
	memset(slot->tts_isnull, false, K_COUNT);
	slot->tts_values[K_SCOPE] = scope;
	slot->tts_values[K_KEY_HASH] = UUIDPGetDatum(key_hash);
	slot->tts_values[K_EVENT_ID] = UUIDPGetDatum(event_id);
	slot->tts_values[K_EXPIRES_AT] = TimestampTzGetDatum(clock_now() + (int64) eda_idempotency_ttl * USECS_PER_SEC);
	ExecStoreVirtualTuple(slot);
	journal_rel_insert(jrel, &slot, 1, &lost);
	ExecDropSingleTupleTableSlot(slot);
	return !lost;
}

/* Delete the expired key in jrel->found, unless another transaction is faster. */
static void
delete_key(JournalRel *jrel)
{
	TM_FailureData failure;

	if (table_tuple_delete_compat(jrel->rel, &jrel->found->tts_tid, GetCurrentCommandId(true), &failure) == TM_Ok)
		CommandCounterIncrement();
}

/*
 * Claim an idempotency key for an event that this transaction is about to publish.  scope
 * keeps the keys of different purposes apart; key_hash is the beginning of the key's SHA-256.
 * Returns false if the key is taken; *first is then set to the event that has it.  Waits for
 * an open transaction that is claiming the same key.
 */
bool
idempotency_claim(const char *scope, const pg_uuid_t *key_hash, const pg_uuid_t *event_id, pg_uuid_t *first)
{
	JournalRel *jrel = journal_rel_open(catalog_get(false)->idempotency, RowExclusiveLock);
	Datum scope_datum = CStringGetTextDatum(scope);
	ScanKeyData keys[2];
	bool claimed = false;

	ScanKeyEntryInitialize(&keys[0], 0, 1, BTEqualStrategyNumber, InvalidOid, C_COLLATION_OID, F_TEXTEQ, scope_datum);
	ScanKeyInit(&keys[1], 2, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(key_hash));
	while (!claimed)
	{
		JournalLook found = journal_rel_look(jrel, keys, 2, ForwardScanDirection);

		if (found == LOOK_BUSY)
			journal_rel_wait(jrel);
		else if (found == LOOK_NOTHING)
			claimed = insert_key(jrel, scope_datum, key_hash, event_id);
		else
		{
			slot_getallattrs(jrel->found);
			if (DatumGetTimestampTz(jrel->found->tts_values[K_EXPIRES_AT]) <= clock_now())
				delete_key(jrel);
			else
			{
				*first = *DatumGetUUIDP(jrel->found->tts_values[K_EVENT_ID]);
				break;
			}
		}
	}
	journal_rel_close(jrel);
	return claimed;
}
