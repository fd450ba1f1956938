# The stream never has a message of a commit that a crash undid, although publishers and workers do not wait for the disk.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->start_new('durable');
# With these settings commits that do not wait reach the disk late.
my $server = EdaServer->start_new('durable', streaming => 1, conf => <<CONF);
eda.nats_url = '@{[$nats->url]}'
synchronous_commit = off
wal_writer_delay = 10s
wal_writer_flush_after = 0
CONF
EdaBroker::set_up($server, 'postgres', lease => "'4 s'", dispatch_timeout => "'5 s'");
EdaBroker::becomes($server, 'ready');
my $worker = $nats->worker($server, fail => 0.2);

my $lost = 0;
for my $round (1 .. 6)
{
	my @publishers = map { $server->client('postgres', "SELECT eda.publish('T', 'flow $round');\n" x 3000) } 1 .. 2;
	my $before = $nats->count;
	EdaNats::becomes(sub { $nats->count > $before + 100 }, "round $round: messages arrive");
	select undef, undef, undef, rand 0.3;
	$server->stop('immediate');
	$_->finish for @publishers;
	$server->start;
	$server->runs;
	my @ids = $server->published_by(@publishers);
	my $known = join ',', map { "('$_'::uuid)" } @ids;
	$lost += $server->ask("SELECT count(*) FROM (VALUES $known) v(id) WHERE NOT EXISTS (SELECT FROM eda.event e WHERE e.id = v.id)");

	# Every message is a step of the log.
	my @messages = map { $_->{headers}{'Nats-Msg-Id'}[0] } $nats->messages;
	my $values = join ',', map { /^(.*)-(\d+)$/; "('$1'::uuid, $2)" } @messages;
	is($server->ask("SELECT count(*) FROM (VALUES $values) m(id, version) WHERE NOT EXISTS
			(SELECT FROM eda.transition t WHERE t.event_id = m.id AND t.version = m.version AND t.state = 'dispatched')"), '0',
		"round $round: all @{[scalar @messages]} messages are steps of the log");
}
note("$lost events were lost by the crashes, as their publishers chose");
EdaBroker::all_end($server);
$worker->stop;

# Where commits wait for a standby, the stream never has a message of a commit that the standby
# does not have, even if PostgreSQL stops while it waits.
my $n = $nats->count;
$server->ask("SELECT FROM eda.configure('P', flow_type => 'pull', lease => '1 day'); SELECT FROM eda.configure('T', dispatch_timeout => '1 day'); CREATE TABLE test.before (id uuid)");
for my $mode (qw(fast immediate))
{
	$server->ask('INSERT INTO test.before SELECT id FROM eda.event');
	$server->ask("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
	$server->reload;
	my @clients;
	EdaNats::becomes(sub {
		push @clients, $server->client('postgres', "SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'eda', 'waits')");
		$server->ask("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'SyncRep'") eq 't';
	}, "$mode stop: commits wait for a standby");
	$server->ask("SET synchronous_commit = local; SELECT test.publish('T', 'replica', 100)");
	$server->becomes("SELECT count(*) = 100 FROM eda.event_state WHERE flow_id LIKE 'replica %' AND id NOT IN (SELECT id FROM test.before) AND state = 'dispatched'", "$mode stop: the events are dispatched");
	is($server->ask("SET synchronous_commit = local; SELECT test.publish('P', 'pulled', 10); SELECT count(*) FROM eda.acquire_next('pull', 1, '60 s')"), "10\n1", "$mode stop: workers that pull go on, because the engine does not wait for the standby");
	is($nats->count, $n, "$mode stop: no message is sent");
	$server->stop($mode);
	is($nats->count, $n, "$mode stop: none is sent while PostgreSQL stops");
	$_->kill_kill for @clients;
	$server->append_conf('postgresql.auto.conf', "synchronous_standby_names = ''");
	$server->start;
	$server->runs;
	EdaNats::becomes(sub { $nats->count == $n + 100 }, "$mode stop: when commits no longer wait, the messages arrive");
	$n += 100;
}
$server->ask("SELECT eda.cancel(id) FROM eda.event_state WHERE event_type = 'P' AND state NOT IN ('succeeded', 'canceled')");
$worker = $nats->worker($server);
EdaBroker::all_end($server, 'a worker processes the events');
is($server->ask('SELECT count(*) FROM test.effect'), $server->ask("SELECT count(*) FROM eda.event WHERE event_type <> 'P'"), 'each event had its effect once');
$worker->stop;
EdaNats::Worker::all_did_well();
$server->ends_well;

done_testing();
