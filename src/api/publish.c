/*
 * publish.c
 *		The SQL functions that publish events.  Spinoffs and on-fail events are also published
 *		here, with publish_items().
 *
 * A call first makes all its checks.  Then it claims its idempotency keys, and last it writes
 * the events.  Claiming and writing may wait for another transaction with the same key or id;
 * both go through their keys or ids in order, so that two calls cannot deadlock.
 */
#include "api/api.h"

#include "catalog/pg_type.h"
#include "common/cryptohash.h"
#include "common/sha2.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#define MAX_FLOW_ID 512     /* bytes; limited because flow_id is an index key */
#define MAX_HEADERS 8192    /* bytes, names and values together */
#define KEY_SCOPE "publish" /* the scope of our keys in eda.idempotency, which has others too */

PG_FUNCTION_INFO_V1(eda_publish);
PG_FUNCTION_INFO_V1(eda_publish_many);
PG_FUNCTION_INFO_V1(eda_publish_many_arrays);

/* ------------------------------------------------------------------------
 * Event ids
 * ------------------------------------------------------------------------ */

/*
 * Get n random bytes.  They are generated 512 at a time, because a call costs more than its
 * bytes.
 */
static void
random_bytes(uint8 *out, int n)
{
	static uint8 pool[512];
	static int left = 0;

	if (left < n)
	{
		if (!pg_strong_random(pool, sizeof(pool)))
			ereport(ERROR, errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not generate random bytes for an event id"));
		left = sizeof(pool);
	}
	left -= n;
	memcpy(out, pool + left, n);
}

/*
 * Make a UUID v7 (RFC 9562): the milliseconds of now, then the microseconds within the
 * millisecond as 12 bits (method 3), then random bits.  Each id that a session makes is greater
 * than the one before it, even if the clock stands still or steps back by up to a second.
 */
static void
make_event_id(TimestampTz now, pg_uuid_t *id)
{
	static uint64 last = 0;
	uint64 us = (uint64) (now + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY);
	uint64 stamp = ((us / 1000) << 12) | ((us % 1000) * 4096 / 1000);

	/*
	 * If the clock has jumped back by more than a second, somebody has set it.  The id then has
	 * the new time, because the time in an id decides which leaf the event is in.
	 */
	if (stamp <= last && last - stamp < ((uint64) 1000 << 12))
		stamp = last + 1;
	last = stamp;
	for (int i = 0; i < 6; i++)
		id->data[i] = (uint8) (stamp >> (52 - 8 * i));
	id->data[6] = 0x70 | ((stamp >> 8) & 0x0F);
	id->data[7] = (uint8) stamp;
	random_bytes(id->data + 8, 8);
	id->data[8] = 0x80 | (id->data[8] & 0x3F);
}

/* ------------------------------------------------------------------------
 * Checks
 * ------------------------------------------------------------------------ */

/* Whether c may be in an HTTP token (RFC 9110). */
static bool
is_token_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL);
}

static void
check_header_name(const char *name, int len)
{
	bool good = len > 0;

	for (int i = 0; i < len; i++)
		good &= is_token_char(name[i]);
	if (!good)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid header name: \"%.*s\"", len, name),
		        errhint("A header name is an HTTP token: letters, digits and !#$%%&'*+-.^_`|~"));
	if ((len >= 5 && pg_strncasecmp(name, "Nats-", 5) == 0) || (len >= 4 && pg_strncasecmp(name, "Eda-", 4) == 0))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("header \"%.*s\" is reserved", len, name),
		        errhint("Names that start with \"Nats-\" or \"Eda-\" are set by eda itself."));
}

/*
 * Check that headers are an object of strings which can be sent as HTTP and NATS headers.
 * Raises 22023, and ED009 if they are too large.
 */
static void
check_headers(Jsonb *headers)
{
	JsonbIterator *it;
	JsonbIteratorToken token;
	JsonbValue v;
	int size = 0;

	if (!JB_ROOT_IS_OBJECT(headers))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("headers must be a JSON object"),
		        errhint("For example '{\"traceparent\": \"00-...\"}'."));
	it = JsonbIteratorInit(&headers->root);
	while ((token = JsonbIteratorNext(&it, &v, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
			check_header_name(v.val.string.val, v.val.string.len);
		if (token == WJB_VALUE && (v.type != jbvString || memchr(v.val.string.val, '\r', v.val.string.len) != NULL ||
		                           memchr(v.val.string.val, '\n', v.val.string.len) != NULL))
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			        errmsg("a header's value must be a string without line breaks"));
		if (token == WJB_KEY || token == WJB_VALUE)
			size += v.val.string.len;
	}
	if (size > MAX_HEADERS)
		ereport(ERROR, errcode(ERRCODE_EDA_TOO_LARGE), errmsg("headers have %d bytes", size),
		        errhint("Names and values can have at most %d bytes together; put the rest into the payload.",
		                MAX_HEADERS));
}

