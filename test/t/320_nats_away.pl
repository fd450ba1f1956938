# While no broker answers nothing is dispatched, and nothing lost; when it is back events go out in order, each once.
use strict;
use warnings;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->new('away');
my $server = EdaServer->start_new('away', conf => "eda.nats_url = '@{[$nats->url]}'\n");
EdaNats::set_up($server, 'postgres', lease => "'5 s'", dispatch_timeout => "'1 min'");

# Test that the stream has the events of these flows, numbered and in order, each once.
sub in_order
{
	my ($name, $flow, $n) = @_;
	EdaNats::becomes(sub { $nats->count >= $n }, "$name: all messages come");
	my @flows = map { $_->{body} =~ /"subject":\s*"\Q$flow\E (\d+)"/ ? $1 : () } $nats->messages;
	is_deeply(\@flows, [ 1 .. @flows ], "$name: in order, each once");
	return;
}

# Not there at the start
EdaNats::broker_becomes($server, 'unreachable', 'no broker at the start');
$server->ask("SELECT test.publish('T', 'start', 1000)");
is($server->ask("SELECT string_agg(DISTINCT state, ',') FROM eda.event_state"), 'awaiting_processing', 'events wait');
is($server->ask("SELECT broker_error <> '' AND broker_unacknowledged = 0 AND broker_published = 0 FROM eda.engine_status"), 't', 'the status says why');
$nats->start;
EdaNats::broker_becomes($server, 'ready', 'there it is');
in_order('at the start', 'start', 1000);
$server->becomes("SELECT broker_published = 1000 AND broker_unacknowledged = 0 AND broker_reconnects = 0 AND broker_resent = 0 FROM eda.engine_status", 'and are counted');
like(join("\n", EdaNats::log_lines($server)), qr/\A.*broker unreachable:.*\n.*broker ready.*:$nats->{port}.*\z/, 'the log has two lines of it');
is($server->ask('SELECT last_error FROM eda.engine_status'), '', 'for the engine it was no error');

# Down and up
my $offset = -s $server->logfile;
$nats->stop;
EdaNats::broker_becomes($server, 'unreachable', 'the broker goes away');
$server->ask("SELECT test.publish('T', 'later', 1000)");
is($server->ask("SELECT count(*) FROM eda.event_state WHERE flow_id LIKE 'later %' AND state <> 'awaiting_processing'"), '0', 'events wait');
$nats->start;
EdaNats::broker_becomes($server, 'ready', 'it comes back');
in_order('later', 'later', 2000);
$server->becomes('SELECT broker_reconnects = 1 AND broker_published = 2000 FROM eda.engine_status', 'one more connection was made');
like(join("\n", EdaNats::log_lines($server, $offset)), qr/\A.*broker unreachable.*\n.*broker ready.*:$nats->{port}.* s\z/, 'one line when it went, one when it came');

# In the middle of a batch: stopped, and killed, with nobody reading, so that the order can be seen.
for my $way (qw(stop kill9))
{
	$offset = -s $server->logfile;
	my $before = $nats->count;
	$server->ask("SELECT test.publish('T', '$way', 5000)");
	EdaNats::becomes(sub { $nats->count > $before }, "$way: messages come");
	$nats->$way;
	$nats->start;
	in_order($way, $way, $before + 5000);
	my %ids;
	$ids{ $_->{headers}{'Nats-Msg-Id'}[0] }++ for $nats->messages;
	is(scalar(grep { $_ > 1 } values %ids), 0, "$way: no message id is there twice");
	cmp_ok(scalar EdaNats::log_lines($server, $offset), '<=', 2, "$way: at most two lines in the log");
}
is($server->ask('SELECT count(*) FROM eda.transition WHERE version > 2'), '0', 'no event was dispatched twice');

# Killed at random moments, with workers
my @workers = map { $nats->worker($server, fail => 0.05) } 1 .. 2;
$offset = -s $server->logfile;
for my $round (1 .. 4)
{
	my $publisher = $server->client('postgres', "SELECT eda.publish('T', 'random $round');\n" x 500);
	select undef, undef, undef, rand 0.6;
	$nats->kill9;
	select undef, undef, undef, rand 0.4;
	$nats->start;
	$publisher->finish;
}
$server->ask("SELECT eda.move_clock('2 min')");
EdaNats::all_end($server);
is($server->ask('SELECT count(*) FROM test.effect'), $server->ask('SELECT count(*) FROM eda.event'), 'each event had its effect, once');
my @states = map { /broker (unreachable|ready)/ ? $1 : $_ } EdaNats::log_lines($server, $offset);
is(scalar(grep { $states[$_] eq $states[ $_ - 1 ] } 1 .. $#states), 0, 'the log tells changes only') or diag(join "\n", EdaNats::log_lines($server, $offset));
$_->stop for @workers;
EdaNats::workers_did_well();
$server->ends_well;

done_testing();
