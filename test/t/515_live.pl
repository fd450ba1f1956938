# A client of the live updates, by SSE or WebSocket, gets every transition in order whatever
# fails meanwhile, is told if it is too slow, and sees only what it may.
use strict;
use warnings;
use EdaGateway;
use EdaServer;
use Test::More;

EdaGateway::needed();
my $server = EdaServer->start_new('live');
$server->set_up('postgres');
EdaGateway::drive($server, 'live.mjs');
$server->ends_well;

done_testing();
