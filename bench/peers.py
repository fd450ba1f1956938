"""
The peers that are compared, how each is installed and run, and the works that all of them do.

load.c runs a peer that has a SQL interface, with the statements here, and load.mjs runs a
Node.js library.  "batched" and "single" are the options that a peer's own documentation
recommends for batches and for one job at a time.
"""

BARE = dict(
    title='bare table', driver='C', config='identity key, partial index, SKIP LOCKED; UPDATE to take, DELETE to finish',
    install='''CREATE TABLE job (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, uid uuid NOT NULL DEFAULT gen_random_uuid(),
                 state smallint NOT NULL DEFAULT 0, payload jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), locked_at timestamptz);
               CREATE INDEX job_ready ON job (id) WHERE state = 0''',
    send='INSERT INTO job (payload) VALUES ($1::jsonb)',
    send_many='INSERT INTO job (payload) SELECT p::jsonb FROM unnest($1::text[]) p',
    fetch='''UPDATE job SET state = 1, locked_at = now() WHERE id IN (SELECT id FROM job WHERE state = 0 ORDER BY id
             LIMIT $1::integer FOR UPDATE SKIP LOCKED) RETURNING id, payload''',
    done='DELETE FROM job WHERE id = $1::bigint',
    done_many='DELETE FROM job WHERE id = any($1::bigint[])')

PEERS = dict(
    eda=dict(
        title='eda', driver='C', config='defaults',
        install="CREATE EXTENSION eda; SELECT eda.configure('BENCH', 'bench', attempt_delays => '{0 s}', lease => '10 min')",
        send="SELECT eda.publish('BENCH', $2::text, $1::jsonb)",
        send_many="SELECT cardinality(eda.publish_many('BENCH', $2::text[], $1::jsonb[]))",
        fetch="SELECT event_id, payload, token FROM eda.acquire_next('bench', $1::integer, wait => '500 ms')",
        done='SELECT eda.succeed($1::uuid, $2::integer)',
        done_many='SELECT eda.succeed_many($1::uuid[], $2::integer[])'),
    bare=BARE,
    # Two rows for each job, the least that eda.publish() has to write: an event and its first transition.
    bare_two=dict(
        title='bare, two rows', driver='C', config='one statement, a row each into two tables with a uuid key', only=['publish'],
        install='''CREATE TABLE event (id uuid PRIMARY KEY, flow_id text NOT NULL, created_at timestamptz NOT NULL, payload jsonb NOT NULL);
                   CREATE TABLE step (event_id uuid, version integer, at timestamptz NOT NULL, state smallint NOT NULL, PRIMARY KEY (event_id, version))''',
        send='''WITH e AS (INSERT INTO event SELECT gen_random_uuid(), $2::text, now(), $1::jsonb RETURNING id, created_at)
                INSERT INTO step SELECT id, 1, created_at, 1 FROM e'''),
    pgmq=dict(
        title='pgmq', driver='C', config='send, send_batch, read (vt 30 s), delete',
        install='\\i {pgmq_sql}\nSELECT pgmq.create(\'q\')',
        send="SELECT * FROM pgmq.send('q', $1::jsonb)",
        send_many="SELECT count(*) FROM pgmq.send_batch('q', $1::jsonb[])",
        fetch="SELECT msg_id, message FROM pgmq.read('q', 30, $1::integer)",
        done="SELECT pgmq.delete('q', $1::bigint)",
        done_many="SELECT count(*) FROM pgmq.delete('q', $1::bigint[])"),
    pgq=dict(
        title='PgQ', driver='C', config='one consumer; a tick each 1000 events or 10 ms, ticker called each 5 ms; a batch is acknowledged as a whole',
        workers=1, leaves=['drain_1', 'life_1'],
        install='''CREATE EXTENSION pgq; SELECT pgq.create_queue('q'); SELECT pgq.register_consumer('q', 'c');
                   SELECT pgq.set_queue_config('q', 'ticker_max_count', '1000'), pgq.set_queue_config('q', 'ticker_max_lag', '10 milliseconds'),
                          pgq.set_queue_config('q', 'ticker_idle_period', '10 milliseconds'), pgq.ticker('q')''',
        send="SELECT pgq.insert_event('q', 'noop', $1::text)",
        send_many="SELECT count(pgq.insert_event('q', 'noop', p)) FROM unnest($1::text[]) p",
        next="SELECT pgq.next_batch('q', 'c')",
        fetch='SELECT ev_id, ev_data FROM pgq.get_batch_events($1::bigint)',
        done='SELECT pgq.finish_batch($1::bigint)', done_many='SELECT pgq.finish_batch($1::bigint)',
        tick="SELECT pgq.ticker('q')", tick_ms=5),
    graphile=dict(
        title='graphile-worker', driver='Node', batched=dict(processes=2, loops=1), single=dict(processes='workers', loops=1),
        config='addJob, addJobs; batched: 2 processes as in its perfTest (24 jobs at a time, local queue of 500, completions batched); single: its defaults, a process for each worker'),
    pgboss=dict(
        title='pg-boss', driver='Node', batched=dict(processes=1, loops=2), single=dict(processes=1, loops='workers'),
        config='send, insert; loops of fetch and complete in one process'),
)


def works(s):
    """Return the works by name; s are the settings."""
    single = dict(workers=s['WORKERS'], batch=1)
    return dict(
        publish=dict(title='enqueue, 1 per call, 4 clients', clients=4, per=1),
        publish_many=dict(title=f'enqueue, {s["MANY"]} per call, 4 clients', clients=4, per=s['MANY']),
        drain=dict(title=f'drain {s["DRAIN"]:,}, 2 workers, batches of {s["FETCH"]}', total=s['DRAIN'], workers=2, batch=s['FETCH']),
        pipeline=dict(title=f'steady pipeline, 2 clients send {s["BATCH"]} per call, 2 workers take up to {s["FETCH"]}',
                      clients=2, per=s['BATCH'], workers=2, batch=s['FETCH'], backlog=5000, warm=1),
        drain_1=dict(title=f'drain {s["DRAIN"] // 4:,} one at a time, {s["WORKERS"]} workers', total=s['DRAIN'] // 4, **single),
        life_1=dict(title=f'whole life one at a time, 4 clients, {s["WORKERS"]} workers', clients=4, per=1, backlog=200, warm=1, **single),
    )
