/*
 * link.c
 *		The connection to one server: the only file that includes nats.h.
 *
 * nats.c could reconnect by itself and publish asynchronously (js_PublishMsgAsync).  We
 * use neither: after a reconnect it would send what it had queued out of order, with
 * gaps and with other message ids, and we could not find out what it still holds.  So a
 * connection ends when it is lost for the first time.  A message has the reply subject
 * "<inbox>.<epoch>.<number>", which names its place in the ring.
 *
 * What a reader would get wrong: callbacks run on threads of nats.c, and may still run
 * after their connection was closed.  So on_closed() and on_error() compare their
 * connection with the broker's, and a Broker must not be freed before
 * link_close_library() has said that all these threads have ended.
 */
#include "broker/broker_int.h"

#include <errno.h>
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ms; shorter than broker_destroy() waits (2 s), which would often fail otherwise */
#define CONNECT_TIMEOUT 1500
#define WRITE_TIMEOUT 1500 /* for one message */

#define IO_BUFFER 65536    /* bytes */
#define PING_INTERVAL 5000 /* ms; the third ping without an answer ends the connection */
#define REQUEST_EPOCH 0    /* in reply subjects of requests; epochs of messages begin with 1 */

/* ------------------------------------------------------------------------
 * Callbacks, on threads of nats.c
 * ------------------------------------------------------------------------ */

/* Report trouble to the courier, unless it has not handled the last report yet. */
static void
report_trouble(Broker *broker, Trouble trouble, const char *text)
{
	/* A lost connection replaces whatever else went wrong on it. */
	if (broker->trouble != TROUBLE_NONE && trouble != TROUBLE_LOST)
		return;
	broker->trouble = trouble;
	snprintf(broker->trouble_text, sizeof(broker->trouble_text), "%s", text);
	url_mask(broker->trouble_text);
	pthread_cond_signal(&broker->wake);
}

/* The stream has acknowledged a message: write its receipt. */
static void
acknowledge_message(Broker *broker, uint64_t epoch, uint64_t number)
{
	broker->last_ack = state_now();
	if (broker->probing && epoch == broker->epoch)
	{
		broker->probing = false;
		pthread_cond_signal(&broker->wake);
	}
	if (ring_find_waiting(&broker->ring, number) == NULL)
		return;
	broker->status.published++;
	ring_write_receipt(&broker->ring, number, BROKER_ACKNOWLEDGED, NULL);
	state_signal_caller(broker);
}

/*
 * Handle the reply to a message.  The server sends an empty reply if nobody, and so no
 * stream, listens to the message's subject.
 */
static void
handle_ack(Broker *broker, uint64_t epoch, uint64_t number, const char *data, size_t length)
{
	JetStreamError error = {0};
	Ack ack = ACK_WRONG_STREAM;

	if (length > 0)
		ack = jetstream_read_ack(data, length, broker->settings_in_use->config.stream, &error);
	if (ack == ACK_GOOD)
	{
		acknowledge_message(broker, epoch, number);
		return;
	}
	/*
	 * An error of an epoch before the last setback may be out of date: the message is
	 * being sent again.
	 */
	if (epoch != broker->epoch || ring_find_waiting(&broker->ring, number) == NULL)
		return;
	if (ack == ACK_WRONG_STREAM)
		report_trouble(broker, TROUBLE_NO_STREAM,
		               length > 0 ? "another stream took a message" : "no stream took a message");
	else if (error.err_code == JS_TTL_INVALID || error.err_code == JS_TTL_DISABLED)
		report_trouble(broker, TROUBLE_TTL, error.text);
	else if (error.err_code != JS_MESSAGE_TOO_LARGE)
	{
		char text[sizeof(broker->trouble_text)];

		snprintf(text, sizeof(text), "%.100s (subject \"%.80s\")", error.text,
		         ring_find_waiting(&broker->ring, number)->parcel->subject);
		report_trouble(broker, TROUBLE_REFUSED, text);
	}
	else
	{
		/* The message is too large; but the stream has answered, so all is well otherwise. */
		broker->probing = false;
		broker->last_ack = state_now();
		ring_write_receipt(&broker->ring, number, BROKER_REJECTED, error.text);
		state_signal_caller(broker);
		pthread_cond_signal(&broker->wake);
	}
}

