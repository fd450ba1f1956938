# Expired events are not sent, events that are too large fail, and each dead letter arrives once, with its error and history.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->start_new('ends', conf => "max_payload: 65536\n");
my $server = EdaServer->start_new('ends', conf => "eda.nats_url = '@{[$nats->url]}'\n");
EdaBroker::set_up($server, 'postgres', dispatch_timeout => "'10 days'", lease => "'10 days'");
$server->ask(<<'SQL');
SELECT FROM eda.configure('MORTAL', 'Mortal', delivery => 'nats', lifespan => '1 hour', max_attempts => 1, dispatch_timeout => '10 days', attempt_delays => '{0 s}');
SELECT FROM eda.configure('ALARM', 'alarms');
SELECT FROM eda.configure('TWICE', 'twice', delivery => 'nats', max_attempts => 2, attempt_delays => '{0 s}', on_fail_event_type => 'ALARM');
SELECT FROM eda.configure('PULLED', 'pulled', max_attempts => 1);
SQL
EdaBroker::becomes($server, 'ready');

# The dead letters of a flow type in the stream.
sub dead_letters
{
	my ($flow) = @_;
	return map { { %$_, event => $EdaNats::json->decode($_->{body}) } } $nats->messages(subject => "event-engine._DLQ.$flow");
}

# Acquire an event when it has been dispatched; returns the token.
sub acquired
{
	my ($id) = @_;
	$server->poll_query_until('postgres', "SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$id'");
	return $server->ask("SELECT token FROM eda.acquire('$id')");
}

# Test that the engine saves its state, and flush it to disk.
sub saved
{
	my $now = $server->ask('SELECT clock_timestamp()');
	$server->ask("SELECT eda.publish('ALARM', 'makes it save')");
	$server->becomes("SELECT saved_at > '$now' FROM eda.engine_state", 'the engine saves its state');
	# The engine's transaction that saves it does not wait for the disk.
	$server->ask('CHECKPOINT');
	return;
}

