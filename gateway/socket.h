/*
 * socket.h
 *		What WebSocket clients say.
 */
#ifndef EDA_GATEWAY_SOCKET_H
#define EDA_GATEWAY_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

#include "stream.h"

extern int socket_receive(Subscriber *s, const char *data, size_t size, bool final, bool binary);

#endif
