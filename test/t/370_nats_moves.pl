# Every event ends, although its type is suspended, it is canceled or redriven, or the delivery changes while it is under way.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->start_new('moves');
my $server = EdaServer->start_new('moves', conf => "eda.nats_url = '@{[$nats->url]}'\n");
EdaBroker::set_up($server, 'postgres', dispatch_timeout => "'5 s'", lease => "'5 s'");
EdaBroker::becomes($server, 'ready');

# A type is suspended that has messages in the stream and waiting events.
$server->ask("SELECT FROM eda.configure('T', max_dispatched => 500)");
$server->ask("SELECT test.publish('T', 'flow', 1000)");
EdaNats::becomes(sub { $nats->count >= 500 }, 'messages of half the events arrive');
$server->ask("SELECT eda.suspend_event_type('T')");
$server->ask("SELECT eda.publish('T', 'later')");
$server->becomes("SELECT count(*) = 1001 FROM eda.event_state WHERE state = 'suspended' AND suspended_by = 'type'", 'all events are suspended');
my $worker = $nats->worker($server, fail => 0.05);
EdaNats::becomes(sub { $nats->api('CONSUMER.INFO.EDA.worker')->{num_pending} == 0 && $nats->api('CONSUMER.INFO.EDA.worker')->{num_ack_pending} == 0 },
	'a worker reads all messages');
is($server->ask('SELECT count(*) FROM test.effect'), '0', 'and can acquire no event');
my $n = $nats->count;
$server->ask("SELECT eda.unsuspend_event_type('T')");
EdaBroker::all_end($server, 'unsuspended, every event ends');
cmp_ok($nats->count, '>', $n, 'new messages were sent for them');

# A type is suspended and unsuspended while events are published and processed.
my $publisher = $server->client('postgres', "SELECT eda.publish('T', 'moving');\n" x 1500);
for (1 .. 6)
{
	$server->ask("SELECT eda.suspend_event_type('T')");
	select undef, undef, undef, rand 0.1;
	$server->ask("SELECT eda.unsuspend_event_type('T')");
	select undef, undef, undef, rand 0.1;
}
$publisher->finish;
EdaBroker::all_end($server, 'suspended again and again, every event ends');
is($server->ask('SELECT count(*) FROM test.effect'), $server->ask('SELECT count(*) FROM eda.event'), 'each event had its effect once');
$worker->stop;

# The engine is paused.
EdaBroker::set($server, engine => 'paused');
$server->becomes("SELECT state = 'paused' FROM eda.engine_status", 'the engine pauses');
$n = $nats->count;
my $paused = $server->ask("SELECT eda.publish('T', 'paused')");
$server->becomes("SELECT events >= 1 FROM eda.queue_metrics WHERE event_type = 'T' AND state = 'awaiting_processing'", 'the engine has read an event');
is($nats->count, $n, 'and sends no message');
EdaBroker::set($server, engine => 'on');
EdaNats::becomes(sub { $nats->count > $n }, 'switched on again, it sends the message');
$server->ask("SELECT eda.cancel('$paused')");

# Events are canceled before their messages are sent, and when these wait for acknowledgements.
$nats->stop;
EdaBroker::becomes($server, 'unreachable');
my $early = $server->ask("SELECT eda.publish('T', 'early')");
my $left = $server->ask("SELECT eda.publish('T', 'left')");
$server->ask("SELECT eda.cancel('$early')");
$nats->start;
EdaNats::becomes(sub { grep { $_->{body} =~ /"id":\s*"$left"/ } $nats->messages }, 'of two events one was canceled while the server was away: the message of the other arrives');
is(scalar(grep { $_->{body} =~ /"id":\s*"$early"/ } $nats->messages), 0, 'the canceled event has no message');
$server->ask("SELECT eda.cancel('$left')");
is($server->ask("SELECT count(*) FROM eda.acquire('$left')"), '0', 'an event that is canceled after its message arrived cannot be acquired');
$nats->hang;
$server->ask("SELECT test.publish('T', 'hanging', 200)");
$server->becomes("SELECT count(*) > 0 FROM eda.event_state WHERE flow_id LIKE 'hanging %' AND state = 'dispatched'", 'events are dispatched to a stopped server');
$server->ask("SELECT eda.cancel(id) FROM eda.event_state WHERE flow_id LIKE 'hanging %'");
$nats->go_on;
$server->becomes("SELECT broker = 'ready' AND broker_unacknowledged = 0 FROM eda.engine_status", 'after they are canceled and the server goes on, no message waits');

# Events are redriven.
$server->ask("SELECT FROM eda.configure('ONCE', 'flow', delivery => 'nats', max_attempts => 1, dispatch_timeout => '5 s', lease => '5 s', attempt_delays => '{0 s}')");
$worker = $nats->worker($server, fail => 0.5);
$server->ask("SELECT test.publish('ONCE', 'once', 400)");
EdaBroker::all_end($server, 'every event ends, and about half of them fail');
cmp_ok($server->ask("SELECT count(*) FROM eda.dead_letter"), '>', 50, 'many are in eda.dead_letter');
for (1 .. 3)
{
	$server->ask("SELECT eda.redrive('ONCE')");
	EdaBroker::all_end($server, 'redriven, every event ends again');
}
$worker->stop;

# The delivery changes from nats to pull and back, while events are in every state.
$worker = $nats->worker($server, fail => 0.05);
my $puller = $server->client('postgres', "CALL test.work('flow', 100000, 0.05, 20);\n");
$publisher = $server->client('postgres', "SELECT eda.publish('T', 'switched');\n" x 2000);
for my $delivery (qw(pull nats pull nats pull nats))
{
	$server->ask("SELECT FROM eda.configure('T', delivery => '$delivery')");
	select undef, undef, undef, rand 0.4;
}
$publisher->finish;
EdaBroker::all_end($server, 'every event ends, whichever way it was delivered');
$puller->kill_kill;
$worker->stop;

# Events that were dispatched one way, with no worker there, are processed by workers of the other
# way.
$server->ask("SELECT test.publish('T', 'sent', 100)");
$server->becomes("SELECT count(*) = 100 FROM eda.event_state WHERE flow_id LIKE 'sent %' AND state = 'dispatched'", 'a hundred events are dispatched to the stream');
$server->ask("SELECT FROM eda.configure('T', delivery => 'pull')");
$server->ask("CALL test.work('flow', 100)");
is($server->ask("SELECT count(*) FROM eda.event_state WHERE flow_id LIKE 'sent %' AND state = 'succeeded'"), '100', 'a worker that pulls processes them');
$server->ask("SELECT test.publish('T', 'offered', 100)");
$server->becomes("SELECT count(*) > 0 FROM eda.event_state WHERE flow_id LIKE 'offered %' AND state = 'dispatched'", 'other events are dispatched to the queue');
$server->ask("SELECT FROM eda.configure('T', delivery => 'nats')");
$worker = $nats->worker($server);
EdaBroker::all_end($server, 'a worker that reads messages processes them');
is($server->ask("SELECT count(*) FROM eda.event_state s WHERE (state = 'succeeded') IS DISTINCT FROM EXISTS (SELECT FROM test.effect f WHERE f.event_id = s.id)"), '0',
	'the events that succeeded are those that had their effect');
$worker->stop;
EdaNats::Worker::all_did_well();
$server->ends_well;

done_testing();
