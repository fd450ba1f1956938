/*
 * seen.h
 *		What we have seen of the engine.
 */
#ifndef EDA_GATEWAY_SEEN_H
#define EDA_GATEWAY_SEEN_H

#include <stdbool.h>

#include <jansson.h>
#include <libpq-fe.h>

typedef struct EngineSeen
{
	char state[160];            /* as in eda.engine_status; "unknown": the database does not say */
	char feed_level[16];        /* the setting eda.feed */
	int pid;                    /* 0: no engine runs */
	json_int_t start;           /* of the last element's seq, [start, n]; 0: no element came yet */
	json_int_t n;               /* of the same */
	json_int_t counted;         /* what the engine had read when we began to listen; or -1 */
	json_int_t received;        /* the number up to which we have all, from the feed or the log */
	json_int_t received_before; /* what "received" was a second ago */
	json_int_t read_before;     /* what the engine had read a second ago */
} EngineSeen;

extern EngineSeen seen;
extern const char seen_sql[];

extern void seen_begin(void);
extern bool seen_take_seq(const json_t *element);
extern bool seen_take_status(const PGresult *row);
extern void seen_take_nothing(void);

#endif
