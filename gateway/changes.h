/*
 * changes.h
 *		The list of the last changes.
 */
#ifndef EDA_GATEWAY_CHANGES_H
#define EDA_GATEWAY_CHANGES_H

#include <stdbool.h>
#include <stdint.h>

#define CHANGE_KEY 72

/* One change, as it goes to clients. */
typedef struct Change
{
	char key[CHANGE_KEY]; /* "event id/version/state" */
	char *json;
	uint32_t json_size;
	const char *event_type; /* what filters look at; in the same memory as json, after it */
	const char *flow_type;
	const char *flow_id;
	char *snapshot; /* all that it sees is in the list up to here; or NULL */
} Change;

extern uint64_t changes_head(void); /* the number of the next change */
extern uint64_t changes_tail(void); /* the number of the oldest change that is still here */
extern const Change *changes_get(uint64_t n);
extern bool changes_find(const char *snapshot, uint64_t *next);
extern void changes_add(const Change *change);
extern void changes_mark(const char *snapshot);
extern void changes_clear(void);

#endif
