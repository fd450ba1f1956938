/* ------------------------------------------------------------------------
 * eda.changes(): the transitions that were committed since a snapshot
 *
 * A snapshot tells exactly which transactions it sees.  The others, however
 * long they take, are those that it lists as running and those that began
 * later.  The engine's tail (src/engine/tail.c) reads the log in the same way.
 * ------------------------------------------------------------------------ */

-- A snapshot does not list the transaction that takes it.  But the caller's own transitions are
-- not committed yet, so a later call must still return them.
CREATE FUNCTION eda.current_snapshot() RETURNS pg_snapshot
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
RETURN (
	SELECT CASE WHEN own.xid IS NULL OR own.xid >= pg_snapshot_xmax(s.now) THEN s.now
		ELSE format('%s:%s:%s', pg_snapshot_xmin(s.now), pg_snapshot_xmax(s.now),
			(SELECT string_agg(x::text, ',' ORDER BY x)
			 FROM (SELECT pg_snapshot_xip(s.now) UNION SELECT own.xid) running(x)))::pg_snapshot END
	FROM (SELECT pg_current_snapshot()) s(now), (SELECT pg_current_xact_id_if_assigned()) own(xid));
COMMENT ON FUNCTION eda.current_snapshot() IS
	'Return the current snapshot with the caller''s own transaction listed as running, so that '
	'eda.changes() returns what it commits later.';

CREATE FUNCTION eda.changes(
	since			pg_snapshot DEFAULT NULL,
	max_rows		integer DEFAULT 10000,
	OUT event_id	uuid,
	OUT event_type	text,
	OUT flow_type	text,
	OUT flow_id		text,
	OUT state		text,
	OUT version		integer,
	OUT attempt		integer,
	OUT at			timestamptz,
	OUT snapshot	pg_snapshot
) RETURNS SETOF record
-- STABLE, so that all queries in it use the snapshot of the calling query, which it returns.
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
-- The settings make each query use the BRIN indexes on xid, whatever the size of the log.
SET enable_seqscan = off SET enable_bitmapscan = on SET max_parallel_workers_per_gather = 0 SET jit = off
SET plan_cache_mode = force_generic_plan AS $$
DECLARE
	here CONSTANT pg_snapshot := eda.current_snapshot();
	running CONSTANT bigint[] := ARRAY(SELECT x::text::bigint FROM pg_snapshot_xip(here) x);
	was_running bigint[];		-- transactions that snapshot since lists as running
	next_xid bigint;			-- first transaction that began after snapshot since
	upto bigint;				-- last transaction whose transitions are returned
	excess bigint;				-- first transaction with which there are more than max_rows
	width bigint := 100;		-- how many transactions the search covers
	own CONSTANT bigint := coalesce(pg_current_xact_id_if_assigned()::text::bigint, 0);
