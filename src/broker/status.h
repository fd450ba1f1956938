/*
 * status.h
 *		The broker's status, as plain data.
 *
 * The engine copies it into shared memory, where eda.engine_status reads it.  So this
 * header has no pointers in it and includes nothing of the broker or of PostgreSQL.
 */
#ifndef EDA_BROKER_STATUS_H
#define EDA_BROKER_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum BrokerState
{
	BROKER_OFF,         /* the settings name no server */
	BROKER_CONNECTING,  /* the first attempt with new settings */
	BROKER_READY,       /* the stream takes messages */
	BROKER_UNREACHABLE, /* no server answers */
	BROKER_REFUSED,     /* a server refuses us: credentials, TLS, permissions, or no JetStream */
	BROKER_BLOCKED      /* connected, but the stream takes no message: full, no leader, silent */
} BrokerState;

typedef struct BrokerStatus
{
	BrokerState state;
	char server[256];   /* host:port without user and password; empty: not connected */
	char version[32];   /* of the server; empty: not connected, or a server older than 2.11 */
	char error[256];    /* the last error, kept while the broker is ready; empty: none yet */
	char notice[512];   /* how an existing stream differs from the settings; empty: not at all */
	size_t max_message; /* bytes of headers and body that server and stream take; 0: not known */
	bool ttl;           /* the stream deletes messages whose own time to live has passed */
	int unacknowledged; /* messages without a receipt */
	uint64_t published; /* messages that were acknowledged */
	uint64_t resent;
	uint64_t reconnects;      /* connections after the first one */
	uint64_t subject_changes; /* times that broker_covers() may have changed its answers */
} BrokerStatus;

#endif
