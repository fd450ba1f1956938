/* eda: the install script.  The Makefile joins the files sql/NN_*.sql into it, in their order. */

-- Complain if the script is sourced in psql rather than run by CREATE EXTENSION.
\echo Use "CREATE EXTENSION eda" to load this file. \quit

-- Call into the library before anything else is created: if shared_preload_libraries does not
-- name eda, the library raises an error that says so.
CREATE FUNCTION eda.library_version() RETURNS text
	AS 'MODULE_PATHNAME', 'eda_library_version' LANGUAGE C STABLE PARALLEL SAFE;
COMMENT ON FUNCTION eda.library_version() IS
	'Return the version of the loaded library.  While it differs from the version of the '
	'extension, the engine moves no event.';
SELECT eda.library_version();

CREATE TYPE eda.state AS ENUM (
	'awaiting_processing', 'dispatched', 'being_processed', 'succeeded',
	'failed', 'suspended', 'expired', 'canceled');
COMMENT ON TYPE eda.state IS
	'The state of an event.  The view eda.lifecycle lists the moves from one state to another.';

CREATE FUNCTION eda.start_engine() RETURNS void
	AS 'MODULE_PATHNAME', 'eda_start_engine' LANGUAGE C VOLATILE PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.start_engine() IS
	'Have the launcher start the engine of this database when the current transaction commits.  '
	'At server start, the launcher starts all engines without being asked.';

CREATE FUNCTION eda.clock() RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'eda_clock' LANGUAGE C VOLATILE PARALLEL SAFE;
COMMENT ON FUNCTION eda.clock() IS
	'Return the time by which eda works: the system clock, plus what eda.move_clock() added to '
	'it.';

CREATE FUNCTION eda.move_clock(by interval) RETURNS timestamptz
	AS 'MODULE_PATHNAME', 'eda_move_clock' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION eda.move_clock(interval) IS
	'For tests: set the clock of eda in this database to the system clock plus the given '
	'interval, and return the new time.  The clock moves at once, whether or not the transaction '
	'commits, and falls back to the system clock when the server restarts.  Only a superuser may '
	'call it.  Errors: 42501 not a superuser, 22023 infinite interval, 53400 eda.max_databases '
	'is used up.';
