# The gateway outlives the absence of its database, neither loses nor repeats a transition in a
# crash, and ends cleanly with requests under way.
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
