/* ------------------------------------------------------------------------
 * The HTTP gateway: what comes in, and how it goes out
 *
 * The gateway is a program that knows no SQL but "call this function as that
 * role": each of its routes is one function of eda_http, which reads the
 * request's JSON and makes the answer's.  All of them have the rights of their
 * caller.  What they need of the log beyond the public functions and views is
 * in a few functions of eda with the rights of their owner, opened like any
 * other by eda.grant_access(): they tell a role nothing that it cannot ask for
 * otherwise.
 *
 * All are PL/pgSQL where it counts: it keeps its plans for the session, while a
 * SQL function with a search_path of its own is planned at each call.
 * ------------------------------------------------------------------------ */

CREATE SCHEMA eda_http;
COMMENT ON SCHEMA eda_http IS 'What the HTTP gateway calls: a function for each route, with the rights of its caller.';

CREATE TYPE eda_http.response AS (
	status		integer,
	etag		text,
	location	text,
	body		json,
	wait_for	text,
	wait_ms		integer
);
COMMENT ON TYPE eda_http.response IS
	'An HTTP answer; with wait_for the caller is willing to wait wait_ms for an event of that flow type.';

/* ------------------------------------------------------------------------
 * Arguments
 * ------------------------------------------------------------------------ */

-- Known is an object too: the keys there are, and what each must be.
CREATE FUNCTION eda_http.arguments(body jsonb, known jsonb) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	name text;
	value jsonb;
	kind text;
	fits boolean;
BEGIN
	IF body IS NULL THEN
		RETURN '{}';
	ELSIF jsonb_typeof(body) <> 'object' THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('the body must be a JSON object, not %s', jsonb_typeof(body)),
			HINT = eda_http.known_keys(known);
	END IF;
	FOR name, value IN SELECT e.key, e.value FROM jsonb_each(body) e LOOP
		kind := known ->> name;
		IF kind IS NULL THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
				MESSAGE = format('unknown key "%s"', left(name, 200)), HINT = eda_http.known_keys(known);
		END IF;
		fits := CASE
			WHEN kind = 'anything' THEN true
			WHEN kind IN ('a string', 'a time as a string') THEN jsonb_typeof(value) = 'string'
			WHEN kind IN ('a number', 'a whole number') THEN jsonb_typeof(value) = 'number'
			WHEN kind = 'true or false' THEN jsonb_typeof(value) = 'boolean'
			WHEN kind = 'an array' THEN jsonb_typeof(value) = 'array'
			ELSE jsonb_typeof(value) IN ('number', 'string') END;	-- a length of time
		IF fits AND kind = 'a number' THEN
			fits := abs(value::numeric) <= 1e100;
		ELSIF fits AND kind = 'a whole number' THEN
			fits := value::numeric BETWEEN -2147483648 AND 2147483647 AND trunc(value::numeric) = value::numeric;
		END IF;
		IF NOT fits AND jsonb_typeof(value) <> 'null' THEN
			RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
				MESSAGE = format('"%s" must be %s', name, kind),
				DETAIL = format('It is %s.', left(value::text, 100));
		END IF;
	END LOOP;
	RETURN body;
END $$;
COMMENT ON FUNCTION eda_http.arguments(jsonb, jsonb) IS
	'The body of a request, which must be an object of known keys, each null or of its kind; an empty object for none.';

CREATE FUNCTION eda_http.known_keys(known jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN (SELECT CASE WHEN count(*) = 0 THEN 'It takes no keys.' ELSE 'Known keys: ' || string_agg(k, ', ' ORDER BY k) || '.' END
	FROM jsonb_object_keys(known) k);
COMMENT ON FUNCTION eda_http.known_keys(jsonb) IS 'The hint that lists what a body may hold.';

CREATE FUNCTION eda_http.required(args jsonb, key text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF args ->> key IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed', MESSAGE = format('"%s" is missing', key);
	END IF;
	RETURN args ->> key;
END $$;
COMMENT ON FUNCTION eda_http.required(jsonb, text) IS 'A string of the body that must be there.';

CREATE FUNCTION eda_http.whole_number(args jsonb, key text) RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (args ->> key)::numeric::integer;
END $$;
COMMENT ON FUNCTION eda_http.whole_number(jsonb, text) IS 'A whole number of the body, however it is written: 1, 1.0, 1e0.';

-- The conversions of text depend on settings such as TimeZone: STABLE.
CREATE FUNCTION eda_http.time_span(name text, value jsonb) RETURNS interval
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	span interval;
	-- make_interval() does not look whether a number fits.
	most CONSTANT interval := '100 years';
BEGIN
	CASE coalesce(jsonb_typeof(value), 'null')
		WHEN 'null' THEN
			RETURN NULL;
		WHEN 'number' THEN
			IF abs(value::numeric) <= extract(epoch FROM most) THEN
				RETURN make_interval(secs => value::double precision);
			END IF;
		WHEN 'string' THEN
			BEGIN
				span := (value #>> '{}')::interval;
			EXCEPTION WHEN data_exception THEN
				NULL;
			END;
		ELSE
			NULL;
	END CASE;
	IF span BETWEEN -most AND most THEN
		RETURN span;
	END IF;
	RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
		MESSAGE = format('"%s" is not a length of time', name), DETAIL = format('It is %s.', left(value::text, 100)),
		HINT = 'Give a number of seconds, or an interval such as "1 min 30 s", up to 100 years.';
END $$;
COMMENT ON FUNCTION eda_http.time_span(text, jsonb) IS 'A number of seconds, or an interval as text.';

CREATE FUNCTION eda_http.point_in_time(args jsonb, key text) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (args ->> key)::timestamptz;
EXCEPTION WHEN data_exception THEN
	RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
		MESSAGE = format('"%s" is not a time', key), DETAIL = format('It is %s.', left((args -> key)::text, 100)),
		HINT = 'For example "2030-12-31T23:59:59Z".';
END $$;
COMMENT ON FUNCTION eda_http.point_in_time(jsonb, text) IS 'A time as text, with its time zone.';

CREATE FUNCTION eda_http.page_size(page_size integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF page_size NOT BETWEEN 1 AND 500 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('limit is %s', page_size), HINT = 'It must be from 1 to 500.';
	END IF;
	RETURN coalesce(page_size, 50);
END $$;
COMMENT ON FUNCTION eda_http.page_size(integer) IS 'How many elements a list may have: 1 to 500, else 50.';

CREATE FUNCTION eda_http.answer(body json, etag text DEFAULT NULL) RETURNS eda_http.response
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (200, etag, NULL, body, NULL, NULL)::eda_http.response;
END $$;
COMMENT ON FUNCTION eda_http.answer(json, text) IS 'The usual answer: 200 and a body.';
