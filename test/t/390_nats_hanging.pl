# A NATS server that is stopped, or never answers, does not delay DROP DATABASE, DROP EXTENSION, a reload or a shutdown.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaServer;
use IO::Socket::INET;
use Test::More;
use Time::HiRes qw(time);

EdaNats::needed();
my $nats = EdaNats->start_new('hanging');
my $mute = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 50) or die "listen: $!";
my $server = EdaServer->start_new('hanging', conf => "eda.max_databases = 8\n");

# Run some code, and test that it takes less than a minute; on a fast machine it takes a second or
# two.  A process that waited for NATS would wait for longer.
sub prompt
{
	my ($name, $code) = @_;
	my $start = time;
	$code->();
	cmp_ok(time - $start, '<', 60, "$name ends promptly");
	return;
}

for my $how ('stopped', 'silent from the start')
{
	my $silent = $how =~ /silent/;
	EdaBroker::set($server, nats_url => '');
	for my $db (qw(one two three))
	{
		$server->ask("CREATE DATABASE $db");
		EdaBroker::set_up($server, $db);
	}
	EdaBroker::set($server, nats_url => $silent ? 'nats://127.0.0.1:' . $mute->sockport : $nats->url);
	for my $db (qw(one two three))
	{
		EdaBroker::becomes($server, 'ready', "$db: ready", db => $db) unless $silent;
	}
	$nats->hang unless $silent;
	for my $db (qw(one two three))
	{
		# These are more bytes than the buffers of a socket take.
		$server->ask("SELECT count(eda.publish('T', 'x', jsonb_build_object('text', repeat('x', 5000)))) FROM generate_series(1, 2000)", $db);
		$server->becomes("SELECT count(*) > 0 FROM eda.event_state WHERE state = 'dispatched'", "$how, $db: events are dispatched", db => $db) unless $silent;
	}
	prompt("$how: DROP DATABASE", sub { $server->ask("SET statement_timeout = '300 s'; DROP DATABASE one") });
	prompt("$how: DROP EXTENSION", sub { $server->ask("SET statement_timeout = '300 s'; DROP EXTENSION eda CASCADE", 'two') });
	prompt("$how: a reload", sub {
		my $pid = $server->engine_pid('three');
		EdaBroker::set($server, nats_url => '');
		EdaBroker::becomes($server, 'off', "$how: a reload switches the broker off", db => 'three');
		EdaBroker::set($server, nats_url => $silent ? 'nats://127.0.0.1:' . $mute->sockport : $nats->url);
		$server->becomes("SELECT broker <> 'off' FROM eda.engine_status", "$how: a reload switches it on again", db => 'three');
		is($server->engine_pid('three'), $pid, "$how: the engine is the same process");
	});
	prompt("$how: the end of an engine", sub {
		my $pid = $server->engine_pid('three');
		kill 'TERM', $pid;
		$server->becomes("SELECT state = 'running' AND pid <> $pid FROM eda.engine_status", "$how: another engine runs", db => 'three');
	});
	prompt("$how: a fast shutdown", sub { $server->stop('fast') });
	$server->start;
	$server->runs('three');
	prompt("$how: a restart", sub { $server->restart });
	$server->runs('three');
	prompt("$how: an immediate shutdown", sub { $server->stop('immediate') });
	$nats->go_on;
	$server->start;
	$server->runs('three');
	EdaBroker::set($server, nats_url => $nats->url);
	my $worker = $nats->worker($server, db => 'three');
	EdaBroker::all_end($server, "$how: in the end every event ends", db => 'three');
	$worker->stop;
	$server->ends_well('three');
	$server->ask("DROP DATABASE $_") for qw(two three);
	$nats->api('STREAM.DELETE.EDA');
}
unlike(PostgreSQL::Test::Utils::slurp_file($server->logfile), qr/PANIC|TRAP|terminated by signal/, 'no process died');

done_testing();
