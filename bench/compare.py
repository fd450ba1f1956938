"""
Runs eda and the peers on the same works in turn, and eda alone under conditions that should not
slow it down.  bench/run starts the server and calls this script:

    compare.py DATA_DIRECTORY OUT_DIRECTORY SETTING=VALUE ...

A run begins with a fresh database and a CHECKPOINT; for a drain, the backlog and another CHECKPOINT
follow; then the driver runs.  Server CPU is that of the postmaster and all its children, including
the engine.  A run is made again if other programs used too much of the machine; report.py marks
runs that stayed disturbed.  Each run is a line of JSON in OUT_DIRECTORY/results.jsonl.
"""
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from peers import PEERS, works

HERE = os.path.dirname(os.path.abspath(__file__))
DATA, OUT = sys.argv[1:3]
SETTINGS = dict(a.split('=', 1) for a in sys.argv[3:])
S = {k: int(v) if v.isdigit() else v for k, v in SETTINGS.items()}
WORKS = works(S)
NODE = f'{OUT}/node_modules/.bin/node'
HZ = os.sysconf('SC_CLK_TCK')


# ------------------------------------------------------------------------
# The server
# ------------------------------------------------------------------------

def psql(sql, db=None):
    """Run SQL and commands of psql; return what psql prints."""
    r = subprocess.run(['psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', db or os.environ['PGDATABASE']], input=sql, text=True, capture_output=True)
    if r.returncode:
        raise RuntimeError(r.stderr.strip())
    return r.stdout.strip()


def cpu_of(pid, children=False):
    """Return the CPU seconds that a process has used; with children, also those of its children that have ended."""
    try:
        with open(f'/proc/{pid}/stat') as f:
            times = f.read().rsplit(')', 1)[1].split()[11:15]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, times if children else times[:2])) / HZ


def server_cpu():
    with open(f'{DATA}/postmaster.pid') as f:
        postmaster = int(f.readline())
    with open(f'/proc/{postmaster}/task/{postmaster}/children') as f:
        return cpu_of(postmaster, True) + sum(cpu_of(pid) for pid in f.read().split())


