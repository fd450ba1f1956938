/* ------------------------------------------------------------------------
 * The tools of the Model Context Protocol: their descriptions and schemas for
 * AI agents, and the calls of the HTTP gateway's functions that carry them out
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda_http.mcp_tools(
	only_name text DEFAULT NULL,
	OUT name text, OUT access text, OUT title text, OUT description text, OUT input json, OUT output json,
	OUT read_only boolean, OUT destructive boolean, OUT idempotent boolean)
RETURNS SETOF record
-- Not in SQL: a SQL function would be parsed at each call.
LANGUAGE plpgsql IMMUTABLE ROWS 9 SET search_path = pg_catalog, pg_temp AS $tools$
BEGIN
	RETURN QUERY SELECT t.name, t.access, t.title, t.description, t.input::json, t.output::json, t.read_only, t.destructive, t.idempotent
	FROM (VALUES
	('publish_event', 'publisher', 'Publish an event',
		'Publish an event.  The event is durable when this tool returns, and it is processed at '
		'least once.  When it is due, within milliseconds unless scheduled_at is later, the '
		'engine puts it into the queue of its event type, which is called the flow type, and a '
		'worker acquires it.  Calling this tool twice publishes two events, unless both calls '
		'have the same idempotency_key or event_id: then the second call returns the id of the '
		'first event.  The event types are listed as config:// resources.  Errors: ED005 unknown '
		'event type, ED007 the key or event id was used for another event type or flow id, ED009 '
		'payload too large.  explain_event tells what became of the event.', $json$
{
	"type": "object",
	"properties": {
		"event_type": {"type": "string", "description": "Name of a configured event type, with its case, such as ORDER_PLACED"},
		"flow_id": {"type": "string", "minLength": 1, "description": "Id of the business transaction that the event belongs to, such as an order number"},
		"payload": {"description": "What the worker needs to know: any JSON, up to 1 MB unless configured otherwise; {} if left out"},
		"scheduled_at": {"type": "string", "description": "When the event is due (ISO 8601 with time zone); if left out, after the first delay of its event type"},
		"idempotency_key": {"type": "string", "minLength": 1, "description": "A key under which this call can be repeated without publishing a second event, for a week unless configured otherwise"},
		"event_id": {"type": "string", "format": "uuid", "description": "Your own id for the event, best a UUID v7; a new UUID v7 if left out"},
		"on_fail_event_type": {"type": "string", "description": "Event type of the event that is published if this event fails, in place of the one in its rules; empty: none"},
		"headers": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Strings that go to the worker with the event, such as traceparent"},
		"correlation_id": {"type": "string", "description": "Text that the events inherit that the success or failure of this event publishes"},
		"parent_id": {"type": "string", "format": "uuid", "description": "Id of the event that this event follows from"},
		"flow_type": {"type": "string", "description": "The flow type that you expect; if the event type has another, the call is an error"}
	},
	"required": ["event_type", "flow_id"],
	"additionalProperties": false
}$json$, $json$
{
	"type": "object",
	"properties": {"event_id": {"type": "string", "format": "uuid"}},
	"required": ["event_id"]
}$json$, false, false, false),

	('acquire_processing_permit', 'worker', 'Acquire the permit to process an event',
		'Acquire an event to process it: with flow_type the next event of that queue (highest '
		'priority first, then oldest), with event_id that event, which must be "dispatched".  The '
		'answer has a token, and a lease that ends at lease_until: your permit for this one '
		'attempt.  Do what event_type and payload ask for, and call report_success or '
		'report_failure with event_id and token before the lease ends.  If the lease ends first, '
		'the attempt counts as failed, another worker gets the event, and your token is stale '
		'(ED002).  So work outside the database may be done twice: use event_id as the '
		'idempotency key there.  With flow_type, the answer is acquired: false if no event is '
		'waiting.  Errors: ED001 the event cannot be acquired, because another worker has it or '
		'it has ended, ED004 no such event, ED005 unknown flow type.', $json$
{
	"type": "object",
	"properties": {
		"flow_type": {"type": "string", "description": "Acquire the next event of this queue.  Give either flow_type or event_id"},
		"event_id": {"type": "string", "format": "uuid", "description": "Acquire this event.  Give either flow_type or event_id"},
		"worker": {"type": "string", "description": "Your name, kept in the event's history"},
		"lease": {"type": "number", "exclusiveMinimum": 0, "description": "Seconds until the lease ends; the event type's lease if left out"},
		"wait": {"type": "number", "minimum": 0, "description": "With flow_type: seconds to wait for an event if none is waiting, at most 60; 0 if left out"}
	},
	"additionalProperties": false
}$json$, $json$
{
	"type": "object",
	"properties": {
		"acquired": {"type": "boolean", "description": "false: no event was waiting"},
		"event": {
			"type": ["object", "null"],
			"properties": {
				"event_id": {"type": "string", "format": "uuid"},
				"token": {"type": "integer", "description": "Proof of the permit, which report_success and report_failure need"},
				"event_type": {"type": "string"},
				"flow_type": {"type": "string"},
				"flow_id": {"type": "string"},
				"attempt": {"type": "integer", "description": "Number of the attempt: 1 for the first"},
				"payload": {},
				"headers": {"type": ["object", "null"]},
				"lease_until": {"type": "string", "description": "When the lease ends: report before this time"},
				"correlation_id": {"type": ["string", "null"]},
				"parent_id": {"type": ["string", "null"]}
			},
			"required": ["event_id", "token", "event_type", "flow_type", "flow_id", "attempt", "payload", "lease_until"]
		}
	},
	"required": ["acquired", "event"]
}$json$, false, false, false),

	('report_success', 'worker', 'Report that an event was processed',
		'End the attempt that acquire_processing_permit began with success: the event is then '
		'"succeeded", which is final, and its spinoff events are published in the same '
		'transaction.  Errors: ED002 the lease was lost, and another attempt has the event or '
		'will have it: undo your work if you can; ED003 the attempt was already reported under '
		'this token: do nothing.  With if_finished "ok", the answer is finished: false instead of '
		'ED003; use it to repeat a call whose answer was lost.', $json$
{
	"type": "object",
	"properties": {
		"event_id": {"type": "string", "format": "uuid"},
		"token": {"type": "integer", "description": "From acquire_processing_permit"},
		"result": {"description": "Result of the work, kept in the event's history: any JSON"},
		"spinoffs": {
			"type": "array",
			"description": "Events that follow from this event, published in the same transaction",
			"items": {
				"type": "object",
				"properties": {
					"event_type": {"type": "string"},
					"flow_id": {"type": "string", "description": "Flow id of the new event; this event's if left out"},
					"payload": {"description": "Any JSON; {} if left out"},
					"scheduled_at": {"type": "string", "description": "When the new event is due (ISO 8601 with time zone); if left out, after the first delay of its event type"},
					"idempotency_key": {"type": "string"}
				},
				"required": ["event_type"]
			}
		},
		"if_finished": {"type": "string", "enum": ["error", "ok"], "description": "What the answer is if the attempt was already reported under this token: error ED003, or ok; error if left out"}
	},
	"required": ["event_id", "token"],
	"additionalProperties": false
}$json$, $json$
{
	"type": "object",
	"properties": {
		"event_id": {"type": "string", "format": "uuid"},
		"state": {"type": "string", "const": "succeeded"},
		"finished": {"type": "boolean", "description": "false: the attempt had been reported before this call"},
		"spinoff_event_ids": {"type": "array", "items": {"type": "string", "format": "uuid"}}
	},
	"required": ["event_id", "state", "finished", "spinoff_event_ids"]
}$json$, false, false, true),

	('report_failure', 'worker', 'Report that an attempt failed',
		'End the attempt that acquire_processing_permit began with an error.  While attempts are '
		'left, the event is tried again after the delay of its event type; its state is '
		'"awaiting_processing".  If none is left, or with retry: false, the event is "failed": a '
		'dead letter, whose on-fail event is published, and which redrive_event can bring back.  '
		'The event is "expired" if it would have to wait beyond its lifespan.  Errors: ED002 and '
		'ED003 as for report_success.', $json$
{
	"type": "object",
	"properties": {
		"event_id": {"type": "string", "format": "uuid"},
		"token": {"type": "integer", "description": "From acquire_processing_permit"},
		"error_message": {"type": "string", "description": "What went wrong, for people.  Leave ids and times out, so that equal errors can be grouped"},
		"stack_trace": {"type": "string", "description": "Where the error was raised, and all that helps to find its cause"},
		"retry": {"type": "boolean", "description": "false: the event fails now, because trying again is useless; true if left out"},
		"retry_in": {"type": "number", "minimum": 0, "description": "Seconds until the next attempt, in place of the event type's delay"},
		"if_finished": {"type": "string", "enum": ["error", "ok"], "description": "What the answer is if the attempt was already reported under this token: error ED003, or ok; error if left out"}
	},
	"required": ["event_id", "token", "error_message"],
	"additionalProperties": false
}$json$, $json$
{
	"type": "object",
	"properties": {
		"event_id": {"type": "string", "format": "uuid"},
		"state": {"type": "string", "description": "awaiting_processing: the event will be tried again; failed or expired: the event is now a dead letter"}
	},
	"required": ["event_id", "state"]
}$json$, false, false, true),

	('suspend_event_type', 'operator', 'Stop an event type',
		'Stop an event type, for example because a service that its workers need is down: until '
		'unsuspend_event_type, no event of this type is dispatched or acquired.  Attempts that '
		'are being processed continue.  Events can still be published, and wait; events still '
		'expire.  changed: false means that the event type was already suspended.  Errors: ED005 '
		'unknown event type.', $json$
{
	"type": "object",
	"properties": {"event_type": {"type": "string", "description": "Name of the event type, with its case"}},
	"required": ["event_type"],
	"additionalProperties": false
}$json$, $json$
{
	"type": "object",
	"properties": {
		"event_type": {"type": "string"},
		"suspended": {"type": "boolean"},
		"changed": {"type": "boolean", "description": "false: it was so already"}
	},
	"required": ["event_type", "suspended", "changed"]
}$json$, false, true, true),

	('unsuspend_event_type', 'operator', 'Let an event type go on',
		'Undo suspend_event_type: the waiting events of this type are dispatched again, oldest '
		'first.  Events that have failed or expired stay dead letters: redrive_event brings them '
		'back.  changed: false means that the event type was not suspended.  Errors: ED005 '
		'unknown event type.', $json$
{
	"type": "object",
	"properties": {"event_type": {"type": "string", "description": "Name of the event type, with its case"}},
	"required": ["event_type"],
	"additionalProperties": false
}$json$, $json$
{
	"type": "object",
	"properties": {
		"event_type": {"type": "string"},
		"suspended": {"type": "boolean"},
		"changed": {"type": "boolean", "description": "false: it was so already"}
	},
	"required": ["event_type", "suspended", "changed"]
}$json$, false, false, true),

	('update_lifecycle_config', 'operator', 'Change the rules of an event type',
		'Change the rules of an event type; read config://{eventType} first.  A rule that is left '
		'out stays as it is, and null sets a rule to its default.  An event type that does not '
		'exist is created if flow_type is given; its flow type cannot be changed later.  The new '
		'rules hold for the next transition of each event, also of those that are already '
		'published; only the lifespan is applied when an event is published or redriven.  '
		'Intervals are written like "30 s", "5 min" or "1 day".  Errors: 22023 a rule is invalid, '
		'with a hint that says what is valid; for example, the delays of all attempts together '
		'must be shorter than the lifespan.', $json$
{
	"type": "object",
	"properties": {
		"event_type": {"type": "string", "description": "Name of the event type, with its case"},
		"flow_type": {"type": ["string", "null"], "description": "The queue from which workers acquire the events of this type; only for a new event type"},
		"max_attempts": {"type": ["integer", "null"], "minimum": 1, "maximum": 10000, "description": "How many times an event may be acquired before it fails; default 5"},
		"lifespan": {"type": ["string", "null"], "description": "How long after its scheduled time an event expires; default: never"},
		"attempt_delays": {"type": ["array", "null"], "items": {"type": "string"}, "minItems": 1, "description": "How long an event waits before attempt 1, attempt 2, and so on; the last delay holds for all further attempts"},
		"backoff": {"type": ["number", "null"], "minimum": 1, "maximum": 100, "description": "Factor by which the last delay grows with each further attempt; default 1"},
		"jitter": {"type": ["number", "null"], "minimum": 0, "maximum": 1, "description": "How much a delay varies at random: with 0.1 it is up to 10 % shorter or longer; default 0"},
		"lease": {"type": ["string", "null"], "description": "How long a worker may process an event without a report; default 30 s"},
		"dispatch_timeout": {"type": ["string", "null"], "description": "How long a worker that is handed an event may take to acquire it; default 30 s"},
		"on_fail_event_type": {"type": ["string", "null"], "description": "Event type of the event that is published when an event of this type fails; it must exist; empty or null: none"},
		"suspend_timeout": {"type": ["string", "null"], "description": "How long an event is suspended if no deadline is given; default: until it is resumed"},
		"on_suspend_timeout": {"type": ["string", "null"], "enum": ["expire", "resume", null], "description": "What happens to a suspended event at its deadline; default expire"},
		"delivery": {"type": ["string", "null"], "enum": ["pull", "nats", null], "description": "pull: workers acquire events from the queue; nats: workers get a message for each event through NATS and acquire that event; default pull"},
		"subject": {"type": ["string", "null"], "description": "With delivery nats: subject of the messages, in which {flow_type}, {event_type}, {flow_id} and {database} are replaced; default event-engine.{flow_type}"},
		"priority": {"type": ["integer", "null"], "minimum": 0, "maximum": 9, "description": "Within a flow type, events of a higher priority are acquired first; default 5"},
		"max_in_flight": {"type": ["integer", "null"], "minimum": 1, "description": "How many events of this type may be dispatched or being processed at once; default: no limit"},
		"max_dispatched": {"type": ["integer", "null"], "minimum": 1, "description": "With delivery nats: how many events of this type may be dispatched at once; default 10000"}
	},
	"required": ["event_type"],
	"additionalProperties": false
}$json$, $json$
{
	"type": "object",
	"properties": {
		"event_type": {"type": "string"},
		"flow_type": {"type": "string"},
		"max_attempts": {"type": "integer"},
		"lifespan": {"type": ["string", "null"]},
		"attempt_delays": {"type": "array", "items": {"type": "string"}},
		"backoff": {"type": "number"},
		"jitter": {"type": "number"},
		"lease": {"type": "string"},
		"dispatch_timeout": {"type": "string"},
		"on_fail_event_type": {"type": ["string", "null"]},
		"suspended": {"type": "boolean"},
		"suspend_timeout": {"type": ["string", "null"]},
		"on_suspend_timeout": {"type": "string"},
		"delivery": {"type": "string"},
		"subject": {"type": ["string", "null"]},
		"priority": {"type": "integer"},
		"max_in_flight": {"type": ["integer", "null"]},
		"max_dispatched": {"type": "integer"}
	},
	"required": ["event_type", "flow_type", "max_attempts", "attempt_delays", "lease", "suspended"]
}$json$, false, true, true),

	('redrive_event', 'operator', 'Bring a dead letter back',
		'Bring an event that is "failed" or "expired" back: it is then "awaiting_processing" and '
		'due at once, with all its attempts and its lifespan.  Call explain_event first to find '
		'out why it failed: unless the cause is gone, it will fail again.  Errors: ED001 the '
		'event is in another state, ED004 no such event.', $json$
{
	"type": "object",
	"properties": {
		"event_id": {"type": "string", "format": "uuid"},
		"reason": {"type": "string", "description": "Why the event is redriven, kept in its history"}
	},
	"required": ["event_id"],
	"additionalProperties": false
}$json$, $json$
{
	"type": "object",
	"properties": {
		"event_id": {"type": "string", "format": "uuid"},
		"state": {"type": "string"}
	},
	"required": ["event_id", "state"]
}$json$, false, false, false),

	('explain_event', 'monitor', 'Explain where an event stands',
		'Explain an event, in words and as data: its state and why it is in it, what happens '
		'next, when and by whom, what prevents that, what went wrong in each attempt, which '
		'events it published, and what can be done (tools with their arguments).  This tool '
		'changes nothing.  The resource event://{id} has the payload and the history.  Errors: '
		'ED004 no such event: it was never published, or its transaction was rolled back.', $json$
{
	"type": "object",
	"properties": {"event_id": {"type": "string", "format": "uuid"}},
	"required": ["event_id"],
	"additionalProperties": false
}$json$, $json$
{
	"type": "object",
	"properties": {
		"event_id": {"type": "string", "format": "uuid"},
		"event_type": {"type": "string"},
		"flow_type": {"type": "string"},
		"flow_id": {"type": "string"},
		"state": {"type": "string", "enum": ["awaiting_processing", "dispatched", "being_processed", "succeeded", "failed", "suspended", "expired", "canceled"]},
		"since": {"type": "string", "description": "When the current transition was made"},
		"final": {"type": "boolean", "description": "true: nothing but redrive_event can move the event"},
		"why": {"type": "string"},
		"next": {
			"type": "object",
			"properties": {
				"what": {"type": "string"},
				"by": {"type": "string", "enum": ["engine", "worker", "operator", "nobody"]},
				"at": {"type": ["string", "null"], "description": "When that happens, or its deadline; null if neither is known"}
			},
			"required": ["what", "by", "at"]
		},
		"obstacles": {"type": "array", "items": {"type": "string"}, "description": "What prevents the next step"},
		"attempts_made": {"type": "integer"},
		"attempts_left": {"type": "integer"},
		"attempts": {
			"type": "array",
			"description": "The last 20 attempts, oldest first; long texts are cut, event://{id} has them whole",
			"items": {
				"type": "object",
				"properties": {
					"attempt": {"type": "integer"},
					"worker": {"type": ["string", "null"]},
					"started_at": {"type": "string"},
					"ended_at": {"type": ["string", "null"]},
					"ended_as": {"type": ["string", "null"], "description": "The state that the attempt led to; null: it has not ended"},
					"error": {"type": ["string", "null"]},
					"reason": {"type": ["string", "null"]},
					"stack": {"type": ["string", "null"]}
				},
				"required": ["attempt", "worker", "started_at", "ended_at", "ended_as", "error", "reason", "stack"]
			}
		},
		"attempts_not_shown": {"type": "integer"},
		"followed_by": {
			"type": "array",
			"description": "Events whose parent is this event",
			"items": {
				"type": "object",
				"properties": {
					"event_id": {"type": "string", "format": "uuid"},
					"event_type": {"type": "string"},
					"state": {"type": "string"}
				},
				"required": ["event_id", "event_type", "state"]
			}
		},
		"options": {
			"type": "array",
			"description": "What can be done",
			"items": {
				"type": "object",
				"properties": {
					"what": {"type": "string"},
					"tool": {"type": ["string", "null"]},
					"arguments": {"type": ["object", "null"]}
				},
				"required": ["what", "tool", "arguments"]
			}
		}
	},
	"required": ["event_id", "event_type", "flow_type", "flow_id", "state", "since", "final", "why", "next", "obstacles", "attempts_made",
		"attempts_left", "attempts", "attempts_not_shown", "followed_by", "options"]
}$json$, true, false, true)
	) t(name, access, title, description, input, output, read_only, destructive, idempotent)
	WHERE only_name IS NULL OR t.name = only_name;
END $tools$;
COMMENT ON FUNCTION eda_http.mcp_tools(text) IS
	'Return the tools for AI agents, or only the tool only_name: name, kind of access that the '
	'tool needs, title, description, JSON schemas of its arguments and of its result, and hints.';

CREATE FUNCTION eda_http.mcp_list_tools() RETURNS json
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT json_build_object('tools', json_agg(json_build_object('name', t.name, 'title', t.title, 'description', t.description,
		'inputSchema', t.input, 'outputSchema', t.output, 'annotations', json_build_object('title', t.title,
			'readOnlyHint', t.read_only, 'destructiveHint', t.destructive, 'idempotentHint', t.idempotent, 'openWorldHint', false)) ORDER BY n))
	FROM eda_http.mcp_tools() WITH ORDINALITY
		t(name, access, title, description, input, output, read_only, destructive, idempotent, n);
$$;
COMMENT ON FUNCTION eda_http.mcp_list_tools() IS 'Return the result of tools/list.';

CREATE FUNCTION eda_http.mcp_text(arguments jsonb, key text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF jsonb_typeof(arguments -> key) NOT IN ('string', 'null') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('"%s" must be a string', key);
	END IF;
	RETURN arguments ->> key;
END $$;
COMMENT ON FUNCTION eda_http.mcp_text(jsonb, text) IS
	'Return the argument of a tool that must be a string; null if it is missing or null.  '
	'Errors: 22023 it is no string.';

-- The functions that the tools call check the values.
CREATE FUNCTION eda_http.mcp_check_arguments(tool text, input json, arguments jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	known text := (SELECT string_agg(k, ', ') FROM json_object_keys(input -> 'properties') k);
	wrong text;
BEGIN
	SELECT format('unknown argument "%s"', left(k, 100)) INTO wrong
	FROM jsonb_object_keys(arguments) k WHERE input -> 'properties' -> k IS NULL LIMIT 1;
	IF wrong IS NULL THEN
		SELECT format('missing argument "%s"', k) INTO wrong
		FROM json_array_elements_text(input -> 'required') k WHERE arguments ->> k IS NULL LIMIT 1;
	END IF;
	IF wrong IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = wrong,
			HINT = format('Arguments of %s: %s.', tool, known);
	END IF;
END $$;
COMMENT ON FUNCTION eda_http.mcp_check_arguments(text, json, jsonb) IS
	'Check that a call of a tool has all required arguments and no unknown ones.  Errors: 22023 '
	'otherwise.';

CREATE FUNCTION eda_http.mcp_call(
	tool text, arguments jsonb, OUT said text, OUT data json, OUT wait_for text, OUT wait_ms integer)
RETURNS record
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	id uuid;
	type text;
	r eda_http.response;
BEGIN
	IF tool <> 'publish_event' THEN
		id := eda_http.mcp_text(arguments, 'event_id');
	END IF;
	CASE tool
		WHEN 'publish_event' THEN
			r := eda_http.publish(arguments, NULL);
			data := r.body;
			said := format('Event %s is published and durable.  explain_event tells what becomes of it.',
				data ->> 'event_id');
		WHEN 'acquire_processing_permit' THEN
			IF (id IS NULL) = (arguments ->> 'flow_type' IS NULL) THEN
				RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'either "flow_type" or "event_id" must be given',
					HINT = 'Give flow_type for the next event of that queue, or event_id for that event.';
			ELSIF id IS NOT NULL THEN
				r := eda_http.acquire(id, arguments - '{event_id,flow_type}'::text[]);
				data := r.body;
			ELSE
				r := eda_http.acquire_next(arguments - 'event_id' || '{"max_events": 1}');
				data := r.body -> 'events' -> 0;
				wait_for := r.wait_for;
				wait_ms := r.wait_ms;
			END IF;
			said := CASE
				WHEN data IS NULL THEN format('No event is waiting in "%s" now.  Call again later, or with "wait".',
					arguments ->> 'flow_type')
				ELSE format('You may process event %s (%s, flow "%s"), attempt %s, until %s.  '
					'When the work is done, call report_success, or report_failure, with token %s.', data ->> 'event_id',
					data ->> 'event_type', data ->> 'flow_id', data ->> 'attempt', data ->> 'lease_until', data ->> 'token') END;
			data := json_build_object('acquired', data IS NOT NULL, 'event', data);
		WHEN 'report_success' THEN
			r := eda_http.succeed(id, arguments - 'event_id', NULL);
			data := r.body;
			said := CASE WHEN (data ->> 'finished')::boolean
				THEN format('Event %s succeeded; %s spinoff events were published with it.', id,
					json_array_length(data -> 'spinoff_event_ids'))
				ELSE format('Event %s had already ended under this token: nothing was changed.', id) END;
		WHEN 'report_failure' THEN
			r := eda_http.fail(id, arguments - 'event_id', NULL);
			data := r.body;
			said := format('The attempt has ended, and event %s is "%s": %s', id, data ->> 'state', CASE data ->> 'state'
				WHEN 'awaiting_processing' THEN 'it will be tried again.  explain_event tells when.'
				ELSE 'a dead letter.  When the cause is gone, redrive_event brings it back.' END);
		WHEN 'suspend_event_type', 'unsuspend_event_type' THEN
			r := eda_http.suspend_event_type(eda_http.mcp_text(arguments, 'event_type'), tool = 'suspend_event_type');
			data := r.body;
			said := format('Event type "%s" is %s%s.  %s', data ->> 'event_type',
				CASE WHEN (data ->> 'changed')::boolean THEN '' ELSE 'already ' END,
				CASE tool WHEN 'suspend_event_type' THEN 'suspended' ELSE 'active' END,
				CASE tool WHEN 'suspend_event_type' THEN 'Its events wait until unsuspend_event_type; attempts that have begun continue.'
				ELSE 'Its events are dispatched when they are due.' END);
		WHEN 'update_lifecycle_config' THEN
			-- Only a call that gives the flow type may create an event type.
			type := eda_http.mcp_text(arguments, 'event_type');
			r := eda_http.configure(type, arguments - 'event_type',
				replace => arguments ->> 'flow_type' IS NOT NULL AND eda.event_type_named(type) IS NULL);
			data := r.body;
			said := format('Event type "%s" is %s.  These are its rules now:', data ->> 'event_type',
				CASE r.status WHEN 201 THEN 'created' ELSE 'configured' END);
		WHEN 'redrive_event' THEN
			r := eda_http.redrive(id, arguments - 'event_id');
			data := r.body;
			said := format('Event %s is "%s" again, with all its attempts and its lifespan.', id, data ->> 'state');
		WHEN 'explain_event' THEN
			data := eda_http.mcp_explain(id);
			said := eda_http.mcp_tell(data);
	END CASE;
END $$;
COMMENT ON FUNCTION eda_http.mcp_call(text, jsonb) IS
	'Carry out a tool, and return its result in words (said) and as data.  wait_for and wait_ms: '
	'as in eda_http.response.';
