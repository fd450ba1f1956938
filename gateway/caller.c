/*
 * caller.c
 *		The callers that the file of tokens names.
 *
 * A caller works as the database role that stands beside its token in the file.  It stays
 * in memory as long as a request or a stream points to it, even if its token is no longer
 * in the file.
 */
#include "caller.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <openssl/crypto.h>

#include "config.h"
#include "log.h"
#include "memory.h"

static Caller *callers; /* all of the file, and retired ones that are still in use */
Caller caller_anyone;

/* Point to a caller: it stays in memory until caller_leave(). */
Caller *
caller_use(Caller *caller)
{
	caller->users++;
	return caller;
}

void
caller_leave(Caller *caller)
{
	caller->users--;
}

Caller *
caller_find(const char *token)
{
	Caller *found = NULL;
	size_t size = strlen(token);

	/*
	 * Compare with every token, and each to its end: the time that this takes must not
	 * show how much of a guessed token is right.
	 */
	for (Caller *c = callers; c != NULL; c = c->next)
		if (!c->retired && strlen(c->token) == size && CRYPTO_memcmp(c->token, token, size) == 0)
			found = c;
	return found;
}

/* Free the retired callers that nothing points to any more. */
static void
callers_sweep(void)
{
	Caller **p = &callers;

	while (*p != NULL)
	{
		Caller *c = *p;

		if (c->retired && c->users == 0)
		{
			*p = c->next;
			OPENSSL_cleanse(c->token, strlen(c->token));
			free(c->token);
			free(c->role);
			free(c);
		}
		else
			p = &c->next;
	}
}

/* Read a line of the file of tokens into the list; false: the line is wrong. */
static bool
read_token_line(char *line, int number, Caller **list)
{
	char *token = strtok(line, " \t\r\n");
	char *role = token == NULL ? NULL : strtok(NULL, " \t\r\n");
	Caller *c;

	if (token == NULL || token[0] == '#')
		return true;
	if (role == NULL || strtok(NULL, " \t\r\n") != NULL)
	{
		log_line(LOG_ERROR, "%s: line %d does not have the form \"TOKEN ROLE\"", config.tokens_file, number);
		return false;
	}
	if (strlen(token) < 16)
	{
		log_line(LOG_ERROR, "%s: the token in line %d has fewer than 16 characters", config.tokens_file, number);
		return false;
	}
	c = memory_get(sizeof(Caller));
	c->token = memory_copy_text(token);
	c->role = memory_copy_text(role);
	c->next = *list;
	*list = c;
	return true;
}

static bool
read_tokens(FILE *file, Caller **list)
{
	char line[1024];
	struct stat st;

	if (fstat(fileno(file), &st) != 0 || (st.st_mode & (S_IRWXO | S_IWGRP)) != 0)
	{
		log_line(LOG_ERROR, "%s: other users may read this file, or its group may write to it; run: chmod 640 %s",
		         config.tokens_file, config.tokens_file);
		return false;
	}
	for (int number = 1; fgets(line, sizeof(line), file) != NULL; number++)
		if (!read_token_line(line, number, list))
			return false;
	return true;
}

/*
 * Read the file of tokens, at the start and on SIGHUP.  A caller whose token and role are
 * still in the file is kept; one whose token is gone, or has another role, is retired.
 * False: the file has a mistake, and nothing was changed.
 */
bool
caller_load_tokens(void)
{
	Caller *list = NULL;
	FILE *file;
	bool ok;

	if (config.tokens_file == NULL)
		return true;
	file = fopen(config.tokens_file, "r");
	if (file == NULL)
	{
		log_line(LOG_ERROR, "%s: %s", config.tokens_file, strerror(errno));
		return false;
	}
	ok = read_tokens(file, &list);
	fclose(file);
	if (ok)
		for (Caller *c = callers; c != NULL; c = c->next)
			c->retired = true;
	while (list != NULL)
	{
		Caller *c = list;
		Caller *old;

		list = c->next;
		for (old = callers; old != NULL; old = old->next)
			if (strcmp(old->token, c->token) == 0 && strcmp(old->role, c->role) == 0)
				break;
		if (ok && old == NULL)
		{
			c->next = callers;
			callers = c;
			continue;
		}
		if (ok)
			old->retired = false;
		free(c->token);
		free(c->role);
		free(c);
	}
	callers_sweep();
	return ok;
}
