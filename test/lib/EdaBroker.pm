# What tests ask of an engine that delivers events through NATS: of a running EdaServer, and
# what the engine says about its broker.
package EdaBroker;

use strict;
use warnings;

use EdaServer;
use POSIX ();
use PostgreSQL::Test::Utils ();
use Test::More;

# SQL functions of workers, besides those of EdaServer::helpers().
sub helpers
{
	return <<'SQL';
-- Finish attempts, each with its effect in the same transaction, and a part of them with an error.
CREATE FUNCTION test.finish(events uuid[], tokens integer[], fail_part double precision) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. cardinality(events) LOOP
		IF random() < fail_part THEN
			PERFORM eda.fail(events[i], 'bad luck', token => tokens[i]);
		ELSE
			INSERT INTO test.effect VALUES (events[i]);
			PERFORM eda.succeed(events[i], tokens[i]);
		END IF;
	END LOOP;
END $$;

CREATE VIEW test.unfinished AS
	SELECT * FROM eda.event_state WHERE state NOT IN ('succeeded', 'failed', 'expired', 'canceled');
SQL
}

# EdaServer's set_up(), with the event type T delivered by NATS, and the SQL functions of workers.
sub set_up
{
	my ($server, $db, %rules) = @_;

	$server->set_up($db, delivery => "'nats'", max_dispatched => 100000, %rules);
	$server->safe_psql($db, helpers());
	return;
}

# Change settings (such as nats_url => ...) of a running server.
sub set
{
	my ($server, %settings) = @_;

	$server->safe_psql('postgres', join '', map { "ALTER SYSTEM SET eda.$_ = '$settings{$_}';\n" } sort keys %settings);
	$server->reload;
	return;
}

# Test that the engine's broker comes to a state.
sub becomes
{
	my ($server, $state, $name, %options) = @_;
	return $server->becomes("SELECT broker = '$state' FROM eda.engine_status", $name || "the broker is $state", %options);
}

# Test that every event comes to its end.
sub all_end
{
	my ($server, $name, %options) = @_;

	$server->becomes('SELECT NOT EXISTS (SELECT FROM test.unfinished)', $name || 'every event comes to its end', %options)
	  or diag($server->ask('SELECT state, count(*), min(wake_at) FROM test.unfinished GROUP BY 1', $options{db}));
	return;
}

# The lines about the broker in the server's log, from an offset on, without time and process.
sub log_lines
{
	my ($server, $offset) = @_;
	my $log = PostgreSQL::Test::Utils::slurp_file($server->logfile, $offset || 0);
	my @lines = $log =~ /LOG:  (eda engine of database \d+: broker.*)/g;
	return @lines;
}

# The number of threads that the engine's process has.
sub threads
{
	my ($server, $db) = @_;
	my @tasks = glob '/proc/' . $server->engine_pid($db) . '/task/*';
	return scalar @tasks;
}

# The number of these threads, without the engine's own, that do not block the signals that
# PostgreSQL uses.
sub threads_that_take_signals
{
	my ($server, $db) = @_;
	my $pid = $server->engine_pid($db);
	my $wanted = 0;

	$wanted |= 1 << $_ - 1 for POSIX::SIGTERM, POSIX::SIGINT, POSIX::SIGHUP, POSIX::SIGQUIT, POSIX::SIGUSR1, POSIX::SIGUSR2, POSIX::SIGALRM;
	my @tasks = grep { !m{/$pid$} } glob "/proc/$pid/task/*";
	return scalar grep { PostgreSQL::Test::Utils::slurp_file("$_/status") =~ /^SigBlk:\s*(\w+)/m && (hex($1) & $wanted) != $wanted } @tasks;
}

1;
