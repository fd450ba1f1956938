/*
 * memory.h
 *		Memory that is always there: without it, the process ends.
 */
#ifndef EDA_GATEWAY_MEMORY_H
#define EDA_GATEWAY_MEMORY_H

#include <stddef.h>

extern void *memory_get(size_t size);                 /* zeroed */
extern char *memory_copy(const char *s, size_t size); /* with a NUL after it */
extern char *memory_copy_text(const char *s);         /* NULL for NULL */
extern void memory_end(void) __attribute__((noreturn));

#endif
