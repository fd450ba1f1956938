# Every route of the HTTP API does what gateway/www/openapi.json says, with valid and with
# invalid requests, and each answer has the form that it says.
use strict;
use warnings;
use EdaGateway;
use EdaServer;
use Test::More;

EdaGateway::needed();
my $server = EdaServer->start_new('api');
$server->set_up('postgres');
EdaGateway::drive($server, 'api.mjs');
$server->ends_well;

done_testing();
