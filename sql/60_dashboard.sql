/* ------------------------------------------------------------------------
 * The dashboard, for SELECT * FROM eda.dashboard() \watch 1
 *
 * Counts and rates are the engine's counters.  Errors and dead letters are read
 * from the newest end of an index, a limited number of rows.  So the cost of the
 * dashboard does not depend on the size of the log.
 *
 * This file is ASCII, because a database of any encoding must be able to read
 * it.  Other characters are written as chr().
 * ------------------------------------------------------------------------ */

CREATE FUNCTION eda.screen_count(n numeric) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN CASE
	WHEN n < 10000 THEN n::bigint::text
	WHEN n < 1000000 THEN trunc(n / 1000)::text || 'k'
	WHEN n < 10000000 THEN trunc(n / 1000000, 1)::text || 'M'
	WHEN n < 1000000000 THEN trunc(n / 1000000)::text || 'M'
	ELSE trunc(n / 1000000000, 1)::text || 'G' END;
COMMENT ON FUNCTION eda.screen_count(numeric) IS
	'For the dashboard: return a count in at most four characters, such as 9999, 12k or 1.2M.';

CREATE FUNCTION eda.screen_rate(n numeric, seconds numeric) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN CASE
	WHEN n / seconds < 9.995 THEN to_char(n / seconds, 'FM0.00')
	WHEN n / seconds < 99.95 THEN to_char(n / seconds, 'FM90.0')
	ELSE eda.screen_count(round(n / seconds)) END;
COMMENT ON FUNCTION eda.screen_rate(numeric, numeric) IS
	'For the dashboard: return the rate per second of n things in the given number of seconds, '
	'in at most four characters.';

CREATE FUNCTION eda.screen_age(age interval) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN (
	SELECT CASE
		WHEN s < 9.95 THEN to_char(greatest(s, 0), 'FM0.0') || 's'
		WHEN s < 60 THEN trunc(s) || 's'
		WHEN s < 600 THEN to_char(trunc(s / 60), 'FM9') || 'm' || to_char(trunc(s % 60), 'FM00')
		WHEN s < 3600 THEN trunc(s / 60) || 'm'
		WHEN s < 36000 THEN to_char(trunc(s / 3600), 'FM9') || 'h' || to_char(trunc(s % 3600 / 60), 'FM00')
		WHEN s < 86400 THEN trunc(s / 3600) || 'h'
		ELSE trunc(s / 86400) || 'd' END
	FROM extract(epoch FROM age) s);
COMMENT ON FUNCTION eda.screen_age(interval) IS
	'For the dashboard: return an interval in at most five characters, such as 1.2s, 4m05, 3h10 '
	'or 12d.';

CREATE FUNCTION eda.screen_text(value text, width integer, plain boolean) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET standard_conforming_strings = on AS $$
DECLARE
	line text := coalesce(left(value, 2000), '');
	code integer;
	cells integer;
	used integer := 0;
	ellipsis text := '~';
	short text := '';		-- the beginning that leaves room for an ellipsis
	short_used integer := 0;
