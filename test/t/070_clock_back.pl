# When the system clock steps back, publishing and dispatching go on, and the times in an
# event's history never decrease.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('clock');
$server->set_up('postgres', lease => "'10 min'", attempt_delays => "'{0 s, 5 min}'");

my %id;
for my $offset ('0', '3 hours', '1 hour', '2 days', '-1 day', '0')
{
	$server->ask("SELECT eda.move_clock('$offset')");
	my $id = $id{$offset} = $server->ask("SELECT eda.publish('T', 'at $offset')");
	$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$id'", "with the clock at $offset an event is dispatched at once");
	is($server->ask("SELECT token FROM eda.acquire('$id')"), '3', 'and can be acquired');
}

# An attempt that began two days ahead ends now.  It fails, and the event waits and is tried
# again.
my $id = $id{'2 days'};
is($server->ask("SELECT eda.fail('$id', 'oops', token => 3)"), 'awaiting_processing', 'an attempt from the future can end now');
$server->ask("SELECT eda.move_clock('2 days 1 hour')");
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$id'", 'and the event is tried again in its time');

# At this time all leases have run out.
$server->becomes("SELECT count(*) = 0 FROM eda.event_state WHERE state = 'being_processed'", 'leases end though the clock stepped back since');

# A scheduled event waits for its time, although the clock is moved forth and back meanwhile.
$server->ask("SELECT eda.move_clock('0')");
my $later = $server->ask("SELECT eda.publish('T', 'later', scheduled_at => eda.clock() + '2 hours')");
$server->ask("SELECT eda.move_clock('1 hour')");
$server->ask("SELECT eda.move_clock('-5 hours')");
my $soon = $server->ask("SELECT eda.publish('T', 'soon')");
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$soon'", 'what is due now is dispatched');
is($server->ask("SELECT state FROM eda.event_state WHERE id = '$later'"), 'awaiting_processing', 'what is due later waits');
$server->ask("SELECT eda.move_clock('3 hours')");
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$later'", 'until then');

$server->ask("SELECT eda.move_clock('0')");
$server->ends_well;

done_testing();
