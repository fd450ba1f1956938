/*
 * tail.c
 *		Read transitions in the order in which they became visible.
 *
 * "New since the last tick" means visible in snapshot B and not in A.  A plain
 * "id > last" loses rows: a low id can commit after a high one.  Waiting for the
 * oldest running transaction is safe but stalls behind any idle session.  So we
 * keep A's list of running transactions and ask for exactly those that ended,
 * and for all that began since: xid in [A.xmax, B.xmax).  What is still running
 * in B is invisible to the scan, and on B's list for the next tick.
 *
 * The xid of a transition is that of its top-level transaction; a restored row
 * carries 0 and is never new.  The snapshot is taken before the tick has an xid
 * of its own, because a snapshot does not list its own transaction.
 */
#include "engine.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

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

/* See the visible transitions of a leaf with from <= xid < to. */
static void
read_range(Relation leaf, Relation index, int number, Snapshot snapshot, uint64 from, uint64 to)
{
	ScanKeyData keys[2];
	IndexScanDesc scan = index_beginscan_compat(leaf, index, snapshot, 2);
	TupleTableSlot *slot = table_slot_create(leaf, NULL);
	MemoryContext row = AllocSetContextCreate(CurrentMemoryContext, "eda tail", ALLOCSET_SMALL_SIZES);

	ScanKeyInit(&keys[0], 1, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum((int64) from));
	ScanKeyInit(&keys[1], 1, BTLessStrategyNumber, F_INT8LT, Int64GetDatum((int64) to));
	index_rescan(scan, keys, 2, NULL, 0);
	/* The scan keeps memory of its own from one row to the next: not in the row's context. */
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		MemoryContext caller = MemoryContextSwitchTo(row);
		Transition t;

		CHECK_FOR_INTERRUPTS();
		journal_read_transition(slot, &t, false);
		engine_see(&t, number);
		MemoryContextSwitchTo(caller);
		MemoryContextReset(row);
	}
	MemoryContextDelete(row);
	ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);
}

/* Hand each transition that snapshot sees, and the last one did not, to engine_see(). */
void
tail_read(Snapshot snapshot)
{
	TailSnapshot *a = &engine.seen;
	TailSnapshot b;
	int leaves[EDA_LEAVES];
	int nleaves = segment_leaves(NULL, leaves);
	bool news;

	copy_snapshot(snapshot, &b);
	news = b.xmax > a->xmax;
	for (int i = 0; i < a->nxip; i++)
		news |= !is_running(&b, a->xip[i]);

	for (int l = 0; news && l < nleaves; l++)
	{
		Relation leaf = table_open(eda_catalog(false)->leaf[JOURNAL_TRANSITION][leaves[l]], AccessShareLock);
		Relation index = index_open(catalog_index(leaves[l], JOURNAL_TRANSITION, "xid"), AccessShareLock);

		for (int i = 0; i < a->nxip; i++)
			if (!is_running(&b, a->xip[i]))
				read_range(leaf, index, leaves[l], snapshot, a->xip[i], a->xip[i] + 1);
		if (b.xmax > a->xmax)
			read_range(leaf, index, leaves[l], snapshot, a->xmax, b.xmax);
		index_close(index, NoLock);
		table_close(leaf, NoLock);
	}

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
