# With random failures and workers killed at random, every event of the ride-hailing example
# ends, and each step of its history is legal.
use strict;
use warnings;
use EdaRides;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('rides');

EdaRides::go($server);
$server->ends_well;

done_testing();
