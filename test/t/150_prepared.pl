# What a prepared transaction has published, finished or acquired takes effect when it is
# committed, also after a restart.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('prepared');
$server->set_up('postgres', lease => "'10 min'");

my $id = $server->ask("SELECT eda.publish('T', 'to be finished')");
$server->poll_query_until('postgres', "SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$id'");
my $token = $server->ask("SELECT token FROM eda.acquire('$id')");
my $free = $server->ask("SELECT eda.publish('T', 'to be taken')");
$server->poll_query_until('postgres', "SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$free'");
my $back = $server->ask("SELECT eda.publish('T', 'to be rolled back')");
$server->poll_query_until('postgres', 'SELECT queued = 2 FROM eda.engine_status');

$server->ask("BEGIN; SELECT eda.publish('T', 'published'); SELECT eda.succeed('$id', $token, spinoffs => '[{\"event_type\": \"T\"}]');
	PREPARE TRANSACTION 'one'");
$server->ask("BEGIN; SELECT count(*) FROM eda.acquire_next('flow'); PREPARE TRANSACTION 'two'");
$server->ask("BEGIN; SELECT count(*) FROM eda.acquire_next('flow'); PREPARE TRANSACTION 'three'");
is($server->ask("SELECT count(*) FROM eda.event_state"), '3', 'nothing of it can be seen yet');
is($server->ask("SELECT count(*) FROM eda.acquire_next('flow', 10)"), '0', 'what they took is not handed out again');
like($server->refusal("SET eda.lock_wait = '50 ms'; SELECT eda.cancel('$id')"), qr/ED008.*DETAIL: .*prepared.*HINT: .*COMMIT PREPARED/s, 'an operator is told that it is held, and how to end that');

# The lease of an event that a prepared transaction has finished runs out.  The engine does not
# move the event.
$server->ask("SELECT eda.move_clock('11 min')");
$server->becomes('SELECT parked > 0 FROM eda.engine_status', 'nor does the engine take it away');
$server->ask("SELECT eda.move_clock('0')");

$server->restart;
$server->runs;
$server->ask("COMMIT PREPARED 'one'");
$server->ask("COMMIT PREPARED 'two'");
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE flow_id = 'published'", 'what was published is dispatched');
is($server->ask("SELECT state FROM eda.event_state WHERE id = '$id'"), 'succeeded', 'what was finished is finished');
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE parent_id = '$id'", 'its spinoff is dispatched');
is($server->ask("SELECT state FROM eda.event_state WHERE id = '$free'"), 'being_processed', 'what was taken is taken');
$server->ask("ROLLBACK PREPARED 'three'");
$server->becomes("SELECT count(*) FROM eda.acquire_next('flow', 10, '200 ms') WHERE event_id = '$back'", 'what was rolled back is handed to another', is => '1');
$server->ends_well;

done_testing();
