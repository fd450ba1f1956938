/*
 * on_fail.c
 *		Publish the on-fail event when an event has failed.
 */
#include "api/api.h"

/*
 * Publish the on-fail events of those steps that have just moved to failed.  An event's own
 * on_fail_event_type comes before that of its event type.  If the named event type does not
 * exist, there is a warning and no on-fail event.
 */
void
on_fail_publish(JournalStep *steps, int nsteps)
{
	PublishItem *items;
	int failed = 0;
	int n = 0;

	for (int i = 0; i < nsteps; i++)
		failed += steps[i].status == JOURNAL_APPENDED && steps[i].next.state == EDA_FAILED;
	if (failed == 0)
		return;
	items = palloc0(sizeof(PublishItem) * failed);
	for (int i = 0; i < nsteps; i++)
	{
		const Transition *t = &steps[i].next;
		const EventType *type;
		const char *on_fail;
		Event event;
		JsonObject payload;

		if (steps[i].status != JOURNAL_APPENDED || t->state != EDA_FAILED)
			continue;
		type = event_type_by_id(t->type);
		if (!journal_event(steps[i].leaf, &steps[i].event_id, false, &event))
			continue;
		on_fail = event.on_fail_event_type ? event.on_fail_event_type : (type ? type->on_fail : "");
		if (on_fail[0] == '\0')
			continue;
		if (event_type_by_name(on_fail, true) == NULL)
		{
			ereport(WARNING, errcode(ERRCODE_EDA_UNKNOWN_EVENT_TYPE),
			        errmsg("event %s failed, and its on-fail event type \"%s\" does not exist", uuid_text(&event.id),
			               on_fail));
			continue;
		}
		(void) journal_event(steps[i].leaf, &steps[i].event_id, true, &event);
		json_begin(&payload);
		json_put_text(&payload, "failed_event_id", uuid_text(&event.id));
		json_put_text(&payload, "failed_event_type", event.event_type);
		json_put_int(&payload, "attempts", t->attempt);
		json_put_text(&payload, "error", json_get_text(t->detail, "error"));
		json_put_json(&payload, "payload", event.payload);
		items[n].event_type = on_fail;
		items[n].payload = json_end(&payload);
		items[n].on_fail_event_type = "";
		items[n].no_size_limit = true;
		item_inherit(&items[n], &event);
		n++;
	}
	publish_items(items, n, palloc(sizeof(pg_uuid_t) * failed));
}
