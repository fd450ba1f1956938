/* ------------------------------------------------------------------------
 * Publishers
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda.publish(
	event_type			text,
	flow_id				text,
	payload				jsonb DEFAULT '{}',
	scheduled_at		timestamptz DEFAULT NULL,
	event_id			uuid DEFAULT NULL,
	idempotency_key		text DEFAULT NULL,
	on_fail_event_type	text DEFAULT NULL,
	headers				jsonb DEFAULT NULL,
	correlation_id		text DEFAULT NULL,
	parent_id			uuid DEFAULT NULL,
	flow_type			text DEFAULT NULL
) RETURNS uuid
	AS 'MODULE_PATHNAME', 'eda_publish' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.publish(text, text, jsonb, timestamptz, uuid, text, text, jsonb, text, uuid, text) IS
	'Publish an event in the current transaction and return its id.  An event_id or '
	'idempotency_key that was used before publishes nothing and returns the id of the first '
	'event.  payload: any JSON; null: {}.  scheduled_at: when the event is due; null or past: '
	'after the first of its type''s attempt_delays.  event_id: an id of the publisher''s own, '
	'best a UUID v7; null: a new one.  on_fail_event_type: in place of the event type''s; empty: '
	'none.  headers: a JSON object of strings, at most 8192 bytes.  flow_id: at most 512 bytes.  '
	'flow_type: raises an error unless it is the event type''s.  Errors: 22004 no event_type or '
	'flow_id, 22023 invalid argument, ED005 unknown event type, ED007 event_id or key was used '
	'for another type or flow, ED009 too large.';

CREATE FUNCTION eda.publish_many(events jsonb) RETURNS uuid[]
	AS 'MODULE_PATHNAME', 'eda_publish_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.publish_many(jsonb) IS
	'Publish the events of a JSON array, all or none, and return their ids in the order of the '
	'array.  Each element is an object that has the arguments of eda.publish() as its keys; a '
	'null value counts as left out.  Errors: those of eda.publish(), with the number of the '
	'element as context.';

CREATE FUNCTION eda.publish_many(
	event_type		text,
	flow_ids		text[],
	payloads		jsonb[] DEFAULT NULL,
	scheduled_at	timestamptz DEFAULT NULL
) RETURNS uuid[]
	AS 'MODULE_PATHNAME', 'eda_publish_many_arrays' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.publish_many(text, text[], jsonb[], timestamptz) IS
	'Publish one event of the same type for each flow id, all or none, and return their ids in '
	'the order of flow_ids.  payloads: one for each flow id; null: {} for all.  scheduled_at: '
	'when all of them are due; null: as in eda.publish().  Errors: those of eda.publish(), and '
	'22023 if payloads has another length than flow_ids.';
