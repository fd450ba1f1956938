/*
 * hangup.h
 *		Notice that the client of a stream has hung up.
 */
#ifndef EDA_GATEWAY_HANGUP_H
#define EDA_GATEWAY_HANGUP_H

#include <libwebsockets.h>

extern void hangup_start(void);
extern int hangup_watch(struct lws *wsi);
extern void hangup_forget(int fd);
extern void hangup_stop(void);

#endif