BEGIN
	-- Remove whole escape sequences first, then every other character that could move the cursor
	-- or reverse the direction of the text.
	line := regexp_replace(line, '(\u001b\[|\u009b)[0-?]*[ -/]*[@-~]?', '', 'g');
	line := regexp_replace(line,
		'(\u001b[]PX^_]|[\u0090\u0098\u009d-\u009f])[^\u0007\u001b\u009c]*(\u0007|\u001b\\|\u009c)?', '', 'g');
	line := regexp_replace(line, '\u001b[ -/]*[0-~]?', '', 'g');
	line := regexp_replace(line, '[\u0001-\u0020\u007f-\u009f]+', ' ', 'g');
	IF plain THEN
		line := regexp_replace(line, '[^\u0020-\u007e]', '?', 'g');
	ELSE
		-- Not in a CASE expression: the planner would evaluate chr(8230) in advance, which fails
		-- in an encoding without that character.
		ellipsis := chr(8230);
		line := regexp_replace(line,
			'[\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb]', '', 'g');
	END IF;
	line := left(btrim(line), 2 * width);
	FOR i IN 1 .. length(line) LOOP
		code := ascii(substr(line, i, 1));
		-- Combining marks take no cell; Chinese, Japanese and Korean characters and pictures two.
		cells := CASE
			WHEN code < 768 THEN 1
			WHEN code < 880 OR code BETWEEN 6832 AND 6911 OR code BETWEEN 7616 AND 7679
				OR code BETWEEN 8400 AND 8447 OR code BETWEEN 65056 AND 65071 THEN 0
			WHEN code BETWEEN 4352 AND 4447 OR code BETWEEN 11904 AND 42191 OR code BETWEEN 43360 AND 43391
				OR code BETWEEN 44032 AND 55203 OR code BETWEEN 63744 AND 64255 OR code BETWEEN 65072 AND 65135
				OR code BETWEEN 65280 AND 65376 OR code BETWEEN 65504 AND 65510 OR code >= 126976 THEN 2
			ELSE 1 END;
		used := used + cells;
		IF used > width THEN
			RETURN short || ellipsis || repeat(' ', width - 1 - short_used);
		END IF;
		IF used < width THEN
			short := left(line, i);
			short_used := used;
		END IF;
	END LOOP;
	RETURN line || repeat(' ', width - used);
END $$;
COMMENT ON FUNCTION eda.screen_text(text, integer, boolean) IS
	'For the dashboard: return any text, cut or padded to width terminal cells, without '
	'characters that could control the terminal.  plain: ASCII only.';

CREATE FUNCTION eda.screen_name(name text, width integer, plain boolean) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	ellipsis text := '~';
BEGIN
	IF length(name) <= width THEN
		RETURN rpad(name, width);
	END IF;
	IF NOT plain THEN
		ellipsis := chr(8230);
	END IF;
	RETURN left(name, width / 2) || ellipsis || right(name, (width - 1) / 2);
END $$;
COMMENT ON FUNCTION eda.screen_name(text, integer, boolean) IS
	'For the dashboard: return the name of an event type or flow type, padded to width '
	'characters, or with an ellipsis in its middle if it is longer.  plain: ASCII only.';

