/*
 * tail.c
 *		Read transitions in the order in which they became visible.
 *
 * "New since the last tick" means visible in snapshot B and not in A.  A plain
 * "id > last" loses rows: a low id can commit after a high one.  Waiting for the
 * oldest running transaction is safe but stalls behind any idle session.  So the
 * question is which transactions have ended between A and B: those on A's list
 * of running ones that are not on B's, and those that began since and are not on
 * B's.  What is still running in B is for the next tick.
 *
 * Where their rows lie, writers tell before they commit (news.c); that is taken
 * after B, so nothing that B sees is missing, and kept until its transaction has
 * ended.  This holds for the transactions from table_before on.  Those with lower
 * xids may have told another engine, or nobody, or there was no room for it, or
 * the leaf was rewritten since; the rows of these are searched for in the table, in
 * the blocks where they can be ("unread": all at the engine's start; where there
 * was no room, those that the omitted news were about).  That is a query when one of
 * them ends.  When all have ended, nothing is unread.
 *
 * Each way has its own transactions, so no row is seen twice: when table_before
 * is set, it is the next xid, so all of B is below, and what was told by it is dropped.
 *
 * The xid of a transition is that of its top-level transaction; a restored row
 * carries 0 and is never new.  The snapshot is taken before the tick has an xid
 * of its own, because a snapshot does not list its own transaction.
 */
#include "engine/engine.h"

#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#define TABLE_PORTION 1000 /* rows fetched at a time */

typedef struct TailLeaf
{
	Relation rel; /* NULL: not opened yet */
	BlockNumber nblocks;
	TupleTableSlot *slot;
} TailLeaf;

/* What one tick reads. */
typedef struct TailReading
{
	Snapshot snapshot;
	const TailSnapshot *upto; /* the same */
	TailSee see;              /* called for each row */
	Buffer buffer;
	TailLeaf leaf[EDA_LEAVES];
	NewsRange left[EDA_LEAVES]; /* what this tick leaves to the table */
} TailReading;

static NewsItem *pending = NULL; /* told, and not seen yet */
static int npending = 0;
static int max_pending = 0;
static uint64 table_before;
static NewsRange unread[EDA_LEAVES]; /* where in the table */
static MemoryContext row_context;

/* A 32-bit xid as of now: it cannot lie in the future. */
static uint64
widen(TransactionId xid, FullTransactionId next)
{
	uint32 epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return U64FromFullTransactionId(FullTransactionIdFromEpochAndXid(epoch, xid));
}

static int
compare_xids(const void *a, const void *b)
{
	uint64 x = *(const uint64 *) a;
	uint64 y = *(const uint64 *) b;

	return (x > y) - (x < y);
}

static bool
is_running(const TailSnapshot *s, uint64 xid)
{
	return s->nxip > 0 && bsearch(&xid, s->xip, s->nxip, sizeof(uint64), compare_xids) != NULL;
}

static void
copy_snapshot(Snapshot from, TailSnapshot *to)
{
	FullTransactionId next = ReadNextFullTransactionId();

	to->xmin = widen(from->xmin, next);
	to->xmax = widen(from->xmax, next);
	to->nxip = from->xcnt;
	to->xip = palloc(sizeof(uint64) * Max(to->nxip, 1));
	for (int i = 0; i < to->nxip; i++)
		to->xip[i] = widen(from->xip[i], next);
	qsort(to->xip, to->nxip, sizeof(uint64), compare_xids);
}

/* Whether a transaction had ended when the snapshot was taken. */
static bool
has_ended(const TailSnapshot *s, uint64 xid)
{
	return xid < s->xmax && !is_running(s, xid);
}

/* A leaf, opened and locked: its file stays, and nothing is cut off, until the end of the transaction. */
static TailLeaf *
open_leaf(TailReading *reading, int number)
{
	MemoryContext caller = CurrentMemoryContext; /* may be SPI's, which does not last */
	TailLeaf *leaf = &reading->leaf[number];

	if (leaf->rel == NULL)
	{
		leaf->rel = table_open(catalog_get(false)->leaf[JOURNAL_TRANSITION][number], AccessShareLock);
		leaf->nblocks = RelationGetNumberOfBlocks(leaf->rel);
		MemoryContextSwitchTo(engine.tick);
		leaf->slot = table_slot_create(leaf->rel, NULL);
		MemoryContextSwitchTo(caller);
	}
	return leaf;
}

static void
close_leaves(TailReading *reading)
{
	for (int i = 0; i < EDA_LEAVES; i++)
		if (reading->leaf[i].rel)
		{
			ExecDropSingleTupleTableSlot(reading->leaf[i].slot);
			table_close(reading->leaf[i].rel, NoLock);
		}
	if (BufferIsValid(reading->buffer))
		ReleaseBuffer(reading->buffer);
}

/* Hand the row in a slot to the caller of tail_read(); with an xid, only if that transaction wrote it. */
static void
hand_over_row(TailReading *reading, TupleTableSlot *slot, int leaf, uint64 xid)
{
	MemoryContext caller = MemoryContextSwitchTo(row_context);
	Transition t;

	CHECK_FOR_INTERRUPTS();
	journal_read_transition(slot, &t, false);
	if (xid == 0 || t.xid == xid)
		reading->see(&t, leaf);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(row_context);
}

