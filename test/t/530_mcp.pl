# AI agents can use every tool through the gateway, with the official clients of the Model
# Context Protocol.
use strict;
use warnings;
use EdaGateway;
use EdaServer;
use Test::More;

EdaGateway::needed();
plan skip_all => 'no MCP client for nodejs (test/install-consumer.sh, EDA_CONSUMER)' unless -d "$ENV{EDA_CONSUMER}/node_modules/\@modelcontextprotocol/sdk";
my $server = EdaServer->start_new('mcp');
$server->set_up('postgres');
EdaGateway::drive($server, 'mcp.mjs', program => EdaGateway::checked_program());
$server->ends_well;
$server->stop;

done_testing();
