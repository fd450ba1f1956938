/*
 * http.h
 *		Requests and WebSockets, as libwebsockets brings them.
 */
#ifndef EDA_GATEWAY_HTTP_H
#define EDA_GATEWAY_HTTP_H

#include <libwebsockets.h>

extern const struct lws_protocols http_protocols[];

extern void http_start(void);
extern void http_stop(void);

#endif
