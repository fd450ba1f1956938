# Without the preload, CREATE EXTENSION fails and says what to do; with it, an engine starts and
# waits for the first event type.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->new('plain');
$server->init;
$server->start;
my $error = $server->refusal('CREATE EXTENSION eda');
like($error, qr/ERROR:  55000: eda is not loaded/, 'refused');
like($error, qr/HINT: .*shared_preload_libraries.*restart/is, 'the hint says what to do');
is($server->ask("SELECT count(*) FROM pg_extension WHERE extname = 'eda'"), '0', 'nothing is left behind');
is($server->ask("SELECT count(*) FROM pg_namespace WHERE nspname = 'eda'"), '0', 'no schema either');

$server->append_conf('postgresql.conf', "shared_preload_libraries = 'eda'");
$server->restart;
$server->ask('CREATE EXTENSION eda');
is($server->ask('SELECT eda.library_version()'),
	$server->ask("SELECT extversion FROM pg_extension WHERE extname = 'eda'"),
	'library and extension are of one version');
$server->becomes("SELECT state = 'idle: waiting for the first event type' FROM eda.engine_status",
	'the engine starts by itself, and waits');
$server->ask("SELECT FROM eda.configure('T', 'flow')");
$server->becomes("SELECT state = 'running' FROM eda.engine_status", 'the first event type sets it to work');

# Changes of eda.engine, and a setting that does not exist.
for my $mode (qw(paused off on))
{
	$server->ask("ALTER SYSTEM SET eda.engine = $mode");
	$server->reload;
	my $state = $mode eq 'on' ? 'running' : $mode;
	$server->becomes("SELECT state = '$state' FROM eda.engine_status", "eda.engine = $mode is followed without a restart");
}
like($server->refusal('SET eda.nothing = 1'), qr/invalid configuration parameter name "eda.nothing"/,
	'a setting that is misspelt is refused');

done_testing();
