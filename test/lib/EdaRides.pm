# The ride-hailing example, whose workers crash and are killed while rides go on.
package EdaRides;

use strict;
use warnings;

use EdaServer;
use IPC::Run;
use PostgreSQL::Test::Utils ();
use Test::More;

# Request rides, wait until all have ended, and test that each went by the rules.  Options: worker
# (worker, worker-nats), delivery (pull, nats), rides (how many), meanwhile (code that is called ten
# times a second).
sub go
{
	my ($server, %options) = @_;
	my $rides = $options{rides} || $ENV{RIDES} || 60;
	my $example = "$ENV{EDA_SOURCE}/examples/ride-hailing";
	my $program = $options{worker} || 'worker';

	PostgreSQL::Test::Utils::command_ok([ 'make', '-C', $example, $program ], 'the worker compiles');
	$server->command_ok([ 'psql', '-Xq', '-v', 'ON_ERROR_STOP=1', '-v', 'delivery=' . ($options{delivery} || 'pull'),
			'-f', "$example/setup.sql", $server->connstr('postgres') ], 'setup.sql');
	$server->safe_psql('postgres', EdaServer::helpers());
	$server->runs;
	# Nothing ends because the machine is slow.
	$server->ask("SELECT count(eda.configure(event_type, lifespan => '1 hour', lease => '6 s')) FROM eda.event_type WHERE flow_type = 'FLOW_B'");

	my $n = 0;
	my $hire = sub {
		$n++;
		return IPC::Run::start([ "$example/$program", '--name', "worker $n", '--batch', 1 + $n % 3, '--work-ms', '10',
				'--fail', '0.15', '--permanent', '0.01', '--crash', '0.01', $server->connstr('postgres') . ' user=ride_worker' ],
			'<', \undef, '>', '/dev/null', '2>>', "$PostgreSQL::Test::Utils::log_path/${\$server->name}_workers.log");
	};
	my @workers = map { $hire->() } 1 .. 6;
	$server->ask("SELECT count(ride.request('ride ' || n)) FROM generate_series(1, $rides) n");

	# Replace workers that have crashed, and now and then kill one, whatever it is doing.
	my ($killed, $crashed) = (0, 0);
	my $over = "SELECT count(*) > 0 AND bool_and(outcome <> 'under way') FROM ride.outcome";
	my $give_up = time + 480;
	until ($server->ask($over) eq 't' || time > $give_up)
	{
		for my $worker (@workers)
		{
			if (rand() < 0.03)
			{
				kill 'KILL', $worker->{KIDS}[0]{PID};
				$killed++;
			}
			$worker->reap_nb;
			next if $worker->_running_kids;
			eval { $worker->finish };
			$crashed++;
			$worker = $hire->();
		}
		$options{meanwhile}->() if $options{meanwhile};
		select undef, undef, undef, 0.1;
	}
	for my $worker (@workers)
	{
		kill 'TERM', $worker->{KIDS}[0]{PID};
		eval { $worker->finish };
	}
	is($server->ask($over), 't', "all $rides rides are over, though $killed workers were killed and @{[$crashed - $killed]} crashed");
	cmp_ok($killed, '>', 0, 'workers were killed');
	is($server->ask("SELECT count(*) FROM eda.event_state WHERE state NOT IN ('succeeded', 'failed', 'expired', 'canceled')"), '0',
		'every event is in a final state');
	note($server->ask('SELECT outcome, count(*) FROM ride.outcome GROUP BY 1 ORDER BY 2 DESC'));
	$server->command_like([ 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', "$example/verify.sql", $server->connstr('postgres') ],
		qr/^$/, 'verify.sql finds no violation');
	is($server->ask("SELECT count(*) FROM ride.outcome WHERE outcome = 'lost'"), '0', 'no ride is lost');
	cmp_ok($server->ask("SELECT count(*) FROM ride.outcome WHERE outcome = 'paid'"), '>', $rides / 2, 'most are paid');
	return;
}

1;
