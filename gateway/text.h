/*
 * text.h
 *		Bytes that grow, and can be sent.
 */
#ifndef EDA_GATEWAY_TEXT_H
#define EDA_GATEWAY_TEXT_H

#include <stddef.h>

#include <libwebsockets.h>

/* There is always a NUL after the bytes, and room for libwebsockets' own use before them. */
typedef struct Text
{
	char *data; /* NULL: there are no bytes */
	size_t size;
	size_t room;
} Text;

extern void text_add(Text *t, const char *data, size_t size);
extern void text_puts(Text *t, const char *s);
extern void text_printf(Text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
extern void text_json(Text *t, const char *s); /* as a JSON string; null for NULL */
extern void text_free(Text *t);
extern int text_send(Text *t, struct lws *wsi, enum lws_write_protocol how);

#endif
