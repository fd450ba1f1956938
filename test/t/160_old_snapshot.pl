# While an old snapshot is held, events go on to their end and leave no dead tuple in the log.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('snapshot', conf => "autovacuum = off\n");
$server->set_up('postgres');
$server->ask('CREATE EXTENSION pgstattuple');
my $old = $server->background_psql('postgres');
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM eda.event');

for my $round (1 .. 5)
{
	$server->ask("SELECT test.publish('T', 'flow', 2000);
		CALL test.work('flow', 2000, max_events => 200)");
}
is($server->ask("SELECT count(*) FROM eda.event_state WHERE state = 'succeeded'"), '10000', '10000 events run through');
is($server->ask("SELECT coalesce(sum(s.dead_tuple_count), 0) FROM pg_class c, pgstattuple(c.oid) s
	WHERE c.relkind = 'r' AND c.relnamespace = 'eda'::regnamespace AND c.relname ~ '^(event|transition)_\\d+\$'"), '0',
	'no leaf has a dead tuple');
cmp_ok($server->ask("SELECT pg_total_relation_size('eda.config') + pg_total_relation_size('eda.engine_state')"), '<', 1024 * 1024,
	'the engine\'s own tables stay small');
is($old->query_safe('SELECT count(*) FROM eda.event'), '0', 'the old snapshot still sees what it saw');
$old->quit;
$server->ends_well;

done_testing();
