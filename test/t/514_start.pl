# Whoever is told by a gateway that has just been started that the database is up misses nothing from then on.
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
