/* ------------------------------------------------------------------------
 * The HTTP gateway's functions: reading requests and making answers
 *
 * The gateway is a separate program.  For each HTTP request it calls one
 * function of the schema eda_http, as the database role of the request's bearer
 * token.  That function reads the JSON of the request and returns the JSON of
 * the answer.  It runs with the rights of its caller.
 *
 * Some of these functions need more of the log than the public functions and
 * views show.  For them, there are a few functions in the schema eda that run
 * with the rights of their owner.  eda.grant_access() grants those like the
 * public ones, and they return nothing that the role could not learn otherwise.
 *
 * Most functions are in PL/pgSQL, because it keeps its plans for the whole
 * session.  A SQL function that sets its search_path is planned at each call.
 * ------------------------------------------------------------------------ */

CREATE SCHEMA eda_http;
COMMENT ON SCHEMA eda_http IS
	'The functions that the HTTP gateway calls, one for each route.  They run with the rights of '
	'their caller.';

CREATE TYPE eda_http.response AS (
	status		integer,
	etag		text,
	location	text,
	body		json,
	wait_for	text,
	wait_ms		integer
);
COMMENT ON TYPE eda_http.response IS
	'An HTTP answer: status code, values of the headers ETag and Location, and body.  If '
	'wait_for is set, the gateway may call the function again when flow type wait_for has a new '
	'event, for at most wait_ms milliseconds, before it sends this answer.';

/* ------------------------------------------------------------------------
 * Arguments
 * ------------------------------------------------------------------------ */

-- known maps each allowed key to the kind of its value, in the words of the error message.
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
				MESSAGE = format('unknown key "%s" in the body', left(name, 200)), HINT = eda_http.known_keys(known);
		END IF;
		fits := CASE
			WHEN kind = 'anything' THEN true
			WHEN kind IN ('a string', 'a time as a string') THEN jsonb_typeof(value) = 'string'
			WHEN kind IN ('a number', 'a whole number') THEN jsonb_typeof(value) = 'number'
			WHEN kind = 'true or false' THEN jsonb_typeof(value) = 'boolean'
			WHEN kind = 'an array' THEN jsonb_typeof(value) = 'array'
			ELSE jsonb_typeof(value) IN ('number', 'string') END;	-- an interval
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
	'Check the body of a request and return it; null: return an empty object.  Errors: 22023 the '
	'body is no object, has a key that known has not, or a value that is neither null nor of the '
	'kind that known names.';

CREATE FUNCTION eda_http.known_keys(known jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp
RETURN (SELECT CASE WHEN count(*) = 0 THEN 'The body must not have any keys.'
		ELSE 'Known keys: ' || string_agg(k, ', ' ORDER BY k) || '.' END
	FROM jsonb_object_keys(known) k);
COMMENT ON FUNCTION eda_http.known_keys(jsonb) IS
	'Return the hint of an error that lists the allowed keys of a body.';

CREATE FUNCTION eda_http.required(args jsonb, key text) RETURNS text
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF args ->> key IS NULL THEN
		RAISE EXCEPTION USING ERRCODE = 'null_value_not_allowed',
			MESSAGE = format('"%s" is missing in the body', key);
	END IF;
	RETURN args ->> key;
END $$;
COMMENT ON FUNCTION eda_http.required(jsonb, text) IS
	'Return the value of a key of the body as text.  Errors: 22004 the key is missing or its '
	'value is null.';

CREATE FUNCTION eda_http.whole_number(args jsonb, key text) RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (args ->> key)::numeric::integer;
END $$;
COMMENT ON FUNCTION eda_http.whole_number(jsonb, text) IS
	'Return the value of a key of the body as integer, whether it is written as 1, 1.0 or 1e0; '
	'null if the key is missing.';

-- STABLE, because the conversion of text to interval or timestamptz depends on settings such as
-- TimeZone.
CREATE FUNCTION eda_http.time_span(name text, value jsonb) RETURNS interval
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	span interval;
	-- make_interval() does not check for an overflow.
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
		MESSAGE = format('"%s" is not an interval', name), DETAIL = format('It is %s.', left(value::text, 100)),
		HINT = 'Give a number of seconds, or an interval such as "1 min 30 s", up to 100 years.';
END $$;
COMMENT ON FUNCTION eda_http.time_span(text, jsonb) IS
	'Return a JSON number of seconds, or a JSON string such as "1 min", as interval; null: null.  '
	'name: the key, for the error.  Errors: 22023 neither of them, or beyond 100 years.';

CREATE FUNCTION eda_http.point_in_time(args jsonb, key text) RETURNS timestamptz
LANGUAGE plpgsql STABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (args ->> key)::timestamptz;
EXCEPTION WHEN data_exception THEN
	RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
		MESSAGE = format('"%s" is not a time', key), DETAIL = format('It is %s.', left((args -> key)::text, 100)),
		HINT = 'Give a time such as "2030-12-31T23:59:59Z".';
END $$;
COMMENT ON FUNCTION eda_http.point_in_time(jsonb, text) IS
	'Return the value of a key of the body, text such as 2030-12-31T23:59:59Z, as timestamptz; '
	'null if the key is missing.  Errors: 22023 it is not a time.';

CREATE FUNCTION eda_http.page_size(page_size integer) RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF page_size NOT BETWEEN 1 AND 500 THEN
		RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
			MESSAGE = format('limit is %s', page_size), HINT = 'It must be from 1 to 500.';
	END IF;
	RETURN coalesce(page_size, 50);
END $$;
COMMENT ON FUNCTION eda_http.page_size(integer) IS
	'Return how many elements a list may have: the query parameter limit, or 50 for null.  '
	'Errors: 22023 it is not from 1 to 500.';

CREATE FUNCTION eda_http.answer(body json, etag text DEFAULT NULL) RETURNS eda_http.response
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN (200, etag, NULL, body, NULL, NULL)::eda_http.response;
END $$;
COMMENT ON FUNCTION eda_http.answer(json, text) IS
	'Return an answer with status 200, the body, and the value of the header ETag, if it is not '
	'null.';
