# Broker settings take effect by a reload; a missing stream is created as they say, and an existing stream is not altered.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $server = EdaServer->start_new('settings');
EdaBroker::set_up($server, 'postgres');

# No URL is set.
is($server->ask('SELECT broker FROM eda.engine_status'), 'off', 'the broker is off');
$server->ask("SELECT eda.publish('T', 'waits')");
$server->ask("SELECT FROM eda.configure('P', 'pulled'); SELECT eda.publish('P', 'x'); SELECT eda.succeed(event_id, token) FROM eda.acquire_next('pulled', 1, '60 s')");
is(EdaBroker::threads($server), 1, 'no thread was started');
is($server->ask("SELECT state FROM eda.event_state WHERE flow_id = 'waits'"), 'awaiting_processing', 'an event for the broker waits');
is(scalar EdaBroker::log_lines($server), 0, 'the log does not mention a broker');
like($server->refusal('CREATE ROLE guest; SET ROLE guest; SHOW eda.nats_url'), qr/ERROR:  42501/, 'a guest cannot read the URL');

# A URL is set, and the stream does not exist.
for my $version (EdaNats::versions())
{
	my $nats = EdaNats->start_new("made_$version", version => $version);
	EdaBroker::set($server, nats_url => $nats->url, nats_max_age => '90 min', nats_duplicate_window => '30 s', nats_stream => "S$version");
	EdaBroker::becomes($server, 'ready', "$version: a URL and a reload, and the broker is ready");
	my $config = $nats->stream_info("S$version")->{config};
	is("@$config{qw(storage retention discard num_replicas)}", 'file limits new 1', 'the stream is stored in files, refuses messages when full, and has one replica');
	is("$config->{max_age} $config->{duplicate_window}", 5400e9 . ' ' . 30e9, 'max_age and duplicate window are as set');
	is_deeply($config->{subjects}, ['event-engine.>'], 'the stream has the default subjects');
	is($config->{allow_msg_ttl} ? 'ttl' : 'no ttl', $nats->{ttl} ? 'ttl' : 'no ttl', 'messages may have a time to live if the server supports it');
	is($server->ask('SELECT broker_notice FROM eda.engine_status'), '', 'there is no notice');
	like($server->ask('SELECT broker_server FROM eda.engine_status'), qr/^127\.0\.0\.1:$nats->{port}\b/, 'the status names the server');
	cmp_ok(EdaBroker::threads($server), '>', 1, 'the engine now has more threads');
	is(EdaBroker::threads_that_take_signals($server), 0, 'only the main thread takes signals');
	$server->ask("SELECT eda.publish('T', '$version')");
	EdaNats::becomes(sub { grep { $_->{body} =~ /"subject":\s*"$version"/ } $nats->messages(stream => "S$version") }, 'the message of an event arrives');
	$nats->stop;
}
EdaBroker::set($server, nats_url => '');
EdaBroker::becomes($server, 'off', 'without a URL the broker is off again');
EdaNats::becomes(sub { EdaBroker::threads($server) == 1 }, 'its threads have ended');
$server->ask('ALTER SYSTEM RESET ALL');

# The stream exists and differs from the settings.
my $nats = EdaNats->start_new('there');
$nats->api('STREAM.CREATE.EDA', { name => 'EDA', subjects => [ 'event-engine.*', 'event-engine._DLQ.*' ], storage => 'memory', max_age => 3600e9, max_msgs => 1e6 });
my $before = $EdaNats::json->encode($nats->stream_info->{config});
my $offset = -s $server->logfile;
EdaBroker::set($server, nats_url => $nats->url);
EdaBroker::becomes($server, 'ready', 'an existing stream is used');
$server->becomes("SELECT broker_notice ~ 'memory|storage' FROM eda.engine_status", 'the notice says how it differs');
note($server->ask('SELECT broker_notice FROM eda.engine_status'));
is($EdaNats::json->encode($nats->stream_info->{config}), $before, 'the stream is not altered');
is(scalar(grep { /ready/ } EdaBroker::log_lines($server, $offset)), 1, 'the log says once that the broker is ready');
is(scalar(grep { /memory|storage/ } EdaBroker::log_lines($server, $offset)), 1, 'the log says once how the stream differs');

