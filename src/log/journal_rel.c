/*
 * journal_rel.c
 *		A table of the log with its indexes, opened for direct access: rows go through the
 *		access methods of table and indexes, without the executor.
 *
 * What the executor does otherwise has to be done here: every index that is ready for inserts
 * gets an entry for each row that its predicate accepts, and DDL on the table is followed
 * (journal_shape.c).  No BulkInsertState is used: its ring of buffers would evict the pages
 * that the engine reads next.
 *
 * An index is opened and locked when the first row needs an entry in it.  Most indexes are
 * partial, and most rows need no entry in most of them.  The lock on the table, which is taken
 * before, prevents others from dropping, building or rebuilding an index meanwhile.  The lock
 * on the index itself is needed because of ALTER INDEX ... SET TABLESPACE, which locks nothing
 * else: either it has moved the index by the time we get the lock, or it waits for us.
 *
 * A row that loses the race for its primary key vanishes at once if it was inserted alone
 * (speculatively).  If it was inserted together with others, its own transaction deletes it,
 * and until that transaction ends, other sessions see the row as being inserted.
 * journal_rel_look() recognizes such a row by its xmax and skips it.  The unique index does
 * not, so a writer that loses to such a row has to wait for its transaction after all:
 * journal_rel_lost_row().
 */
