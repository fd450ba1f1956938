/*
 * engine.h
 *		The data and functions that the files of the engine share.  There is one engine
 *		process for each database, and one Engine in it.
 *
 * How data flows: the tail reads new transitions and calls see_transition() for each.  That
 * counts the transition, adds it to the feed, pulls cursors back, updates offers and deliveries,
 * and queues the event for a move if the event is due.  Timers queue the events whose time has
 * come.  journal_append() looks up each queued event, and decide_move() decides by the event's
 * latest transition whether and how the event moves, whatever the reason for queueing it was.
 *
 * A dispatched event enters the ready queue in one way only, after a restart too: the tail
 * reads its transition, dispatch_offer() collects an offer, and dispatch_push() puts the offer
 * into shared memory.
 */
#ifndef EDA_ENGINE_H
#define EDA_ENGINE_H

#include "api/api.h"
#include "broker/broker.h"

#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "utils/hsearch.h"

#define ENGINE_NAME "engine" /* transition.worker */
#define ENGINE_BATCH 1000    /* events moved in one transaction */

/*
 * A place in an index on (time, event id).  The events of all entries before it are in the
 * engine's memory or need nothing more, so a scan can start here.  If key is EDA_NEVER, that is
 * true of the whole index.
 */
typedef struct Cursor
{
	TimestampTz key;
	pg_uuid_t id;
} Cursor;

/* A snapshot with full transaction ids, which outlive the process. */
typedef struct TailSnapshot
{
	uint64 xmin;
	uint64 xmax;
	int nxip;
	uint64 *xip; /* sorted */
} TailSnapshot;

/* How many events may be dispatched now; dispatch.c explains the two numbers. */
typedef struct Window
{
	int room;     /* events that may still become dispatched */
	int reserved; /* the part of room that is meant for events queued in this tick */
} Window;

/* What the engine knows about a flow type. */
typedef struct EngineFlow
{
	char flow_type[NAMEDATALEN];
	int queue; /* index of its FlowQueue in the area, which never changes; -1: not known yet */
	Window window;
	int guaranteed; /* the part of its room that other flow types cannot use up */
	int64 feed_n;   /* sequence number on its feed channel: transitions published or omitted */
} EngineFlow;

/* What the engine knows about an event type.  Members by leaf are indexed by leaf number. */
typedef struct EngineType
{
	int32 id; /* hash key */
	int flow; /* index into Engine.flows */
	int priority;
	bool suspended;
	bool to_broker;        /* its events are delivered through NATS, not by acquire_next */
	dlist_head deliveries; /* deliveries of its dispatched events, the oldest first */
	bool dead_covered;     /* the stream accepts the subject of its dead letters */
	bool covered;          /* the stream accepts the subject of its events */
	char *example;         /* the subject of an event of this type with flow id "x" */
	int max_in_flight;
	int max_dispatched;
	Window window;
	int64 counts[EDA_STATES]; /* events in each state */
	int64 moved[EDA_RATE_BUCKETS][EDA_RATES];
	int64 bucket; /* moved and bucket are as in TypeMetrics */
	TypeCounters counters;
	bool counted;                       /* its numbers have changed since counts_publish() */
	TimestampTz oldest_offer;           /* since when its oldest offer waits */
	Cursor due[EDA_LEAVES];             /* awaiting events, by wake_at */
	Cursor late[EDA_LEAVES];            /* due events that "due" has passed; see timers.c */
	TimestampTz late_until[EDA_LEAVES]; /* the latest wake_at that "late" has to reach */
	Cursor resume[EDA_LEAVES];          /* events suspended because their type was, by at */
	Cursor dead[EDA_LEAVES];            /* dead letters not yet queued for the broker, by at */
	TimestampTz dead_since[EDA_LEAVES]; /* made by delivery_mark_dead_since() for state_save() */
} EngineType;

/* An event that is queued for a move, or parked. */
typedef struct Todo
{
	pg_uuid_t event_id;
	int leaf;       /* -1: not known */
	int errors;     /* how often moving it has raised an error */
	Brief awaiting; /* its latest transition (awaiting_processing), if read in this tick */
} Todo;

typedef enum DeliveryState
{
	DELIVERY_NONE,         /* being removed */
	DELIVERY_WAITING,      /* not handed over to the broker yet */
	DELIVERY_SENT,         /* handed over; the broker has not given a receipt */
	DELIVERY_ACKNOWLEDGED, /* the message is in the stream, or expired before it was sent */
	DELIVERY_RETURNED,     /* failed for now: the subject is not accepted, or an error */
	DELIVERY_REJECTED      /* failed for good: the message can never be sent */
} DeliveryState;

typedef enum DeliveryKind
{
	DELIVERY_EVENT,      /* of a dispatched event; kept until the event moves on */
	DELIVERY_DEAD_LETTER /* of an event that failed or expired; kept until acknowledged */
} DeliveryKind;

typedef struct DeliveryKey
{
	pg_uuid_t event_id;
	int32 kind;
} DeliveryKey;

