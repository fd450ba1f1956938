/*
 * filter.c
 *		What a subscriber wants to see.
 */
#include "filter.h"

#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "stream.h"

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
filter_remove(Subscriber *s, const char *id)
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

/* Add a subscription, or replace the one with this id.  NULL stands for anything. */
bool
filter_add(Subscriber *s, const char *id, const char *event_type, const char *flow_type, const char *flow_id)
{
	Subscription *sub;

	filter_remove(s, id);
	if (s->nsubscriptions == MAX_SUBSCRIPTIONS)
		return false;
	sub = memory_get(sizeof(Subscription));
	sub->id = memory_copy_text(id);
	sub->event_type = memory_copy_text(event_type);
	sub->flow_type = memory_copy_text(flow_type);
	sub->flow_id = memory_copy_text(flow_id);
	sub->next = s->subscriptions;
	s->subscriptions = sub;
	s->nsubscriptions++;
	subscriptions_changed(s);
	return true;
}

static bool
filter_fits(const char *wanted, const char *is)
{
	return wanted == NULL || strcmp(wanted, is) == 0;
}

/* Whether the subscriber wants to see a change; one of its subscriptions must fit. */
bool
filter_wants(const Subscriber *s, const char *event_type, const char *flow_type, const char *flow_id)
{
	for (const Subscription *sub = s->subscriptions; sub != NULL; sub = sub->next)
		if (filter_fits(sub->event_type, event_type) && filter_fits(sub->flow_type, flow_type) &&
		    filter_fits(sub->flow_id, flow_id))
			return true;
	return false;
}

void
filter_clear(Subscriber *s)
{
	while (s->subscriptions != NULL)
		filter_remove(s, s->subscriptions->id);
}
