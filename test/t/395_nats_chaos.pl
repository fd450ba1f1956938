# Under random faults of all kinds every event ends and has its effect once, and every message is a step of the log.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaNats::Proxy;
use EdaServer;
use Test::More;

EdaNats::needed();
my $rounds = $ENV{ROUNDS} || 15;
my $seed = $ENV{SEED} || int rand 1e6;
srand $seed;
note("SEED=$seed");

my $nats = EdaNats->start_new('chaos', version => (EdaNats::versions())[ rand EdaNats::versions() ]);
my $proxy = EdaNats::Proxy->start($nats);
my $server = EdaServer->start_new('chaos', conf => "eda.nats_url = '@{[$proxy->url]}'\n");
EdaBroker::set_up($server, 'postgres', lease => "'4 s'", dispatch_timeout => "'4 s'", max_attempts => 3);
$server->ask("SELECT FROM eda.configure('SMALL', 'flow', delivery => 'nats', attempt_delays => '{0 s}', max_dispatched => 20, dispatch_timeout => '2 s', lease => '2 s')");
EdaBroker::becomes($server, 'ready');
my @workers = map { $nats->worker($server, fail => 0.1) } 1 .. 2;

# Sleep for a random time of at most so many seconds.
sub pause { select undef, undef, undef, rand shift; return; }

# Wait until PostgreSQL answers and the engine runs.
sub up { $server->poll_query_until('postgres', 'SELECT true'); $server->runs; return; }

my @faults = (
	[ 'the broker is killed', sub { $nats->kill9; pause(0.5); $nats->start } ],
	[ 'the broker is stopped', sub { $nats->stop; pause(0.5); $nats->start } ],
	[ 'the broker is stopped with SIGSTOP', sub { $nats->hang; pause(2); $nats->go_on } ],
	[ 'the connection breaks', sub { for (1 .. 3) { $proxy->mode('cut'); pause(0.2) } } ],
	[ 'answers are lost', sub { $proxy->mode('deaf'); pause(1); $proxy->mode('pass') } ],
	[ 'answers and the connection are lost', sub { $proxy->mode('deaf'); pause(0.5); $proxy->mode('cut') } ],
	[ 'the network passes nothing on', sub { $proxy->mode('hang'); pause(2); $proxy->mode('pass') } ],
	[ 'nobody can connect', sub { $proxy->mode('closed'); pause(1); $proxy->mode('pass') } ],
	[ 'the engine is killed', sub { kill 'KILL', $server->engine_pid; pause(0.1); up() } ],
	[ 'the engine is killed while answers are lost', sub { $proxy->mode('deaf'); pause(0.3); kill 'KILL', $server->engine_pid; $proxy->mode('cut'); pause(0.1); up() } ],
	[ 'the engine is ended', sub { kill 'TERM', $server->engine_pid; pause(0.1); up() } ],
	[ 'PostgreSQL stops in immediate mode', sub { $server->stop('immediate'); $server->start; up() } ],
	[ 'PostgreSQL is restarted', sub { $server->restart; up() } ],
	[ 'a worker is killed', sub { (shift @workers)->kill9; push @workers, $nats->worker($server, fail => 0.1) } ],
	[ 'a type is suspended', sub { $server->ask("SELECT eda.suspend_event_type('T')"); pause(0.5); $server->ask("SELECT eda.unsuspend_event_type('T')") } ],
	[ 'events are canceled', sub { $server->psql('postgres', 'SELECT eda.cancel(id) FROM test.unfinished LIMIT 20') } ],
	[ 'NATS is switched off and on, without the proxy and with it', sub {
		EdaBroker::set($server, nats_url => ''); pause(0.5);
		EdaBroker::set($server, nats_url => $nats->url); pause(0.5);
		$server->ask('ALTER SYSTEM RESET eda.nats_url'); $server->reload } ]);

for my $round (1 .. $rounds)
{
	my ($name, $fault) = @{ $faults[ rand @faults ] };
	my $publisher = $server->client('postgres', "SELECT eda.publish('T', 'one');\n" x 300);
	$server->ask("SELECT test.publish('T', 'many', 300); SELECT test.publish('SMALL', 'small', 30)");
	pause(0.3);
	note("round $round: $name");
	$fault->();
	$publisher->finish;
	my @ids = $server->published_by($publisher);
	my $known = join ',', map { "'$_'" } @ids;
	is($server->ask("SELECT count(*) FROM eda.event WHERE id IN ($known)"), scalar @ids, "round $round, $name: the log has all confirmed events") if @ids;
}
EdaBroker::becomes($server, 'ready', 'in the end the broker is ready');
EdaBroker::all_end($server);
$server->becomes('SELECT broker_unacknowledged = 0 FROM eda.engine_status', 'all messages are acknowledged');
is($server->ask("SELECT count(*) FROM eda.event_state s WHERE (state = 'succeeded') IS DISTINCT FROM EXISTS (SELECT FROM test.effect f WHERE f.event_id = s.id)"), '0',
	'the events that succeeded are those that had their effect');

my %ids;
$ids{ $_->{headers}{'Nats-Msg-Id'}[0] }++ for $nats->messages;
my %steps = map { $_ => 1 } split / /, $server->ask("SELECT string_agg(event_id || '-' || version, ' ') FROM eda.transition WHERE state IN ('dispatched', 'failed', 'expired')");
is(scalar(grep { !$steps{$_} } keys %ids), 0, 'each of ' . (scalar keys %ids) . ' messages is a step of the log');
is(scalar(grep { $_ > 1 } values %ids), 0, 'no message is in the stream twice');
my @dead = split /\n/, $server->ask('SELECT event_id || \'-\' || version FROM eda.transition t WHERE state IN (\'failed\', \'expired\')');
EdaNats::becomes(sub { my %told = map { $_->{headers}{'Nats-Msg-Id'}[0] => 1 } $nats->messages(subject => 'event-engine._DLQ.flow'); !grep { !$told{$_} } @dead },
	'each of ' . @dead . ' dead letters has arrived');
$_->stop for @workers;
unlike(PostgreSQL::Test::Utils::slurp_file($server->logfile), qr/PANIC|TRAP|signal (6|11)/, 'no process died except those that were killed');
EdaNats::Worker::all_did_well();
$server->ends_well;

done_testing();