/* A message that the broker is to send: of a dispatched event, or a dead letter. */
typedef struct Delivery
{
	DeliveryKey key; /* hash key */
	int32 version;   /* of the dispatched transition, or of the event's death */
	int32 type;
	int32 attempt; /* of the dispatched transition */
	int16 leaf;
	int16 state;  /* DeliveryState */
	bool check;   /* made during recovery: look whether the event has moved on before sending */
	bool watched; /* delivery_watch() has put it into the heap */
	TimestampTz dispatched_at;
	TimestampTz expires_at; /* of the dispatched transition */
	TimestampTz wake_at;    /* of the dispatched transition; of a dead letter, its time of death */
	TimestampTz since;      /* when the broker acknowledged it */
	TimestampTz until;      /* if watched: when to queue the event for a move */
	char *error;            /* why it was returned or rejected */
	uint64 number;          /* deliveries are numbered in the order in which they are made */
	dlist_node queue;       /* in the list of waiting or of sent deliveries */
	dlist_node of_type;     /* in EngineType.deliveries; events only */
	pairingheap_node node;  /* in the heap of watched deliveries */
} Delivery;

typedef struct Engine
{
	EngineArea *area;
	Oid extension;         /* InvalidOid until the first tick has looked it up */
	MemoryContext context; /* lives as long as the process */
	MemoryContext tick;    /* reset after each tick */
	TimestampTz now;       /* when this tick began, by eda's clock */
	TailSnapshot seen;     /* the tail has read what this snapshot sees */
	bool recovering;       /* in the first tick: dispatched events may have moved on since */
	bool idle;             /* the last tick could not work; engine_status.state says why */
	bool moves;            /* false while eda.engine = paused */
	int64 config_version;  /* the version of the rules that were read last */

	int ntypes;
	EngineType **types; /* by priority, highest first */
	int nflows;
	EngineFlow *flows;

	Cursor deadline[EDA_LEAVES];   /* wake_at of events that are not awaiting_processing */
	Cursor expiry[EDA_LEAVES];     /* event.expires_at */
	Cursor redriven[EDA_LEAVES];   /* transition.expires_at of redriven events */
	Cursor dispatched[EDA_LEAVES]; /* wake_at of dispatched events that have to be queued again */

	Broker *broker; /* NULL until eda.nats_url is set */

	int64 read;           /* transitions read by the tail in this tick */
	int64 made;           /* transitions appended in this tick */
	bool changed;         /* there is something new to save */
	TimestampTz saved_at; /* when the state was last saved, by the system's clock */
} Engine;

extern Engine engine;

/* ------------------------------------------------------------------------
 * Foundations: transactions, status, queued and parked events, cursors, rules
 * ------------------------------------------------------------------------ */

/* xact.c: the engine's transactions and locks */
extern void xact_begin(void);
extern void xact_commit(void);
extern void xact_recover(MemoryContext caller, const char *what);
extern const EdaCatalog *xact_lock_extension(void);
extern bool xact_lock_log(void);

/* status.c: eda.engine_status, and the limit on logged errors */
extern void status_started(void);
extern void status_set_state(const char *state);
extern void status_set_error(const char *message);
extern void status_set_broker(const BrokerStatus *status);
extern bool status_take_log_budget(void);

/* todo.c: the events that are queued for a move, and those that are parked */
extern void todo_init(void);
extern bool todo_add(const pg_uuid_t *id, int leaf, const Transition *awaiting);
extern Todo *todo_list(int *n);
extern void todo_done(int n);
extern bool todo_is_empty(void);
extern void todo_park(const Todo *todo, TransactionId xid, TimestampTz until);
extern void todo_unpark(void);
extern TimestampTz todo_next_parked(void);
extern int todo_parked_ids(Datum **ids);
extern int todo_held_back(void);

/* cursor.c: places in the indexes on time */
extern void cursor_pull(Cursor *cursor, TimestampTz key, const pg_uuid_t *id);
extern void cursor_reset(Cursor *cursor);

/* type.c: the event types and flow types that the engine knows */
extern void engine_type_init(void);
extern void engine_type_read_rules(Snapshot snapshot);
extern EngineType *engine_type(int32 id);

/* ------------------------------------------------------------------------
 * The broker's side
 * ------------------------------------------------------------------------ */

/* message.c: the subject, headers and body of a message */

typedef enum MessageResult
{
	MESSAGE_MADE,
	MESSAGE_TOO_LARGE,
	MESSAGE_NOT_UTF8, /* some of its text cannot be converted to UTF-8 */
	MESSAGE_OBSOLETE  /* of a dead letter: the event is alive again */
} MessageResult;

extern const char *message_subject(const EventType *type, const char *flow_id);
extern const char *message_dead_subject(const char *flow_type);
extern MessageResult message_of_event(const Event *event, Delivery *delivery, size_t limit, BrokerMessage *out);
extern MessageResult message_of_dead_letter(const Event *event, Delivery *delivery, size_t limit, BrokerMessage *out);

