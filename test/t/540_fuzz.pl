# With thousands of malformed requests, bytes and frames the gateway never crashes nor answers
# 5xx, keeps to its document, and sanitizers find nothing.
use strict;
use warnings;
use EdaGateway;
use EdaServer;
use Test::More;

EdaGateway::needed();
my $server = EdaServer->start_new('fuzz');
$server->set_up('postgres');
note(EdaGateway::checked_program());
EdaGateway::drive($server, 'fuzz.mjs', program => EdaGateway::checked_program());
$server->ends_well;

done_testing();
