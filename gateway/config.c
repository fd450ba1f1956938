/*
 * config.c
 *		The command line.
 */
#include "config.h"

#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "route.h"

#ifndef GATEWAY_WWW
#define GATEWAY_WWW "/usr/local/share/eda-gateway/www"
#endif

Config config = {
	.conninfo = "",
	.address = "127.0.0.1",
	.port = 8480,
	.www = GATEWAY_WWW,
	.pool = 8,
	.max_body = 4 << 20,
	.max_connections = 16384,
	.max_in_flight = 1000,
};

static const char usage[] =
	"eda-gateway serves the events of a database over HTTP: an API, live changes, a web page, metrics, MCP.\n"
	"\n"
	"Usage: eda-gateway [OPTION]...\n"
	"\n"
	"  --db CONNINFO            a connection string for libpq (default: PGHOST, PGDATABASE and so on)\n"
	"  --listen ADDRESS:PORT    where to listen (default 127.0.0.1:8480); port 0 stands for any free port\n"
	"  --tokens FILE            lines \"TOKEN ROLE\": a client with this token works as this database role.\n"
	"                           The file is read again on SIGHUP.  Without this option, clients work as\n"
	"                           the role of CONNINFO, and only clients on this machine are let in\n"
	"  --origin URL             web pages of this origin, such as https://eda.example.com, may call the API;\n"
	"                           this option may be given more than once\n"
	"  --tls-cert FILE, --tls-key FILE\n"
	"                           certificate and key: speak TLS\n"
	"  --pool N                 number of connections to the database, besides one for the feed (default 8)\n"
	"  --max-body BYTES         maximum size of a request's body (default 4194304)\n"
	"  --max-connections N      maximum number of client connections (default 16384)\n"
	"  --max-in-flight N        maximum number of requests that one caller has under way (default 1000)\n"
	"  --www DIR                folder of the web page's files (default " GATEWAY_WWW ")\n"
	"  --log-level LEVEL        error, warn, info (default) or debug; debug logs each request\n"
	"  --routes                 print the routes of the API and exit\n"
	"  --version, --help\n";

/* Say what is wrong with the command line, and end the program. */
static void
refuse_option(const char *what, const char *value)
{
	fprintf(stderr, "eda-gateway: %s: \"%s\"; see eda-gateway --help\n", what, value);
	exit(2);
}

static int
option_number(const char *option, const char *value, long min, long max)
{
	char *end;
	long n = strtol(value, &end, 10);

	if (*value == '\0' || *end != '\0' || n < min || n > max)
	{
		fprintf(stderr, "eda-gateway: %s must be a number from %ld to %ld, not \"%s\"\n", option, min, max, value);
		exit(2);
	}
	return (int) n;
}

/* Take ADDRESS:PORT, [ADDRESS]:PORT or :PORT. */
static void
set_listen(const char *value)
{
	const char *colon = strrchr(value, ':');
	size_t size;

	if (colon == NULL)
		refuse_option("--listen must be ADDRESS:PORT, not", value);
	config.port = option_number("the port of --listen", colon + 1, 0, 65535);
	size = colon - value;
	if (size >= 2 && value[0] == '[' && colon[-1] == ']')
	{
		value++;
		size -= 2;
	}
	if (size >= sizeof(config.address))
		refuse_option("the address of --listen is too long", value);
	memcpy(config.address, value, size);
	config.address[size] = '\0';
}

static void
set_log_level(const char *value)
{
	static const char *const names[] = {"error", "warn", "info", "debug"};

	for (int i = 0; i < 4; i++)
		if (strcmp(value, names[i]) == 0)
		{
			log_level = (LogLevel) i;
			return;
		}
	refuse_option("--log-level must be error, warn, info or debug, not", value);
}

static void
add_origin(const char *value)
{
	int n = 0;

	while (config.origins[n] != NULL)
		n++;
	if (n == MAX_ORIGINS)
		refuse_option("there are too many --origin options; the first one over the limit is", value);
	if (strstr(value, "://") == NULL || strchr(strstr(value, "://") + 3, '/') != NULL)
		refuse_option("--origin must be a scheme and a host such as https://eda.example.com, not", value);
	config.origins[n] = value;
}

static void
print_routes(void)
{
	for (int i = 0; i < nroutes; i++)
		printf("%s %s\n", route_method_name(routes[i].method), routes[i].pattern);
	exit(0);
}

/*
 * Read the command line into "config".  The program ends here if the command line is
 * wrong, or asks for nothing but --routes, --version or --help.
 */
void
config_read(int argc, char **argv)
{
	static const struct option options[] = {
		{"db", required_argument, NULL, 'd'},
		{"listen", required_argument, NULL, 'l'},
		{"www", required_argument, NULL, 'w'},
		{"tokens", required_argument, NULL, 't'},
		{"origin", required_argument, NULL, 'o'},
		{"pool", required_argument, NULL, 'p'},
		{"max-body", required_argument, NULL, 'b'},
		{"max-connections", required_argument, NULL, 'n'},
		{"max-in-flight", required_argument, NULL, 'f'},
		{"tls-cert", required_argument, NULL, 'c'},
		{"tls-key", required_argument, NULL, 'k'},
		{"log-level", required_argument, NULL, 'v'},
		{"routes", no_argument, NULL, 'r'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		switch (c)
		{
			case 'd':
				config.conninfo = optarg;
				break;
			case 'l':
				set_listen(optarg);
				break;
			case 'w':
				config.www = optarg;
				break;
			case 't':
				config.tokens_file = optarg;
				break;
			case 'o':
				add_origin(optarg);
				break;
			case 'p':
				config.pool = option_number("--pool", optarg, 1, 1000);
				break;
			case 'b':
				config.max_body = option_number("--max-body", optarg, 1024, 1 << 30);
				break;
			case 'n':
				config.max_connections = option_number("--max-connections", optarg, 1, 1000000);
				break;
			case 'f':
				config.max_in_flight = option_number("--max-in-flight", optarg, 1, 1000000);
				break;
			case 'c':
				config.tls_cert = optarg;
				break;
			case 'k':
				config.tls_key = optarg;
				break;
			case 'v':
				set_log_level(optarg);
				break;
			case 'r':
				print_routes();
				break;
			case 'V':
				puts("eda-gateway " EDA_VERSION);
				exit(0);
			case 'h':
				fputs(usage, stdout);
				exit(0);
			default:
				exit(2);
		}
	if (optind < argc)
		refuse_option("unexpected argument", argv[optind]);
	if ((config.tls_cert == NULL) != (config.tls_key == NULL))
		refuse_option("--tls-cert and --tls-key must be given together, but there is only",
		              config.tls_cert ? config.tls_cert : config.tls_key);
}
