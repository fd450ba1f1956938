# What no worker acquires goes out again, later each time and never more than max_dispatched; a restart repeats only what was not acknowledged.
use strict;
use warnings;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->start_new('again');
my $server = EdaServer->start_new('again', conf => "eda.nats_url = '@{[$nats->url]}'\n");
EdaNats::set_up($server, 'postgres', dispatch_timeout => "'10 min'");
$server->ask("SELECT FROM eda.configure('MARK', 'mark', delivery => 'nats', dispatch_timeout => '100 days'); SELECT FROM eda.configure('PULLED', 'pulled')");
EdaNats::broker_becomes($server, 'ready');

# Whatever the engine has to do now, it has done when an event that is published after it has gone out.
my $marks = 0;
sub mark
{
	$server->ask("SELECT eda.publish('MARK', 'mark')");
	$marks++;
	EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.mark') >= $marks }, 'a mark goes out');
	return;
}
sub acknowledged { return $server->becomes('SELECT broker_unacknowledged = 0 FROM eda.engine_status', 'all is acknowledged'); }
# The engine's state is on disk, with so many messages that are not acknowledged.
sub saved
{
	my ($n) = @_;
	my $now = $server->ask('SELECT clock_timestamp()');
	$server->ask("SELECT eda.publish('PULLED', 'makes it save')");
	$server->becomes("SELECT cardinality(unacknowledged) = $n AND saved_at > '$now' FROM eda.engine_state", 'and saved');
	# It does so asynchronously.
	$server->ask('CHECKPOINT');
	return;
}
sub copies { return scalar $nats->messages(subject => 'event-engine.flow'); }

# The dispatch timeout doubles, up to an hour.
$server->ask("SELECT test.publish('T', 'flow', 20)");
EdaNats::becomes(sub { copies() == 20 }, 'messages go out');
acknowledged();
my ($minutes, $expected) = (0, 20);
for my $wait (10, 20, 40, 60, 60)
{
	$server->ask("SELECT eda.move_clock('@{[$minutes + $wait - 1]} min')");
	mark();
	is(copies(), $expected, "not again before $wait minutes");
	$minutes += $wait + 1;
	$expected += 20;
	$server->ask("SELECT eda.move_clock('$minutes min')");
	EdaNats::becomes(sub { copies() == $expected }, "again after $wait minutes");
	acknowledged();
}
my %ids;
$ids{ $_->{headers}{'Nats-Msg-Id'}[0] }++ for $nats->messages(subject => 'event-engine.flow');
is(scalar(keys %ids), $expected, 'each time with an id of its own');
is($server->ask("SELECT string_agg(DISTINCT detail ->> 'reason', '|') FROM eda.transition WHERE state = 'awaiting_processing' AND version > 1"),
	'no worker acquired it within the dispatch timeout', 'the log says why');
is($server->ask("SELECT string_agg(DISTINCT attempt::text, ',') FROM eda.event_state WHERE event_type = 'T'"), '0', 'no attempt was used up');
is($server->ask("SELECT count(*) FROM eda.event_state WHERE event_type = 'T' AND state = 'dispatched'"), '20', 'and none failed');

# Acquired after the third message, the first two get no row.
my $worker = $nats->worker($server, subject => 'event-engine.flow', durable => 'flow');
$server->becomes("SELECT count(*) = 20 FROM eda.event_state WHERE event_type = 'T' AND state = 'succeeded'", 'a worker does them');
$worker->stop;
is($server->ask("SELECT max(attempt) FROM eda.event_state WHERE event_type = 'T'"), '1', 'with the first message that it gets');

