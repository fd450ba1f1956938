/*
 * loop.c
 *		What belongs to the whole process: the event loop, whether the gateway is
 *		shutting down, and how many answers it still owes.
 *
 * This file calls no other file of the gateway, so every file may use it.
 */
#include "loop.h"

#include <uv.h>

uv_loop_t *loop;
bool stopping;
int in_flight;

static uv_loop_t the_loop;

void
loop_open(void)
{
	loop = &the_loop;
	uv_loop_init(loop);
}

/* Close the loop, after the callbacks of all handles that are being closed have run. */
void
loop_close(void)
{
	uv_run(loop, UV_RUN_DEFAULT);
	uv_loop_close(loop);
}

/* A time in milliseconds, of a clock that only goes forward. */
uint64_t
loop_now_ms(void)
{
	return uv_hrtime() / NS_PER_MS;
}
