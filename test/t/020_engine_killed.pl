# When the engine is killed, the server restarts its processes, and every event still comes to
# its end, once.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('killed');
$server->set_up('postgres');

for my $round (1 .. 3)
{
	my $publisher = $server->client('postgres', "SELECT eda.publish('T', 'flow');\n" x 3000);
	my $worker = $server->client('postgres', "CALL test.work('flow', 3000, 0.1, 10);\n");

	# The engine is killed while some events are done and many are not.
	$server->poll_query_until('postgres', 'SELECT count(*) > ' . (100 * $round) . ' FROM test.effect');
	my $pid = $server->engine_pid;
	is(kill('KILL', $pid), 1, "round $round: engine $pid is killed");
	$_->finish for $publisher, $worker;
	$server->another_runs($pid);
	pass("round $round: another engine runs");

	my @ids = $server->published_by($publisher);
	my $known = join ',', map { "'$_'" } @ids;
	is($server->ask("SELECT count(*) FROM eda.event WHERE id IN ($known)"), scalar @ids,
		"round $round: all that were confirmed to the publisher are there");
}

# When an administrator ends the engine or the launcher, it is started again, and the server
# stays up.
for my $process ('eda engine', 'eda launcher')
{
	my $pid = $server->engine_pid;
	my $started = $server->ask('SELECT pg_postmaster_start_time()');
	$server->ask("SELECT eda.publish('T', 'flow') FROM generate_series(1, 200)");
	is($server->ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type = '$process'"), '1', "$process is terminated");
	$server->ask("SELECT pg_terminate_backend($pid)") if $process eq 'eda launcher';
	$server->becomes("SELECT state = 'running' AND pid <> $pid FROM eda.engine_status", "$process: another engine runs");
}
$server->work_off('postgres');
is($server->ask('SELECT count(*) FROM test.effect'), $server->ask('SELECT count(*) FROM eda.event'),
	'each had its effect, once');
$server->ends_well;

done_testing();