#include "log/log.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/relscan.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Fill in a scan key for rows whose column, counted from 1, is this id. */
void
journal_rel_uuid_key(ScanKey key, AttrNumber column, const pg_uuid_t *id)
{
	ScanKeyInit(key, column, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
}

/*
 * Open a table of the log for inserts and looks, and lock it.  Raises ED011 if somebody has
 * altered the table in a way that direct access would ignore.
 */
JournalRel *
journal_rel_open(Oid relid, LOCKMODE lock)
{
	Relation rel = table_open(relid, lock);
	JournalShape *shape = journal_shape_find(rel, lock);
	JournalRel *jrel = palloc0(offsetof(JournalRel, index) + sizeof(jrel->index[0]) * shape->nindexes);

	jrel->rel = rel;
	jrel->lock = lock;
	jrel->shape = shape;
	jrel->desc = shape->desc;
	return jrel;
}

/* Close a table and its indexes; the locks stay until the end of the transaction. */
void
journal_rel_close(JournalRel *jrel)
{
	if (jrel->scan)
	{
		index_endscan(jrel->scan);
		ExecDropSingleTupleTableSlot(jrel->found);
	}
	for (int i = 0; i < jrel->shape->nindexes; i++)
	{
		if (!jrel->index[i].rel)
			continue;
		index_insert_cleanup_compat(jrel->index[i].rel, jrel->index[i].info);
		index_close(jrel->index[i].rel, NoLock);
	}
	table_close(jrel->rel, NoLock);
	pfree(jrel);
}

/* Index i of the table, opened if it is not open yet. */
static Relation
open_index(JournalRel *jrel, int i)
{
	if (!jrel->index[i].rel)
	{
		MemoryContext context = GetMemoryChunkContext(jrel);
		IndexInfo *info = MemoryContextAlloc(context, sizeof(IndexInfo));

		/* A copy, because the access method may keep state in it as long as the index is open. */
		*info = *jrel->shape->info[i];
		info->ii_Context = context;
		jrel->index[i].info = info;
		jrel->index[i].rel = index_open(jrel->shape->index[i], jrel->lock);
	}
	return jrel->index[i].rel;
}

/*
 * Find out which rows need an entry in which indexes, and open these indexes.  Returns an
 * array of flags: for each row, one for each index of the shape.
 */
static bool *
choose_indexes(JournalRel *jrel, TupleTableSlot **slots, int n)
{
	JournalShape *shape = jrel->shape;
	ExprContext *econtext = GetPerTupleExprContext(shape->estate);
	bool *wanted = palloc(sizeof(bool) * n * shape->nindexes);
	bool *next = wanted;

	for (int row = 0; row < n; row++)
	{
		CHECK_FOR_INTERRUPTS();
		econtext->ecxt_scantuple = slots[row];
		for (int i = 0; i < shape->nindexes; i++)
		{
			IndexInfo *info = shape->info[i];

			*next =
				info->ii_ReadyForInserts && (info->ii_Predicate == NIL || ExecQual(info->ii_PredicateState, econtext));
			if (*next++)
				open_index(jrel, i);
		}
		ResetPerTupleExprContext(shape->estate);
	}
	return wanted;
}

/*
 * Enter a row into index i.  False if the index has another row with the same key and check is
 * UNIQUE_CHECK_PARTIAL; with UNIQUE_CHECK_YES that is an error (23505).
 */
static bool
insert_entry(JournalRel *jrel, int i, TupleTableSlot *slot, IndexUniqueCheck check)
{
	EState *estate = jrel->shape->estate;
	IndexInfo *info = jrel->index[i].info;
	Datum values[INDEX_MAX_KEYS];
	bool isnull[INDEX_MAX_KEYS];

	GetPerTupleExprContext(estate)->ecxt_scantuple = slot;
	FormIndexDatum(info, slot, estate, values, isnull);
	return index_insert(jrel->index[i].rel, values, isnull, &slot->tts_tid, jrel->rel, check, false, info);
}

/*
 * Whether a BRIN index, which keeps one summary for a range of blocks, needs no entry for a
 * row: the row that was entered before it is in the same block and has the same value.  Both
 * rows were in the table before the first of them was entered, so if another session computes
 * a new summary in between, that covers both.
 */
static bool
is_summarized(JournalRel *jrel, int i, TupleTableSlot *before, TupleTableSlot *slot)
{
	IndexInfo *info = jrel->index[i].info;
	int column = info->ii_IndexAttrNumbers[0] - 1;

	return info->ii_Am == BRIN_AM_OID && before && info->ii_NumIndexAttrs == 1 && info->ii_Predicate == NIL &&
	       column >= 0 && TupleDescAttr(jrel->desc, column)->attbyval &&
	       ItemPointerGetBlockNumber(&before->tts_tid) == ItemPointerGetBlockNumber(&slot->tts_tid) &&
	       !before->tts_isnull[column] && !slot->tts_isnull[column] &&
	       before->tts_values[column] == slot->tts_values[column];
}

/*
 * Enter a row into all its indexes except the primary key.  before is the row for which this
 * was done last, or NULL.
 */
static void
insert_other_entries(JournalRel *jrel, TupleTableSlot *before, TupleTableSlot *slot, const bool *wanted)
{
	for (int i = 1; i < jrel->shape->nindexes; i++)
		if (wanted[i] && !is_summarized(jrel, i, before, slot))
			insert_entry(jrel, i, slot, jrel->index[i].info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO);
}

/*
 * Insert one row as INSERT ... ON CONFLICT does.  False if its primary key is taken; the row
 * has vanished for all sessions then.
 */
static bool
insert_speculatively(JournalRel *jrel, TupleTableSlot *slot, const bool *wanted)
{
	TransactionId xid = GetCurrentTransactionId();
	uint32 token = SpeculativeInsertionLockAcquire(xid);
	bool won;

	table_tuple_insert_speculative(jrel->rel, slot, GetCurrentCommandId(true), 0, NULL, token);
	won = insert_entry(jrel, 0, slot, UNIQUE_CHECK_PARTIAL);
	if (won)
		insert_other_entries(jrel, NULL, slot, wanted);
	table_tuple_complete_speculative(jrel->rel, slot, token, won);
	SpeculativeInsertionLockRelease(xid);
	ResetPerTupleExprContext(jrel->shape->estate);
	return won;
}

/*
 * Insert n rows with one call of the table's access method.  A row whose primary key is taken
 * is deleted again and leaves a dead tuple.  lost: as in journal_rel_insert().
 */
static void
insert_together(JournalRel *jrel, TupleTableSlot **slots, int n, const bool *wanted, bool *lost)
{
	TupleTableSlot *before = NULL;
	bool any_lost = false;

	table_multi_insert(jrel->rel, slots, n, GetCurrentCommandId(true), 0, NULL);
	for (int row = 0; row < n; row++, wanted += jrel->shape->nindexes)
	{
		bool won;

		CHECK_FOR_INTERRUPTS();
		won = insert_entry(jrel, 0, slots[row], lost ? UNIQUE_CHECK_PARTIAL : UNIQUE_CHECK_YES);
		if (won)
		{
			insert_other_entries(jrel, before, slots[row], wanted);
			before = slots[row];
		}
		if (lost)
			lost[row] = !won;
		any_lost |= lost && !won;
		ResetPerTupleExprContext(jrel->shape->estate);
	}
	if (any_lost)
		CommandCounterIncrement();
	for (int row = 0; any_lost && row < n; row++)
		if (lost[row])
			simple_heap_delete(jrel->rel, &slots[row]->tts_tid);
}

/*
 * Insert n rows, in the order given.
 *
 * lost is NULL or an array of n flags.  In the array, lost[i] is set to whether row i found its
 * primary key taken, by a row of any transaction, open ones and our own included; row i is
 * gone again then.  Nothing here waits for those transactions.  With NULL, a primary key that
 * is taken is an error (23505).
 */
void
journal_rel_insert(JournalRel *jrel, TupleTableSlot **slots, int n, bool *lost)
{
	/* This comes before the first write, because it may have to wait for the lock on an index. */
	bool *wanted = choose_indexes(jrel, slots, n);

	if (n == 1 && lost)
		lost[0] = !insert_speculatively(jrel, slots[0], wanted);
	else
		insert_together(jrel, slots, n, wanted, lost);
	CommandCounterIncrement();
	pfree(wanted);
}

/*
 * Whether the open transaction that has inserted this row has also deleted it, after it lost its
 * race.
 */
static bool
is_lost_row(TupleTableSlot *slot)
{
	HeapTuple tuple = ((BufferHeapTupleTableSlot *) slot)->base.tuple;

	return (tuple->t_data->t_infomask & HEAP_XMAX_INVALID) == 0 &&
	       HeapTupleHeaderGetRawXmax(tuple->t_data) == HeapTupleHeaderGetRawXmin(tuple->t_data);
}

/* Start a scan of the primary key. */
static void
start_key_scan(JournalRel *jrel, ScanKey keys, int nkeys)
{
	if (!jrel->scan)
	{
		jrel->found = table_slot_create(jrel->rel, NULL);
		InitDirtySnapshot(jrel->dirty);
		jrel->scan = index_beginscan_compat(jrel->rel, open_index(jrel, 0), &jrel->dirty, nkeys);
	}
	index_rescan(jrel->scan, keys, nkeys, NULL, 0);
}

/*
 * Look for the first row by primary key in the given direction, rows of open transactions
 * included, except those that were deleted again.  The row is in jrel->found.  With LOOK_BUSY,
 * jrel->busy_with is the transaction that has inserted it, and journal_rel_wait() waits for that.
 */
JournalLook
journal_rel_look(JournalRel *jrel, ScanKey keys, int nkeys, ScanDirection direction)
{
	start_key_scan(jrel, keys, nkeys);
	while (index_getnext_slot(jrel->scan, direction, jrel->found))
	{
		jrel->busy_with = jrel->dirty.xmin;
		if (!TransactionIdIsValid(jrel->dirty.xmin))
			return LOOK_FOUND;
		if (!is_lost_row(jrel->found))
			return LOOK_BUSY;
	}
	return LOOK_NOTHING;
}

/*
 * For a caller whose insert lost although journal_rel_look() sees no other row with that key:
 * the unique index also counts rows that their own transactions have deleted again, for as
 * long as these transactions are open.  Returns whether the last row by primary key belongs to
 * another, open transaction; if so, jrel->busy_with is that transaction.
 */
bool
journal_rel_lost_row(JournalRel *jrel, ScanKey keys, int nkeys)
{
	start_key_scan(jrel, keys, nkeys);
	if (!index_getnext_slot(jrel->scan, BackwardScanDirection, jrel->found))
		return false;
	jrel->busy_with = jrel->dirty.xmin;
	return TransactionIdIsValid(jrel->dirty.xmin);
}

/*
 * Wait for the transaction jrel->busy_with, which the last look has found, to end.  If it is
 * inserting the row speculatively, wait only for that insertion, which takes a moment.
 */
void
journal_rel_wait(JournalRel *jrel)
{
	if (jrel->dirty.speculativeToken != 0)
		SpeculativeInsertionWait(jrel->busy_with, jrel->dirty.speculativeToken);
	else
		XactLockTableWait(jrel->busy_with, jrel->rel, NULL, XLTW_None);
}

static TimestampTz
time_or_never(TupleTableSlot *slot, int column)
{
	return slot->tts_isnull[column] ? EDA_NEVER : DatumGetTimestampTz(slot->tts_values[column]);
}

/*
 * Whether a transition's detail says that an attempt has failed: it has the key "error".  A
 * detail that is stored out of line is that large because of a stack trace, so it is not
 * fetched to find out.
 */
static bool
has_error(Datum detail)
{
	JsonbValue buffer;

	return VARATT_IS_EXTERNAL(DatumGetPointer(detail)) ||
	       getKeyJsonValueFromContainer(&DatumGetJsonbP(detail)->root, "error", strlen("error"), &buffer) != NULL;
}

/* Read a row of eda.transition and copy it, without its detail unless whole is set. */
void
journal_read_transition(TupleTableSlot *slot, Transition *out, bool whole)
{
	Datum *v = slot->tts_values;
	bool *null = slot->tts_isnull;

	slot_getallattrs(slot);
	out->event_id = *DatumGetUUIDP(v[T_EVENT_ID]);
	out->at = DatumGetTimestampTz(v[T_AT]);
	out->xid = (uint64) DatumGetInt64(v[T_XID]);
	out->version = DatumGetInt32(v[T_VERSION]);
	out->type = DatumGetInt32(v[T_TYPE]);
	out->state = catalog_state(DatumGetObjectId(v[T_STATE]));
	out->attempt = DatumGetInt32(v[T_ATTEMPT]);
	out->attempt_base = DatumGetInt32(v[T_ATTEMPT_BASE]);
	out->returns = DatumGetInt16(v[T_RETURNS]);
	out->leaf = DatumGetInt16(v[T_SEGMENT]);
	out->prev_state = null[T_PREV_STATE] ? EDA_NONE : catalog_state(DatumGetObjectId(v[T_PREV_STATE]));
	out->token = null[T_TOKEN] ? 0 : DatumGetInt32(v[T_TOKEN]);
	out->wake_at = time_or_never(slot, T_WAKE_AT);
	out->expires_at = time_or_never(slot, T_EXPIRES_AT);
	out->suspended_by = EDA_BY_NOBODY;
	if (!null[T_SUSPENDED_BY])
		switch (*VARDATA_ANY(DatumGetPointer(v[T_SUSPENDED_BY])))
		{
			case 't':
				out->suspended_by = EDA_BY_TYPE;
				break;
			case 'w':
				out->suspended_by = EDA_BY_WORKER;
				break;
			default:
				out->suspended_by = EDA_BY_OPERATOR;
		}
	out->worker = null[T_WORKER] ? NULL : TextDatumGetCString(v[T_WORKER]);
	out->detail = !whole || null[T_DETAIL] ? NULL : DatumGetJsonbPCopy(v[T_DETAIL]);
	out->retry = out->prev_state == EDA_BEING_PROCESSED && out->state == EDA_AWAITING && !null[T_DETAIL] &&
	             has_error(v[T_DETAIL]);
}

/*
 * Read a row of eda.event and copy it, without headers and payload, which may be large, unless
 * whole is set.
 */
void
journal_read_event(TupleTableSlot *slot, Event *out, bool whole)
{
	Datum *v = slot->tts_values;
	bool *null = slot->tts_isnull;

	slot_getsomeattrs(slot, whole ? E_COUNT : E_HEADERS);
	out->id = *DatumGetUUIDP(v[E_ID]);
	out->created_at = DatumGetTimestampTz(v[E_CREATED_AT]);
	out->leaf = DatumGetInt16(v[E_SEGMENT]);
	out->event_type = TextDatumGetCString(v[E_EVENT_TYPE]);
	out->flow_type = TextDatumGetCString(v[E_FLOW_TYPE]);
	out->flow_id = TextDatumGetCString(v[E_FLOW_ID]);
	out->expires_at = time_or_never(slot, E_EXPIRES_AT);
	out->has_parent = !null[E_PARENT_ID];
	if (out->has_parent)
		out->parent_id = *DatumGetUUIDP(v[E_PARENT_ID]);
	out->correlation_id = null[E_CORRELATION_ID] ? NULL : TextDatumGetCString(v[E_CORRELATION_ID]);
	out->on_fail_event_type = null[E_ON_FAIL] ? NULL : TextDatumGetCString(v[E_ON_FAIL]);
	out->headers = !whole || null[E_HEADERS] ? NULL : DatumGetJsonbPCopy(v[E_HEADERS]);
	out->payload = whole ? DatumGetJsonbPCopy(v[E_PAYLOAD]) : NULL;
}

/* A slot for a row of the table, with null in all columns. */
static TupleTableSlot *
empty_slot(JournalRel *jrel)
{
	TupleTableSlot *slot = MakeTupleTableSlot_compat(jrel->desc, &TTSOpsVirtual);

	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts);
	return slot;
}

