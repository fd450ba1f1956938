# A stream that is deleted, full, or on a server that stands still loses no event and sends none twice.
use strict;
use warnings;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->start_new('stream');
my $server = EdaServer->start_new('stream', conf => "eda.nats_url = '@{[$nats->url]}'\n");
EdaNats::set_up($server, 'postgres', dispatch_timeout => "'10 min'", lease => "'5 s'");
EdaNats::broker_becomes($server, 'ready');

# The number at the end of each message's flow id, for those of a flow
sub numbers
{
	my ($flow) = @_;
	return map { $_->{body} =~ /"subject":\s*"\Q$flow\E (\d+)"/ ? $1 : () } $nats->messages;
}

# Full
$nats->api('STREAM.DELETE.EDA');
$nats->api('STREAM.CREATE.EDA', { name => 'EDA', subjects => ['event-engine.>'], storage => 'file', max_msgs => 200, discard => 'new' });
my $offset = -s $server->logfile;
$server->ask("SELECT test.publish('T', 'full', 700)");
EdaNats::broker_becomes($server, 'blocked', 'a full stream blocks');
like($server->ask('SELECT broker_error FROM eda.engine_status'), qr/maximum messages/, 'the status says why');
my @came;
for my $room (1 .. 4)
{
	EdaNats::becomes(sub { $nats->count == ($room < 4 ? 200 : 100) }, "full: as many as there is room for ($room)");
	push @came, numbers('full');
	$nats->api('STREAM.PURGE.EDA');
}
is_deeply(\@came, [ 1 .. 700 ], 'full: purged, it takes the next, in order, each once');
EdaNats::broker_becomes($server, 'ready', 'full: and is ready again');
cmp_ok(scalar(grep { /blocked/ } EdaNats::log_lines($server, $offset)), '<=', 4, 'full: the log has a line for each time at most');
is($server->ask("SELECT count(*) FROM eda.transition WHERE version > 2"), '0', 'full: none was dispatched again');

# Full in the middle of work: a worker makes room.
my $config = $nats->stream_info->{config};
$config->{retention} = 'workqueue';
$nats->api('STREAM.DELETE.EDA');
$nats->api('STREAM.CREATE.EDA', $config);
my $worker = $nats->worker($server);
$server->ask("SELECT test.publish('T', 'queue', 2000)");
$server->becomes("SELECT count(*) = 2000 FROM eda.event_state WHERE flow_id LIKE 'queue %' AND state = 'succeeded'", 'a small stream that a worker empties lets all through');
$worker->stop;

# Deleted while messages go out
$offset = -s $server->logfile;
$server->ask("SELECT test.publish('T', 'gone', 150)");
EdaNats::becomes(sub { $nats->count == 150 }, 'deleted: messages come');
$nats->api('STREAM.DELETE.EDA');
$server->ask("SELECT test.publish('T', 'after', 3000)");
EdaNats::becomes(sub { $nats->count == 3000 }, 'deleted: the stream is made again');
is_deeply([ numbers('after') ], [ 1 .. 3000 ], 'deleted: what comes then is in order, each once');
is($nats->stream_info->{config}{storage}, 'file', 'deleted: as the settings say');
$server->ask("SELECT test.publish('T', 'during', 4000)");
EdaNats::becomes(sub { $nats->count > 3000 }, 'deleted again, while messages go out');
$nats->api('STREAM.DELETE.EDA');
$server->ask("SELECT test.publish('T', 'more', 10)");    # they may all have been out already
EdaNats::becomes(sub { $nats->count > 0 }, 'deleted again: it is made again');
$server->becomes("SELECT broker = 'ready' AND broker_unacknowledged = 0 FROM eda.engine_status", 'deleted again: all is acknowledged');

# Standing still
my $n = $nats->count;
$offset = -s $server->logfile;
$nats->hang;
$server->ask("SELECT test.publish('T', 'still', 3000)");
$server->becomes("SELECT broker IN ('blocked', 'unreachable') FROM eda.engine_status", 'a server that stands still is noticed');
note($server->ask('SELECT broker, broker_error, broker_unacknowledged FROM eda.engine_status'));
$nats->go_on;
EdaNats::becomes(sub { numbers('still') == 3000 }, 'going on, it takes all');
is_deeply([ numbers('still') ], [ 1 .. 3000 ], 'in order, each once');
EdaNats::broker_becomes($server, 'ready');
$nats->hang;
$server->ask("SELECT test.publish('T', 'short', 500)");
$nats->go_on;
EdaNats::becomes(sub { numbers('short') == 500 }, 'one that stood still for a moment too');

# What was in the stream and not taken comes again.
$worker = $nats->worker($server, fail => 0.02);
$server->ask("SELECT eda.move_clock('30 min')");
EdaNats::all_end($server);
is($server->ask('SELECT count(*) FROM test.effect'), $server->ask('SELECT count(*) FROM eda.event'), 'each event had its effect, once');
$worker->stop;
EdaNats::workers_did_well();
$server->ends_well;

done_testing();
