# The page shows live what is in the database, does what its user asks for, and needs no reload
# after engine, database or gateway were away.
use strict;
use warnings;
use EdaGateway;
use EdaServer;
use PostgreSQL::Test::Utils ();
use Test::More;

EdaGateway::needed();
my ($chromium) = grep { defined && -x } $ENV{EDA_CHROMIUM}, '/usr/bin/chromium', '/usr/bin/google-chrome';
plan skip_all => 'no chromium (apt-get install chromium, or EDA_CHROMIUM)' unless $chromium;
plan skip_all => 'no playwright-core (test/install-consumer.sh, EDA_CONSUMER)' unless -d "$ENV{EDA_CONSUMER}/node_modules/playwright-core";

my $example = "$ENV{EDA_SOURCE}/examples/ride-hailing";
PostgreSQL::Test::Utils::command_ok([ 'make', '-C', $example, 'worker' ], 'the worker compiles');

my $server = EdaServer->start_new('page');
$server->set_up('postgres');
$server->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', "$example/setup.sql", $server->connstr('postgres') ], 'setup.sql');

# A browser wants a home; pictures of the page are kept with the logs.
local $ENV{HOME} = PostgreSQL::Test::Utils::tempdir();
local $ENV{EDA_CHROMIUM} = $chromium;
local $ENV{EDA_CONNINFO} = $server->connstr('postgres');
local $ENV{EDA_SCREENSHOTS} = $ENV{EDA_SCREENSHOTS} || "$PostgreSQL::Test::Utils::log_path/520_page_pictures";
EdaGateway::drive($server, 'page.mjs');
$server->work_off('postgres', 'nothing is left to do');
$server->ends_well;

done_testing();