/*
 * Check an item before anything is written.  Returns the rules of its event type.  Raises
 * 22004, 22023, ED005 or ED009.
 */
static const EventType *
check_item(const PublishItem *item)
{
	const EventType *type;

	if (item->event_type == NULL)
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("event_type must not be null"));
	type = event_type_by_name(item->event_type, false);
	if (item->flow_id == NULL || item->flow_id[0] == '\0')
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
		        errmsg("flow_id of event type \"%s\" must not be null or empty", type->name),
		        errhint("Give the id of the business transaction that the event belongs to, such as an order number."));
	if (strlen(item->flow_id) > MAX_FLOW_ID)
		ereport(ERROR, errcode(ERRCODE_EDA_TOO_LARGE), errmsg("flow_id has %zu bytes", strlen(item->flow_id)),
		        errhint("It can have at most %d bytes.", MAX_FLOW_ID));
	if (item->flow_type && strcmp(item->flow_type, type->flow_type) != 0)
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		        errmsg("event type \"%s\" belongs to flow type \"%s\", not \"%s\"", type->name, type->flow_type,
		               item->flow_type),
		        errhint("Leave flow_type out, or publish an event type of that flow."));
	if (item->payload && !item->no_size_limit && VARSIZE(item->payload) > (Size) eda_max_payload_size * 1024)
		ereport(ERROR, errcode(ERRCODE_EDA_TOO_LARGE),
		        errmsg("payload of event type \"%s\" has %u bytes", type->name, (unsigned) VARSIZE(item->payload)),
		        errdetail("eda.max_payload_size is %d kB.", eda_max_payload_size),
		        errhint("Store the data elsewhere and publish a reference to it, or raise the setting."));
	if (item->headers)
		check_headers(item->headers);
	if (item->on_fail_event_type && item->on_fail_event_type[0] != '\0')
		(void) event_type_by_name(item->on_fail_event_type, false);
	if (item->has_scheduled_at && TIMESTAMP_NOT_FINITE(item->scheduled_at))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("scheduled_at must be finite"),
		        errhint("Leave scheduled_at out if the event is due at once."));
	if (item->idempotency_key && item->idempotency_key[0] == '\0')
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("idempotency_key must not be empty"));
	return type;
}

/*
 * The item's id or key has been used for an event before, which has this id, event type and flow
 * id.  Raise ED007 unless the item has the same event type and flow id.
 */
static void
check_same(const PublishItem *item, const pg_uuid_t *id, const char *type, const char *flow_id)
{
	if (strcmp(item->event_type, type) == 0 && strcmp(item->flow_id, flow_id) == 0)
		return;
	ereport(ERROR, errcode(ERRCODE_EDA_KEY_REUSED),
	        errmsg("%s was used before for another event",
	               item->idempotency_key ? psprintf("idempotency key \"%s\"", item->idempotency_key)
	                                     : psprintf("event id %s", uuid_text(id))),
	        errdetail("Event %s has event type \"%s\" and flow id \"%s\"; this call has \"%s\" and \"%s\".",
	                  uuid_text(id), type, flow_id, item->event_type, item->flow_id),
	        errhint("Use a new id or key for each event; repeat a call with the same arguments only."));
}

/* The same for an event that is in the log. */
static void
check_same_as_published(const PublishItem *item, const pg_uuid_t *id)
{
	Event event;

	if (journal_find_event(id, &event))
		check_same(item, id, event.event_type, event.flow_id);
}

/* ------------------------------------------------------------------------
 * Publishing
 * ------------------------------------------------------------------------ */

/* An item on its way into the log. */
typedef struct Publishing
{
	PublishItem *item;
	const EventType *type;
	pg_uuid_t *id;
	pg_uuid_t key_hash;
	bool done; /* the idempotency key already has an event: there is nothing to write */
} Publishing;

