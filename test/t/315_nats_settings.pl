# Settings of the broker take effect by a reload; a stream is made as they say if it is missing, and otherwise left as it is.
use strict;
use warnings;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $server = EdaServer->start_new('settings');
EdaNats::set_up($server, 'postgres');

# Without a URL
is($server->ask('SELECT broker FROM eda.engine_status'), 'off', 'without a URL the broker is off');
$server->ask("SELECT eda.publish('T', 'waits')");
$server->ask("SELECT FROM eda.configure('P', 'pulled'); SELECT eda.publish('P', 'x'); SELECT eda.succeed(event_id, token) FROM eda.acquire_next('pulled', 1, '20 s')");
is(EdaNats::threads($server), 1, 'no thread was started');
is($server->ask("SELECT state FROM eda.event_state WHERE flow_id = 'waits'"), 'awaiting_processing', 'an event for the broker waits');
is(scalar EdaNats::log_lines($server), 0, 'and the log says nothing of a broker');
like($server->refusal('CREATE ROLE guest; SET ROLE guest; SHOW eda.nats_url'), qr/ERROR:  42501/, 'a guest cannot read the URL');

# The stream that is made
for my $version (EdaNats::versions())
{
	my $nats = EdaNats->start_new("made_$version", version => $version);
	EdaNats::set($server, nats_url => $nats->url, nats_max_age => '90 min', nats_duplicate_window => '30 s', nats_stream => "S$version");
	EdaNats::broker_becomes($server, 'ready', "$version: a URL and a reload, and the broker is ready");
	my $config = $nats->stream_info("S$version")->{config};
	is("@$config{qw(storage retention discard num_replicas)}", 'file limits new 1', 'the stream is in files, refuses what is too much, and has one copy');
	is("$config->{max_age} $config->{duplicate_window}", 5400e9 . ' ' . 30e9, 'age and duplicate window as set');
	is_deeply($config->{subjects}, ['event-engine.>'], 'its subjects');
	is($config->{allow_msg_ttl} ? 'ttl' : 'no ttl', $nats->{ttl} ? 'ttl' : 'no ttl', 'messages may have a time to live where the server can');
	is($server->ask('SELECT broker_notice FROM eda.engine_status'), '', 'there is nothing to notice');
	like($server->ask('SELECT broker_server FROM eda.engine_status'), qr/^127\.0\.0\.1:$nats->{port}\b/, 'the server is named');
	cmp_ok(EdaNats::threads($server), '>', 1, 'now there are threads');
	is(EdaNats::threads_that_take_signals($server), 0, 'which leave signals to the engine');
	$server->ask("SELECT eda.publish('T', '$version')");
	EdaNats::becomes(sub { grep { $_->{body} =~ /"subject":\s*"$version"/ } $nats->messages(stream => "S$version") }, 'an event goes out');
	$nats->stop;
}
EdaNats::set($server, nats_url => '');
EdaNats::broker_becomes($server, 'off', 'without a URL it is off again');
EdaNats::becomes(sub { EdaNats::threads($server) == 1 }, 'and its threads are gone');
$server->ask('ALTER SYSTEM RESET ALL');

# A stream that is there, and different
my $nats = EdaNats->start_new('there');
$nats->api('STREAM.CREATE.EDA', { name => 'EDA', subjects => [ 'event-engine.*', 'event-engine._DLQ.*' ], storage => 'memory', max_age => 3600e9, max_msgs => 1e6 });
my $before = $EdaNats::json->encode($nats->stream_info->{config});
my $offset = -s $server->logfile;
EdaNats::set($server, nats_url => $nats->url);
EdaNats::broker_becomes($server, 'ready', 'a stream that is there is used');
$server->becomes("SELECT broker_notice ~ 'memory|storage' FROM eda.engine_status", 'what differs is noticed') ;
note($server->ask('SELECT broker_notice FROM eda.engine_status'));
is($EdaNats::json->encode($nats->stream_info->{config}), $before, 'and left as it is');
is(scalar(grep { /ready/ } EdaNats::log_lines($server, $offset)), 1, 'one line says that it is ready');
is(scalar(grep { /memory|storage/ } EdaNats::log_lines($server, $offset)), 1, 'and one what differs');

