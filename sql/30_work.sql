/* ------------------------------------------------------------------------
 * Workers
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda.acquire(
	event_id		uuid,
	worker			text DEFAULT NULL,
	lease			interval DEFAULT NULL,
	OUT event_id	uuid,
	OUT token		integer,
	OUT event_type	text,
	OUT flow_type	text,
	OUT flow_id		text,
	OUT attempt		integer,
	OUT payload		jsonb,
	OUT headers		jsonb,
	OUT lease_until	timestamptz,
	OUT correlation_id text,
	OUT parent_id	uuid
) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'eda_acquire' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1;
COMMENT ON FUNCTION eda.acquire(uuid, text, interval) IS
	'Acquire a given event: begin its next attempt, and return it with a token and a lease, as '
	'one row.  Return no row if the event is not dispatched, its event type is suspended, or '
	'another transaction has locked it.  worker: a name for the event''s history; null: the '
	'application name, else the role.  lease: how long the worker may process the event without '
	'a heartbeat; null: the event type''s lease.  Errors: 22004 event_id is null, 22023 lease is '
	'not above zero, ED004 no such event.';

CREATE FUNCTION eda.acquire_next(
	flow_type		text,
	max_events		integer DEFAULT 1,
	wait			interval DEFAULT '0',
	worker			text DEFAULT NULL,
	lease			interval DEFAULT NULL,
	OUT event_id	uuid,
	OUT token		integer,
	OUT event_type	text,
	OUT flow_type	text,
	OUT flow_id		text,
	OUT attempt		integer,
	OUT payload		jsonb,
	OUT headers		jsonb,
	OUT lease_until	timestamptz,
	OUT correlation_id text,
	OUT parent_id	uuid
) RETURNS SETOF record
	AS 'MODULE_PATHNAME', 'eda_acquire_next' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 10;
COMMENT ON FUNCTION eda.acquire_next(text, integer, interval, text, interval) IS
	'Acquire up to max_events (1 to 10000) dispatched events of a flow type, those of the '
	'highest priority first, and return one row for each.  If none is dispatched, wait for the '
	'first one, at most for the interval wait and at most 60 s; return no row if none came.  '
	'worker and lease: as in eda.acquire().  Errors: 22004 flow_type or max_events is null, '
	'22023 max_events or lease is out of range, ED005 no event type has this flow type.';

CREATE FUNCTION eda.succeed(
	event_id	uuid,
	token		integer DEFAULT NULL,
	result		jsonb DEFAULT NULL,
	spinoffs	jsonb DEFAULT NULL,
	if_finished	text DEFAULT 'error'
) RETURNS boolean
	AS 'MODULE_PATHNAME', 'eda_succeed' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.succeed(uuid, integer, jsonb, jsonb, text) IS
	'End an attempt with success, publish its spinoff events in the same transaction, and return '
	'true.  Return false, and change nothing, if the attempt has ended under this token before: '
	'with success in the current transaction, or in any way if if_finished is ok.  token: from '
	'eda.acquire(); only the transaction that acquired the event may leave it out.  result: any '
	'JSON, kept in the event''s history.  spinoffs: a JSON array of objects as in '
	'eda.publish_many(); flow_id, correlation_id and parent_id are this event''s unless given.  '
	'Errors: 22023 invalid argument, ED001 the event is not being processed, ED002 stale token, '
	'ED003 already finished, ED004 no such event, ED006 token needed, and those of eda.publish() '
	'for the spinoff events.';

CREATE FUNCTION eda.succeed_many(
	event_ids	uuid[],
	tokens		integer[] DEFAULT NULL,
	results		jsonb[] DEFAULT NULL,
	spinoffs	jsonb[] DEFAULT NULL,
	if_finished	text DEFAULT 'error'
) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_succeed_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.succeed_many(uuid[], integer[], jsonb[], jsonb[], text) IS
	'Do as eda.succeed() for many events, all or none, and return how many attempts it ended.  '
	'tokens, results and spinoffs: one element for each event id, or null.  Errors: those of '
	'eda.succeed(), and 22023 if an array has another length than event_ids.';

CREATE FUNCTION eda.fail(
	event_id		uuid,
	error_message	text,
	stack_trace		text DEFAULT NULL,
	token			integer DEFAULT NULL,
	retry			boolean DEFAULT true,
	retry_in		interval DEFAULT NULL,
	if_finished		text DEFAULT 'error'
) RETURNS text
	AS 'MODULE_PATHNAME', 'eda_fail' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.fail(uuid, text, text, integer, boolean, interval, text) IS
	'End an attempt with an error and return the state that the event moved to: '
	'awaiting_processing if an attempt is left and retry is true, else failed; expired if it '
	'would have to wait beyond its expires_at.  An event that fails publishes its on-fail event.  '
	'stack_trace: where the error was raised.  retry_in: how long the event waits for its next '
	'attempt; null: the event type''s delay.  token and if_finished: as in eda.succeed().  '
	'Errors: 22023 invalid argument, ED001 the event is not being processed, ED002 stale token, '
	'ED003 already finished, ED004 no such event, ED006 token needed.';

CREATE FUNCTION eda.fail_many(
	event_ids		uuid[],
	error_messages	text[],
	stack_traces	text[] DEFAULT NULL,
	tokens			integer[] DEFAULT NULL,
	retry			boolean DEFAULT true,
	retry_in		interval DEFAULT NULL,
	if_finished		text DEFAULT 'error'
) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_fail_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.fail_many(uuid[], text[], text[], integer[], boolean, interval, text) IS
	'Do as eda.fail() for many events, all or none, and return how many attempts it ended.  '
	'error_messages, stack_traces and tokens: one element for each event id, or null.  retry, '
	'retry_in and if_finished hold for all of them.  Errors: those of eda.fail(), and 22023 if '
	'an array has another length than event_ids.';

CREATE FUNCTION eda.heartbeat(
	event_id	uuid,
	token		integer DEFAULT NULL,
	extend		interval DEFAULT NULL,
	progress	jsonb DEFAULT NULL
) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'eda_heartbeat' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.heartbeat(uuid, integer, interval, jsonb) IS
	'Make the lease end at the current time plus extend (null: the event type''s lease), and '
	'return its new end.  progress: any JSON, kept in the event''s history.  token: as in '
	'eda.succeed().  Errors: 22023 extend is not above zero, ED001 the event is not being '
	'processed, ED002 stale token, ED003 already finished, ED004 no such event, ED006 token '
	'needed.';

CREATE FUNCTION eda.heartbeat_many(
	event_ids	uuid[],
	tokens		integer[] DEFAULT NULL,
	extend		interval DEFAULT NULL
) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_heartbeat_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.heartbeat_many(uuid[], integer[], interval) IS
	'Do as eda.heartbeat() for many events, all or none, and return how many leases it extended.  '
	'tokens: one element for each event id, or null.  extend holds for all of them.  Errors: '
	'those of eda.heartbeat(), and 22023 if tokens has another length than event_ids.';

CREATE FUNCTION eda.release(
	event_id	uuid,
	token		integer DEFAULT NULL,
	retry_in	interval DEFAULT '0',
	reason		text DEFAULT NULL
) RETURNS text
	AS 'MODULE_PATHNAME', 'eda_release' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.release(uuid, integer, interval, text) IS
	'End an attempt without counting it, and return the state that the event moved to: '
	'awaiting_processing, or expired if it would have to wait beyond its expires_at.  retry_in: '
	'how long the event waits for its next attempt.  reason: kept in the event''s history.  '
	'token: as in eda.succeed().  Errors: 22023 retry_in is negative, ED001 the event is not '
	'being processed, ED002 stale token, ED003 already finished, ED004 no such event, ED006 '
	'token needed.';

CREATE FUNCTION eda.release_many(
	event_ids	uuid[],
	tokens		integer[] DEFAULT NULL,
	retry_in	interval DEFAULT '0',
	reason		text DEFAULT NULL
) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_release_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.release_many(uuid[], integer[], interval, text) IS
	'Do as eda.release() for many events, all or none, and return how many attempts it ended.  '
	'tokens: one element for each event id, or null.  retry_in and reason hold for all of them.  '
	'Errors: those of eda.release(), and 22023 if tokens has another length than event_ids.';
