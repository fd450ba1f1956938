/*
 * text.c
 *		Lists of strings, which NULL ends, and subjects of NATS.
 */
#include "broker/broker_int.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------
 * Lists of strings
 * ------------------------------------------------------------------------ */

/* Free the strings of a list, but not the list. */
void
texts_clear(char **list)
{
	for (char **l = list; *l != NULL; l++)
	{
		free(*l);
		*l = NULL;
	}
}

/* Free a list and its strings; NULL is allowed. */
void
texts_free(char **list)
{
	if (list != NULL)
		texts_clear(list);
	free(list);
}

bool
texts_contain(char *const *list, const char *text)
{
	while (*list != NULL && strcmp(*list, text) != 0)
		list++;
	return *list != NULL;
}

/* Do two lists have the same strings in the same order?  NULL equals NULL only. */
bool
texts_equal(char *const *a, char *const *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	while (*a != NULL && *b != NULL && strcmp(*a, *b) == 0)
		a++, b++;
	return *a == NULL && *b == NULL;
}

/*
 * Split a text at commas and white space.  A part without "://" gets the prefix.
 * Returns NULL if there is no memory.
 */
char **
texts_split(const char *text, const char *prefix, int *count)
{
	static const char separators[] = ", \t\r\n";
	char **list = calloc(strlen(text) / 2 + 2, sizeof(char *));

	*count = 0;
	while (list != NULL)
	{
		size_t length;
		char *part;

		text += strspn(text, separators);
		length = strcspn(text, separators);
		if (length == 0)
			break;
		part = malloc(strlen(prefix) + length + 1);
		if (part == NULL)
		{
			texts_free(list);
			return NULL;
		}
		memcpy(part, text, length);
		part[length] = '\0';
		if (strstr(part, "://") == NULL)
		{
			memcpy(part, prefix, strlen(prefix));
			memcpy(part + strlen(prefix), text, length);
			part[strlen(prefix) + length] = '\0';
		}
		list[(*count)++] = part;
		text += length;
	}
	return list;
}

/* ------------------------------------------------------------------------
 * Subjects
 * ------------------------------------------------------------------------ */

/*
 * Does a pattern match a subject?  If the subject is a pattern itself: does the first
 * pattern match all that the second one matches?
 */
static bool
subject_matches(const char *pattern, const char *subject)
{
	for (;;)
	{
		size_t p = strcspn(pattern, ".");
		size_t s = strcspn(subject, ".");

		if (s == 0)
			return false;
		if (p == 1 && pattern[0] == '>')
			return true;
		if (s == 1 && subject[0] == '>')
			return false;
		if (!(p == 1 && pattern[0] == '*') && (p != s || memcmp(pattern, subject, p) != 0))
			return false;
		pattern += p;
		subject += s;
		if (*pattern == '\0' || *subject == '\0')
			return *pattern == *subject;
		pattern++;
		subject++;
	}
}

/* Does one of the patterns match the subject? */
bool
texts_cover(char *const *patterns, const char *subject)
{
	for (; *patterns != NULL; patterns++)
		if (subject_matches(*patterns, subject))
			return true;
	return false;
}
