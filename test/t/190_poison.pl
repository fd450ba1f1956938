# The engine sets an event aside and shows it if its move always raises an error, and every
# other event goes on.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('poison');
$server->set_up('postgres');
$server->ask("ALTER SYSTEM SET eda.ready_window = 5000");
$server->reload;

# A user's own index on the log raises an error when one of three events is dispatched.
my @ids = split /\n/, $server->ask("SELECT eda.publish('T', 'poison ' || n, scheduled_at => eda.clock() + '1 hour') FROM generate_series(1, 3) n");
my $ids = join ',', map { "'$_'" } @ids;
my $leaf = $server->ask("SELECT DISTINCT segment FROM eda.event");
$server->ask("CREATE INDEX poison ON eda.transition_$leaf ((1 / CASE WHEN state = 'dispatched' AND event_id IN ($ids) THEN 0 ELSE 1 END))");
$server->ask("SELECT test.publish('T', 'good', 2000, eda.clock() + '1 hour')");
$server->ask("SELECT eda.move_clock('61 min')");
$server->becomes("SELECT count(*) = 2000 FROM eda.event_state WHERE state = 'dispatched'", 'the good ones are dispatched');
$server->becomes("SELECT held_back = 3 FROM eda.engine_status", 'those that cannot be are held back');
like($server->ask('SELECT last_error FROM eda.engine_status'), qr/division by zero/, 'engine_status says why');
$server->ask("CALL test.work('flow', 2000)");
is($server->ask("SELECT count(*) FROM eda.event_state WHERE state = 'succeeded'"), '2000', 'and the good ones come to their end');


$server->ask('DROP INDEX eda.poison');
$server->ask("SELECT eda.move_clock('3 hours')");
$server->becomes("SELECT count(*) = 3 FROM eda.event_state WHERE state = 'dispatched'", 'with the cause gone they go on');
$server->becomes("SELECT held_back = 0 FROM eda.engine_status", 'nothing is held back any more');
$server->work_off('postgres');

# If no event can be moved, as on a full disk, the engine tries slowly, so that it does not use
# up transaction ids.
$server->ask('CREATE FUNCTION test.fits(state eda.state, at timestamptz) RETURNS boolean IMMUTABLE LANGUAGE sql AS
	$$ SELECT 1 / (CASE WHEN state = $q$dispatched$q$ AND at > ' . "'" . $server->ask('SELECT eda.clock()') . "'" . ' THEN 0 ELSE 1 END) = 1 $$');
$server->ask("CREATE INDEX poison ON eda.transition_$leaf (test.fits(state, at))");
my $began = $server->ask("SELECT test.publish('T', 'late', 1000), clock_timestamp()") =~ s/.*\|//r;
$server->becomes("SELECT held_back > 130 FROM eda.engine_status", 'all are held back');
is($server->ask("SELECT clock_timestamp() > timestamptz '$began' + interval '1 s'"), 't', 'one after the other');
$server->ask('DROP INDEX eda.poison');
$server->work_off('postgres');
$server->ends_well;

done_testing();
