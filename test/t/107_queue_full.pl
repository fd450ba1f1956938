# When the ready queue is full, other events wait on disk, every flow type still gets the places
# kept for it, and none is lost if the queue becomes smaller.
use strict;
use warnings;
use EdaServer;
use Test::More;

# 256 places, of which a quarter, 64, is kept: 8 for each of the 8 flow types that there can be.
my $server = EdaServer->start_new('queue', conf => "eda.queue_size = 256\neda.max_event_types = 8\n");
$server->set_up('postgres', flow_type => "'greedy'");

# SQL for the number of events of a flow type in a state.
sub events
{
	my ($flow_type, $state) = @_;
	return "(SELECT count(*) FROM eda.event_state WHERE flow_type = '$flow_type' AND state = '$state')";
}

sub work
{
	my ($flow_type, $n) = @_;
	return $server->ask("CALL test.work('$flow_type', $n)");
}

# A flow type that has no workers fills the queue, but for the places that are kept for others.
# It may get 8 of the kept places itself, so 192 to 200 are possible.
$server->ask("SELECT test.publish('T', 'greedy', 1000)");
my $greedy = events('greedy', 'dispatched');
$server->becomes("SELECT $greedy BETWEEN 192 AND 200", 'the queue takes as many events as it has places, without those it keeps');
$server->becomes("SELECT queued = $greedy FROM eda.engine_status", 'the engine shows them as queued');
my $taken = $server->ask("SELECT $greedy");

# Each other flow type gets the 8 places that are kept for it, and no more.
for my $n (1 .. 7)
{
	$server->ask("SELECT eda.configure('T$n', flow_type => 'modest_$n', attempt_delays => '{0 s}'); SELECT test.publish('T$n', 'flow', 20)");
}
for my $n (1 .. 7)
{
	$server->becomes('SELECT ' . events("modest_$n", 'dispatched') . ' = 8', "flow type $n gets the 8 places that are kept for it");
}
is($server->ask("SELECT $greedy"), $taken, 'the first flow type gets no place of theirs');
$server->becomes("SELECT queued = $taken + 7 * 8 FROM eda.engine_status", 'that many are queued in all');

# The workers of a modest flow type are not held up by the full queue.
work("modest_$_", 20) for 1, 7;
is($server->ask('SELECT ' . events("modest_$_", 'succeeded')), '20', "the workers of flow type $_ get all of its events") for 1, 7;
is($server->ask("SELECT $greedy"), $taken, 'and the first flow type still waits for its workers');

# A new engine finds the dispatched events, and gives each flow type its places as before.
my $pid = $server->engine_pid;
$server->ask("SELECT pg_terminate_backend($pid)");
$server->becomes("SELECT pid <> $pid AND state = 'running' FROM eda.engine_status", 'another engine');
work('modest_2', 20);
is($server->ask('SELECT ' . events('modest_2', 'succeeded')), '20', 'the workers of a modest flow type get all of its events, also from this engine');

# The events that wait on disk are dispatched as places become free.
work('greedy', 1000);
work("modest_$_", 20) for 3 .. 6;
is($server->ask("SELECT count(*) FROM eda.event_state WHERE state <> 'succeeded'"), '0', 'every event comes to its end');

# More events are dispatched than the queue has places for after a restart.
$server->adjust_conf('postgresql.conf', 'eda.queue_size', '4096');
$server->restart;
$server->runs;
$server->ask("SELECT eda.move_clock('0'); SELECT test.publish('T', 'many', 2000)");
$server->becomes('SELECT ' . events('greedy', 'dispatched') . ' = 512', 'with 4096 places and 8 flow types a flow type may have 512');
$server->adjust_conf('postgresql.conf', 'eda.queue_size', '256');
$server->restart;
$server->runs;
$server->becomes('SELECT queued BETWEEN 32 AND 256 AND parked > 0 FROM eda.engine_status', 'with 256 places the engine sets the other events aside');
is($server->ask('SELECT ' . events('greedy', 'dispatched')), '512', 'and they stay dispatched');
work('greedy', 2000);
is($server->ask('SELECT ' . events('greedy', 'succeeded')), '3000', 'workers get all of them');

$server->ends_well;

done_testing();
