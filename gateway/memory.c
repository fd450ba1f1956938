/*
 * memory.c
 *		Memory for the gateway.  A program that answers requests cannot do anything useful
 *		without it, so running out of memory ends the process.
 */
#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Say that there is no memory, and end the process. */
void
memory_end(void)
{
	fputs("eda-gateway: error: out of memory\n", stderr);
	abort();
}

void *
memory_get(size_t size)
{
	void *p = calloc(1, size);

	if (p == NULL)
		memory_end();
	return p;
}

char *
memory_copy(const char *s, size_t size)
{
	char *copy = memory_get(size + 1);

	memcpy(copy, s, size);
	return copy;
}

char *
memory_copy_text(const char *s)
{
	return s == NULL ? NULL : memory_copy(s, strlen(s));
}