/* Handle the answer to a request, if link_request() still waits for it. */
static void
handle_answer(Broker *broker, uint64_t number, const char *data, size_t length)
{
	if (number != broker->request_number || broker->answered)
		return;
	broker->answered = true;
	broker->answer = length > 0 ? strndup(data, length) : NULL;
	pthread_cond_signal(&broker->wake);
}

/* Read epoch and number from the end of a reply subject. */
static void
read_reply_subject(const char *subject, uint64_t *epoch, uint64_t *number)
{
	const char *dot = strrchr(subject, '.');

	*number = strtoull(dot + 1, NULL, 10);
	do
		dot--;
	while (*dot != '.');
	*epoch = strtoull(dot + 1, NULL, 10);
}

/* Called with each message to our inbox, "<inbox>.*.*". */
static void
on_reply(natsConnection *connection, natsSubscription *subscription, natsMsg *message, void *closure)
{
	Broker *broker = closure;
	size_t length = (size_t) natsMsg_GetDataLength(message);
	uint64_t epoch;
	uint64_t number;

	(void) connection;
	(void) subscription;
	read_reply_subject(natsMsg_GetSubject(message), &epoch, &number);
	pthread_mutex_lock(&broker->lock);
	if (epoch == REQUEST_EPOCH)
		handle_answer(broker, number, natsMsg_GetData(message), length);
	else if (broker->settings_in_use != NULL)
		handle_ack(broker, epoch, number, natsMsg_GetData(message), length);
	pthread_mutex_unlock(&broker->lock);
	natsMsg_Destroy(message);
}

/* Copy the last error of a connection, or another text if there is none. */
static void
get_last_error(natsConnection *connection, const char *otherwise, char *out, size_t size)
{
	const char *text = "";

	(void) natsConnection_GetLastError(connection, &text);
	snprintf(out, size, "%s", text != NULL && text[0] != '\0' ? text : otherwise);
}

/* Called when a connection has ended, by itself or because we closed it. */
static void
on_closed(natsConnection *connection, void *closure)
{
	Broker *broker = closure;
	char text[200];

	get_last_error(connection, "connection closed", text, sizeof(text));
	pthread_mutex_lock(&broker->lock);
	if (broker->connection == connection)
		report_trouble(broker, TROUBLE_LOST, text);
	pthread_mutex_unlock(&broker->lock);
}

/*
 * Called with each error of a connection.  Only denied subjects matter here: after other
 * errors the connection ends, or a message stays without an acknowledgement.
 */
static void
on_error(natsConnection *connection, natsSubscription *subscription, natsStatus status, void *closure)
{
	Broker *broker = closure;
	char text[200];

	(void) subscription;
	if (status != NATS_NOT_PERMITTED)
		return;
	get_last_error(connection, "not permitted", text, sizeof(text));
	pthread_mutex_lock(&broker->lock);
	if (broker->connection == connection)
		report_trouble(broker, TROUBLE_DENIED, text);
	pthread_mutex_unlock(&broker->lock);
}

/* ------------------------------------------------------------------------
 * Connect
 * ------------------------------------------------------------------------ */

/* Check that we can read a file of the settings: errors of nats.c do not name the file. */
static bool
check_readable(const char *path, const char *what, char *error, size_t size)
{
	if (path[0] == '\0' || access(path, R_OK) == 0)
		return true;
	snprintf(error, size, "could not read %s \"%s\": %s", what, path, strerror(errno));
	return false;
}

/*
 * Use TLS if a setting or the URL asks for it.
 *
 * Before 3.11 nats.c uses a TLS connection in two threads at once, and waits for ever if
 * the server does not finish the handshake (fixed by its commits fa0f4c1b and 9ec900ba).
 * We can do nothing about either.
 */
