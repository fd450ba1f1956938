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
	'Take a dispatched event: attempt + 1, and a lease under a token.  No row if it is not dispatched, or somebody else is taking it.';

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
	'Take up to max_events dispatched events of a flow type; with none there, wait (at most 60 s) for the first.';

CREATE FUNCTION eda.succeed(
	event_id	uuid,
	token		integer DEFAULT NULL,
	result		jsonb DEFAULT NULL,
	spinoffs	jsonb DEFAULT NULL,
	if_finished	text DEFAULT 'error'
) RETURNS boolean
	AS 'MODULE_PATHNAME', 'eda_succeed' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.succeed(uuid, integer, jsonb, jsonb, text) IS
	'Finish an attempt and publish its spinoff events; false if it was finished before (in this transaction, or with if_finished => ''ok'').';

CREATE FUNCTION eda.succeed_many(
	event_ids	uuid[],
	tokens		integer[] DEFAULT NULL,
	results		jsonb[] DEFAULT NULL,
	spinoffs	jsonb[] DEFAULT NULL,
	if_finished	text DEFAULT 'error'
) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_succeed_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.succeed_many(uuid[], integer[], jsonb[], jsonb[], text) IS
	'eda.succeed() for many events at once, all or none; how many it finished.';

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
	'End an attempt with an error; the state the event moved to: awaiting_processing while an attempt is left, else failed (or expired).';

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
	'eda.fail() for many events at once, all or none; how many attempts it ended.';

CREATE FUNCTION eda.heartbeat(
	event_id	uuid,
	token		integer DEFAULT NULL,
	extend		interval DEFAULT NULL,
	progress	jsonb DEFAULT NULL
) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'eda_heartbeat' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.heartbeat(uuid, integer, interval, jsonb) IS
	'Extend the lease to extend from now (the event type''s lease if not given) and note progress; the lease''s new end.';

CREATE FUNCTION eda.heartbeat_many(
	event_ids	uuid[],
	tokens		integer[] DEFAULT NULL,
	extend		interval DEFAULT NULL
) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_heartbeat_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.heartbeat_many(uuid[], integer[], interval) IS
	'eda.heartbeat() for many events at once, all or none; how many leases it extended.';

CREATE FUNCTION eda.release(
	event_id	uuid,
	token		integer DEFAULT NULL,
	retry_in	interval DEFAULT '0',
	reason		text DEFAULT NULL
) RETURNS text
	AS 'MODULE_PATHNAME', 'eda_release' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.release(uuid, integer, interval, text) IS
	'Hand an event back without using up the attempt; the state it moved to.';

CREATE FUNCTION eda.release_many(
	event_ids	uuid[],
	tokens		integer[] DEFAULT NULL,
	retry_in	interval DEFAULT '0',
	reason		text DEFAULT NULL
) RETURNS integer
	AS 'MODULE_PATHNAME', 'eda_release_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.release_many(uuid[], integer[], interval, text) IS
	'eda.release() for many events at once, all or none; how many it handed back.';
