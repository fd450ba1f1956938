# A proxy between the engine and a nats-server, in a process of its own, that loses things.
#
# Its modes:
#	pass	everything goes through
#	deaf	messages from the server to the client, and so all acknowledgements, are dropped;
#		the rest of the protocol goes through
#	hang	nothing goes through, and connections stay open
#	closed	connections are refused
#	cut	all connections are closed, and then it is "pass"
package EdaNats::Proxy;

use strict;
use warnings;

use EdaProcess;
use IO::Socket::INET;
use PostgreSQL::Test::Cluster;
use Socket ();

# Start a proxy for a nats-server, on a port of its own.
sub start
{
	my ($class, $nats) = @_;
	my $self = bless { port => PostgreSQL::Test::Cluster::get_free_port(), control => undef }, $class;

	socketpair $self->{control}, my $other, Socket::AF_UNIX(), Socket::SOCK_STREAM(), 0 or die "socketpair: $!";
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $self->{port}, Listen => 16, ReuseAddr => 1) or die "listen: $!";
	$self->{pid} = EdaProcess::spawn(sub {
		close $self->{control};
		run({ listener => $listener, control => $other, port => $nats->{port}, mode => 'pass', pairs => [] });
	});
	close $other;
	close $listener;
	return $self;
}

sub url { my ($self) = @_; return "nats://127.0.0.1:$self->{port}"; }
sub stop { my ($self) = @_; return EdaProcess::reap($self->{pid}, 'KILL'); }

# Change the mode, and wait until the proxy has done so.  Returns how many messages it has dropped.
sub mode
{
	my ($self, $mode) = @_;

	syswrite $self->{control}, "$mode\n";
	sysread $self->{control}, my $answer, 100;
	chomp $answer;
	return $answer;
}

# What the proxy's process does.
sub run
{
	my ($proxy) = @_;

	$proxy->{dropped} = 0;
	while (1)
	{
		my @pairs = @{ $proxy->{pairs} };
		my $bits = '';
		vec($bits, fileno $_, 1) = 1 for $proxy->{listener}, $proxy->{control}, $proxy->{mode} eq 'hang' ? () : map { @$_{qw(client server)} } @pairs;
		select($bits, undef, undef, undef) > 0 or next;
		if (vec $bits, fileno $proxy->{control}, 1)
		{
			command($proxy) or return;
			next;
		}
		accept_one($proxy) if vec $bits, fileno $proxy->{listener}, 1;
		for my $pair (@pairs)
		{
			pass_on($proxy, $pair, 'client', 'server') if vec $bits, fileno $pair->{client}, 1;
			pass_on($proxy, $pair, 'server', 'client') if !$pair->{over} && vec $bits, fileno $pair->{server}, 1;
		}
		@{ $proxy->{pairs} } = grep { !$_->{over} } @{ $proxy->{pairs} };
	}
}

sub command
{
	my ($proxy) = @_;

	sysread $proxy->{control}, my $mode, 100 or return;
	chomp $mode;
	@{ $proxy->{pairs} } = () if $mode eq 'cut' || $mode eq 'closed';
	$proxy->{mode} = $mode eq 'cut' ? 'pass' : $mode;
	syswrite $proxy->{control}, "$proxy->{dropped}\n";
	return 1;
}

sub accept_one
{
	my ($proxy) = @_;
	my $client = $proxy->{listener}->accept or return;
	my $server = $proxy->{mode} eq 'closed' ? undef : IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $proxy->{port}, Timeout => 5);

	push @{ $proxy->{pairs} }, { client => $client, server => $server, buffer => '' } if $server;
	return;
}

sub pass_on
{
	my ($proxy, $pair, $from, $to) = @_;
	my $n = sysread $pair->{$from}, my $bytes, 1 << 16;

	if (!$n)
	{
		$pair->{over} = 1;
		return;
	}
	$bytes = whole_frames($proxy, $pair, $bytes) if $from eq 'server';
	while (length $bytes)
	{
		$n = syswrite $pair->{$to}, $bytes;
		if (!$n)
		{
			$pair->{over} = 1;
			return;
		}
		substr $bytes, 0, $n, '';
	}
	return;
}

# The whole frames of what the server has sent, without those that are dropped.  The rest is kept.
sub whole_frames
{
	my ($proxy, $pair, $bytes) = @_;
	my $out = '';

	$pair->{buffer} .= $bytes;
	while ($pair->{buffer} =~ /^([^\r\n]*)\r\n/)
	{
		my ($line, $size) = ($1, $+[0]);
		my $message = $line =~ /^H?MSG .* (\d+)$/;
		$size += $1 + 2 if $message;
		last if length $pair->{buffer} < $size;
		my $frame = substr $pair->{buffer}, 0, $size, '';
		if ($message && $proxy->{mode} eq 'deaf')
		{
			$proxy->{dropped}++;
		}
		else
		{
			$out .= $frame;
		}
	}
	return $out;
}

1;
