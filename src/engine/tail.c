/*
 * tail.c
 *		Read transitions in the order in which they became visible.
 *
 * "New since the last tick" means visible in this tick's snapshot B and not in the last tick's
 * snapshot A.  A plain "id > last" loses rows: a low id can commit after a high one.  Waiting for
 * the oldest running transaction is safe but stalls behind any idle session.  So the tail asks
 * which transactions have ended between A and B: those that run in A and not in B, and those
 * that began after A and do not run in B.  Those that still run in B are left to later ticks.
 *
 * The rows of these transactions are found in one of two ways:
 *
 * news			Before a writer commits, it announces in which blocks its rows are (news.c).  The
 *				tail takes the news after snapshot B, so the news of all that B sees are there.
 *				It keeps those of transactions that have not ended.  This is the way for
 *				transactions from xid table_before on.
 * table		The rows of transactions below table_before are searched for in the table, by a
 *				query when such a transaction has ended.  Their news may have gone to an earlier
 *				engine, or to none, or there was no room for them, or the leaf was rewritten
 *				since.  "unread" says in which blocks such rows can be: at the engine's start in
 *				all of them, after an overflow in those that the omitted news were about.  When
 *				all transactions below table_before have ended, nothing is unread.
 *
 * A transaction is found in only one of the two ways, so no row is read twice.  table_before is
 * always set to the next xid: every transaction that snapshot B sees or lists as running is
 * older, so its rows are read from the table, and its news are discarded.
 *
 * The xid of a transition is that of its top-level transaction.  A restored row has xid 0 and
 * is never new.  The snapshot is taken before the tick's transaction has an xid, because a
 * snapshot does not list its own transaction.
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

#define TABLE_PORTION 1000 /* rows that a query fetches at a time */

/* A leaf of eda.transition, opened for one tick. */
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
	const TailSnapshot *upto; /* the same snapshot */
	TailCallback callback;    /* called for each new row */
	Buffer buffer;            /* the page that was read last */
	TailLeaf leaf[EDA_LEAVES];
	NewsRange added[EDA_LEAVES]; /* the blocks that this tick adds to "unread" */
} TailReading;

static NewsItem *pending = NULL; /* news of rows that have not been read yet */
static int npending = 0;
static int max_pending = 0;
static uint64 table_before;          /* lower xids: their rows are read from the table */
static NewsRange unread[EDA_LEAVES]; /* the blocks where such rows may be */
static MemoryContext row_context;    /* reset after each row */

/* Add the epoch to a 32-bit xid, which is not newer than "next". */
static uint64
widen_xid(TransactionId xid, FullTransactionId next)
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

	to->xmin = widen_xid(from->xmin, next);
	to->xmax = widen_xid(from->xmax, next);
	to->nxip = from->xcnt;
	to->xip = palloc(sizeof(uint64) * Max(to->nxip, 1));
	for (int i = 0; i < to->nxip; i++)
		to->xip[i] = widen_xid(from->xip[i], next);
	qsort(to->xip, to->nxip, sizeof(uint64), compare_xids);
}

/* Whether a transaction had ended when the snapshot was taken. */
static bool
has_ended(const TailSnapshot *s, uint64 xid)
{
	return xid < s->xmax && !is_running(s, xid);
}

/* Open and lock a leaf: until the transaction ends, it can be neither rewritten nor truncated. */
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

/*
 * Read the row in a slot and call the callback of tail_read().  If xid is not 0, only if that
 * transaction has written the row.
 */
static void
read_row(TailReading *reading, TupleTableSlot *slot, int leaf, uint64 xid)
{
	MemoryContext caller = MemoryContextSwitchTo(row_context);
	Transition t;

	CHECK_FOR_INTERRUPTS();
	journal_read_transition(slot, &t, false);
	if (xid == 0 || t.xid == xid)
		reading->callback(&t, leaf);
	MemoryContextSwitchTo(caller);
	MemoryContextReset(row_context);
}

/* ------------------------------------------------------------------------
 * Reading rows by the news of their writers
 * ------------------------------------------------------------------------ */

/* From now on read the rows of all transactions that have begun by now from the table. */
static void
leave_earlier_to_table(void)
{
	table_before = U64FromFullTransactionId(ReadNextFullTransactionId());
}

/*
 * Take the news that writers have announced since the last tick.  If there was no room for all of
 * them, add the blocks of the others to "added".
 */