# A type whose subject the stream does not have
$server->ask("SELECT FROM eda.configure('DEEP', 'flow', delivery => 'nats', subject => 'orders.{flow_type}.{flow_id}')");
my $deep = $server->ask("SELECT eda.publish('DEEP', 'one')");
$server->becomes("SELECT broker_notice ~ 'orders' FROM eda.engine_status", 'a subject that the stream has not is noticed');
my $flat = $server->ask("SELECT eda.publish('T', 'two')");
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$flat'", 'other types go out');
is($server->ask("SELECT state FROM eda.event_state WHERE id = '$deep'"), 'awaiting_processing', 'its own events wait');
my $config = $nats->stream_info->{config};
$config->{subjects} = [ 'event-engine.*', 'event-engine._DLQ.*', 'orders.>' ];
my $answer = $nats->api('STREAM.UPDATE.EDA', $config);
ok(!$answer->{error}, 'the stream is given the subject') or diag(explain($answer->{error}));
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$deep'", 'and they go out');
EdaNats::becomes(sub { $nats->messages(subject => 'orders.flow.one') == 1 }, 'with their subject');
$server->becomes("SELECT broker_notice !~ 'orders' FROM eda.engine_status", 'it is noticed no longer');

# To another server and back, with what is in flight.
my $other = EdaNats->start_new('another');
my $worker = $other->worker($server);
$server->ask("SELECT test.publish('T', 'moving', 2000)");
EdaNats::set($server, nats_url => $other->url);
EdaNats::broker_becomes($server, 'ready', 'another server takes over');
$server->becomes("SELECT broker_server LIKE '%:$other->{port}%' FROM eda.engine_status", 'it is the other one');
EdaNats::set($server, nats_url => '');
EdaNats::broker_becomes($server, 'off', 'none');
$server->ask("SELECT test.publish('T', 'between', 500)");
EdaNats::set($server, nats_url => $nats->url);
EdaNats::broker_becomes($server, 'ready', 'and the first again');
my $second = $nats->worker($server);
$server->becomes("SELECT NOT EXISTS (SELECT FROM eda.event_state WHERE flow_id LIKE 'between %' AND state <> 'succeeded')", 'what was published without a broker is done');

# Several servers, the first of which is dead
my $dead = PostgreSQL::Test::Cluster::get_free_port();
EdaNats::set($server, nats_url => "nats://127.0.0.1:$dead," . $other->url);
EdaNats::broker_becomes($server, 'ready', 'the first of two servers is dead');
$server->becomes("SELECT broker_server LIKE '%:$other->{port}%' FROM eda.engine_status", 'the other is taken');
$other->stop;
EdaNats::broker_becomes($server, 'unreachable', 'both are dead');
EdaNats::set($server, nats_url => "nats://127.0.0.1:$dead," . $other->url . ',' . $nats->url);
EdaNats::broker_becomes($server, 'ready', 'a third one is added');
$server->ask("SELECT eda.publish('T', 'third')");
$server->becomes("SELECT state = 'succeeded' FROM eda.event_state WHERE flow_id = 'third'", 'and takes messages');

# What was in the streams of servers that are gone comes again in its time.
$server->ask("SELECT eda.move_clock('1 hour')");
$server->ask("SELECT eda.cancel(id) FROM eda.event_state WHERE event_type = 'DEEP'");
EdaNats::all_end($server, 'what was in a stream that is gone comes to its end too');
$_->stop for $worker, $second;

# A copy of the database publishes nothing, though it has all that the original has.
$server->ask("SELECT test.publish('T', 'both', 100)");
$server->ask('CREATE DATABASE copy TEMPLATE postgres');
$server->becomes("SELECT state LIKE 'idle: %' FROM eda.engine_status", 'a copy of the database stays idle', db => 'copy');
is($server->ask('SELECT broker FROM eda.engine_status', 'copy'), 'off', 'its broker is off');
$server->runs;
EdaNats::broker_becomes($server, 'ready', 'that of the original is ready');
is(join(' ', grep { /eda/ } map { $_->{name} || '' } @{ $nats->monitor('connz')->{connections} }), 'eda postgres', 'and the only one that has connected');
$worker = $nats->worker($server);
EdaNats::all_end($server, 'the original goes on');
$worker->stop;
$server->ends_well;

done_testing();
