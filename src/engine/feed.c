/*
 * feed.c
 *		Tell every step by NOTIFY, from the engine only.
 *
 * The feed is a hint: anyone can LISTEN, and forge a NOTIFY.  So it carries no
 * payloads, and each element a sequence number [engine start, n], counted for
 * each channel; a client that sees a gap reads the view.  Gaps are made on
 * purpose when more happens than a person or a page could follow: beyond
 * FEED_RATE a second, transitions are counted and not told.
 *
 * What is told of a tick has the highest numbers of that tick, and its last
 * element on eda_events carries the snapshot that the tail has read.  So a client
 * without a gap up to there has been told all that the snapshot sees, and nothing
 * else; one with a gap can read what a snapshot it was given earlier does not see.
 * Each tick tells one transition at least, or a gap would not show until more happens.
 *
 * The notifications go out in a transaction of their own.  Its failure (the
 * NOTIFY queue is full because some session listens and never reads) must not
 * stop the engine.
 */
#include "engine/engine.h"

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define FEED_RATE 10000     /* transitions a second */
#define FEED_MAX_BYTES 7900 /* NOTIFY takes payloads below 8000 bytes */
#define SNAPSHOT_MAX_BYTES 1000

typedef struct FeedItem
{
	pg_uuid_t event_id;
	TimestampTz at;
	int32 version;
	int32 attempt;
	int32 type;
	EdaState state;
	int leaf;
	int64 n;
	int64 flow_n;
} FeedItem;

static FeedItem *items = NULL;
static int nitems = 0;
static int max_items = 0;
static int64 total = 0;           /* of the channel eda_events */
static int64 started = 0;         /* seconds since 1970: the other half of the sequence */
static double budget = FEED_RATE; /* transitions that may be told now */
static TimestampTz budget_at = 0;

/* Remember a transition, to be told after this tick. */
void
feed_add(const Transition *t, int leaf, EngineType *type)
{
	FeedItem *item;

	total++;
	engine.flows[type->flow].feed_n++;
	if (eda_feed_level == EDA_FEED_OFF || budget < 1 || engine.recovering)
		return;
	budget--;
	ARRAY_GROW(items, nitems, max_items, engine.context);
	item = &items[nitems++];
	item->event_id = t->event_id;
	item->at = t->at;
	item->version = t->version;
	item->attempt = t->attempt;
	item->type = t->type;
	item->state = t->state;
	item->leaf = leaf;
}

/* A payload in the making: a JSON array that is sent before it grows too long. */
typedef struct Payload
{
	char channel[NAMEDATALEN];
	StringInfoData body;
} Payload;

static void
flush_payload(Payload *m)
{
	if (m->body.len == 0)
		return;
	appendStringInfoChar(&m->body, ']');
	Async_Notify(m->channel, m->body.data);
	resetStringInfo(&m->body);
}

/* snapshot: NULL if there is more to come on this channel. */
static void
add_to_payload(Payload *m, const char *element, int64 n, const char *snapshot)
{
	StringInfoData end;

	initStringInfo(&end);
	appendStringInfo(&end, ",\"seq\":[" INT64_FORMAT "," INT64_FORMAT "]", started, n);
	if (snapshot)
		appendStringInfo(&end, ",\"snapshot\":\"%s\"", snapshot);
	appendStringInfoChar(&end, '}');
	if (m->body.len + strlen(element) + end.len + 2 > FEED_MAX_BYTES)
		flush_payload(m);
	appendStringInfoString(&m->body, m->body.len == 0 ? "[" : ",");
	appendStringInfoString(&m->body, element);
	appendStringInfoString(&m->body, end.data);
	pfree(end.data);
}

/* What the tail has read; with too many transactions to name, a snapshot that sees less. */
static const char *
snapshot_text(void)
{
	char *text = tail_snapshot_to_text();

	return strlen(text) <= SNAPSHOT_MAX_BYTES
	           ? text
	           : psprintf(UINT64_FORMAT ":" UINT64_FORMAT ":", engine.seen.xmin, engine.seen.xmin);
}

static const char *
iso_time(TimestampTz at)
{
	char buffer[MAXDATELEN + 1];

	JsonEncodeDateTime(buffer, TimestampTzGetDatum(at), TIMESTAMPTZOID, NULL);
	return pstrdup(buffer);
}

