/*
 * eda.c
 *		The extension's table of contents: its settings, and what _PG_init() sets up.
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

/* Settings that give shared memory its size.  They are fixed at server start. */
static void
define_sizes(void)
{
	DefineCustomIntVariable("eda.max_databases", "Sets the maximum number of databases that have an engine.", NULL,
	                        &eda_max_databases, 4, 1, 64, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.max_event_types", "Sets the maximum number of event types in a database.", NULL,
	                        &eda_max_event_types, 256, 8, 10000, PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.queue_size",
	                        "Sets the maximum number of events in a database's ready queue, including those that a "
	                        "worker has acquired and not yet committed.",
	                        "Each takes 96 bytes of shared memory.  Further events wait on disk.", &eda_queue_size,
	                        32768, 256, 16 * 1024 * 1024, PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

static void
define_settings(void)
{
	DefineCustomEnumVariable("eda.engine", "Sets whether engines run.",
	                         "\"paused\": an engine reads the log and publishes the feed, but moves no event.  "
	                         "\"off\": there is no engine.",
	                         &eda_engine_mode, EDA_ENGINE_ON, engine_modes, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("eda.feed", "Sets how much the NOTIFY messages of the feed say about a transition.",
	                         "\"full\": all but payloads.  \"ids\": only event_id, state and version.  "
	                         "\"off\": there are no messages.",
	                         &eda_feed_level, EDA_FEED_FULL, feed_levels, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.ready_window",
	                        "Sets how many events of each flow type are dispatched before workers ask for them.", NULL,
	                        &eda_ready_window, 1000, 1, 1000000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.max_payload_size", "Sets the maximum size of a published event's payload.", NULL,
	                        &eda_max_payload_size, 1024, 1, 256 * 1024, PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.lock_wait",
	                        "Sets how long cancel, suspend, resume and redrive wait for another transaction that has "
	                        "changed the event.",
	                        NULL, &eda_lock_wait, 5000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable(
		"eda.max_returns", "Sets how many times in a row an event may come back from workers that did not commit.",
		"After that the event fails.", &eda_max_returns, 10, 1, 10000, PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.idempotency_ttl", "Sets how long an idempotency key is remembered.", NULL,
	                        &eda_idempotency_ttl, 7 * 24 * 3600, 1, INT_MAX, PGC_SUSET, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.segment_interval", "Sets how much time a segment of the log covers.",
	                        "A segment covers more if no leaf is free for the next one.", &eda_segment_interval,
	                        7 * 24 * 3600, 120, INT_MAX, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}

static bool
check_stream_name(char **newval, void **extra, GucSource source)
{
	if (**newval != '\0' && strlen(*newval) < 256 && strpbrk(*newval, " \t\r\n.*>/\\") == NULL)
		return true;
	GUC_check_errdetail("A stream's name has 1 to 255 bytes, and neither white space nor any of the characters "
	                    ". * > / \\.");
	return false;
}

/* Settings for the connection to NATS.  A reload is enough to change them. */
static void
define_broker_settings(void)
{
	DefineCustomStringVariable("eda.nats_url", "Sets the NATS servers that events are delivered through.",
	                           "URLs, separated by commas.  If empty, no event is delivered through NATS.",
	                           &eda_nats_url, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("eda.nats_credentials", "Location of the credentials file for NATS.", NULL,
	                           &eda_nats_credentials, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("eda.nats_tls_ca_file",
	                           "Location of the certificate authority file that NATS servers are verified with.",
	                           "If set, connections use TLS, as they do for a URL that starts with tls://.",
	                           &eda_nats_tls_ca_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("eda.nats_tls_cert_file",
	                           "Location of the client certificate for NATS servers that require one.", NULL,
	                           &eda_nats_tls_cert_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("eda.nats_tls_key_file", "Location of the client certificate's private key.", NULL,
	                           &eda_nats_tls_key_file, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY, NULL, NULL, NULL);
	DefineCustomStringVariable("eda.nats_stream", "Sets the JetStream stream that events are published to.",
	                           "The engine creates the stream if it is missing, and never alters it.", &eda_nats_stream,
	                           "EDA", PGC_SIGHUP, 0, check_stream_name, NULL, NULL);
	DefineCustomIntVariable("eda.nats_max_age", "Sets how long a stream that the engine creates keeps messages.",
	                        "0 means for ever.", &eda_nats_max_age, 7 * 24 * 3600, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S,
	                        NULL, NULL, NULL);
	DefineCustomIntVariable("eda.nats_duplicate_window",
	                        "Sets how long a stream that the engine creates recognizes a message by its id.", NULL,
	                        &eda_nats_duplicate_window, 120, 1, 24 * 3600, PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
	DefineCustomIntVariable("eda.nats_replicas",
	                        "Sets the number of servers that keep a stream that the engine creates.", NULL,
	                        &eda_nats_replicas, 1, 1, 5, PGC_SIGHUP, 0, NULL, NULL, NULL);
}

void
_PG_init(void)
{
	if (!process_shared_preload_libraries_in_progress)
		ereport(ERROR, errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("eda is not loaded"),
		        errdetail("eda needs shared memory and background workers, which it can only get at server start."),
		        errhint("Add eda to shared_preload_libraries in postgresql.conf (\"shared_preload_libraries = 'eda'\") "
		                "and restart the server."));

	define_sizes();
	define_settings();
	define_broker_settings();
	MarkGUCPrefixReserved("eda");
	shmem_init();
	news_init();
	launcher_register();
	ddl_init();
}

/* eda.library_version(): the version that the library was built as. */
Datum
eda_library_version(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(EDA_VERSION));
}
