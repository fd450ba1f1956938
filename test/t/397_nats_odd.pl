# Odd payloads, names, clocks and streams hold up nobody else: what cannot go out fails with a reason, what can wait is found again.
use strict;
use warnings;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->start_new('odd');
my $server = EdaServer->start_new('odd', conf => "eda.nats_url = '@{[$nats->url]}'\n");
EdaNats::set_up($server, 'postgres', dispatch_timeout => "'1 min'");
EdaNats::broker_becomes($server, 'ready');

# What happened last to a flow's event.
sub last_words
{
	my ($flow, $db) = @_;
	return $server->ask("SELECT detail ->> 'error' || ': ' || (detail ->> 'reason') FROM eda.event_state WHERE flow_id = '$flow'", $db);
}

# 110 kB that are more than a gigabyte as text
$server->ask("SELECT eda.publish('T', 'huge', (SELECT jsonb_agg('1e131071'::numeric) FROM generate_series(1, 9000)))");
$server->ask("SELECT test.publish('T', 'small', 100)");
$server->becomes("SELECT state = 'failed' FROM eda.event_state WHERE flow_id = 'huge'", 'a payload that is huge as text fails');
like(last_words('huge'), qr/^cannot be delivered: larger than the \d+ bytes/, 'and says why');
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.flow') == 100 }, 'the others go out');
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine._DLQ.flow') == 1 }, 'its dead letter too');
unlike(($nats->messages(subject => 'event-engine._DLQ.flow'))[0]{body}, qr/"payload"/, 'without the payload');
is($server->ask('SELECT last_error FROM eda.engine_status'), '', 'no error in the engine');
$server->ask("SELECT eda.cancel(id) FROM eda.event_state WHERE state = 'dispatched'");

# Text that has no equivalent in UTF-8, in a database whose name has none in its encoding
$server->ask("CREATE DATABASE \"Ёлка\" TEMPLATE template0 ENCODING 'WIN1252' LC_COLLATE 'C' LC_CTYPE 'C'");
EdaNats::set_up($server, 'Ёлка', subject => "'event-engine.tree.{database}.{flow_id}'");
EdaNats::broker_becomes($server, 'ready', db => 'Ёлка');
$server->ask("SELECT eda.publish('T', 'good ' || i) FROM generate_series(1, 20) i; SELECT eda.publish('T', 'bad ' || chr(129)); SELECT eda.publish('T', 'good ' || i) FROM generate_series(21, 40) i", 'Ёлка');
$server->becomes("SELECT count(*) = 40 FROM eda.event_state WHERE flow_id LIKE 'good%' AND state = 'dispatched'", 'the good ones are dispatched', db => 'Ёлка');
EdaNats::becomes(sub { grep({ $_->{subject} =~ /^event-engine\.tree\.%D0%81%D0%BB%D0%BA%D0%B0\.good%20\d+$/ } $nats->messages) == 40 }, 'and go out');
$server->becomes("SELECT state = 'failed' AND detail ->> 'reason' ~ 'UTF-8' FROM eda.event_state WHERE flow_id LIKE 'bad%'", 'the other one fails and says why', db => 'Ёлка');
$server->ask("SELECT eda.cancel(id) FROM eda.event_state WHERE state = 'dispatched'", 'Ёлка');

# The clock steps forward while the broker has a message, and back before it is acknowledged
$nats->hang;
my $id = $server->ask("SELECT eda.publish('T', 'clock')");
$server->becomes("SELECT broker_unacknowledged = 1 FROM eda.engine_status", 'the broker has it');
my $ticks = $server->ask("SELECT eda.move_clock('5 min'); SELECT ticks FROM eda.engine_status");
$ticks =~ s/.*\n//s;
$server->becomes("SELECT ticks > $ticks + 2 FROM eda.engine_status", 'its deadline has passed');
$server->ask("SELECT eda.move_clock('0')");
$nats->go_on;
$server->becomes('SELECT broker_unacknowledged = 0 FROM eda.engine_status', 'acknowledged');
$server->ask("SELECT eda.move_clock('20 min')");
$server->becomes("SELECT count(*) >= 2 FROM eda.transition WHERE event_id = '$id' AND state = 'dispatched'", 'it is not forgotten');
$server->ask("SELECT eda.cancel('$id')");

