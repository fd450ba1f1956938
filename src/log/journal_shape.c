/*
 * journal_shape.c
 *		What an insert into a table of the log needs to know about it, cached for the session:
 *		its columns, and its indexes with their prepared predicates and expressions.
 *
 * A table that somebody has altered in a way that direct access would ignore is refused.
 *
 * A cached shape is valid until a relcache message names the table or one of its indexes.  A
 * command that adds, drops or rebuilds an index, or alters the table, sends such a message
 * when it commits.  The command either locks the table against writers, or (CONCURRENTLY)
 * waits after each of its steps for all transactions that had locked the table before.  A
 * session processes its messages whenever it locks a table.  So after we hold the table lock
 * the cached shape is current; a CREATE INDEX CONCURRENTLY that starts now will wait for us
 * and index the rows that we did not.  An index that is not ready for inserts is in the shape
 * too, because the message that it has become ready names only the index.
 *
 * Messages are processed at any time, so a shape may become outdated while a JournalRel uses
 * it.  Such a shape is kept until the end of the transaction; no JournalRel lives longer, with
 * or without an error.
 */
#include "log/log.h"

#include "access/genam.h"
#include "catalog/index.h"
#include "catalog/pg_am.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "utils/memutils.h"

static JournalShape *shapes;
static uint64 messages; /* how many relcache messages have come so far */

/* A table's columns as the install script makes them. */
typedef struct Columns
{
	int n;
	uint32 nullable; /* a bit for each column that may be null */
} Columns;

#define BIT(column) (UINT32_C(1) << (column))

static const Columns event_columns = {E_COUNT, BIT(E_EXPIRES_AT) | BIT(E_PARENT_ID) | BIT(E_CORRELATION_ID) |
                                                   BIT(E_ON_FAIL) | BIT(E_HEADERS)};
static const Columns transition_columns = {T_COUNT, BIT(T_PREV_STATE) | BIT(T_TOKEN) | BIT(T_WAKE_AT) |
                                                        BIT(T_EXPIRES_AT) | BIT(T_SUSPENDED_BY) | BIT(T_WORKER) |
                                                        BIT(T_DETAIL)};
static const Columns idempotency_columns = {K_COUNT, 0};

/*
 * Whether a table has the expected columns.  Columns that were added and dropped again are
 * fine: they stay in the catalog, and new rows have nulls there.
 */
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
	        errdetail("eda writes this table without the executor.  It would ignore added columns, constraints, rules "
	                  "and triggers, and that a partition was detached."),
	        errhint("Undo the change; keep your own data in a table of your own."));
}

/* Raise ED011 if the table has something that direct access would ignore. */
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
	/* The views do not show the rows of a leaf that was detached. */
	altered |= columns != &idempotency_columns && !rel->rd_rel->relispartition;
	if (altered || !has_columns(desc, columns) || (desc->constr && desc->constr->num_check > 0))
		refuse_altered(rel);
}

/*
 * The oids of a table's indexes, the primary key first; raises ED011 if there is no primary key.
 */
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

/*
 * Check a table and read its shape.  The shape is in a memory context of its own, which is a
 * child of the caller's, so that it goes away if there is an error.
 */
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

/* A relcache message has come: relid is a table or an index, or InvalidOid for all of them. */
static void
shape_relcache_callback(Oid relid)
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

/*
 * The shape of a table, which the caller has opened and locked; its indexes are locked in the
 * same mode when they are read.  The shape can be used until the end of the transaction.
 * Raises ED011 if the table was altered.
 */
JournalShape *
journal_shape_find(Relation rel, LOCKMODE lock)
{
	JournalShape *shape;
	uint64 seen;

	for (shape = shapes; shape; shape = shape->next)
		if (shape->relid == RelationGetRelid(rel) && shape->valid)
			return shape;

	relcache_watch(shape_relcache_callback);
	seen = messages;
	shape = read_shape(rel, lock);
	shape->valid = messages == seen;
	/*
	 * Free the outdated shapes at the end of the transaction: until then a JournalRel may use
	 * them.
	 */
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