BEGIN
	IF max_rows IS NULL OR max_rows NOT BETWEEN 1 AND 1000000 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('max_rows is %s', coalesce(max_rows::text, 'null')), HINT = 'It must be from 1 to 1000000.';
	END IF;
	IF pg_is_in_recovery() THEN
		-- The snapshots of a standby do not list all running transactions.
		RAISE EXCEPTION USING ERRCODE = 'read_only_sql_transaction', MESSAGE = 'eda.changes() cannot run on a standby',
			HINT = 'Call it on the primary server.';
	END IF;
	IF since IS NULL THEN
		RETURN;
	END IF;
	IF pg_snapshot_xmax(since) > pg_snapshot_xmax(here) THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('snapshot %s is ahead of this server', since),
			HINT = 'It was taken on another server, or before this server was restored or lost transactions in a crash.  '
				'Read the events again instead.';
	END IF;
	was_running := ARRAY(SELECT x::text::bigint FROM pg_snapshot_xip(since) x);
	next_xid := pg_snapshot_xmax(since)::text::bigint;

	-- Return whole transactions in the order of their ids, as many as fit into max_rows.  A BRIN
	-- index has no order.  So the search begins with a few transactions and covers four times as
	-- many each time until max_rows is exceeded: a caller that is far behind does not read the
	-- whole rest of the log for each page.
	LOOP
		upto := least(next_xid + width, pg_snapshot_xmax(here)::text::bigint) - 1;
		SELECT t.xid INTO excess FROM eda.transition t
		WHERE (t.xid = ANY (was_running) OR t.xid >= next_xid AND t.xid <= upto) AND t.xid <> own
		ORDER BY t.xid OFFSET max_rows LIMIT 1;
		EXIT WHEN excess IS NOT NULL OR upto >= pg_snapshot_xmax(here)::text::bigint - 1;
		width := 4 * width;
	END LOOP;
	upto := coalesce(excess - 1, upto);
	IF excess IS NULL THEN
		snapshot := here;
	ELSE
		SELECT format('%s:%s:%s', least(min(x), greatest(next_xid, excess)), greatest(next_xid, excess),
			string_agg(x::text, ',' ORDER BY x))::pg_snapshot INTO snapshot
		FROM (
			SELECT x FROM unnest(was_running) x WHERE x > upto
			UNION
			SELECT x FROM unnest(running) x WHERE x < greatest(next_xid, excess)) unseen(x);
	END IF;
	RETURN QUERY
		SELECT t.event_id, et.event_type, et.flow_type, e.flow_id, t.state::text, t.version, t.attempt, t.at, changes.snapshot
		FROM eda.transition t
		JOIN eda.event_type et ON et.id = t.type
		CROSS JOIN LATERAL (
			SELECT e.flow_id FROM eda.event e WHERE e.segment = t.segment AND e.id = t.event_id LIMIT 1) e
		WHERE (t.xid = ANY (was_running) OR t.xid >= next_xid) AND t.xid <= upto AND t.xid <> own
		ORDER BY t.at, t.event_id, t.version;
	IF NOT FOUND AND excess IS NOT NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded',
			MESSAGE = format('transaction %s alone made more than %s transitions', excess, max_rows),
			HINT = 'Raise max_rows, or read the events again and continue from the current snapshot.';
	END IF;
END $$;
COMMENT ON FUNCTION eda.changes(pg_snapshot, integer) IS
	'Return the transitions that are committed now and that the snapshot since does not see, at '
	'most max_rows (1 to 1000000), and only those of whole transactions.  Each row has the '
	'snapshot that the next call takes as since; no row: there are no more.  since null: no row.  '
	'Errors: 22023 max_rows is out of range, or since is ahead of this server; 25006 on a '
	'standby; 54000 one transaction made more than max_rows transitions.';

CREATE FUNCTION eda_http.changes(since pg_snapshot DEFAULT NULL, max_rows integer DEFAULT 10000)
RETURNS eda_http.response
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	here CONSTANT pg_snapshot := eda.current_snapshot();
	changes json;
	upto pg_snapshot;
BEGIN
	BEGIN
		SELECT json_agg(json_build_object('event_id', c.event_id, 'event_type', c.event_type, 'flow_type', c.flow_type,
				'flow_id', c.flow_id, 'state', c.state, 'version', c.version, 'attempt', c.attempt, 'at', c.at)),
			(array_agg(c.snapshot))[1]
		INTO changes, upto FROM eda.changes(since, max_rows) c;
	EXCEPTION WHEN program_limit_exceeded THEN
		upto := since;
	END;
	-- A client that is more than max_rows behind reads the events again; that is less work than
	-- all their transitions, page after page.
	IF upto::text <> here::text THEN
		changes := NULL;
	END IF;
	RETURN eda_http.answer(json_build_object('snapshot', here, 'feed', current_setting('eda.feed'),
		'complete', upto IS NULL OR upto::text = here::text, 'changes', coalesce(changes, '[]')));
END $$;
COMMENT ON FUNCTION eda_http.changes(pg_snapshot, integer) IS
	'For /api/stream and /ws: return the current snapshot, and the transitions since a snapshot, '
	'as eda.changes() does.  If they are more than max_rows, return none, and complete is false.  '
	'Errors: those of eda.changes() but 54000.';
