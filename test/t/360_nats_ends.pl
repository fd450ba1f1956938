# What has expired is not published, what is too large fails, and dead letters reach the broker with error and history, each once, in their time.
use strict;
use warnings;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->start_new('ends', conf => "max_payload: 65536\n");
my $server = EdaServer->start_new('ends', conf => "eda.nats_url = '@{[$nats->url]}'\n");
EdaNats::set_up($server, 'postgres', dispatch_timeout => "'10 days'", lease => "'10 days'");
$server->ask(<<'SQL');
SELECT FROM eda.configure('MORTAL', 'Mortal', delivery => 'nats', lifespan => '1 hour', max_attempts => 1, dispatch_timeout => '10 days', attempt_delays => '{0 s}');
SELECT FROM eda.configure('ALARM', 'alarms');
SELECT FROM eda.configure('TWICE', 'twice', delivery => 'nats', max_attempts => 2, attempt_delays => '{0 s}', on_fail_event_type => 'ALARM');
SELECT FROM eda.configure('PULLED', 'pulled', max_attempts => 1);
SQL
EdaNats::broker_becomes($server, 'ready');

sub dead_letters
{
	my ($flow) = @_;
	return map { { %$_, event => $EdaNats::json->decode($_->{body}) } } $nats->messages(subject => "event-engine._DLQ.$flow");
}
sub acquired
{
	my ($id) = @_;
	$server->poll_query_until('postgres', "SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$id'");
	return $server->ask("SELECT token FROM eda.acquire('$id')");
}

# The engine's state is on disk.
sub saved
{
	my $now = $server->ask('SELECT clock_timestamp()');
	$server->ask("SELECT eda.publish('ALARM', 'makes it save')");
	$server->becomes("SELECT saved_at > '$now' FROM eda.engine_state", 'the engine saves its state');
	# It does so asynchronously.
	$server->ask('CHECKPOINT');
	return;
}

