/*
 * journal_read.c
 *		Read events and transitions of the log.
 *
 * These functions use a dirty snapshot, as journal_append() does: they see the latest committed
 * rows whatever the isolation level.  Only journal_history() uses the active snapshot.
 */
#include "log/log.h"

#include "access/genam.h"
#include "access/skey.h"
#include "access/table.h"
#include "access/tableam.h"
#include "utils/fmgroids.h"
#include "utils/snapmgr.h"

/*
 * Read an event from one table, and wait for an open transaction that is publishing it; false if
 * it is not there.
 */
static bool
read_event_in(JournalRel *jrel, const pg_uuid_t *id, bool whole, Event *out)
{
	ScanKeyData key;
	JournalLook found;

	journal_rel_uuid_key(&key, 1, id);
	while ((found = journal_rel_look(jrel, &key, 1, ForwardScanDirection)) == LOOK_BUSY)
		journal_rel_wait(jrel);
	if (found == LOOK_FOUND)
		journal_read_event(jrel->found, out, whole);
	return found == LOOK_FOUND;
}

/*
 * Read an event, with its headers and payload if whole is set; false if it is not in this
 * leaf.  Waits for an open transaction that is publishing the event.
 */
bool
journal_event(int leaf, const pg_uuid_t *id, bool whole, Event *out)
{
	JournalRel *jrel = journal_rel_open(catalog_get(false)->leaf[JOURNAL_EVENT][leaf], RowExclusiveLock);
	bool found = read_event_in(jrel, id, whole, out);

	journal_rel_close(jrel);
	return found;
}

/*
 * Read n events into out, in the order of their references; whole as in journal_event().
 * The events must exist.
 */
void
journal_read_events(const EventRef *refs, int n, bool whole, Event *out)
{
	JournalRel *tables[EDA_LEAVES] = {0}; /* opened so far */

	for (int i = 0; i < n; i++)
	{
		JournalRel **table = &tables[refs[i].leaf];

		if (*table == NULL)
			*table = journal_rel_open(catalog_get(false)->leaf[JOURNAL_EVENT][refs[i].leaf], RowExclusiveLock);
		if (!read_event_in(*table, &refs[i].id, whole, &out[i]))
			elog(ERROR, "event %s has transitions but no row in eda.event", uuid_text(&refs[i].id));
	}
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		if (tables[leaf])
			journal_rel_close(tables[leaf]);
}

/*
 * Read an event without its headers and payload, whichever leaf it is in; false if it does
 * not exist.  Waits for an open transaction that is publishing the event.
 */
bool
journal_find_event(const pg_uuid_t *id, Event *out)
{
	int leaves[EDA_LEAVES];
	int n = segment_leaves_of(id, leaves);

	for (int i = 0; i < n; i++)
		if (journal_event(leaves[i], id, false, out))
			return true;
	return false;
}

/*
 * Read the transition of an event with this version, or with or_later the first one with this
 * version or a higher one.  False if there is none, or if another transaction, which is still
 * open, has written it.
 */
bool
journal_find_transition(int leaf, const pg_uuid_t *id, int32 version, bool or_later, Transition *out)
{
	JournalRel *jrel = journal_rel_open(catalog_get(false)->leaf[JOURNAL_TRANSITION][leaf], RowExclusiveLock);
	ScanKeyData keys[2];
	JournalLook found;

	journal_rel_uuid_key(&keys[0], 1, id);
	ScanKeyInit(&keys[1], 2, or_later ? BTGreaterEqualStrategyNumber : BTEqualStrategyNumber,
	            or_later ? F_INT4GE : F_INT4EQ, Int32GetDatum(version));
	found = journal_rel_look(jrel, keys, 2, ForwardScanDirection);
	if (found == LOOK_FOUND)
		journal_read_transition(jrel->found, out, true);
	journal_rel_close(jrel);
	return found == LOOK_FOUND;
}

/*
 * Read the last transitions of an event that the active snapshot sees, at most max of them,
 * oldest first.  Returns how many.
 */
int
journal_history(int leaf, const pg_uuid_t *id, Transition *out, int max)
{
	Relation rel = table_open(catalog_get(false)->leaf[JOURNAL_TRANSITION][leaf], AccessShareLock);
	Relation index = index_open(catalog_index(leaf, JOURNAL_TRANSITION, "pkey"), AccessShareLock);
	IndexScanDesc scan = index_beginscan_compat(rel, index, GetActiveSnapshot(), 1);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	ScanKeyData key;
	int n = 0;

	journal_rel_uuid_key(&key, 1, id);
	index_rescan(scan, &key, 1, NULL, 0);
	while (n < max && index_getnext_slot(scan, BackwardScanDirection, slot))
		journal_read_transition(slot, &out[n++], true);
	for (int i = 0; i < n / 2; i++)
	{
		Transition t = out[i];

		out[i] = out[n - 1 - i];
		out[n - 1 - i] = t;
	}
	ExecDropSingleTupleTableSlot(slot);
	index_endscan(scan);
	index_close(index, NoLock);
	table_close(rel, NoLock);
	return n;
}
