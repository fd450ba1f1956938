-- The log moves on to its next leaf in time, and an event's whole life stays in the leaf of its id.
SELECT count(*) FROM eda.configure('SEG', 'seg', attempt_delays => '{0 s}');
SELECT segment, ends_at FROM eda.segment ORDER BY segment;
SELECT eda.publish('SEG', 'old') AS old \gset
SELECT t.reach(:'old', 'dispatched');
-- The next segment is opened a minute before its time begins.
SELECT eda.move_clock(current_setting('eda.segment_interval')::interval + '1 hour') IS NOT NULL AS moved;
SELECT t.until('(SELECT count(*) FROM eda.segment) = 2');
SELECT segment, ends_at = 'infinity' AS open, starts_at > eda.clock() AS ahead FROM eda.segment ORDER BY segment;
SELECT a.ends_at = b.starts_at AS without_gap FROM eda.segment a, eda.segment b WHERE a.segment = 1 AND b.segment = 2;
SELECT eda.publish('SEG', 'before the boundary') AS before \gset
SELECT eda.move_clock(current_setting('eda.segment_interval')::interval + '2 hours') IS NOT NULL AS moved;
SELECT eda.publish('SEG', 'new') AS new \gset
SELECT eda.publish('SEG', 'no time', event_id => '11111111-1111-4111-8111-111111111111') AS no_time \gset
SELECT flow_id, segment FROM eda.event WHERE event_type = 'SEG' ORDER BY id;
SELECT t.queued('seg', 4);
BEGIN;
SELECT eda.succeed_many(array_agg(event_id)) FROM eda.acquire_next('seg', 10);
COMMIT;
SELECT flow_id, segment, t.life(id), (SELECT array_agg(DISTINCT t.segment) FROM eda.transition t WHERE t.event_id = e.id) AS leaves
FROM eda.event e WHERE event_type = 'SEG' ORDER BY id;
-- The publisher may give ids with another time.
SELECT eda.publish('SEG', 'given old', event_id => (substr(:'old', 1, 15) || '000-8000-000000000001')::uuid) IS NOT NULL AS made;
SELECT segment FROM eda.event WHERE flow_id = 'given old';
-- With the clock back in the old segment's time, new events belong to the old leaf again.
SELECT eda.move_clock('0') IS NOT NULL AS moved;
SELECT eda.publish('SEG', 'back') AS id \gset
SELECT t.reach(:'id', 'dispatched');
SELECT segment FROM eda.event WHERE id = :'id';
SELECT count(eda.cancel(id)) FROM eda.event_state WHERE event_type = 'SEG' AND state <> 'succeeded';
-- The ranges of the segments cannot contradict each other.
SELECT t.try($$INSERT INTO eda.segment VALUES (3, now())$$);
SELECT t.try($$INSERT INTO eda.segment VALUES (17, now(), now() + '1 day')$$);
SELECT t.try($$INSERT INTO eda.segment VALUES (0, now(), now() + '1 day')$$);
