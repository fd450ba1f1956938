/*
 * timers.c
 *		Find the events whose time has come, and queue them for a move.
 *
 * Nothing is ever deleted from the log, so an index on wake_at holds every deadline that ever
 * was, and scanning it from its start would cost more each day.  A cursor says where the first
 * entry may be that still matters: the events of all entries before it are in memory or need
 * nothing more.  When the tail reads a transition with an earlier time, it pulls the cursor
 * back, so neither the order of commits nor a step of the clock can hide an entry.  An entry may
 * be outdated; decide_move() finds that out by the event's latest transition.
 *
 * Events that are due when they become visible, because their transaction took long, have a
 * second cursor ("late").  Otherwise the first one would be pulled back for them, and visit many
 * entries again.
 *
 * The indexes are on (time, event id), not on time alone, so that a scan can go on in the middle
 * of a million events that are due at the same midnight.
 */
#include "engine/engine.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/table.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"

#define LATE (1 * USECS_PER_SEC) /* an event is late if it is read so long after its wake_at */
#define SUSPEND_PACE 256         /* events of a suspended type moved in an otherwise idle tick */

/* An index to walk along, and what to do with the entries. */
typedef struct Walk
{
	JournalTable table;
	const char *index; /* the suffix of its name */
	bool by_type;      /* the index's first column is the event type */
	int key_column;    /* the table's column with the time */
	int id_column;     /* the table's column with the event id */
	int state_column;  /* skip rows that are not in this state; -1: all states */
	EdaState state;
	/* called for each entry; returns false if there is no room for its event */
	bool (*queue)(int32 type, const pg_uuid_t *id, int leaf, TimestampTz key);
} Walk;

static bool
queue_for_move(int32 type, const pg_uuid_t *id, int leaf, TimestampTz key)
{
	return todo_add(id, leaf, NULL);
}

static const Walk walk_due = {JOURNAL_TRANSITION, "due", true, T_WAKE_AT, T_EVENT_ID, -1, EDA_NONE, queue_for_move};
static const Walk walk_resume = {JOURNAL_TRANSITION, "suspended", true, T_AT, T_EVENT_ID, -1, EDA_NONE, queue_for_move};
static const Walk walk_deadline = {JOURNAL_TRANSITION, "deadline", false,    T_WAKE_AT,
                                   T_EVENT_ID,         -1,         EDA_NONE, queue_for_move};
static const Walk walk_dispatched = {JOURNAL_TRANSITION, "deadline", false,          T_WAKE_AT,
                                     T_EVENT_ID,         T_STATE,    EDA_DISPATCHED, queue_for_move};
static const Walk walk_expiry = {JOURNAL_EVENT, "expiry", false, E_EXPIRES_AT, E_ID, -1, EDA_NONE, queue_for_move};
static const Walk walk_redriven = {JOURNAL_TRANSITION, "expiry", false,    T_EXPIRES_AT,
                                   T_EVENT_ID,         -1,       EDA_NONE, queue_for_move};
static const Walk walk_dead = {JOURNAL_TRANSITION, "dead", true,     T_AT,
                               T_EVENT_ID,         -1,     EDA_NONE, delivery_add_dead_letter};

/* Make scan keys for "[type = type AND] (key, id) >= cursor".  Returns how many. */
static int
make_keys(const Walk *walk, int32 type, const Cursor *from, ScanKey keys, ScanKey row)
{
	AttrNumber first = walk->by_type ? 2 : 1;
	int n = 0;

	if (walk->by_type)
		ScanKeyInit(&keys[n++], 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(type));
	ScanKeyEntryInitialize(&row[0], SK_ROW_MEMBER, first, BTGreaterEqualStrategyNumber, InvalidOid, InvalidOid,
	                       F_TIMESTAMPTZ_CMP, TimestampTzGetDatum(from->key));
	ScanKeyEntryInitialize(&row[1], SK_ROW_MEMBER | SK_ROW_END, first + 1, BTGreaterEqualStrategyNumber, InvalidOid,
	                       InvalidOid, F_UUID_CMP, UUIDPGetDatum(&from->id));
	memset(&keys[n], 0, sizeof(ScanKeyData));
	keys[n].sk_flags = SK_ROW_HEADER;
	keys[n].sk_attno = first;
	keys[n].sk_strategy = BTGreaterEqualStrategyNumber;
	keys[n].sk_argument = PointerGetDatum(row);
	return n + 1;
}

