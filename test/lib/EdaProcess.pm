# Processes that a test starts beside itself, and that end with it.
package EdaProcess;

use strict;
use warnings;

use POSIX ();

my %alive;    # ids of the processes that were started here and not reaped yet

# Run some code in a process of its own, which is killed when the test ends.  The code gets
# the id of the test's process.
sub spawn
{
	my ($code) = @_;
	my $parent = $$;
	my $pid = fork;

	die "fork: $!" unless defined $pid;
	if ($pid == 0)
	{
		%alive = ();
		$SIG{$_} = 'DEFAULT' for qw(TERM INT ALRM);
		$SIG{PIPE} = 'IGNORE';
		eval { $code->($parent); 1 } or print STDERR "process $$: $@";
		POSIX::_exit(1);
	}
	$alive{$pid} = 1;
	return $pid;
}

# Send signals to a process that was started here, and wait until it has ended.
sub reap
{
	my ($pid, @signals) = @_;

	return unless $alive{$pid};
	kill $_, $pid for @signals;
	waitpid $pid, 0;
	delete $alive{$pid};
	return;
}

END
{
	my $status = $?;
	kill 'KILL', keys %alive;
	waitpid $_, 0 for keys %alive;
	$? = $status;
}

1;
