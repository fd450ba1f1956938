# Rides with random failures and workers killed at random end with every event in a final state, and the histories prove each step.
use strict;
use warnings;
use EdaRides;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('rides');

EdaRides::go($server);
$server->ends_well;

done_testing();
