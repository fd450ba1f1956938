/*
 * source_pull.c
 *		Events from Postgres itself, for event types with delivery => 'pull'.
 */
#include <poll.h>
#include <stdio.h>

#include "worker.h"

#define FLOW_TYPE "FLOW_B"

const char source_help[] = "";

/*
 * Take the next events.  The server waits for them, so there is no need to ask
 * often.  A signal to stop cancels the wait; should events come all the same, they
 * are ours, and released later.
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
			poll(&fd, 1, 500); /* ends by itself, for a signal that came just before it */
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
