# The engine and workers are killed while messages go out: every event ends, has its effect once, and each message is a step of the log.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->start_new('killed');
my $server = EdaServer->start_new('killed', conf => "eda.nats_url = '@{[$nats->url]}'\n");
EdaBroker::set_up($server, 'postgres', lease => "'4 s'", dispatch_timeout => "'5 s'");
$server->ask("SELECT FROM eda.configure('ALARM', 'flow', delivery => 'nats', dispatch_timeout => '5 s');
	SELECT FROM eda.configure('T', max_attempts => 3, on_fail_event_type => 'ALARM')");
EdaBroker::becomes($server, 'ready');
my @workers = map { $nats->worker($server, fail => 0.1) } 1 .. 2;

for my $round (1 .. 5)
{
	my $publisher = $server->client('postgres', "SELECT eda.publish('T', 'flow');\n" x 1000);
	my $before = $server->ask('SELECT count(*) FROM test.effect');
	$server->ask("SELECT test.publish('T', 'many', 1000)");
	$server->poll_query_until('postgres', 'SELECT count(*) > ' . ($before + 50 * $round) . ' FROM test.effect');
	select undef, undef, undef, rand 0.2;
	my $pid = $server->engine_pid;
	is(kill('KILL', $pid), 1, "round $round: the engine is killed");
	if ($round % 2)
	{
		my $dead = shift @workers;
		$dead->kill9;
		push @workers, $nats->worker($server, fail => 0.1);
	}
	$publisher->finish;
	$server->another_runs($pid);
	pass("round $round: another engine runs");
	my @ids = $server->published_by($publisher);
	my $known = join ',', map { "'$_'" } @ids;
	is($server->ask("SELECT count(*) FROM eda.event WHERE id IN ($known)"), scalar @ids, "round $round: the log has all events that were confirmed to the publisher") if @ids;
}
EdaBroker::all_end($server);
is($server->ask("SELECT count(*) FROM eda.event_state s WHERE (state = 'succeeded') IS DISTINCT FROM EXISTS (SELECT FROM test.effect f WHERE f.event_id = s.id)"), '0',
	'the events that succeeded are those that had their effect');
is($server->ask("SELECT count(*) FROM eda.event_state s WHERE event_type = 'T' AND state = 'failed' AND NOT EXISTS (SELECT FROM eda.event e WHERE e.parent_id = s.id)"), '0',
	'each event that failed has its on-fail event');

# Every message in the stream is a step of the log, and no message is in the stream twice.
my @messages = $nats->messages;
my %ids;
$ids{ $_->{headers}{'Nats-Msg-Id'}[0] }++ for @messages;
is(scalar(grep { $_ > 1 } values %ids), 0, 'no message is in the stream twice');
my $steps = $server->ask("SELECT string_agg(event_id || '-' || version, ' ') FROM eda.transition WHERE state IN ('dispatched', 'failed', 'expired')");
my %steps = map { $_ => 1 } split / /, $steps;
is(scalar(grep { !$steps{$_} } keys %ids), 0, 'each message is a step of the log');
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine._DLQ.flow') == $server->ask("SELECT count(*) FROM eda.dead_letter") }, 'each dead letter arrived once')
  or diag($server->ask('SELECT count(*) FROM eda.dead_letter') . ' dead letters, ' . $nats->messages(subject => 'event-engine._DLQ.flow') . ' messages');
$_->stop for @workers;
EdaNats::Worker::all_did_well();
$server->ends_well;

done_testing();
