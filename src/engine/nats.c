/*
 * nats.c
 *		The engine's connection to NATS: pass the settings to the broker code, show its state,
 *		and end it with the process.
 *
 * engine.broker is NULL until eda.nats_url is set.  Until then there is no thread either.
 */
#include "engine/engine.h"

#include <unistd.h>

#include "miscadmin.h"
#include "storage/ipc.h"

static int event_fd = -1;
static bool broker_is_full = false;     /* see engine_nats_set_full() */
static bool settings_changed = true;    /* the broker may not have the current settings */
static BrokerStatus status;             /* as of the last tick */
static char uncovered[512] = "";        /* a notice about a subject that is not accepted */
static TimestampTz not_ready_since = 0; /* 0: the broker is ready, off or new */

/*
 * on_proc_exit: end the broker's threads.  If one of them hangs, exit at once, because later exit
 * handlers would unload libraries that it uses.
 */
static void
stop_broker(int code, Datum arg)
{
	if (engine.broker && !broker_destroy(engine.broker))
		_exit(code);
	engine.broker = NULL;
}

/* Start without a broker. */
void
engine_nats_init(void)
{
	on_proc_exit(stop_broker, (Datum) 0);
}

/*
 * Replace the non-ASCII bytes of a text that came from a server by "?".  They may not be valid in
 * this database's encoding, and the text may have been cut in the middle of a character.
 */
char *
engine_nats_plain_text(char *text)
{
	for (char *c = text; *c; c++)
		if (IS_HIGHBIT_SET(*c))
			*c = '?';
	return text;
}

/* The settings may have changed: the next tick passes them to the broker. */
void
engine_nats_settings_changed(void)
{
	settings_changed = true;
}

/* A descriptor that is readable when there are receipts or a new state; -1: there is no broker. */
int
engine_nats_event_fd(void)
{
	return event_fd;
}

/*
 * Pass the settings to the broker if they may have changed.  Inside a transaction, because the
 * database's name is looked up.
 */
void
engine_nats_apply_settings(void)
{
	BrokerConfig config = {
		.servers = eda_nats_url,
		.credentials = eda_nats_credentials,
		.tls_ca_file = eda_nats_tls_ca_file,
		.tls_cert_file = eda_nats_tls_cert_file,
		.tls_key_file = eda_nats_tls_key_file,
		.stream = eda_nats_stream,
		.subjects = "event-engine.>",
		.max_age = eda_nats_max_age,
		.duplicate_window = eda_nats_duplicate_window,
		.replicas = eda_nats_replicas,
	};

	if (!settings_changed)
		return;
	if (engine.broker == NULL && eda_nats_url[0] != '\0')
		engine.broker = broker_create(&event_fd);
	config.name = psprintf("eda %s", get_database_name(MyDatabaseId));
	settings_changed = engine.broker ? !broker_configure(engine.broker, &config) : eda_nats_url[0] != '\0';
	if (settings_changed)
		status_set_error("could not start the thread for NATS; will try again");
}

/*
 * Find out which event types have subjects that the stream accepts, if the types or the stream's
 * subjects may have changed.
 */
static void
check_subjects(void)
{
	static int64 config_version = -1;
	static uint64 subject_changes = 0;

	if (config_version == engine.config_version && subject_changes == status.subject_changes)
		return;
	config_version = engine.config_version;
	subject_changes = status.subject_changes;
	uncovered[0] = '\0';
	for (int i = 0; i < engine.ntypes; i++)
	{
		EngineType *type = engine.types[i];

		type->covered = broker_covers(engine.broker, type->example);
		type->dead_covered = broker_covers(engine.broker, message_dead_subject(engine.flows[type->flow].flow_type));
		if (type->to_broker && !(type->covered && type->dead_covered))
			snprintf(uncovered, sizeof(uncovered),
			         "stream \"%s\" does not accept subject \"%s\" (or we may not publish to it); messages for it wait",
			         eda_nats_stream,
			         type->covered ? message_dead_subject(engine.flows[type->flow].flow_type) : type->example);
	}
}

/* Log one line about a change of state. */
static void
log_state(const BrokerStatus *now)
{
	TimestampTz clock = GetCurrentTimestamp();

	if (now->state == BROKER_READY && not_ready_since != 0)
		ereport(LOG, errmsg("eda engine of database %u: broker ready again at %s after %ld s", MyDatabaseId,
		                    now->server, (long) ((clock - not_ready_since) / USECS_PER_SEC)));
	else if (now->state == BROKER_READY)
		ereport(LOG, errmsg("eda engine of database %u: broker ready at %s, stream \"%s\"", MyDatabaseId, now->server,
		                    eda_nats_stream));
	else if (now->state == BROKER_OFF)
		ereport(LOG, errmsg("eda engine of database %u: broker off", MyDatabaseId));
	else if (now->state != BROKER_CONNECTING)
		ereport(
			LOG,
			errmsg("eda engine of database %u: broker %s: %s", MyDatabaseId, broker_state_name(now->state), now->error),
			errdetail("Events wait in the database while the engine keeps trying."));
	if (now->state == BROKER_READY || now->state == BROKER_OFF)
		not_ready_since = 0;
	else if (not_ready_since == 0 && now->state != BROKER_CONNECTING)
		not_ready_since = clock;
}

/*
 * Read the broker's state, log what has changed, and show it in eda.engine_status.  nwaiting is
 * the number of deliveries that have not been handed over yet.
 */
void
engine_nats_read_status(int nwaiting)
{
	BrokerStatus now;
	static char logged_notice[sizeof(now.notice)] = "";

	broker_status(engine.broker, &now);
	engine_nats_plain_text(now.server);
	engine_nats_plain_text(now.error);
	engine_nats_plain_text(now.notice);
	if (now.state != status.state)
		log_state(&now);
	status = now;
	check_subjects();
	if (uncovered[0] != '\0')
		strlcpy(status.notice, uncovered, sizeof(status.notice));
	if (strcmp(status.notice, logged_notice) != 0 && status.notice[0] != '\0')
		ereport(LOG, errmsg("eda engine of database %u: broker: %s", MyDatabaseId, status.notice));
	if (status.notice[0] != '\0')
		strlcpy(logged_notice, status.notice, sizeof(logged_notice));
	/* If messages were withdrawn, the broker has room again without giving a receipt. */
	if (status.unacknowledged == 0)
		broker_is_full = false;
	status.unacknowledged += nwaiting;
	status_set_broker(&status);
}

/* The largest message that server and stream take, in bytes; SIZE_MAX if that is not known yet. */
size_t
engine_nats_max_message(void)
{
	return status.max_message > 0 ? status.max_message : SIZE_MAX;
}

/*
 * True: the broker refused a message because its window is full, by bytes.  False: it has given
 * a receipt since, so that there is room again.
 */
void
engine_nats_set_full(bool is_full)
{
	broker_is_full = is_full;
}

/* Whether the broker's window is full, by bytes. */
bool
engine_nats_is_full(void)
{
	return broker_is_full;
}
