# Odd payloads, names, clocks and streams hold up no other event: what cannot be sent fails with a reason, and what has to wait is sent later.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->start_new('odd');
my $server = EdaServer->start_new('odd', conf => "eda.nats_url = '@{[$nats->url]}'\n");
EdaBroker::set_up($server, 'postgres', dispatch_timeout => "'1 min'");
EdaBroker::becomes($server, 'ready');

# The error and the reason in the latest transition of a flow's event.
sub last_words
{
	my ($flow, $db) = @_;
	return $server->ask("SELECT detail ->> 'error' || ': ' || (detail ->> 'reason') FROM eda.event_state WHERE flow_id = '$flow'", $db);
}

# A payload of 110 kB that would be more than a gigabyte as text
$server->ask("SELECT eda.publish('T', 'huge', (SELECT jsonb_agg('1e131071'::numeric) FROM generate_series(1, 9000)))");
$server->ask("SELECT test.publish('T', 'small', 100)");
$server->becomes("SELECT state = 'failed' FROM eda.event_state WHERE flow_id = 'huge'", 'a payload that is huge as text fails');
like(last_words('huge'), qr/^cannot be delivered: larger than the \d+ bytes/, 'the log says why');
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.flow') == 100 }, 'the other events are sent');
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine._DLQ.flow') == 1 }, 'so is the dead letter of the failed event');
unlike(($nats->messages(subject => 'event-engine._DLQ.flow'))[0]{body}, qr/"payload"/, 'the dead letter has no payload');
is($server->ask('SELECT last_error FROM eda.engine_status'), '', 'the engine had no error');
$server->ask("SELECT eda.cancel(id) FROM eda.event_state WHERE state = 'dispatched'");

# Text that cannot be converted to UTF-8, in a database whose name cannot be converted to the
# database's encoding
$server->ask("CREATE DATABASE \"Ёлка\" TEMPLATE template0 ENCODING 'WIN1252' LC_COLLATE 'C' LC_CTYPE 'C'");
EdaBroker::set_up($server, 'Ёлка', subject => "'event-engine.tree.{database}.{flow_id}'");
EdaBroker::becomes($server, 'ready', db => 'Ёлка');
$server->ask("SELECT eda.publish('T', 'good ' || i) FROM generate_series(1, 20) i; SELECT eda.publish('T', 'bad ' || chr(129)); SELECT eda.publish('T', 'good ' || i) FROM generate_series(21, 40) i", 'Ёлка');
$server->becomes("SELECT count(*) = 40 FROM eda.event_state WHERE flow_id LIKE 'good%' AND state = 'dispatched'", 'events that can be converted are dispatched', db => 'Ёлка');
EdaNats::becomes(sub { grep({ $_->{subject} =~ /^event-engine\.tree\.%D0%81%D0%BB%D0%BA%D0%B0\.good%20\d+$/ } $nats->messages) == 40 }, 'and sent');
$server->becomes("SELECT state = 'failed' AND detail ->> 'reason' ~ 'UTF-8' FROM eda.event_state WHERE flow_id LIKE 'bad%'", 'the other event fails, and the log says why', db => 'Ёлка');
$server->ask("SELECT eda.cancel(id) FROM eda.event_state WHERE state = 'dispatched'", 'Ёлка');

# The clock steps forward while a message waits for its acknowledgement, and back before it comes.
$nats->hang;
my $id = $server->ask("SELECT eda.publish('T', 'clock')");
$server->becomes("SELECT broker_unacknowledged = 1 FROM eda.engine_status", 'the message waits');
my $ticks = $server->ask("SELECT eda.move_clock('5 min'); SELECT ticks FROM eda.engine_status");
$ticks =~ s/.*\n//s;
$server->becomes("SELECT ticks > $ticks + 2 FROM eda.engine_status", 'the engine has run after the dispatch timeout');
$server->ask("SELECT eda.move_clock('0')");
$nats->go_on;
$server->becomes('SELECT broker_unacknowledged = 0 FROM eda.engine_status', 'the message is acknowledged');
$server->ask("SELECT eda.move_clock('20 min')");
$server->becomes("SELECT count(*) >= 2 FROM eda.transition WHERE event_id = '$id' AND state = 'dispatched'", 'after the dispatch timeout the event is dispatched again');
$server->ask("SELECT eda.cancel('$id')");