def machine_cpu():
    """Return the CPU seconds that all processes of the machine used, and other guests of its host."""
    with open('/proc/stat') as f:
        user, nice, system, _, _, irq, softirq, steal = map(int, f.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / HZ


def client_cpu():
    r = resource.getrusage(resource.RUSAGE_CHILDREN)
    return r.ru_utime + r.ru_stime


def engine_pid():
    pid = psql("SELECT pid FROM pg_stat_activity WHERE datname = 'run' AND backend_type = 'eda engine'")
    return int(pid) if pid else None


def fresh(peer, db='run'):
    """Create an empty database with a peer, for the next run."""
    p = PEERS[peer]
    psql(f'DROP DATABASE IF EXISTS {db} WITH (FORCE)', 'postgres')
    psql(f'CREATE DATABASE {db}', 'postgres')
    os.environ['PGDATABASE'] = db
    if p['driver'] == 'Node':
        node(dict(peer=peer, install=True), 120)
    else:
        psql(p['install'].replace('{pgmq_sql}', S['PGMQ_SQL']) + ';')
    if peer == 'eda':
        wait_for("SELECT state = 'running' FROM eda.engine_status")


def wait_for(sql, seconds=60):
    end = time.monotonic() + seconds
    while psql(sql) != 't':
        if time.monotonic() > end:
            raise RuntimeError(f'after {seconds} s, this is still not true: {sql}')
        time.sleep(0.02)


class Held:
    """Hold a snapshot open by an idle transaction."""

    def __init__(self):
        self.psql = subprocess.Popen(['psql', '-XqAt', '-d', 'run'], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.psql.stdin.write('BEGIN ISOLATION LEVEL REPEATABLE READ;\nSELECT count(*) FROM pg_class;\n')
        self.psql.stdin.flush()
        self.psql.stdout.readline()

    def release(self):
        self.psql.communicate('ROLLBACK;\n', 10)


# ------------------------------------------------------------------------
# The drivers
# ------------------------------------------------------------------------

def run(command, seconds):
    r = subprocess.run(command, text=True, capture_output=True, timeout=seconds, cwd=OUT)
    if r.returncode:
        raise RuntimeError((r.stderr or r.stdout).strip()[-500:])
    return json.loads(r.stdout) if r.stdout else None


def node(options, seconds):
    url = f'postgres://{os.environ["PGUSER"]}@{os.environ["PGHOST"].replace("/", "%2F")}/run'
    return run([NODE, 'load.mjs', json.dumps(dict(url=url, **options))], seconds)


def drive(peer, work):
    """Run a work with its driver; return the driver's output."""
    p = PEERS[peer]
    w = {k: v for k, v in work.items() if k != 'title'}
    w = dict(dict(seconds=S['SECONDS'] + w.get('warm', 0), payload=S['PAYLOAD'], limit=60), **w)
    if p['driver'] == 'Node':
        workers = w.pop('workers', 0)
        how = p['batched' if w.get('batch', 1) > 1 else 'single'] if workers else {}
        how = {k: workers if v == 'workers' else v for k, v in how.items()}
        if w.get('clients') and 'processes' in how and w.get('batch', 1) > 1:
            how['processes'] = 1        # leaves a core for the producers
        return node(dict(peer=peer, **w, **how), 180)
    if w.get('workers'):
        w['workers'] = min(w['workers'], p.get('workers', w['workers']))
        w.update(fetch=p['fetch'], done=p['done_many' if w['batch'] > 1 else 'done'])
    if w.get('workers') or 'total' in w:
        w.update({k: p[k] for k in ('next', 'tick', 'tick_ms') if k in p})
    if w.get('clients'):
        w['send'] = p['send_many' if w['per'] > 1 else 'send']
    return run([f'{OUT}/load'] + [f'{k}={v}' for k, v in w.items()], 120 + w['limit'])


def measure(peer, work):
    """Run a work, and measure its CPU time and WAL."""
    psql('CHECKPOINT')
    lsn = psql('SELECT pg_current_wal_insert_lsn()')
    server, machine, client, start = server_cpu(), machine_cpu(), client_cpu(), time.monotonic()
    r = drive(peer, work)
    r['wall'] = time.monotonic() - start
    r['client_cpu'] = client_cpu() - client
    r['server_cpu'] = server_cpu() - server
    r['others'] = max(machine_cpu() - machine - r['server_cpu'] - r['client_cpu'], 0) / r['wall'] / os.cpu_count()
    jobs = max(r['done'], 1)
    r['server_us'] = r['server_cpu'] / jobs * 1e6
    r['client_us'] = r['client_cpu'] / jobs * 1e6
    r['wal'] = float(psql(f"SELECT pg_current_wal_insert_lsn() - '{lsn}'")) / jobs
    return r


def left_behind():
    """Return the dead rows and the bytes of all tables of the database."""
    psql('CREATE EXTENSION IF NOT EXISTS pgstattuple')
    dead, size = psql("""
        SELECT coalesce(sum((pgstattuple(c.oid)).dead_tuple_count), 0), sum(pg_total_relation_size(c.oid))
        FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace::regnamespace::text !~ '^(pg_|information_schema)'""").split('|')
    return dict(dead=int(dead), bytes=int(size))


def compared(peer, name, held):
    """Make one run of a peer; return its record."""
    work = WORKS[name]
    r = dict(kind='compare', peer=peer, work=name, held=held)
    holder = None
    fresh(peer)
    try:
        if held:
            holder = Held()
        if 'total' in work:
            drive(peer, dict(clients=1, per=1000, total=work['total']))
            psql('ANALYZE')
            if peer == 'pgq':
                psql("SELECT pgq.force_tick('q')")
        r.update(measure(peer, work))
        if work.get('workers'):
            r.update(left_behind())
    finally:
        if holder:
            holder.release()
    return r


# ------------------------------------------------------------------------
# eda alone
# ------------------------------------------------------------------------

def publish(n, event_type='BENCH', when='NULL'):
    """Publish n events that stay in the log."""
    psql(f"""
        SELECT format('SELECT cardinality(eda.publish_many(%1$L, (SELECT array_agg(''kept-'' || i) FROM generate_series(1, %3$s) i),
            (SELECT array_agg(jsonb_build_object(''id'', i, ''pad'', repeat(''x'', {S['PAYLOAD'] - 20}))) FROM generate_series(1, %3$s) i), %2$L))',
            '{event_type}', {when}, least(1000, {n} - before)) FROM generate_series(0, {n} - 1, 1000) before
        \\gexec""")


def read_all():
    """Wait until the engine has read the whole log."""
    wait_for("SELECT coalesce(sum(events), 0) >= (SELECT count(*) FROM eda.event) FROM eda.queue_metrics", 600)


def condition(name):
    """Bring the log of a fresh database into a condition."""
    psql("SELECT eda.configure('KEPT', 'kept', max_attempts => 1, lease => '1 day', attempt_delays => '{0 s}')")
    if name in ('log', 'segments'):
        parts = S['SEGMENTS'] if name == 'segments' else 1
        for part in range(parts):
            if part > 0:
                segments = psql('SELECT count(*) FROM eda.segment')
                psql(f"SELECT eda.move_clock({part} * interval '7 days 1 hour')")
                wait_for(f'SELECT count(*) > {segments} FROM eda.segment')
                psql(f"SELECT eda.move_clock({part} * interval '7 days 1 hour' + '2 minutes')")      # a segment is opened a minute before it begins
            drive('eda', dict(WORKS['pipeline'], per=1000, warm=0, total=S['LOG'] // parts, limit=3600))
    elif name == 'scheduled':
        publish(S['SCHEDULED'], 'KEPT', "now() + interval '30 days'")
    elif name == 'suspended':
        psql("SELECT eda.suspend_event_type('KEPT')")
        publish(S['SUSPENDED'], 'KEPT')
    elif name == 'dead':
        publish(S['DEAD'], 'KEPT')
        left = S['DEAD']
        while left > 0:
            left -= int(psql("""
                WITH e AS (SELECT * FROM eda.acquire_next('kept', 1000, wait => '10 s'))
                SELECT eda.fail_many(array_agg(event_id), array_agg('no'::text), tokens => array_agg(token), retry => false) FROM e"""))
    elif name == 'waiting':
        publish(S['WAITING'], 'KEPT')
    read_all()


def rss(pid):
    """Return the bytes of private memory of a process."""
    with open(f'/proc/{pid}/status') as f:
        return next(int(line.split()[1]) for line in f if line.startswith('RssAnon')) * 1024


def queue_metrics_ms():
    times = psql('\\timing on\n' + 'SELECT count(*) FROM (SELECT * FROM eda.queue_metrics) m;\n' * 40)
    return statistics.median(float(line.split()[1]) for line in times.splitlines() if line.startswith('Time'))


def without_leftovers(work):
    """Run a work, after draining the events that an earlier work has left."""
    left = int(psql("SELECT sum(events) FROM eda.queue_metrics WHERE event_type = 'BENCH' AND state <> 'succeeded'") or 0)
    if left > 0:
        drive('eda', dict(workers=2, batch=500, total=left))
    return measure('eda', WORKS[work])


def alone(name):
    """Run the works in one condition and in an empty database, alternately; return the records."""
    fresh('eda')
    before = rss(engine_pid())
    condition(name)
    r = dict(kind='condition', condition=name, memory=rss(engine_pid()) - before, events=int(psql('SELECT count(*) FROM eda.event')),
             queue_metrics_ms=queue_metrics_ms())
    yield dict(r, work='none', turn=0)
    if name == 'waiting':
        return
    fresh('eda', 'beside')
    for turn in range(2):
        for work in ('publish', 'pipeline', 'life_1'):
            for db in ('run', 'beside') if turn % 2 else ('beside', 'run'):
                os.environ['PGDATABASE'] = db
                yield dict(r, condition=name if db == 'run' else 'beside ' + name, work=work, turn=turn, **without_leftovers(work))
    psql('DROP DATABASE beside WITH (FORCE)', 'postgres')


# ------------------------------------------------------------------------
# All of it
# ------------------------------------------------------------------------

def note(record):
    with open(f'{OUT}/results.jsonl', 'a') as f:
        f.write(json.dumps(record) + '\n')
    what = record.get('peer') or 'eda, ' + record['condition']
    print(f"{time.strftime('%H:%M:%S')} {record['round']} {record['work']:13} {what:16} {'held' if record.get('held') else '    '}"
          f" {record.get('rate', 0):9.0f}/s  server {record.get('server_us', 0):6.1f} us  WAL {record.get('wal', 0):6.0f} B"
          f"  others {record.get('others', 0):4.0%}", record.get('error', ''), flush=True)


def does(peer, work):
    return work in PEERS[peer].get('only', [work]) and work not in PEERS[peer].get('leaves', [])


def main():
    plan = [(peer, work, held) for work in S['WORKS'].split() for peer in ['eda'] + S['PEERS'].split() for held in (False, True)
            if does(peer, work) and (not held or S['HELD'])]
    for n in range(1, S['ROUNDS'] + 1):
        for peer, work, held in plan if n % 2 else plan[::-1]:
            for _ in range(1 + S['RETRIES']):
                try:
                    r = compared(peer, work, held)
                except (RuntimeError, subprocess.TimeoutExpired) as e:
                    r = dict(kind='compare', peer=peer, work=work, held=held, error=str(e)[-300:])
                if r.get('others', 0) < S['QUIET'] / 100:
                    break
            note(dict(r, round=n))
        for name in S['CONDITIONS'].split():
            for r in alone(name):
                note(dict(r, round=f"{n}.{r['turn']}"))
    psql('DROP DATABASE IF EXISTS run WITH (FORCE)', 'postgres')


main()
