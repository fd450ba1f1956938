# After an immediate stop of the server under load, no event is lost and none is worked on
# twice.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('stopped');
$server->set_up('postgres');

for my $round (1 .. 4)
{
	my @publishers = map { $server->client('postgres', "SELECT eda.publish('T', 'flow $_');\n" x 4000) } 1 .. 2;
	my @workers = map { $server->client('postgres', "CALL test.work('flow', 4000, 0.05, 20);\n") } 1 .. 2;

	# Publish with idempotency keys.  After the stop the same keys must give the same events.
	$server->ask("SELECT eda.publish('T', 'keyed', idempotency_key => 'key ' || n) FROM generate_series(1, 20) n");
	my $before = $server->ask('SELECT count(*) FROM test.effect');
	$server->poll_query_until('postgres', "SELECT count(*) > $before + 300 FROM test.effect");
	$server->stop($round % 2 ? 'immediate' : 'fast');
	$_->finish for @publishers, @workers;
	$server->start;

	my @ids = $server->published_by(@publishers);
	my $known = join ',', map { "'$_'" } @ids;
	is($server->ask("SELECT count(*) FROM eda.event WHERE id IN ($known)"), scalar @ids,
		"round $round: all @{[scalar @ids]} that were confirmed to a publisher are there");
}
$server->runs;
$server->work_off('postgres');
is($server->ask("SELECT count(*) FROM eda.event WHERE flow_id = 'keyed'"), '20', 'keys hold across stops');
is($server->ask('SELECT count(*) FROM test.effect'), $server->ask('SELECT count(*) FROM eda.event'),
	'each event had its effect, once');
$server->ends_well;

done_testing();
