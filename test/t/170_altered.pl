# While other sessions build, rebuild, move and drop indexes of the log, a session that goes on
# working enters every row into every index.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('altered', conf => "allow_in_place_tablespaces = on\n");
$server->set_up('postgres', lifespan => "'1 day'");
$server->ask("CREATE TABLESPACE elsewhere LOCATION ''");
my $session = $server->background_psql('postgres', on_error_stop => 0);
my $leaf = $server->ask("SELECT segment FROM eda.segment WHERE ends_at = 'infinity'");
my ($event, $transition) = ("eda.event_$leaf", "eda.transition_$leaf");

# Write in each way: single rows and many, with and without an entry in the partial indexes.
sub work
{
	$session->query_safe("SELECT eda.publish('T', 'one', correlation_id => 'x'), test.publish('T', 'many', 3),
		eda.publish('T', 'child', parent_id => gen_random_uuid(), idempotency_key => gen_random_uuid()::text)");
	$session->query_safe("CALL test.work('flow', 2, 0.3)");
	return;
}

# Run some DDL between two calls of the session, and once more while the session has a
# transaction open.
sub altered
{
	my ($ddl, $undo) = @_;
	(my $name = $ddl) =~ s/eda\.|_$leaf|\s+WHERE.*//g;

	work();
	$server->ask($ddl);
	work();
	$server->ask($undo) if $undo;
	work();
	$session->query_safe("BEGIN; CREATE TEMP TABLE held AS SELECT * FROM eda.acquire_next('flow', 3, '60 s');
		SELECT eda.publish('T', 'before')");
	my $other = $server->client('postgres', "$ddl;\n");
	$server->poll_query_until('postgres', "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
		WHERE NOT granted AND a.backend_type = 'client backend')") or die "$name does not wait";
	$session->query_safe("SELECT eda.publish('T', 'during'), test.publish('T', 'during', 3);
		SELECT eda.succeed(event_id, token) FROM held; DROP TABLE held; COMMIT");
	work();
	ok($other->finish, "$name, beside an open transaction");
	work();
	$server->log_is_clean('postgres');
	return;
}

work();
altered("CREATE INDEX mine ON $event (correlation_id) WHERE correlation_id IS NOT NULL", 'DROP INDEX eda.mine');
altered("CREATE INDEX CONCURRENTLY mine_too ON $transition (worker, (version + 1))", 'DROP INDEX CONCURRENTLY eda.mine_too');
altered("CREATE INDEX mine_xid ON $transition USING brin (xid) WITH (pages_per_range = 1)", 'DROP INDEX eda.mine_xid');
altered("REINDEX TABLE $transition");
altered("REINDEX TABLE CONCURRENTLY $transition");
altered("REINDEX INDEX CONCURRENTLY ${event}_pkey");
altered("ALTER INDEX ${transition}_due SET TABLESPACE elsewhere", "ALTER INDEX ${transition}_due SET TABLESPACE pg_default");
altered("VACUUM FULL $event, $transition");

is($server->ask("SET enable_seqscan = off; SELECT count(*) FROM $event WHERE correlation_id IS NOT NULL"),
	$server->ask("SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off;
		SELECT count(*) FROM $event WHERE correlation_id = 'x'"), 'as many rows by the added index as without it');
is($server->ask("SET enable_seqscan = off; SELECT count(*) FROM $transition t JOIN (SELECT DISTINCT xid FROM $transition OFFSET 0) x USING (xid)"),
	$server->ask("SET enable_bitmapscan = off; SELECT count(*) FROM $transition"), 'and by the summaries');
$server->ask('DROP INDEX eda.mine, eda.mine_too, eda.mine_xid');
work();

# eda writes the log without PostgreSQL's executor, which would ignore these changes.  So it
# refuses to write until the change is undone.
sub refused
{
	my ($ddl, $undo) = @_;

	$server->ask($ddl);
	like(eval { $session->query("SELECT eda.publish('T', 'no', idempotency_key => gen_random_uuid()::text)"); $session->{stderr} }, qr/was altered/, "refused: $ddl");
	$session->{stderr} = '';
	$server->ask($undo);
	work();
	return;
}

$server->ask('CREATE FUNCTION test.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$');
refused("CREATE TRIGGER mine BEFORE INSERT ON $event FOR EACH ROW EXECUTE FUNCTION test.no()", "DROP TRIGGER mine ON $event");
refused("ALTER TABLE $transition ADD CONSTRAINT mine CHECK (version > 0)", "ALTER TABLE $transition DROP CONSTRAINT mine");
refused("ALTER TABLE eda.transition ADD COLUMN mine integer DEFAULT 1", 'ALTER TABLE eda.transition DROP COLUMN mine');
refused('ALTER TABLE eda.idempotency ADD COLUMN mine integer', 'ALTER TABLE eda.idempotency DROP COLUMN mine');
refused("ALTER TABLE $event ALTER expires_at SET NOT NULL", "ALTER TABLE $event ALTER expires_at DROP NOT NULL");
refused("CREATE RULE mine AS ON INSERT TO $event DO INSTEAD NOTHING", "DROP RULE mine ON $event");
refused("ALTER TABLE $event ADD CONSTRAINT mine EXCLUDE USING btree (id WITH =)", "ALTER TABLE $event DROP CONSTRAINT mine");
refused("ALTER TABLE eda.transition DETACH PARTITION $transition", "ALTER TABLE eda.transition ATTACH PARTITION $transition FOR VALUES IN ($leaf)");

# The session itself makes an index and rolls back to a savepoint.  What it had cached of the
# index must go, too.
$session->query_safe("BEGIN; SELECT eda.publish('T', 'a'); SAVEPOINT s; CREATE INDEX mine ON $event (created_at);
	SELECT eda.publish('T', 'b'); ROLLBACK TO s; SELECT eda.publish('T', 'c'); COMMIT");
work();
$server->work_off('postgres');
$server->ends_well;

# After DROP and CREATE EXTENSION the tables are others with the same names.
$server->ask('DROP EXTENSION eda; DROP SCHEMA test CASCADE');
$server->set_up('postgres', lifespan => "'1 day'");
work();
$server->work_off('postgres');
cmp_ok($session->query_safe("SELECT count(*) FROM pg_backend_memory_contexts WHERE name = 'eda table'"), '<=', 4,
	'what is known of a table is kept once');
$session->quit;
$server->ends_well;

done_testing();