CREATE FUNCTION eda.screen_bar(parts numeric[], glyphs text[], width integer, blank text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	total numeric := (SELECT sum(p) FROM unnest(parts) p);
	cells integer[];
	n integer;
	widest integer;
BEGIN
	IF total = 0 THEN
		RETURN repeat(blank, width);
	END IF;
	-- A part above zero gets at least one cell, which the widest part gives up.
	SELECT array_agg(CASE WHEN p > 0 THEN greatest(1, round(width * p / total)) ELSE 0 END ORDER BY i)
	INTO cells FROM unnest(parts) WITH ORDINALITY u(p, i);
	LOOP
		SELECT sum(c) INTO n FROM unnest(cells) c;
		EXIT WHEN n = width;
		SELECT i INTO widest FROM unnest(cells) WITH ORDINALITY u(c, i) ORDER BY c DESC, i LIMIT 1;
		cells[widest] := cells[widest] + sign(width - n)::integer;
	END LOOP;
	RETURN (SELECT string_agg(repeat(g, c), '' ORDER BY i)
			FROM unnest(cells, glyphs) WITH ORDINALITY u(c, g, i));
END $$;
COMMENT ON FUNCTION eda.screen_bar(numeric[], text[], integer, text) IS
	'For the dashboard: return a bar of width characters, divided in proportion to the parts, '
	'each drawn with its glyph; blanks if all parts are zero.';

CREATE FUNCTION eda.dashboard(OUT line text) RETURNS SETOF text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER
-- Each query reads only the end of an index.  The settings keep it so in a plan that was made
-- while the log was small.
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET jit = off AS $$
DECLARE
	max_types CONSTANT integer := 16;		-- event types shown
	max_errors CONSTANT integer := 5;		-- lines of errors, and as many of dead letters
	-- How many of the newest errors are searched for those after which the event is retried.
	look_back CONSTANT integer := 2000;
	plain CONSTANT boolean := getdatabaseencoding() <> 'UTF8' OR current_setting('client_encoding') <> 'UTF8';
	-- succeeded, being_processed, dispatched, awaiting_processing, suspended, failed or expired,
	-- canceled
	glyphs text[] := '{#,+,o,:,=,x,-}';
	dot text := '.';
	rule text := '-';
	sep text := '|';
	lamp text := '*';
	zeros CONSTANT bigint[] := '{0,0,0,0,0,0,0,0}';
	clock CONSTANT timestamptz := eda.clock();
	engine record;
	seconds numeric;		-- how much of the last minute the engine has run, for the rates
	r record;
	types integer;
	hidden integer := 0;
BEGIN
	IF NOT plain THEN
		glyphs := ARRAY[chr(9608), chr(9619), chr(9618), chr(9617), chr(9553), chr(10007), chr(8722)];
		dot := chr(183);
		rule := chr(9472);
		sep := chr(183);
		lamp := chr(9679);
	END IF;
	SELECT * INTO engine FROM eda.engine_info();
	seconds := least(60, greatest(1, coalesce(extract(epoch FROM clock - engine.started_at), 60)));
	SELECT count(*) INTO types FROM eda.event_type;

	line := ' ' || rpad('eda ' || sep || ' ' || eda.screen_text(current_database(), 24, plain), 34)
		|| eda.screen_text(lamp || ' engine ' || coalesce(engine.state, 'not running')
			|| CASE WHEN engine.started_at IS NOT NULL AND engine.pid IS NOT NULL
				THEN ', up ' || eda.screen_age(clock - engine.started_at) ELSE '' END, 48, plain)
		|| lpad(to_char(clock, 'DD Mon HH24:MI:SS'), 16);
	RETURN NEXT;
	line := ' ' || rpad(format('%s event type%s', types, CASE WHEN types = 1 THEN '' ELSE 's' END), 34)
		|| format('  %s queued %s %s handed out %s %s waiting worker%s',
			eda.screen_count(coalesce(engine.queued, 0)), sep, eda.screen_count(coalesce(engine.handed_out, 0)), sep,
			eda.screen_count(coalesce(engine.waiting_workers, 0)),
			CASE WHEN engine.waiting_workers = 1 THEN '' ELSE 's' END)
		|| CASE WHEN engine.parked > 0 THEN format(' %s %s parked', sep, eda.screen_count(engine.parked)) ELSE '' END
		|| CASE WHEN engine.held_back > 0
			THEN format(' %s %s held back', sep, eda.screen_count(engine.held_back)) ELSE '' END;
	RETURN NEXT;
	IF engine.broker <> 'off' THEN
		line := ' ' || rpad('', 34) || eda.screen_text(
			CASE WHEN engine.broker = 'ready' THEN lamp ELSE '!' END || ' broker ' || engine.broker
			|| CASE WHEN engine.broker = 'ready' THEN format(' %s %s unacknowledged %s %s published', sep,
					eda.screen_count(engine.broker_unacknowledged), sep, eda.screen_count(engine.broker_published))
				ELSE coalesce(': ' || engine.broker_error, '') END, 64, plain);
		RETURN NEXT;
	END IF;
	IF engine.last_error IS NOT NULL AND engine.last_error_at > clock - interval '10 min' THEN
		line := ' ! ' || eda.screen_text(format('%s ago: %s', eda.screen_age(clock - engine.last_error_at),
			engine.last_error), 97, plain);
		RETURN NEXT;
	END IF;
	line := repeat(rule, 100);
	RETURN NEXT;
	IF types = 0 THEN
		line := ' No event types yet.  Create one:  SELECT eda.configure(''ORDER_PLACED'', flow_type => ''ORDERS'');';
		RETURN NEXT;
		RETURN;
	END IF;

	-- The counters: one line for each flow type, followed by one for each of its event types.
	line := ' flow type          alive, ended ' || rpad(' events now', 43) || rpad(' per second', 18) || 'oldest';
	RETURN NEXT;
	line := '   event type       last minute  ' || ' await disp proc susp   succ fail  exp canc  succ retry  dead   due';
	RETURN NEXT;
	FOR r IN
		WITH t AS (
			SELECT et.id, et.flow_type, et.event_type, et.suspended,
				coalesce(m.counts, zeros) AS c, coalesce(m.last_minute, zeros) AS l, m.oldest_due_at
			FROM eda.event_type et LEFT JOIN eda.type_metrics() m ON m.type = et.id
		), ranked AS (
			SELECT t.*, row_number() OVER (ORDER BY
				c[1] + c[2] + c[3] + c[6] + l[1] + l[2] + l[3] + l[4] + l[5] + l[6] + l[7] + l[8] > 0 DESC, id) AS rank
			FROM t
		), summed AS (
			SELECT flow_type, id, event_type, bool_and(suspended) AS suspended, min(rank) AS rank,
				sum(c[1]) AS awaiting, sum(c[2]) AS dispatched, sum(c[3]) AS processed, sum(c[4]) AS succeeded,
				sum(c[5]) AS failed, sum(c[6]) AS set_aside, sum(c[7]) AS expired, sum(c[8]) AS canceled,
				sum(l[4]) AS succeeded_now, sum(l[5] + l[7]) AS dead_now, sum(l[8]) AS canceled_now,
				sum(l[9]) AS retried_now,
				min(CASE WHEN c[1] + c[2] > 0 THEN oldest_due_at END) AS oldest_due_at
			FROM ranked GROUP BY GROUPING SETS ((flow_type), (flow_type, id, event_type))
		)
		SELECT * FROM summed ORDER BY flow_type, id NULLS FIRST
	LOOP
		IF r.rank > max_types THEN
			hidden := hidden + (r.id IS NOT NULL)::integer;
			CONTINUE;
		END IF;
		line := ' ' || CASE WHEN r.id IS NULL THEN eda.screen_name(r.flow_type, 18, plain)
				ELSE CASE WHEN r.suspended THEN glyphs[5] ELSE ' ' END || eda.screen_name(r.event_type, 17, plain) END || ' '
			|| eda.screen_bar(ARRAY[r.succeeded_now, r.processed, r.dispatched, r.awaiting, r.set_aside, r.dead_now,
				r.canceled_now], glyphs, 13, dot)
			|| (SELECT string_agg(lpad(CASE WHEN n = 0 THEN dot ELSE eda.screen_count(n) END, w), '' ORDER BY i)
				FROM unnest(ARRAY[r.awaiting, r.dispatched, r.processed, r.set_aside, r.succeeded, r.failed, r.expired,
					r.canceled], '{6,5,5,5,7,5,5,5}'::integer[]) WITH ORDINALITY u(n, w, i))
			|| (SELECT string_agg(lpad(CASE WHEN n = 0 THEN dot ELSE coalesce(eda.screen_rate(n, seconds), '') END, 6), ''
					ORDER BY i)
				FROM unnest(ARRAY[r.succeeded_now, r.retried_now, r.dead_now]) WITH ORDINALITY u(n, i))
			|| lpad(CASE WHEN r.oldest_due_at < clock THEN eda.screen_age(clock - r.oldest_due_at) ELSE dot END, 6);
		RETURN NEXT;
	END LOOP;
	IF hidden > 0 THEN
		line := format('   and %s more', hidden);
		RETURN NEXT;
	END IF;

	-- The newest errors of the last hour after which the event is tried again.
	line := '';
	RETURN NEXT;
	line := ' Errors, to be tried again';
	RETURN NEXT;
	FOR r IN
		SELECT t.at, t.attempt - t.attempt_base AS attempt, et.max_attempts, et.event_type, e.flow_id, t.error
		FROM (
			SELECT n.segment, n.event_id, n.version, n.type, n.at, n.attempt, n.attempt_base,
				left(n.detail ->> 'error', 2000) AS error
			FROM (
				SELECT * FROM eda.transition WHERE detail ? 'error' AND at > clock - interval '1 hour'
				ORDER BY at DESC LIMIT look_back) n
			WHERE n.state = 'awaiting_processing'
			ORDER BY n.at DESC, n.event_id LIMIT max_errors) t
		JOIN eda.event_type et ON et.id = t.type
		LEFT JOIN LATERAL (
			SELECT e.flow_id FROM eda.event e WHERE e.segment = t.segment AND e.id = t.event_id LIMIT 1) e ON true
		ORDER BY t.at DESC, t.event_id
	LOOP
		line := ' ' || lpad(eda.screen_age(clock - r.at), 6) || ' ago  ' || eda.screen_name(r.event_type, 17, plain)
			|| ' ' || eda.screen_text(r.flow_id, 14, plain) || lpad(r.attempt || '/' || r.max_attempts, 6) || '  '
			|| rtrim(eda.screen_text(r.error, 47, plain));
		RETURN NEXT;
	END LOOP;
	IF NOT FOUND THEN
		line := '   none lately';
		RETURN NEXT;
	END IF;

	-- The newest dead letters.  The index is by event type: collect the newest of each event type
	-- that has any, and then take the newest of those.
	line := ' Dead letters';
	RETURN NEXT;
	FOR r IN
		WITH newest AS MATERIALIZED (
			SELECT t.* FROM eda.event_type et LEFT JOIN eda.type_metrics() m ON m.type = et.id
			CROSS JOIN LATERAL (
				SELECT t.segment, t.event_id, t.version, t.at, t.state, t.attempt, t.attempt_base,
					et.event_type, et.max_attempts, t.detail
				FROM eda.transition t
				WHERE t.type = et.id AND t.state IN ('failed', 'expired')
				ORDER BY t.at DESC LIMIT 4 * max_errors) t
			WHERE m.type IS NULL OR m.counts[5] + m.counts[7] > 0
			ORDER BY t.at DESC LIMIT 4 * max_errors
		)
		SELECT n.at, n.state, n.attempt - n.attempt_base AS attempt, n.max_attempts, n.event_type, e.flow_id,
			left(coalesce(n.detail ->> 'error', n.detail ->> 'reason'), 2000) AS error
		FROM newest n
		CROSS JOIN LATERAL (
			SELECT last.version FROM eda.transition last WHERE last.segment = n.segment AND last.event_id = n.event_id
			ORDER BY last.version DESC LIMIT 1) last
		LEFT JOIN LATERAL (
			SELECT e.flow_id FROM eda.event e WHERE e.segment = n.segment AND e.id = n.event_id LIMIT 1) e ON true
		WHERE last.version = n.version
		ORDER BY n.at DESC, n.event_id LIMIT max_errors
	LOOP
		line := ' ' || lpad(eda.screen_age(clock - r.at), 6) || ' ago  ' || eda.screen_name(r.event_type, 17, plain)
			|| ' ' || eda.screen_text(r.flow_id, 14, plain) || lpad(r.attempt || '/' || r.max_attempts, 6) || '  '
			|| rtrim(eda.screen_text(concat_ws(': ', r.state, r.error), 47, plain));
		RETURN NEXT;
	END LOOP;
	IF NOT FOUND THEN
		line := '   none';
		RETURN NEXT;
	END IF;
	line := '';
	RETURN NEXT;
	line := format(' %s succeeded %s being processed %s dispatched %s awaiting %s suspended %s dead %s canceled',
		VARIADIC glyphs);
	RETURN NEXT;
END $$;
COMMENT ON FUNCTION eda.dashboard() IS
	'Return the lines of a text screen that shows the engine, all queues, errors and dead '
	'letters: SELECT * FROM eda.dashboard() \watch 1.  A bar shows the events that are alive and '
	'those that ended in the last minute.';
