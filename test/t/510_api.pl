# Every route of the HTTP API does what gateway/www/openapi.json says, with good requests and bad ones, and keeps to it in every answer.
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