# A message waits for longer than the dispatch timeout, and then the event's type is delivered by
# pull.
$server->ask("SELECT FROM eda.configure('T', dispatch_timeout => '1 s')");
$nats->hang;
$server->ask("SELECT eda.publish('T', 'held')");
$server->becomes("SELECT broker_unacknowledged = 1 FROM eda.engine_status", 'the message waits');
$ticks = $server->ask("SELECT eda.move_clock('30 min'); SELECT ticks FROM eda.engine_status");
$ticks =~ s/.*\n//s;
$server->becomes("SELECT ticks > $ticks + 2 FROM eda.engine_status", 'for longer than the dispatch timeout');
$server->ask("SELECT FROM eda.configure('T', delivery => 'pull')");
is($server->ask("SELECT flow_id FROM eda.acquire_next('flow', 1, '60 s')"), 'held', 'a worker that pulls gets the event');
$nats->go_on;
$server->ask("SELECT eda.cancel(id) FROM eda.event_state WHERE flow_id = 'held'");

# Returns while a type is delivered by NATS do not make the event fail when it is delivered by
# pull.
$server->ask("SELECT FROM eda.configure('T', delivery => 'nats')");
$id = $server->ask("SELECT eda.publish('T', 'fruitless')");
my $hours = 1;
for my $n (1 .. 12)
{
	$server->becomes("SELECT count(*) = $n FROM eda.transition WHERE event_id = '$id' AND state = 'dispatched'", "message $n is dispatched");
	$server->becomes('SELECT broker_unacknowledged = 0 FROM eda.engine_status', 'the message is acknowledged');
	$hours += 2;
	$server->ask("SELECT eda.move_clock('$hours hours')");
}
$server->becomes("SELECT returns >= 12 FROM eda.transition WHERE event_id = '$id' ORDER BY version DESC LIMIT 1", 'twelve messages were sent without a worker');
$server->ask("SELECT FROM eda.configure('T', delivery => 'pull')");
is($server->ask("BEGIN; SELECT flow_id FROM eda.acquire_next('flow', 1, '60 s'); ROLLBACK"), 'fruitless', 'a worker acquires the event and rolls back');
is($server->ask("SELECT flow_id FROM eda.acquire_next('flow', 1, '60 s')"), 'fruitless', 'another worker acquires it: it has not failed');
$server->ask("SELECT eda.cancel('$id')");

# Dead letters wait if the stream does not take their subject, do not keep the engine busy, and are
# sent when it does.
$nats->api('STREAM.DELETE.EDA');
$nats->api('STREAM.CREATE.EDA', { name => 'EDA', subjects => ['event-engine.flow'], storage => 'file', duplicate_window => 120_000_000_000 });
$server->ask("SELECT FROM eda.configure('T', delivery => 'nats')");
EdaBroker::set($server, nats_max_age => '8d');
$server->becomes("SELECT broker_notice ~ '_DLQ.flow' FROM eda.engine_status", 'the notice names the subject');
$id = $server->ask("SELECT eda.publish('T', 'dead')");
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$id'", 'an event is dispatched');
$server->ask("SELECT eda.fail(event_id, 'no way', token => token, retry => false) FROM eda.acquire('$id')");
$ticks = $server->ask('SELECT ticks FROM eda.engine_status');
$server->becomes("SELECT last_tick_at > eda.clock() - interval '2 s' FROM eda.engine_status WHERE ticks > $ticks + 3", 'the engine runs');
cmp_ok($server->ask('SELECT ticks FROM eda.engine_status') - $ticks, '<', 500, 'and does not spin');
$nats->api('STREAM.UPDATE.EDA', { name => 'EDA', subjects => ['event-engine.>'], storage => 'file', duplicate_window => 120_000_000_000 });
EdaNats::becomes(sub { grep { $_->{body} =~ /no way/ } $nats->messages(subject => 'event-engine._DLQ.flow') }, 'when the stream takes its subject, the dead letter is sent');

# URLs that are nonsense are refused or reported as errors, and PostgreSQL stays up.
foreach my $url ('tls://' . 'a' x 300, 'nats://a:b%22c\\@127.0.0.1:1', '://', 'nats://[::1', ',,,')
{
	EdaBroker::becomes($server, 'ready');
	EdaBroker::set($server, nats_url => $url);
	$server->becomes("SELECT broker IN ('unreachable', 'refused', 'off') FROM eda.engine_status", 'there is no broker at ' . substr $url, 0, 30);
	EdaBroker::set($server, nats_url => $nats->url);
}
EdaBroker::becomes($server, 'ready');
unlike(PostgreSQL::Test::Utils::slurp_file($server->logfile), qr/was terminated by signal/, 'no process has crashed');
$server->ends_well;

done_testing();
