# Engines never block DROP, RENAME or the copying of a database; after a failed one the engine
# starts again, and in a copy it stays idle.
use strict;
use warnings;
use Cwd ();
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('databases', conf => "eda.max_databases = 8\n");

# Two databases, whose engines are busy.
for my $db (qw(one two))
{
	$server->ask("CREATE DATABASE $db");
	$server->set_up($db);
	$server->ask("SELECT test.publish('T', 'flow', 500)", $db);
}

# DROP a database that has no engine.  It waits until every process of the server has confirmed,
# also the engines of other databases.
$server->ask('CREATE DATABASE bystander');
$server->ask("SET statement_timeout = '300 s'; DROP DATABASE bystander");
pass('another database is dropped while engines run');

# DROP a database that has an engine; the engine of the other database goes on.
$server->ask("SET statement_timeout = '300 s'; DROP DATABASE two");
pass('a database with an engine is dropped');
$server->work_off('one', 'the other engine goes on');

# A DROP fails because a client is connected.
my $client = $server->background_psql('one');
$client->query_safe('SELECT 1');
like($server->refusal("DROP DATABASE one"), qr/is being accessed by other users/, 'a connected client keeps a database from being dropped');
$server->runs('one');
$server->ask("SELECT eda.publish('T', 'after the failed drop')", 'one');
$server->work_off('one', 'after a DROP DATABASE that failed the engine is there again');
like($server->refusal('ALTER DATABASE one RENAME TO uno'), qr/is being accessed by other users/, 'nor can it be renamed');
$server->runs('one');
$client->quit;

$server->ask("SET statement_timeout = '300 s'; ALTER DATABASE one RENAME TO uno");
pass('a database with an engine is renamed');
$server->runs('uno');
$server->ask("SELECT eda.publish('T', 'after the rename')", 'uno');
$server->work_off('uno', 'under its new name the engine goes on');
like($server->refusal('ALTER DATABASE uno RENAME TO postgres'), qr/already exists/, 'a rename that fails');
$server->runs('uno');
pass('lets the engine start again');

# A database with an engine is the template of a new one.
$server->ask("SELECT eda.publish('T', 'in both')", 'uno');
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE flow_id = 'in both'", 'an event waits for a worker', db => 'uno');
$server->ask("SET statement_timeout = '300 s'; CREATE DATABASE copy TEMPLATE uno");
pass('a database with an engine is copied');
$server->runs('uno');
$server->becomes("SELECT state LIKE 'idle: %' FROM eda.engine_status", 'the copy stays idle', db => 'copy');
note($server->ask('SELECT state FROM eda.engine_status', 'copy'));
is($server->ask("SELECT count(*) FROM eda.acquire_next('flow', wait => '200 ms')", 'copy'), '0', 'nothing is handed out there');
$server->ask("SELECT eda.move_clock('1 hour')", 'copy');
is($server->ask("SELECT count(*) FROM eda.acquire_next('flow', wait => '200 ms')", 'copy'), '0', 'nor later');
is($server->ask("SELECT state FROM eda.event_state WHERE flow_id = 'in both'", 'copy'), 'dispatched', 'and nothing is moved');
$server->work_off('uno', 'the original goes on');
$server->ask("SET statement_timeout = '300 s'; DROP DATABASE copy");
pass('the copy is dropped');

# Move a database to another tablespace, which also needs that nobody uses the database.
my $folder = Cwd::abs_path(PostgreSQL::Test::Utils::tempdir());
$server->ask("CREATE TABLESPACE elsewhere LOCATION '$folder'");
$server->ask("SET statement_timeout = '300 s'; ALTER DATABASE uno SET TABLESPACE elsewhere");
$server->runs('uno');
$server->ask("SELECT eda.publish('T', 'elsewhere')", 'uno');
$server->work_off('uno', 'moved to another tablespace, the database goes on');

# The shared memory of dropped databases is free for new ones: more are made than
# eda.max_databases.
for my $n (1 .. 10)
{
	$server->ask("CREATE DATABASE again");
	$server->set_up('again');
	$server->ask("SET statement_timeout = '300 s'; DROP DATABASE again");
}
pass('the places of dropped databases are used again');
unlike(PostgreSQL::Test::Utils::slurp_file($server->logfile), qr/PANIC|TRAP|terminated by signal/, 'no process died');
$server->ends_well('uno');

done_testing();
