/*
 * engine.h
 *		What the parts of the engine share.  One engine process, one Engine.
 *
 * The way of the data: the tail reads new transitions and hands each to see_transition(), which counts
 * it, adds it to the feed, keeps the cursors and the offers right, and queues the event for a move if it
 * has something to do.  Timers queue the events whose time has come.  Each queued event is looked at once
 * and moved by the rule in decide_move(), whatever brought it here.
 *
 * A dispatched event comes into the ready queue in one way only, after a restart too: the tail reads its
 * transition, dispatch_offer() collects it, dispatch_push() puts it into shared memory.
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
 * A place in an index on (time, event id).  All live entries before it are in
 * memory or done; key EDA_NEVER means all there are.
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

/* How many events a ready queue, or the broker, takes now. */
typedef struct Window
{
	int room;     /* events that may be dispatched now */
	int reserved; /* of it, for events that were queued for a move in this tick */
} Window;

/* The engine's side of a flow type. */
typedef struct EngineFlow
{
	char flow_type[NAMEDATALEN];
	int queue; /* its place in the area, which it keeps; -1: not known yet */
	Window window;
	int guaranteed; /* so many of its room whatever other flow types have taken */
	int64 feed_n;   /* transitions told, or skipped, on its channel */
} EngineFlow;

/* The engine's memory of an event type. */
typedef struct EngineType
{
	int32 id; /* hash key */
	int flow; /* index into Engine.flows */
	int priority;
	bool suspended;
	bool to_broker;
	dlist_head deliveries; /* its events that the broker was to bring, oldest first */
	bool dead_covered;     /* and that of its dead letters */
	bool covered;          /* the stream takes its subject */
	char *example;         /* a subject of its messages */
	int max_in_flight;
	int max_dispatched;
	Window window;
	int64 counts[EDA_STATES];
	int64 moved[EDA_RATE_BUCKETS][EDA_RATES];
	int64 bucket;
	TypeCounters counters;
	bool counted;             /* since the counters were shown */
	TimestampTz oldest_offer; /* of those that wait for a worker, when dispatch_collect() last looked */
	Cursor due[EDA_LEAVES];
	Cursor late[EDA_LEAVES]; /* committed when due was past it: see timers_pull_due() */
	TimestampTz late_until[EDA_LEAVES];
	Cursor resume[EDA_LEAVES];          /* suspended by the type */
	Cursor dead[EDA_LEAVES];            /* dead letters that the broker is to be told of, by transition.at */
	TimestampTz dead_since[EDA_LEAVES]; /* to be saved: see delivery_mark_dead_since() */
} EngineType;

/* An event to look at. */
typedef struct Todo
{
	pg_uuid_t event_id;
	int leaf;
	int errors;     /* how often its move has raised one */
	Brief awaiting; /* its latest transition, if that was read in this tick and awaits processing */
} Todo;

typedef enum DeliveryState
{
	DELIVERY_NONE,
	DELIVERY_WAITING,      /* to be handed to the broker */
	DELIVERY_SENT,         /* the broker has it */
	DELIVERY_ACKNOWLEDGED, /* it is in the stream */
	DELIVERY_RETURNED,     /* not now: the stream has no subject for it, or no message could be made */
	DELIVERY_REJECTED      /* it never will be */
} DeliveryState;

typedef enum DeliveryKind
{
	DELIVERY_EVENT,      /* a dispatched event, until the log shows what became of it */
	DELIVERY_DEAD_LETTER /* until it is acknowledged */
} DeliveryKind;

typedef struct DeliveryKey
{
	pg_uuid_t event_id;
	int32 kind;
} DeliveryKey;

/* What the broker is to bring out. */
typedef struct Delivery
{
	DeliveryKey key; /* hash key */
	int32 version;   /* of the dispatched transition; of a dead letter, when it was sent */
	int32 type;
	int32 attempt; /* of the dispatched transition */
	int16 leaf;
	int16 state;
	bool check;   /* found after a restart: the event may have moved on */
	bool watched; /* in the heap of those that wait for "until" */
	TimestampTz dispatched_at;
	TimestampTz expires_at; /* of the dispatched transition */
	TimestampTz wake_at;    /* of the dispatched transition; of a dead letter, when it died */
	TimestampTz since;      /* acknowledged: when */
	TimestampTz until;
	char *error;        /* returned or rejected: why */
	uint64 number;      /* counts up */
	dlist_node queue;   /* what waits, or what is sent */
	dlist_node of_type; /* events: those of the type, in the order in which they were dispatched */
	pairingheap_node node;
} Delivery;

