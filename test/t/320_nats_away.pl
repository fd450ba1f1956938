# While the NATS server is away no event is dispatched and none is lost; when it is back events go out in order, each once.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->new('away');
my $server = EdaServer->start_new('away', conf => "eda.nats_url = '@{[$nats->url]}'\n");
EdaBroker::set_up($server, 'postgres', lease => "'5 s'", dispatch_timeout => "'1 hour'");

# Test that n messages are in the stream, and that those of this flow are in order, each once.
sub in_order
{
	my ($name, $flow, $n) = @_;
	EdaNats::becomes(sub { $nats->count >= $n }, "$name: all messages arrive");
	my @flows = map { $_->{body} =~ /"subject":\s*"\Q$flow\E (\d+)"/ ? $1 : () } $nats->messages;
	is_deeply(\@flows, [ 1 .. @flows ], "$name: they are in order, each once");
	return;
}

# The server is not running at the start.
EdaBroker::becomes($server, 'unreachable', 'there is no server at the start');
$server->ask("SELECT test.publish('T', 'start', 1000)");
is($server->ask("SELECT string_agg(DISTINCT state, ',') FROM eda.event_state"), 'awaiting_processing', 'events wait');
is($server->ask("SELECT broker_error <> '' AND broker_unacknowledged = 0 AND broker_published = 0 FROM eda.engine_status"), 't', 'the status says why');
$nats->start;
EdaBroker::becomes($server, 'ready', 'the server is started');
in_order('at the start', 'start', 1000);
$server->becomes("SELECT broker_published = 1000 AND broker_unacknowledged = 0 AND broker_reconnects = 0 AND broker_resent = 0 FROM eda.engine_status", 'the status counts the messages');
like(join("\n", EdaBroker::log_lines($server)), qr/\A.*broker unreachable:.*\n.*broker ready.*:$nats->{port}.*\z/, 'the log has one line for each change');
is($server->ask('SELECT last_error FROM eda.engine_status'), '', 'an unreachable broker is no error of the engine');

# The server is stopped and started again.
my $offset = -s $server->logfile;
$nats->stop;
EdaBroker::becomes($server, 'unreachable', 'the server is stopped');
$server->ask("SELECT test.publish('T', 'later', 1000)");
is($server->ask("SELECT count(*) FROM eda.event_state WHERE flow_id LIKE 'later %' AND state <> 'awaiting_processing'"), '0', 'events wait');
$nats->start;
EdaBroker::becomes($server, 'ready', 'the server is started again');
in_order('later', 'later', 2000);
$server->becomes('SELECT broker_reconnects = 1 AND broker_published = 2000 FROM eda.engine_status', 'the status counts the new connection');
like(join("\n", EdaBroker::log_lines($server, $offset)), qr/\A.*broker unreachable.*\n.*broker ready.*:$nats->{port}.* s\z/, 'the log has one line for each change');

# The server is stopped, and then killed, while messages go out.  No worker reads them, so that we
# can check the order.
for my $way (qw(stop kill9))
{
	$offset = -s $server->logfile;
	my $before = $nats->count;
	$server->ask("SELECT test.publish('T', '$way', 5000)");
	EdaNats::becomes(sub { $nats->count > $before }, "$way: messages arrive");
	$nats->$way;
	$nats->start;
	in_order($way, $way, $before + 5000);
	my %ids;
	$ids{ $_->{headers}{'Nats-Msg-Id'}[0] }++ for $nats->messages;
	is(scalar(grep { $_ > 1 } values %ids), 0, "$way: no message id is in the stream twice");
	cmp_ok(scalar EdaBroker::log_lines($server, $offset), '<=', 2, "$way: at most two lines in the log");
}
is($server->ask('SELECT count(*) FROM eda.transition WHERE version > 2'), '0', 'no event was dispatched twice');

# The server is killed at random moments while workers read messages.
my @workers = map { $nats->worker($server, fail => 0.05) } 1 .. 2;
$offset = -s $server->logfile;
for my $round (1 .. 4)
{
	my $publisher = $server->client('postgres', "SELECT eda.publish('T', 'random $round');\n" x 500);
	select undef, undef, undef, rand 0.6;
	$nats->kill9;
	select undef, undef, undef, rand 0.4;
	$nats->start;
	$publisher->finish;
}
$server->ask("SELECT eda.move_clock('3 hours')");
EdaBroker::all_end($server);
is($server->ask('SELECT count(*) FROM test.effect'), $server->ask('SELECT count(*) FROM eda.event'), 'each event had its effect once');
my @states = map { /broker (unreachable|ready)/ ? $1 : $_ } EdaBroker::log_lines($server, $offset);
is(scalar(grep { $states[$_] eq $states[ $_ - 1 ] } 1 .. $#states), 0, 'the log has lines for changes only') or diag(join "\n", EdaBroker::log_lines($server, $offset));
$_->stop for @workers;
EdaNats::Worker::all_did_well();
$server->ends_well;

done_testing();
