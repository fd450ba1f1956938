# Suspending a type, canceling, redriving and another way of delivery, with events on their way: all come to their end.
use strict;
use warnings;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->start_new('moves');
my $server = EdaServer->start_new('moves', conf => "eda.nats_url = '@{[$nats->url]}'\n");
EdaNats::set_up($server, 'postgres', dispatch_timeout => "'5 s'", lease => "'5 s'");
EdaNats::broker_becomes($server, 'ready');

# A suspended type, with messages in the stream and events that wait
$server->ask("SELECT FROM eda.configure('T', max_dispatched => 500)");
$server->ask("SELECT test.publish('T', 'flow', 1000)");
EdaNats::becomes(sub { $nats->count >= 500 }, 'half of the events are in the stream');
$server->ask("SELECT eda.suspend_event_type('T')");
$server->ask("SELECT eda.publish('T', 'later')");
$server->becomes("SELECT count(*) = 1001 FROM eda.event_state WHERE state = 'suspended' AND suspended_by = 'type'", 'suspended, all wait');
my $worker = $nats->worker($server, fail => 0.05);
EdaNats::becomes(sub { $nats->api('CONSUMER.INFO.EDA.worker')->{num_pending} == 0 && $nats->api('CONSUMER.INFO.EDA.worker')->{num_ack_pending} == 0 },
	'a worker reads what is in the stream');
is($server->ask('SELECT count(*) FROM test.effect'), '0', 'and gets none');
my $n = $nats->count;
$server->ask("SELECT eda.unsuspend_event_type('T')");
EdaNats::all_end($server, 'unsuspended, all go on, and end');
cmp_ok($nats->count, '>', $n, 'by new messages');

# Suspended and unsuspended while everything moves
my $publisher = $server->client('postgres', "SELECT eda.publish('T', 'moving');\n" x 1500);
for (1 .. 6)
{
	$server->ask("SELECT eda.suspend_event_type('T')");
	select undef, undef, undef, rand 0.1;
	$server->ask("SELECT eda.unsuspend_event_type('T')");
	select undef, undef, undef, rand 0.1;
}
$publisher->finish;
EdaNats::all_end($server, 'suspended again and again, all end');
is($server->ask('SELECT count(*) FROM test.effect'), $server->ask('SELECT count(*) FROM eda.event'), 'each event had its effect, once');
$worker->stop;

# The whole engine paused
EdaNats::set($server, engine => 'paused');
$server->becomes("SELECT state = 'paused' FROM eda.engine_status", 'the engine pauses');
$n = $nats->count;
my $paused = $server->ask("SELECT eda.publish('T', 'paused')");
$server->becomes("SELECT events >= 1 FROM eda.queue_metrics WHERE event_type = 'T' AND state = 'awaiting_processing'", 'it has seen an event');
is($nats->count, $n, 'and sends nothing');
EdaNats::set($server, engine => 'on');
EdaNats::becomes(sub { $nats->count == $n + 1 }, 'on again, it does');
$server->ask("SELECT eda.cancel('$paused')");

# Canceled: before it went out, and when its message was on its way
$nats->stop;
EdaNats::broker_becomes($server, 'unreachable');
my $early = $server->ask("SELECT eda.publish('T', 'early')");
my $left = $server->ask("SELECT eda.publish('T', 'left')");
$server->ask("SELECT eda.cancel('$early')");
$nats->start;
EdaNats::becomes(sub { grep { $_->{body} =~ /"id":\s*"$left"/ } $nats->messages }, 'without a broker one of two is canceled: the other goes out');
is(scalar(grep { $_->{body} =~ /"id":\s*"$early"/ } $nats->messages), 0, 'and the canceled one does not');
$server->ask("SELECT eda.cancel('$left')");
is($server->ask("SELECT count(*) FROM eda.acquire('$left')"), '0', 'canceled afterwards, its message is worth nothing');
$nats->hang;
$server->ask("SELECT test.publish('T', 'hanging', 200)");
$server->becomes("SELECT count(*) > 0 FROM eda.event_state WHERE flow_id LIKE 'hanging %' AND state = 'dispatched'", 'a server stands still');
$server->ask("SELECT eda.cancel(id) FROM eda.event_state WHERE flow_id LIKE 'hanging %'");
$nats->go_on;
$server->becomes("SELECT broker = 'ready' AND broker_unacknowledged = 0 FROM eda.engine_status", 'canceled on their way, nothing stays open');

# Redriven
$server->ask("SELECT FROM eda.configure('ONCE', 'flow', delivery => 'nats', max_attempts => 1, dispatch_timeout => '5 s', lease => '5 s', attempt_delays => '{0 s}')");
$worker = $nats->worker($server, fail => 0.5);
$server->ask("SELECT test.publish('ONCE', 'once', 400)");
EdaNats::all_end($server, 'half of them fail');
cmp_ok($server->ask("SELECT count(*) FROM eda.dead_letter"), '>', 50, 'many are dead letters');
for (1 .. 3)
{
	$server->ask("SELECT eda.redrive('ONCE')");
	EdaNats::all_end($server, 'redriven, all end again');
}
$worker->stop;

# From the broker to pulling and back, with events in every state on the way
$worker = $nats->worker($server, fail => 0.05);
my $puller = $server->client('postgres', "CALL test.work('flow', 100000, 0.05, 20);\n");
$publisher = $server->client('postgres', "SELECT eda.publish('T', 'switched');\n" x 2000);
for my $delivery (qw(pull nats pull nats pull nats))
{
	$server->ask("SELECT FROM eda.configure('T', delivery => '$delivery')");
	select undef, undef, undef, rand 0.4;
}
$publisher->finish;
EdaNats::all_end($server, 'whichever way they go, all end');
$puller->kill_kill;
$worker->stop;

# The same without anybody there: what is dispatched one way is taken the other.
$server->ask("SELECT test.publish('T', 'sent', 100)");
$server->becomes("SELECT count(*) = 100 FROM eda.event_state WHERE flow_id LIKE 'sent %' AND state = 'dispatched'", 'a hundred are in the stream');
$server->ask("SELECT FROM eda.configure('T', delivery => 'pull')");
$server->ask("CALL test.work('flow', 100)");
is($server->ask("SELECT count(*) FROM eda.event_state WHERE flow_id LIKE 'sent %' AND state = 'succeeded'"), '100', 'a worker that pulls takes them');
$server->ask("SELECT test.publish('T', 'offered', 100)");
$server->becomes("SELECT count(*) > 0 FROM eda.event_state WHERE flow_id LIKE 'offered %' AND state = 'dispatched'", 'others wait in the queue');
$server->ask("SELECT FROM eda.configure('T', delivery => 'nats')");
$worker = $nats->worker($server);
EdaNats::all_end($server, 'a worker of the broker takes them');
is($server->ask("SELECT count(*) FROM eda.event_state s WHERE (state = 'succeeded') IS DISTINCT FROM EXISTS (SELECT FROM test.effect f WHERE f.event_id = s.id)"), '0',
	'each that succeeded had its effect');
$worker->stop;
EdaNats::workers_did_well();
$server->ends_well;

done_testing();
