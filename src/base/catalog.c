/*
 * catalog.c
 *		The extension's own relations, by oid, looked up once per session.
 *
 * DROP EXTENSION and CREATE EXTENSION give the relations new oids.  So the oids are looked up
 * again after a relation cache message that names eda.config, or all relations.
 */
#include "base/base.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_enum.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

static EdaCatalog catalog;
static bool catalog_is_valid = false;

static void
catalog_relcache_callback(Oid relid)
{
	if (!OidIsValid(relid) || relid == catalog.config)
		catalog_is_valid = false;
}

/*
 * Fill in the extension's oid, version, owner and schema; false if this database does not have
 * it.
 */
static bool
read_extension(EdaCatalog *c)
{
	Relation rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple tuple;
	Datum version;
	bool isnull;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("eda"));
	scan = systable_beginscan(rel, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		Form_pg_extension form = (Form_pg_extension) GETSTRUCT(tuple);

		c->extension = form->oid;
		c->owner = form->extowner;
		c->schema = form->extnamespace;
		version = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(rel), &isnull);
		strlcpy(c->version, TextDatumGetCString(version), sizeof(c->version));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return OidIsValid(c->extension);
}

static Oid
relation_oid(const EdaCatalog *c, const char *name)
{
	Oid oid = get_relname_relid(name, c->schema);

	if (!OidIsValid(oid))
		ereport(ERROR, errcode(ERRCODE_EDA_LOG_ALTERED), errmsg("eda.%s is missing", name),
		        errhint("Drop and create the extension eda, or restore it from a backup."));
	return oid;
}

/*
 * The oids of the extension's relations.  If this database does not have the extension: NULL
 * with missing_ok, else an error.  The struct stays where it is, and may be overwritten by the
 * next call.
 */
const EdaCatalog *
catalog_get(bool missing_ok)
{
	EdaCatalog c = {0};
	Oid state_type;

	if (catalog_is_valid)
		return &catalog;
	relcache_watch(catalog_relcache_callback);
	if (!read_extension(&c))
	{
		if (missing_ok)
			return NULL;
		ereport(ERROR, errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("this database does not have the extension eda"),
		        errhint("Run CREATE EXTENSION eda."));
	}
	c.event_type = relation_oid(&c, "event_type");
	c.segment = relation_oid(&c, "segment");
	c.idempotency = relation_oid(&c, "idempotency");
	c.engine_state = relation_oid(&c, "engine_state");
	c.config = relation_oid(&c, "config");
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
	{
		c.leaf[JOURNAL_EVENT][leaf] = relation_oid(&c, psprintf("event_%d", leaf));
		c.leaf[JOURNAL_TRANSITION][leaf] = relation_oid(&c, psprintf("transition_%d", leaf));
	}
	state_type = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("state"), ObjectIdGetDatum(c.schema));
	for (int s = 0; s < EDA_STATES; s++)
		c.state[s] = GetSysCacheOid2(ENUMTYPOIDNAME, Anum_pg_enum_oid, ObjectIdGetDatum(state_type),
		                             CStringGetDatum(lifecycle_state_name(s)));
	catalog = c;
	catalog_is_valid = true;
	return &catalog;
}

/*
 * Have the next catalog_get() look everything up again.  A change of the extension's version or
 * owner in pg_extension sends no relation cache message.
 */
void
catalog_forget(void)
{
	catalog_is_valid = false;
}

/*
 * The oid of a leaf's index, by the last part of its name: REINDEX CONCURRENTLY keeps the name
 * and changes the oid.
 */
Oid
catalog_index(int leaf, JournalTable table, const char *suffix)
{
	char name[NAMEDATALEN];
	Oid oid;

	snprintf(name, sizeof(name), "%s_%d_%s", table == JOURNAL_EVENT ? "event" : "transition", leaf, suffix);
	oid = get_relname_relid(name, catalog_get(false)->schema);
	if (!OidIsValid(oid))
		ereport(ERROR, errcode(ERRCODE_EDA_LOG_ALTERED), errmsg("index eda.%s is missing", name),
		        errhint("Create it again as the extension's install script does."));
	return oid;
}

/* The state whose enum label has this oid. */
EdaState
catalog_state(Oid label)
{
	const EdaCatalog *c = catalog_get(false);

	for (int s = 0; s < EDA_STATES; s++)
		if (c->state[s] == label)
			return s;
	elog(ERROR, "unknown label %u of eda.state", label);
}

/* Hand each row of a small table to a function, as committed now, whatever the isolation level. */
void
catalog_for_each_row(Oid relid, void (*take)(TupleTableSlot *slot, void *arg), void *arg)
{
	Relation rel = table_open(relid, AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan_compat(rel, snapshot);
	TupleTableSlot *slot = table_slot_create(rel, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		take(slot, arg);
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
}
