-- eda.publish() writes an event in the caller's transaction, once for each event id and idempotency key.
SELECT count(*) FROM eda.configure('PUB_A', 'pub', attempt_delays => '{1 day}');
SELECT count(*) FROM eda.configure('PUB_B', 'pub', attempt_delays => '{1 day}', lifespan => '10 days');
SELECT count(*) FROM eda.configure('PUB_C', 'pub_other', attempt_delays => '{1 day}');

-- Type and flow id suffice.
SELECT eda.publish('PUB_A', 'f least') AS id \gset
SELECT event_type, flow_type, flow_id, payload, headers, state, prev_state, version, attempt, attempts_left, attempts_failed,
	expires_at, correlation_id, parent_id, on_fail_event_type, wake_at - changed_at AS delay
FROM eda.event_state WHERE id = :'id';
-- The id is a UUID v7 with the time of the clock, and ids ascend.
SELECT substr(:'id', 15, 1) AS version, substr(:'id', 20, 1) IN ('8', '9', 'a', 'b') AS variant,
	abs(extract(epoch FROM created_at) - ('x' || replace(substr(:'id', 1, 13), '-', ''))::bit(48)::bigint / 1000.0) < 0.1 AS its_time
FROM eda.event WHERE id = :'id';
SELECT bool_and(id > before) AS in_order FROM (
	SELECT id, lag(id) OVER (ORDER BY n) AS before
	FROM (SELECT n, eda.publish('PUB_A', 'f ordered') AS id FROM generate_series(1, 1000) n) made) x;
-- All arguments are stored.
SELECT eda.publish(event_type => 'PUB_B', flow_id => 'f all', payload => '{"a": [1, 2]}', scheduled_at => '2100-01-01 UTC',
	event_id => '01890000-0000-7000-8000-000000000001', idempotency_key => 'f all 1', on_fail_event_type => 'PUB_A',
	headers => '{"traceparent": "00-ab-cd-01", "X-Any": "thing"}', correlation_id => 'order 7',
	parent_id => '01890000-0000-7000-8000-000000000000', flow_type => 'pub');
SELECT event_type, flow_id, payload, headers, state, correlation_id, parent_id, on_fail_event_type,
	attempt_scheduled_at = '2100-01-01 UTC' AS scheduled, expires_at - attempt_scheduled_at AS lifespan
FROM eda.event_state WHERE id = '01890000-0000-7000-8000-000000000001';
-- A scheduled time in the past counts as now; a lifespan begins at the scheduled time, or now.
SELECT eda.publish('PUB_B', 'f past', scheduled_at => '2000-01-01') AS id \gset
SELECT wake_at - changed_at AS delay, expires_at - created_at AS lifespan FROM eda.event_state WHERE id = :'id';
-- Any JSON can be a payload; a null payload is {}.
CREATE TEMP TABLE made AS
SELECT n, eda.publish('PUB_A', 'f json', payload) AS id
FROM unnest('{"null", true, 1.50, "\"text\"", "[]", NULL}'::jsonb[]) WITH ORDINALITY p(payload, n);
SELECT n, payload FROM made JOIN eda.event USING (id) ORDER BY n;
-- A payload that is stored out of line comes back whole.
SELECT eda.publish('PUB_A', 'f large', jsonb_build_object('text', (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 10000) n))) AS id \gset
SELECT length(payload ->> 'text'), md5(payload ->> 'text') = md5((SELECT string_agg(md5(n::text), '') FROM generate_series(1, 10000) n)) AS whole
FROM eda.event WHERE id = :'id';