/* nats.c: the broker's settings and state */
extern void engine_nats_init(void);
extern char *engine_nats_plain_text(char *text);
extern void engine_nats_settings_changed(void);
extern int engine_nats_event_fd(void);
extern void engine_nats_apply_settings(void);
extern void engine_nats_read_status(int nwaiting);
extern size_t engine_nats_max_message(void);
extern void engine_nats_set_full(bool is_full);
extern bool engine_nats_is_full(void);

/* delivery.c: deliveries, from dispatch to receipt */
extern void delivery_init(void);
extern void delivery_collect(void);
extern TimestampTz delivery_oldest(EngineType *type);
extern int delivery_room(void);
extern void delivery_add_event(const Transition *t, int leaf);
extern bool delivery_add_dead_letter(int32 type, const pg_uuid_t *id, int leaf, TimestampTz died_at);
extern Delivery *delivery_of(const pg_uuid_t *id);
extern void delivery_forget(const Transition *t);
extern void delivery_withdraw(const pg_uuid_t *id);
extern void delivery_watch(Delivery *delivery, TimestampTz until);
extern uint64 delivery_last_number(void);
extern int delivery_choose_waiting(Delivery **chosen, int limit, uint64 last);
extern Delivery *delivery_first_waiting(void);
extern BrokerTag delivery_tag(const Delivery *delivery);
extern void delivery_mark_sent(Delivery *delivery);
extern void delivery_drop(Delivery *delivery);
extern void delivery_mark_failed(Delivery *delivery, DeliveryState state, const char *error);
extern TimestampTz delivery_next_watched(void);
extern void delivery_recover(const pg_uuid_t *id);
extern bool delivery_take_recovered(const pg_uuid_t *id);
extern void delivery_forget_recovered(const pg_uuid_t *id);
extern int delivery_unacknowledged(Datum **ids);
extern void delivery_oldest_deadlines(TimestampTz oldest[EDA_LEAVES]);
extern void delivery_mark_dead_since(void);

/* send.c: make messages of waiting deliveries and hand them over to the broker */
extern bool send_waiting(void);
extern int send_next_pause(void);

/* ------------------------------------------------------------------------
 * The tick: read, find what is due, decide, move, publish, save
 * ------------------------------------------------------------------------ */

/* tail.c: read new transitions in the order in which they became visible */
typedef void (*TailCallback)(const Transition *t, int leaf);

extern void tail_init(void);
extern void tail_read(Snapshot snapshot, TailCallback callback);
extern void tail_snapshot_from_text(const char *text);
extern char *tail_snapshot_to_text(void);

/* see.c: what the engine does with a new transition */
extern void see_transition(const Transition *t, int leaf);

/* dispatch.c: room for dispatched events, and the offers in the ready queue */
extern void dispatch_init(void);
extern void dispatch_begin_tick(void);
extern void dispatch_size_windows(void);
extern int dispatch_room(const EngineType *type);
extern bool dispatch_has_room(const EngineType *type);
extern void dispatch_reserve(EngineType *type, int n);
extern bool dispatch_take_room(EngineType *type);
extern FlowQueue *dispatch_queue_of(const EngineType *type);
extern Offer *dispatch_offer_of(const pg_uuid_t *id);
extern void dispatch_offer(const Transition *t, int leaf);
extern void dispatch_forget(const pg_uuid_t *id, int32 version);
extern void dispatch_requeue(Offer *offer);
extern void dispatch_push(void);
extern void dispatch_collect(void);
extern TimestampTz dispatch_oldest(void);
extern bool dispatch_is_awaited(void);

/* timers.c: queue the events whose time has come */
extern void timers_read(Snapshot snapshot);
extern void timers_pull_due(EngineType *type, int leaf, const Transition *t);
extern TimestampTz timers_due(const EngineType *type, int leaf);
extern TimestampTz timers_next(void);

/* decide.c: the rule by which the engine moves an event */
extern bool decide_move(JournalStep *step, void *arg);

/* move.c: move the queued events in batches */
extern void move_queued(void);
extern bool move_has_failed(void);
extern bool move_is_failing(void);

/* feed.c: publish transitions by NOTIFY */
extern void feed_add(const Transition *t, int leaf, EngineType *type);
extern void feed_send(void);

/* counts.c: events by state, and moves in the last minute */
extern void counts_add(EngineType *type, const Transition *t);
extern void counts_publish(double tick_ms);

/* timing.c: totals since the engine's start, and histograms of times */
extern void timing_init(void);
extern void timing_record_due(const Transition *t);
extern void timing_add(EngineType *type, const Transition *t);
extern void timing_match_early_ends(void);

/* housekeeping.c: old idempotency keys, and the next leaf */
extern void housekeeping_run(void);

/* state.c: the row from which the next engine goes on */
extern const char *state_load(void); /* NULL, or why the engine must stay idle */
extern void state_save(void);

#endif
