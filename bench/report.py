"""
Reads OUT_DIRECTORY/results.jsonl, writes table.md and chart.svg there, and prints the table.

    report.py OUT_DIRECTORY SETTING=VALUE ...

The numbers are medians, with minimum and maximum in brackets.  Runs that other programs disturbed
are left out if there are undisturbed ones, and marked * otherwise.  A ratio is that of two runs of
the same round.
"""
import json
import re
import sys
from collections import defaultdict
from statistics import median

from peers import PEERS, works

OUT = sys.argv[1]
S = {k: int(v) if v.isdigit() else v for k, v in (a.split('=', 1) for a in sys.argv[2:])}
WORKS = works(S)
CONDITIONS = dict(
    log=f'{S["LOG"]:,} finished events in the log', segments=f'{S["LOG"]:,} finished events in {S["SEGMENTS"]} segments',
    scheduled=f'{S["SCHEDULED"]:,} scheduled in the future', suspended=f'{S["SUSPENDED"]:,} behind a suspended type', dead=f'{S["DEAD"]:,} dead letters')


# ------------------------------------------------------------------------
# The results
# ------------------------------------------------------------------------

class Runs:
    """The runs of one peer at one work."""

    def __init__(self):
        self.all = []

    def good(self):
        done = [r for r in self.all if 'error' not in r]
        return [r for r in done if r.get('others', 0) < S['QUIET'] / 100] or done

    def disturbed(self):
        return any(r.get('others', 0) >= S['QUIET'] / 100 for r in self.good())

    def median(self, key):
        values = [r[key] for r in self.good() if key in r]
        return median(values) if values else None

    def text(self, key, form):
        """Return median [min-max], or the error."""
        values = [r[key] for r in self.good() if key in r]
        if not values:
            return 'failed: ' + next(r['error'] for r in self.all if 'error' in r)[:60] if self.all else ''
        spread = f' [{form(min(values))}-{form(max(values))}]' if len(values) > 1 else ''
        return form(median(values)) + spread + ('*' if self.disturbed() else '')


compared, alone = defaultdict(Runs), defaultdict(Runs)
with open(f'{OUT}/results.jsonl') as f:
    for r in map(json.loads, f):
        if r['kind'] == 'compare':
            compared[r['work'], r['peer'], r['held']].all.append(r)
        else:
            alone[r['condition'], r['work']].all.append(r)
peers = [p for p in PEERS if any(key[1] == p for key in compared)]
done = [w for w in WORKS if any(key[0] == w for key in compared)]


def rate(x):
    return f'{x / 1e3:.0f}k' if x >= 99500 else f'{x / 1e3:.1f}k' if x >= 1000 else f'{x:.0f}'


def plain(x):
    return f'{x:.0f}'


def tenth(x):
    return f'{x:.1f}'


def ratio(a, b):
    return a / b if a and b else None


def rates(work, peer, held=False):
    key = (work, peer, held)
    return compared[key].median('rate') if key in compared else None


class Ratio(float):
    """Return the ratio of two rates; disturbed: with a * after it."""
    disturbed = False

    def __format__(self, form):
        return float(self).__format__(form) + ('*' if self.disturbed else '')


def paired(a, b):
    """Return the median of the ratios of two runs of the same round: of undisturbed pairs, or of all, marked."""
    of_b = {r['round']: r for r in b.all if 'error' not in r}
    pairs = [(r['rate'] / of_b[r['round']]['rate'], max(r['others'], of_b[r['round']]['others']) >= S['QUIET'] / 100)
             for r in a.all if 'error' not in r and r['round'] in of_b and of_b[r['round']].get('rate')]
    if not pairs:
        return None
    good = [x for x, disturbed in pairs if not disturbed]
    result = Ratio(median(good or [x for x, _ in pairs]))
    result.disturbed = not good
    return result


def over(work, peer):
    """Return eda's rate divided by the peer's."""
    return paired(compared[work, 'eda', False], compared[work, peer, False])


def cpu_ratio(work, peer):
    """Return eda's CPU time per job divided by the peer's."""
    return ratio(*(compared[work, p, False].median('server_us') for p in ('eda', peer))) if (work, peer, False) in compared else None


def held_ratio(work, peer):
    return paired(compared[work, peer, True], compared[work, peer, False])


def condition_ratio(condition):
    """Return the worst ratio of all works."""
    rs = [paired(r, alone[f'beside {condition}', w]) for (c, w), r in list(alone.items()) if c == condition and w != 'none']
    return min((x for x in rs if x is not None), default=None)


# ------------------------------------------------------------------------
# Tables
# ------------------------------------------------------------------------

lines = []