static void
take_news(NewsRange added[EDA_LEAVES])
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
			news_widen(&added[leaf], omitted[leaf].file, omitted[leaf].begin, omitted[leaf].end);
	leave_earlier_to_table();
}

/* If a leaf was rewritten after rows in it were announced, the rows are in other blocks now. */
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
			reading->added[item->leaf] = NEWS_EVERYWHERE;
			moved = true;
		}
	}
	if (moved)
		leave_earlier_to_table();
}

/* Replace the news of transactions below table_before by blocks, and add these to "unread". */
static void
drop_old_news(TailReading *reading)
{
	int kept = 0;

	for (int i = 0; i < npending; i++)
	{
		const NewsItem *item = &pending[i];

		if (item->xid < table_before)
			news_widen(&reading->added[item->leaf], item->file, item->block, item->block + 1);
		else
			pending[kept++] = *item;
	}
	npending = kept;
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		if (reading->added[leaf].end > 0)
			news_widen(&unread[leaf], reading->added[leaf].file, reading->added[leaf].begin, reading->added[leaf].end);
}

/*
 * After the table was read: reduce "unread" to what may be needed again.
 *
 * Earlier ticks added blocks for transactions older than the previous table_before.  Once all of
 * those have ended, only the blocks that this tick has added are still needed.  Without this
 * the blocks would add up for as long as there are more news than there is room for.
 */
static void
forget_read(const TailReading *reading, uint64 previous_table_before)
{
	if (reading->upto->xmin >= table_before)
		memset(unread, 0, sizeof(unread));
	else if (reading->upto->xmin >= previous_table_before)
		memcpy(unread, reading->added, sizeof(unread));
}

/* Read the visible rows of a news item. */
static void
read_news_item(TailReading *reading, const NewsItem *item)
{
	TailLeaf *leaf = open_leaf(reading, item->leaf);
	HeapTupleData rows[MaxHeapTuplesPerPage];
	OffsetNumber last;
	Page page;
	int n = 0;

	/* If the writer aborted after it had announced, vacuum may have truncated the leaf since. */
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
		read_row(reading, ExecStoreBufferHeapTuple(&rows[i], leaf->slot, reading->buffer), item->leaf, item->xid);
	ExecClearTuple(leaf->slot);
}

/* Read the rows that were announced by transactions that have ended, and keep the other news. */
static void
read_news(TailReading *reading)
{
	int kept = 0;

	for (int i = 0; i < npending; i++)
	{
		if (has_ended(reading->upto, pending[i].xid))
			read_news_item(reading, &pending[i]);
		else
			pending[kept++] = pending[i];
	}
	npending = kept;
}

/* ------------------------------------------------------------------------
 * Reading rows from the table
 * ------------------------------------------------------------------------ */

/* Read the rows of a leaf that were written by the transactions $1, or from $2 to before $3. */
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
			read_row(reading, ExecStoreHeapTuple(SPI_tuptable->vals[i], slot, false), number, 0);
		ExecClearTuple(slot);
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed > 0);
	ExecDropSingleTupleTableSlot(slot);
	SPI_cursor_close(cursor);
}

/* Read the rows of the transactions below table_before that have ended since the last tick. */
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
 * What the engine calls
 * ------------------------------------------------------------------------ */

/*
 * Called once, when this process has become the database's engine.  Discard the news so far; the
 * rows of all transactions that have begun by now are read from the table.
 */
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

/* Call the callback for each transition that this snapshot sees and the last tick's did not. */
void
tail_read(Snapshot snapshot, TailCallback callback)
{
	TailSnapshot *a = &engine.seen;
	TailSnapshot b;
	TailReading reading = {snapshot, &b, callback, InvalidBuffer};
	uint64 previous_table_before = table_before;

	copy_snapshot(snapshot, &b);
	take_news(reading.added); /* after the snapshot was taken */
	check_files(&reading);
	drop_old_news(&reading);
	read_table(&reading);
	read_news(&reading);
	close_leaves(&reading);
	forget_read(&reading, previous_table_before);

	/* Now all that B sees has been read. */
	if (a->xip)
		pfree(a->xip);
	*a = b;
	a->xip = MemoryContextAlloc(engine.context, sizeof(uint64) * Max(b.nxip, 1));
	memcpy(a->xip, b.xip, sizeof(uint64) * b.nxip);
}

/* The snapshot up to which the tail has read, in the text form of pg_snapshot. */
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

/* Go on reading from a saved snapshot, or with NULL from the beginning of the log. */
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
