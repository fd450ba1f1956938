# A thousand SSE and a thousand WebSocket clients get every one of 2,000 transitions a second,
# beside clients that never read and ten thousand whose flows are silent.
use strict;
use warnings;
use EdaGateway;
use EdaServer;
use HTTP::Tiny;
use IPC::Open2;
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes ();

EdaGateway::needed();

my $seconds = 10;
my $server = EdaServer->start_new('crowd');
$server->set_up('postgres');
my $gateway = EdaGateway->start_new($server, 'gateway');
my $crowd = "$PostgreSQL::Test::Utils::tmp_check/crowd";
PostgreSQL::Test::Utils::command_ok([ 'cc', '-O2', '-Wall', '-Wextra', '-Werror', '-o', $crowd, "$ENV{EDA_SOURCE}/test/gateway/crowd.c" ],
	'the crowd compiles');

# The first message of the feed has been checked against the log.
ok($gateway->is_live, 'the gateway is live');
$server->safe_psql("postgres", "SELECT test.publish('T', 'first', 1); CALL test.work('flow', 1)");
ok(EdaGateway::becomes_true(sub { HTTP::Tiny->new->get("$gateway->{url}/metrics")->{content} =~ /^eda_gateway_changes_total 4$/m }),
	'the gateway hears the feed');

my $pid = open2(my $out, my $in, $crowd, $gateway->{port}, 1000, 1000, 2, 10000);
my $ready = <$out> // 'it died';
like($ready, qr/^ready \d+$/, 'all are let in');
my ($idle) = $ready =~ /(\d+)/;
note("$idle clients are idle, the gateway takes ${\$gateway->resident_kb} kB");
cmp_ok($idle || 0, '>=', 1000, 'idle ones too, as many as the limit of open files allows');

# Lives of four transitions each, 50 every tenth of a second; on a slow machine the rate falls.
my $began = Time::HiRes::time();
my $events = 0;
for my $step (1 .. $seconds * 10)
{
	$server->safe_psql('postgres', "SELECT test.publish('T', 'crowd', 50); CALL test.work('flow', 50)");
	$events += 50;
	my $left = $began + $step / 10 - Time::HiRes::time();
	select undef, undef, undef, $left if $left > 0;
}
my $took = Time::HiRes::time() - $began;
is($server->ask('SELECT count(*) FROM eda.transition'), 4 * $events + 4, 'all lives are over');
print $in 4 * $events, "\n";
close $in;
my $result = <$out> // 'it died';
chomp $result;
note(sprintf('%d transitions a second, seen by all %.1f s after the last', 4 * $events / $took, Time::HiRes::time() - $began - $took));
SKIP:
{
	# What the gateway has read from the log, because the feed was late, has no number to check.
	skip 'the feed was late on this slow machine', 1
	  if HTTP::Tiny->new->get("$gateway->{url}/metrics")->{content} !~ /^eda_gateway_feed_gaps_total 0$/m;
	is($result, 'all ' . 4 * $events, 'each of the 2,000 that read has seen every change, in order, once');
}
waitpid $pid, 0;

note("the gateway takes ${\$gateway->resident_kb} kB");
cmp_ok($gateway->resident_kb, '<', 1_000_000, 'the gateway has kept no backlog for those who do not read');
$gateway->stop;
$server->ends_well;

done_testing();
