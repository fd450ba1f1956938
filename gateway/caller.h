/*
 * caller.h
 *		The callers that the file of tokens names.
 */
#ifndef EDA_GATEWAY_CALLER_H
#define EDA_GATEWAY_CALLER_H

#include <stdbool.h>

/* Somebody with a token; or anybody, when there are no tokens. */
typedef struct Caller
{
	struct Caller *next;
	char *token;
	char *role;    /* the database role; NULL: the gateway's own */
	int in_flight; /* requests */
	int users;     /* requests and streams that point here */
	bool retired;  /* its token is no longer in the file */
} Caller;

extern Caller caller_anyone; /* the caller when there are no tokens */

extern bool caller_load_tokens(void);
extern Caller *caller_find(const char *token); /* NULL: no caller has it */
extern Caller *caller_use(Caller *caller);
extern void caller_leave(Caller *caller);

#endif