# An attempt that failed is no return: the timeout starts small again.
my $id = $server->ask("SELECT eda.publish('T', 'small again')");
for my $n (1 .. 2)
{
	$server->becomes("SELECT state = 'dispatched' FROM eda.event_state WHERE id = '$id'", "attempt $n");
	acknowledged();
	$minutes += 11;
	$server->ask("SELECT eda.move_clock('$minutes min')");
	$server->becomes("SELECT count(*) = 2 * $n FROM eda.transition WHERE event_id = '$id' AND state = 'dispatched'", 'it comes again after ten minutes');
	$server->ask("SELECT eda.fail(event_id, 'oops', token => token) FROM eda.acquire('$id')") if $n == 1;
}
$server->ask("SELECT eda.cancel('$id')");

# At most max_dispatched at a time, however long nobody acquires
$server->ask("SELECT FROM eda.configure('FEW', 'few', delivery => 'nats', max_dispatched => 50, dispatch_timeout => '10 min')");
$server->ask("SELECT test.publish('FEW', 'few', 200)");
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.few') == 50 }, 'fifty of two hundred go out');
acknowledged();
mark();
is($server->ask("SELECT count(*) FROM eda.event_state WHERE event_type = 'FEW' AND state = 'dispatched'"), '50', 'the others wait');
$minutes += 11;
$server->ask("SELECT eda.move_clock('$minutes min')");
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.few') == 100 }, 'after the timeout another fifty messages go out');
acknowledged();
mark();
is($server->ask("SELECT count(*) FROM eda.event_state WHERE event_type = 'FEW' AND state = 'dispatched'"), '50', 'and not more');
$worker = $nats->worker($server, subject => 'event-engine.few', durable => 'few');
$server->becomes("SELECT count(*) = 200 FROM eda.event_state WHERE event_type = 'FEW' AND state = 'succeeded'", 'with a worker all go through');
$worker->stop;

# And at most max_in_flight dispatched or in work
$server->ask("SELECT FROM eda.configure('FLIGHT', 'flight', delivery => 'nats', max_in_flight => 5, dispatch_timeout => '100 days', lease => '100 days')");
$server->ask("SELECT test.publish('FLIGHT', 'flight', 15)");
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.flight') == 5 }, 'five of fifteen go out');
mark();
$server->ask("CREATE TABLE test.flight AS SELECT a.event_id, a.token FROM eda.event_state s, eda.acquire(s.id) a WHERE s.event_type = 'FLIGHT' AND s.state = 'dispatched'");
mark();
is(scalar($nats->messages(subject => 'event-engine.flight')), 5, 'not more while they are in work');
$server->ask('SELECT eda.succeed(event_id, token) FROM test.flight');
EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.flight') == 10 }, 'the next five when they are done');
mark();
is(scalar($nats->messages(subject => 'event-engine.flight')), 10, 'and not more');
$server->ask("SELECT eda.cancel(id) FROM test.unfinished WHERE event_type = 'FLIGHT'");

