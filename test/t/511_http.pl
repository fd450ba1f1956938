# The gateway stands malformed, large and slow requests, lets in nobody whom it should not, and calls the database as the caller's role.
use strict;
use warnings;
use EdaGateway;
use EdaServer;
use Test::More;

EdaGateway::needed();
my $server = EdaServer->start_new('http');
$server->set_up('postgres');
EdaGateway::drive($server, 'http.mjs');
$server->ends_well;

done_testing();
