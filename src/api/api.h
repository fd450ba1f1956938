/*
 * api.h
 *		What the files of the SQL API share with one another and with the engine.
 */
#ifndef EDA_API_H
#define EDA_API_H

#include "log/log.h"

/* ------------------------------------------------------------------------
 * publish.c, item.c: events to publish, also spinoffs and on-fail events
 * ------------------------------------------------------------------------ */

/*
 * An event that is to be published: an argument of eda.publish(), a spinoff, or an on-fail
 * event.
 */
typedef struct PublishItem
{
	const char *event_type;
	const char *flow_id;
	const char *flow_type; /* NULL: that of the event type */
	Jsonb *payload;        /* NULL: an empty object */
	Jsonb *headers;        /* this and the texts below may be NULL */
	bool has_scheduled_at;
	TimestampTz scheduled_at;
	bool has_event_id;
	pg_uuid_t event_id;
	const char *idempotency_key;
	const char *on_fail_event_type;
	const char *correlation_id;
	bool has_parent;
	pg_uuid_t parent_id;
	bool no_size_limit; /* an on-fail event carries the payload of the event that failed */
	const char *list;   /* for errors: which list the item is from; may be NULL */
	int element;        /* for errors: its place in that list, from 1 on */
} PublishItem;

extern void publish_items(PublishItem *items, int n, pg_uuid_t *ids);
extern void item_context(void *arg);
extern int item_parse(Jsonb *array, const char *list, const Event *parent, PublishItem **items);
extern void item_inherit(PublishItem *item, const Event *parent);

/* ------------------------------------------------------------------------
 * on_fail.c: the event that follows a failed one; the engine calls this too
 * ------------------------------------------------------------------------ */

extern void on_fail_publish(JournalStep *steps, int nsteps);

/* ------------------------------------------------------------------------
 * queue.c: the workers' side of the ready queue
 * ------------------------------------------------------------------------ */

/* An offer that this session has popped from the ready queue. */
typedef struct Popped
{
	int offer; /* its place in the area's array of offers */
	uint32 generation;
	pg_uuid_t event_id;
	int leaf;
	Brief dispatched; /* the transition with which the engine dispatched the event */
} Popped;

extern int queue_pop(const char *flow_type, int max, Popped *out);
extern bool queue_wait(const char *flow_type, int wanted, TimestampTz until);
extern void queue_refuse(const Popped *p);

/* ------------------------------------------------------------------------
 * args.c: arguments of SQL functions
 * ------------------------------------------------------------------------ */

extern const char *args_text(FunctionCallInfo fcinfo, int n);
extern const char *args_caller(void);

#endif
