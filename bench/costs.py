"""
Profiles eda at one work; bench/profile starts the server and calls this:

    costs.py DATA_DIRECTORY OUT_DIRECTORY WORK EVENTS

perf samples the call chains of all processes by CPU time.  A sample counts for the process that
ran: a publisher, a worker, the engine, or another process of the server.  "self" is the time in a
function itself, and "total" includes the functions that it calls, both in microseconds per event.
"""
import os
import re
import subprocess
import sys
import time
from collections import Counter, defaultdict

from peers import PEERS, works

DATA, OUT, WORK, EVENTS = sys.argv[1:4] + [int(sys.argv[4])]
HZ = 5000
SETTINGS = dict(WORKERS=4, MANY=1000, FETCH=500, BATCH=100, DRAIN=EVENTS)

# The part that a function belongs to; a sample counts for the innermost of these functions in its call chain.
PARTS = dict(
    btinsert='index entries', insert_entry='index predicates and keys', heap_multi_insert='rows', heapam_tuple_insert_speculative='rows',
    heapam_tuple_complete_speculative='rows', journal_transition_slot='rows', journal_event_slot='rows',
    journal_rel_look='look-up of the current state', read_event_in='look-up of the event (payload, flow id)', journal_find_transition='look-up of another step',
    tail_read='tail: read what was committed', feed_send='feed: NOTIFY', timers_read='timers', dispatch_push='ready queue', dispatch_size_windows='ready queue',
    queue_pop='ready queue', queue_wait='ready queue', counts_publish='counters', state_save='saved state', prepare_log='settings and locks of a tick',
    journal_rel_open='opening tables', journal_rel_close='opening tables', journal_lock_leaves='opening tables',
    CommitTransaction='commit', XLogFlush='commit: flush', GetSnapshotData='snapshots', WaitLatch='sleep and wake',
    InputFunctionCall='arguments from text', OidInputFunctionCall='arguments from text', printtup='results to text', secure_read='network', socket_flush='network', secure_write='network',
    InitMaterializedSRF='plans and executor', standard_ExecutorStart='plans and executor', standard_ExecutorEnd='plans and executor', GetCachedPlan='plans and executor')


def psql(sql, db='run'):
    return subprocess.run(['psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', db], input=sql, text=True, capture_output=True, check=True).stdout.strip()


def load(work, total):
    p, w = PEERS['eda'], dict(work, total=total, warm=0, limit=300)
    many = w.get('per', 1) > 1
    w.update(send=p['send_many' if many else 'send'], fetch=p['fetch'], done=p['done_many' if w.get('batch', 1) > 1 else 'done'])
    return subprocess.Popen([f'{OUT}/load'] + [f'{k}={v}' for k, v in w.items() if k != 'title'], stdout=subprocess.PIPE, text=True)


def roles():
    """Return the role of each process, by pid."""
    return dict(line.split('|') for line in psql("""
        SELECT pid, CASE WHEN backend_type = 'eda engine' THEN 'engine' WHEN query ~ 'eda.publish' THEN 'publisher'
            WHEN query ~ 'eda.(acquire|succeed)' THEN 'worker' ELSE 'other' END FROM pg_stat_activity""").splitlines())


def samples():
    """Yield the pid and the call chain of each sample, innermost function first."""
    text = subprocess.run(['perf', 'script', '-i', f'{OUT}/perf.data', '-F', 'pid,ip,sym'], text=True, capture_output=True, check=True).stdout
    for block in text.split('\n\n'):
        lines = block.strip().splitlines()
        if lines:
            yield lines[0].strip(), [re.sub(r'^\s*[0-9a-f]+\s+', '', line).strip() for line in lines[1:]]


def show(role, own, total, scale, n=90):
    print(f'\n{role}: {own.total() * scale:.2f} us an event\n\n{"total":>8} {"self":>7}')
    for name, count in total.most_common(n):
        print(f'{count * scale:8.2f} {own[name] * scale:7.2f}  {name}')
    print(f'\n{role}, by self\n')
    for name, count in own.most_common(25):
        print(f'{count * scale:8.2f}  {name}')


