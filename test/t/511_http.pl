# The gateway withstands malformed, large and slow requests, refuses callers without rights, and
# calls the database with the role of the caller.
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
