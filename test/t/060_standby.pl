# On a standby no engine runs and publishing is refused; after a promotion the engine runs, old
# leases count, and the gateway gets the feed.
use strict;
use warnings;
use EdaGateway;
use EdaServer;
use HTTP::Tiny;
use Test::More;

my $primary = EdaServer->start_new('primary', streaming => 1);
$primary->set_up('postgres', lease => "'1 hour'", attempt_delays => "'{0 s}'");
$primary->backup('base');
my $standby = EdaServer->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;

$primary->ask("SELECT eda.publish('T', 'flow ' || n) FROM generate_series(1, 20) n");
$primary->poll_query_until('postgres', "SELECT queued = 20 FROM eda.engine_status");
my $leases = join ',', map { "'$_'" } split /\n/, $primary->ask("SELECT event_id FROM eda.acquire_next('flow', 5, '60 s')");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));

is($standby->ask('SELECT state FROM eda.engine_status'), 'not running', 'no engine on the standby');
is($standby->ask("SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE '%engine%'"), '0', 'no process either');
is($standby->ask("SELECT string_agg(n || ' ' || state, ', ' ORDER BY state) FROM (SELECT state, count(*) n FROM eda.event_state GROUP BY 1) s"),
	'5 being_processed, 15 dispatched', 'the views can be read there');
for my $call ("publish('T', 'flow')", "acquire_next('flow')", "cancel((SELECT id FROM eda.event LIMIT 1))",
	"succeed((SELECT id FROM eda.event LIMIT 1), 3)", "configure('U', 'flow')")
{
	like($standby->refusal("SELECT * FROM eda.$call"), qr/ERROR:  25006: .*read-only transaction|ERROR:  25006: .*during recovery/,
		"eda.$call is refused");
}

# A standby refuses LISTEN, and a promotion ends no connection: the gateway has to try again.
my $gateway = -x EdaGateway::program() ? EdaGateway->start_new($standby, 'gateway') : undef;
EdaGateway::becomes_true(sub { $gateway->log =~ /cannot listen to the feed/ }) if $gateway;

$primary->stop('immediate');
$standby->promote;
$standby->runs;
pass('after promotion the engine runs');
$standby->ask("SELECT eda.publish('T', 'published here')");
is($standby->ask("SELECT count(*) FROM eda.acquire_next('flow', 100, '60 s')") > 0, 1, 'and hands out events');
$standby->ask("SELECT eda.move_clock('2 hours')");
$standby->becomes(
	"SELECT count(*) = 5 FROM eda.transition WHERE event_id IN ($leases) AND worker = 'engine' AND detail ->> 'error' = 'lease ran out'",
	'the leases that the primary gave end here');
$standby->work_off('postgres');
if ($gateway)
{
	ok(EdaGateway::becomes_true(sub { HTTP::Tiny->new->get("$gateway->{url}/metrics")->{content} =~ /^eda_gateway_feed_connections_total 1$/m }),
		'a gateway that was there before listens to the feed');
	$gateway->stop;
}
$standby->ends_well;

done_testing();
