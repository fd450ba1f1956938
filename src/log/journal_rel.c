/*
 * journal_rel.c
 *		A table of the log with its indexes, opened for direct access.
 *
 * Going past the executor has duties: every index that is ready gets its entry,
 * with its predicate evaluated, and follows DDL (journal_shape.c); nothing here
 * keeps a BulkInsertState, whose ring of buffers would evict the pages that the
 * engine reads next.
 *
 * An index is opened and locked when the first row needs an entry in it, which
 * most rows do not in most of the partial ones.  The lock on the table, taken
 * before, is what keeps an index from being dropped, built or rebuilt meanwhile.
 * The index's own lock is against what locks nothing else, ALTER INDEX ... SET
 * TABLESPACE: that has moved the index when we get the lock, or waits for us.
 *
 * A row that lost the race for its primary key is gone at once if it was inserted
 * alone (speculatively).  One of many is deleted by the transaction that wrote
 * it; until that ends, others see it as "being inserted".  journal_rel_look()
 * knows it by its xmax and passes over it; the unique index does not, so whoever
 * loses to it has to wait after all: journal_rel_lost_row().
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
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Open a table of the log for inserting and looking up. */
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

/* Close what journal_rel_open() opened; the locks stay until the end of the transaction. */
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

/* Open an index, unless it is. */
static Relation
need_index(JournalRel *jrel, int i)
{
	if (!jrel->index[i].rel)
	{
		MemoryContext context = GetMemoryChunkContext(jrel);
		IndexInfo *info = MemoryContextAlloc(context, sizeof(IndexInfo));

		/* A copy, because an access method may keep in it what lasts as long as the index is open. */
		*info = *jrel->shape->info[i];
		info->ii_Context = context;
		jrel->index[i].info = info;
		jrel->index[i].rel = index_open(jrel->shape->index[i], jrel->lock);
	}
	return jrel->index[i].rel;
}

/* Which indexes each row belongs into, row by row; they are open then. */
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
				need_index(jrel, i);
		}
		ResetPerTupleExprContext(shape->estate);
	}
	return wanted;
}

/* Enter one row into one index; false if the row lost its unique key to another. */
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
 * Whether an index that keeps one summary for many blocks (BRIN) has nothing to
 * learn from a row: the one before, just entered, was in the same block with the
 * same value.  Both were in the table by then, so a summary made anew since has
 * seen them.
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

/* Enter a row into its indexes but the primary key; before is the row that this was last done for, if any. */
static void
insert_other_entries(JournalRel *jrel, TupleTableSlot *before, TupleTableSlot *slot, const bool *wanted)
{
	for (int i = 1; i < jrel->shape->nindexes; i++)
		if (wanted[i] && !is_summarized(jrel, i, before, slot))
			insert_entry(jrel, i, slot, jrel->index[i].info->ii_Unique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO);
}

/* Insert one row as INSERT ... ON CONFLICT does; false if its key is taken, and then it is gone for everybody at once. */
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

/* Insert many rows; those whose key is taken are deleted again, and leave a dead tuple. */
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
 * Insert rows, in the order given.  lost[i] tells that row i found its primary
 * key taken, by whatever transaction, and is gone again; nothing here waits for
 * one.  Without lost, a key that is taken is an error.
 */
void
journal_rel_insert(JournalRel *jrel, TupleTableSlot **slots, int n, bool *lost)
{
	/* Before the first write: the lock on an index may have to be waited for. */
	bool *wanted = choose_indexes(jrel, slots, n);

	if (n == 1 && lost)
		lost[0] = !insert_speculatively(jrel, slots[0], wanted);
	else
		insert_together(jrel, slots, n, wanted, lost);
	CommandCounterIncrement();
	pfree(wanted);
}

/* Whether the transaction that is inserting this row has deleted it again. */
static bool
is_lost_row(TupleTableSlot *slot)
{
	HeapTuple tuple = ((BufferHeapTupleTableSlot *) slot)->base.tuple;

	return (tuple->t_data->t_infomask & HEAP_XMAX_INVALID) == 0 &&
	       HeapTupleHeaderGetRawXmax(tuple->t_data) == HeapTupleHeaderGetRawXmin(tuple->t_data);
}

static void
start_scan(JournalRel *jrel, ScanKey keys, int nkeys)
{
	if (!jrel->scan)
	{
		jrel->found = table_slot_create(jrel->rel, NULL);
		InitDirtySnapshot(jrel->dirty);
		jrel->scan = index_beginscan_compat(jrel->rel, need_index(jrel, 0), &jrel->dirty, nkeys);
	}
	index_rescan(jrel->scan, keys, nkeys, NULL, 0);
}

/*
 * The first row by primary key in a direction, committed or our own, into
 * jrel->found; or the transaction in progress that wrote it, which
 * journal_rel_wait() waits for.
 */
