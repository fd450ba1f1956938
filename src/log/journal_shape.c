/*
 * journal_shape.c
 *		What inserting into a table of the log needs to know, kept for the session.
 *
 * A table that somebody altered in a way that direct access would ignore is
 * refused.  Its columns, indexes and their predicates, prepared, are kept until a
 * message of the relation cache names the table or one of its indexes.
 *
 * Whoever adds an index, drops or rebuilds one, or alters the table, sends such a
 * message at commit, and either locks the table against writers or (CONCURRENTLY)
 * waits, after each step, for those who had it locked before.  Messages come in
 * with the lock on the table.  So once that is taken, what is kept is true, or
 * whoever is making it untrue will wait for us, and look for the rows that we did
 * not enter.  An index that is not ready is kept too: that it has become ready is
 * told by a message that names the index alone.
 *
 * Messages come at any time, so a shape may be outdated while a JournalRel has
 * it.  It then stays until the end of the transaction, which no JournalRel
 * outlives, with or without an error.
 */
#include "log/log.h"

#include "access/genam.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "utils/inval.h"
#include "utils/memutils.h"

static JournalShape *shapes;
static uint64 messages; /* of the relation cache, that have come so far */

/* A table's columns as the install script makes them: how many, and which may be null. */
typedef struct Columns
{
	int n;
	uint32 nullable;
} Columns;

#define BIT(column) (UINT32_C(1) << (column))

static const Columns event_columns = {E_COUNT, BIT(E_EXPIRES_AT) | BIT(E_PARENT_ID) | BIT(E_CORRELATION_ID) |
                                                   BIT(E_ON_FAIL) | BIT(E_HEADERS)};
static const Columns transition_columns = {T_COUNT, BIT(T_PREV_STATE) | BIT(T_TOKEN) | BIT(T_WAKE_AT) |
                                                        BIT(T_EXPIRES_AT) | BIT(T_SUSPENDED_BY) | BIT(T_WORKER) |
                                                        BIT(T_DETAIL)};
static const Columns idempotency_columns = {K_COUNT, 0};

/* Whether a table has these columns.  One that was added stays in the catalog when it is dropped, and is null in new rows. */
static bool
has_columns(TupleDesc desc, const Columns *expected)
{
	bool same = desc->natts >= expected->n;

	for (int i = 0; same && i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		same = i < expected->n ? !column->attisdropped && column->attnotnull == ((expected->nullable & BIT(i)) == 0)
		                       : column->attisdropped;
	}
	return same;
}

static void
refuse_altered(Relation rel)
{
	ereport(ERROR, errcode(ERRCODE_EDA_LOG_ALTERED), errmsg("table eda.%s was altered", RelationGetRelationName(rel)),
	        errdetail("eda writes it directly, and would ignore columns, constraints, rules, triggers and a detachment "
	                  "that it does not know."),
	        errhint("Take back what was changed; keep your own data in a table of your own."));
}

/* Refuse a table with what direct access would not honour. */
static void
check_shape(Relation rel)
{
	const EdaCatalog *c = catalog_get(false);
	const Columns *columns = &idempotency_columns;
	TupleDesc desc = RelationGetDescr(rel);
	bool altered = rel->rd_rel->relam != HEAP_TABLE_AM_OID || rel->rd_rules != NULL;

	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
	{
		if (RelationGetRelid(rel) == c->leaf[JOURNAL_EVENT][leaf])
			columns = &event_columns;
		else if (RelationGetRelid(rel) == c->leaf[JOURNAL_TRANSITION][leaf])
			columns = &transition_columns;
	}
	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
		altered |= strcmp(rel->trigdesc->triggers[i].tgname, "refuse_write") != 0 &&
		           strcmp(rel->trigdesc->triggers[i].tgname, "restored") != 0;
	/* What lies in a leaf that was detached, no view shows. */
	altered |= columns != &idempotency_columns && !rel->rd_rel->relispartition;
	if (altered || !has_columns(desc, columns) || (desc->constr && desc->constr->num_check > 0))
		refuse_altered(rel);
}

/* The oids of a table's indexes, the primary key first. */
static List *
index_list(Relation rel)
{
	List *indexes = RelationGetIndexList(rel);
	Oid primary = rel->rd_pkindex;

	if (!OidIsValid(primary))
		ereport(ERROR, errcode(ERRCODE_EDA_LOG_ALTERED),
		        errmsg("table eda.%s has lost its primary key", RelationGetRelationName(rel)),
		        errhint("Create it again as the extension's install script does."));
	return lcons_oid(primary, list_delete_oid(indexes, primary));
}

/* Check a table and read what inserting into it needs, into a memory context that goes with the caller's for now. */
static JournalShape *
read_shape(Relation rel, LOCKMODE lock)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "eda table", ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	JournalShape *shape = palloc0(sizeof(JournalShape));
	List *indexes;
	ListCell *lc;

	check_shape(rel);
	indexes = index_list(rel);
	shape->context = context;
	shape->relid = RelationGetRelid(rel);
	shape->desc = CreateTupleDescCopy(RelationGetDescr(rel));
	shape->estate = CreateExecutorState();
	shape->index = palloc(sizeof(Oid) * list_length(indexes));
	shape->info = palloc(sizeof(IndexInfo *) * list_length(indexes));
	foreach (lc, indexes)
	{
		Relation index = index_open(lfirst_oid(lc), lock);
		IndexInfo *info = BuildIndexInfo(index);

		if (info->ii_ExclusionOps)
			refuse_altered(rel);
		if (info->ii_Predicate != NIL)
			info->ii_PredicateState = ExecPrepareQual(info->ii_Predicate, shape->estate);
		if (info->ii_Expressions != NIL)
			info->ii_ExpressionsState = ExecPrepareExprList(info->ii_Expressions, shape->estate);
		shape->index[shape->nindexes] = lfirst_oid(lc);
		shape->info[shape->nindexes++] = info;
		index_close(index, NoLock);
	}
	MemoryContextSwitchTo(caller);
	return shape;
}

static void
forget_shapes(Datum arg, Oid relid)
{
	messages++;
	for (JournalShape *shape = shapes; shape; shape = shape->next)
	{
		if (!OidIsValid(relid) || relid == shape->relid)
			shape->valid = false;
		for (int i = 0; i < shape->nindexes; i++)
			if (relid == shape->index[i])
				shape->valid = false;
	}
}

/* The shape of a table, which must have been locked before. */
JournalShape *
journal_shape_find(Relation rel, LOCKMODE lock)
{
	static bool registered = false;
	JournalShape *shape;
	uint64 seen;

	for (shape = shapes; shape; shape = shape->next)
		if (shape->relid == RelationGetRelid(rel) && shape->valid)
			return shape;

	if (!registered)
		CacheRegisterRelcacheCallback(forget_shapes, (Datum) 0);
	registered = true;
	seen = messages;
	shape = read_shape(rel, lock);
	shape->valid = messages == seen;
	/* Nobody counts who uses the others: a call that does ends before its transaction. */
	for (JournalShape **s = &shapes; *s;)
	{
		JournalShape *old = *s;

		if (old->valid)
			s = &old->next;
		else
		{
			*s = old->next;
			MemoryContextSetParent(old->context, TopTransactionContext);
		}
	}
	MemoryContextSetParent(shape->context, CacheMemoryContext);
	shape->next = shapes;
	shapes = shape;
	return shape;
}
