# Events whose transaction commits long after it published them are dispatched like all others,
# also when others wait for room.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('late');
$server->set_up('postgres', max_in_flight => 1);

sub in_state
{
	my ($state, $n, $what) = @_;
	return $server->becomes("SELECT count(*) = $n FROM eda.event_state WHERE state = '$state'", $what);
}

# One event takes all the room, and others wait on disk.  The transaction that published 30
# events an hour ago commits when the engine has already read past that time.
sub come_late
{
	my $session = $server->background_psql('postgres');
	$session->query_safe("BEGIN; SELECT test.publish('T', 'late', 30)");
	$server->ask("SELECT test.publish('T', 'in time', 20)");
	in_state('dispatched', 1, 'there is room for one');
	$server->ask("SELECT eda.move_clock(eda.clock() - now() + interval '1 hour')");
	$server->ask("SELECT test.publish('T', 'new', 20)");
	$server->becomes("SELECT events = 39 FROM eda.queue_metrics WHERE event_type = 'T' AND state = 'awaiting_processing'", 'others wait');
	$session->query_safe('COMMIT');
	$session->quit;
	$server->becomes("SELECT events = 69 AND oldest_due_age > '59 min' FROM eda.queue_metrics WHERE event_type = 'T' AND state = 'awaiting_processing'",
		'what was committed late waits too, longer than others');
	return;
}

sub none_left
{
	$server->ask("SELECT eda.configure('T', max_in_flight => 1000)");
	in_state('dispatched', 70, 'with room for all of them all are dispatched');
	$server->ask("CALL test.work('flow', 70)");
	in_state('awaiting_processing', 0, 'and done');
	$server->ask("SELECT eda.configure('T', max_in_flight => 1)");
	return;
}

come_late();
none_left();

come_late();
my $pid = $server->engine_pid;
$server->ask("SELECT pg_terminate_backend($pid)");
$server->becomes("SELECT pid <> $pid AND state = 'running' FROM eda.engine_status", 'another engine');
none_left();

come_late();
$server->ask("SELECT eda.suspend_event_type('T')");
in_state('suspended', 70, 'a type is suspended with what came late');
$server->ask("SELECT eda.unsuspend_event_type('T')");
none_left();

$server->ends_well;

done_testing();