JournalLook
journal_rel_look(JournalRel *jrel, ScanKey keys, int nkeys, ScanDirection direction)
{
	start_scan(jrel, keys, nkeys);
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
 * For a row that lost although journal_rel_look() sees nothing in its way: the
 * index also counts the lost rows of others, for as long as their transactions
 * run.  Whether the last row by primary key is one of those; it is busy then.
 */
bool
journal_rel_lost_row(JournalRel *jrel, ScanKey keys, int nkeys)
{
	start_scan(jrel, keys, nkeys);
	if (!index_getnext_slot(jrel->scan, BackwardScanDirection, jrel->found))
		return false;
	jrel->busy_with = jrel->dirty.xmin;
	return TransactionIdIsValid(jrel->dirty.xmin);
}

/* Wait for the transaction that the last look found busy; a speculative insertion takes a moment only. */
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

/* Whether a detail is that of a failed attempt.  One stored out of line has a stack trace, and is not fetched for this. */
static bool
has_error(Datum detail)
{
	JsonbValue buffer;

	return VARATT_IS_EXTERNAL(DatumGetPointer(detail)) ||
	       getKeyJsonValueFromContainer(&DatumGetJsonbP(detail)->root, "error", strlen("error"), &buffer) != NULL;
}

/* A row of eda.transition; detail only if the whole is wanted.  Strings are copied. */
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

/* A row of eda.event, copied; headers and payload, which may be large, only if the whole is wanted. */
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

/* An empty slot of the table; all columns are null. */
static TupleTableSlot *
empty_slot(JournalRel *jrel)
{
	TupleTableSlot *slot = MakeTupleTableSlot_compat(jrel->desc, &TTSOpsVirtual);

	memset(slot->tts_isnull, true, slot->tts_tupleDescriptor->natts);
	return slot;
}

static void
put(TupleTableSlot *slot, int column, Datum value)
{
	slot->tts_values[column] = value;
	slot->tts_isnull[column] = false;
}

static void
put_text(TupleTableSlot *slot, int column, const char *value)
{
	if (value)
		put(slot, column, CStringGetTextDatum(value));
}

static void
put_time(TupleTableSlot *slot, int column, TimestampTz value)
{
	if (value != EDA_NEVER)
		put(slot, column, TimestampTzGetDatum(value));
}

/* A transition as a row to insert; it points into *t. */
TupleTableSlot *
journal_transition_slot(JournalRel *jrel, const Transition *t)
{
	const EdaCatalog *c = catalog_get(false);
	TupleTableSlot *slot = empty_slot(jrel);

	put(slot, T_EVENT_ID, UUIDPGetDatum(&t->event_id));
	put(slot, T_AT, TimestampTzGetDatum(t->at));
	put(slot, T_XID, Int64GetDatum((int64) t->xid));
	put(slot, T_VERSION, Int32GetDatum(t->version));
	put(slot, T_TYPE, Int32GetDatum(t->type));
	put(slot, T_STATE, ObjectIdGetDatum(c->state[t->state]));
	put(slot, T_ATTEMPT, Int32GetDatum(t->attempt));
	put(slot, T_ATTEMPT_BASE, Int32GetDatum(t->attempt_base));
	put(slot, T_RETURNS, Int16GetDatum(t->returns));
	put(slot, T_SEGMENT, Int16GetDatum(t->leaf));
	if (t->prev_state != EDA_NONE)
		put(slot, T_PREV_STATE, ObjectIdGetDatum(c->state[t->prev_state]));
	if (t->token != 0)
		put(slot, T_TOKEN, Int32GetDatum(t->token));
	put_time(slot, T_WAKE_AT, t->wake_at);
	put_time(slot, T_EXPIRES_AT, t->expires_at);
	put_text(slot, T_SUSPENDED_BY, lifecycle_suspended_by_name(t->suspended_by));
	put_text(slot, T_WORKER, t->worker);
	if (t->detail)
		put(slot, T_DETAIL, JsonbPGetDatum(t->detail));
	return ExecStoreVirtualTuple(slot);
}

/* An event as a row to insert; it points into *e. */
TupleTableSlot *
journal_event_slot(JournalRel *jrel, const Event *e)
{
	TupleTableSlot *slot = empty_slot(jrel);

	put(slot, E_ID, UUIDPGetDatum(&e->id));
	put(slot, E_CREATED_AT, TimestampTzGetDatum(e->created_at));
	put(slot, E_SEGMENT, Int16GetDatum(e->leaf));
	put_text(slot, E_EVENT_TYPE, e->event_type);
	put_text(slot, E_FLOW_TYPE, e->flow_type);
	put_text(slot, E_FLOW_ID, e->flow_id);
	put_time(slot, E_EXPIRES_AT, e->expires_at);
	if (e->has_parent)
		put(slot, E_PARENT_ID, UUIDPGetDatum(&e->parent_id));
	put_text(slot, E_CORRELATION_ID, e->correlation_id);
	put_text(slot, E_ON_FAIL, e->on_fail_event_type);
	if (e->headers)
		put(slot, E_HEADERS, JsonbPGetDatum(e->headers));
	put(slot, E_PAYLOAD, JsonbPGetDatum(e->payload));
	return ExecStoreVirtualTuple(slot);
}

/*
 * For the engine, which never waits: lock every leaf in use for writing.  False
 * if one is locked against us; locks that were taken go with the transaction.
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