/* ------------------------------------------------------------------------
 * What writers have told
 * ------------------------------------------------------------------------ */

/* From here on, what has begun already is for the table. */
static void
leave_earlier_to_table(void)
{
	table_before = U64FromFullTransactionId(ReadNextFullTransactionId());
}

/* Take what has been told since the last tick; what there was no room for is left to the table. */
static void
take_news(NewsRange left[EDA_LEAVES])
{
	NewsRange omitted[EDA_LEAVES];
	bool is_full;

	if (max_pending < npending + NEWS_SIZE)
	{
		max_pending = npending + 2 * NEWS_SIZE;
		pending = pending == NULL ? MemoryContextAllocHuge(engine.context, sizeof(NewsItem) * max_pending)
		                          : repalloc_huge(pending, sizeof(NewsItem) * max_pending);
	}
	npending += news_take(engine.area, pending + npending, &is_full, omitted);
	if (!is_full)
		return;
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		if (omitted[leaf].end > 0)
			news_widen(&left[leaf], omitted[leaf].file, omitted[leaf].begin, omitted[leaf].end);
	leave_earlier_to_table();
}

/* If a leaf was rewritten after something in it was told, that lies elsewhere now. */
static void
check_files(TailReading *reading)
{
	bool moved = false;

	for (int i = 0; i < npending; i++)
	{
		const NewsItem *item = &pending[i];

		if (item->xid >= table_before && has_ended(reading->upto, item->xid) &&
		    open_leaf(reading, item->leaf)->rel->rd_rel->relfilenode != item->file)
		{
			reading->left[item->leaf] = NEWS_EVERYWHERE;
			moved = true;
		}
	}
	if (moved)
		leave_earlier_to_table();
}

/* Leave to the table what is its own. */
static void
drop_old_news(TailReading *reading)
{
	int kept = 0;

	for (int i = 0; i < npending; i++)
	{
		const NewsItem *item = &pending[i];

		if (item->xid < table_before)
			news_widen(&reading->left[item->leaf], item->file, item->block, item->block + 1);
		else
			pending[kept++] = *item;
	}
	npending = kept;
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		if (reading->left[leaf].end > 0)
			news_widen(&unread[leaf], reading->left[leaf].file, reading->left[leaf].begin, reading->left[leaf].end);
}

/*
 * The table has been read.  What earlier ticks left to it was of transactions below the
 * mark of then: when these have ended, it is done.  So it does not add up where
 * each tick finds more than there is room for.
 */
static void
forget_read(const TailReading *reading, uint64 mark)
{
	if (reading->upto->xmin >= table_before)
		memset(unread, 0, sizeof(unread));
	else if (reading->upto->xmin >= mark)
		memcpy(unread, reading->left, sizeof(unread));
}

