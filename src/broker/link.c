/*
 * link.c
 *		The connection to a server: the only file that includes nats.h.
 *
 * nats.c could reconnect by itself and publish asynchronously
 * (js_PublishMsgAsync), and does neither here: what it had queued would come out
 * of order, with gaps, and without the same ids, and nobody could say what it
 * still holds.  So a connection lives until its first loss, messages have a reply
 * subject "<inbox>.<epoch>.<number>", and the ring knows the rest.
 *
 * What a reader would get wrong: callbacks run on threads of nats.c, and may
 * still run after the connection that they belong to was closed.  So they look
 * whether it is still the one, and a Broker may only be freed once
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

/* In ms.  Both are shorter than broker_destroy() waits (2 s), so that it seldom fails. */
#define CONNECT_TIMEOUT 1500
#define WRITE_TIMEOUT 1500 /* for one message */

#define IO_BUFFER 65536    /* bytes */
#define PING_INTERVAL 5000 /* ms; the third without an answer ends the connection */
#define REQUEST_EPOCH 0    /* in the reply subject of a request; epochs of messages begin with 1 */

/* ------------------------------------------------------------------------
 * What nats.c calls back
 * ------------------------------------------------------------------------ */

/* Leave word for the courier, unless it has not dealt with the last yet. */
static void
report_trouble(Broker *broker, Trouble trouble, const char *text)
{
	/* A lost connection is more than what else went wrong on it. */
	if (broker->trouble != TROUBLE_NONE && trouble != TROUBLE_LOST)
		return;
	broker->trouble = trouble;
	snprintf(broker->trouble_text, sizeof(broker->trouble_text), "%s", text);
	url_mask(broker->trouble_text);
	pthread_cond_signal(&broker->wake);
}

/* A message is in the stream. */
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

/* Take what came back for a message; nothing at all says that nobody listens to its subject. */
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
	/* What was wrong before the last setback may not be any more: that is being tried. */
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
		/* Too large: that much the stream could say, so it is there. */
		broker->probing = false;
		broker->last_ack = state_now();
		ring_write_receipt(&broker->ring, number, BROKER_REJECTED, error.text);
		state_signal_caller(broker);
		pthread_cond_signal(&broker->wake);
	}
}

/* Take the answer to a request, if it is still waited for. */
static void
handle_answer(Broker *broker, uint64_t number, const char *data, size_t length)
{
	if (number != broker->request_number || broker->answered)
		return;
	broker->answered = true;
	broker->answer = length > 0 ? strndup(data, length) : NULL;
	pthread_cond_signal(&broker->wake);
}

/* The two numbers at the end of a subject of our inbox. */
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

/* Something came to our inbox, "<inbox>.*.*". */
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

/* What nats.c says of a connection last. */
static void
get_last_error(natsConnection *connection, const char *otherwise, char *out, size_t size)
{
	const char *text = "";

	(void) natsConnection_GetLastError(connection, &text);
	snprintf(out, size, "%s", text != NULL && text[0] != '\0' ? text : otherwise);
}

/* A connection has ended, by itself or because we closed it. */
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

/* The server says what it does not like; of that only permissions are news. */
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

/* Whether a file that is set can be read; nats.c would say less about it. */
static bool
check_readable(const char *path, const char *what, char *error, size_t size)
{
	if (path[0] == '\0' || access(path, R_OK) == 0)
		return true;
	snprintf(error, size, "cannot read the %s \"%s\": %s", what, path, strerror(errno));
	return false;
}

/*
 * Ask for TLS if a setting or the URL does.
 *
 * Before 3.11 nats.c uses a TLS connection in two threads at once, and waits for ever
 * for a handshake that the other side does not finish (its commits fa0f4c1b and
 * 9ec900ba).  Neither can be helped from here.
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
	/* nats.c may have been built not to look at it by itself. */
	url_host(url, host, sizeof(host));
	name = host + (host[0] == '[');
	name[strcspn(name, host[0] == '[' ? "]" : ":")] = '\0';
	if (s == NATS_OK)
		s = natsOptions_SetExpectedHostname(options, name);
	return s;
}

/* Take the URL, and user and password, or a token, out of it: nats.c 3.4 does not decode them. */
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

/* Listen to a new inbox. */
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
	/* As many acknowledgements as there are messages are no sign of a slow reader. */
	if (s == NATS_OK)
		s = natsSubscription_SetPendingLimits(*subscription, -1, -1);
	natsInbox_Destroy(unique);
	return s;
}

/* Put in words why there is no connection, and tell a server that is not there from one that does not want us. */
static BrokerState
explain_connect_failure(natsStatus status, const char *url, char *error, size_t size)
{
	natsStatus last = NATS_OK;
	const char *text = nats_GetLastError(&last);
	char host[256];

	url_host(url, host, sizeof(host));
	if (text == NULL || text[0] == '\0' || last != status)
		text = natsStatus_GetText(status);
	/* It begins with a place in the source of nats.c. */
	if (text[0] == '(' && strstr(text, "): ") != NULL)
		text = strstr(text, "): ") + 3;
	/* With TLS 1.3 a server that misses our certificate says so by hanging up; older and newer nats.c call that differently. */
	if (status == NATS_CONNECTION_CLOSED || (status == NATS_PROTOCOL_ERROR && strstr(text, "got ''") != NULL))
		text = "hung up during the login (does it want a certificate?)";
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

/* Connect to a server.  BROKER_CONNECTING: done; any other state: that, because of the error. */
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
	/* It may have ended before on_closed() could know that it is ours. */
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

/* End the threads that nats.c keeps between connections.  False: some did not. */
bool
link_close_library(void)
{
	natsStatus s = nats_CloseAndWait(1000);

	return s == NATS_OK || s == NATS_NOT_INITIALIZED;
}

/* Headers and body, bytes: what the server takes. */
int64_t
link_max_payload(Broker *broker)
{
	return natsConnection_GetMaxPayload(broker->connection);
}

/* ------------------------------------------------------------------------
 * Send
 * ------------------------------------------------------------------------ */

/* Whole seconds until then by the system's clock, rounded up; at least 1. */
static long long
seconds_until(int64_t expires_at)
{
	struct timespec now;
	int64_t left;

	clock_gettime(CLOCK_REALTIME, &now);
	left = expires_at - ((int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000);
	return left <= 0 ? 1 : (left + 999999) / 1000000;
}

/* Publish a message.  SEND_LOST: the connection is gone, or will be; SEND_REFUSED: it is the message. */
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

/* Ask a question and wait for the answer, which is then the caller's to free; only the courier does. */
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