static natsStatus
set_tls(natsOptions *options, const BrokerConfig *config, const char *url)
{
	bool wanted = strncmp(url, "tls://", 6) == 0 || config->tls_ca_file[0] != '\0' || config->tls_cert_file[0] != '\0';
	char host[256];
	char *name;
	natsStatus s = NATS_OK;

	if (!wanted)
		return s;
	s = natsOptions_SetSecure(options, true);
	if (s == NATS_OK && config->tls_ca_file[0] != '\0')
		s = natsOptions_LoadCATrustedCertificates(options, config->tls_ca_file);
	if (s == NATS_OK && config->tls_cert_file[0] != '\0')
		s = natsOptions_LoadCertificatesChain(options, config->tls_cert_file, config->tls_key_file);
	/* Depending on how nats.c was built, it checks the host name only if it is set. */
	url_host(url, host, sizeof(host));
	name = host + (host[0] == '[');
	name[strcspn(name, host[0] == '[' ? "]" : ":")] = '\0';
	if (s == NATS_OK)
		s = natsOptions_SetExpectedHostname(options, name);
	return s;
}

/*
 * Set the URL, and separately the user and password, or the token, that it contains:
 * nats.c 3.4 does not decode their %XX.
 */
static natsStatus
set_url(natsOptions *options, const char *url)
{
	const char *start = strstr(url, "://") + 3;
	const char *at = strrchr(start, '@');
	const char *colon = at != NULL ? memchr(start, ':', (size_t) (at - start)) : NULL;
	char bare[512];
	char part[512];
	char user[1024];
	char password[1024];
	natsStatus s;

	if (at == NULL)
		return natsOptions_SetURL(options, url);
	snprintf(bare, sizeof(bare), "%.*s%s", (int) (start - url), url, at + 1);
	url_decode(start, colon != NULL ? colon : at, part, sizeof(part));
	url_escape(part, user, sizeof(user));
	s = natsOptions_SetURL(options, bare);
	if (s != NATS_OK)
		return s;
	if (colon == NULL)
		return natsOptions_SetToken(options, user);
	url_decode(colon + 1, at, part, sizeof(part));
	url_escape(part, password, sizeof(password));
	return natsOptions_SetUserInfo(options, user, password);
}

/* Set all options of a connection. */
static natsStatus
set_options(natsOptions *options, Broker *broker, const char *url)
{
	const BrokerConfig *config = &broker->settings_in_use->config;
	char name[1024];
	natsStatus s = set_url(options, url);

	url_escape(config->name, name, sizeof(name));
	if (s == NATS_OK && name[0] != '\0')
		s = natsOptions_SetName(options, name);
	if (s == NATS_OK)
		s = natsOptions_SetAllowReconnect(options, false);
	if (s == NATS_OK)
		s = natsOptions_SetIgnoreDiscoveredServers(options, true);
	if (s == NATS_OK)
		s = natsOptions_SetTimeout(options, CONNECT_TIMEOUT);
	if (s == NATS_OK)
		s = natsOptions_SetWriteDeadline(options, WRITE_TIMEOUT);
	if (s == NATS_OK)
		s = natsOptions_SetPingInterval(options, PING_INTERVAL);
	if (s == NATS_OK)
		s = natsOptions_SetMaxPingsOut(options, 2);
	if (s == NATS_OK)
		s = natsOptions_SetIOBufSize(options, IO_BUFFER);
	if (s == NATS_OK)
		s = natsOptions_SetClosedCB(options, on_closed, broker);
	if (s == NATS_OK)
		s = natsOptions_SetErrorHandler(options, on_error, broker);
	if (s == NATS_OK && config->credentials[0] != '\0')
		s = natsOptions_SetUserCredentialsFromFiles(options, config->credentials, NULL);
	if (s == NATS_OK)
		s = set_tls(options, config, url);
	return s;
}