# Events expire while the NATS server is away.
$nats->stop;
EdaBroker::becomes($server, 'unreachable');
$server->ask("SELECT test.publish('MORTAL', 'mortal', 300); SELECT test.publish('T', 'eternal', 300)");
$server->ask("SELECT eda.move_clock('2 hours')");
$server->becomes("SELECT count(*) = 300 FROM eda.event_state WHERE state = 'expired'", 'three hundred events expire');
$server->ask("SELECT test.publish('MORTAL', 'young', 50)");
$nats->start;
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.mortal') == 50 && $nats->messages(subject => 'event-engine.flow') == 300 }, 'when the server is back, events that have not expired are sent');
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine._DLQ.mortal') == 300 }, 'the expired events have dead letters');
is(scalar(grep { $_->{body} =~ /"subject":\s*"mortal / } $nats->messages(subject => 'event-engine.mortal')), 0, 'the expired events have no messages');
my ($letter) = dead_letters('mortal');
is("$letter->{event}{type} $letter->{event}{data}{state} $letter->{event}{data}{event_type} $letter->{event}{data}{flow_type}", 'eda.dead_letter expired MORTAL Mortal', 'a dead letter says what happened');

# Events expire after they were dispatched: their messages stay in the stream, but nobody can
# acquire them.
$server->ask("SELECT eda.move_clock('4 hours')");
$server->becomes("SELECT count(*) = 350 FROM eda.event_state WHERE state = 'expired'", 'events that nobody acquired expire');
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine._DLQ.mortal') == 350 }, 'they have dead letters');
my $one = $server->ask("SELECT id FROM eda.event WHERE flow_id = 'young 1'");
is($server->ask("SELECT count(*) FROM eda.acquire('$one')"), '0', 'an expired event cannot be acquired');

# A dead letter has the error, history, payload and headers of its event.
my $id = $server->ask(q[SELECT eda.publish('TWICE', 'ride 1', '{"a": [1, "ż"]}', correlation_id => 'c 1', headers => '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}')]);
for my $attempt (1 .. 2)
{
	my $token = acquired($id);
	$server->ask("SELECT eda.fail('$id', 'error $attempt', token => $token)");
}
EdaNats::becomes(sub { dead_letters('twice') == 1 }, 'an event without attempts left has a dead letter');
($letter) = dead_letters('twice');
my $e = $letter->{event};
my $version = $server->ask("SELECT max(version) FROM eda.transition WHERE event_id = '$id'");
is($letter->{headers}{'Nats-Msg-Id'}[0], "$id-$version", 'its message id is the event id and the last version');
is("@$e{qw(specversion id type source subject flowtype correlationid)}", "1.0 $id-$version eda.dead_letter /eda/postgres ride 1 twice c 1", 'it has these attributes');
is("@{$e->{data}}{qw(event_id event_type flow_type flow_id state error attempts)}", "$id TWICE twice ride 1 failed error 2 2", 'its data says what failed');
is_deeply($e->{data}{payload}, { a => [ 1, "\x{17c}" ] }, 'it has the payload');
is($e->{data}{headers}{traceparent}, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', 'it has the headers');
is(join(', ', map { "$_->{version} $_->{state}" . ($_->{error} ? " $_->{error}" : '') } @{ $e->{data}{history} }),
	$server->ask("SELECT string_agg(version || ' ' || state || coalesce(' ' || (detail ->> 'error'), ''), ', ' ORDER BY version) FROM eda.history('$id')"), 'it has the history with each error');
is($server->ask("SELECT event_type FROM eda.event WHERE parent_id = '$id'"), 'ALARM', 'there is an on-fail event too');

# An event that fails, is redriven and fails again has two dead letters.
$server->ask("SELECT eda.redrive('$id')");
my $token = acquired($id);
$server->ask("SELECT eda.fail('$id', 'error 3', token => $token, retry => false)");
EdaNats::becomes(sub { dead_letters('twice') == 2 }, 'the second failure has a dead letter');
is((dead_letters('twice'))[1]{event}{data}{error}, 'error 3', 'with the error of the second failure');

# Events fail while the NATS server is away, and PostgreSQL crashes before it is back.
my @late = split /\n/, $server->ask("SELECT unnest(eda.publish_many('TWICE', array(SELECT 'late ' || n FROM generate_series(1, 100) n)))");
$server->becomes("SELECT count(*) = 100 FROM eda.event_state WHERE flow_id LIKE 'late %' AND state = 'dispatched'", 'a hundred events are dispatched');
$server->ask("CREATE TABLE test.held AS SELECT a.event_id, a.token FROM eda.event e, eda.acquire(e.id) a WHERE e.flow_id LIKE 'late %'");
$nats->stop;
EdaBroker::becomes($server, 'unreachable');
$server->ask("SELECT eda.fail(event_id, 'late', token => token, retry => false) FROM (SELECT * FROM test.held ORDER BY event_id LIMIT 30) h");
saved();
$server->ask("SELECT eda.fail(event_id, 'late', token => token, retry => false) FROM (SELECT * FROM test.held ORDER BY event_id OFFSET 30 LIMIT 20) h");
$server->stop('immediate');
$server->start;
$server->runs;
$server->ask("SELECT eda.move_clock('4 hours')");
EdaBroker::becomes($server, 'unreachable');
$server->ask("SELECT eda.fail(event_id, 'late', token => token, retry => false) FROM (SELECT * FROM test.held ORDER BY event_id DESC LIMIT 50) h");
$nats->start;
EdaNats::becomes(sub { dead_letters('twice') >= 102 }, 'when the server is back, the dead letters arrive');
$server->becomes('SELECT broker_unacknowledged = 0 FROM eda.engine_status', 'they are acknowledged');
is(scalar(dead_letters('twice')), 102, 'each dead letter is in the stream once');
my %told = map { $_->{event}{data}{event_id} => 1 } dead_letters('twice');
is(scalar(grep { !$told{$_} } @late), 0, 'every event that failed has one');
saved();
$server->restart;
$server->runs;
EdaBroker::becomes($server, 'ready');
my $mark = $server->ask("SELECT eda.publish('T', 'mark')");
EdaNats::becomes(sub { grep { $_->{body} =~ /"id":\s*"$mark"/ } $nats->messages(subject => 'event-engine.flow') }, 'after a restart other events are sent');
is(scalar(dead_letters('twice')), 102, 'no dead letter is in the stream again');
is($server->ask('SELECT broker_published FROM eda.engine_status'), '1', 'and none was sent again');

# Dead letters are sent to a stopped NATS server; then it is killed, and PostgreSQL crashes.
$server->ask("SELECT eda.publish('TWICE', 'unheard ' || n) FROM generate_series(1, 20) n");
$server->becomes("SELECT count(*) = 20 FROM eda.event_state WHERE flow_id LIKE 'unheard %' AND state = 'dispatched'", 'twenty events are dispatched');
$server->ask("CREATE TABLE test.unheard AS SELECT a.event_id, a.token FROM eda.event e, eda.acquire(e.id) a WHERE e.flow_id LIKE 'unheard %'");
$server->becomes('SELECT broker_unacknowledged = 0 FROM eda.engine_status', 'their messages are acknowledged');
$nats->hang;
$server->ask("SELECT eda.fail(event_id, 'unheard', token => token, retry => false) FROM test.unheard");
$server->becomes('SELECT broker_unacknowledged = 20 FROM eda.engine_status', 'their dead letters wait for acknowledgements');
saved();
$server->stop('immediate');
$nats->kill9;
$nats->start;
$server->start;
$server->runs;
EdaNats::becomes(sub { dead_letters('twice') == 122 }, 'after both have restarted the dead letters arrive');

# A message is too large for the server.
my $reconnects = $server->ask('SELECT broker_reconnects FROM eda.engine_status');
$id = $server->ask("SELECT eda.publish('TWICE', 'large', jsonb_build_object('text', repeat('x', 100000)))");
my $small = $server->ask("SELECT eda.publish('TWICE', 'small', jsonb_build_object('text', repeat('x', 50000)))");
$server->becomes("SELECT state = 'failed' FROM eda.event_state WHERE id = '$id'", 'an event whose message is too large fails');
like($server->ask("SELECT error || ': ' || (detail ->> 'reason') FROM eda.event_state WHERE id = '$id'"), qr/cannot be delivered: .*65536 bytes/, 'the log says why');
is($server->ask("SELECT state FROM eda.event_state WHERE id = '$small'"), 'dispatched', 'a smaller event is dispatched');
is($server->ask("SELECT event_type FROM eda.event WHERE parent_id = '$id'"), 'ALARM', 'the failed event has an on-fail event');
EdaNats::becomes(sub { dead_letters('twice') == 123 }, 'the failed event has a dead letter');
($letter) = grep { $_->{event}{data}{event_id} eq $id } dead_letters('twice');
ok($letter && !exists $letter->{event}{data}{payload}, 'the dead letter has no payload');
EdaBroker::becomes($server, 'ready', 'the broker is ready');
is($server->ask('SELECT broker_reconnects FROM eda.engine_status'), $reconnects, 'the connection was not lost');

# A message is too large for the stream.
my $config = $nats->stream_info->{config};
$config->{max_msg_size} = 10000;
my $answer = $nats->api('STREAM.UPDATE.EDA', $config);
ok(!$answer->{error}, 'the stream takes 10,000 bytes') or diag(explain($answer->{error}));
$id = $server->ask("SELECT eda.publish('TWICE', 'medium', jsonb_build_object('text', repeat('x', 20000)))");
$small = $server->ask("SELECT eda.publish('TWICE', 'after medium')");
$server->becomes("SELECT state = 'failed' FROM eda.event_state WHERE id = '$id'", 'an event whose message is too large fails');
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$small'", 'it does not hold up the next event');
$server->becomes("SELECT broker = 'ready' AND broker_unacknowledged = 0 FROM eda.engine_status", 'all messages are acknowledged');

# Dead letters of event types that workers pull are not sent to NATS.
$server->ask("SELECT eda.publish('PULLED', 'x')");
$server->ask("SELECT eda.fail(event_id, 'oops', token => token) FROM eda.acquire_next('pulled', 1, '60 s')");
is($server->ask("SELECT count(*) FROM eda.dead_letter WHERE event_type = 'PULLED'"), '1', 'a pulled event has a dead letter');
is(scalar(grep { $_->{subject} =~ /pulled/ } $nats->messages), 0, 'which is not in the stream');
$server->ask('SELECT eda.cancel(id) FROM test.unfinished');
$server->ends_well;

done_testing();