def show_parts(parts, scale):
    """Print a table of microseconds per event, with a row for each part and a column for each role."""
    roles = ('publisher', 'worker', 'engine', 'other')
    every = sum((parts[r] for r in roles), Counter())
    print('\n| us an event | ' + ' | '.join(roles) + ' | together |\n|---' + '|---:' * 5 + '|')
    for part, count in every.most_common():
        print(f'| {part} | ' + ' | '.join(f'{parts[r][part] * scale:.2f}' if parts[r][part] else '' for r in roles) + f' | {count * scale:.2f} |')
    print('| together | ' + ' | '.join(f'{parts[r].total() * scale:.2f}' for r in roles) + f' | {every.total() * scale:.2f} |')


def show_wal(start, end):
    names = dict(line.split('|') for line in psql('SELECT pg_relation_filenode(oid), relname FROM pg_class WHERE pg_relation_filenode(oid) IS NOT NULL').splitlines())
    text = subprocess.run(['pg_waldump', '-p', f'{DATA}/pg_wal', '-s', start, '-e', end], text=True, capture_output=True).stdout
    count, size, pages = Counter(), Counter(), Counter()
    for m in re.finditer(r'rmgr: (\S+)\s+len \(rec/tot\):\s*(\d+)/\s*(\d+),.*?desc: (\S+)(.*)', text):
        relation = re.search(r'rel \d+/\d+/(\d+)', m[5])
        key = f'{m[1]} {m[4]}', names.get(relation[1], 'catalog or other') if relation else ''
        count[key] += 1
        size[key] += (int(m[3]) + 7) // 8 * 8
        pages[key] += int(m[3]) - int(m[2]) if 'FPW' in m[5] else 0
    print(f'\nWAL: {size.total() / EVENTS:.0f} B an event\n\n{"B":>8} {"records":>9} {"of B, page images":>18}')
    for key, bytes in size.most_common(25):
        print(f'{bytes / EVENTS:8.1f} {count[key] / EVENTS:9.3f} {pages[key] / EVENTS:18.1f}  {key[0]:24} {key[1]}')


def main():
    psql('DROP DATABASE IF EXISTS run WITH (FORCE)', 'postgres')
    psql('CREATE DATABASE run', 'postgres')
    psql(PEERS['eda']['install'])
    work = works(SETTINGS)[WORK]
    load(work, 5000).communicate()      # warm up
    psql(os.environ.get('FIRST', 'SELECT'))
    psql('CHECKPOINT')
    start = psql('SELECT pg_current_wal_insert_lsn()')
    perf = subprocess.Popen(['perf', 'record', '-q', '-a', '-g', '-e', 'cpu-clock', '-F', str(HZ), '-o', f'{OUT}/perf.data'], stderr=subprocess.DEVNULL)
    time.sleep(0.5)
    driver = load(work, EVENTS)
    time.sleep(0.7)
    role = roles()
    print(driver.communicate()[0].strip())
    perf.send_signal(2)
    perf.wait()
    end = psql('SELECT pg_current_wal_insert_lsn()')
    own, total, parts = defaultdict(Counter), defaultdict(Counter), defaultdict(Counter)
    for pid, chain in samples():
        if pid not in role or not chain:
            continue
        own[role[pid]][chain[0]] += 1
        total[role[pid]].update(set(chain))
        parts[role[pid]][PARTS['read_event_in'] if 'read_event_in' in chain else next((PARTS[f] for f in chain if f in PARTS), 'other')] += 1
    show_parts(parts, 1e6 / HZ / EVENTS)
    for r in ('publisher', 'worker', 'engine', 'other'):
        show(r, own[r], total[r], 1e6 / HZ / EVENTS, 45 if r != 'other' else 8)
    show_wal(start, end)


main()
