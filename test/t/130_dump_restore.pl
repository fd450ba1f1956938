# pg_dump and psql bring every row over to another database, where the engine stays idle and
# says so.
use strict;
use warnings;
use EdaServer;
use PostgreSQL::Test::Utils;
use Test::More;

my $server = EdaServer->start_new('dump');
$server->set_up('postgres', max_attempts => 2);
$server->ask("SELECT FROM eda.configure('ALARM', 'flow'); SELECT FROM eda.configure('T', on_fail_event_type => 'ALARM')");
$server->ask("SELECT test.publish('T', 'flow', 200);
	SELECT eda.publish('T', 'with a foreign id', event_id => 'c0ffee00-1234-4567-89ab-0123456789ab');
	SELECT eda.publish('T', 'keyed', idempotency_key => 'once', headers => '{\"traceparent\": \"x\"}');
	CALL test.work('flow', 150, 0.4)");
$server->ask("ALTER SYSTEM SET eda.engine = paused");
$server->reload;
$server->becomes("SELECT state = 'paused' FROM eda.engine_status", 'the engine is paused, so that the log stands still');

my @tables = qw(event transition event_type segment idempotency);
sub fingerprint
{
	my ($db) = @_;
	# The column xid, the transaction that made a step, is left out: it means nothing in another
	# database.
	return join "\n", map { "$_: " . $server->ask(
		"SELECT count(*) || ' ' || md5(string_agg(r, E'\\n' ORDER BY r)) FROM (SELECT (to_jsonb(t) - 'xid')::text AS r FROM eda.$_ t) s", $db) } @tables;
}
my $before = fingerprint('postgres');

for my $format (qw(plain custom))
{
	my $file = PostgreSQL::Test::Utils::tempdir() . "/dump";
	$server->ask("CREATE DATABASE restored_$format");
	$server->command_ok([ 'pg_dump', '--format', $format, '--file', $file, $server->connstr('postgres') ], "$format: pg_dump");
	$server->command_ok(
		$format eq 'plain' ? [ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-f', $file, $server->connstr("restored_$format") ]
		: [ 'pg_restore', '--exit-on-error', '-d', $server->connstr("restored_$format"), $file ], "$format: restored");
	is(fingerprint("restored_$format"), $before, "$format: every row is there");
}

$server->ask("ALTER SYSTEM SET eda.engine = on");
$server->reload;
$server->runs;
for my $db (qw(restored_plain restored_custom))
{
	$server->becomes("SELECT state LIKE 'idle: %' FROM eda.engine_status", "$db: the engine is idle", db => $db);
	note($server->ask('SELECT state FROM eda.engine_status', $db));
	$server->ask("SELECT eda.move_clock('1 day')", $db);
	is($server->ask("SELECT count(*) FROM eda.acquire_next('flow', wait => '300 ms')", $db), '0', "$db: it hands out nothing");
	is(fingerprint($db), $before, "$db: and moves nothing");
	is($server->ask("SELECT count(*) FROM eda.history('c0ffee00-1234-4567-89ab-0123456789ab')", $db) > 0, 1, "$db: histories can be read");

	# A new event type gets an id that is not taken.
	$server->ask("SELECT FROM eda.configure('NEW', 'flow')", $db);
	$server->becomes("SELECT state LIKE 'idle: %' FROM eda.engine_status", "$db: configure() there does not make it a home", db => $db);
	$server->log_is_clean($db);
}
$server->ask("SELECT eda.move_clock('0')", 'restored_plain');

for my $table (qw(event transition event_1 transition_1))
{
	like($server->refusal("INSERT INTO eda.$table SELECT * FROM eda.$table"), qr/ED010/, "at home INSERT INTO eda.$table is refused");
	like($server->refusal("DELETE FROM eda.$table"), qr/ED010/, "DELETE too");
	like($server->refusal("UPDATE eda.$table SET segment = segment"), qr/ED010/, "UPDATE too");
	like($server->refusal("TRUNCATE eda.$table"), qr/ED010/, "TRUNCATE too");
	like($server->refusal("SET session_replication_role = replica; DELETE FROM eda.$table"), qr/ED010/, "also for a replica role");
}
$server->work_off('postgres', 'the original goes on');
$server->ends_well;

done_testing();
