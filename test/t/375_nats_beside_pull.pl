# A NATS server that is away, stopped, or refuses the engine does not hold up events that workers pull.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaProcess;
use EdaServer;
use IO::Socket::INET;
use Test::More;

EdaNats::needed();
my $nats = EdaNats->start_new('beside');
my $strict = EdaNats->start_new('strict', conf => 'authorization { user: u, password: p }', client => { user => 'u', pass => 'p' });
my $server = EdaServer->start_new('beside');
EdaBroker::set_up($server, 'postgres', dispatch_timeout => "'1 hour'");
$server->ask("SELECT FROM eda.configure('P', 'pulled', attempt_delays => '{0 s}', lease => '10 min')");

# One server that never answers, and one that answers nonsense
my $mute = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 5) or die "listen: $!";
my $mad = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 5) or die "listen: $!";
my $madman = EdaProcess::spawn(sub {
	while (my $client = $mad->accept)
	{
		print $client "HTTP/1.0 200 OK\r\n\r\nMSG x 1 99999999999999\r\n" . 'x' x 10000;
		close $client;
	}
});

my $n = 0;
my @brokers = (
	[ 'away', 'nats://127.0.0.1:' . PostgreSQL::Test::Cluster::get_free_port() ],
	[ 'refusing', $strict->url('u:wrong') ],
	[ 'silent', 'nats://127.0.0.1:' . $mute->sockport ],
	[ 'nonsense', 'nats://127.0.0.1:' . $mad->sockport ],
	[ 'running', $nats->url ],
	[ 'stopped', $nats->url ]);
for my $broker (@brokers)
{
	my ($name, $url) = @$broker;
	EdaBroker::set($server, nats_url => $url);
	EdaBroker::becomes($server, 'ready') if $url eq $nats->url;
	$nats->hang if $name eq 'stopped';
	$server->ask("SELECT test.publish('T', '$name', 2000)");
	# Pull events several times, while the broker tries to connect.
	for my $try (1 .. 3)
	{
		$server->ask("SELECT test.publish('P', '$name', 500)");
		$server->ask("SET statement_timeout = '300 s'; CALL test.work('pulled', 500)");
		$n += 500;
		is($server->ask("SELECT count(*) FROM eda.event_state WHERE event_type = 'P' AND state = 'succeeded'"), $n, "$name, $try: all pulled events succeed");
	}
	$server->becomes("SELECT broker NOT IN ('ready', 'connecting') AND broker_error <> '' FROM eda.engine_status", "$name: the broker is not ready") if $name ne 'running';
	note($server->ask('SELECT broker, broker_error FROM eda.engine_status'));
}
note('the longest tick of the engine took ' . $server->ask('SELECT max_tick_ms FROM eda.engine_status') . ' ms');
EdaProcess::reap($madman, 'KILL');
$nats->go_on;
my $worker = $nats->worker($server);
EdaBroker::all_end($server, 'in the end events for NATS end too');
$worker->stop;
is($server->ask('SELECT count(*) FROM test.effect'), $server->ask('SELECT count(*) FROM eda.event'), 'each event had its effect once');
$server->ends_well;

done_testing();
