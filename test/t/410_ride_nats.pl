# The ride-hailing example with NATS ends by the rules, too, with workers killed at random and
# the nats-server killed in between.
use strict;
use warnings;
use EdaNats;
use EdaRides;
use EdaServer;
use Test::More;

EdaNats::needed();

my $nats = EdaNats->start_new('nats');
my $server = EdaServer->start_new('nats_rides', conf => "eda.nats_url = '" . $nats->url . "'\n");
my $turns = 0;
my $outages = 0;

# Every few seconds the broker is gone for half of one.
sub disturb
{
	return if ++$turns % 30 != 3 || $outages >= 3;
	$outages++;
	$nats->kill9;
	select undef, undef, undef, 0.5;
	$nats->start;
}

$ENV{NATS_URL} = $nats->url;
EdaRides::go($server, worker => 'worker-nats', delivery => 'nats', meanwhile => \&disturb);
cmp_ok($outages, '>', 0, "the NATS server was killed $outages times");
is($server->ask("SELECT broker_published >= (SELECT count(*) FROM eda.transition WHERE state = 'being_processed' AND prev_state = 'dispatched')"
			. ' FROM eda.engine_status'), 't', 'each attempt was for a message');
$server->ends_well;

done_testing();