/* An element but for its sequence number and closing brace. */
static char *
element_of(const FeedItem *item, const EventType *type, const Event *event)
{
	StringInfoData s;

	initStringInfo(&s);
	appendStringInfo(&s, "{\"event_id\":\"%s\"", uuid_text(&item->event_id));
	if (eda_feed_level == EDA_FEED_FULL)
	{
		appendStringInfo(&s, ",\"event_type\":\"%s\",\"flow_type\":\"%s\",\"flow_id\":", type->name, type->flow_type);
		escape_json(&s, event->flow_id);
	}
	appendStringInfo(&s, ",\"state\":\"%s\",\"version\":%d", lifecycle_state_name(item->state), item->version);
	if (eda_feed_level == EDA_FEED_FULL)
		appendStringInfo(&s, ",\"attempt\":%d,\"at\":\"%s\"", item->attempt, iso_time(item->at));
	return s.data;
}

static Payload *
payload_of_flow(Payload *messages, int flow)
{
	Payload *m = &messages[flow];

	if (m->channel[0] == '\0')
	{
		char *lower = pstrdup(engine.flows[flow].flow_type);

		for (char *c = lower; *c; c++)
			*c = pg_tolower((unsigned char) *c);
		snprintf(m->channel, sizeof(m->channel), "eda_%s", lower);
		initStringInfo(&m->body);
	}
	return m;
}

/* Events are told in the order of their steps; times of one event never go backwards. */
static int
compare_feed_items(const void *a, const void *b)
{
	const FeedItem *x = a;
	const FeedItem *y = b;

	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	if (memcmp(&x->event_id, &y->event_id, UUID_LEN) != 0)
		return memcmp(&x->event_id, &y->event_id, UUID_LEN);
	return x->version - y->version;
}

static void
send_items(void)
{
	Payload all = {"eda_events"};
	Payload *by_flow = palloc0(sizeof(Payload) * Max(engine.nflows, 1));
	EventRef *refs = palloc(sizeof(EventRef) * nitems);
	Event *events = palloc0(sizeof(Event) * nitems);
	int last = nitems - 1;

	initStringInfo(&all.body);
	for (int i = 0; i < nitems; i++)
		refs[i] = (EventRef){items[i].event_id, items[i].leaf};
	if (eda_feed_level == EDA_FEED_FULL)
		journal_read_events(refs, nitems, false, events);
	while (last > 0 && event_type_by_id(items[last].type) == NULL)
		last--;
	for (int i = 0; i < nitems; i++)
	{
		const EventType *rules = event_type_by_id(items[i].type);
		EngineType *type = engine_type(items[i].type);
		char *element;

		if (rules == NULL || type == NULL)
			continue;
		element = element_of(&items[i], rules, &events[i]);
		add_to_payload(&all, element, items[i].n, i == last ? snapshot_text() : NULL);
		add_to_payload(payload_of_flow(by_flow, type->flow), element, items[i].flow_n, NULL);
		pfree(element);
	}
	flush_payload(&all);
	for (int i = 0; i < engine.nflows; i++)
		if (by_flow[i].channel[0] != '\0')
			flush_payload(&by_flow[i]);
}

/* Number the items in the order in which they are told. */
static void
number_items(void)
{
	int64 n = total;
	int64 *flow_n = palloc(sizeof(int64) * Max(engine.nflows, 1));

	qsort(items, nitems, sizeof(FeedItem), compare_feed_items);
	for (int f = 0; f < engine.nflows; f++)
		flow_n[f] = engine.flows[f].feed_n;
	for (int i = nitems - 1; i >= 0; i--)
	{
		EngineType *type = engine_type(items[i].type);

		items[i].n = n--;
		if (type)
			items[i].flow_n = flow_n[type->flow]--;
	}
}

/* Send what feed_add() has collected, outside any transaction. */
void
feed_send(void)
{
	MemoryContext caller = CurrentMemoryContext;
	TimestampTz now = GetCurrentTimestamp();

	if (started == 0)
		started = (now + (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY) / USECS_PER_SEC;
	if (nitems > 0)
	{
		PG_TRY();
		{
			xact_begin();
			PushActiveSnapshot(GetTransactionSnapshot());
			number_items();
			if (xact_lock_log())
				send_items();
			PopActiveSnapshot();
			xact_commit();
		}
		PG_CATCH();
		{
			xact_recover(caller, "could not send the feed");
		}
		PG_END_TRY();
		nitems = 0;
	}
	budget = Min(FEED_RATE, Max(1, budget + FEED_RATE * ((now - budget_at) / (double) USECS_PER_SEC)));
	budget_at = now;
}
