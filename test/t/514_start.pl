# A client that a new gateway has told that the database is up misses nothing from then on, and a
# client that continues an older stream there learns of everything that it is not sent.
use strict;
use warnings;
use EdaGateway;
use EdaServer;
use Test::More;

EdaGateway::needed();
my $server = EdaServer->start_new('start');
$server->set_up('postgres');
EdaGateway::drive($server, 'start.mjs');
$server->ends_well;

done_testing();
