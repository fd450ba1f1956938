/*
 * state.c
 *		Save the engine's state, and load it after a restart: one row, written in one commit.
 *
 * The tail's snapshot, the cursors and the counts belong together.  They are saved between ticks,
 * when no event is queued for a move.  Parked events and unacknowledged deliveries are saved
 * with them.  Offers are not saved: a new engine finds dispatched events again through their
 * deadlines, starting with the oldest.
 *
 * From an older row the next engine only has more to read again.  So saving can be put off.
 */
#include "engine/engine.h"

#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define SAVE_INTERVAL (5 * USECS_PER_SEC)
#define MAX_PARKED_SAVED 1000 /* with more events parked, the state is not saved */

/* Saved in eda.engine_state as numbers: a new kind must come last, and none may be renumbered. */
typedef enum CursorKind
{
	KIND_DEADLINE,
	KIND_EXPIRY,
	KIND_REDRIVEN,
	KIND_DISPATCHED,
	KIND_DUE,
	KIND_RESUME,
	KIND_DEAD
} CursorKind;

/* A growing array of bigint. */
typedef struct Numbers
{
	Datum *v;
	int n;
	int max;
} Numbers;

static void
add_number(Numbers *numbers, int64 value)
{
	ARRAY_GROW(numbers->v, numbers->n, numbers->max, CurrentMemoryContext);
	numbers->v[numbers->n++] = Int64GetDatum(value);
}

