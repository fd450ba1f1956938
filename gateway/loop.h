/*
 * loop.h
 *		What belongs to the whole process.
 */
#ifndef EDA_GATEWAY_LOOP_H
#define EDA_GATEWAY_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#define NS_PER_MS 1000000ULL

extern uv_loop_t *loop;
extern bool stopping; /* the gateway is shutting down: nothing new may begin */
extern int in_flight; /* requests without an answer, and answers that are not sent to their end */

extern void loop_open(void);
extern void loop_close(void);
extern uint64_t loop_now_ms(void); /* of a clock that only goes forward */

#endif
