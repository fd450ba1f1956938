/* eda: the install script.  The Makefile joins sql/NN_*.sql into one file. */

-- complain if the script is sourced in psql rather than run by CREATE EXTENSION
\echo Use "CREATE EXTENSION eda" to load this file. \quit

-- Calling into the library first gives the missing preload its own clear error,
-- before anything has been made.
CREATE FUNCTION eda.library_version() RETURNS text
	AS 'MODULE_PATHNAME', 'eda_library_version' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION eda.library_version() IS
	'Version of the loaded library; the engine idles when it differs from the extension''s.';
SELECT eda.library_version();

CREATE TYPE eda.state AS ENUM (
	'awaiting_processing', 'dispatched', 'being_processed', 'succeeded',
	'failed', 'suspended', 'expired', 'canceled');
COMMENT ON TYPE eda.state IS 'Where an event stands in its life; see the view eda.lifecycle.';

CREATE FUNCTION eda.start_engine() RETURNS void
	AS 'MODULE_PATHNAME', 'eda_start_engine' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.start_engine() IS
	'Ask the launcher, at commit, to start this database''s engine; it does so by itself at server start.';

CREATE FUNCTION eda.clock() RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'eda_clock' LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION eda.clock() IS 'The clock that eda goes by: the system''s, unless a test moved it.';

CREATE FUNCTION eda.move_clock(by interval) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'eda_move_clock' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.move_clock(interval) IS
	'For tests: move this database''s eda clock, by so much from the system''s; superusers only.';
