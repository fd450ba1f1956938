# The leader of a stream with three replicas is killed under load and started again: every event ends and has its effect once.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
for my $version (EdaNats::versions())
{
	my @nats = EdaNats->start_cluster("trio_$version", version => $version);
	my %by_name = map { $_->{name} => $_ } @nats;
	my $server = EdaServer->start_new("cluster_$version", conf => "eda.nats_url = '@{[join ',', map { $_->url } @nats]}'\neda.nats_replicas = 3\n");
	EdaBroker::set_up($server, 'postgres', lease => "'4 s'", dispatch_timeout => "'5 s'");
	EdaBroker::becomes($server, 'ready', "$version: the broker is ready with a cluster");
	is($nats[0]->stream_info->{config}{num_replicas}, 3, "$version: the stream is on three servers");

	# The server that leads the stream, asked of the first server that answers
	my $leader = sub {
		for my $nats (grep { $_->{pid} } @nats)
		{
			my $info = eval { $nats->client->api('STREAM.INFO.EDA', undef, 2) };
			my $name = $info && $info->{cluster} && $info->{cluster}{leader};
			return $by_name{$name} if $name && $by_name{$name}{pid};
		}
		return;
	};
	my @workers = map { $nats[0]->worker($server, brokers => \@nats, fail => 0.05) } 1 .. 2;
	for my $round (1 .. 2)
	{
		my $publisher = $server->client('postgres', "SELECT eda.publish('T', 'round $round');\n" x 1000);
		$server->ask("SELECT test.publish('T', 'batch $round', 1000)");
		$server->poll_query_until('postgres', "SELECT count(*) > 100 * $round FROM test.effect");
		my $victim;
		EdaNats::becomes(sub { $victim = $leader->() }, "$version, round $round: there is a leader");
		$victim->kill9;
		$publisher->finish;
		EdaNats::becomes(sub { $leader->() }, "$version, round $round: there is another leader");
		EdaBroker::becomes($server, 'ready', "$version, round $round: the broker is ready with two of three servers");
		$victim->start;
	}
	EdaBroker::all_end($server, "$version: every event ends");
	is($server->ask('SELECT count(*) FROM test.effect'), '4000', "$version: each event had its effect once");
	my @messages;
	EdaNats::becomes(sub { @messages = $leader->()->messages; 1 }, "$version: the stream can be read"); # there may be no leader for a moment
	my %events = map { $_->{body} =~ /"id":\s*"([0-9a-f-]{36})"/ ? ($1 => 1) : () } @messages;
	is(scalar(keys %events), 4000, "$version: every event has a message in the stream");

	# Without a majority of its servers the stream takes no message; with a majority it does again.
	$_->kill9 for @nats[ 0, 1 ];
	$server->ask("SELECT test.publish('T', 'minority', 300)");
	$server->becomes("SELECT broker NOT IN ('ready', 'off') FROM eda.engine_status", "$version: with one of three servers the broker is not ready");
	$_->launch for @nats[ 0, 1 ];
	$_->await for @nats;
	$server->becomes("SELECT count(*) = 300 FROM eda.event_state WHERE flow_id LIKE 'minority %' AND state = 'succeeded'", "$version: with three servers again all events succeed");
	$_->stop for @workers;
	EdaBroker::all_end($server, "$version: no event is left");
	$_->stop for @nats;
	$server->ends_well;
	$server->stop;
}
EdaNats::Worker::all_did_well();

done_testing();
