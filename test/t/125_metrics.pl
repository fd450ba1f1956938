# The metrics for Prometheus agree with the log: every kind of step is counted once, every
# attempt is timed, and no counter decreases.
use strict;
use warnings;
use EdaServer;
use IPC::Run;
use Test::More;

my $promtool = $ENV{EDA_PROMTOOL} or die "EDA_PROMTOOL is not set";
my $server = EdaServer->start_new('metrics');
$server->set_up('postgres', max_attempts => 3, on_fail_event_type => "''");
$server->ask("SELECT FROM eda.configure('SHORT', 'short', lifespan => '1 hour', max_attempts => 1, attempt_delays => '{0 s}', lease => '10 min');
	SELECT FROM eda.configure('LAST', 'last', max_attempts => 1, attempt_delays => '{0 s}', lease => '1 hour')");

# test.recount() compares the counters with the log, from a transaction on.
$server->ask(<<'SQL');
CREATE FUNCTION test.recount(from_xid bigint DEFAULT 0, OUT event_type text, OUT counted text, OUT recounted text)
RETURNS SETOF record LANGUAGE sql VOLATILE AS $$
	WITH life AS MATERIALIZED (
		SELECT t.*,
			max(t.at) FILTER (WHERE t.state = 'being_processed' AND t.prev_state = 'dispatched') OVER w AS acquired_at,
			-- the last time that it began to wait, but not for having come back from a worker
			max(t.version) FILTER (WHERE t.state = 'awaiting_processing' AND t.prev_state IS DISTINCT FROM 'dispatched') OVER w AS due_version
		FROM eda.transition t WINDOW w AS (PARTITION BY t.event_id ORDER BY t.version)
	), log AS MATERIALIZED (
		SELECT l.*, due.wake_at AS due_at
		FROM life l JOIN life due ON due.event_id = l.event_id AND due.version = l.due_version
		WHERE l.xid >= from_xid
	), recount AS (
		SELECT et.id, et.event_type, concat_ws(' ',
			(SELECT array_agg((SELECT count(*) FROM log WHERE log.type = et.id AND log.state = s.state) ORDER BY s.state)
			 FROM unnest(enum_range(NULL::eda.state)) s(state)),
			'attempts', count(*) FILTER (WHERE t.prev_state = 'dispatched' AND t.state = 'being_processed'),
			'retries', count(*) FILTER (WHERE t.prev_state = 'being_processed' AND t.state = 'awaiting_processing' AND t.detail ? 'error'),
			'rescues', count(*) FILTER (WHERE t.prev_state = 'being_processed' AND t.worker = 'engine'),
			'redrives', count(*) FILTER (WHERE t.prev_state IN ('failed', 'expired')),
			'due to acquired', count(*) FILTER (WHERE t.prev_state = 'dispatched' AND t.state = 'being_processed'),
			coalesce(sum(extract(epoch FROM t.at - t.due_at)) FILTER (WHERE t.prev_state = 'dispatched' AND t.state = 'being_processed'), 0)::float8,
			'acquired to done', count(*) FILTER (WHERE t.prev_state = 'being_processed' AND t.state <> 'being_processed'),
			coalesce(sum(extract(epoch FROM t.at - t.acquired_at)) FILTER (WHERE t.prev_state = 'being_processed' AND t.state <> 'being_processed'), 0)::float8)
			AS is
		FROM eda.event_type et LEFT JOIN log t ON t.type = et.id GROUP BY et.id
	)
	SELECT r.event_type, concat_ws(' ', c.transitions, 'attempts', c.attempts, 'retries', c.retries, 'rescues', c.rescues,
		'redrives', c.redrives, 'due to acquired', c.due_to_acquired[18], c.due_to_acquired_sum,
		'acquired to done', c.acquired_to_done[18], c.acquired_to_done_sum), r.is
	FROM recount r LEFT JOIN eda.type_counters() c ON c.type = r.id;
$$;
CREATE FUNCTION test.acquired(flow_type text) RETURNS uuid LANGUAGE sql VOLATILE AS $$
	SELECT event_id FROM eda.acquire_next(flow_type, 1, '30 s');
$$;
SQL

sub counters_agree
{
	my ($name, $from) = @_;
	$from ||= 0;
	$server->becomes("SELECT bool_and(counted = recounted) FROM test.recount($from)", $name)
	  or diag($server->ask("SELECT * FROM test.recount($from)"));
	return;
}

# Get the metrics: the text, and a hash of the samples by name and labels.
sub scrape
{
	my ($db) = @_;
	my $text = $server->ask('SELECT eda_http.metrics()', $db) . "\n";
	my %sample = $text =~ /^([^#\s]\S*) (\S+)$/mg;
	return ($text, \%sample);
}

sub passes_promtool
{
	my ($text, $name) = @_;
	my ($out, $err) = ('', '');
	ok(IPC::Run::run([ $promtool, 'check', 'metrics' ], '<', \$text, '>', \$out, '2>', \$err), $name);
	is("$out$err", '', "$name: not even a remark");
	return;
}

# Test that no counter has decreased between two scrapes.  Returns the number of counters.
sub never_less
{
	my ($old, $new, $name) = @_;
	my @counters = grep { /_(total|bucket|count|sum)\b/ } keys %$old;
	is(join(', ', grep { !defined $new->{$_} || $new->{$_} < $old->{$_} } @counters), '', $name);
	return scalar @counters;
}

sub sample
{
	my ($name, $type, @labels) = @_;
	my ($flow) = { T => 'flow', SHORT => 'short', LAST => 'last' }->{$type};
	my (undef, $all) = scrape();
	return $all->{ $name . '{' . join(',', "flow_type=\"$flow\"", "event_type=\"$type\"", @labels) . '}' };
}

my ($text, $first) = scrape();
passes_promtool($text, 'an idle system');
is($first->{eda_engine_up}, 1, 'the engine is up');

# ------------------------------------------------------------------------
# Every kind of step
# ------------------------------------------------------------------------

my $stack = join '', map { chr(97 + int rand 26) } 1 .. 50_000;
$server->ask("SELECT test.publish('T', 'flow', 40)");
$server->ask("SELECT eda.succeed(test.acquired('flow')) FROM generate_series(1, 8)");
$server->ask("SELECT eda.fail(test.acquired('flow'), 'bad luck', retry_in => '1 day')");
$server->ask("SELECT eda.fail(test.acquired('flow'), 'bad luck', '$stack', retry_in => '1 day')");
$server->ask("SELECT eda.fail(test.acquired('flow'), 'for good', retry => false)");
$server->ask("SELECT eda.release(test.acquired('flow'), retry_in => '1 day')");
$server->ask("SELECT eda.release(test.acquired('flow'), retry_in => '1 day', reason => 'not mine')");
$server->ask("SELECT eda.suspend(test.acquired('flow'))");
$server->ask("SELECT eda.resume(event_id) FROM eda.event_state WHERE state = 'suspended'");
$server->ask("SELECT eda.cancel(id) FROM eda.event_state WHERE state = 'dispatched' LIMIT 2");
$server->ask("SELECT eda.cancel(test.acquired('flow'))");
$server->ask("SELECT eda.suspend(id) FROM eda.event_state WHERE state = 'dispatched' LIMIT 2");
my ($held, $token) = split /\|/, $server->ask("SELECT event_id, token FROM eda.acquire_next('flow', 1, '30 s')");
$server->ask("SELECT eda.heartbeat('$held', $token) FROM generate_series(1, 5)");
counters_agree('success, failure, retry, release, suspension, cancel and heartbeats');
is(sample('eda_retries_total', 'T'), 2, 'a retry is one, with a stack trace or without; a release is none');
is(sample('eda_transitions_total', 'T', 'state="being_processed"'), sample('eda_attempts_total', 'T') + 5, 'heartbeats are transitions and no attempts');
is(sample('eda_events', 'T', 'state="canceled"'), 3, 'events by state');

# A worker rolls back its acquire.  The event counts as due since it was due for the first time.
my $back = $server->ask("BEGIN; SELECT test.acquired('flow'); ROLLBACK");
$server->becomes("SELECT state = 'dispatched' AND version > 2 FROM eda.event_state WHERE id = '$back'", 'an event comes back and is dispatched again');
$server->ask("SELECT eda.succeed(event_id, token) FROM eda.acquire('$back')");
counters_agree('an event that came back');

# The engine reads the end of an attempt before the acquire, because the transaction of the end
# has the lower xid.
my $pid = $server->engine_pid;
my $next = $server->ask("SELECT id FROM eda.event_state WHERE state = 'dispatched' LIMIT 1");
my $old_one = $server->background_psql('postgres');
$old_one->query_safe('BEGIN; SELECT pg_current_xact_id()');
$server->poll_query_until('postgres', "SELECT wait_event_type = 'Extension' FROM pg_stat_activity WHERE pid = $pid");
kill 'STOP', $pid;
my $its_token = $server->ask("SELECT token FROM eda.acquire('$next')");
$old_one->query_safe("SELECT eda.succeed('$next', $its_token); COMMIT");
$old_one->quit;
kill 'CONT', $pid;
counters_agree('an end read before its acquire');

# The clock is moved, so the times are known: an attempt of 6 min, a wait of 20 min, leases
# that run out, and an event that expires with its attempt.
my @before = map { sample('eda_acquired_to_done_seconds_bucket', 'T', "le=\"$_\"") } qw(300 1800);
$server->ask("SELECT eda.move_clock('6 min')");
$server->ask("SELECT eda.succeed('$held', $token)");
counters_agree('six minutes of work');
is(sample('eda_acquired_to_done_seconds_bucket', 'T', 'le="300"') - $before[0], 0, 'are more than five');
is(sample('eda_acquired_to_done_seconds_bucket', 'T', 'le="1800"') - $before[1], 1, 'and no more than thirty');
$server->ask("SELECT eda.publish('LAST', 'waits')");
$server->becomes("SELECT queued >= 1 FROM eda.engine_status WHERE EXISTS (SELECT FROM eda.event_state WHERE flow_id = 'waits' AND state = 'dispatched')", 'one waits');
$server->ask("SELECT eda.move_clock('26 min')");
my $lost = $server->ask("SELECT test.acquired('last')");
counters_agree('twenty minutes of waiting');
is(sample('eda_due_to_acquired_seconds_bucket', 'LAST', 'le="300"'), 0, 'are more than five');
is(sample('eda_due_to_acquired_seconds_bucket', 'LAST', 'le="1800"'), 1, 'and no more than thirty');
$server->ask("SELECT event_id FROM eda.acquire_next('flow', 2, lease => '1 hour')");
$server->ask("SELECT test.publish('SHORT', 'short', 3)");
$server->ask("SELECT test.acquired('short')");
$server->becomes("SELECT count(*) = 2 FROM eda.event_state WHERE event_type = 'SHORT' AND state = 'dispatched'", 'two are to expire');
$server->ask("SELECT eda.move_clock('3 hours')");
$server->becomes("SELECT state = 'failed' FROM eda.event_state WHERE id = '$lost'", 'a lost lease was the last');
counters_agree('leases that ran out, and events that expired');
is(sample('eda_rescues_total', 'T'), 2, 'two were rescued');
is(sample('eda_rescues_total', 'LAST'), 1, 'one more, and failed');
is(sample('eda_retries_total', 'LAST'), 0, 'which is no retry');
is(sample('eda_expiries_total', 'SHORT'), 2, 'two expired');
$server->ask("SELECT eda.redrive(id, 'again') FROM eda.event_state WHERE state IN ('failed', 'expired')");
counters_agree('dead letters are redriven');
is(sample('eda_redrives_total', 'SHORT') + sample('eda_redrives_total', 'LAST') + sample('eda_redrives_total', 'T'), 5, 'each of them');
my $age = sample('eda_oldest_due_age_seconds', 'T');
cmp_ok($age, '>', 3 * 3600 - 120, 'the oldest due event has waited for hours');
$server->ask("SELECT eda.suspend_event_type('T')");
$server->becomes('SELECT suspended FROM eda.event_type WHERE event_type = \'T\'', 'a type is suspended');
is(sample('eda_event_type_suspended', 'T'), 1, 'and shown so');
$server->ask("SELECT eda.unsuspend_event_type('T')");
$server->ask("SELECT eda.move_clock('5 days')");
$server->becomes("SELECT count(*) = 0 FROM eda.event_state WHERE state = 'being_processed' OR suspended_by = 'type'", 'nobody has an event any more');
$server->ask("SELECT eda.cancel(id) FROM eda.event_state WHERE state IN ('awaiting_processing', 'dispatched', 'suspended') AND (flow_type <> 'flow' OR state = 'suspended')");
$server->work_off('postgres');
counters_agree('all is worked off');
$server->ask("SELECT eda.configure('LAST', priority => 9)");
counters_agree('types in another order');
($text) = scrape();
passes_promtool($text, 'after all that');

# ------------------------------------------------------------------------
# Counters never decrease
# ------------------------------------------------------------------------

# The engine remembers since when an event is due if there is room in its set of four places, of
# which there are 4096.  With few events dispatched ahead there is.
$server->ask('ALTER SYSTEM SET eda.ready_window = 50');
$server->reload;
my $id = $server->ask("SELECT eda.publish('T', 'long')");
$token = $server->ask("SELECT token FROM eda.acquire_next('flow', 1, '30 s')");
my $worker = $server->client('postgres', "SELECT test.publish('T', 'flow', 300); CALL test.work('flow', 270, 0.2, 7);\n" x 20);
my $scrapes = 0;
while ($worker->pumpable)
{
	my (undef, $then) = scrape();
	$server->ask("SELECT eda.heartbeat('$id', $token)");
	my (undef, $now) = scrape();
	$scrapes++;
	last unless never_less($then, $now, "scrape $scrapes: no counter is less than before");
}
$worker->finish;
cmp_ok($scrapes, '>', 1, 'it was scraped while it worked');
$server->ask("SELECT eda.succeed('$id', $token)");
$server->work_off('postgres');
counters_agree('6000 events in the meantime');

# ------------------------------------------------------------------------
# A new engine begins at zero
# ------------------------------------------------------------------------

my $xid = $server->ask('SELECT max(xid) FROM eda.transition');
$server->becomes("SELECT pg_snapshot_xmin(tail)::text::bigint > $xid FROM eda.engine_state", 'the engine saves what it has read');
$server->ask('CHECKPOINT'); # the engine's own commits are asynchronous
my $from = $server->ask('SELECT pg_current_xact_id()');
my (undef, $old) = scrape();
$pid = $server->engine_pid;
kill 'KILL', $pid;
$server->another_runs($pid);
$server->becomes("SELECT eda_http.metrics() ~ 'eda_attempts_total'", 'a new engine has counters');
counters_agree('they begin at zero', $from);
$server->ask("SELECT test.publish('T', 'flow', 20)");
$server->work_off('postgres');
counters_agree('and count what comes', $from);
my (undef, $new) = scrape();
is(join(', ', grep { $_ !~ /^eda_(events|engine|queue|info)/ && $new->{$_} < 0 } keys %$new), '', 'nothing is negative');
cmp_ok($new->{eda_engine_start_time_seconds}, '>', $old->{eda_engine_start_time_seconds}, 'and when they began is told');

# The metrics show whether the engine is paused or off.
for my $mode ([ 'paused', 1, 1 ], [ 'off', 0, 0 ], [ 'on', 1, 0 ])
{
	my ($setting, $up, $paused) = @$mode;
	$server->ask("ALTER SYSTEM SET eda.engine = $setting");
	$server->reload;
	$server->becomes("SELECT eda_http.metrics() ~ E'\\neda_engine_up $up\\n(.*\\n){2}eda_engine_paused $paused\\n'", "eda.engine = $setting: up is $up, paused $paused");
}
($text) = scrape();
passes_promtool($text, 'after a crash');

# A database whose name has to be escaped in labels.
my $odd = "an \"odd\\\" name";
$server->ask("CREATE DATABASE \"an \"\"odd\\\"\" name\"");
$server->ask('CREATE EXTENSION eda', $odd);
($text, my $there) = scrape($odd);
passes_promtool($text, 'a database with an odd name');
cmp_ok(index($text, q(eda_info{database="an \"odd\\\\\" name",)), '>', 0, 'its name is escaped');

# The alerts in docs/operations.md are valid PromQL, and the metrics that they use exist.
my @alerts = PostgreSQL::Test::Utils::slurp_file("$ENV{EDA_SOURCE}/docs/operations.md") =~ /^\| [^|`]+ \| `(.*\beda_.*)` \|$/mg;
cmp_ok(scalar @alerts, '>=', 8, 'there are alerts');
my $rules = PostgreSQL::Test::Utils::tempdir() . '/rules.yml';
my $n = 0;
PostgreSQL::Test::Utils::append_to_file($rules, join '', "groups:\n- name: eda\n  rules:\n",
	map { $n++; my $expr = s/\\\|/|/gr; "  - alert: Alert$n\n    expr: '$expr'\n" } @alerts);
my ($out, $err) = ('', '');
ok(IPC::Run::run([ $promtool, 'check', 'rules', $rules ], '>', \$out, '2>', \$err), 'promtool can read them') or diag("$out$err");
my %known = map { $_ => 1 } map { /^([a-z_]+)/ } keys %$new;
is(join(' ', grep { !$known{$_} } map { /\b(eda_\w+)/g } @alerts), '', 'what they look at is there');

# With the largest number of event types the metrics are there in 0.5 s, and no table of the log
# is read for them.
$server->ask("SELECT count(eda.configure('MANY_' || i, 'many_' || i % 20)) FROM generate_series(1, 250) i");
$server->becomes("SELECT eda_http.metrics() ~ 'event_type=\"MANY_250\"'", '250 more event types');
my ($ms) = sort { $a <=> $b } map { $server->ask("DO \$\$ BEGIN PERFORM set_config('test.began', clock_timestamp()::text, false); PERFORM eda_http.metrics(); END \$\$;
	SELECT 1000 * extract(epoch FROM clock_timestamp() - current_setting('test.began')::timestamptz)") } 1 .. 5;
note("metrics of 250 event types take $ms ms");
($text) = scrape();
passes_promtool($text, 'many event types');
my $scans = 'SELECT sum(coalesce(seq_scan, 0) + coalesce(idx_scan, 0)) FROM pg_stat_xact_user_tables WHERE schemaname = \'eda\' AND relname ~ \'^(event|transition)_\\d+$\'';
is($server->ask("BEGIN; SELECT length(eda_http.metrics()) > 0; $scans; COMMIT"), "t\n0", 'the log is not read for it');
$server->ends_well;

done_testing();
