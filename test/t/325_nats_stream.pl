# No event is lost or sent twice when the stream is deleted, when it is full, or when its server is stopped for a while.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->start_new('stream');
my $server = EdaServer->start_new('stream', conf => "eda.nats_url = '@{[$nats->url]}'\n");
EdaBroker::set_up($server, 'postgres', dispatch_timeout => "'10 min'", lease => "'5 s'");
EdaBroker::becomes($server, 'ready');

# The numbers at the end of the flow ids of a flow's messages, in the order of the stream.
sub numbers
{
	my ($flow) = @_;
	return map { $_->{body} =~ /"subject":\s*"\Q$flow\E (\d+)"/ ? $1 : () } $nats->messages;
}

# The stream is full.
$nats->api('STREAM.DELETE.EDA');
$nats->api('STREAM.CREATE.EDA', { name => 'EDA', subjects => ['event-engine.>'], storage => 'file', max_msgs => 200, discard => 'new' });
my $offset = -s $server->logfile;
$server->ask("SELECT test.publish('T', 'full', 700)");
EdaBroker::becomes($server, 'blocked', 'the broker is blocked when the stream is full');
like($server->ask('SELECT broker_error FROM eda.engine_status'), qr/maximum messages/, 'the status says why');
my @came;
for my $room (1 .. 4)
{
	EdaNats::becomes(sub { $nats->count == ($room < 4 ? 200 : 100) }, "full: the stream takes as many messages as it has room for ($room)");
	push @came, numbers('full');
	$nats->api('STREAM.PURGE.EDA');
}
is_deeply(\@came, [ 1 .. 700 ], 'full: after each purge it takes the next messages, in order, each once');
EdaBroker::becomes($server, 'ready', 'full: the broker is ready again');
cmp_ok(scalar(grep { /blocked/ } EdaBroker::log_lines($server, $offset)), '<=', 4, 'full: the log has at most one line for each time');
is($server->ask("SELECT count(*) FROM eda.transition WHERE version > 2"), '0', 'full: no event was dispatched twice');

# The stream is full again and again, and a worker makes room.
my $config = $nats->stream_info->{config};
$config->{retention} = 'workqueue';
$nats->api('STREAM.DELETE.EDA');
$nats->api('STREAM.CREATE.EDA', $config);
my $worker = $nats->worker($server);
$server->ask("SELECT test.publish('T', 'queue', 2000)");
$server->becomes("SELECT count(*) = 2000 FROM eda.event_state WHERE flow_id LIKE 'queue %' AND state = 'succeeded'", 'all events pass through a small stream that a worker empties');
$worker->stop;

# The stream is deleted while messages go out.
$offset = -s $server->logfile;
$server->ask("SELECT test.publish('T', 'gone', 150)");
EdaNats::becomes(sub { $nats->count == 150 }, 'deleted: messages arrive');
$nats->api('STREAM.DELETE.EDA');
$server->ask("SELECT test.publish('T', 'after', 3000)");
EdaNats::becomes(sub { $nats->count == 3000 }, 'deleted: the broker creates the stream again');
is_deeply([ numbers('after') ], [ 1 .. 3000 ], 'deleted: the new stream has its messages in order, each once');
is($nats->stream_info->{config}{storage}, 'file', 'deleted: the new stream is as the settings say');
$server->ask("SELECT test.publish('T', 'during', 4000)");
EdaNats::becomes(sub { $nats->count > 3000 }, 'deleted again: messages go out');
$nats->api('STREAM.DELETE.EDA');
$server->ask("SELECT test.publish('T', 'more', 10)");    # the other messages may all have been in the deleted stream
EdaNats::becomes(sub { $nats->count > 0 }, 'deleted again: the broker creates it again');
$server->becomes("SELECT broker = 'ready' AND broker_unacknowledged = 0 FROM eda.engine_status", 'deleted again: all messages are acknowledged');

# The server is stopped (SIGSTOP) while messages go out.
my $n = $nats->count;
$offset = -s $server->logfile;
$nats->hang;
$server->ask("SELECT test.publish('T', 'still', 3000)");
$server->becomes("SELECT broker IN ('blocked', 'unreachable') FROM eda.engine_status", 'the broker notices that the server is stopped');
note($server->ask('SELECT broker, broker_error, broker_unacknowledged FROM eda.engine_status'));
$nats->go_on;
EdaNats::becomes(sub { numbers('still') == 3000 }, 'when the server goes on, it takes all messages');
is_deeply([ numbers('still') ], [ 1 .. 3000 ], 'they are in order, each once');
EdaBroker::becomes($server, 'ready');
$nats->hang;
$server->ask("SELECT test.publish('T', 'short', 500)");
$nats->go_on;
EdaNats::becomes(sub { numbers('short') == 500 }, 'a server that was stopped for a moment takes all messages too');

# Events whose messages were lost with a stream are sent again after the dispatch timeout.
$worker = $nats->worker($server, fail => 0.02);
$server->ask("SELECT eda.move_clock('30 min')");
EdaBroker::all_end($server);
is($server->ask('SELECT count(*) FROM test.effect'), $server->ask('SELECT count(*) FROM eda.event'), 'each event had its effect once');
$worker->stop;
EdaNats::Worker::all_did_well();
$server->ends_well;

done_testing();