/* Subscribe to a new inbox. */
static natsStatus
subscribe_inbox(natsSubscription **subscription, natsConnection *connection, Broker *broker, char *inbox, size_t size)
{
	natsInbox *unique = NULL;
	char subject[96];
	natsStatus s = natsInbox_Create(&unique);

	if (s == NATS_OK)
	{
		snprintf(inbox, size, "%s", unique);
		snprintf(subject, sizeof(subject), "%s.*.*", unique);
		s = natsConnection_Subscribe(subscription, connection, subject, on_reply, broker);
	}
	/*
	 * By default nats.c drops messages of a subscription where many wait to be read.  Here
	 * an acknowledgement may wait for each message of the whole window.
	 */
	if (s == NATS_OK)
		s = natsSubscription_SetPendingLimits(*subscription, -1, -1);
	natsInbox_Destroy(unique);
	return s;
}

/*
 * Write why we could not connect.  Returns BROKER_UNREACHABLE if the server may come back
 * by itself, and BROKER_REFUSED if somebody has to change something first.
 */
static BrokerState
explain_connect_failure(natsStatus status, const char *url, char *error, size_t size)
{
	natsStatus last = NATS_OK;
	const char *text = nats_GetLastError(&last);
	char host[256];

	url_host(url, host, sizeof(host));
	if (text == NULL || text[0] == '\0' || last != status)
		text = natsStatus_GetText(status);
	/* Skip the place in the source of nats.c with which the text begins. */
	if (text[0] == '(' && strstr(text, "): ") != NULL)
		text = strstr(text, "): ") + 3;
	/*
	 * With TLS 1.3 a server that wants a certificate, and gets none, closes the
	 * connection without a word.  Versions of nats.c return different codes for that.
	 */
	if (status == NATS_CONNECTION_CLOSED || (status == NATS_PROTOCOL_ERROR && strstr(text, "got ''") != NULL))
		text = "the server closed the connection during the login (does it want a client certificate?)";
	snprintf(error, size, "%s: %s", host, text);
	url_mask(error);
	switch (status)
	{
		case NATS_PROTOCOL_ERROR:
		case NATS_NO_SERVER:
		case NATS_TIMEOUT:
		case NATS_IO_ERROR:
		case NATS_SYS_ERROR:
		case NATS_NO_MEMORY:
		case NATS_CONNECTION_CLOSED:
		case NATS_CONNECTION_DISCONNECTED:
		case NATS_STALE_CONNECTION:
			return BROKER_UNREACHABLE;
		default:
			return BROKER_REFUSED;
	}
}

/*
 * Connect to a server.  Returns BROKER_CONNECTING if that worked; otherwise the broker's
 * new state, and *error says why.
 */
BrokerState
link_open(Broker *broker, const char *url, char *error, size_t size)
{
	const BrokerConfig *config = &broker->settings_in_use->config;
	BrokerState state = BROKER_CONNECTING;
	natsOptions *options = NULL;
	natsConnection *connection = NULL;
	natsSubscription *subscription = NULL;
	char inbox[sizeof(broker->inbox)];
	natsStatus s;

	if (!check_readable(config->credentials, "credentials file", error, size) ||
	    !check_readable(config->tls_ca_file, "CA file", error, size) ||
	    !check_readable(config->tls_cert_file, "certificate file", error, size) ||
	    !check_readable(config->tls_key_file, "key file", error, size))
		return BROKER_REFUSED;
	s = natsOptions_Create(&options);
	if (s == NATS_OK)
		s = set_options(options, broker, url);
	if (s == NATS_OK)
		s = natsConnection_Connect(&connection, options);
	if (s == NATS_OK)
		s = subscribe_inbox(&subscription, connection, broker, inbox, sizeof(inbox));
	natsOptions_Destroy(options);
	if (s != NATS_OK)
	{
		state = explain_connect_failure(s, url, error, size);
		natsSubscription_Destroy(subscription);
		natsConnection_Destroy(connection);
		return state;
	}
	pthread_mutex_lock(&broker->lock);
	broker->connection = connection;
	broker->subscription = subscription;
	memcpy(broker->inbox, inbox, sizeof(inbox));
	broker->trouble = TROUBLE_NONE;
	pthread_mutex_unlock(&broker->lock);
	/* If it ended before we set broker->connection, on_closed() has ignored that. */
	if (natsConnection_IsClosed(connection))
		on_closed(connection, broker);
	return state;
}

