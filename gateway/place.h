/*
 * place.h
 *		Our place in the history of the database.
 */
#ifndef EDA_GATEWAY_PLACE_H
#define EDA_GATEWAY_PLACE_H

#include <stdbool.h>
#include <stdint.h>

extern const char *place_snapshot(void);
extern uint64_t place_first_unseen(void);
extern const char *place_at(uint64_t at);
extern bool place_find(const char *snapshot, uint64_t *next);
extern void place_set(const char *snapshot, uint64_t from);
extern void place_look(void);
extern void place_go_back(void);
extern void place_forget(void);
extern bool place_is_refused(const char *sqlstate);

#endif
