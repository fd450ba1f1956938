# Events that no worker acquires are sent again, after a longer timeout each time; a restart sends only unacknowledged messages again.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaNats::Proxy;
use EdaServer;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->start_new('again');
my $server = EdaServer->start_new('again', conf => "eda.nats_url = '@{[$nats->url]}'\n");
EdaBroker::set_up($server, 'postgres', dispatch_timeout => "'10 min'");
$server->ask("SELECT FROM eda.configure('MARK', 'mark', delivery => 'nats', dispatch_timeout => '100 days'); SELECT FROM eda.configure('PULLED', 'pulled')");
EdaBroker::becomes($server, 'ready');

# Publish an event and wait for its message: by then the engine has done all that it had to do
# before.
my $marks = 0;
sub mark
{
	$server->ask("SELECT eda.publish('MARK', 'mark')");
	$marks++;
	EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.mark') >= $marks }, 'the message of a mark arrives');
	return;
}
# Test that no message waits for its acknowledgement.
sub acknowledged { return $server->becomes('SELECT broker_unacknowledged = 0 FROM eda.engine_status', 'all messages are acknowledged'); }

# Test that the engine saves its state with n unacknowledged messages, and flush it to disk.
sub saved
{
	my ($n) = @_;
	my $now = $server->ask('SELECT clock_timestamp()');
	$server->ask("SELECT eda.publish('PULLED', 'makes it save')");
	$server->becomes("SELECT cardinality(unacknowledged) = $n AND saved_at > '$now' FROM eda.engine_state", 'the engine saves its state');
	# The engine's transaction that saves it does not wait for the disk.
	$server->ask('CHECKPOINT');
	return;
}

# How many messages the flow type "flow" has in the stream.
sub copies { return scalar $nats->messages(subject => 'event-engine.flow'); }

# The dispatch timeout doubles each time, up to one hour.
$server->ask("SELECT test.publish('T', 'flow', 20)");
EdaNats::becomes(sub { copies() == 20 }, 'twenty messages arrive');
acknowledged();
my ($minutes, $expected) = (0, 20);
for my $wait (10, 20, 40, 60, 60)
{
	$server->ask("SELECT eda.move_clock('@{[$minutes + $wait - 5]} min')");
	mark();
	is(copies(), $expected, "no message is sent again five minutes before $wait have passed");
	$minutes += $wait + 1;
	$expected += 20;
	$server->ask("SELECT eda.move_clock('$minutes min')");
	EdaNats::becomes(sub { copies() == $expected }, "all are sent again after $wait minutes");
	acknowledged();
}
my %ids;
$ids{ $_->{headers}{'Nats-Msg-Id'}[0] }++ for $nats->messages(subject => 'event-engine.flow');
is(scalar(keys %ids), $expected, 'each message has an id of its own');
is($server->ask("SELECT string_agg(DISTINCT detail ->> 'reason', '|') FROM eda.transition WHERE state = 'awaiting_processing' AND version > 1"),
	'no worker acquired it within the dispatch timeout', 'the log says why events were sent again');
is($server->ask("SELECT string_agg(DISTINCT attempt::text, ',') FROM eda.event_state WHERE event_type = 'T'"), '0', 'no attempt was used up');
is($server->ask("SELECT count(*) FROM eda.event_state WHERE event_type = 'T' AND state = 'dispatched'"), '20', 'no event failed');

# A worker that reads all messages of an event makes one attempt only.
my $worker = $nats->worker($server, subject => 'event-engine.flow', durable => 'flow');
$server->becomes("SELECT count(*) = 20 FROM eda.event_state WHERE event_type = 'T' AND state = 'succeeded'", 'a worker processes all events');
$worker->stop;
is($server->ask("SELECT max(attempt) FROM eda.event_state WHERE event_type = 'T'"), '1', 'each in one attempt');

