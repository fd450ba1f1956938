/*
 * filter.c
 *		What a subscriber wants to see.
 */
#include "gateway.h"

#include <stdlib.h>
#include <string.h>

static void
free_subscription(Subscription *sub)
{
	free(sub->id);
	free(sub->event_type);
	free(sub->flow_type);
	free(sub->flow_id);
	free(sub);
}

static void
subscriptions_changed(Subscriber *s)
{
	const Subscription *sub = s->subscriptions;

	s->all =
		sub != NULL && sub->next == NULL && sub->event_type == NULL && sub->flow_type == NULL && sub->flow_id == NULL;
}

void
unsubscribe(Subscriber *s, const char *id)
{
	for (Subscription **p = &s->subscriptions; *p != NULL; p = &(*p)->next)
		if (strcmp((*p)->id, id) == 0)
		{
			Subscription *sub = *p;

			*p = sub->next;
			free_subscription(sub);
			s->nsubscriptions--;
			break;
		}
	subscriptions_changed(s);
}

/* From now on the subscriber wants these, too; NULL is anything.  False: it has too many. */
bool
subscribe(Subscriber *s, const char *id, const char *event_type, const char *flow_type, const char *flow_id)
{
	Subscription *sub;

	unsubscribe(s, id);
	if (s->nsubscriptions == MAX_SUBSCRIPTIONS)
		return false;
	sub = get_memory(sizeof(Subscription));
	sub->id = copy_text(id);
	sub->event_type = copy_text(event_type);
	sub->flow_type = copy_text(flow_type);
	sub->flow_id = copy_text(flow_id);
	sub->next = s->subscriptions;
	s->subscriptions = sub;
	s->nsubscriptions++;
	subscriptions_changed(s);
	return true;
}

static bool
fits(const char *wanted, const char *is)
{
	return wanted == NULL || strcmp(wanted, is) == 0;
}

bool
subscriber_wants(const Subscriber *s, const char *event_type, const char *flow_type, const char *flow_id)
{
	for (const Subscription *sub = s->subscriptions; sub != NULL; sub = sub->next)
		if (fits(sub->event_type, event_type) && fits(sub->flow_type, flow_type) && fits(sub->flow_id, flow_id))
			return true;
	return false;
}

void
unsubscribe_all(Subscriber *s)
{
	while (s->subscriptions != NULL)
		unsubscribe(s, s->subscriptions->id);
}