def table(title, head, rows):
    rows = [row for row in rows if any(row[1:])]
    if rows:
        lines.extend(['', f'**{title}**', '', '| ' + ' | '.join(head) + ' |', '|---' * len(head) + '|'])
        lines.extend('| ' + ' | '.join(row) + ' |' for row in rows)


def peer_table(title, cell, which=None):
    shown = [p for p in peers if p != 'bare_two']
    table(title, ['work'] + [f'{PEERS[p]["title"]} ({PEERS[p]["driver"]})' for p in shown],
          [[WORKS[w]['title']] + [cell(w, p) or '' for p in shown] for w in which or done])


def number(x, form='{:.2f}'):
    return form.format(x) if x is not None else ''


def latency():
    """Return the percentiles that bench/latency printed, in ms: {line: {p50: ..., ...}}."""
    try:
        with open(f'{OUT}/latency.txt') as f:
            return {line.split(' p50')[0].strip(): {k: float(v) for k, v in re.findall(r'(p\d+|max|mean) +([\d.]+)', line)} for line in f if ' p50' in line}
    except FileNotFoundError:
        return {}


def goals():
    """Yield the subject, the goal, the measured value, and whether that is enough."""
    def at_least(what, goal, value):
        return [what, f'>= {goal}', number(value), '' if value is None else 'yes' if value >= goal else f'no: {value / goal:.0%} of it']

    def at_most(what, goal, value, form):
        return [what, '<= ' + form.format(goal), number(value, form), '' if value is None else 'yes' if value <= goal else f'no: {value / goal:.1f} times']

    rows = [
        at_least('publish, 1 per call / bare two-row insert', 0.8, over('publish', 'bare_two')),
        at_least('publish, 1 per call / pgmq send', 1.5, over('publish', 'pgmq')),
        at_least(f'publish, {S["MANY"]} per call / bare multi-row insert', 0.6, over('publish_many', 'bare')),
        at_least('pipeline / pgmq', 1.0, over('pipeline', 'pgmq')),
        at_least('pipeline / graphile-worker, batched', 2.2, over('pipeline', 'graphile')),
        at_least('pipeline / pg-boss', 3.5, over('pipeline', 'pgboss')),
        at_least('whole life one at a time / pgmq', 4, over('life_1', 'pgmq')),
        at_least('whole life one at a time / graphile-worker, defaults', 4, over('life_1', 'graphile')),
    ]
    rows += [at_least(f'under a snapshot held open / without: {WORKS[w]["title"]}', 0.95, held_ratio(w, 'eda')) for w in done]
    rows += [at_least(f'{CONDITIONS[c]} / an empty log, slowest work', 0.9 if c in ('log', 'segments') else 0.95, condition_ratio(c))
             for c in CONDITIONS]
    cost = compared['pipeline', 'eda', False]
    rows += [at_most('server CPU of a whole life, batches', 17, cost.median('server_us'), '{:.1f} us'),
             at_most("the same / pgmq's (17 us was 1.0 of it on the machine of the goals)", 1, cpu_ratio('pipeline', 'pgmq'), '{:.2f}'),
             at_most('WAL of a whole life, batches', 1600, cost.median('wal'), '{:.0f} B')]
    t = latency()
    if t:
        start, call = (t[k] for k in ('publish call to handler start', 'of that, the publish call itself'))
        rows += [at_most('pickup, pull, p50 over the commit', 0.5, start['p50'] - call['p50'], '{:.2f} ms'),
                 at_most('pickup, pull, p99 over the commit', 3, start['p99'] - call['p50'], '{:.2f} ms')]
    waiting = alone['waiting', 'none']
    rows += [at_most('engine memory a waiting event', 64, ratio(max(waiting.median('memory') or 0, 1), waiting.median('events')), '{:.0f} bytes'),
             at_most(f'eda.queue_metrics, {CONDITIONS["log"]}', 2, alone['log', 'none'].median('queue_metrics_ms'), '{:.2f} ms')]
    return [row for row in rows if row[2]]


with open(f'{OUT}/machine.txt') as f:
    lines.append(f.read().strip().lstrip('# ') + '.')
lines.append(f'{S["PAYLOAD"]}-byte JSON payloads, synchronous_commit on, fsync on, 1 GB of shared buffers; {S["ROUNDS"]} rounds'
             f' in alternating order, {S["SECONDS"]} s each.  Medians [min-max]' +
             ('; * others used more than ' + str(S['QUIET']) + ' % of the machine.' if any(r.disturbed() for r in compared.values()) else '.'))
table('Goals', ['what', 'goal', 'measured', 'met'], goals())
peer_table('Jobs a second', lambda w, p: compared[w, p, False].text('rate', rate) if (w, p, False) in compared else '')
if ('publish', 'bare_two', False) in compared:
    lines.append('\nA bare two-row insert transaction (one statement, C), 1 per call, 4 clients: '
                 + compared['publish', 'bare_two', False].text('rate', rate) + ' a second.')
