# An event expires at its time wherever it waits: on disk, dispatched, suspended, or with its
# type suspended.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('expiry', conf => "eda.ready_window = 10\n");
$server->set_up('postgres', lifespan => "'1 hour'", max_attempts => 3, lease => "'3 hours'");
$server->ask("SELECT FROM eda.configure('OTHER', 'other', lifespan => '1 hour', lease => '3 hours');
	SELECT FROM eda.configure('ETERNAL', 'flow')");

# More events than eda.ready_window, so that most wait on disk.  One event is suspended, one is
# being processed, one is scheduled for later, and one has no lifespan.
$server->ask("SELECT test.publish('T', 'backlog', 3000)");
my $suspended = $server->ask("SELECT eda.publish('OTHER', 'suspended')");
my $scheduled = $server->ask("SELECT eda.publish('OTHER', 'scheduled', scheduled_at => eda.clock() + '2 hours')");
my $in_work = $server->ask("SELECT eda.publish('OTHER', 'in work')");
my $eternal = $server->ask("SELECT eda.publish('ETERNAL', 'eternal', scheduled_at => eda.clock() + '10 days')");
$server->ask("SELECT eda.suspend('$suspended')");
$server->poll_query_until('postgres', "SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$in_work'");
my $token = $server->ask("SELECT token FROM eda.acquire('$in_work')");
$server->becomes("SELECT count(*) BETWEEN 1 AND 200 FROM eda.event_state WHERE state = 'dispatched' AND event_type = 'T'",
	'a window\'s worth of the backlog is dispatched');

# An event type is suspended before its events are due, so the engine does not look at them when
# it reads what is due.
$server->ask("SELECT FROM eda.configure('HELD', 'held', lifespan => '1 hour'); SELECT eda.suspend_event_type('HELD')");
$server->ask("SELECT test.publish('HELD', 'held', 500)");

$server->ask("SELECT eda.move_clock('59 min')");
is($server->ask("SELECT count(*) FROM eda.event_state WHERE state = 'expired'"), '0', 'nothing expires before its time');
$server->ask("SELECT eda.move_clock('61 min')");
$server->becomes("SELECT count(*) = 3000 FROM eda.event_state WHERE state = 'expired' AND event_type = 'T'", 'the backlog expires');
$server->becomes("SELECT count(*) = 500 FROM eda.event_state WHERE state = 'expired' AND event_type = 'HELD'", 'that of a suspended type too');
$server->becomes("SELECT state = 'expired' FROM eda.event_state WHERE id = '$suspended'", 'a suspended event too');
is($server->ask("SELECT state FROM eda.event_state WHERE id = '$scheduled'"), 'awaiting_processing',
	'the lifespan of a scheduled event starts at its time');
is($server->ask("SELECT state FROM eda.event_state WHERE id = '$in_work'"), 'being_processed', 'an attempt may go on to its end');
is($server->ask("SELECT eda.fail('$in_work', 'oops', token => $token)"), 'expired', 'and then there is no other');
$server->becomes("SELECT count(*) = 0 FROM eda.engine_status WHERE queued > 0", 'nothing expired is left in the queue');
is($server->ask("SELECT count(*) FROM eda.acquire_next('flow')"), '0', 'nor handed out');

$server->ask("SELECT eda.move_clock('2 hours 30 min')");
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$scheduled'", 'a scheduled one waits for a worker from its time on');
$server->ask("SELECT eda.move_clock('3 hours 1 min')");
$server->becomes("SELECT state = 'expired' FROM eda.event_state WHERE id = '$scheduled'", 'and expires');
is($server->ask("SELECT count(*) FROM eda.transition WHERE state = 'expired' AND event_id = '$scheduled' AND prev_state = 'dispatched'"), '1',
	'where it waited');
is($server->ask("SELECT state FROM eda.event_state WHERE id = '$eternal'"), 'awaiting_processing', 'without a lifespan an event stays');

# A redriven event has a whole lifespan again, and can expire again.
is($server->ask("SELECT eda.redrive('T', since => '-infinity')"), '3000', 'dead letters are redriven');
$server->ask("SELECT eda.move_clock('4 hours')");
is($server->ask("SELECT count(*) FROM eda.event_state WHERE event_type = 'T' AND state = 'expired'"), '0', 'they have their lifespan again');
$server->ask("SELECT eda.move_clock('4 hours 2 min')");
$server->becomes("SELECT count(*) = 3000 FROM eda.event_state WHERE event_type = 'T' AND state = 'expired'", 'and expire again');
$server->ends_well;

done_testing();
