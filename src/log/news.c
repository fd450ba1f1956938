/*
 * news.c
 *		How writers tell the engine where their transitions lie.
 *
 * A transaction lists the rows of eda.transition that it inserts, and before it
 * becomes visible it puts the list into its database's area.  So whatever a
 * snapshot of the engine sees has been announced by the time it has that snapshot.
 *
 * What is announced is a hint, not the news itself: the rows may be invisible, of a
 * transaction that failed after it announced; or gone, and their places taken by others.
 * The engine looks at each row's visibility and xid (tail.c).  Places can be used
 * twice in one transaction too, where a savepoint was rolled back and its rows
 * vacuumed meanwhile: what a subtransaction listed is forgotten when it aborts.
 *
 * Where there is no area there is no engine, and a starting one reads what came
 * before it from the table.  When the area is full, only the blocks in which
 * news are found are noted.
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

static OwnNews *own = NULL; /* in the transaction's memory */
static int nown = 0;
static int max_own = 0;
static bool announced = false; /* what is still to come is announced at once */

/* Add blocks to a range; of different files of the leaf: all there are. */
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

/* Tell what is listed. */
static void
announce(void)
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
			announce();
			announced = true;
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			own = NULL;
			nown = max_own = 0;
			announced = false;
			break;
		default:
			break;
	}
}

/* Subtransactions are numbered in the order in which they begin: the later ones are within the one that aborts. */
static void
news_subxact_callback(SubXactEvent event, SubTransactionId sub, SubTransactionId parent, void *arg)
{
	while (event == SUBXACT_EVENT_ABORT_SUB && nown > 0 && own[nown - 1].sub >= sub)
		nown--;
}

/* At server start: a callback registered within another's pre-commit would come too late. */
void
news_init(void)
{
	RegisterXactCallback(news_xact_callback, NULL);
	RegisterSubXactCallback(news_subxact_callback, NULL);
}

/* Add a row to the last entry, if it is the next one on the same page. */
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

/* For journal.c: these rows were inserted into a leaf of transition, but for those that lost (may be NULL). */
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
	if (announced)
		announce();
}

/*
 * For the engine: take what has been announced, into items, which has room for
 * NEWS_SIZE; how many.  Where that is not all, is_full is set, and omitted are the
 * blocks of the rest, by leaf.
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
