/*
 * hangup.c
 *		Notice that the client of a stream has hung up.
 *
 * libwebsockets (4.1) waits for input on a connection whose answer is under way, but does
 * not read it.  When an SSE client hung up or sent something, the loop ran in circles
 * until the next write failed.  So we watch these sockets for both ourselves.
 */
#include "hangup.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <uv.h>

#include "answer.h"
#include "loop.h"

static int hangups = -1; /* an epoll descriptor with the sockets of all streams but WebSockets */
static uv_poll_t hangup_poll;

/* An SSE client has hung up, or has sent something, which it may not: end its connection. */
static void
on_hangup(uv_poll_t *handle, int status, int events)
{
	struct epoll_event found[64];
	int n = epoll_wait(hangups, found, 64, 0);

	(void) handle;
	(void) status;
	(void) events;
	for (int i = 0; i < n; i++)
		answer_end(found[i].data.ptr);
}

/* Begin to watch; once, when the loop is there. */
void
hangup_start(void)
{
	hangups = epoll_create1(EPOLL_CLOEXEC);
	uv_poll_init(loop, &hangup_poll, hangups);
	uv_poll_start(&hangup_poll, UV_READABLE, on_hangup);
}

/* Watch a connection until hangup_forget().  Returns its socket, for that call. */
int
hangup_watch(struct lws *wsi)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = wsi};
	int fd = lws_get_socket_fd(wsi);

	epoll_ctl(hangups, EPOLL_CTL_ADD, fd, &event);
	return fd;
}

/* Watch a socket no longer.  To be called before libwebsockets closes it. */
void
hangup_forget(int fd)
{
	epoll_ctl(hangups, EPOLL_CTL_DEL, fd, NULL);
}

/* The gateway is shutting down: watch nothing any more. */
void
hangup_stop(void)
{
	uv_close((uv_handle_t *) &hangup_poll, NULL);
	close(hangups);
	hangups = -1;
}