/* The first 16 bytes of the SHA-256 of an idempotency key. */
static void
hash_key(const char *key, pg_uuid_t *hash)
{
	uint8 digest[PG_SHA256_DIGEST_LENGTH];
	pg_cryptohash_ctx *ctx = pg_cryptohash_create(PG_SHA256);

	if (ctx == NULL || pg_cryptohash_init(ctx) < 0 || pg_cryptohash_update(ctx, (const uint8 *) key, strlen(key)) < 0 ||
	    pg_cryptohash_final(ctx, digest, sizeof(digest)) < 0)
		ereport(ERROR, errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not hash an idempotency key"));
	pg_cryptohash_free(ctx);
	memcpy(hash->data, digest, UUID_LEN);
}

static int
compare_hashes(const void *a, const void *b)
{
	const Publishing *x = *(Publishing *const *) a;
	const Publishing *y = *(Publishing *const *) b;
	int order = memcmp(&x->key_hash, &y->key_hash, UUID_LEN);

	return order != 0 ? order : (x > y) - (x < y);
}

/*
 * Claim the idempotency keys, in the order of their hashes, so that two calls cannot deadlock.
 * An item whose key already has an event is done, and gets that event's id.
 */
static void
claim_keys(Publishing *pubs, int n)
{
	Publishing **keyed = palloc(sizeof(Publishing *) * n);
	int nkeyed = 0;

	for (int i = 0; i < n; i++)
		if (pubs[i].item->idempotency_key)
		{
			hash_key(pubs[i].item->idempotency_key, &pubs[i].key_hash);
			keyed[nkeyed++] = &pubs[i];
		}
	if (nkeyed > 1)
		qsort(keyed, nkeyed, sizeof(Publishing *), compare_hashes);
	for (int i = 0; i < nkeyed; i++)
	{
		Publishing *p = keyed[i];
		Publishing *before = i > 0 ? keyed[i - 1] : NULL;

		if (before && memcmp(&before->key_hash, &p->key_hash, UUID_LEN) == 0)
		{
			*p->id = *before->id;
			check_same(p->item, p->id, before->item->event_type, before->item->flow_id);
			p->done = true;
		}
		else if (!idempotency_claim(KEY_SCOPE, &p->key_hash, p->id, p->id))
		{
			check_same_as_published(p->item, p->id);
			p->done = true;
		}
	}
}

/* Make the event and its first transition, except for its xid. */
static void
make_rows(const Publishing *p, TimestampTz now, Event *event, Transition *first)
{
	const PublishItem *item = p->item;
	TimestampTz start = item->has_scheduled_at && item->scheduled_at > now ? item->scheduled_at
	                                                                       : event_type_attempt_at(p->type, 0, now);

	memset(event, 0, sizeof(*event));
	event->id = *p->id;
	event->leaf = segment_leaf_of(p->id);
	event->created_at = now;
	event->expires_at = event_type_expires_at(p->type, item->has_scheduled_at ? Max(item->scheduled_at, now) : now);
	event->event_type = p->type->name;
	event->flow_type = p->type->flow_type;
	event->flow_id = item->flow_id;
	event->has_parent = item->has_parent;
	event->parent_id = item->parent_id;
	event->correlation_id = item->correlation_id;
	event->on_fail_event_type = item->on_fail_event_type;
	event->headers = item->headers;
	event->payload = item->payload;
	if (event->payload == NULL)
		event->payload = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));

	memset(first, 0, sizeof(*first));
	first->event_id = *p->id;
	first->version = 1;
	first->type = p->type->id;
	first->state = EDA_AWAITING;
	first->prev_state = EDA_NONE;
	first->leaf = event->leaf;
	first->at = now;
	first->wake_at = start;
	first->expires_at = event->expires_at;
}

/*
 * Publish an event under the id that its publisher has chosen, unless it has been published
 * already.
 */
static void
write_given(Publishing *p, TimestampTz now)
{
	Event event;
	Transition first;

	do
	{
		if (journal_find_event(p->id, &event))
		{
			check_same(p->item, p->id, event.event_type, event.flow_id);
			return;
		}
		make_rows(p, now, &event, &first);
	} while (!journal_publish_given(&event, &first));
}

static int
compare_given(const void *a, const void *b)
{
	return memcmp((*(Publishing *const *) a)->id, (*(Publishing *const *) b)->id, UUID_LEN);
}

/*
 * Write the items that are not done.  Those with ids that their publisher has chosen are
 * written one by one in the order of their ids, so that two calls cannot deadlock; then all
 * others together.
 */
static void
write_events(Publishing *pubs, int n, TimestampTz now)
{
	Event *events = palloc(sizeof(Event) * n);
	Transition *first = palloc(sizeof(Transition) * n);
	Publishing **given = palloc(sizeof(Publishing *) * n);
	int ngiven = 0;
	int m = 0;

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (pubs[i].done)
			continue;
		if (pubs[i].item->has_event_id)
			given[ngiven++] = &pubs[i];
		else
		{
			make_rows(&pubs[i], now, &events[m], &first[m]);
			m++;
		}
	}
	qsort(given, ngiven, sizeof(Publishing *), compare_given);
	for (int i = 0; i < ngiven; i++)
		write_given(given[i], now);
	if (m > 0)
		journal_publish(events, first, m);
}

/*
 * Publish n items and set ids[i] to the id of item i's event: a new event, or an earlier one
 * that was published under the same id or idempotency key.  Waits for other transactions that
 * are publishing under the same id or key.
 *
 * Raises 22004 or 22023 for a missing or bad value, ED005 for an unknown event type, ED007 for
 * an id or key that was used for another event, and ED009 for a value that is too large.
 */