# The stream does not take the subject of an event type.
$server->ask("SELECT FROM eda.configure('DEEP', 'flow', delivery => 'nats', subject => 'orders.{flow_type}.{flow_id}')");
my $deep = $server->ask("SELECT eda.publish('DEEP', 'one')");
$server->becomes("SELECT broker_notice ~ 'orders' FROM eda.engine_status", 'the notice names the subject');
my $flat = $server->ask("SELECT eda.publish('T', 'two')");
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$flat'", 'events of other types are dispatched');
is($server->ask("SELECT state FROM eda.event_state WHERE id = '$deep'"), 'awaiting_processing', 'events of this type wait');
my $config = $nats->stream_info->{config};
$config->{subjects} = [ 'event-engine.*', 'event-engine._DLQ.*', 'orders.>' ];
my $answer = $nats->api('STREAM.UPDATE.EDA', $config);
ok(!$answer->{error}, 'the stream gets the subject') or diag(explain($answer->{error}));
$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$deep'", 'the event that waited is dispatched');
EdaNats::becomes(sub { $nats->messages(subject => 'orders.flow.one') == 1 }, 'its message has the subject');
$server->becomes("SELECT broker_notice !~ 'orders' FROM eda.engine_status", 'the notice is gone');

# Another server is set, then none, then the first one again, while events are in flight.
my $other = EdaNats->start_new('another');
my $worker = $other->worker($server);
$server->ask("SELECT test.publish('T', 'moving', 2000)");
EdaBroker::set($server, nats_url => $other->url);
EdaBroker::becomes($server, 'ready', 'the broker is ready with another server');
$server->becomes("SELECT broker_server LIKE '%:$other->{port}%' FROM eda.engine_status", 'the status names the other server');
EdaBroker::set($server, nats_url => '');
EdaBroker::becomes($server, 'off', 'without a server the broker is off');
$server->ask("SELECT test.publish('T', 'between', 500)");
EdaBroker::set($server, nats_url => $nats->url);
EdaBroker::becomes($server, 'ready', 'the broker is ready with the first server again');
my $second = $nats->worker($server);
$server->becomes("SELECT NOT EXISTS (SELECT FROM eda.event_state WHERE flow_id LIKE 'between %' AND state <> 'succeeded')", 'events that were published without a broker succeed');

# Several servers are set, and the first one is not running.
my $dead = PostgreSQL::Test::Cluster::get_free_port();
EdaBroker::set($server, nats_url => "nats://127.0.0.1:$dead," . $other->url);
EdaBroker::becomes($server, 'ready', 'the broker is ready although the first of two servers is not running');
$server->becomes("SELECT broker_server LIKE '%:$other->{port}%' FROM eda.engine_status", 'it is connected to the second server');
$other->stop;
EdaBroker::becomes($server, 'unreachable', 'neither server is running');
EdaBroker::set($server, nats_url => "nats://127.0.0.1:$dead," . $other->url . ',' . $nats->url);
EdaBroker::becomes($server, 'ready', 'a third server is added, and the broker is ready');
$server->ask("SELECT eda.publish('T', 'third')");
$server->becomes("SELECT state = 'succeeded' FROM eda.event_state WHERE flow_id = 'third'", 'an event that it delivers succeeds');

# Messages in the streams of servers that are gone are sent again after the dispatch timeout.
$server->ask("SELECT eda.move_clock('1 hour')");
$server->ask("SELECT eda.cancel(id) FROM eda.event_state WHERE event_type = 'DEEP'");
EdaBroker::all_end($server, 'events whose messages were in such a stream end too');
$_->stop for $worker, $second;

# The engine of a copied database publishes nothing, although the copy has the events of the
# original.
$server->ask("SELECT test.publish('T', 'both', 100)");
$server->ask('CREATE DATABASE copy TEMPLATE postgres');
$server->becomes("SELECT state LIKE 'idle: %' FROM eda.engine_status", 'the engine of the copy is idle', db => 'copy');
is($server->ask('SELECT broker FROM eda.engine_status', 'copy'), 'off', 'the broker of the copy is off');
$server->runs;
EdaBroker::becomes($server, 'ready', 'the broker of the original is ready');
is(join(' ', grep { /eda/ } map { $_->{name} || '' } @{ $nats->monitor('connz')->{connections} }), 'eda postgres', 'only the original has connected');
$worker = $nats->worker($server);
EdaBroker::all_end($server, 'the events of the original end');
$worker->stop;
$server->ends_well;

done_testing();