static Datum
numbers_datum(const Numbers *numbers)
{
	return PointerGetDatum(construct_array(numbers->v, numbers->n, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

static void
add_cursor(Numbers *numbers, CursorKind kind, int32 type, int leaf, TimestampTz key)
{
	if (key == EDA_NEVER)
		return;
	add_number(numbers, kind);
	add_number(numbers, type);
	add_number(numbers, leaf);
	add_number(numbers, key);
}

/* The cursor of a kind, event type and leaf; NULL if there is none. */
static Cursor *
find_cursor(CursorKind kind, int32 type_id, int leaf)
{
	EngineType *type = engine_type(type_id);

	if (leaf < 0 || leaf >= EDA_LEAVES)
		return NULL;
	switch (kind)
	{
		case KIND_DEADLINE:
			return &engine.deadline[leaf];
		case KIND_EXPIRY:
			return &engine.expiry[leaf];
		case KIND_REDRIVEN:
			return &engine.redriven[leaf];
		case KIND_DISPATCHED:
			return &engine.dispatched[leaf];
		case KIND_DUE:
			return type ? &type->due[leaf] : NULL;
		case KIND_RESUME:
			return type ? &type->resume[leaf] : NULL;
		case KIND_DEAD:
			return type ? &type->dead[leaf] : NULL;
	}
	return NULL;
}

/* Read an array column of the row that SPI has found.  Returns how many elements it has. */
static int
read_column(int column, Oid type, int typlen, bool byval, char align, Datum **elements)
{
	bool isnull;
	Datum value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull);
	int n = 0;

	*elements = NULL;
	if (!isnull)
		deconstruct_array(DatumGetArrayTypeP(value), type, typlen, byval, align, elements, NULL, &n);
	return n;
}

static void
read_cursors(void)
{
	static const pg_uuid_t first = {{0}};
	Datum *v;
	int n = read_column(4, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &v);

	for (int i = 0; i + 3 < n; i += 4)
	{
		Cursor *cursor = find_cursor(DatumGetInt64(v[i]), DatumGetInt64(v[i + 1]), DatumGetInt64(v[i + 2]));

		if (cursor)
			cursor_pull(cursor, DatumGetInt64(v[i + 3]), &first);
	}
}

static void
read_counters(void)
{
	Datum *v;
	int n = read_column(5, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &v);

	for (int i = 0; i + EDA_STATES < n; i += EDA_STATES + 1)
	{
		EngineType *type = engine_type(DatumGetInt64(v[i]));

		for (int s = 0; type && s < EDA_STATES; s++)
			type->counts[s] = DatumGetInt64(v[i + 1 + s]);
	}
}

/* Park an event, for the first tick to queue it for a move. */
static void
park_now(const pg_uuid_t *id)
{
	Todo todo = {*id, -1};

	todo_park(&todo, InvalidTransactionId, engine.now);
}

static void
read_ids(int column, void (*take)(const pg_uuid_t *id))
{
	Datum *v;
	int n = read_column(column, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR, &v);

	for (int i = 0; i < n; i++)
		take(DatumGetUUIDP(v[i]));
}

/*
 * Load the state that the last engine saved; inside a transaction.  Returns NULL, or why this
 * engine must stay idle: this database is not, or not yet, the home of its log.
 */
const char *
state_load(void)
{
	const char *why = NULL;

	SPI_connect();
	if (SPI_execute("SELECT system_identifier, database_oid, tail::pg_catalog.text, cursors, counters, parked, "
	                "unacknowledged FROM eda.engine_state",
	                true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read eda.engine_state");
	if (SPI_processed == 0)
		why = engine.ntypes == 0 ? "waiting for the first event type"
		                         : "this database is a restored copy of the log; its events stay as they are";
	else
	{
		HeapTuple row = SPI_tuptable->vals[0];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;

		if (DatumGetInt64(SPI_getbinval(row, desc, 1, &isnull)) != (int64) GetSystemIdentifier() ||
		    DatumGetObjectId(SPI_getbinval(row, desc, 2, &isnull)) != MyDatabaseId)
			why =
				"this database is a copy; the home of its log is another database or server; its events stay as they are";
		else
		{
			tail_snapshot_from_text(SPI_getvalue(row, desc, 3));
			read_cursors();
			read_counters();
			read_ids(6, park_now);
			read_ids(7, delivery_recover);
		}
	}
	SPI_finish();
	return why;
}

/* List all cursors and counts. */
static void
collect_numbers(Numbers *cursors, Numbers *counters)
{
	TimestampTz oldest = dispatch_oldest();
	TimestampTz watched[EDA_LEAVES];

	delivery_oldest_deadlines(watched);
	delivery_mark_dead_since();
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
	{
		add_cursor(cursors, KIND_DEADLINE, 0, leaf, Min(engine.deadline[leaf].key, watched[leaf]));
		add_cursor(cursors, KIND_EXPIRY, 0, leaf, engine.expiry[leaf].key);
		add_cursor(cursors, KIND_REDRIVEN, 0, leaf, engine.redriven[leaf].key);
		add_cursor(cursors, KIND_DISPATCHED, 0, leaf, oldest);
	}
	for (int i = 0; i < engine.ntypes; i++)
	{
		EngineType *type = engine.types[i];

		for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		{
			add_cursor(cursors, KIND_DUE, type->id, leaf, timers_due(type, leaf));
			add_cursor(cursors, KIND_RESUME, type->id, leaf, type->resume[leaf].key);
			add_cursor(cursors, KIND_DEAD, type->id, leaf, type->dead_since[leaf]);
		}
		add_number(counters, type->id);
		for (int s = 0; s < EDA_STATES; s++)
			add_number(counters, type->counts[s]);
	}
}

static Datum
ids_datum(Datum *ids, int n)
{
	return PointerGetDatum(construct_array(ids, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/* Write the row. */
static void
write_row(TimestampTz now)
{
	Oid types[] = {TEXTOID, INT8ARRAYOID, INT8ARRAYOID, UUIDARRAYOID, UUIDARRAYOID, TIMESTAMPTZOID};
	Numbers cursors = {0};
	Numbers counters = {0};
	Datum values[6];
	Datum *ids;
	int n;

	collect_numbers(&cursors, &counters);
	values[0] = CStringGetTextDatum(tail_snapshot_to_text());
	values[1] = numbers_datum(&cursors);
	values[2] = numbers_datum(&counters);
	n = todo_parked_ids(&ids);
	values[3] = ids_datum(ids, n);
	n = delivery_unacknowledged(&ids);
	values[4] = ids_datum(ids, n);
	values[5] = TimestampTzGetDatum(now);
	SPI_connect();
	if (SPI_execute_with_args("UPDATE eda.engine_state SET tail = $1::pg_catalog.pg_snapshot, cursors = $2, "
	                          "counters = $3, parked = $4, unacknowledged = $5, saved_at = $6",
	                          6, types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not save eda.engine_state");
	SPI_finish();
}

/*
 * Save the engine's state if the last time was SAVE_INTERVAL ago; outside any transaction.  Not
 * while the table is locked, nor if the extension is being dropped or was created anew: this
 * state is not about the new extension's log.
 */
void
state_save(void)
{
	TimestampTz now = GetCurrentTimestamp();
	bool locked;

	if (!engine.changed || !todo_is_empty() || todo_parked_ids(NULL) > MAX_PARKED_SAVED ||
	    (now >= engine.saved_at && now < engine.saved_at + SAVE_INTERVAL))
		return;
	for (int leaf = 0; leaf < EDA_LEAVES; leaf++)
		if (engine.dispatched[leaf].key != EDA_NEVER)
			return;
	xact_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	locked = xact_lock_log() && ConditionalLockRelationOid(catalog_get(false)->engine_state, RowExclusiveLock);
	if (locked)
		write_row(now);
	PopActiveSnapshot();
	xact_commit();
	if (!locked)
		return;
	engine.saved_at = now;
	engine.changed = false;
}
