# A busy engine never blocks DROP EXTENSION: it goes on after a rollback, and goes away after a
# commit.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('drop');
$server->ask("ALTER SYSTEM SET lock_timeout = '120 s'");
$server->reload;

# Run a DROP while a worker is busy.  A deadlock between these two clients is possible, and the
# DROP is then tried again; the engine must not take part in one.
sub through
{
	my ($sql, $name) = @_;
	my $error;
	for (1 .. 20)
	{
		$error = $server->refusal($sql);
		last if $error !~ /deadlock detected/;
	}
	unlike($error, qr/ERROR|FATAL/, $name);
}

for my $round (1 .. 3)
{
	$server->set_up('postgres');

	# Keep the engine busy.
	my $worker = $server->client('postgres', "CALL test.work('flow', 100000);\n");
	$server->ask("SELECT test.publish('T', 'flow', 2000)");
	$server->poll_query_until('postgres', 'SELECT count(*) > 50 FROM test.effect');

	through('BEGIN; DROP EXTENSION eda; ROLLBACK;', "round $round: DROP EXTENSION and ROLLBACK get through");
	my $second = $server->client('postgres', "CALL test.work('flow', 100000);\n"); # should the deadlock have hit the first
	$server->becomes('SELECT count(*) >= 2000 FROM test.effect', "round $round: the engine goes on after it");

	# End all clients first, because their transactions may hold locks.
	$server->ask("SELECT pg_terminate_backend(pid, 120000) FROM pg_stat_activity WHERE query LIKE 'CALL test.work%'");
	eval { $_->finish } for $worker, $second;
	$server->ends_well if $round == 1;
	$server->ask('SELECT eda.publish(\'T\', \'late\') FROM generate_series(1, 500)');
	through('DROP EXTENSION eda', "round $round: DROP EXTENSION gets through");
	$server->ask('DROP SCHEMA test CASCADE');
	$server->becomes("SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type LIKE '%engine%')",
		"round $round: the engine goes away");
}

# CREATE EXTENSION that is rolled back starts no engine and breaks nothing.
$server->ask('BEGIN; CREATE EXTENSION eda; ROLLBACK;');
$server->set_up('postgres');
$server->ask("SELECT eda.publish('T', 'flow') FROM generate_series(1, 100)");
$server->work_off('postgres', 'created anew, all works as before');

# Drop and create the extension in one transaction.  Workers must not get events of the old log.
$server->ask("SELECT test.publish('T', 'old', 100)");
$server->becomes("SELECT queued = 100 FROM eda.engine_status", 'events are on offer');
like($server->ask("BEGIN; TRUNCATE test.effect; DROP EXTENSION eda; CREATE EXTENSION eda; SELECT FROM eda.configure('T', flow_type => 'flow');
	SELECT eda.publish('T', 'new'); SELECT count(*) FROM eda.acquire_next('flow', 10, '0.2 s'); COMMIT"), qr/^0$/m,
	'dropped and created in one transaction: nothing of the old log is handed out');
$server->work_off('postgres', 'and the new log works');

# The engine of the old extension must not save its state in the new extension.
my $pid = $server->engine_pid;
my $session = $server->background_psql('postgres');
$session->query_safe('BEGIN; LOCK TABLE eda.engine_state');
my $saved = $server->ask("SELECT clock_timestamp()");
$server->becomes("SELECT last_tick_at > '$saved'::timestamptz + interval '6 s' FROM (SELECT eda.publish('T', 'more')) p, eda.engine_status",
	'the engine goes on while it cannot save its state');
is($server->engine_pid, $pid, 'it is the same engine');
$session->query_safe("TRUNCATE test.effect; DROP EXTENSION eda; CREATE EXTENSION eda; SELECT FROM eda.configure('T', flow_type => 'flow'); COMMIT");
$session->quit;
$server->becomes("SELECT state = 'running' AND pid <> $pid FROM eda.engine_status", 'dropped and created again, there is another');
$server->ask("SELECT test.publish('T', 'new', 10)");
$server->work_off('postgres', 'and it does its work');
unlike(PostgreSQL::Test::Utils::slurp_file($server->logfile), qr/PANIC|TRAP|terminated by signal/, 'no process died');
$server->ends_well;

done_testing();
