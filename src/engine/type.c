/*
 * type.c
 *		The event types and flow types that the engine knows.
 *
 * A type that was known once stays known, because the log may have events of it.
 */
#include "engine/engine.h"

#include "access/table.h"
#include "access/tableam.h"
#include "utils/memutils.h"

typedef struct TypeEntry
{
	int32 id; /* hash key */
	EngineType *type;
} TypeEntry;

static HTAB *type_by_id;
static int max_types = 0; /* allocated elements of engine.types */
static int max_flows = 0; /* allocated elements of engine.flows */

/* What the engine knows about an event type; NULL if it does not know the type. */
EngineType *
engine_type(int32 id)
{
	TypeEntry *entry = hash_search(type_by_id, &id, HASH_FIND, NULL);

	return entry ? entry->type : NULL;
}

/* The index of a flow type in engine.flows, where it is added if it is new. */
static int
flow_index(const char *flow_type)
{
	for (int i = 0; i < engine.nflows; i++)
		if (strcmp(engine.flows[i].flow_type, flow_type) == 0)
			return i;
	ARRAY_GROW(engine.flows, engine.nflows, max_flows, engine.context);
	memset(&engine.flows[engine.nflows], 0, sizeof(EngineFlow));
	strlcpy(engine.flows[engine.nflows].flow_type, flow_type, NAMEDATALEN);
	engine.flows[engine.nflows].queue = -1;
	return engine.nflows++;
}

static EngineType *
add_type(int32 id)
{
	EngineType *type = MemoryContextAllocZero(engine.context, sizeof(EngineType));
	TypeEntry *entry = hash_search(type_by_id, &id, HASH_ENTER, NULL);

	entry->type = type;
	type->id = id;
	type->oldest_offer = EDA_NEVER;
	dlist_init(&type->deliveries);
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
	{
		cursor_reset(&type->due[leaf]);
		cursor_reset(&type->late[leaf]);
		cursor_reset(&type->resume[leaf]);
		cursor_reset(&type->dead[leaf]);
	}
	ARRAY_GROW(engine.types, engine.ntypes, max_types, engine.context); /* NOLINT(bugprone-sizeof-expression) */
	engine.types[engine.ntypes++] = type;
	return type;
}

static int
compare_priorities(const void *a, const void *b)
{
	const EngineType *x = *(EngineType *const *) a;
	const EngineType *y = *(EngineType *const *) b;

	return x->priority != y->priority ? y->priority - x->priority : (x->id > y->id) - (x->id < y->id);
}

/*
 * A type whose events were delivered through NATS is suspended now, or left to acquire_next.  Pull
 * the cursor "dispatched" back so that its dispatched events are queued for a move: those whose
 * wake_at lies ahead, and those that have a delivery although their wake_at has passed.
 */
static void
requeue_delivered(EngineType *type)
{
	static const pg_uuid_t first = {{0}};
	dlist_iter it;

	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		cursor_pull(&engine.dispatched[leaf], engine.now, &first);
	dlist_foreach (it, &type->deliveries)
	{
		const Delivery *d = dlist_container(Delivery, of_type, it.cur);

		cursor_pull(&engine.dispatched[d->leaf], d->wake_at, &d->key.event_id);
	}
}

static int64
read_config_version(Snapshot snapshot)
{
	Relation rel = table_open(catalog_get(false)->config, AccessShareLock);
	TableScanDesc scan = table_beginscan_compat(rel, snapshot);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	bool isnull;
	int64 version = 0;

	if (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		version = DatumGetInt64(slot_getattr(slot, 2, &isnull));
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	return version;
}

/* Read the rules of all event types again, if they have changed. */
void
engine_type_read_rules(Snapshot snapshot)
{
	int64 version = read_config_version(snapshot);
	const EventType **rules;
	int n;

	if (version == engine.config_version)
		return;
	engine.config_version = version;
	event_type_forget();
	segment_forget();
	n = event_type_all(&rules);
	for (int i = 0; i < n; i++)
	{
		EngineType *type = engine_type(rules[i]->id);

		if (type == NULL)
			type = add_type(rules[i]->id);
		if (type->to_broker && (!rules[i]->to_broker || (rules[i]->suspended && !type->suspended)))
			requeue_delivered(type);
		type->flow = flow_index(rules[i]->flow_type);
		type->priority = rules[i]->priority;
		type->suspended = rules[i]->suspended;
		type->max_in_flight = rules[i]->max_in_flight;
		type->max_dispatched = rules[i]->max_dispatched;
		type->to_broker = rules[i]->to_broker;
		type->counted = true; /* its place among the metrics in shared memory may change */
		if (type->example)
			pfree(type->example);
		type->example = MemoryContextStrdup(engine.context, message_subject(rules[i], "x"));
	}
	if (engine.ntypes > 1)
		qsort(engine.types, engine.ntypes, sizeof(EngineType *), compare_priorities);
	engine.area->offers_need_look = true; /* there may be offers of types that are suspended now */
}

/* Start without any event type. */
void
engine_type_init(void)
{
	HASHCTL ctl = {.keysize = sizeof(int32), .entrysize = sizeof(TypeEntry), .hcxt = engine.context};

	type_by_id = hash_create("eda event types", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}
