/*
 * setup.sql
 *		A ride as six events, each published by the success of the one before.
 *
 * This script may be run again at any time; it then only sets the rules below.
 * The roles have no password; pg_hba.conf decides whether they can log in.
 *
 *	psql -f setup.sql						workers acquire the next event with eda.acquire_next()
 *	psql -v delivery=nats -f setup.sql		workers get a message from NATS for each event
 */
\set ON_ERROR_STOP on
\if :{?delivery}
\else
	\set delivery pull
\endif
SET client_min_messages = warning;

BEGIN;

CREATE EXTENSION IF NOT EXISTS eda;

/*
 * The rules of each step.  The delays before attempts 1, 2, 3 and so on fit the
 * expected errors: a driver who does not answer is asked again soon, and a bank
 * that is down gets more and more time.  All delays are short, so that a ride
 * takes seconds.
 */
SELECT count(*) AS event_types FROM (VALUES
	-- Riders do not wait long for a taxi: many attempts in a short time.
	(eda.configure('RIDE_REQUESTED', flow_type => 'FLOW_B', max_attempts => 8, lifespan => '2 min',
		attempt_delays => '{0 s, 200 ms, 500 ms, 1 s}', lease => '3 s')),
	-- The driver has some seconds to accept.
	(eda.configure('DRIVER_MATCHED', flow_type => 'FLOW_B', max_attempts => 5, lifespan => '1 min',
		attempt_delays => '{0 s, 500 ms, 1 s}', lease => '3 s')),
	-- The first attempt to let the rider in is made a little later than requested.
	(eda.configure('DRIVER_ARRIVED', flow_type => 'FLOW_B', max_attempts => 5, lifespan => '2 min',
		attempt_delays => '{300 ms, 500 ms, 1 s}', lease => '3 s')),
	-- An error here is unlikely, so three attempts are enough.
	(eda.configure('TRIP_STARTED', flow_type => 'FLOW_B', max_attempts => 3, lifespan => '1 min',
		attempt_delays => '{0 s, 300 ms}', lease => '3 s')),
	-- A trip that has begun must be completed: many attempts over a long time.
	(eda.configure('TRIP_COMPLETED', flow_type => 'FLOW_B', max_attempts => 10, lifespan => '10 min',
		attempt_delays => '{0 s, 500 ms, 1 s, 2 s}', lease => '3 s')),
	-- A payment is worth many attempts, further and further apart.  Jitter keeps payments from
	-- being tried again at the same moment, and the priority puts them before other work.
	(eda.configure('PAYMENT_PROCESSED', flow_type => 'FLOW_B', max_attempts => 12, lifespan => '1 hour',
		attempt_delays => '{0 s, 250 ms}', backoff => 1.5, jitter => 0.2, lease => '3 s', priority => 7))) t;
SELECT count(eda.configure(event_type, delivery => :'delivery')) AS delivered FROM eda.event_type WHERE flow_type = 'FLOW_B';

CREATE SCHEMA IF NOT EXISTS ride;

/*
 * The worker inserts a row here in the transaction that ends an attempt with
 * success.  The table has no unique key, on purpose: eda.succeed() guarantees that
 * each step of a ride is here only once, and verify.sql proves it.
 */
CREATE TABLE IF NOT EXISTS ride.ledger (
	ride		text NOT NULL,
	step		text NOT NULL,
	event_id	uuid NOT NULL,
	token		integer NOT NULL,
	attempt		integer NOT NULL,
	worker		text NOT NULL,
	fact		jsonb NOT NULL,
	at			timestamptz NOT NULL DEFAULT clock_timestamp(),
	xid			bigint NOT NULL DEFAULT pg_current_xact_id()::text::bigint
);
COMMENT ON TABLE ride.ledger IS 'One row for each step of a ride that succeeded.';

CREATE SEQUENCE IF NOT EXISTS ride.number;
COMMENT ON SEQUENCE ride.number IS 'The numbers in the ids of rides.';

CREATE OR REPLACE FUNCTION ride.request(ride text DEFAULT 'ride-' || to_char(nextval('ride.number'), 'FM00000')) RETURNS uuid
LANGUAGE sql VOLATILE
RETURN eda.publish('RIDE_REQUESTED', flow_id => ride, payload => jsonb_build_object(
	'rider', (ARRAY['Ada', 'Alan', 'Barbara', 'Donald', 'Edsger', 'Frances', 'Grace', 'Tony'])[1 + floor(random() * 8)],
	'from', (ARRAY['Airport', 'Harbour', 'Museum', 'Old Town'])[1 + floor(random() * 4)],
	'to', (ARRAY['Station', 'Stadium', 'Theatre', 'University'])[1 + floor(random() * 4)]));
COMMENT ON FUNCTION ride.request(text) IS
	'Publish the first event of a ride with this id, and return the id of the event.';

CREATE OR REPLACE VIEW ride.outcome AS
SELECT flow_id AS ride,
	count(*) FILTER (WHERE state = 'succeeded') AS steps,
	sum(attempt) AS attempts,
	CASE WHEN bool_or(state NOT IN ('succeeded', 'failed', 'expired', 'canceled')) THEN 'under way'
		WHEN bool_or(state = 'succeeded' AND event_type = 'PAYMENT_PROCESSED') THEN 'paid'
		ELSE coalesce(max(state || ' at ' || event_type) FILTER (WHERE state <> 'succeeded'), 'lost') END AS outcome,
	round(extract(epoch FROM max(changed_at) - min(created_at)), 1) AS seconds,
	coalesce(max(error) FILTER (WHERE state <> 'succeeded'),
		max(payload ->> 'driver') || ' drove ' || max(payload ->> 'rider') || ' for ' || max(payload ->> 'fare'), '') AS story
FROM eda.event_state WHERE flow_type = 'FLOW_B'
GROUP BY flow_id;
COMMENT ON VIEW ride.outcome IS
	'One row for each ride, with its outcome so far.  The outcome "lost" would be a bug in eda.';

-- ride_app publishes and monitors, ride_worker works and writes the ledger, and ride_gateway, the
-- role of the web page, may do all but write the ledger.
DO $$
BEGIN
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ride_app') THEN
		CREATE ROLE ride_app LOGIN;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ride_worker') THEN
		CREATE ROLE ride_worker LOGIN;
	END IF;
	IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ride_gateway') THEN
		CREATE ROLE ride_gateway LOGIN;
	END IF;
END $$;
SELECT eda.grant_access('ride_app', 'publisher'), eda.grant_access('ride_app', 'monitor'),
	eda.grant_access('ride_worker', 'worker'), eda.grant_access('ride_gateway', 'publisher'),
	eda.grant_access('ride_gateway', 'worker'), eda.grant_access('ride_gateway', 'operator'),
	eda.grant_access('ride_gateway', 'monitor');
GRANT USAGE ON SCHEMA ride TO ride_app, ride_worker;
GRANT USAGE ON SEQUENCE ride.number TO ride_app;
GRANT INSERT ON ride.ledger TO ride_worker;
GRANT SELECT ON ride.outcome TO ride_app;

COMMIT;