# After a restart: what was acknowledged is not sent again, whether the server stopped in order or not.
$server->ask("SELECT test.publish('T', 'acknowledged', 300)");
$server->becomes("SELECT count(*) = 300 FROM eda.event_state WHERE flow_id LIKE 'acknowledged %' AND state = 'dispatched'", 'three hundred go out');
acknowledged();
saved(0);
for my $mode (qw(fast immediate))
{
	my $n = $nats->count;
	$server->stop($mode);
	$server->start;
	$server->runs;
	EdaNats::broker_becomes($server, 'ready');
	mark();
	acknowledged();
	is($server->ask('SELECT broker_published FROM eda.engine_status'), '1', "$mode stop: nothing acknowledged is sent again");
	is($nats->count, $n + 1, "$mode stop: the stream has no more");
	saved(0);
}
# The clock of the test is lost by a restart; the timeouts go on.
$server->ask("SELECT eda.move_clock('1 day')");
EdaNats::becomes(sub { scalar(grep { $_->{body} =~ /"subject":\s*"acknowledged / } $nats->messages) == 600 }, 'after its timeout it goes out again');
acknowledged();

# What arrived, and was not acknowledged, is sent again with the same id.
my $proxy = EdaNats::Proxy->start($nats);
EdaNats::set($server, nats_url => $proxy->url);
$server->becomes("SELECT broker = 'ready' AND broker_server LIKE '%:$proxy->{port}%' FROM eda.engine_status", 'through a proxy');
for my $mode (qw(fast immediate))
{
	# The first message tries whether the stream takes any.
	mark();
	acknowledged();
	saved(0);
	my $n = $nats->count;
	$proxy->mode('deaf');
	$server->ask("SELECT test.publish('T', 'unanswered $mode', 100)");
	EdaNats::becomes(sub { $nats->count == $n + 100 }, "$mode stop: messages arrive, and no answer");
	# As the tail of the log finds them after the start, and as the saved list does.
	saved(100) if $mode eq 'immediate';
	$server->stop($mode);
	$proxy->mode('cut');
	$server->start;
	$server->runs;
	$server->becomes("SELECT broker = 'ready' AND broker_published = 100 AND broker_unacknowledged = 0 FROM eda.engine_status", "$mode stop: after the start they are sent again");
	is($nats->count, $n + 100, "$mode stop: with the ids that they had");
}

# While it is not acknowledged it is not dispatched again, however long; the timeout counts from the acknowledgement.
mark();
acknowledged();
$proxy->mode('deaf');
$server->ask("SELECT test.publish('T', 'late', 50)");
my @late;
my $late = sub { @late = grep { $_->{body} =~ /"subject":\s*"late / } $nats->messages(subject => 'event-engine.flow'); scalar @late };
EdaNats::becomes(sub { $late->() == 50 }, 'fifty messages arrive, unanswered');
$server->ask("SELECT eda.move_clock('30 min')");
$server->becomes("SELECT broker = 'blocked' AND last_tick_at > clock_timestamp() + interval '29 min' FROM eda.engine_status", 'half an hour without an answer');
$proxy->mode('pass');
EdaNats::broker_becomes($server, 'ready');
acknowledged();
$server->ask("SELECT eda.move_clock('39 min')");
mark();
is($late->(), 50, 'nine minutes after the answer nothing is sent again');
is($server->ask("SELECT count(*) FROM eda.transition t JOIN eda.event e ON e.id = t.event_id WHERE e.flow_id LIKE 'late %' AND t.version > 2"), '0', 'nor dispatched');
$server->ask("SELECT eda.move_clock('41 min')");
EdaNats::becomes(sub { $late->() == 100 }, 'but after eleven');
acknowledged();

# What was dispatched, and never arrived
$nats->hang;
$server->ask("SELECT test.publish('T', 'unheard', 200)");
$server->becomes("SELECT count(*) > 0 FROM eda.event_state WHERE flow_id LIKE 'unheard %' AND state = 'dispatched'", 'a server that stands still: events are dispatched');
$server->stop('immediate');
$nats->kill9;
$nats->start;
my $n = $nats->count;
$server->start;
$server->runs;
EdaNats::becomes(sub { $nats->count >= $n + 200 }, 'after two crashes they arrive');
acknowledged();
my @numbers = map { $_->{body} =~ /"subject":\s*"unheard (\d+)"/ ? $1 : () } $nats->messages;
is_deeply([ sort { $a <=> $b } @numbers ], [ 1 .. 200 ], 'each once');
is($server->ask("SELECT count(*) FROM eda.transition t JOIN eda.event e ON e.id = t.event_id WHERE e.flow_id LIKE 'unheard %' AND t.version > 2"), '0', 'dispatched once');

$worker = $nats->worker($server, subject => 'event-engine.flow', durable => 'flow');
my $marker = $nats->worker($server, subject => 'event-engine.mark', durable => 'mark');
$server->ask("SELECT eda.cancel(id) FROM test.unfinished WHERE event_type = 'PULLED'");
EdaNats::all_end($server);
$_->stop for $worker, $marker;
$server->ends_well;

done_testing();
