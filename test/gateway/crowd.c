/*
 * crowd.c
 *		Many clients of the gateway's GET /api/stream and /ws in one process, each of
 *		which must see every change.
 *
 *	crowd PORT SSE WEBSOCKETS STUCK IDLE
 *
 * SSE and WEBSOCKETS clients read; STUCK ones subscribe and never read; IDLE ones watch
 * a flow type in which nothing happens.  It says "ready IDLE" when all of them are let
 * in (IDLE: as many as the limit of open files allows).  Then it is told on stdin how
 * many changes there are, and says "all N" when each that reads has seen just so many,
 * numbered without a gap ("seq"); or "lost: ...", what is missing, when the stream of one
 * breaks, or nothing has come for a minute.
 *
 * A gigabyte a second may come: the text is only looked through for numbers.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define QUIET_MS 60000
#define SEQ "\"seq\":["
#define CARRY 80 /* of what was read last: a number may be cut in two */

typedef enum Kind
{
	SSE,
	WS,
	STUCK,
	IDLE
} Kind;

typedef struct Client
{
	int fd;
	Kind kind;
	bool let_in;
	long first;
	long last;
	long count;
	size_t carried;
	char carry[CARRY];
} Client;

static const char *const requests[] = {
	"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"GET /ws?all HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
	"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
	"GET /api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n",
	"GET /api/stream?flow_type=nothing HTTP/1.1\r\nHost: localhost\r\n\r\n",
};

static Client *clients;
static int nclients;
static int let_in;
static int poll_fd;
static char buffer[CARRY + (1 << 20) + 1];

static void
lose(const Client *c, const char *what)
{
	printf("lost: client %d (%s): %s; first %ld, last %ld, %ld changes\n", (int) (c - clients),
	       c->kind == WS ? "WebSocket" : "SSE", what, c->first, c->last, c->count);
	exit(0);
}

static bool
open_client(Kind kind, int port)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct epoll_event event = {.events = EPOLLIN};
	Client *c = &clients[nclients];
	int small = 4096;

	c->fd = socket(AF_INET, SOCK_STREAM, 0);
	if (c->fd < 0)
		return false;
	if (kind == STUCK)
		setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
	c->kind = kind;
	if (connect(c->fd, (struct sockaddr *) &address, sizeof(address)) != 0 ||
	    write(c->fd, requests[kind], strlen(requests[kind])) < 0)
		lose(c, "it cannot connect");
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	event.data.ptr = c;
	epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event);
	nclients++;
	return true;
}

/* The number of a change; false: it is not all there. */
static bool
take_number(Client *c, const char *p, const char *end)
{
	const char *comma = memchr(p, ',', end - p);
	const char *close = memchr(p, ']', end - p);
	long n;

	if (comma == NULL || close == NULL)
		return false;
	n = atol(comma + 1);
	if (c->count == 0)
		c->first = n;
	else if (n != c->last + 1)
	{
		c->count++;
		lose(c, "a gap before this one, or a repeat");
	}
	c->last = n;
	c->count++;
	return true;
}

/* Look through what came, with what was left of it before. */
static void
look(Client *c, size_t size)
{
	char *end = buffer + CARRY + size;
	char *p = buffer + CARRY - c->carried;
	char *done = p;
	size_t left;

	memcpy(p, c->carry, c->carried);
	*end = '\0';
	if (!c->let_in && strstr(p, c->kind == WS ? "\"type\":\"status\"" : "event: status") != NULL)
	{
		c->let_in = true;
		let_in++;
	}
	while ((p = memchr(p, '[', end - p)) != NULL)
	{
		p++;
		if (p - (buffer + CARRY - c->carried) < (long) strlen(SEQ) || memcmp(p - strlen(SEQ), SEQ, strlen(SEQ)) != 0)
			continue;
		if (!take_number(c, p, end))
		{
			p -= strlen(SEQ);
			break;
		}
		done = p;
	}
	/* From an unfinished number on, or as much as one could have begun in. */
	if (p == NULL)
		p = end - (end - done < CARRY / 2 ? end - done : CARRY / 2);
	left = end - p;
	if (left > CARRY)
		lose(c, "a number without an end");
	memmove(c->carry, p, left);
	c->carried = left;
}

/* Read what there is.  False: nothing came for a time. */
static bool
serve(int timeout_ms)
{
	struct epoll_event events[256];
	int n = epoll_wait(poll_fd, events, 256, timeout_ms);

	for (int i = 0; i < n; i++)
	{
		Client *c = events[i].data.ptr;
		ssize_t size;

		/* It is let in, and never reads again. */
		if (c->kind == STUCK && c->let_in)
		{
			epoll_ctl(poll_fd, EPOLL_CTL_DEL, c->fd, NULL);
			continue;
		}
		size = read(c->fd, buffer + CARRY, sizeof(buffer) - CARRY - 1);
		if (size <= 0)
			lose(c, "its stream has ended");
		look(c, size);
	}
	return n > 0;
}

/* A WebSocket from which nothing is heard is closed: a pong that nobody asked for will do. */
static void
give_signs_of_life(void)
{
	static const char pong[] = {(char) 0x8a, (char) 0x80, 0, 0, 0, 0};
	static time_t last;

	if (time(NULL) < last + 10)
		return;
	last = time(NULL);
	for (int i = 0; i < nclients; i++)
		if (clients[i].kind == WS && write(clients[i].fd, pong, sizeof(pong)) < 0)
			lose(&clients[i], "it cannot send");
}

static bool
all_have(long total)
{
	for (int i = 0; i < nclients; i++)
		if (clients[i].kind <= WS && clients[i].count != total)
			return false;
	return true;
}

static void
say_who_lacks(long total)
{
	for (int i = 0; i < nclients; i++)
		if (clients[i].kind <= WS && clients[i].count != total)
			lose(&clients[i], "nothing more comes");
}

int
main(int argc, char **argv)
{
	int wanted[4] = {0};
	int port = argc > 1 ? atoi(argv[1]) : 0;
	int idle = 0;
	struct rlimit limit;
	long total = -1;

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int k = 0; k < 4 && k + 2 < argc; k++)
		wanted[k] = atoi(argv[k + 2]);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	clients = calloc(wanted[0] + wanted[1] + wanted[2] + wanted[3], sizeof(Client));
	poll_fd = epoll_create1(0);
	for (int k = SSE; k <= IDLE; k++)
		for (int i = 0; i < wanted[k]; i++)
		{
			if (!open_client(k, port))
				break;
			idle += k == IDLE;
			/* Not all at once: a listen queue is short. */
			if (nclients % 100 == 0)
				while (let_in < nclients)
					if (!serve(QUIET_MS))
						lose(&clients[nclients - 1], "it is not let in");
		}
	while (let_in < nclients)
		if (!serve(QUIET_MS))
			lose(&clients[nclients - 1], "it is not let in");
	printf("ready %d\n", idle);

	fcntl(0, F_SETFL, O_NONBLOCK);
	while (total < 0 || !all_have(total))
	{
		char line[32] = "";

		if (total < 0 && read(0, line, sizeof(line) - 1) > 0)
			total = atol(line);
		give_signs_of_life();
		/* A round of up to 256 clients, then look again. */
		if (!serve(total < 0 ? 50 : QUIET_MS) && total >= 0)
			say_who_lacks(total);
	}
	printf("all %ld\n", total);
	return 0;
}