peer_table("eda's rate divided by the peer's", lambda w, p: number(over(w, p)))
peer_table('Under a snapshot held open, ratio to without', lambda w, p: number(held_ratio(w, p)))
peer_table('Server CPU a job, us', lambda w, p: compared[w, p, False].text('server_us', tenth) if (w, p, False) in compared else '')
peer_table('WAL a job, bytes', lambda w, p: compared[w, p, False].text('wal', plain) if (w, p, False) in compared else '')
working = [w for w in done if 'workers' in WORKS[w]]
for held in (False, True):
    peer_table('Left behind for each job done' + (', under a snapshot held open' if held else '') + ': dead rows; bytes of tables and indexes',
               lambda w, p: ' '.join(f'{sum(r["dead"] for r in g) / max(sum(r["done"] for r in g), 1):.1f}; {sum(r["bytes"] for r in g) / max(sum(r["done"] for r in g), 1):.0f}'
                                     for g in [compared[w, p, held].good()] if g) if (w, p, held) in compared else '', working)
table('eda alone: jobs a second (ratio to an empty log in the same minutes)', ['in the log'] + [WORKS[w]['title'] for w in ('publish', 'pipeline', 'life_1')] + ['eda.queue_metrics, ms', 'engine memory, kB'],
      [[title] + [f'{alone[c, w].text("rate", rate)} ({number(paired(alone[c, w], alone[f"beside {c}", w]))})' if alone[c, w].good() else ''
                  for w in ('publish', 'pipeline', 'life_1')] + [number(alone[c, 'none'].median('queue_metrics_ms')), number(ratio(alone[c, 'none'].median('memory'), 1024), '{:.0f}')]
       for c, title in CONDITIONS.items() if alone[c, 'none'].good()])
if latency():
    with open(f'{OUT}/latency.txt') as f:
        lines.extend(['', '**Pickup on an idle system**', '', '```', f.read().strip(), '```'])
lines.extend(['', '| peer | driver | how |', '|---|---|---|'] + [f'| {PEERS[p]["title"]} | {PEERS[p]["driver"]} | {PEERS[p]["config"]} |' for p in peers])


# ------------------------------------------------------------------------
# The chart: a panel for each work, with a bar for each peer and a line from minimum to maximum
# ------------------------------------------------------------------------

def panel(work, x, y):
    bars = [(p, [r['rate'] for r in compared[work, p, False].good()], rates(work, p, True)) for p in peers if (work, p, False) in compared]
    bars = [b for b in bars if b[1]]
    top = max([max(b[1]) for b in bars] + [1])
    out = [f'<text x="{x}" y="{y + 14}" class="title">{WORKS[work]["title"]}</text>']
    for i, (p, values, held) in enumerate(bars):
        row = y + 24 + i * 20
        width = median(values) / top * 230
        low, high = (x + 100 + v / top * 230 for v in (min(values), max(values)))
        out.append(f'<text x="{x + 94}" y="{row + 11}" class="name">{PEERS[p]["title"]}</text>'
                   f'<rect x="{x + 100}" y="{row}" width="{width:.1f}" height="14" class="{"eda" if p == "eda" else "peer"}"/>'
                   f'<line x1="{low:.1f}" y1="{row + 7}" x2="{high:.1f}" y2="{row + 7}"/>'
                   + (f'<circle cx="{x + 100 + held / top * 230:.1f}" cy="{row + 7}" r="3"/>' if held else '') +
                   f'<text x="{x + 336}" y="{row + 11}">{rate(median(values))}</text>')
    return ''.join(out)


height = 40 + 24 + len(peers) * 20 + 16
svg = [f'<svg xmlns="http://www.w3.org/2000/svg" width="800" height="{44 + height * ((len(done) + 1) // 2)}" font-family="sans-serif" font-size="11">'
       '<style>.title{font-weight:bold}.name{text-anchor:end}.eda{fill:#2a6fb0}.peer{fill:#b8bfc6}line{stroke:#222}circle{fill:#d1495b}</style>'
       '<rect width="100%" height="100%" fill="white"/>'
       '<text x="16" y="24" font-size="14" class="title">Jobs a second (line: minimum to maximum; dot: under a snapshot held open)</text>']
svg += [panel(w, 16 + i % 2 * 392, 44 + i // 2 * height) for i, w in enumerate(done)]
with open(f'{OUT}/chart.svg', 'w') as f:
    f.write('\n'.join(svg) + '\n</svg>\n')
with open(f'{OUT}/table.md', 'w') as f:
    f.write('\n'.join(lines) + '\n')
print('\n'.join(lines))
print(f'\n{OUT}/table.md, chart.svg, results.jsonl')