-- An event id publishes one event only.
SELECT eda.publish('PUB_A', 'f id', '{"n": 1}', event_id => '01890000-0000-7000-8000-00000000000a');
SELECT eda.publish('PUB_A', 'f id', '{"n": 2}', event_id => '01890000-0000-7000-8000-00000000000a');
SELECT payload, t.life(id) FROM eda.event WHERE flow_id = 'f id';
SELECT t.try($$SELECT eda.publish('PUB_B', 'f id', event_id => '01890000-0000-7000-8000-00000000000a')$$);
SELECT t.try($$SELECT eda.publish('PUB_A', 'f id other', event_id => '01890000-0000-7000-8000-00000000000a')$$);
-- An event id need not carry a time.
SELECT eda.publish('PUB_A', 'f v4', event_id => '7d793037-a076-4b9b-9f09-a0a0a0a0a0a0');
SELECT eda.publish('PUB_A', 'f v4', event_id => '7d793037-a076-4b9b-9f09-a0a0a0a0a0a0');
SELECT segment, state FROM eda.transition WHERE event_id = '7d793037-a076-4b9b-9f09-a0a0a0a0a0a0';
-- An idempotency key publishes one event only.
SELECT eda.publish('PUB_A', 'f key', '{"n": 1}', idempotency_key => 'k1') AS id \gset
SELECT eda.publish('PUB_A', 'f key', '{"n": 2}', idempotency_key => 'k1') = :'id' AS same;
SELECT eda.publish('PUB_A', 'f key', '{"n": 3}', idempotency_key => 'k2') = :'id' AS same;
SELECT payload FROM eda.event WHERE flow_id = 'f key' ORDER BY id;
SELECT t.try($$SELECT eda.publish('PUB_B', 'f key', idempotency_key => 'k1')$$);
SELECT t.try($$SELECT eda.publish('PUB_A', 'f key other', idempotency_key => 'k1')$$);
-- A key may be used again after eda.idempotency_ttl.
SET eda.idempotency_ttl = '1h';
SELECT eda.publish('PUB_A', 'f ttl', idempotency_key => 'k ttl') AS id \gset
SELECT round(extract(epoch FROM k.expires_at - e.created_at)) AS kept FROM eda.idempotency k JOIN eda.event e ON e.id = k.event_id
WHERE k.event_id = :'id';
SELECT eda.move_clock('30 min') IS NOT NULL AS moved;
SELECT eda.publish('PUB_A', 'f ttl', idempotency_key => 'k ttl') = :'id' AS same;
SELECT eda.move_clock('61 min') IS NOT NULL AS moved;
SELECT eda.publish('PUB_A', 'f ttl', idempotency_key => 'k ttl') = :'id' AS same;
SELECT eda.move_clock('0') IS NOT NULL AS moved;
RESET eda.idempotency_ttl;

