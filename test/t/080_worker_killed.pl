# When a worker is killed in an attempt, its lease runs out, and the event is retried or fails
# by its rules.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('worker');
$server->set_up('postgres', max_attempts => 2, attempt_delays => "'{0 s, 5 min}'", lease => "'1 hour'");
$server->ask("SELECT FROM eda.configure('ALARM', 'alarms'); SELECT FROM eda.configure('T', on_fail_event_type => 'ALARM')");

# A worker acquires an event and commits, and its process is killed.
sub take_and_die
{
	my $worker = $server->background_psql('postgres');
	my $got = $worker->query_safe("SELECT event_id || ' ' || token FROM eda.acquire_next('flow', 1, '60 s')");
	kill 'KILL', $worker->{run}->{KIDS}[0]->{PID};
	eval { $worker->{run}->finish };
	return split / /, $got;
}

my $id = $server->ask("SELECT eda.publish('T', 'ride 1', '{\"a\": 1}')");
my ($got, $token) = take_and_die();
is($got, $id, 'a worker has it, and dies');
is($server->ask("SELECT state FROM eda.event_state WHERE id = '$id'"), 'being_processed', 'its lease stands');
$server->ask("SELECT eda.move_clock('30 min')");
is($server->ask("SELECT state FROM eda.event_state WHERE id = '$id'"), 'being_processed', 'until it runs out');
$server->ask("SELECT eda.move_clock('2 hours')");
$server->becomes("SELECT state = 'awaiting_processing' FROM eda.event_state WHERE id = '$id'", 'then the engine takes it away');
is($server->ask("SELECT (error = 'lease ran out' AND detail ->> 'reason' LIKE 'at %, held by %') || ', by ' || worker || ', attempts left ' || attempts_left FROM eda.event_state WHERE id = '$id'"),
	'true, by engine, attempts left 1', 'the attempt counts, with an error');
like($server->refusal("SELECT eda.succeed('$id', $token)"), qr/ED002/, 'the dead worker, were it alive, is told that its token is stale');
is($server->ask("SELECT wake_at - at = '5 min' FROM eda.transition WHERE event_id = '$id' ORDER BY version DESC LIMIT 1"), 't',
	'the next attempt starts after the delay of the rules');

$server->ask("SELECT eda.move_clock('3 hours')");
($got, my $second) = take_and_die();
is($got, $id, 'another worker has it, and dies');
isnt($second, $token, 'with a token of its own');
$server->ask("SELECT eda.move_clock('5 hours')");
$server->becomes("SELECT state = 'failed' FROM eda.event_state WHERE id = '$id'", 'no attempt is left: it fails');
is($server->ask("SELECT event_type || ' ' || flow_id || ' ' || (payload ->> 'failed_event_id' = '$id') || ' ' || (payload ->> 'error' = 'lease ran out')
	FROM eda.event WHERE parent_id = '$id'"), 'ALARM ride 1 true true', 'its on-fail event is published');
is($server->ask("SELECT count(*) FROM eda.dead_letter WHERE id = '$id'"), '1', 'it is a dead letter');

# A worker is killed before it commits its acquire.  The event is dispatched again, and no
# attempt is used up.
$id = $server->ask("SELECT eda.publish('T', 'ride 2')");
my $worker = $server->background_psql('postgres');
is($worker->query_safe("BEGIN; SELECT event_id FROM eda.acquire_next('flow', 1, '60 s')"), $id, 'a worker takes one and does not commit');
kill 'KILL', $worker->{run}->{KIDS}[0]->{PID};
eval { $worker->{run}->finish };
is($server->ask("SELECT event_id || ' ' || attempt FROM eda.acquire_next('flow', 1, '60 s')"), "$id 1", 'killed, the event is the next one\'s, at its first attempt');

# An administrator ends the backend of a worker that is in a transaction.
$id = $server->ask("SELECT eda.publish('T', 'ride 3')");
$worker = $server->background_psql('postgres', on_error_stop => 0);
$worker->query("BEGIN; SELECT event_id FROM eda.acquire_next('flow', 1, '60 s'); SELECT eda.succeed('$id')");
$server->ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'idle in transaction'");
eval { $worker->{run}->finish };
is($server->ask("SELECT event_id || ' ' || attempt FROM eda.acquire_next('flow', 1, '60 s')"), "$id 1", 'what it had done in it never happened');

# Workers are killed while they wait for events.  Their backends must not acquire one, because
# nobody would ever work on it.
my @waiting = map { $server->client('postgres', "SELECT * FROM eda.acquire_next('flow', 1, '60 s')") } 1 .. 5;
$server->becomes('SELECT waiting_workers FROM eda.engine_status', 'five workers wait for work', is => '5');
$_->kill_kill for @waiting;
$id = $server->ask("SELECT eda.publish('T', 'ride 4')");
is($server->ask("SELECT event_id || ' ' || attempt FROM eda.acquire_next('flow', 1, '60 s')"), "$id 1", 'killed while they waited, none of them takes an event away');
$server->becomes('SELECT waiting_workers FROM eda.engine_status', 'nor are they counted any more', is => '0');
$server->ends_well;

done_testing();
