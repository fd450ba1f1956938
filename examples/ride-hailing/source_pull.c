/*
 * source_pull.c
 *		A source of events: eda.acquire_next(), for event types with delivery => 'pull'.
 */
#include <poll.h>
#include <stdio.h>

#include "worker.h"

#define FLOW_TYPE "FLOW_B"

const char source_help[] = "";

/*
 * Acquire the next events.  The server waits for events, so the worker need not ask
 * often.  A signal to stop cancels the wait; events that were acquired nevertheless
 * are released later.
 */
void
source_take(void)
{
	char max_events[16];
	const char *params[] = {FLOW_TYPE, max_events, name};
	bool canceled = false;
	PGresult *res;

	snprintf(max_events, sizeof(max_events), "%d", batch);
	if (PQsendQueryParams(conn,
	                      "SELECT " ACQUIRED " FROM eda.acquire_next("
	                      "$1::text, max_events => $2::integer, wait => '10 s', worker => $3::text)",
	                      3, NULL, params, NULL, NULL, 0))
		while (PQisBusy(conn))
		{
			struct pollfd fd = {.fd = PQsocket(conn), .events = POLLIN};
			PGcancel *cancel;
			char error[256];

			if (stopping && !canceled && (cancel = PQgetCancel(conn)) != NULL)
			{
				PQcancel(cancel, error, sizeof(error));
				PQfreeCancel(cancel);
				canceled = true;
			}
			poll(&fd, 1, 500); /* the timeout is for a signal that came just before the call */
			if (!PQconsumeInput(conn))
				break;
		}

	while ((res = PQgetResult(conn)) != NULL)
	{
		if (!canceled && outcome(res) != DONE)
			pause_ms(500);
		hold(res);
		PQclear(res);
	}
}

void
source_close(void)
{
}