-- batches as JSON
SELECT cardinality(eda.publish_many('[]'));
CREATE TEMP TABLE batch AS
SELECT n, id FROM unnest(eda.publish_many('[
	{"event_type": "PUB_A", "flow_id": "b 1"},
	{"event_type": "PUB_C", "flow_id": "b 2", "payload": [2], "correlation_id": "c 2", "flow_type": "pub_other"},
	{"event_type": "PUB_B", "flow_id": "b 3", "payload": null, "scheduled_at": "2100-01-01T00:00:00Z", "headers": {"a": "b"},
	 "event_id": "01890000-0000-7000-8000-0000000000b3", "parent_id": "01890000-0000-7000-8000-000000000000",
	 "on_fail_event_type": "", "idempotency_key": "b 3"},
	{"event_type": "PUB_A", "flow_id": "b 4", "scheduled_at": null, "headers": null, "event_id": null}
]')) WITH ORDINALITY ids(id, n);
SELECT n, event_type, flow_type, flow_id, payload, headers, correlation_id, parent_id, on_fail_event_type,
	t.life(id)
FROM batch JOIN eda.event USING (id) ORDER BY n;
SELECT id, attempt_scheduled_at = '2100-01-01 UTC' AS scheduled FROM eda.event_state WHERE flow_id = 'b 3';
-- Numbers are accepted as texts.
SELECT cardinality(eda.publish_many('[{"event_type": "PUB_A", "flow_id": 17, "correlation_id": 1.5}]'));
SELECT flow_id, correlation_id FROM eda.event WHERE flow_id = '17';
-- The same event twice in one batch is one event.
SELECT ids[1] = ids[2] AND ids[2] <> ids[3] AND ids[3] = ids[4] AS same, cardinality(ids)
FROM eda.publish_many('[
	{"event_type": "PUB_A", "flow_id": "twice", "payload": 1, "event_id": "01890000-0000-7000-8000-0000000000c1"},
	{"event_type": "PUB_A", "flow_id": "twice", "payload": 2, "event_id": "01890000-0000-7000-8000-0000000000c1"},
	{"event_type": "PUB_A", "flow_id": "twice", "payload": 3, "idempotency_key": "twice"},
	{"event_type": "PUB_A", "flow_id": "twice", "payload": 4, "idempotency_key": "twice"}
]') ids;
SELECT payload FROM eda.event WHERE flow_id = 'twice' ORDER BY payload;
-- A batch is published as a whole or not at all.
SELECT t.try(format('SELECT eda.publish_many(%L)', bad.events)) FROM (VALUES
	(1, '{"event_type": "PUB_A", "flow_id": "none"}'),
	(2, '["PUB_A"]'),
	(3, '[{"event_type": "PUB_A", "flow_id": "none"}, {"flow_id": "none"}]'),
	(4, '[{"event_type": "PUB_A", "flow_id": "none"}, {"event_type": "PUB_A"}]'),
	(5, '[{"event_type": "PUB_A", "flow_id": "none"}, {"event_type": "PUB_A", "flow_id": null}]'),
	(6, '[{"event_type": "PUB_A", "flow_id": "none"}, {"event_type": "PUB_NOWHERE", "flow_id": "none"}]'),
	(7, '[{"event_type": "PUB_A", "flow_id": "none"}, {"event_type": "PUB_A", "flow_id": "none", "flow": "x"}]'),
	(8, '[{"event_type": "PUB_A", "flow_id": "none"}, {"event_type": "PUB_A", "flow_id": "none", "flow_type": "pub_other"}]'),
	(9, '[{"event_type": "PUB_A", "flow_id": "none"}, {"event_type": "PUB_A", "flow_id": "none", "scheduled_at": "soon"}]'),
	(10, '[{"event_type": "PUB_A", "flow_id": "none"}, {"event_type": "PUB_A", "flow_id": "none", "event_id": "7"}]'),
	(11, '[{"event_type": "PUB_A", "flow_id": "none"}, {"event_type": "PUB_A", "flow_id": ["none"]}]'),
	(12, '[{"event_type": "PUB_A", "flow_id": "none"}, {"event_type": "PUB_A", "flow_id": "none", "headers": "x"}]'),
	(13, '[{"event_type": "PUB_A", "flow_id": "none", "event_id": "01890000-0000-7000-8000-0000000000d1"},
		   {"event_type": "PUB_B", "flow_id": "none", "event_id": "01890000-0000-7000-8000-0000000000d1"}]'),
	(14, '[{"event_type": "PUB_A", "flow_id": "none", "idempotency_key": "none"},
		   {"event_type": "PUB_A", "flow_id": "none other", "idempotency_key": "none"}]')) bad(n, events)
ORDER BY n;
SELECT t.try('SELECT eda.publish_many(NULL::jsonb)');
SELECT count(*) FROM eda.event WHERE flow_id LIKE 'none%';
-- batches as arrays
SELECT cardinality(eda.publish_many('PUB_A', '{}'::text[]));
SELECT cardinality(eda.publish_many('PUB_A', '{a 1, a 2}'));
SELECT cardinality(eda.publish_many('PUB_A', '{a 3, a 4}', '{"{\"n\": 3}", NULL}', '2100-01-01 UTC'));
SELECT flow_id, payload, attempt_scheduled_at = '2100-01-01 UTC' AS scheduled FROM eda.event_state WHERE flow_type = 'pub' AND flow_id LIKE 'a _' ORDER BY id;
SELECT t.try($$SELECT eda.publish_many('PUB_A', '{none, none}', '{1}')$$);
SELECT t.try($$SELECT eda.publish_many('PUB_A', '{none, NULL}')$$);
SELECT t.try($$SELECT eda.publish_many('PUB_A', NULL::text[])$$);
SELECT t.try($$SELECT eda.publish_many('PUB_NOWHERE', '{none}')$$);
SELECT t.try($$SELECT eda.publish_many(NULL, '{none}')$$);
SELECT count(*) FROM eda.event WHERE flow_id LIKE 'none%';
-- A batch may be larger than one multi-insert.
SELECT cardinality(eda.publish_many('PUB_A', (SELECT array_agg('many'::text) FROM generate_series(1, 2500))));
SELECT count(*), count(DISTINCT id) FROM eda.event WHERE flow_id = 'many';

-- Nothing is left of a transaction that rolled back.
BEGIN;
SELECT eda.publish('PUB_A', 'f gone', idempotency_key => 'gone') AS id \gset
SELECT t.life(:'id');
ROLLBACK;
SELECT count(*) FROM eda.event WHERE flow_id = 'f gone';
SELECT eda.publish('PUB_A', 'f gone', idempotency_key => 'gone') = :'id' AS same;
BEGIN;
SELECT eda.publish('PUB_A', 'f kept') IS NOT NULL AS made;
SAVEPOINT a;
SELECT eda.publish('PUB_A', 'f savepoint', event_id => '01890000-0000-7000-8000-0000000000e1', idempotency_key => 'savepoint');
ROLLBACK TO a;
SELECT eda.publish('PUB_B', 'f savepoint', '{"again": true}', event_id => '01890000-0000-7000-8000-0000000000e1', idempotency_key => 'savepoint');
SAVEPOINT b;
SELECT eda.publish('PUB_A', 'f released') IS NOT NULL AS made;
RELEASE b;
COMMIT;
SELECT event_type, flow_id, payload, t.life(id) FROM eda.event
WHERE flow_id IN ('f kept', 'f savepoint', 'f released') ORDER BY flow_id;

-- An invalid event raises an error, and nothing is written.
SELECT t.try($$SELECT eda.publish('PUB_NOWHERE', 'refused')$$);
SELECT t.try($$SELECT eda.publish(NULL, 'refused')$$);
SELECT t.try($$SELECT eda.publish('PUB_A', NULL)$$);
SELECT t.try($$SELECT eda.publish('PUB_A', '')$$);
SELECT t.try($$SELECT eda.publish('PUB_A', 'refused' || repeat('x', 600))$$);
SELECT t.try($$SELECT eda.publish('pub_a', 'refused')$$);
SELECT t.try($$SELECT eda.publish('PUB_A', 'refused', idempotency_key => '')$$);
SELECT t.try($$SELECT eda.publish('PUB_A', 'refused', flow_type => 'pub_other')$$);
SELECT t.try($$SELECT eda.publish('PUB_A', 'refused', on_fail_event_type => 'PUB_NOWHERE')$$);
SELECT t.try($$SELECT eda.publish('PUB_A', 'refused', scheduled_at => 'infinity')$$);
SET eda.max_payload_size = '1kB';
SELECT t.try($$SELECT eda.publish('PUB_A', 'refused', to_jsonb(repeat('x', 2000)))$$);
SELECT t.try($$SELECT eda.publish_many(jsonb_build_array('{"event_type": "PUB_A", "flow_id": "refused"}'::jsonb,
	jsonb_build_object('event_type', 'PUB_A', 'flow_id', 'refused', 'payload', repeat('x', 2000))))$$);
SELECT t.try($$SELECT eda.publish('PUB_A', 'fits', to_jsonb(repeat('x', 1000))) IS NOT NULL$$);
RESET eda.max_payload_size;
SELECT t.try($$SELECT eda.publish('PUB_A', 'refused', headers => jsonb_build_object('a', repeat('x', 100000)))$$);
SELECT t.try(format($$SELECT eda.publish('PUB_A', 'refused', headers => %L)$$, bad.headers)) FROM (VALUES
	(1, '[]'),
	(2, '"a"'),
	(3, '{"a": 1}'),
	(4, '{"a": null}'),
	(5, '{"a": {"b": "c"}}'),
	(6, '{"": "x"}'),
	(7, '{"a b": "x"}'),
	(8, '{"a:b": "x"}'),
	(9, '{"é": "x"}'),
	(10, '{"Nats-Msg-Id": "x"}'),
	(11, '{"nats-rollup": "all"}'),
	(12, '{"EDA-Expires-At": "x"}'),
	(13, '{"a": "x\ny"}'),
	(14, '{"a": "x\ry"}')) bad(n, headers)
ORDER BY n;
SELECT count(*) FROM eda.event WHERE flow_id = 'refused';
SELECT t.try($$SELECT eda.publish('PUB_A', 'fits', headers => '{"natsy": "x", "x-!#$%&''*+.^_`|~": "", "tab": "a\tb", "é": "ü"}'::jsonb - 'é') IS NOT NULL$$);
BEGIN TRANSACTION READ ONLY;
SELECT t.try($$SELECT eda.publish('PUB_A', 'refused')$$);
COMMIT;