# Expired while the broker was away
$nats->stop;
EdaNats::broker_becomes($server, 'unreachable');
$server->ask("SELECT test.publish('MORTAL', 'mortal', 300); SELECT test.publish('T', 'eternal', 300)");
$server->ask("SELECT eda.move_clock('2 hours')");
$server->becomes("SELECT count(*) = 300 FROM eda.event_state WHERE state = 'expired'", 'without a broker events expire');
$server->ask("SELECT test.publish('MORTAL', 'young', 50)");
$nats->start;
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.mortal') == 50 && $nats->messages(subject => 'event-engine.flow') == 300 }, 'what lives goes out when it is back');
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine._DLQ.mortal') == 300 }, 'and that the others expired');
is(scalar(grep { $_->{body} =~ /"subject":\s*"mortal / } $nats->messages(subject => 'event-engine.mortal')), 0, 'but not the expired');
my ($letter) = dead_letters('mortal');
is("$letter->{event}{type} $letter->{event}{data}{state} $letter->{event}{data}{event_type} $letter->{event}{data}{flow_type}", 'eda.dead_letter expired MORTAL Mortal', 'a dead letter says what happened');

# Expired when it had been dispatched: the log knows, whatever the stream has.
$server->ask("SELECT eda.move_clock('4 hours')");
$server->becomes("SELECT count(*) = 350 FROM eda.event_state WHERE state = 'expired'", 'what nobody took expires');
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine._DLQ.mortal') == 350 }, 'and is told');
my $one = $server->ask("SELECT id FROM eda.event WHERE flow_id = 'young 1'");
is($server->ask("SELECT count(*) FROM eda.acquire('$one')"), '0', 'its message is worth nothing');

# A dead letter: error, history, payload, headers
my $id = $server->ask(q[SELECT eda.publish('TWICE', 'ride 1', '{"a": [1, "ż"]}', correlation_id => 'c 1', headers => '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}')]);
for my $attempt (1 .. 2)
{
	my $token = acquired($id);
	$server->ask("SELECT eda.fail('$id', 'error $attempt', token => $token)");
}
EdaNats::becomes(sub { dead_letters('twice') == 1 }, 'an event without attempts left is a dead letter');
($letter) = dead_letters('twice');
my $e = $letter->{event};
my $version = $server->ask("SELECT max(version) FROM eda.transition WHERE event_id = '$id'");
is($letter->{headers}{'Nats-Msg-Id'}[0], "$id-$version", 'its message id is the event and its last version');
is("@$e{qw(specversion id type source subject flowtype correlationid)}", "1.0 $id-$version eda.dead_letter /eda/postgres ride 1 twice c 1", 'its attributes');
is("@{$e->{data}}{qw(event_id event_type flow_type flow_id state error attempts)}", "$id TWICE twice ride 1 failed error 2 2", 'its data');
is_deeply($e->{data}{payload}, { a => [ 1, "\x{17c}" ] }, 'the payload');
is($e->{data}{headers}{traceparent}, '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', 'the headers');
is(join(', ', map { "$_->{version} $_->{state}" . ($_->{error} ? " $_->{error}" : '') } @{ $e->{data}{history} }),
	$server->ask("SELECT string_agg(version || ' ' || state || coalesce(' ' || (detail ->> 'error'), ''), ', ' ORDER BY version) FROM eda.history('$id')"), 'the history, with each error');
is($server->ask("SELECT event_type FROM eda.event WHERE parent_id = '$id'"), 'ALARM', 'the on-fail event is there too');

# Died, redriven, died: two dead letters.
$server->ask("SELECT eda.redrive('$id')");
my $token = acquired($id);
$server->ask("SELECT eda.fail('$id', 'error 3', token => $token, retry => false)");
EdaNats::becomes(sub { dead_letters('twice') == 2 }, 'a second death is another dead letter');
is((dead_letters('twice'))[1]{event}{data}{error}, 'error 3', 'with its own error');

# Died while the broker was away; and the engine ended before it was back.
my @late = split /\n/, $server->ask("SELECT unnest(eda.publish_many('TWICE', array(SELECT 'late ' || n FROM generate_series(1, 100) n)))");
$server->becomes("SELECT count(*) = 100 FROM eda.event_state WHERE flow_id LIKE 'late %' AND state = 'dispatched'", 'a hundred go out');
$server->ask("CREATE TABLE test.held AS SELECT a.event_id, a.token FROM eda.event e, eda.acquire(e.id) a WHERE e.flow_id LIKE 'late %'");
$nats->stop;
EdaNats::broker_becomes($server, 'unreachable');
$server->ask("SELECT eda.fail(event_id, 'late', token => token, retry => false) FROM (SELECT * FROM test.held ORDER BY event_id LIMIT 30) h");
saved();
$server->ask("SELECT eda.fail(event_id, 'late', token => token, retry => false) FROM (SELECT * FROM test.held ORDER BY event_id OFFSET 30 LIMIT 20) h");
$server->stop('immediate');
$server->start;
$server->runs;
$server->ask("SELECT eda.move_clock('4 hours')");
EdaNats::broker_becomes($server, 'unreachable');
$server->ask("SELECT eda.fail(event_id, 'late', token => token, retry => false) FROM (SELECT * FROM test.held ORDER BY event_id DESC LIMIT 50) h");
$nats->start;
EdaNats::becomes(sub { dead_letters('twice') >= 102 }, 'what died without a broker is told when it is back');
$server->becomes('SELECT broker_unacknowledged = 0 FROM eda.engine_status', 'and acknowledged');
is(scalar(dead_letters('twice')), 102, 'each once');
my %told = map { $_->{event}{data}{event_id} => 1 } dead_letters('twice');
is(scalar(grep { !$told{$_} } @late), 0, 'all of them');
saved();
$server->restart;
$server->runs;
EdaNats::broker_becomes($server, 'ready');
my $mark = $server->ask("SELECT eda.publish('T', 'mark')");
EdaNats::becomes(sub { grep { $_->{body} =~ /"id":\s*"$mark"/ } $nats->messages(subject => 'event-engine.flow') }, 'after a restart other events go out');
is(scalar(dead_letters('twice')), 102, 'and no dead letter again');
is($server->ask('SELECT broker_published FROM eda.engine_status'), '1', 'nor was one sent and dropped');

# Sent to a server that stood still and was killed, by an engine that ended too
$server->ask("SELECT eda.publish('TWICE', 'unheard ' || n) FROM generate_series(1, 20) n");
$server->becomes("SELECT count(*) = 20 FROM eda.event_state WHERE flow_id LIKE 'unheard %' AND state = 'dispatched'", 'twenty go out');
$server->ask("CREATE TABLE test.unheard AS SELECT a.event_id, a.token FROM eda.event e, eda.acquire(e.id) a WHERE e.flow_id LIKE 'unheard %'");
$server->becomes('SELECT broker_unacknowledged = 0 FROM eda.engine_status', 'and are acknowledged');
$nats->hang;
$server->ask("SELECT eda.fail(event_id, 'unheard', token => token, retry => false) FROM test.unheard");
$server->becomes('SELECT broker_unacknowledged = 20 FROM eda.engine_status', 'their dead letters are on their way');
saved();
$server->stop('immediate');
$nats->kill9;
$nats->start;
$server->start;
$server->runs;
EdaNats::becomes(sub { dead_letters('twice') == 122 }, 'after two crashes they arrive');

# Too large for the server
$id = $server->ask("SELECT eda.publish('TWICE', 'large', jsonb_build_object('text', repeat('x', 100000)))");
my $small = $server->ask("SELECT eda.publish('TWICE', 'small', jsonb_build_object('text', repeat('x', 50000)))");
$server->becomes("SELECT state = 'failed' FROM eda.event_state WHERE id = '$id'", 'what is larger than the server takes fails');
like($server->ask("SELECT error || ': ' || (detail ->> 'reason') FROM eda.event_state WHERE id = '$id'"), qr/cannot be delivered: .*65536 bytes/, 'with the reason');
is($server->ask("SELECT state FROM eda.event_state WHERE id = '$small'"), 'dispatched', 'what is smaller goes out');
is($server->ask("SELECT event_type FROM eda.event WHERE parent_id = '$id'"), 'ALARM', 'its on-fail event is there');
EdaNats::becomes(sub { dead_letters('twice') == 123 }, 'it is a dead letter');
($letter) = grep { $_->{event}{data}{event_id} eq $id } dead_letters('twice');
ok($letter && !exists $letter->{event}{data}{payload}, 'without its payload');
EdaNats::broker_becomes($server, 'ready', 'the connection is still there');
is($server->ask('SELECT broker_reconnects FROM eda.engine_status'), '0', 'and was not lost');

# Too large for the stream
my $config = $nats->stream_info->{config};
$config->{max_msg_size} = 10000;
my $answer = $nats->api('STREAM.UPDATE.EDA', $config);
ok(!$answer->{error}, 'the stream takes 10,000 bytes') or diag(explain($answer->{error}));
$id = $server->ask("SELECT eda.publish('TWICE', 'medium', jsonb_build_object('text', repeat('x', 20000)))");
$small = $server->ask("SELECT eda.publish('TWICE', 'after medium')");
$server->becomes("SELECT state = 'failed' FROM eda.event_state WHERE id = '$id'", 'what is larger than the stream takes fails');
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$small'", 'and holds up nothing');
$server->becomes("SELECT broker = 'ready' AND broker_unacknowledged = 0 FROM eda.engine_status", 'all is acknowledged');

# Dead letters of types that workers pull are nobody's business there.
$server->ask("SELECT eda.publish('PULLED', 'x')");
$server->ask("SELECT eda.fail(event_id, 'oops', token => token) FROM eda.acquire_next('pulled', 1, '20 s')");
is($server->ask("SELECT count(*) FROM eda.dead_letter WHERE event_type = 'PULLED'"), '1', 'a pulled event dies');
is(scalar(grep { $_->{subject} =~ /pulled/ } $nats->messages), 0, 'without a message');
$server->ask('SELECT eda.cancel(id) FROM test.unfinished');
$server->ends_well;

done_testing();
