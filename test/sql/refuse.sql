-- Only the functions of eda write the log: SQL commands raise an error, on the tables and on every leaf.
SELECT count(*) FROM eda.configure('REF', 'ref', attempt_delays => '{1 day}');
SELECT eda.publish('REF', 'r') AS id \gset
SELECT segment FROM eda.event WHERE id = :'id' \gset

SELECT t.try(replace(command, '{n}', :'segment')) FROM (VALUES
	(1, 'INSERT INTO eda.event SELECT * FROM eda.event'),
	(2, 'INSERT INTO eda.event_{n} SELECT * FROM eda.event_{n}'),
	(3, 'INSERT INTO eda.transition SELECT * FROM eda.transition'),
	(4, 'INSERT INTO eda.transition_{n} SELECT * FROM eda.transition_{n}'),
	(5, 'INSERT INTO eda.event_{n} SELECT * FROM eda.event_{n} ON CONFLICT DO NOTHING'),
	(6, 'UPDATE eda.event SET flow_id = ''x'''),
	(7, 'UPDATE eda.event_{n} SET flow_id = ''x'''),
	(8, 'UPDATE eda.transition SET state = ''succeeded'''),
	(9, 'UPDATE eda.transition_{n} SET state = ''succeeded'''),
	(10, 'DELETE FROM eda.event'),
	(11, 'DELETE FROM eda.event_{n} WHERE false'),
	(12, 'DELETE FROM eda.transition'),
	(13, 'DELETE FROM eda.transition_{n}'),
	(14, 'TRUNCATE eda.event'),
	(15, 'TRUNCATE eda.event_{n}'),
	(16, 'TRUNCATE eda.transition'),
	(17, 'TRUNCATE eda.transition_{n}'),
	(18, 'MERGE INTO eda.event e USING (SELECT 1) x ON true WHEN MATCHED THEN DELETE'),
	(19, 'WITH gone AS (DELETE FROM eda.transition_{n} RETURNING *) SELECT count(*) FROM gone')) c(n, command)
ORDER BY n;
SELECT t.try(format('COPY eda.%s FROM PROGRAM ''echo''', r)) FROM unnest(ARRAY['event', 'event_' || :'segment', 'transition', 'transition_' || :'segment']) r;
-- each leaf by itself
SELECT count(*) AS leaves, count(*) FILTER (WHERE t.try(format('%s eda.%I', verb, relname)) LIKE 'ED010: %') AS refused, verb
FROM pg_class CROSS JOIN unnest('{DELETE FROM,TRUNCATE}'::text[]) verb
WHERE relnamespace = 'eda'::regnamespace AND relkind = 'r' AND relname ~ '^(event|transition)_\d+$' GROUP BY verb ORDER BY verb;
-- session_replication_role does not switch the triggers off.
SET session_replication_role = replica;
SELECT t.try('DELETE FROM eda.transition');
SELECT t.try('TRUNCATE eda.event_0');
RESET session_replication_role;
SELECT t.life(:'id');

-- Event types cannot be deleted, because events refer to them for ever.
SELECT t.try('DELETE FROM eda.event_type WHERE false');
SELECT t.try('TRUNCATE eda.event_type');
-- Nothing is written to a log table that somebody altered; the error says so.
CREATE FUNCTION t.altered(command text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	result text;
BEGIN
	EXECUTE replace(command, '{n}', (SELECT segment::text FROM eda.event WHERE flow_id = 'r'));
	result := t.try('SELECT eda.publish(''REF'', ''r altered'')');
	RAISE EXCEPTION USING ERRCODE = 'XX000', MESSAGE = result;
EXCEPTION WHEN internal_error THEN
	RETURN SQLERRM;
END $$;
SELECT t.altered('ALTER TABLE eda.event ADD CONSTRAINT c CHECK (flow_id <> ''r altered'')');
SELECT t.altered('ALTER TABLE eda.event ADD COLUMN extra integer NOT NULL DEFAULT 1');
SELECT t.altered('ALTER TABLE eda.event ADD COLUMN extra integer GENERATED ALWAYS AS (1) STORED');
SELECT t.altered('CREATE FUNCTION t.no() RETURNS trigger LANGUAGE plpgsql AS ''BEGIN RETURN NULL; END'';
	CREATE TRIGGER mine BEFORE INSERT ON eda.event_{n} FOR EACH ROW EXECUTE FUNCTION t.no()');
SELECT t.altered('CREATE FUNCTION t.no() RETURNS trigger LANGUAGE plpgsql AS ''BEGIN RETURN NULL; END'';
	CREATE TRIGGER mine AFTER INSERT ON eda.transition_{n} FOR EACH ROW EXECUTE FUNCTION t.no()');
-- An index that a user added is maintained.
SELECT t.altered('CREATE INDEX mine ON eda.event_{n} (correlation_id)');
CREATE INDEX mine ON eda.event (correlation_id) WHERE correlation_id IS NOT NULL;
CREATE UNIQUE INDEX mine_expression ON eda.event_1 (lower(flow_id), id);
SELECT eda.publish('REF', 'R Indexed', correlation_id => 'find me') IS NOT NULL AS made;
SET enable_seqscan = off;
SELECT flow_id FROM eda.event WHERE correlation_id = 'find me';
SELECT flow_id FROM eda.event_1 WHERE lower(flow_id) = 'r indexed';
RESET enable_seqscan;
DROP INDEX eda.mine, eda.mine_expression;