# Held by the broker for longer than the timeout, then left to workers in the database, or suspended
$server->ask("SELECT FROM eda.configure('T', dispatch_timeout => '1 s')");
$nats->hang;
$server->ask("SELECT eda.publish('T', 'held')");
$server->becomes("SELECT broker_unacknowledged = 1 FROM eda.engine_status", 'the broker has it');
$ticks = $server->ask("SELECT eda.move_clock('30 min'); SELECT ticks FROM eda.engine_status");
$ticks =~ s/.*\n//s;
$server->becomes("SELECT ticks > $ticks + 2 FROM eda.engine_status", 'for longer than its timeout');
$server->ask("SELECT FROM eda.configure('T', delivery => 'pull')");
is($server->ask("SELECT flow_id FROM eda.acquire_next('flow', 1, '20 s')"), 'held', 'a worker in the database gets it');
$nats->go_on;
$server->ask("SELECT eda.cancel(id) FROM eda.event_state WHERE flow_id = 'held'");

# What the broker could not bring is not counted against workers
$server->ask("SELECT FROM eda.configure('T', delivery => 'nats')");
$id = $server->ask("SELECT eda.publish('T', 'fruitless')");
my $hours = 1;
for my $n (1 .. 12)
{
	$server->becomes("SELECT count(*) = $n FROM eda.transition WHERE event_id = '$id' AND state = 'dispatched'", "message $n");
	$server->becomes('SELECT broker_unacknowledged = 0 FROM eda.engine_status', 'acknowledged');
	$hours += 2;
	$server->ask("SELECT eda.move_clock('$hours hours')");
}
$server->becomes("SELECT returns >= 12 FROM eda.transition WHERE event_id = '$id' ORDER BY version DESC LIMIT 1", 'twelve messages for nothing');
$server->ask("SELECT FROM eda.configure('T', delivery => 'pull')");
is($server->ask("BEGIN; SELECT flow_id FROM eda.acquire_next('flow', 1, '20 s'); ROLLBACK"), 'fruitless', 'a worker takes it, and rolls back');
is($server->ask("SELECT flow_id FROM eda.acquire_next('flow', 1, '20 s')"), 'fruitless', 'another takes it: it has not failed');
$server->ask("SELECT eda.cancel('$id')");

# A stream without a subject for dead letters: they wait, without a busy engine, and are told when there is one
$nats->api('STREAM.DELETE.EDA');
$nats->api('STREAM.CREATE.EDA', { name => 'EDA', subjects => ['event-engine.flow'], storage => 'file', duplicate_window => 120_000_000_000 });
$server->ask("SELECT FROM eda.configure('T', delivery => 'nats')");
EdaNats::set($server, nats_max_age => '8d');
$server->becomes("SELECT broker_notice ~ '_DLQ.flow' FROM eda.engine_status", 'the notice names the subject');
$id = $server->ask("SELECT eda.publish('T', 'dead')");
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$id'", 'an event goes out');
$server->ask("SELECT eda.fail(event_id, 'no way', token => token, retry => false) FROM eda.acquire('$id')");
$ticks = $server->ask('SELECT ticks FROM eda.engine_status');
$server->becomes("SELECT last_tick_at > eda.clock() - interval '2 s' FROM eda.engine_status WHERE ticks > $ticks + 3", 'the engine turns');
cmp_ok($server->ask('SELECT ticks FROM eda.engine_status') - $ticks, '<', 500, 'and does not spin');
$nats->api('STREAM.UPDATE.EDA', { name => 'EDA', subjects => ['event-engine.>'], storage => 'file', duplicate_window => 120_000_000_000 });
EdaNats::becomes(sub { grep { $_->{body} =~ /no way/ } $nats->messages(subject => 'event-engine._DLQ.flow') }, 'with a subject for it the dead letter is told');

# Settings that are nonsense are refused or said to be wrong, and the server stays up
foreach my $url ('tls://' . 'a' x 300, 'nats://a:b%22c\\@127.0.0.1:1', '://', 'nats://[::1', ',,,')
{
	EdaNats::broker_becomes($server, 'ready');
	EdaNats::set($server, nats_url => $url);
	$server->becomes("SELECT broker IN ('unreachable', 'refused', 'off') FROM eda.engine_status", 'no broker at ' . substr $url, 0, 30);
	EdaNats::set($server, nats_url => $nats->url);
}
EdaNats::broker_becomes($server, 'ready');
unlike(PostgreSQL::Test::Utils::slurp_file($server->logfile), qr/was terminated by signal/, 'nothing has crashed');
$server->ends_well;

done_testing();
