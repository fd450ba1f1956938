/*
 * news.c
 *		Writers announce to the engine where their new transitions are.
 *
 * A transaction lists the rows of eda.transition that it inserts.  Just before it commits, it
 * announces them: it copies the list into its database's area of shared memory.  So when the
 * engine has a snapshot, every row that the snapshot sees has been announced.
 *
 * An announcement is only a hint.  Its rows may be invisible, because the transaction failed
 * after it had announced them; or vacuum may have removed them, and other rows may be in their
 * places.  So the engine checks the visibility and the xid of each row (tail.c).  Two rows of
 * one transaction can have the same place too, if a savepoint was rolled back and its rows
 * vacuumed before the second one was inserted.  So when a subtransaction aborts, its rows are
 * taken off the list.
 *
 * A database without an area has no engine, and nothing is announced: an engine that starts
 * reads from the table what was written before.  When the area has no room for more rows
 * (NEWS_SIZE entries), only the range of blocks that they are in is announced.
 */
#include "log/log.h"

#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/* A list entry of the current transaction. */
typedef struct OwnNews
{
	NewsItem item;
	SubTransactionId sub;
} OwnNews;

static OwnNews *own = NULL; /* rows to announce; in TopTransactionContext */
static int nown = 0;
static int max_own = 0;
static bool pre_commit_has_passed = false; /* from now on announce rows at once */

/*
 * Widen a range so that it includes the blocks from begin to end - 1 of a leaf's file.  If
 * the range is of another file, the leaf was rewritten in between: the range then includes all
 * blocks.
 */
void
news_widen(NewsRange *range, Oid file, BlockNumber begin, BlockNumber end)
{
	if (range->end == 0)
		*range = (NewsRange){file, begin, end};
	else if (range->file != file)
		*range = NEWS_EVERYWHERE;
	else
		*range = (NewsRange){file, Min(range->begin, begin), Max(range->end, end)};
}

/* Announce the listed rows, and empty the list. */
static void
announce_own_news(void)
{
	EngineArea *area = nown > 0 ? shmem_my_area() : NULL;
	News *news;

	if (area != NULL)
	{
		news = area_news(area);
		LWLockAcquire(&news->lock, LW_EXCLUSIVE);
		for (int i = 0; i < nown && area->database == MyDatabaseId; i++)
		{
			NewsItem *item = &own[i].item;

			if (news->nitems < NEWS_SIZE)
				news->items[news->nitems++] = *item;
			else
			{
				news->is_full = true;
				news_widen(&news->omitted[item->leaf], item->file, item->block, item->block + 1);
			}
		}
		LWLockRelease(&news->lock);
	}
	nown = 0;
}

static void
news_xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			announce_own_news();
			pre_commit_has_passed = true;
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			own = NULL;
			nown = max_own = 0;
			pre_commit_has_passed = false;
			break;
		default:
			break;
	}
}

/*
 * When a subtransaction aborts, take its rows off the list, and those of the subtransactions
 * inside it, which have begun later and so have higher numbers.
 */
static void
news_subxact_callback(SubXactEvent event, SubTransactionId sub, SubTransactionId parent, void *arg)
{
	while (event == SUBXACT_EVENT_ABORT_SUB && nown > 0 && own[nown - 1].sub >= sub)
		nown--;
}

/*
 * Called at server start.  If the callbacks were registered with a session's first row, that
 * could happen in the pre-commit callback of another extension, and ours would not be called.
 */
void
news_init(void)
{
	RegisterXactCallback(news_xact_callback, NULL);
	RegisterSubXactCallback(news_subxact_callback, NULL);
}

/*
 * Add a row to the last entry of the list, if it comes right after that entry's rows on the same
 * page.
 */
static bool
extend_last(const NewsItem *row, SubTransactionId sub)
{
	OwnNews *last = nown > 0 ? &own[nown - 1] : NULL;

	if (last == NULL || last->sub != sub || last->item.leaf != row->leaf || last->item.file != row->file ||
	    last->item.block != row->block || last->item.last + 1 != row->first)
		return false;
	last->item.last = row->first;
	return true;
}

static void
list_row(const NewsItem *row)
{
	SubTransactionId sub = GetCurrentSubTransactionId();

	if (extend_last(row, sub))
		return;
	ARRAY_GROW(own, nown, max_own, TopTransactionContext);
	own[nown++] = (OwnNews){*row, sub};
}

/*
 * List rows that this transaction has just inserted into a leaf of eda.transition, to announce
 * them before it commits.  xid is the top-level transaction's.  lost says which rows lost the
 * race for their primary key and are gone again; NULL: none.
 */
void
news_add(Relation rel, int leaf, uint64 xid, TupleTableSlot **slots, int n, const bool *lost)
{
	for (int i = 0; i < n; i++)
	{
		OffsetNumber offset = ItemPointerGetOffsetNumber(&slots[i]->tts_tid);
		NewsItem row = {xid, rel->rd_rel->relfilenode, ItemPointerGetBlockNumber(&slots[i]->tts_tid), offset, offset,
		                leaf};

		if (lost == NULL || !lost[i])
			list_row(&row);
	}
	if (pre_commit_has_passed)
		announce_own_news();
}

/*
 * For the engine: take all announcements out of the area into items, which has room for
 * NEWS_SIZE entries.  Returns how many there were.  *is_full says whether the area had no room
 * for more; if so, omitted[leaf] is the range of blocks that the rows without an entry are in.
 */
int
news_take(EngineArea *area, NewsItem *items, bool *is_full, NewsRange omitted[EDA_LEAVES])
{
	News *news = area_news(area);
	int n;

	LWLockAcquire(&news->lock, LW_EXCLUSIVE);
	n = news->nitems;
	memcpy(items, news->items, sizeof(NewsItem) * n);
	*is_full = news->is_full;
	if (news->is_full)
		memcpy(omitted, news->omitted, sizeof(news->omitted));
	if (n > 0)
		area_clear_news(news);
	LWLockRelease(&news->lock);
	return n;
}
