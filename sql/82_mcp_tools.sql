/* ------------------------------------------------------------------------
 * The tools of the Model Context Protocol: what an AI agent reads about them,
 * and how each is one of the routes above
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda_http.mcp_tools(
	only_name text DEFAULT NULL,
	OUT name text, OUT access text, OUT title text, OUT description text, OUT input json, OUT output json,
	OUT read_only boolean, OUT destructive boolean, OUT idempotent boolean)
RETURNS SETOF record
-- Not SQL: that would be read anew at each call.
LANGUAGE plpgsql IMMUTABLE ROWS 9 SET search_path = pg_catalog, pg_temp AS $tools$
BEGIN
	RETURN QUERY SELECT t.name, t.access, t.title, t.description, t.input::json, t.output::json, t.read_only, t.destructive, t.idempotent
	FROM (VALUES
	('publish_event', 'publisher', 'Publish an event',
		'Publish an event: durable once this returns, and processed at least once.  The engine puts it into the queue of its '
		'event type (the flow type) when it is due, within milliseconds unless scheduled_at says later; a worker then acquires it.  '
		'Repeating a call publishes a second event, unless both have the same idempotency_key or event_id: then the first event''s id '
		'comes back.  Event types are listed as config:// resources; an unknown one is the error ED005, a payload that is too large ED009, '
		'a key used for another event ED007.  Follow the event with explain_event.', $json$
{
	"type": "object",
	"properties": {
		"event_type": {"type": "string", "description": "Name of a configured event type, with its case, such as ORDER_PLACED"},
		"flow_id": {"type": "string", "minLength": 1, "description": "Id of the business transaction that it belongs to, such as an order number"},
		"payload": {"description": "What a worker needs to know: any JSON, up to 1 MB unless configured otherwise; {} if left out"},
		"scheduled_at": {"type": "string", "description": "Not before this time (ISO 8601 with time zone); at once if left out"},
		"idempotency_key": {"type": "string", "minLength": 1, "description": "Makes repeating the call safe, for a week unless configured otherwise"},
		"event_id": {"type": "string", "format": "uuid", "description": "An id of your own, best a UUID v7; made if left out"},
		"on_fail_event_type": {"type": "string", "description": "Event type to publish if this event fails, in place of its type's; empty: none"},
		"headers": {"type": "object", "additionalProperties": {"type": "string"}, "description": "Strings that travel with it, such as traceparent"},
		"correlation_id": {"type": "string", "description": "Handed on to the events that its success or failure publishes"},
		"parent_id": {"type": "string", "format": "uuid", "description": "The event that this one follows from"},
		"flow_type": {"type": "string", "description": "The queue you expect: an error if the event type has another"}
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
		'Take an event to work on: the next one of a queue (flow_type: highest priority first, then oldest), or a given one (event_id: it '
		'must be "dispatched").  You get a token, and a lease until lease_until: the permit for this one attempt.  Do what event_type and '
		'payload ask for, then call report_success or report_failure with event_id and token, before the lease ends.  A lease that runs out '
		'counts as a failed attempt: the event goes to somebody else and your token becomes stale (ED002).  Work whose effects are outside '
		'may happen twice: use event_id as the idempotency key there.  With flow_type and nothing to do the answer is acquired: false.  An '
		'event that somebody else has, or that is finished, is the error ED001; one that never was ED004; an unknown flow type ED005.', $json$
{
	"type": "object",
	"properties": {
		"flow_type": {"type": "string", "description": "Take the next event of this queue.  Give either flow_type or event_id"},
		"event_id": {"type": "string", "format": "uuid", "description": "Take this event"},
		"worker": {"type": "string", "description": "Your name, kept in the event's history"},
		"lease": {"type": "number", "exclusiveMinimum": 0, "description": "Seconds that the work may take; the event type's lease if left out"},
		"wait": {"type": "number", "minimum": 0, "description": "With flow_type: seconds to wait if nothing is there, at most 60; 0 if left out"}
	},
	"additionalProperties": false
}$json$, $json$
{
	"type": "object",
	"properties": {
		"acquired": {"type": "boolean", "description": "false: nothing was there to do"},
		"event": {
			"type": ["object", "null"],
			"properties": {
				"event_id": {"type": "string", "format": "uuid"},
				"token": {"type": "integer", "description": "Proves the permit; report_success and report_failure need it"},
				"event_type": {"type": "string"},
				"flow_type": {"type": "string"},
				"flow_id": {"type": "string"},
				"attempt": {"type": "integer", "description": "1 for the first"},
				"payload": {},
				"headers": {"type": ["object", "null"]},
				"lease_until": {"type": "string", "description": "Report before this time"},
				"correlation_id": {"type": ["string", "null"]},
				"parent_id": {"type": ["string", "null"]}
			},
			"required": ["event_id", "token", "event_type", "flow_type", "flow_id", "attempt", "payload", "lease_until"]
		}
	},
	"required": ["acquired", "event"]
}$json$, false, false, false),

	('report_success', 'worker', 'Report that an event was processed',
		'Finish the attempt that acquire_processing_permit gave you: the event is "succeeded", which is final, and its spinoff events are '
		'published with it, all or nothing.  The token proves that the attempt is still yours.  ED002: the lease was lost, another attempt '
		'has the event or will have; undo your work if you can.  ED003: it was finished under this token before, nothing is left to do '
		'(if_finished "ok" answers finished: false instead, for a call that is repeated after its answer was lost).', $json$
{
	"type": "object",
	"properties": {
		"event_id": {"type": "string", "format": "uuid"},
		"token": {"type": "integer", "description": "From acquire_processing_permit"},
		"result": {"description": "What came of it, kept in the event's history: any JSON"},
		"spinoffs": {
			"type": "array",
			"description": "Events that follow from this one, published in the same moment",
			"items": {
				"type": "object",
				"properties": {
					"event_type": {"type": "string"},
					"flow_id": {"type": "string", "description": "This event's if left out"},
					"payload": {"description": "Any JSON; {} if left out"},
					"scheduled_at": {"type": "string", "description": "ISO 8601 with time zone; at once if left out"},
					"idempotency_key": {"type": "string"}
				},
				"required": ["event_type"]
			}
		},
		"if_finished": {"type": "string", "enum": ["error", "ok"], "description": "If it is finished under this token already; error if left out"}
	},
	"required": ["event_id", "token"],
	"additionalProperties": false
}$json$, $json$
{
	"type": "object",
	"properties": {
		"event_id": {"type": "string", "format": "uuid"},
		"state": {"type": "string", "const": "succeeded"},
		"finished": {"type": "boolean", "description": "false: it was finished before this call"},
		"spinoff_event_ids": {"type": "array", "items": {"type": "string", "format": "uuid"}}
	},
	"required": ["event_id", "state", "finished", "spinoff_event_ids"]
}$json$, false, false, true),

	('report_failure', 'worker', 'Report that an attempt failed',
		'End the attempt that acquire_processing_permit gave you with an error.  While attempts are left the event is tried again after the '
		'delay of its event type (state "awaiting_processing"); else, or with retry: false, it is "failed": a dead letter, whose on-fail event '
		'is published and which redrive_event can bring back.  It is "expired" if it would have to wait beyond its lifespan.  ED002 and ED003 '
		'are as for report_success.', $json$
{
	"type": "object",
	"properties": {
		"event_id": {"type": "string", "format": "uuid"},
		"token": {"type": "integer", "description": "From acquire_processing_permit"},
		"error_message": {"type": "string", "description": "What went wrong, for people and for grouping: without ids or times"},
		"stack_trace": {"type": "string", "description": "Where, and all that helps to find out why"},
		"retry": {"type": "boolean", "description": "false: trying again is useless; true if left out"},
		"retry_in": {"type": "number", "minimum": 0, "description": "Seconds until the next attempt, in place of the event type's delay"},
		"if_finished": {"type": "string", "enum": ["error", "ok"], "description": "If it is finished under this token already; error if left out"}
	},
	"required": ["event_id", "token", "error_message"],
	"additionalProperties": false
}$json$, $json$
{
	"type": "object",
	"properties": {
		"event_id": {"type": "string", "format": "uuid"},
		"state": {"type": "string", "description": "awaiting_processing: it will be tried again; failed or expired: it is a dead letter now"}
	},
	"required": ["event_id", "state"]
}$json$, false, false, true),

	('suspend_event_type', 'operator', 'Stop an event type',
		'Stop a whole event type, for example because what its workers need is down: nothing of it is dispatched or acquired any more.  '
		'Attempts that are being processed go on, events can still be published and wait, and they still expire.  It lasts until '
		'unsuspend_event_type.  changed: false means that it was suspended already; an unknown event type is ED005.', $json$
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
		'Undo suspend_event_type: the events of the type that wait are dispatched again, oldest first.  Events that failed meanwhile stay dead '
		'letters: redrive_event brings them back.  changed: false means that it was not suspended; an unknown event type is ED005.', $json$
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
		'Change the rules that the events of a type live by; read config://{eventType} first.  What is left out stays, null puts a rule back '
		'to its default.  A type that does not exist yet is created, if flow_type is given; a flow type cannot be changed later.  The change '
		'holds from the next step of each event on, also for those published before; the lifespan is taken when an event is published.  '
		'Times are intervals such as "30 s", "5 min" or "1 day".  Rules that cannot be right are refused (22023) with what would be; for '
		'example the delays of all attempts together must be shorter than the lifespan.', $json$
{
	"type": "object",
	"properties": {
		"event_type": {"type": "string", "description": "Name of the event type, with its case"},
		"flow_type": {"type": ["string", "null"], "description": "The queue that workers take its events from; only when it is created"},
		"max_attempts": {"type": ["integer", "null"], "minimum": 1, "maximum": 10000, "description": "How often an event may be acquired before it fails; default 5"},
		"lifespan": {"type": ["string", "null"], "description": "How long an event may live from its scheduled time; default: for ever"},
		"attempt_delays": {"type": ["array", "null"], "items": {"type": "string"}, "minItems": 1, "description": "Wait before attempt 1, 2, ...; the last one repeats"},
		"backoff": {"type": ["number", "null"], "minimum": 1, "maximum": 100, "description": "Factor by which the last delay grows with each further attempt; default 1"},
		"jitter": {"type": ["number", "null"], "minimum": 0, "maximum": 1, "description": "Part of a retry delay that is random; default 0"},
		"lease": {"type": ["string", "null"], "description": "How long a worker may keep an attempt; default 30 s"},
		"dispatch_timeout": {"type": ["string", "null"], "description": "How long a worker that is handed an event may take to acquire it; default 30 s"},
		"on_fail_event_type": {"type": ["string", "null"], "description": "Event type that is published when an event of this type fails; it must exist; empty or null: none"},
		"suspend_timeout": {"type": ["string", "null"], "description": "Deadline of a suspended event when none is given; default: none"},
		"on_suspend_timeout": {"type": ["string", "null"], "enum": ["expire", "resume", null], "description": "What a suspended event does at its deadline; default expire"},
		"delivery": {"type": ["string", "null"], "enum": ["pull", "nats", null], "description": "pull: workers acquire from the queue; nats: they get messages first; default pull"},
		"subject": {"type": ["string", "null"], "description": "Subject of the messages, with {flow_type}, {event_type}, {flow_id}, {database}; default event-engine.{flow_type}"},
		"priority": {"type": ["integer", "null"], "minimum": 0, "maximum": 9, "description": "Within a flow type higher goes first; default 5"},
		"max_in_flight": {"type": ["integer", "null"], "minimum": 1, "description": "At most so many events dispatched or being processed at once; default: no limit"},
		"max_dispatched": {"type": ["integer", "null"], "minimum": 1, "description": "With delivery nats: at most so many dispatched and not acquired; default 10000"}
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
		'Give an event that is "failed" or "expired" its attempts and its lifespan again: it is awaiting_processing and due at once.  Find out '
		'why it died with explain_event first: what has not changed will fail again.  Any other state is the error ED001, an event that never '
		'was ED004.', $json$
{
	"type": "object",
	"properties": {
		"event_id": {"type": "string", "format": "uuid"},
		"reason": {"type": "string", "description": "Why, kept in the event's history"}
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
		'Tell the story of an event in words and as data: where it stands and why, what happens next, when and by whom, what holds it up, '
		'what went wrong on each attempt, which events followed from it, and what can be done about it (tools with their arguments).  '
		'Changes nothing.  The whole history and payload are in the resource event://{id}.  An event that never was, or whose transaction '
		'was rolled back, is the error ED004.', $json$
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
		"since": {"type": "string", "description": "When it came to where it stands"},
		"final": {"type": "boolean", "description": "true: it does not move by itself any more"},
		"why": {"type": "string"},
		"next": {
			"type": "object",
			"properties": {
				"what": {"type": "string"},
				"by": {"type": "string", "enum": ["engine", "worker", "operator", "nobody"]},
				"at": {"type": ["string", "null"], "description": "When, or until when, if that is known"}
			},
			"required": ["what", "by", "at"]
		},
		"obstacles": {"type": "array", "items": {"type": "string"}, "description": "What holds it up beyond that"},
		"attempts_made": {"type": "integer"},
		"attempts_left": {"type": "integer"},
		"attempts": {
			"type": "array",
			"description": "The last 20, oldest first; texts may be cut, event://{id} has them whole",
			"items": {
				"type": "object",
				"properties": {
					"attempt": {"type": "integer"},
					"worker": {"type": ["string", "null"]},
					"started_at": {"type": "string"},
					"ended_at": {"type": ["string", "null"]},
					"ended_as": {"type": ["string", "null"], "description": "The state that it led to; null: it goes on"},
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
			"description": "Events that it published",
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
			"description": "What can be done about it",
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
	'The tools that AI agents have, or one of them: what they read about it, and which access it takes.';

CREATE FUNCTION eda_http.mcp_list_tools() RETURNS json
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT json_build_object('tools', json_agg(json_build_object('name', t.name, 'title', t.title, 'description', t.description,
		'inputSchema', t.input, 'outputSchema', t.output, 'annotations', json_build_object('title', t.title,
			'readOnlyHint', t.read_only, 'destructiveHint', t.destructive, 'idempotentHint', t.idempotent, 'openWorldHint', false)) ORDER BY n))
	FROM eda_http.mcp_tools() WITH ORDINALITY
		t(name, access, title, description, input, output, read_only, destructive, idempotent, n);
$$;
COMMENT ON FUNCTION eda_http.mcp_list_tools() IS 'The result of tools/list.';

-- The text at a key of the arguments; null if it is not there.
CREATE FUNCTION eda_http.mcp_text(arguments jsonb, key text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF jsonb_typeof(arguments -> key) NOT IN ('string', 'null') THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('"%s" must be a string', key);
	END IF;
	RETURN arguments ->> key;
END $$;
COMMENT ON FUNCTION eda_http.mcp_text(jsonb, text) IS 'An argument of a tool that must be a string.';

-- Missing and unknown arguments; the values are the routes' to judge.
CREATE FUNCTION eda_http.mcp_check_arguments(tool text, input json, arguments jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	known text := (SELECT string_agg(k, ', ') FROM json_object_keys(input -> 'properties') k);
	wrong text;
BEGIN
	SELECT format('unknown argument "%s"', left(k, 100)) INTO wrong
	FROM jsonb_object_keys(arguments) k WHERE input -> 'properties' -> k IS NULL LIMIT 1;
	IF wrong IS NULL THEN
		SELECT format('argument "%s" is missing', k) INTO wrong
		FROM json_array_elements_text(input -> 'required') k WHERE arguments ->> k IS NULL LIMIT 1;
	END IF;
	IF wrong IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = wrong,
			HINT = format('Arguments of %s: %s.', tool, known);
	END IF;
END $$;
COMMENT ON FUNCTION eda_http.mcp_check_arguments(text, json, jsonb) IS
	'Refuse a call of a tool with an argument that it has not, or without one that it needs.';

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
			said := format('Event %s is published.  It stands in the log for good; explain_event tells how it goes on.',
				data ->> 'event_id');
		WHEN 'acquire_processing_permit' THEN
			IF (id IS NULL) = (arguments ->> 'flow_type' IS NULL) THEN
				RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'give either "flow_type" or "event_id"',
					HINT = 'flow_type: the next event of that queue; event_id: that event.';
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
				WHEN data IS NULL THEN format('Nothing is there to do in "%s" now.  Ask again later, or with "wait".',
					arguments ->> 'flow_type')
				ELSE format('You may process event %s (%s, flow "%s"), attempt %s, until %s.  '
					'When its work is done call report_success, or else report_failure, with token %s.', data ->> 'event_id',
					data ->> 'event_type', data ->> 'flow_id', data ->> 'attempt', data ->> 'lease_until', data ->> 'token') END;
			data := json_build_object('acquired', data IS NOT NULL, 'event', data);
		WHEN 'report_success' THEN
			r := eda_http.succeed(id, arguments - 'event_id', NULL);
			data := r.body;
			said := CASE WHEN (data ->> 'finished')::boolean
				THEN format('Event %s succeeded; %s spinoff events were published with it.', id,
					json_array_length(data -> 'spinoff_event_ids'))
				ELSE format('Event %s had been finished before: nothing was changed.', id) END;
		WHEN 'report_failure' THEN
			r := eda_http.fail(id, arguments - 'event_id', NULL);
			data := r.body;
			said := format('The attempt has ended, and event %s is "%s": %s', id, data ->> 'state', CASE data ->> 'state'
				WHEN 'awaiting_processing' THEN 'it will be tried again.  explain_event says when.'
				ELSE 'a dead letter.  redrive_event brings it back, when what was wrong is right again.' END);
		WHEN 'suspend_event_type', 'unsuspend_event_type' THEN
			r := eda_http.suspend_event_type(eda_http.mcp_text(arguments, 'event_type'), tool = 'suspend_event_type');
			data := r.body;
			said := format('Event type "%s" is %s%s.  %s', data ->> 'event_type',
				CASE WHEN (data ->> 'changed')::boolean THEN '' ELSE 'already ' END,
				CASE tool WHEN 'suspend_event_type' THEN 'suspended' ELSE 'active' END,
				CASE tool WHEN 'suspend_event_type' THEN 'Its events wait until unsuspend_event_type; what is being processed goes on.'
				ELSE 'Its events are dispatched when they are due.' END);
		WHEN 'update_lifecycle_config' THEN
			-- To name the flow type is to say that one may be made.
			type := eda_http.mcp_text(arguments, 'event_type');
			r := eda_http.configure(type, arguments - 'event_type',
				replace => arguments ->> 'flow_type' IS NOT NULL AND eda.event_type_named(type) IS NULL);
			data := r.body;
			said := format('Event type "%s" is %s.  These are its rules now:', data ->> 'event_type',
				CASE r.status WHEN 201 THEN 'created' ELSE 'configured' END);
		WHEN 'redrive_event' THEN
			r := eda_http.redrive(id, arguments - 'event_id');
			data := r.body;
			said := format('Event %s is "%s" again, with its attempts and lifespan renewed.', id, data ->> 'state');
		WHEN 'explain_event' THEN
			data := eda_http.mcp_explain(id);
			said := eda_http.mcp_tell(data);
	END CASE;
END $$;
COMMENT ON FUNCTION eda_http.mcp_call(text, jsonb) IS
	'Do what a tool does: what to say about it, and its output.  wait_for, wait_ms: nothing was there and the caller would wait.';