void
publish_items(PublishItem *items, int n, pg_uuid_t *ids)
{
	Publishing *pubs = palloc0(sizeof(Publishing) * Max(n, 1));
	TimestampTz now = clock_now();
	ErrorContextCallback context = {.previous = error_context_stack, .callback = item_context};

	if (n == 0)
		return;
	journal_require_write("eda.publish()");
	error_context_stack = &context;
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		context.arg = &items[i];
		pubs[i].item = &items[i];
		pubs[i].type = check_item(&items[i]);
		pubs[i].id = &ids[i];
		if (items[i].has_event_id)
			ids[i] = items[i].event_id;
		else
			make_event_id(now, &ids[i]);
	}
	error_context_stack = context.previous;
	claim_keys(pubs, n);
	write_events(pubs, n, now);
}

/* ------------------------------------------------------------------------
 * SQL
 * ------------------------------------------------------------------------ */

static Datum
uuid_array(const pg_uuid_t *ids, int n)
{
	Datum *elements = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		elements[i] = UUIDPGetDatum(&ids[i]);
	return PointerGetDatum(construct_array(elements, n, UUIDOID, UUID_LEN, false, TYPALIGN_CHAR));
}

/* eda.publish(); raises the errors of publish_items() */
Datum
eda_publish(PG_FUNCTION_ARGS)
{
	PublishItem item = {0};
	pg_uuid_t *id = palloc(sizeof(pg_uuid_t));

	item.event_type = args_text(fcinfo, 0);
	item.flow_id = args_text(fcinfo, 1);
	item.payload = PG_ARGISNULL(2) ? NULL : PG_GETARG_JSONB_P(2);
	item.has_scheduled_at = !PG_ARGISNULL(3);
	if (item.has_scheduled_at)
		item.scheduled_at = PG_GETARG_TIMESTAMPTZ(3);
	item.has_event_id = !PG_ARGISNULL(4);
	if (item.has_event_id)
		item.event_id = *PG_GETARG_UUID_P(4);
	item.idempotency_key = args_text(fcinfo, 5);
	item.on_fail_event_type = args_text(fcinfo, 6);
	item.headers = PG_ARGISNULL(7) ? NULL : PG_GETARG_JSONB_P(7);
	item.correlation_id = args_text(fcinfo, 8);
	item.has_parent = !PG_ARGISNULL(9);
	if (item.has_parent)
		item.parent_id = *PG_GETARG_UUID_P(9);
	item.flow_type = args_text(fcinfo, 10);
	publish_items(&item, 1, id);
	PG_RETURN_UUID_P(id);
}

/* eda.publish_many(jsonb) */
Datum
eda_publish_many(PG_FUNCTION_ARGS)
{
	PublishItem *items;
	pg_uuid_t *ids;
	int n;

	if (PG_ARGISNULL(0))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("events must not be null"));
	n = item_parse(PG_GETARG_JSONB_P(0), "events", NULL, &items);
	ids = palloc(sizeof(pg_uuid_t) * Max(n, 1));
	publish_items(items, n, ids);
	PG_RETURN_DATUM(uuid_array(ids, n));
}

/* eda.publish_many(text, text[], jsonb[], timestamptz) */
Datum
eda_publish_many_arrays(PG_FUNCTION_ARGS)
{
	const char *event_type = args_text(fcinfo, 0);
	Datum *flow_ids;
	Datum *payloads = NULL;
	bool *null_flow;
	bool *null_payload = NULL;
	PublishItem *items;
	pg_uuid_t *ids;
	int n;
	int npayloads = 0;

	if (PG_ARGISNULL(1))
		ereport(ERROR, errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("flow_ids must not be null"));
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT, &flow_ids, &null_flow, &n);
	if (!PG_ARGISNULL(2))
	{
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), JSONBOID, -1, false, TYPALIGN_INT, &payloads, &null_payload,
		                  &npayloads);
		if (npayloads != n)
			ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			        errmsg("there are %d flow ids and %d payloads", n, npayloads),
			        errhint("Give one payload for each flow id, or none."));
	}
	items = palloc0(sizeof(PublishItem) * Max(n, 1));
	ids = palloc(sizeof(pg_uuid_t) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		items[i].list = "flow_ids";
		items[i].element = i + 1;
		items[i].event_type = event_type;
		items[i].flow_id = null_flow[i] ? NULL : TextDatumGetCString(flow_ids[i]);
		items[i].payload = payloads && !null_payload[i] ? DatumGetJsonbP(payloads[i]) : NULL;
		items[i].has_scheduled_at = !PG_ARGISNULL(3);
		items[i].scheduled_at = PG_ARGISNULL(3) ? 0 : PG_GETARG_TIMESTAMPTZ(3);
	}
	publish_items(items, n, ids);
	PG_RETURN_DATUM(uuid_array(ids, n));
}
