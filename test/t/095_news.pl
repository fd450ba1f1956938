# The engine reads each transition once, whether its writer announced it or the engine found it
# in the table: with late commits, savepoints, prepared transactions, too many announcements,
# and rewritten leaves.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('news', conf => "autovacuum = off\n");
$server->set_up('postgres');
$server->ask(<<'SQL');
-- Transactions of one event each.
CREATE PROCEDURE test.burst(flow text, n integer) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. n LOOP
		PERFORM eda.publish('T', flow);
		COMMIT;
	END LOOP;
END $$;

-- What eda.changes() tells, page after page.
CREATE FUNCTION test.all_changes(since pg_snapshot, max_rows integer, OUT pages integer, OUT steps integer, OUT distinct_steps integer)
LANGUAGE plpgsql AS $$
DECLARE
	page text[];
	seen text[] := '{}';
BEGIN
	pages := 0;
	LOOP
		SELECT array_agg(c.event_id || ' ' || c.version), min(c.snapshot::text) INTO page, since FROM eda.changes(since, max_rows) c;
		EXIT WHEN page IS NULL;
		pages := pages + 1;
		seen := seen || page;
	END LOOP;
	SELECT count(*), count(DISTINCT s) INTO steps, distinct_steps FROM unnest(seen) s;
END $$;
SQL

my $awaiting = "state IN ('awaiting_processing', 'dispatched')";

# Test that the engine has read every transition once.
sub all_is_counted
{
	my ($name) = @_;
	$server->becomes('SELECT NOT EXISTS (SELECT FROM test.miscount())', "$name: the counters are a recount of the log")
	  or diag($server->ask('SELECT * FROM test.miscount()'));
	return;
}

# Stop the engine's process while it sleeps, run some code, and let the engine go on.
sub while_stopped
{
	my ($what) = @_;
	my $pid = $server->engine_pid;
	$server->poll_query_until('postgres', "SELECT wait_event = 'Extension' FROM pg_stat_activity WHERE pid = $pid");
	kill 'STOP', $pid;
	$what->();
	kill 'CONT', $pid;
	return;
}

sub leaf_is_rewritten
{
	$server->ask('VACUUM FULL eda.transition_1');
	return;
}

# Transactions that commit after others that began later.  One of them rolls back to a
# savepoint, and the blocks of the rows that it gave up are used again in the same transaction.
my $late = $server->background_psql('postgres');
$late->query_safe("BEGIN; SELECT eda.publish('T', 'late'); SAVEPOINT s; SELECT test.publish('T', 'undone', 500); ROLLBACK TO s");
$server->ask("CALL test.burst('early', 100)");
$server->ask('VACUUM eda.transition_1');
$late->query_safe("SELECT test.publish('T', 'late', 500); RELEASE s; SAVEPOINT t; SELECT eda.publish('T', 'late'); RELEASE t");
all_is_counted('before the late commit');
$late->query_safe('COMMIT');
$server->becomes("SELECT count(*) = 502 FROM eda.event_state WHERE flow_id LIKE 'late%' AND state = 'dispatched'", 'what is committed late is dispatched');
all_is_counted('after the late commit');

# Prepared transactions that end under the same engine, under a new engine, and after a crash of
# the server.
$server->ask("BEGIN; SELECT eda.publish('T', 'prepared $_'); PREPARE TRANSACTION '$_'") for 1 .. 4;
my $pid = $server->engine_pid;
$server->ask("COMMIT PREPARED '1'");
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE flow_id = 'prepared 1'", 'prepared and committed: dispatched');
$server->ask("SELECT pg_terminate_backend($pid)");
$server->becomes("SELECT state = 'running' AND pid <> $pid FROM eda.engine_status", 'another engine runs');
$server->ask("COMMIT PREPARED '2'");
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE flow_id = 'prepared 2'", 'under another engine: dispatched');
$server->stop('immediate');
$server->start;
$server->runs;
$server->ask("CALL test.burst('after a crash', 10)");
$server->ask("COMMIT PREPARED '3'");
$server->ask("ROLLBACK PREPARED '4'");
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE flow_id = 'prepared 3'", 'after a crash: dispatched');
all_is_counted('after a crash');

# More rows than the announcements have room for, while another transaction is open.
$late->quit;
my $across = $server->background_psql('postgres');
$across->query_safe("BEGIN; SELECT eda.publish('T', 'across')");
my $before = $server->ask('SELECT eda.current_snapshot()');
while_stopped(sub { $server->ask("CALL test.burst('burst', 20000)") });
all_is_counted('after a burst');
$server->ask("CALL test.burst('later', 10)");
$across->query_safe('COMMIT');
all_is_counted('after the transaction across the burst');
is($server->ask("SELECT count(*) FROM eda.event_state WHERE flow_id = 'across' AND $awaiting"), '1', 'which is there');

# eda.changes() returns the same rows, page by page.
my $steps = $server->ask("SELECT count(*) FROM eda.transition WHERE NOT pg_visible_in_snapshot(xid::text::xid8, '$before')");
is($server->ask("SELECT pages > 6, steps, distinct_steps FROM test.all_changes('$before', 3000)"), "t|$steps|$steps", 'eda.changes() tells each step once');
$server->ask('VACUUM eda.transition_1');
is($server->ask("SELECT steps, distinct_steps FROM test.all_changes('$before', 3000)"), "$steps|$steps", 'also where the index is summarized');

# A leaf is rewritten after rows were announced and before the engine reads them; among more
# rows than there is room for; and by the transaction that wrote the rows.
while_stopped(sub { $server->ask("CALL test.burst('moved', 10)"); leaf_is_rewritten(); $server->ask("CALL test.burst('not moved', 10)") });
all_is_counted('after a leaf was rewritten');
while_stopped(sub { $server->ask("CALL test.burst('burst', 16500)"); leaf_is_rewritten(); $server->ask("CALL test.burst('burst', 10)") });
all_is_counted('after a burst and a leaf that was rewritten');
while_stopped(sub { $server->ask("CALL test.burst('new rows', 10)"); $server->ask("ALTER TABLE eda.transition_1 SET $_") for 'UNLOGGED', 'LOGGED' });
all_is_counted('after a leaf got new rows for old');
$server->ask("BEGIN; SELECT test.publish('T', 'own', 50); CLUSTER eda.transition_1 USING transition_1_pkey; SELECT test.publish('T', 'own', 50); COMMIT");
all_is_counted('after the writer has rewritten it');

# An administrator ends the engine while there is much to read.
$server->ask("SELECT pg_terminate_backend(pid) FROM eda.engine_status");
$server->ask("CALL test.burst('at the end', 100)");
$server->runs;
$across->quit;
$server->ends_well;

done_testing();
