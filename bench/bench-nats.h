/*
 * bench-nats.h
 *		A function for the programs that use NATS, apart from bench.h because it needs nats.h.
 */
#ifndef BENCH_NATS_H
#define BENCH_NATS_H

#include <stdio.h>
#include <stdlib.h>

#include <nats/nats.h>

static inline void
check(natsStatus s, const char *what)
{
	if (s == NATS_OK)
		return;
	fprintf(stderr, "%s: %s %s\n", what, natsStatus_GetText(s), nats_GetLastError(NULL));
	exit(1);
}

#endif
