/*
 * eda.c
 *		The table of contents: settings, hooks, workers.
 */
#include "log/log.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

PG_MODULE_MAGIC_COMPAT("eda", EDA_VERSION);

int eda_engine_mode = EDA_ENGINE_ON;
int eda_feed_level = EDA_FEED_FULL;
int eda_max_databases = 4;
int eda_max_event_types = 256;
int eda_queue_size = 32768;
int eda_ready_window = 1000;
int eda_max_payload_size = 1024;
int eda_lock_wait = 5000;
int eda_max_returns = 10;
int eda_idempotency_ttl = 7 * 24 * 3600;
int eda_segment_interval = 7 * 24 * 3600;
char *eda_nats_url = NULL;
char *eda_nats_credentials = NULL;
char *eda_nats_tls_ca_file = NULL;
char *eda_nats_tls_cert_file = NULL;
char *eda_nats_tls_key_file = NULL;
char *eda_nats_stream = NULL;
int eda_nats_max_age = 7 * 24 * 3600;
int eda_nats_duplicate_window = 120;
int eda_nats_replicas = 1;

static const struct config_enum_entry engine_modes[] = {
	{"on", EDA_ENGINE_ON, false},
	{"paused", EDA_ENGINE_PAUSED, false},
	{"off", EDA_ENGINE_OFF, false},
	{NULL, 0, false},
};

static const struct config_enum_entry feed_levels[] = {
	{"full", EDA_FEED_FULL, false},
	{"ids", EDA_FEED_IDS, false},
	{"off", EDA_FEED_OFF, false},
	{NULL, 0, false},
};

PGDLLEXPORT void _PG_init(void);

PG_FUNCTION_INFO_V1(eda_library_version);

/* Settings that size shared memory: fixed at server start. */
static void
define_sizes(void)
{
	DefineCustomIntVariable("eda.max_databases", "Databases that can have an engine.", NULL, &eda_max_databases, 4, 1,
	                        64, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.max_event_types", "Event types a database can have.", NULL, &eda_max_event_types, 256,
	                        8, 10000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.queue_size",
	                        "Events of a database that can be dispatched and not yet committed by a worker.",
	                        "More wait on disk; each takes 96 bytes of shared memory.", &eda_queue_size, 32768, 256,
	                        16 * 1024 * 1024, PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

static void
define_settings(void)
{
	DefineCustomEnumVariable("eda.engine", "Whether engines run.",
	                         "paused: an engine reads and tells, but moves no event.  off: no engine.",
	                         &eda_engine_mode, EDA_ENGINE_ON, engine_modes, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("eda.feed", "What NOTIFY tells of each transition.", NULL, &eda_feed_level, EDA_FEED_FULL,
	                         feed_levels, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.ready_window", "Events that are dispatched ahead of the workers, per flow type.", NULL,
	                        &eda_ready_window, 1000, 1, 1000000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.max_payload_size", "Largest payload that publish takes.", NULL, &eda_max_payload_size,
	                        1024, 1, 256 * 1024, PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.lock_wait",
	                        "How long cancel, suspend, resume and redrive wait for another transaction.", NULL,
	                        &eda_lock_wait, 5000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"eda.max_returns", "How often in a row an event may come back from a worker that did not commit.",
		"The event fails after that.", &eda_max_returns, 10, 1, 10000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.idempotency_ttl", "How long an idempotency key is remembered.", NULL,
	                        &eda_idempotency_ttl, 7 * 24 * 3600, 1, INT_MAX, PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.segment_interval", "How much time a segment of the log covers.",
	                        "With no free leaf left the open one goes on.", &eda_segment_interval, 7 * 24 * 3600, 120,
	                        INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}

static bool
check_stream(char **newval, void **extra, GucSource source)
{
	if (**newval != '\0' && strlen(*newval) < 256 && strpbrk(*newval, " \t\r\n.*>/\\") == NULL)
		return true;
	GUC_check_errdetail("A stream's name has neither spaces nor any of the characters . * > / \\.");
	return false;
}

/* The broker.  All take effect with a reload. */
static void
define_broker(void)
{
	DefineCustomStringVariable("eda.nats_url", "NATS servers that events are delivered through, separated by commas.",
	                           "Empty: none.", &eda_nats_url, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("eda.nats_credentials", "Credentials file for NATS.", NULL, &eda_nats_credentials, "",
	                           PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("eda.nats_tls_ca_file", "Certificates that NATS servers are trusted by.",
	                           "Setting it asks for TLS, as does an URL that starts with tls://.",
	                           &eda_nats_tls_ca_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("eda.nats_tls_cert_file", "Our certificate for NATS servers that ask for one.", NULL,
	                           &eda_nats_tls_cert_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("eda.nats_tls_key_file", "The private key of our certificate.", NULL,
	                           &eda_nats_tls_key_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("eda.nats_stream", "JetStream stream that events go to; made when missing.", NULL,
	                           &eda_nats_stream, "EDA", PGC_SIGHUP, 0, check_stream, NULL, NULL);
	DefineCustomIntVariable("eda.nats_max_age", "How long a stream that eda makes keeps messages; 0: for ever.", NULL,
	                        &eda_nats_max_age, 7 * 24 * 3600, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.nats_duplicate_window",
	                        "For how long a stream that eda makes knows a message by its id.", NULL,
	                        &eda_nats_duplicate_window, 120, 1, 24 * 3600, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.nats_replicas", "Servers that a stream made by eda is kept on.", NULL,
	                        &eda_nats_replicas, 1, 1, 5, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("eda is not loaded"),
		        errdetail("It needs shared memory and background workers, which exist from server start on."),
		        errhint("Add it to shared_preload_libraries in postgresql.conf (\"shared_preload_libraries = 'eda'\") "
		                "and restart the server."));

	define_sizes();
	define_settings();
	define_broker();
	MarkGUCPrefixReserved("eda");
	shmem_init();
	news_init();
	launcher_register();
	ddl_init();
}

/* The library's version, as built. */
Datum
eda_library_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(EDA_VERSION));
}
