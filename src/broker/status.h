/*
 * status.h
 *		How the broker is doing: plain data, which shared memory holds too.
 */
#ifndef EDA_BROKER_STATUS_H
#define EDA_BROKER_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum BrokerState
{
	BROKER_OFF,         /* no servers are set */
	BROKER_CONNECTING,  /* first try */
	BROKER_READY,       /* takes messages */
	BROKER_UNREACHABLE, /* no server answers */
	BROKER_REFUSED,     /* a server does not let us in: credentials, TLS, permissions, no JetStream */
	BROKER_BLOCKED      /* connected, but the stream takes nothing just now: full, no leader, silent */
} BrokerState;

typedef struct BrokerStatus
{
	BrokerState state;
	char server[256];   /* host:port, no user, no password; empty: not connected */
	char version[32];   /* of the server; empty: not connected, or older than 2.11, which do not say */
	char error[256];    /* the last one: why it is not ready, or why it was not; empty: none yet */
	char notice[512];   /* how an existing stream differs from the settings; empty: it does not */
	size_t max_message; /* headers and body, bytes: what server and stream take; 0: not known yet */
	bool ttl;           /* the stream deletes messages whose own time is over */
	int unacknowledged;
	uint64_t published; /* acknowledged */
	uint64_t resent;
	uint64_t reconnects;      /* connections after the first */
	uint64_t subject_changes; /* counts up each time what is known of the stream's subjects may have changed */
} BrokerStatus;

#endif
