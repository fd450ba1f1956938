/*
 * nats.c
 *		The engine's broker: its settings, its state, its end.
 *
 * Without eda.nats_url there is none, and no thread.  Whoever else reads
 * engine.broker must be ready for NULL.
 */
#include "engine/engine.h"

#include <unistd.h>

#include "miscadmin.h"
#include "storage/ipc.h"

static int event_fd = -1;
static bool full = false; /* the broker took no more, by bytes; until there is a receipt */
static bool settings_changed = true;
static BrokerStatus status;
static char uncovered[256] = ""; /* an event type whose subject the stream has not */
static TimestampTz not_ready_since = 0;

/* on_proc_exit: end the broker's threads before the libraries under them go. */
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

/* Take out of a text from outside what this database's encoding may not know; it may be cut in the middle of a character. */
char *
engine_nats_plain_text(char *text)
{
	for (char *c = text; *c; c++)
		if (IS_HIGHBIT_SET(*c))
			*c = '?';
	return text;
}

/* The settings may have changed: have the next tick look. */
void
engine_nats_settings_changed(void)
{
	settings_changed = true;
}

/* Readable when the broker has something to say; -1: there is none. */
int
engine_nats_event_fd(void)
{
	return event_fd;
}

/* Hand the settings to the broker if they may have changed; inside a transaction, for the database's name. */
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
		status_set_error("could not start the broker's thread; will try again");
}

/* Which event types' subjects the stream has; looked at when either may have changed. */
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
			         "\"%s\" is no subject of stream \"%s\", or not allowed to us: what would go there waits",
			         type->covered ? message_dead_subject(engine.flows[type->flow].flow_type) : type->example,
			         eda_nats_stream);
	}
}

/* One line in the log when the state changes. */
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
			errdetail("Events wait in the database; trying again."));
	if (now->state == BROKER_READY || now->state == BROKER_OFF)
		not_ready_since = 0;
	else if (not_ready_since == 0 && now->state != BROKER_CONNECTING)
		not_ready_since = clock;
}

/* Take the broker's state, and tell what has changed; so many messages wait for it here. */
void
engine_nats_read_status(int nwaiting)
{
	BrokerStatus now;
	static char told_notice[sizeof(now.notice)] = "";

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
	if (strcmp(status.notice, told_notice) != 0 && status.notice[0] != '\0')
		ereport(LOG, errmsg("eda engine of database %u: broker: %s", MyDatabaseId, status.notice));
	if (status.notice[0] != '\0')
		strlcpy(told_notice, status.notice, sizeof(told_notice));
	/* Messages may have been withdrawn, which leaves no receipt. */
	if (status.unacknowledged == 0)
		full = false;
	status.unacknowledged += nwaiting;
	status_set_broker(&status);
}

/* The largest message that the broker takes, in bytes, as far as is known. */
size_t
engine_nats_max_message(void)
{
	return status.max_message > 0 ? status.max_message : SIZE_MAX;
}

/* The broker has taken no more messages by bytes, or takes some again: it has given a receipt. */
void
engine_nats_set_full(bool is_full)
{
	full = is_full;
}

/* Whether the broker took no more messages, by bytes, when it was last asked. */
bool
engine_nats_is_full(void)
{
	return full;
}