/* Close the connection, if there is one. */
void
link_close(Broker *broker)
{
	natsConnection *connection = broker->connection;
	natsSubscription *subscription = broker->subscription;

	pthread_mutex_lock(&broker->lock);
	broker->connection = NULL;
	broker->subscription = NULL;
	broker->trouble = TROUBLE_NONE;
	pthread_mutex_unlock(&broker->lock);
	natsConnection_Destroy(connection);
	natsSubscription_Destroy(subscription);
}

/* End the threads that nats.c keeps between connections; false if some have not ended. */
bool
link_close_library(void)
{
	natsStatus s = nats_CloseAndWait(1000);

	return s == NATS_OK || s == NATS_NOT_INITIALIZED;
}

/* How many bytes of headers and body the server takes. */
int64_t
link_max_payload(Broker *broker)
{
	return natsConnection_GetMaxPayload(broker->connection);
}

/* ------------------------------------------------------------------------
 * Send
 * ------------------------------------------------------------------------ */

/* Whole seconds until a time by the system's clock, rounded up; at least 1. */
static long long
seconds_until(int64_t expires_at)
{
	struct timespec now;
	int64_t left;

	clock_gettime(CLOCK_REALTIME, &now);
	left = expires_at - ((int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000);
	return left <= 0 ? 1 : (left + 999999) / 1000000;
}

/* Publish a message, which the ring knows by its number. */
SendResult
link_send(Broker *broker, const Parcel *parcel, uint64_t epoch, uint64_t number, bool ttl)
{
	char reply[sizeof(broker->inbox) + 48];
	char seconds[24];
	natsMsg *message = NULL;
	natsStatus s;

	snprintf(reply, sizeof(reply), "%s.%llu.%llu", broker->inbox, (unsigned long long) epoch,
	         (unsigned long long) number);
	s = natsMsg_Create(&message, parcel->subject, reply, parcel->body, (int) parcel->body_length);
	for (const char *const *h = parcel->headers; s == NATS_OK && h[0] != NULL; h += 2)
		s = natsMsgHeader_Add(message, h[0], h[1]);
	if (s == NATS_OK && ttl && parcel->expires_at != 0)
	{
		snprintf(seconds, sizeof(seconds), "%llds", seconds_until(parcel->expires_at));
		s = natsMsgHeader_Set(message, "Nats-TTL", seconds);
	}
	if (s == NATS_OK)
		s = natsConnection_PublishMsg(broker->connection, message);
	natsMsg_Destroy(message);
	switch (s)
	{
		case NATS_OK:
			return SENT;
		case NATS_INVALID_ARG:
		case NATS_INVALID_SUBJECT:
		case NATS_MAX_PAYLOAD:
			return SEND_REFUSED;
		default:
			return SEND_LOST;
	}
}

/*
 * Send a request and wait for the answer, which the caller has to free.  For the courier
 * only: there is one request at a time.
 */
RequestResult
link_request(Broker *broker, const char *subject, const char *body, int64_t until, char **answer)
{
	char reply[sizeof(broker->inbox) + 48];
	RequestResult result = REQUEST_GIVEN_UP;
	uint64_t number;
	natsStatus s;

	pthread_mutex_lock(&broker->lock);
	number = ++broker->request_number;
	broker->answered = false;
	broker->answer = NULL;
	pthread_mutex_unlock(&broker->lock);
	snprintf(reply, sizeof(reply), "%s.%d.%llu", broker->inbox, REQUEST_EPOCH, (unsigned long long) number);
	s = natsConnection_PublishRequest(broker->connection, subject, reply, body, (int) strlen(body));
	pthread_mutex_lock(&broker->lock);
	while (s == NATS_OK && !broker->answered && state_wait(broker, until))
		;
	if (broker->answered)
		result = broker->answer != NULL ? REQUEST_ANSWERED : REQUEST_NO_RESPONDER;
	*answer = broker->answer;
	broker->answer = NULL;
	broker->answered = true;
	pthread_mutex_unlock(&broker->lock);
	return result;
}
