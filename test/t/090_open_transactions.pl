# The engine never waits for a client's open transaction: other events go on, and the event that
# it has locked goes on when it ends.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('open');
$server->set_up('postgres', lease => "'30 min'", attempt_delays => "'{0 s}'");

# Ten events, each locked in a different way by a transaction that stays open.
my %open;
my @ways = qw(acquired succeeded failed heartbeat released canceled suspended published next aborted);
for my $way (@ways)
{
	my $session = $open{$way} = $server->background_psql('postgres');
	$session->query_safe("BEGIN");
	my $id = $way eq 'published' ? $session->query_safe("SELECT eda.publish('T', '$way')") : $server->ask("SELECT eda.publish('T', '$way')");
	if ($way ne 'published')
	{
		$server->poll_query_until('postgres', "SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$id'");
		$server->poll_query_until('postgres', 'SELECT queued > 0 FROM eda.engine_status') if $way eq 'next' || $way eq 'aborted';
	}
	$session->{id} = $id;
	my $token = $way =~ /^(succeeded|failed|heartbeat|released|suspended)$/ ? $server->ask("SELECT token FROM eda.acquire('$id')") : 0;
	$session->query_safe({
		acquired => "SELECT FROM eda.acquire('$id')",
		succeeded => "SELECT eda.succeed('$id', $token)",
		failed => "SELECT eda.fail('$id', 'oops', token => $token, retry => false)",
		heartbeat => "SELECT eda.heartbeat('$id', $token, '10 days')",
		released => "SELECT eda.release('$id', $token, '10 days')",
		canceled => "SELECT eda.cancel('$id')",
		suspended => "SELECT eda.suspend('$id', token => $token)",
		published => 'SELECT 1',
		next => "SELECT FROM eda.acquire_next('flow', 1, '60 s')",
		aborted => "SELECT FROM eda.acquire_next('flow', 1, '60 s')",
	}->{$way});
}

# The deadlines of all these events pass.  The engine still moves other events.
$server->ask("SELECT eda.move_clock('1 hour')");
for my $round (1 .. 3)
{
	$server->ask("SELECT test.publish('T', 'other', 1000)");
	$server->ask("CALL test.work('flow', 1000)");
	is($server->ask("SELECT count(*) FROM eda.event_state WHERE flow_id LIKE 'other %' AND state <> 'succeeded'"), '0',
		"round $round: others' events flow");
}
is($server->ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE '%engine%' AND wait_event_type = 'Lock'"), '0',
	'the engine waits for no lock');
is($server->ask("SELECT count(*) FROM eda.transition WHERE detail ->> 'error' = 'lease ran out'"), '0', 'and nothing was taken from the open ones');

# The transactions end.  Each event goes on from where its transaction left it.  Leases of 30
# minutes have run out meanwhile, those of ten days have not.
$open{$_}->query_safe($_ eq 'aborted' ? 'ROLLBACK' : 'COMMIT') for @ways;
my %then = (acquired => 'dispatched', succeeded => 'succeeded', failed => 'failed', heartbeat => 'being_processed',
	released => 'awaiting_processing', canceled => 'canceled', suspended => 'suspended', published => 'dispatched',
	next => 'dispatched', aborted => 'dispatched');
for my $way (@ways)
{
	$server->becomes("SELECT state = '$then{$way}' FROM eda.event_state WHERE id = '$open{$way}->{id}'", "$way: it goes on as $then{$way}");
}
$server->becomes('SELECT parked = 0 FROM eda.engine_status', 'nothing stays parked');

# A transaction that has ended an attempt is rolled back after the lease has run out.  The event
# is then retried as if the transaction had not been.
$open{$_}->quit for @ways;
$server->ask("SELECT eda.move_clock('2 hours')");
my $id = $server->ask("SELECT eda.publish('T', 'last')");
$server->poll_query_until('postgres', "SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$id'");
my $token = $server->ask("SELECT token FROM eda.acquire('$id')");
my $session = $server->background_psql('postgres');
$session->query_safe("BEGIN; SELECT eda.succeed('$id', $token)");
$server->ask("SELECT eda.move_clock('3 hours')");
$server->becomes('SELECT parked > 0 FROM eda.engine_status', 'the engine has seen that the lease is over, and left the event alone');
$session->query_safe('ROLLBACK');
$server->becomes("SELECT state = 'dispatched' AND attempt = 1 FROM eda.event_state WHERE id = '$id'", 'after the rollback it is rescued');
$session->quit;
$server->ends_well;

done_testing();
