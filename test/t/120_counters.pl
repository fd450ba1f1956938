# After a restart, a crash of the engine and a crash of the server, the counters are the same as
# a recount of the log.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('counters');
$server->set_up('postgres', max_attempts => 2, on_fail_event_type => "''");
$server->ask("SELECT FROM eda.configure('LATER', 'flow')");

sub load
{
	$server->ask("SELECT test.publish('T', 'flow', 400);
		SELECT test.publish('LATER', 'flow', 50, eda.clock() + '1 day');
		SELECT count(eda.cancel(id)) FROM (SELECT id FROM eda.event_state WHERE event_type = 'LATER' AND state = 'awaiting_processing' LIMIT 10) c;
		SELECT count(eda.suspend(id)) FROM (SELECT id FROM eda.event_state WHERE event_type = 'LATER' AND state = 'awaiting_processing' LIMIT 10) c;
		CALL test.work('flow', 250, 0.3)");
}

load();
$server->becomes('SELECT NOT EXISTS (SELECT FROM test.miscount())', 'while it runs');
# The rates are counted in steps of five seconds.
is($server->ask("SELECT r.n BETWEEN count(*) FILTER (WHERE t.at > eda.clock() - interval '50 s') AND count(*) FILTER (WHERE t.at > eda.clock() - interval '70 s')
	FROM (SELECT sum(last_minute) AS n FROM eda.queue_metrics WHERE state = 'succeeded') r, eda.transition t WHERE t.state = 'succeeded' GROUP BY r.n"), 't',
	'rates count the last minute');
is($server->ask("SELECT count(*) FROM eda.queue_metrics WHERE oldest_due_age < '0 s' OR oldest_due_age > '1 hour'"), '0', 'ages are sensible');

for my $way ('restart', 'immediate stop', 'kill of the engine', 'two crashes in a row')
{
	my $client = $server->client('postgres', "SELECT eda.publish('T', 'meanwhile');\n" x 2000);
	load();
	if ($way eq 'restart') { $server->restart }
	elsif ($way eq 'immediate stop') { $server->stop('immediate'); $server->start }
	elsif ($way eq 'kill of the engine')
	{
		my $pid = $server->engine_pid;
		kill 'KILL', $pid;
		$server->another_runs($pid);
	}
	else { for (1 .. 2) { $server->stop('immediate'); $server->start; } }
	eval { $client->finish };
	$server->runs;
	$server->becomes('SELECT NOT EXISTS (SELECT FROM test.miscount())', "after a $way");
}

# The counters are there at once, because the view reads no table of the log.
my $plan = $server->ask('EXPLAIN (COSTS off) SELECT * FROM eda.queue_metrics');
unlike($plan, qr/ on (transition|event)(_\d+)?\b/, 'the view reads counters, not the log');
$server->ends_well;

done_testing();