# After a failed attempt the dispatch timeout starts again with its shortest value.
my $id = $server->ask("SELECT eda.publish('T', 'small again')");
for my $n (1 .. 2)
{
	$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$id'", "attempt $n is dispatched");
	acknowledged();
	$minutes += 11;
	$server->ask("SELECT eda.move_clock('$minutes min')");
	$server->becomes("SELECT count(*) = 2 * $n FROM eda.transition WHERE event_id = '$id' AND state = 'dispatched'", 'after ten minutes it is dispatched again');
	$server->ask("SELECT eda.fail(event_id, 'oops', token => token) FROM eda.acquire('$id')") if $n == 1;
}
$server->ask("SELECT eda.cancel('$id')");

# At most max_dispatched events are dispatched at a time, however long no worker acquires them.
$server->ask("SELECT FROM eda.configure('FEW', 'few', delivery => 'nats', max_dispatched => 50, dispatch_timeout => '10 min')");
$server->ask("SELECT test.publish('FEW', 'few', 200)");
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.few') == 50 }, 'messages of fifty events arrive');
acknowledged();
mark();
is($server->ask("SELECT count(*) FROM eda.event_state WHERE event_type = 'FEW' AND state = 'dispatched'"), '50', 'the other events wait');
$minutes += 11;
$server->ask("SELECT eda.move_clock('$minutes min')");
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.few') == 100 }, 'after the timeout another fifty messages arrive');
acknowledged();
mark();
is($server->ask("SELECT count(*) FROM eda.event_state WHERE event_type = 'FEW' AND state = 'dispatched'"), '50', 'no more than fifty events are dispatched');
$worker = $nats->worker($server, subject => 'event-engine.few', durable => 'few');
$server->becomes("SELECT count(*) = 200 FROM eda.event_state WHERE event_type = 'FEW' AND state = 'succeeded'", 'a worker processes all events');
$worker->stop;

# At most max_in_flight events are dispatched or being processed.
$server->ask("SELECT FROM eda.configure('FLIGHT', 'flight', delivery => 'nats', max_in_flight => 5, dispatch_timeout => '100 days', lease => '100 days')");
$server->ask("SELECT test.publish('FLIGHT', 'flight', 15)");
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.flight') == 5 }, 'messages of five events arrive');
mark();
$server->ask("CREATE TABLE test.flight AS SELECT a.event_id, a.token FROM eda.event_state s, eda.acquire(s.id) a WHERE s.event_type = 'FLIGHT' AND s.state = 'dispatched'");
mark();
is(scalar($nats->messages(subject => 'event-engine.flight')), 5, 'no more while these are being processed');
$server->ask('SELECT eda.succeed(event_id, token) FROM test.flight');
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.flight') == 10 }, 'when these have succeeded, messages of five more arrive');
mark();
is(scalar($nats->messages(subject => 'event-engine.flight')), 10, 'and no more');
$server->ask("SELECT eda.cancel(id) FROM test.unfinished WHERE event_type = 'FLIGHT'");

