# When acknowledgements are lost, or the connection after messages have arrived, no event is lost and none is in the stream twice.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaNats::Proxy;
use EdaServer;
use Test::More;

EdaNats::needed();
my $server = EdaServer->start_new('lost');
EdaBroker::set_up($server, 'postgres', lease => "'5 s'");

for my $version (EdaNats::versions())
{
	my $nats = EdaNats->start_new("lost_$version", version => $version);
	my $proxy = EdaNats::Proxy->start($nats);
	my $total = 0;
	EdaBroker::set($server, nats_url => $proxy->url);
	EdaBroker::becomes($server, 'ready', "$version: the broker is ready through the proxy");

	# Test that n more messages arrive, those of this flow in order and once, and that all are
	# acknowledged.
	my $arrive = sub {
		my ($name, $flow, $n) = @_;
		$total += $n;
		EdaNats::becomes(sub { $nats->count >= $total }, "$version, $name: all messages arrive");
		$server->becomes("SELECT broker = 'ready' AND broker_unacknowledged = 0 FROM eda.engine_status", "$version, $name: all are acknowledged");
		my @numbers = map { $_->{body} =~ /"subject":\s*"\Q$flow\E (\d+)"/ ? $1 : () } $nats->messages;
		is_deeply(\@numbers, [ 1 .. $n ], "$version, $name: they are in order, each once");
	};

	# The broker sends the first message of a connection alone: have that behind us.
	$server->ask("SELECT test.publish('T', '$version first', 1)");
	$arrive->('first', "$version first", 1);

	# The proxy drops the server's answers for a while.
	$proxy->mode('deaf');
	$server->ask("SELECT test.publish('T', '$version deaf', 1000)");
	EdaNats::becomes(sub { $nats->count == 1001 }, "$version, deaf: the messages arrive");
	$server->becomes("SELECT broker = 'blocked' AND broker_unacknowledged > 0 FROM eda.engine_status", "$version, deaf: the broker notices that no acknowledgement comes");
	cmp_ok($proxy->mode('pass'), '>', 0, "$version, deaf: answers were lost");
	$arrive->('deaf', "$version deaf", 1000);
	cmp_ok($server->ask('SELECT broker_resent FROM eda.engine_status'), '>', 0, "$version, deaf: messages were sent again");

	# The proxy cuts connections while messages go out.
	my $publisher = $server->client('postgres', "SELECT test.publish('T', '$version cut', 4000)");
	for (1 .. 8)
	{
		my $before = $nats->count;
		EdaNats::becomes(sub { $nats->count > $before || $before >= $total + 4000 }, "$version, cut: messages go out");
		$proxy->mode('cut');
		select undef, undef, undef, rand 0.05;
	}
	$publisher->finish;
	$arrive->('cut', "$version cut", 4000);
	cmp_ok($server->ask('SELECT broker_reconnects FROM eda.engine_status'), '>', 0, "$version, cut: the broker connected again");

	# The proxy drops answers, and then cuts the connection.
	for my $round (1 .. 2)
	{
		my $before = $nats->count;
		$proxy->mode('deaf');
		$server->ask("SELECT test.publish('T', '$version both $round', 500)");
		EdaNats::becomes(sub { $nats->count > $before }, "$version, both: messages arrive, and their acknowledgements are lost");
		$proxy->mode('cut');
		$arrive->("both $round", "$version both $round", 500);
	}

	# The proxy passes nothing on in either direction.
	$proxy->mode('hang');
	$server->ask("SELECT test.publish('T', '$version hang', 2000)");
	$server->becomes("SELECT broker IN ('blocked', 'unreachable') FROM eda.engine_status", "$version, hang: the broker notices");
	$proxy->mode('pass');
	$arrive->('hang', "$version hang", 2000);

	my %ids;
	$ids{ $_->{headers}{'Nats-Msg-Id'}[0] }++ for $nats->messages;
	is(scalar(grep { $_ > 1 } values %ids), 0, "$version: no message id is in the stream twice");
	is($server->ask("SELECT count(*) FROM eda.transition WHERE version > 2 AND state = 'dispatched'"), '0', "$version: no event was dispatched twice");

	# A worker processes all events.
	my $worker = $nats->worker($server);
	EdaBroker::all_end($server, "$version: every event ends");
	$worker->stop;
	$proxy->stop;
	$nats->stop;
}
is($server->ask('SELECT count(*) FROM test.effect'), $server->ask('SELECT count(*) FROM eda.event'), 'each event had its effect once');
EdaNats::Worker::all_did_well();
$server->ends_well;

done_testing();