typedef struct Engine
{
	EngineArea *area;
	Oid extension;
	MemoryContext context; /* lives as long as the process */
	MemoryContext tick;    /* emptied each tick */
	TimestampTz now;       /* of this tick, by eda's clock */
	TailSnapshot seen;     /* what the tail has read */
	bool recovering;       /* the first tick: what is dispatched is not offered unseen */
	bool idle;             /* cannot work just now */
	bool moves;            /* not paused */
	int64 config_version;

	int ntypes;
	EngineType **types; /* by priority, highest first */
	int nflows;
	EngineFlow *flows;

	Cursor deadline[EDA_LEAVES];
	Cursor expiry[EDA_LEAVES];     /* of event.expires_at */
	Cursor redriven[EDA_LEAVES];   /* of transition.expires_at after a redrive */
	Cursor dispatched[EDA_LEAVES]; /* of what was on offer before a restart */

	Broker *broker; /* NULL: none */

	int64 read;   /* transitions read by the tail in this tick */
	int64 made;   /* transitions appended in this tick */
	bool changed; /* since the state was saved */
	TimestampTz saved_at;
} Engine;

extern Engine engine;

/* ------------------------------------------------------------------------
 * Ground: transactions, status, what is queued and parked, cursors, rules
 * ------------------------------------------------------------------------ */

/* xact.c */
extern void xact_begin(void);
extern void xact_commit(void);
extern void xact_recover(MemoryContext caller, const char *what);
extern const EdaCatalog *xact_lock_extension(void);
extern bool xact_lock_log(void);

/* status.c */
extern void status_started(void);
extern void status_set_state(const char *state);
extern void status_set_error(const char *message);
extern void status_set_broker(const BrokerStatus *status);
extern bool status_take_log_budget(void);

/* todo.c */
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

/* cursor.c */
extern void cursor_pull(Cursor *cursor, TimestampTz key, const pg_uuid_t *id);
extern void cursor_reset(Cursor *cursor);

/* type.c */
extern void engine_type_init(void);
extern void engine_type_read_rules(Snapshot snapshot);
extern EngineType *engine_type(int32 id);

/* ------------------------------------------------------------------------
 * The broker's side
 * ------------------------------------------------------------------------ */

/* message.c: what an event looks like outside */

typedef enum MessageResult
{
	MESSAGE_MADE,
	MESSAGE_TOO_LARGE,
	MESSAGE_NOT_UTF8,    /* some of it cannot be said in UTF-8 */
	MESSAGE_NOT_ANY_MORE /* a dead letter that is alive again */
} MessageResult;

extern const char *message_subject(const EventType *type, const char *flow_id);
extern const char *message_dead_subject(const char *flow_type);
extern MessageResult message_of_event(const Event *event, Delivery *delivery, size_t limit, BrokerMessage *out);
extern MessageResult message_of_dead_letter(const Event *event, Delivery *delivery, size_t limit, BrokerMessage *out);

/* nats.c: settings and state of the broker */
extern void engine_nats_init(void);
extern char *engine_nats_plain_text(char *text);
extern void engine_nats_settings_changed(void);
extern int engine_nats_event_fd(void);
extern void engine_nats_apply_settings(void);
extern void engine_nats_read_status(int nwaiting);
extern size_t engine_nats_max_message(void);
extern void engine_nats_set_full(bool is_full);
extern bool engine_nats_is_full(void);

/* delivery.c: what is handed to the broker, and what comes back */
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

/* send.c: make messages of what waits, and hand them over */
extern bool send_waiting(void);
extern int send_next_pause(void);

/* ------------------------------------------------------------------------
 * The tick: read, find what is due, decide, move, publish, save
 * ------------------------------------------------------------------------ */

/* tail.c */
typedef void (*TailSee)(const Transition *t, int leaf);

extern void tail_init(void);
extern void tail_read(Snapshot snapshot, TailSee see);
extern void tail_snapshot_from_text(const char *text);
extern char *tail_snapshot_to_text(void);

/* see.c */
extern void see_transition(const Transition *t, int leaf);

/* dispatch.c */
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

/* timers.c */
extern void timers_read(Snapshot snapshot);
extern void timers_pull_due(EngineType *type, int leaf, const Transition *t);
extern TimestampTz timers_due(const EngineType *type, int leaf);
extern TimestampTz timers_next(void);

/* decide.c: the rule by which the engine moves an event */
extern bool decide_move(JournalStep *step, void *arg);

/* move.c */
extern void move_queued(void);
extern bool move_has_failed(void);
extern bool move_is_failing(void);

/* feed.c */
extern void feed_add(const Transition *t, int leaf, EngineType *type);
extern void feed_send(void);

/* counts.c: how many events are in which state, and moved in the last minute */
extern void counts_add(EngineType *type, const Transition *t);
extern void counts_publish(double tick_ms);

/* timing.c: totals and times */
extern void timing_init(void);
extern void timing_due(const Transition *t);
extern void timing_add(EngineType *type, const Transition *t);
extern void timing_match_early_ends(void);

/* housekeeping.c */
extern void housekeeping_run(void);

/* state.c: what survives a restart */
extern const char *state_load(void); /* NULL, or why the engine must stay idle */
extern void state_save(void);

#endif
