/*
 * main.c
 *		Start, signals, end.
 *
 * The end has three parts.  First the gateway takes no new request and closes all
 * streams.  Then it answers the requests that are under way.  Then it closes the
 * connections to the database, libwebsockets and the loop.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include <libwebsockets.h>
#include <uv.h>

#include "caller.h"
#include "config.h"
#include "db.h"
#include "files.h"
#include "http.h"
#include "hub.h"
#include "log.h"
#include "loop.h"
#include "read.h"
#include "request.h"
#include "stats.h"
#include "stream.h"
#include "waiters.h"

#define END_MS 10000 /* how long requests that are under way may take */
#define LATE_MS 100  /* new requests, whose clients could not know, get 503 for so long at least */
#define LOOK_MS 20   /* how often we look whether all requests are answered */

static struct lws_context *context;
static uv_signal_t signals[3];
static uv_timer_t end_timer;
static uint64_t end_at;

static void
lws_log(int level, const char *line)
{
	int size = (int) strcspn(line, "\n");

	log_line(level == LLL_ERR ? LOG_WARN : LOG_DEBUG, "libwebsockets: %.*s", size, line);
}

/* Each connection of a client needs a file descriptor.  Returns the limit of them. */
static int
raise_file_limit(void)
{
	struct rlimit limit;
	rlim_t wanted = config.max_connections + config.pool + 64;

	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return 1024;
	if (limit.rlim_cur < wanted)
	{
		if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < wanted)
			log_line(LOG_WARN,
			         "the limit of open files is %llu, which is too low for %d connections; raise it with ulimit -n",
			         (unsigned long long) limit.rlim_max, config.max_connections);
		limit.rlim_cur = limit.rlim_max == RLIM_INFINITY || limit.rlim_max > wanted ? wanted : limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
		getrlimit(RLIMIT_NOFILE, &limit);
		/*
		 * Refuse connections over the limit ourselves.  When accept() fails for want of a
		 * descriptor, the listening socket stays readable, and the loop would spin.
		 */
		if (limit.rlim_cur < wanted)
			config.max_connections =
				limit.rlim_cur > (rlim_t) config.pool + 65 ? (int) limit.rlim_cur - config.pool - 64 : 1;
	}
	return limit.rlim_cur > 1000000 ? 1000000 : (int) limit.rlim_cur;
}

/* Memory for libwebsockets; it is zeroed, as read.c looks through the memory for headers. */
static void *
lws_allocate(void *memory, size_t size, const char *reason)
{
	(void) reason;
	if (size == 0)
	{
		free(memory);
		return NULL;
	}
	return memory == NULL ? calloc(1, size) : realloc(memory, size);
}

static void
listen_or_end(void)
{
	static const lws_retry_bo_t validity = {.secs_since_valid_ping = 30, .secs_since_valid_hangup = 90};
	struct lws_context_creation_info info = {0};
	void *loops[] = {loop};
	struct lws_vhost *vhost;
	const char *iface = config.address;

	info.options = LWS_SERVER_OPTION_LIBUV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_VALIDATE_UTF8 |
	               LWS_SERVER_OPTION_FAIL_UPON_UNABLE_TO_BIND;
	info.foreign_loops = loops;
	info.fd_limit_per_thread = raise_file_limit();
	info.pt_serv_buf_size = 32768; /* more than a TLS record, so that one read takes all of it */
	info.max_http_header_data = MAX_HEADERS;
	info.uid = info.gid = -1;
	info.retry_and_idle_policy = &validity;
	if (config.tls_cert != NULL)
	{
		info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
		info.ssl_cert_filepath = config.tls_cert;
		info.ssl_private_key_filepath = config.tls_key;
		info.ssl_options_set = SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1;
		info.alpn = "http/1.1";
	}
	lws_set_log_level(LLL_ERR | LLL_WARN, lws_log);
	lws_set_allocator(lws_allocate);
	context = lws_create_context(&info);
	if (context == NULL)
	{
		log_line(LOG_ERROR,
		         "libwebsockets does not start; is its plugin for libuv (libwebsockets-evlib-uv) installed?");
		exit(1);
	}
	if (config.address[0] == '\0' || strcmp(config.address, "0.0.0.0") == 0 || strcmp(config.address, "::") == 0)
		iface = NULL;
	info.iface = iface;
	info.port = config.port;
	info.protocols = http_protocols;
	info.vhost_name = "eda";
	info.keepalive_timeout = 60;
	info.timeout_secs = 15;
	if (iface == NULL || strchr(config.address, ':') == NULL)
		info.options |= LWS_SERVER_OPTION_DISABLE_IPV6;
	if (iface == NULL && config.address[0] != '0')
		info.options &= ~LWS_SERVER_OPTION_DISABLE_IPV6;
	vhost = lws_create_vhost(context, &info);
	if (vhost == NULL)
	{
		log_line(LOG_ERROR, "cannot listen on %s:%d%s", config.address, config.port,
		         config.tls_cert != NULL ? ", or the certificate or key cannot be used" : "");
		exit(1);
	}
	config.port = lws_get_vhost_listen_port(vhost);
}

