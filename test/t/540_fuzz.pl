# Thousands of spoilt requests, bytes and frames: the gateway lives, answers no 5xx, keeps to its document, and no sanitizer finds anything.
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