# After a restart no acknowledged message is sent again, whether PostgreSQL was shut down or
# crashed.
$server->ask("SELECT test.publish('T', 'acknowledged', 300)");
$server->becomes("SELECT count(*) = 300 FROM eda.event_state WHERE flow_id LIKE 'acknowledged %' AND state = 'dispatched'", 'three hundred events are dispatched');
acknowledged();
saved(0);
for my $mode (qw(fast immediate))
{
	my $n = $nats->count;
	$server->stop($mode);
	$server->start;
	$server->runs;
	EdaBroker::becomes($server, 'ready');
	mark();
	acknowledged();
	is($server->ask('SELECT broker_published FROM eda.engine_status'), '1', "$mode stop: no acknowledged message is sent again");
	is($nats->count, $n + 1, "$mode stop: the stream has no other message than the mark");
	saved(0);
}
# A restart resets the clock that the test has moved; dispatch timeouts are kept.
$server->ask("SELECT eda.move_clock('1 day')");
EdaNats::becomes(sub { scalar(grep { $_->{body} =~ /"subject":\s*"acknowledged / } $nats->messages) == 600 }, 'after their timeout the events are sent again');
acknowledged();

# Messages that arrived, and whose acknowledgements were lost, are sent again with the same ids.
my $proxy = EdaNats::Proxy->start($nats);
EdaBroker::set($server, nats_url => $proxy->url);
$server->becomes("SELECT broker = 'ready' AND broker_server LIKE '%:$proxy->{port}%' FROM eda.engine_status", 'the broker is ready through a proxy');
for my $mode (qw(fast immediate))
{
	# The broker sends the first message of a connection alone: have that behind us.
	mark();
	acknowledged();
	saved(0);
	my $n = $nats->count;
	$proxy->mode('deaf');
	$server->ask("SELECT test.publish('T', 'unanswered $mode', 100)");
	EdaNats::becomes(sub { $nats->count == $n + 100 }, "$mode stop: messages arrive, and their acknowledgements are lost");
	# Once the restarted engine finds them in the log, once in its saved list of unacknowledged
	# messages.
	saved(100) if $mode eq 'immediate';
	$server->stop($mode);
	$proxy->mode('cut');
	$server->start;
	$server->runs;
	$server->becomes("SELECT broker = 'ready' AND broker_published = 100 AND broker_unacknowledged = 0 FROM eda.engine_status", "$mode stop: after the restart they are sent again");
	is($nats->count, $n + 100, "$mode stop: the stream recognizes their ids");
}

# An event is not dispatched again while its message is not acknowledged: the timeout counts from
# the acknowledgement.
mark();
acknowledged();
$proxy->mode('deaf');
$server->ask("SELECT test.publish('T', 'late', 50)");
my @late;
my $late = sub { @late = grep { $_->{body} =~ /"subject":\s*"late / } $nats->messages(subject => 'event-engine.flow'); scalar @late };
EdaNats::becomes(sub { $late->() == 50 }, 'fifty messages arrive, and their acknowledgements are lost');
$server->ask("SELECT eda.move_clock('30 min')");
$server->becomes("SELECT broker = 'blocked' AND last_tick_at > clock_timestamp() + interval '29 min' FROM eda.engine_status", 'half an hour passes without an acknowledgement');
$proxy->mode('pass');
EdaBroker::becomes($server, 'ready');
acknowledged();
$server->ask("SELECT eda.move_clock('35 min')");
mark();
is($late->(), 50, 'five minutes after the acknowledgements no message is sent again');
is($server->ask("SELECT count(*) FROM eda.transition t JOIN eda.event e ON e.id = t.event_id WHERE e.flow_id LIKE 'late %' AND t.version > 2"), '0', 'no event is dispatched again');
$server->ask("SELECT eda.move_clock('41 min')");
EdaNats::becomes(sub { $late->() == 100 }, 'eleven minutes after them all are sent again');
acknowledged();

# Events are dispatched to a stopped NATS server; then it is killed, and PostgreSQL crashes.
$nats->hang;
$server->ask("SELECT test.publish('T', 'unheard', 200)");
$server->becomes("SELECT count(*) > 0 FROM eda.event_state WHERE flow_id LIKE 'unheard %' AND state = 'dispatched'", 'events are dispatched');
$server->stop('immediate');
$nats->kill9;
$nats->start;
my $n = $nats->count;
$server->start;
$server->runs;
EdaNats::becomes(sub { $nats->count >= $n + 200 }, 'after both have restarted the messages arrive');
acknowledged();
my @numbers = map { $_->{body} =~ /"subject":\s*"unheard (\d+)"/ ? $1 : () } $nats->messages;
is_deeply([ sort { $a <=> $b } @numbers ], [ 1 .. 200 ], 'each message is in the stream once');
is($server->ask("SELECT count(*) FROM eda.transition t JOIN eda.event e ON e.id = t.event_id WHERE e.flow_id LIKE 'unheard %' AND t.version > 2"), '0', 'each event was dispatched once');

$worker = $nats->worker($server, subject => 'event-engine.flow', durable => 'flow');
my $marker = $nats->worker($server, subject => 'event-engine.mark', durable => 'mark');
$server->ask("SELECT eda.cancel(id) FROM test.unfinished WHERE event_type = 'PULLED'");
EdaBroker::all_end($server);
$_->stop for $worker, $marker;
$server->ends_well;

done_testing();
