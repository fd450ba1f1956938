/*
 * feed.c
 *		Publish transitions by NOTIFY.
 *
 * The feed is only a hint, because any session can LISTEN, and can forge a NOTIFY.  So it
 * carries no payloads.  Each element has a sequence number [engine start, n], which counts the
 * transitions of its channel; a client that finds a gap calls eda.changes().  The engine makes
 * gaps on purpose: above FEED_RATE transitions a second it counts the others without publishing
 * them, because no person and no page could follow.
 *
 * The elements published after a tick get the highest numbers of that tick, and the last one on
 * the channel eda_events carries the snapshot that the tail has read.  A client that has found no
 * gap up to there has received exactly the transitions that the snapshot sees.  A client that
 * has found a gap can read the transitions that the last snapshot it received does not see.
 * At least one transition is published after each tick that has read any; otherwise a gap at
 * the end would not be found before more happens.
 *
 * The notifications are sent in a transaction of their own.  If that fails (NOTIFY's queue is
 * full because a session listens and never reads), the engine goes on.
 */
#include "engine/engine.h"

#include "catalog/pg_type.h"
#include "commands/async.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define FEED_RATE 10000     /* transitions published per second */
#define FEED_MAX_BYTES 7900 /* NOTIFY takes payloads below 8000 bytes */
#define SNAPSHOT_MAX_BYTES 1000

/* A transition to be published. */
typedef struct FeedItem
{
	pg_uuid_t event_id;
	TimestampTz at;
	int32 version;
	int32 attempt;
	int32 type;
	EdaState state;
	int leaf;
	int64 n;      /* its sequence number on eda_events */
	int64 flow_n; /* its sequence number on the flow type's channel */
} FeedItem;

static FeedItem *items = NULL;
static int nitems = 0;
static int max_items = 0;
static int64 total = 0;           /* the last sequence number on eda_events */
static int64 started = 0;         /* the engine's start, in seconds since 1970 */
static double budget = FEED_RATE; /* how many transitions may be published now */
static TimestampTz budget_at = 0;

/* Count a transition and, within the budget, remember it for feed_send(). */
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

/* The payload of a notification: a JSON array that is sent before it grows too long. */
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

/* Add an element with its sequence number and, to the last one on eda_events, the snapshot. */
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

/*
 * The snapshot that the tail has read, as text.  If its list of running transactions is too long,
 * a snapshot that sees only what is older than all of these.
 */
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

/* The JSON text of an element, up to its sequence number. */
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

/* Order by time; the transitions of one event are then in order, as its times never go back. */
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

/* Read the events of the items, if the feed shows them, and send the notifications. */
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

/* Sort the items, and give them the highest sequence numbers in that order. */
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

/* Publish the transitions that feed_add() has collected; outside any transaction. */
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
