/*
 * text.c
 *		Bytes that grow, and can be sent.
 */
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libwebsockets.h>

#include "memory.h"

/* Make room for so many more bytes, and for LWS_PRE bytes before all of them. */
static void
text_grow(Text *t, size_t more)
{
	size_t room = t->room == 0 ? 256 : t->room;
	char *bigger;

	if (t->data != NULL && t->size + more + 1 <= t->room)
		return;
	while (room < t->size + more + 1)
		room *= 2;
	bigger = realloc(t->data == NULL ? NULL : t->data - LWS_PRE, LWS_PRE + room);
	if (bigger == NULL)
		memory_end();
	t->data = bigger + LWS_PRE;
	t->room = room;
}

void
text_add(Text *t, const char *data, size_t size)
{
	text_grow(t, size);
	memcpy(t->data + t->size, data, size);
	t->size += size;
	t->data[t->size] = '\0';
}

void
text_puts(Text *t, const char *s)
{
	text_add(t, s, strlen(s));
}

void
text_printf(Text *t, const char *format, ...)
{
	va_list args;
	int size;

	va_start(args, format);
	size = vsnprintf(NULL, 0, format, args);
	va_end(args);
	text_grow(t, size);
	va_start(args, format);
	vsnprintf(t->data + t->size, size + 1, format, args);
	va_end(args);
	t->size += size;
}

void
text_json(Text *t, const char *s)
{
	if (s == NULL)
	{
		text_puts(t, "null");
		return;
	}
	text_puts(t, "\"");
	for (; *s; s++)
	{
		unsigned char c = *s;

		if (c == '"' || c == '\\')
			text_printf(t, "\\%c", c);
		else if (c < 0x20 || c == 0x7f)
			text_printf(t, "\\u%04x", c);
		else
			text_add(t, s, 1);
	}
	text_puts(t, "\"");
}

void
text_free(Text *t)
{
	if (t->data != NULL)
		free(t->data - LWS_PRE);
	*t = (Text){0};
}

/*
 * Send all of the bytes.  What the socket does not take now, libwebsockets copies, and
 * sends before anything else.  < 0: the connection is broken.
 */
int
text_send(Text *t, struct lws *wsi, enum lws_write_protocol how)
{
	return t->size == 0 ? 0 : lws_write(wsi, (unsigned char *) t->data, t->size, how);
}
