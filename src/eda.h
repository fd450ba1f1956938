/*
 * eda.h
 *		What every folder of the extension sees: PostgreSQL's common headers, the settings, and
 *		the few constants that all of the code agrees on.  Each folder has one header, which
 *		includes those of the folders below it (see README in this folder).
 */
#ifndef EDA_H
#define EDA_H

#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/snapshot.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "compat.h"

#define EDA_LEAVES 17
#define EDA_ATTIC 0        /* the leaf of ids that carry no time */
#define EDA_NEVER DT_NOEND /* in C, where SQL has a null deadline */

/* ------------------------------------------------------------------------
 * eda.c: settings
 * ------------------------------------------------------------------------ */

typedef enum EdaEngineMode
{
	EDA_ENGINE_OFF,
	EDA_ENGINE_PAUSED,
	EDA_ENGINE_ON
} EdaEngineMode;

typedef enum EdaFeedLevel
{
	EDA_FEED_OFF,
	EDA_FEED_IDS,
	EDA_FEED_FULL
} EdaFeedLevel;

/* The build passes the control file's version. */
#ifndef EDA_VERSION
#define EDA_VERSION "unknown"
#endif

extern int eda_engine_mode;
extern int eda_feed_level;
extern int eda_max_databases;
extern int eda_max_event_types;
extern int eda_queue_size;       /* events: offers a database can have out */
extern int eda_ready_window;     /* events dispatched ahead of the workers, per flow type */
extern int eda_max_payload_size; /* kB */
extern int eda_lock_wait;        /* ms */
extern int eda_max_returns;
extern int eda_idempotency_ttl;  /* s */
extern int eda_segment_interval; /* s */
extern char *eda_nats_url;
extern char *eda_nats_credentials;
extern char *eda_nats_tls_ca_file;
extern char *eda_nats_tls_cert_file;
extern char *eda_nats_tls_key_file;
extern char *eda_nats_stream;
extern int eda_nats_max_age;          /* s */
extern int eda_nats_duplicate_window; /* s */
extern int eda_nats_replicas;

#endif