static void
put_datum(TupleTableSlot *slot, int column, Datum value)
{
	slot->tts_values[column] = value;
	slot->tts_isnull[column] = false;
}

static void
put_text(TupleTableSlot *slot, int column, const char *value)
{
	if (value)
		put_datum(slot, column, CStringGetTextDatum(value));
}

static void
put_time(TupleTableSlot *slot, int column, TimestampTz value)
{
	if (value != EDA_NEVER)
		put_datum(slot, column, TimestampTzGetDatum(value));
}

/* A slot with a transition to insert.  The slot points into *t, which must outlive it. */
TupleTableSlot *
journal_transition_slot(JournalRel *jrel, const Transition *t)
{
	const EdaCatalog *c = catalog_get(false);
	TupleTableSlot *slot = empty_slot(jrel);

	put_datum(slot, T_EVENT_ID, UUIDPGetDatum(&t->event_id));
	put_datum(slot, T_AT, TimestampTzGetDatum(t->at));
	put_datum(slot, T_XID, Int64GetDatum((int64) t->xid));
	put_datum(slot, T_VERSION, Int32GetDatum(t->version));
	put_datum(slot, T_TYPE, Int32GetDatum(t->type));
	put_datum(slot, T_STATE, ObjectIdGetDatum(c->state[t->state]));
	put_datum(slot, T_ATTEMPT, Int32GetDatum(t->attempt));
	put_datum(slot, T_ATTEMPT_BASE, Int32GetDatum(t->attempt_base));
	put_datum(slot, T_RETURNS, Int16GetDatum(t->returns));
	put_datum(slot, T_SEGMENT, Int16GetDatum(t->leaf));
	if (t->prev_state != EDA_NONE)
		put_datum(slot, T_PREV_STATE, ObjectIdGetDatum(c->state[t->prev_state]));
	if (t->token != 0)
		put_datum(slot, T_TOKEN, Int32GetDatum(t->token));
	put_time(slot, T_WAKE_AT, t->wake_at);
	put_time(slot, T_EXPIRES_AT, t->expires_at);
	put_text(slot, T_SUSPENDED_BY, lifecycle_suspended_by_name(t->suspended_by));
	put_text(slot, T_WORKER, t->worker);
	if (t->detail)
		put_datum(slot, T_DETAIL, JsonbPGetDatum(t->detail));
	return ExecStoreVirtualTuple(slot);
}

