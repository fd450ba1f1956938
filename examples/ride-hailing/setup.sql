/*
 * setup.sql
 *		A ride as six events, each published by the success of the one before.
 *
 * May be run again at any time; it then only puts back the rules below.  The
 * roles have no password and no LOGIN rights beyond what pg_hba.conf gives them.
 *
 *	psql -f setup.sql						workers ask Postgres for the next event
 *	psql -v delivery=nats -f setup.sql		they get messages from NATS
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
 * The rules of each step.  How long to wait before attempt 1, 2, 3 ... says what
 * kind of trouble is expected: drivers who do not answer are asked again at once,
 * a bank is given time.  All of it is short, so that a ride takes seconds.
 */
SELECT count(*) AS event_types FROM (VALUES
	-- nobody waits for a taxi for ever: many quick attempts, then it is over
	(eda.configure('RIDE_REQUESTED', flow_type => 'FLOW_B', max_attempts => 8, lifespan => '2 min',
		attempt_delays => '{0 s, 200 ms, 500 ms, 1 s}', lease => '3 s')),
	-- the driver has a moment to say yes
	(eda.configure('DRIVER_MATCHED', flow_type => 'FLOW_B', max_attempts => 5, lifespan => '1 min',
		attempt_delays => '{0 s, 500 ms, 1 s}', lease => '3 s')),
	-- looks outside a little later than asked, then again and again
	(eda.configure('DRIVER_ARRIVED', flow_type => 'FLOW_B', max_attempts => 5, lifespan => '2 min',
		attempt_delays => '{300 ms, 500 ms, 1 s}', lease => '3 s')),
	-- starting a trip is cheap: three attempts are enough
	(eda.configure('TRIP_STARTED', flow_type => 'FLOW_B', max_attempts => 3, lifespan => '1 min',
		attempt_delays => '{0 s, 300 ms}', lease => '3 s')),
	-- a trip under way must end some day
	(eda.configure('TRIP_COMPLETED', flow_type => 'FLOW_B', max_attempts => 10, lifespan => '10 min',
		attempt_delays => '{0 s, 500 ms, 1 s, 2 s}', lease => '3 s')),
	-- money: many attempts, ever further apart, not all at the same moment, and before other work
	(eda.configure('PAYMENT_PROCESSED', flow_type => 'FLOW_B', max_attempts => 12, lifespan => '1 hour',
		attempt_delays => '{0 s, 250 ms}', backoff => 1.5, jitter => 0.2, lease => '3 s', priority => 7))) t;
SELECT count(eda.configure(event_type, delivery => :'delivery')) AS delivered FROM eda.event_type WHERE flow_type = 'FLOW_B';

CREATE SCHEMA IF NOT EXISTS ride;

/*
 * What the worker does in the transaction that finishes an attempt.  It has no
 * unique key, on purpose: that each step of a ride is here once is not checked by
 * the table, it follows from eda.succeed(), and verify.sql proves it.
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
COMMENT ON TABLE ride.ledger IS 'One row for each step of each ride that was done.';

CREATE SEQUENCE IF NOT EXISTS ride.number;
COMMENT ON SEQUENCE ride.number IS 'For the names of rides.';

CREATE OR REPLACE FUNCTION ride.request(ride text DEFAULT 'ride-' || to_char(nextval('ride.number'), 'FM00000')) RETURNS uuid
LANGUAGE sql VOLATILE
RETURN eda.publish('RIDE_REQUESTED', flow_id => ride, payload => jsonb_build_object(
	'rider', (ARRAY['Ada', 'Alan', 'Barbara', 'Donald', 'Edsger', 'Frances', 'Grace', 'Tony'])[1 + floor(random() * 8)],
	'from', (ARRAY['Airport', 'Harbour', 'Museum', 'Old Town'])[1 + floor(random() * 4)],
	'to', (ARRAY['Station', 'Stadium', 'Theatre', 'University'])[1 + floor(random() * 4)]));
COMMENT ON FUNCTION ride.request(text) IS 'Publish the event with which a ride begins.';

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
COMMENT ON VIEW ride.outcome IS 'What became of each ride; "lost" must never be seen.';

-- Who may do what: the app publishes, a worker works and writes the ledger, the web page does all but that.
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
