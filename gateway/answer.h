/*
 * answer.h
 *		Answers: the status, the headers, the content.
 */
#ifndef EDA_GATEWAY_ANSWER_H
#define EDA_GATEWAY_ANSWER_H

#include <libwebsockets.h>

#include "request.h"

extern int answer_write(struct lws *wsi, const Request *request);
extern int answer_start_stream(struct lws *wsi);
extern void answer_linger(struct lws *wsi);
extern void answer_end(struct lws *wsi);

#endif
