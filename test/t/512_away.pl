# The gateway outlives the database's absence, loses and doubles nothing in a crash, and ends well itself, with requests under way.
use strict;
use warnings;
use EdaGateway;
use EdaServer;
use Test::More;

EdaGateway::needed();
my $server = EdaServer->start_new('away');
$server->set_up('postgres');
EdaGateway::drive($server, 'away.mjs');
$server->ends_well;

done_testing();