/* See the rows of an item, as far as they are visible. */
static void
read_item(TailReading *reading, const NewsItem *item)
{
	TailLeaf *leaf = open_leaf(reading, item->leaf);
	HeapTupleData rows[MaxHeapTuplesPerPage];
	OffsetNumber last;
	Page page;
	int n = 0;

	/* A transaction failed after it told, and vacuum has cut off the end. */
	if (item->block >= leaf->nblocks)
		return;
	reading->buffer = ReleaseAndReadBuffer(reading->buffer, leaf->rel, item->block);
	LockBuffer(reading->buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(reading->buffer);
	last = Min(item->last, PageGetMaxOffsetNumber(page));
	for (OffsetNumber offset = item->first; offset <= last; offset++)
	{
		ItemId line = PageGetItemId(page, offset);
		HeapTuple row = &rows[n];

		if (!ItemIdIsNormal(line))
			continue;
		row->t_data = (HeapTupleHeader) PageGetItem(page, line);
		row->t_len = ItemIdGetLength(line);
		row->t_tableOid = RelationGetRelid(leaf->rel);
		ItemPointerSet(&row->t_self, item->block, offset);
		n += HeapTupleSatisfiesVisibility(row, reading->snapshot, reading->buffer);
	}
	LockBuffer(reading->buffer, BUFFER_LOCK_UNLOCK);
	for (int i = 0; i < n; i++)
		hand_over_row(reading, ExecStoreBufferHeapTuple(&rows[i], leaf->slot, reading->buffer), item->leaf, item->xid);
	ExecClearTuple(leaf->slot);
}

/* See what has been told by transactions that have ended, and keep the rest. */
static void
read_news(TailReading *reading)
{
	int kept = 0;

	for (int i = 0; i < npending; i++)
	{
		if (has_ended(reading->upto, pending[i].xid))
			read_item(reading, &pending[i]);
		else
			pending[kept++] = pending[i];
	}
	npending = kept;
}

/* ------------------------------------------------------------------------
 * What is found in the table
 * ------------------------------------------------------------------------ */

/* See the rows of a leaf by the transactions $1, and from $2 to before $3. */
static void
read_leaf(TailReading *reading, int number, Datum *values)
{
	static Oid types[] = {INT8ARRAYOID, INT8OID, INT8OID};
	TailLeaf *leaf = open_leaf(reading, number);
	NewsRange *range = &unread[number];
	StringInfoData sql;
	TupleTableSlot *slot;
	Portal cursor;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT * FROM eda.transition_%d WHERE (xid = ANY ($1) OR xid >= $2 AND xid < $3)", number);
	if (range->file == leaf->rel->rd_rel->relfilenode)
		appendStringInfo(&sql, " AND ctid >= '(%u,0)' AND ctid < '(%u,0)'", range->begin, range->end);
	cursor = SPI_cursor_open_with_args(NULL, sql.data, lengthof(types), types, values, NULL, true, 0);
	slot = MakeSingleTupleTableSlot(RelationGetDescr(leaf->rel), &TTSOpsHeapTuple);
	do
	{
		SPI_cursor_fetch(cursor, true, TABLE_PORTION);
		for (uint64 i = 0; i < SPI_processed; i++)
			hand_over_row(reading, ExecStoreHeapTuple(SPI_tuptable->vals[i], slot, false), number, 0);
		ExecClearTuple(slot);
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed > 0);
	ExecDropSingleTupleTableSlot(slot);
	SPI_cursor_close(cursor);
}

/* See what is not told as news, and has ended between the last tick and this one. */
static void
read_table(TailReading *reading)
{
	const TailSnapshot *a = &engine.seen;
	uint64 before = Min(reading->upto->xmax, table_before);
	Datum *ended = palloc(sizeof(Datum) * Max(a->nxip, 1));
	Datum values[3];
	int leaves[EDA_LEAVES];
	int nleaves = segment_leaves_of(NULL, leaves);
	int n = 0;

	for (int i = 0; i < a->nxip; i++)
		if (a->xip[i] < table_before && has_ended(reading->upto, a->xip[i]))
			ended[n++] = Int64GetDatum((int64) a->xip[i]);
	if (n == 0 && a->xmax >= before)
		return;
	values[0] = PointerGetDatum(construct_array(ended, n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	values[1] = Int64GetDatum((int64) a->xmax);
	values[2] = Int64GetDatum((int64) before);
	SPI_connect();
	for (int l = 0; l < nleaves; l++)
		if (unread[leaves[l]].end > 0)
			read_leaf(reading, leaves[l], values);
	SPI_finish();
}

/* ------------------------------------------------------------------------
 * For the engine
 * ------------------------------------------------------------------------ */

/* Once, when this process has become the database's engine: what is told before, and who began before, is for the table. */
void
tail_init(void)
{
	row_context = AllocSetContextCreate(engine.context, "eda tail", ALLOCSET_SMALL_SIZES);
	take_news(unread);
	npending = 0;
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		unread[leaf] = NEWS_EVERYWHERE;
	leave_earlier_to_table();
}

/* Hand each transition that snapshot sees, and the last one did not, to see(). */
void
tail_read(Snapshot snapshot, TailSee see)
{
	TailSnapshot *a = &engine.seen;
	TailSnapshot b;
	TailReading reading = {snapshot, &b, see, InvalidBuffer};
	uint64 mark = table_before;

	copy_snapshot(snapshot, &b);
	take_news(reading.left); /* after the snapshot was taken */
	check_files(&reading);
	drop_old_news(&reading);
	read_table(&reading);
	read_news(&reading);
	close_leaves(&reading);
	forget_read(&reading, mark);

	/* From here on, B is what has been seen. */
	if (a->xip)
		pfree(a->xip);
	*a = b;
	a->xip = MemoryContextAlloc(engine.context, sizeof(uint64) * Max(b.nxip, 1));
	memcpy(a->xip, b.xip, sizeof(uint64) * b.nxip);
}

/* What has been seen, in the text form of pg_snapshot. */
char *
tail_snapshot_to_text(void)
{
	StringInfoData s;

	initStringInfo(&s);
	appendStringInfo(&s, UINT64_FORMAT ":" UINT64_FORMAT ":", engine.seen.xmin, engine.seen.xmax);
	for (int i = 0; i < engine.seen.nxip; i++)
		appendStringInfo(&s, "%s" UINT64_FORMAT, i > 0 ? "," : "", engine.seen.xip[i]);
	return s.data;
}

/* Go on from a saved snapshot; NULL: from the beginning of the log. */
void
tail_snapshot_from_text(const char *text)
{
	TailSnapshot s = {FirstNormalTransactionId, FirstNormalTransactionId, 0, NULL};

	s.xip = MemoryContextAlloc(engine.context, sizeof(uint64) * (text ? strlen(text) / 2 + 1 : 1));
	if (text)
	{
		char *end;

		s.xmin = strtou64(text, &end, 10);
		s.xmax = strtou64(end + 1, &end, 10);
		while (*end && *(end + 1))
			s.xip[s.nxip++] = strtou64(end + 1, &end, 10);
	}
	engine.seen = s;
}
