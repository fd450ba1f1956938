/*
 * gateway-latency.c
 *		Measures the time from eda.publish() to the first change of the event at a client
 *		of the gateway's GET /api/stream.
 *
 * There are one publisher and one SSE client.  A pause of 1 to 20 ms at random between two
 * events lets engine and gateway fall asleep.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench.h"

#define WARM_UP 100

static int stream;
static char buffer[1 << 20];
static size_t filled;

static void
fail(const char *what)
{
	perror(what);
	exit(1);
}

static void
open_stream(int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	static const char request[] = "GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

	inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
	stream = socket(AF_INET, SOCK_STREAM, 0);
	if (stream < 0 || connect(stream, (struct sockaddr *) &address, sizeof(address)) != 0)
		fail("the gateway");
	if (write(stream, request, sizeof(request) - 1) < 0)
		fail("the gateway");
}

/* Read from the stream until a text has come. */
static void
wait_for(const char *text)
{
	while (strstr(buffer, text) == NULL)
	{
		ssize_t n;

		/* Make room: the first half of the buffer has been searched already. */
		if (filled > sizeof(buffer) / 2)
		{
			memmove(buffer, buffer + filled - 4096, 4096);
			filled = 4096;
		}
		n = read(stream, buffer + filled, sizeof(buffer) - filled - 1);
		if (n <= 0)
			fail("the stream");
		filled += n;
		buffer[filled] = '\0';
	}
	filled = 0;
	buffer[0] = '\0';
}

int
main(int argc, char **argv)
{
	int port = argc > 1 ? atoi(argv[1]) : 8480;
	int n = argc > 2 ? atoi(argv[2]) : 2000;
	double *all = malloc(sizeof(double) * n);
	double *call = malloc(sizeof(double) * n);
	PGconn *conn = connect_or_die();

	open_stream(port);
	wait_for("event: status");
	for (int i = -WARM_UP; i < n; i++)
	{
		double start = now_ms();
		PGresult *result = run(conn, "SELECT eda.publish('BENCH', 'flow')", 0, NULL);
		double published = now_ms();

		wait_for(PQgetvalue(result, 0, 0));
		if (i >= 0)
		{
			all[i] = now_ms() - start;
			call[i] = published - start;
		}
		PQclear(result);
		pause_ms(1 + random() % 20);
	}
	report(24, "publish to SSE client", all, n);
	report(24, "of that eda.publish()", call, n);
	PQfinish(conn);
	close(stream);
	return 0;
}
