/*
 * eda.h
 *		Common to all folders of the extension: PostgreSQL's headers, the settings, and a few
 *		constants.  Each folder has one header of its own, which includes the headers of the
 *		folders that it may call (see README in this folder).
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

#define EDA_LEAVES 17      /* leaves are numbered from 0 to 16; SQL knows them as segments */
#define EDA_ATTIC 0        /* the leaf of events whose ids contain no time */
#define EDA_NEVER DT_NOEND /* stands for a deadline that is null in SQL */

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

/* The Makefile defines this as the version in eda.control. */
#ifndef EDA_VERSION
#define EDA_VERSION "unknown"
#endif

extern int eda_engine_mode;
extern int eda_feed_level;
extern int eda_max_databases;
extern int eda_max_event_types;
extern int eda_queue_size;       /* events in a database's ready queue, popped ones included */
extern int eda_ready_window;     /* events of a flow type that are dispatched before workers ask */
extern int eda_max_payload_size; /* kB */
extern int eda_lock_wait;        /* ms */
extern int eda_max_returns;      /* times in a row, before the event fails */
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
