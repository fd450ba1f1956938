/*
 * ready_queue.c
 *		The lists of the ready queue: one list for each flow type and priority.
 *
 * Workers pop from them (api/queue.c), the engine puts offers into them and takes them out
 * again (engine/dispatch.c).  The caller holds the area's lock throughout.
 */
#include "shared/shared.h"

/*
 * The ready queue of a flow type, made if it has none yet; NULL if there is no room.  Under
 * the lock.
 */
FlowQueue *
ready_queue_of(EngineArea *area, const char *flow_type)
{
	FlowQueue *queues = area_queues(area);

	for (int i = 0; i < eda_max_event_types; i++)
	{
		if (strcmp(queues[i].flow_type, flow_type) == 0)
			return &queues[i];
		if (queues[i].flow_type[0] == '\0')
		{
			strlcpy(queues[i].flow_type, flow_type, NAMEDATALEN);
			return &queues[i];
		}
	}
	return NULL;
}

/* Put an entry at the end of the list of its priority, for workers to take.  Under the lock. */
void
ready_queue_link(EngineArea *area, int i)
{
	Offer *offers = area_offers(area);
	Offer *o = &offers[i];
	FlowQueue *queue = &area_queues(area)[o->queue];

	o->state = OFFER_QUEUED;
	o->next = -1;
	o->prev = queue->tail[o->priority];
	if (o->prev >= 0)
		offers[o->prev].next = i;
	else
		queue->head[o->priority] = i;
	queue->tail[o->priority] = i;
	queue->queued++;
}

/* Take an entry, wherever it stands, out of the list of its priority.  Under the lock. */
void
ready_queue_unlink(EngineArea *area, int i)
{
	Offer *offers = area_offers(area);
	Offer *o = &offers[i];
	FlowQueue *queue = &area_queues(area)[o->queue];

	if (o->prev >= 0)
		offers[o->prev].next = o->next;
	else
		queue->head[o->priority] = o->next;
	if (o->next >= 0)
		offers[o->next].prev = o->prev;
	else
		queue->tail[o->priority] = o->prev;
	queue->queued--;
}