/*
 * Queue the events of the entries from the cursor on whose key is not after upto, at most limit
 * of them, and move the cursor to the first entry that was not visited.  Returns how many were
 * queued.  For entries that the snapshot does not see, the tail will pull the cursor back.
 */
static int
walk_from(const Walk *walk, int leaf_number, int32 type, Cursor *cursor, TimestampTz upto, int limit, Snapshot snapshot)
{
	Oid relid = catalog_get(false)->leaf[walk->table][leaf_number];
	Relation leaf = table_open(relid, AccessShareLock);
	Relation index = index_open(catalog_index(leaf_number, walk->table, walk->index), AccessShareLock);
	TupleTableSlot *slot = table_slot_create(leaf, NULL);
	ScanKeyData keys[2];
	ScanKeyData row[2];
	Cursor from = *cursor;
	int nkeys = make_keys(walk, type, &from, keys, row);
	IndexScanDesc scan = index_beginscan_compat(leaf, index, snapshot, nkeys);
	int n = 0;

	cursor_reset(cursor);
	index_rescan(scan, keys, nkeys, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
	{
		TimestampTz key;
		const pg_uuid_t *id;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		key = DatumGetTimestampTz(slot->tts_values[walk->key_column]);
		id = DatumGetUUIDP(slot->tts_values[walk->id_column]);
		if (walk->state_column >= 0 &&
		    catalog_state(DatumGetObjectId(slot->tts_values[walk->state_column])) != walk->state)
			continue;
		if (key > upto || n >= limit || !walk->queue(type, id, leaf_number, key))
		{
			cursor->key = key;
			cursor->id = *id;
			break;
		}
		n++;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(leaf, NoLock);
	return n;
}

/* Queue the events whose deadline or expiry has come; limits and suspended types do not matter. */
static void
read_deadlines(int leaf, Snapshot snapshot)
{
	if (engine.deadline[leaf].key <= engine.now)
		walk_from(&walk_deadline, leaf, 0, &engine.deadline[leaf], engine.now, ENGINE_BATCH, snapshot);
	if (engine.expiry[leaf].key <= engine.now)
		walk_from(&walk_expiry, leaf, 0, &engine.expiry[leaf], engine.now, ENGINE_BATCH, snapshot);
	if (engine.redriven[leaf].key <= engine.now)
		walk_from(&walk_redriven, leaf, 0, &engine.redriven[leaf], engine.now, ENGINE_BATCH, snapshot);
}

/*
 * Pull a cursor back to an awaiting event, so that it is queued for a move when it is due.
 *
 * A transaction that publishes and commits much later makes an event that is due and that the
 * cursor has passed.  For such events there is the cursor "late": pulled back that far, the
 * cursor "due" would first visit all entries again that were done meanwhile, and newer events
 * would have to wait.
 */
void
timers_pull_due(EngineType *type, int leaf, const Transition *t)
{
	Cursor *late = &type->late[leaf];

	if (t->wake_at > engine.now - LATE || t->wake_at >= type->due[leaf].key || type->suspended || engine.recovering)
	{
		cursor_pull(&type->due[leaf], t->wake_at, &t->event_id);
		return;
	}
	type->late_until[leaf] = late->key == EDA_NEVER ? t->wake_at : Max(type->late_until[leaf], t->wake_at);
	cursor_pull(late, t->wake_at, &t->event_id);
}

/* When the first event on disk of a type and leaf is due; EDA_NEVER if there is none. */
TimestampTz
timers_due(const EngineType *type, int leaf)
{
	return Min(type->due[leaf].key, type->late[leaf].key);
}

/*
 * Queue due events of a type, as many as there is room for.  If there are both late events and
 * others, the late ones get half of the room.
 */
static void
read_due(EngineType *type, int leaf, Snapshot snapshot)
{
	Cursor *due = &type->due[leaf];
	Cursor *late = &type->late[leaf];
	int room = Min(dispatch_room(type), ENGINE_BATCH);
	int n = 0;

	if (room > 0 && late->key != EDA_NEVER)
	{
		n = walk_from(&walk_due, leaf, type->id, late, type->late_until[leaf],
		              due->key <= engine.now ? (room + 1) / 2 : room, snapshot);
		if (late->key > type->late_until[leaf])
			cursor_reset(late);
	}
	if (room > n && due->key <= engine.now)
		n += walk_from(&walk_due, leaf, type->id, due, engine.now, room - n, snapshot);
	dispatch_reserve(type, n);
}

/* Queue due events of a suspended type, to be suspended; without a second cursor for late ones. */
static void
read_due_suspended(EngineType *type, int leaf, Snapshot snapshot)
{
	cursor_pull(&type->due[leaf], type->late[leaf].key, &type->late[leaf].id);
	cursor_reset(&type->late[leaf]);
	if (type->due[leaf].key <= engine.now)
		walk_from(&walk_due, leaf, type->id, &type->due[leaf], engine.now, SUSPEND_PACE, snapshot);
}

/* When the first event on disk of a type is due; EDA_NEVER if there is none. */
static TimestampTz
due_since(const EngineType *type)
{
	TimestampTz since = EDA_NEVER;

	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		since = Min(since, timers_due(type, leaf));
	return since;
}

static int
compare_due(const void *a, const void *b)
{
	const EngineType *x = *(EngineType *const *) a;
	const EngineType *y = *(EngineType *const *) b;
	TimestampTz since_x = due_since(x);
	TimestampTz since_y = due_since(y);

	return x->priority != y->priority ? y->priority - x->priority : (since_x > since_y) - (since_x < since_y);
}

/*
 * Queue dispatched events again, after a restart or after a change of their type's rules: as many
 * as the list takes, the others in the next tick.
 */
static void
read_dispatched(Snapshot snapshot)
{
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		if (engine.dispatched[leaf].key != EDA_NEVER)
			walk_from(&walk_dispatched, leaf, 0, &engine.dispatched[leaf], EDA_NEVER - 1, INT_MAX, snapshot);
}

/*
 * Queue the events whose time has come: first those with a deadline, then those of types that
 * were unsuspended, then due events by priority and age.  Also make the deliveries of dead
 * letters.  If no event is queued then, queue due events of suspended types, to be suspended.
 */
void
timers_read(Snapshot snapshot)
{
	EngineType **due = palloc(sizeof(EngineType *) * Max(engine.ntypes, 1));
	int leaves[EDA_LEAVES];
	int nleaves = segment_leaves_of(NULL, leaves);
	int ndue = 0;

	read_dispatched(snapshot);
	for (int l = 0; l < nleaves; l++)
		read_deadlines(leaves[l], snapshot);
	for (int i = 0; i < engine.ntypes; i++)
	{
		EngineType *type = engine.types[i];

		if (!type->suspended && due_since(type) <= engine.now)
			due[ndue++] = type;
		for (int l = 0; l < nleaves; l++)
			if (!type->suspended && type->resume[leaves[l]].key != EDA_NEVER)
				walk_from(&walk_resume, leaves[l], type->id, &type->resume[leaves[l]], EDA_NEVER - 1, ENGINE_BATCH,
				          snapshot);
	}
	for (int i = 0; i < engine.ntypes; i++)
		for (int l = 0; l < nleaves; l++)
			if (engine.types[i]->dead[leaves[l]].key != EDA_NEVER && delivery_room() > 0)
				walk_from(&walk_dead, leaves[l], engine.types[i]->id, &engine.types[i]->dead[leaves[l]], EDA_NEVER - 1,
				          ENGINE_BATCH, snapshot);
	if (ndue > 1)
		qsort(due, ndue, sizeof(EngineType *), compare_due);
	for (int i = 0; i < ndue; i++)
		for (int l = 0; l < nleaves; l++)
			read_due(due[i], leaves[l], snapshot);
	for (int i = 0; i < engine.ntypes && todo_is_empty(); i++)
		for (int l = 0; l < nleaves; l++)
			if (engine.types[i]->suspended)
				read_due_suspended(engine.types[i], leaves[l], snapshot);
}

/* When the next event has to be queued; not counting due events for which there is no room. */
TimestampTz
timers_next(void)
{
	TimestampTz next = delivery_next_watched();

	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
	{
		if (engine.dispatched[leaf].key != EDA_NEVER)
			return engine.now;
		next = Min(next, engine.deadline[leaf].key);
		next = Min(next, engine.expiry[leaf].key);
		next = Min(next, engine.redriven[leaf].key);
		for (int i = 0; i < engine.ntypes; i++)
			if (engine.types[i]->suspended || dispatch_has_room(engine.types[i]))
				next = Min(next, timers_due(engine.types[i], leaf));
	}
	return Min(next, todo_next_parked());
}
