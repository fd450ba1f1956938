# Who watches, by SSE or WebSocket, is told everything, in order, whatever goes away meanwhile; who is slow is told so; and nobody can forge it.
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
