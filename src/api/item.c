/*
 * item.c
 *		Read events that are to be published from JSON: the argument of eda.publish_many(), and
 *		spinoffs.
 */
#include "api/api.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

static pg_uuid_t
parse_uuid(const char *text)
{
	return *DatumGetUUIDP(DirectFunctionCall1(uuid_in, CStringGetDatum(text)));
}

static TimestampTz
parse_time(const char *text)
{
	return DatumGetTimestampTz(
		DirectFunctionCall3(timestamptz_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

/*
 * Error context callback: name the list, and the place in it, of the item that an error is
 * about.
 */
void
item_context(void *arg)
{
	const PublishItem *item = arg;

	if (item && item->list)
		errcontext("element %d of %s", item->element, item->list);
}

/*
 * Set the field of the item that belongs to a key of its JSON object; a JSON null leaves the
 * field as it is.  list is a name for errors.  Raises 22023 for an unknown key, and for a
 * value of the wrong type.
 */
static void
set_member(PublishItem *item, const char *key, JsonbValue *value, const char *list)
{
	struct
	{
		const char *key;
		const char **field;
	} texts[] = {
		{"event_type", &item->event_type},
		{"flow_id", &item->flow_id},
		{"flow_type", &item->flow_type},
		{"idempotency_key", &item->idempotency_key},
		{"on_fail_event_type", &item->on_fail_event_type},
		{"correlation_id", &item->correlation_id},
	};
	char *text = json_value_text(value);

	if (value->type == jbvNull)
		return;
	for (int i = 0; i < (int) lengthof(texts); i++)
		if (strcmp(key, texts[i].key) == 0)
		{
			if (text == NULL)
				ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				        errmsg("\"%s\" of %s must be a string", key, list));
			*texts[i].field = text;
			return;
		}
	if (strcmp(key, "payload") == 0)
		item->payload = JsonbValueToJsonb(value);
	else if (strcmp(key, "headers") == 0)
		item->headers = JsonbValueToJsonb(value);
	else if (text && strcmp(key, "scheduled_at") == 0)
	{
		item->has_scheduled_at = true;
		item->scheduled_at = parse_time(text);
	}
	else if (text && strcmp(key, "event_id") == 0)
	{
		item->has_event_id = true;
		item->event_id = parse_uuid(text);
	}
	else if (text && strcmp(key, "parent_id") == 0)
	{
		item->has_parent = true;
		item->parent_id = parse_uuid(text);
	}
	else
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("invalid key \"%s\" in %s", key, list),
		        errhint("Keys are event_type, flow_id, payload, scheduled_at, event_id, idempotency_key, "
		                "on_fail_event_type, headers, correlation_id, parent_id and flow_type."));
}

/*
 * Fill in what an item inherits from its parent if it has no value of its own: flow_id,
 * correlation_id, parent_id (the parent itself), and the headers of distributed tracing.
 */
void
item_inherit(PublishItem *item, const Event *parent)
{
	static const char *const trace[] = {"traceparent", "tracestate", "baggage"};
	JsonObject headers;

	if (item->flow_id == NULL)
		item->flow_id = parent->flow_id;
	if (item->correlation_id == NULL)
		item->correlation_id = parent->correlation_id;
	if (!item->has_parent)
	{
		item->has_parent = true;
		item->parent_id = parent->id;
	}
	if (parent->headers == NULL || (item->headers && !JB_ROOT_IS_OBJECT(item->headers)))
		return;
	json_begin(&headers);
	for (int i = 0; i < (int) lengthof(trace); i++)
		if (json_get_text(item->headers, trace[i]) == NULL)
			json_put_text(&headers, trace[i], json_get_text(parent->headers, trace[i]));
	if (headers.members > 0)
	{
		Jsonb *inherited = json_end(&headers);

		item->headers = item->headers == NULL
		                    ? inherited
		                    : DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(item->headers),
		                                                         JsonbPGetDatum(inherited)));
	}
}

/*
 * Read an array of JSON objects, or a single object, as items.  Returns how many.  list is
 * the array's name for errors.  parent is the event whose spinoffs the items are, or NULL.
 * Raises 22023 if the JSON is something else.
 */
int
item_parse(Jsonb *array, const char *list, const Event *parent, PublishItem **items)
{
	JsonbIterator *it = JsonbIteratorInit(&array->root);
	JsonbIteratorToken token;
	JsonbValue v;
	PublishItem *item = NULL;
	char *key = NULL;
	int n = 0;
	bool inside = false;
	bool single = JB_ROOT_IS_OBJECT(array);
	ErrorContextCallback context = {.previous = error_context_stack, .callback = item_context};

	if (JB_ROOT_IS_SCALAR(array))
		ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("%s must be a JSON array of objects", list),
		        errhint("For example '[{\"event_type\": \"...\", \"flow_id\": \"...\", \"payload\": {}}]'."));
	*items = palloc0(sizeof(PublishItem) * Max(single ? 1 : JB_ROOT_COUNT(array), 1));
	error_context_stack = &context;
	while ((token = JsonbIteratorNext(&it, &v, item != NULL)) != WJB_DONE)
	{
		switch (token)
		{
			case WJB_BEGIN_OBJECT:
				item = &(*items)[n++];
				item->list = list;
				item->element = n;
				break;
			case WJB_KEY:
				key = pnstrdup(v.val.string.val, v.val.string.len);
				break;
			case WJB_VALUE:
				if (item && key)
					set_member(item, key, &v, list);
				break;
			case WJB_END_OBJECT:
				if (parent && item)
					item_inherit(item, parent);
				item = NULL;
				break;
			case WJB_BEGIN_ARRAY:
			case WJB_ELEM:
				if (token == WJB_ELEM || inside)
					ereport(ERROR, errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					        errmsg("element %d of %s is not an object", n + 1, list));
				inside = true;
				break;
			default:
				break;
		}
		context.arg = item;
	}
	error_context_stack = context.previous;
	return n;
}
