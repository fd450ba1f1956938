/*
 * read.h
 *		What a request says.
 */
#ifndef EDA_GATEWAY_READ_H
#define EDA_GATEWAY_READ_H

#include <stdbool.h>
#include <stddef.h>

#include <libwebsockets.h>

#include "request.h"

#define MAX_HEADERS 8192 /* bytes of a request's headers; a stream keeps them as long as it lives */

extern Method read_method(struct lws *wsi, char **path, int *size, bool *head);
extern bool read_header(struct lws *wsi, const char *name, char *out, size_t size);
extern char *read_query(struct lws *wsi, const char *name); /* to be freed; NULL: there is none */

/* False: the request has its answer, a problem. */
extern bool read_body_size(Request *request, Method method);
extern bool read_body_type(Request *request);
extern bool read_arguments(Request *request);

extern bool read_is_sound(struct lws *wsi);

#endif
