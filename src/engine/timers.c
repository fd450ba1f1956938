/*
 * timers.c
 *		Find the events whose time has come.
 *
 * The log is never cleaned, so an index on wake_at holds every deadline that
 * ever was, and scanning it from the start would cost more each day.  A cursor
 * says where the first live entry may be: everything before it is done, or in
 * memory.  The tail pulls a cursor back when it sees a transition with an
 * earlier time, whatever the order of commits and whatever the clock does; stale
 * entries fall out when the event is looked at.  What is due and committed late has
 * a second cursor, so that the first one visits each entry once.
 *
 * An index on (time, event id) rather than on time alone lets a scan go on
 * inside a million events that are due at the same midnight.
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

#define LATE (1 * USECS_PER_SEC) /* so long after its time a committed event is late */
#define SUSPEND_PACE 256         /* events of suspended types moved in a tick that has nothing else to do */

/* An index to walk along, and where the key and the id stand in the table. */
typedef struct Walk
{
	JournalTable table;
	const char *index;
	bool by_type; /* the index's first column is the event type */
	int key_column;
	int id_column;
	int state_column; /* -1: all states */
	EdaState state;
	bool (*queue)(int32 type, const pg_uuid_t *id, int leaf, TimestampTz key); /* false: no room */
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

/* Scan keys for: [type =] and (key, id) >= cursor. */
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
 * Note the events from the cursor on whose key is not after upto, at most limit
 * of them, and move the cursor to the first entry that was not visited.  Entries
 * that the snapshot does not see come later, by the tail.  How many were noted.
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

/* Deadlines and expiry, which no limit and no suspension stops. */
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
 * Have an event that waits brought up when its time comes.  What a long transaction commits is found by
 * a cursor of its own: pulled back to when that published, the other one would visit again all that was done
 * meanwhile, and what comes next would have to wait for that.
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

/* When the first of a type's events on disk that wait is due; EDA_NEVER if none. */
TimestampTz
timers_due(const EngineType *type, int leaf)
{
	return Min(type->due[leaf].key, type->late[leaf].key);
}

/* What is due of a type, as much of it as may be dispatched.  What is late leaves half of that to the rest. */
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

/* What a suspended type has due; it has no other cursor for what is late. */
static void
read_due_suspended(EngineType *type, int leaf, Snapshot snapshot)
{
	cursor_pull(&type->due[leaf], type->late[leaf].key, &type->late[leaf].id);
	cursor_reset(&type->late[leaf]);
	if (type->due[leaf].key <= engine.now)
		walk_from(&walk_due, leaf, type->id, &type->due[leaf], engine.now, SUSPEND_PACE, snapshot);
}

/* Since when a type has had something due on disk. */
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

/* After a restart: what was dispatched and not yet acquired, as much as can be queued; the rest in the next tick. */
static void
read_dispatched(Snapshot snapshot)
{
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		if (engine.dispatched[leaf].key != EDA_NEVER)
			walk_from(&walk_dispatched, leaf, 0, &engine.dispatched[leaf], EDA_NEVER - 1, INT_MAX, snapshot);
}

/* Note what the time brings: deadlines first, then what is due by priority and age, last what a suspended type holds. */
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

/* When the next cursor's time comes, of those that may be acted on. */
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