/* A slot with an event to insert.  The slot points into *e, which must outlive it. */
TupleTableSlot *
journal_event_slot(JournalRel *jrel, const Event *e)
{
	TupleTableSlot *slot = empty_slot(jrel);

	put_datum(slot, E_ID, UUIDPGetDatum(&e->id));
	put_datum(slot, E_CREATED_AT, TimestampTzGetDatum(e->created_at));
	put_datum(slot, E_SEGMENT, Int16GetDatum(e->leaf));
	put_text(slot, E_EVENT_TYPE, e->event_type);
	put_text(slot, E_FLOW_TYPE, e->flow_type);
	put_text(slot, E_FLOW_ID, e->flow_id);
	put_time(slot, E_EXPIRES_AT, e->expires_at);
	if (e->has_parent)
		put_datum(slot, E_PARENT_ID, UUIDPGetDatum(&e->parent_id));
	put_text(slot, E_CORRELATION_ID, e->correlation_id);
	put_text(slot, E_ON_FAIL, e->on_fail_event_type);
	if (e->headers)
		put_datum(slot, E_HEADERS, JsonbPGetDatum(e->headers));
	put_datum(slot, E_PAYLOAD, JsonbPGetDatum(e->payload));
	return ExecStoreVirtualTuple(slot);
}

/*
 * Lock all leaves in use for writing, without waiting: for the engine, which never waits.
 * False if a conflicting lock is in the way.  The locks taken until then stay until the end of
 * the transaction.
 */
bool
journal_lock_leaves(void)
{
	const EdaCatalog *c = catalog_get(false);
	int leaves[EDA_LEAVES];
	int n = segment_leaves_of(NULL, leaves);

	for (int i = 0; i < n; i++)
		if (!ConditionalLockRelationOid(c->leaf[JOURNAL_EVENT][leaves[i]], RowExclusiveLock) ||
		    !ConditionalLockRelationOid(c->leaf[JOURNAL_TRANSITION][leaves[i]], RowExclusiveLock))
			return false;
	return true;
}
