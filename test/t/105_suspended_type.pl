# The events of a suspended type wait on disk, those of other types go on, and all go on after
# the type is resumed.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('suspended');
$server->set_up('postgres');
$server->ask("SELECT FROM eda.configure('HELD', 'flow', priority => 9, lease => '1 hour', attempt_delays => '{0 s}');
	SELECT eda.suspend_event_type('HELD')");
$server->ask("SELECT test.publish('HELD', 'held', 5000)");
$server->ask("SELECT test.publish('T', 'flow', 2000)");
$server->ask("CALL test.work('flow', 2000)");
is($server->ask("SELECT count(*) FROM eda.event_state WHERE event_type = 'T' AND state = 'succeeded'"), '2000',
	'another type of the same flow type goes through, though its priority is lower');
is($server->ask("SELECT count(*) FROM eda.transition t JOIN eda.event_type e ON e.id = t.type
	WHERE e.event_type = 'HELD' AND t.state IN ('dispatched', 'being_processed')"), '0', 'nothing of the suspended type was dispatched');
$server->becomes("SELECT count(*) = 5000 FROM eda.event_state WHERE event_type = 'HELD' AND state = 'suspended' AND suspended_by = 'type'",
	'in its own time the engine suspends what is due');
my $one = $server->ask("SELECT id FROM eda.event WHERE event_type = 'HELD' LIMIT 1");
is($server->ask("SELECT count(*) FROM eda.acquire('$one')"), '0', 'it cannot be acquired by its id either');

# An event that an operator has suspended stays suspended when its type goes on.
my $mine = $server->ask("SELECT eda.publish('HELD', 'mine', scheduled_at => eda.clock() + '1 hour')");
$server->ask("SELECT eda.suspend('$mine', reason => 'let me look')");
$server->ask("SELECT eda.unsuspend_event_type('HELD')");
$server->becomes("SELECT count(*) = 0 FROM eda.event_state WHERE event_type = 'HELD' AND state = 'suspended' AND suspended_by = 'type'",
	'unsuspended, all of them go on');
$server->ask("CALL test.work('flow', 5000)");
is($server->ask("SELECT count(*) FROM eda.event_state WHERE event_type = 'HELD' AND state = 'succeeded'"), '5000', 'to their end');
is($server->ask("SELECT state FROM eda.event_state WHERE id = '$mine'"), 'suspended', 'but not what an operator suspended');

# The type is suspended while events of it are dispatched and one is being processed.
$server->ask("SELECT test.publish('HELD', 'again', 50)");
my ($id, $token) = split /\|/, $server->ask("SELECT event_id, token FROM eda.acquire_next('flow', 1, '60 s')");
$server->poll_query_until('postgres', "SELECT count(*) = 49 FROM eda.event_state WHERE flow_id LIKE 'again%' AND state = 'dispatched'");
$server->ask("SELECT eda.suspend_event_type('HELD')");
$server->becomes("SELECT count(*) = 49 FROM eda.event_state WHERE flow_id LIKE 'again%' AND state = 'suspended'", 'what was dispatched is suspended');
is($server->ask("SELECT eda.succeed('$id', $token)"), 't', 'what was being processed goes on');
is($server->ask("SELECT count(*) FROM eda.acquire_next('flow', 100)"), '0', 'nothing is handed out');

# A type stays suspended over a restart.
$server->restart;
$server->runs;
is($server->ask("SELECT count(*) FROM eda.acquire_next('flow', 100, '200 ms')"), '0', 'nor after a restart');
$server->ask("SELECT eda.unsuspend_event_type('HELD'); SELECT eda.resume('$mine')");
$server->work_off('postgres');
$server->ends_well;

done_testing();
