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
	'Publish an event in this transaction and return its id.  An event_id or idempotency_key used before returns the first event''s id.';

CREATE FUNCTION eda.publish_many(events jsonb) RETURNS uuid[]
	AS 'MODULE_PATHNAME', 'eda_publish_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.publish_many(jsonb) IS
	'Publish an array of objects, each with event_type, flow_id and publish''s other arguments as keys; the ids, in order.';

CREATE FUNCTION eda.publish_many(
	event_type		text,
	flow_ids		text[],
	payloads		jsonb[] DEFAULT NULL,
	scheduled_at	timestamptz DEFAULT NULL
) RETURNS uuid[]
	AS 'MODULE_PATHNAME', 'eda_publish_many_arrays' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.publish_many(text, text[], jsonb[], timestamptz) IS
	'Publish many events of one type, one for each flow id; the ids, in order.';