static void
end_loop(void)
{
	uv_close((uv_handle_t *) &end_timer, NULL);
	uv_stop(loop);
}

static void
on_end_timer(uv_timer_t *timer)
{
	int streams = 0;

	(void) timer;
	for (int kind = 0; kind < SUBSCRIBER_KINDS; kind++)
		streams += stats.subscribers[kind];
	if (in_flight + streams == 0 || loop_now_ms() > end_at)
		end_loop();
}

static void
on_end_signal(uv_signal_t *signal, int number)
{
	(void) signal;
	if (stopping)
		return;
	log_line(LOG_INFO, "%s: shutting down", number == SIGTERM ? "SIGTERM" : "SIGINT");
	stopping = true;
	end_at = loop_now_ms() + END_MS;
	stream_stop();
	uv_timer_init(loop, &end_timer);
	uv_timer_start(&end_timer, on_end_timer, LATE_MS, LOOK_MS);
}

static void
on_hangup_signal(uv_signal_t *signal, int number)
{
	(void) signal;
	(void) number;
	if (caller_load_tokens())
	{
		stream_drop_retired();
		request_refuse_retired();
		log_line(LOG_INFO, "the file of tokens was read again");
	}
	else
		log_line(LOG_WARN, "the file of tokens was not taken; the tokens from before stay valid");
}

static void
watch_signals(void)
{
	static const int numbers[] = {SIGTERM, SIGINT, SIGHUP};

	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < 3; i++)
	{
		uv_signal_init(loop, &signals[i]);
		uv_signal_start(&signals[i], numbers[i] == SIGHUP ? on_hangup_signal : on_end_signal, numbers[i]);
	}
}

/* The readers of what the hub learns. */
static const HubEvents hub_events = {
	.on_changes = stream_send_changes,
	.on_gap = stream_send_gap,
	.on_status = stream_send_status,
	.on_dispatched = waiters_wake,
};

int
main(int argc, char **argv)
{
	config_read(argc, argv);
	loop_open();
	if (!caller_load_tokens())
		return 1;
	files_load(config.www);
	listen_or_end();
	watch_signals();
	http_start();
	stream_start();
	waiters_start(request_call);
	db_start();
	hub_start(&hub_events);
	printf("eda-gateway listening on %s://%s:%d\n", config.tls_cert != NULL ? "https" : "http",
	       config.address[0] == '\0' ? "*" : config.address, config.port); /* *: all addresses */
	fflush(stdout);

	uv_run(loop, UV_RUN_DEFAULT);

	hub_stop();
	db_stop();
	waiters_stop();
	http_stop();
	for (int i = 0; i < 3; i++)
		uv_close((uv_handle_t *) &signals[i], NULL);
	lws_context_destroy(context);
	loop_close();
	files_forget();
	log_line(LOG_INFO, "shut down");
	return 0;
}
