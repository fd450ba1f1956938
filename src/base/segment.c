/*
 * segment.c
 *		The map of segments: which leaf holds which range of time, cached.
 *
 * The map decides where an event is written.  For finding an event it is only a hint: a look-up
 * that fails there tries the other leaves.  The map is filled with the latest snapshot whatever
 * the isolation level, and again after a relation cache message for eda.segment, which the
 * trigger eda_config_changed() sends.
 */
#include "base/base.h"

#include "executor/tuptable.h"
#include "utils/inval.h"

typedef struct Segment
{
	int leaf;
	TimestampTz starts_at;
	TimestampTz ends_at;
} Segment;

typedef struct SegmentMap
{
	int n;
	Segment segments[EDA_LEAVES]; /* newest first */
} SegmentMap;

static SegmentMap map;
static bool map_is_valid = false;
static Oid map_relid = InvalidOid; /* eda.segment, when the map was read */

static void
segment_relcache_callback(Oid relid)
{
	if (!OidIsValid(relid) || relid == map_relid)
		map_is_valid = false;
}

/* Have the next function that needs the map read the table again. */
void
segment_forget(void)
{
	map_is_valid = false;
}

static int
compare_segments(const void *a, const void *b)
{
	TimestampTz x = ((const Segment *) a)->starts_at;
	TimestampTz y = ((const Segment *) b)->starts_at;

	return (x < y) - (x > y);
}

static void
read_segment(TupleTableSlot *slot, void *arg)
{
	SegmentMap *fresh = arg;

	slot_getallattrs(slot);
	if (fresh->n < EDA_LEAVES)
		fresh->segments[fresh->n++] =
			(Segment){DatumGetInt16(slot->tts_values[0]), DatumGetTimestampTz(slot->tts_values[1]),
		              DatumGetTimestampTz(slot->tts_values[2])};
}

static const SegmentMap *
get_map(void)
{
	Oid relid = catalog_get(false)->segment;
	SegmentMap fresh = {0};

	AcceptInvalidationMessages();
	if (map_is_valid)
		return &map;
	relcache_watch(segment_relcache_callback);

	/* Set the flag before reading: a message that arrives meanwhile clears it again. */
	map_relid = relid;
	map_is_valid = true;
	PG_TRY();
	{
		catalog_for_each_row(relid, read_segment, &fresh);
	}
	PG_CATCH();
	{
		map_is_valid = false;
		PG_RE_THROW();
	}
	PG_END_TRY();
	qsort(fresh.segments, fresh.n, sizeof(Segment), compare_segments);
	map = fresh;
	return &map;
}

/*
 * The leaf that an event with this id is written to: the leaf whose range covers the time in a
 * UUID v7. Ids without a time go to the attic.
 */
int
segment_leaf_of(const pg_uuid_t *id)
{
	const SegmentMap *m = get_map();
	int64 ms = 0;
	TimestampTz time;

	if ((id->data[6] & 0xF0) != 0x70 || (id->data[8] & 0xC0) != 0x80)
		return EDA_ATTIC;
	for (int i = 0; i < 6; i++)
		ms = (ms << 8) | id->data[i];
	time = ms * 1000 - (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	for (int i = 0; i < m->n; i++)
		if (time >= m->segments[i].starts_at)
			return m->segments[i].leaf;
	/*
	 * A new log has no map and uses leaf 1.  A time before the first segment of a map belongs
	 * to the attic.
	 */
	return m->n == 0 ? 1 : EDA_ATTIC;
}

/*
 * The leaves in use that may hold an event, the most likely one first; all leaves in use if id
 * is NULL. Returns how many.
 */
int
segment_leaves_of(const pg_uuid_t *id, int leaves[EDA_LEAVES])
{
	const SegmentMap *m = get_map();
	int first = id ? segment_leaf_of(id) : EDA_ATTIC;
	int n = 0;

	leaves[n++] = first;
	for (int i = 0; i < m->n; i++)
		if (m->segments[i].leaf != first)
			leaves[n++] = m->segments[i].leaf;
	if (m->n == 0 && first != 1)
		leaves[n++] = 1;
	if (first != EDA_ATTIC)
		leaves[n++] = EDA_ATTIC;
	return n;
}

/* Whether the open segment began before a time and a free leaf is left to follow it. */
bool
segment_is_old(TimestampTz before)
{
	const SegmentMap *m = get_map();

	return m->n > 0 && m->n < EDA_LEAVES - 1 && m->segments[0].starts_at < before;
}
