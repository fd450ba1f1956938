# eda-gateway in front of an EdaServer, and the programs for nodejs that test it.
#
# drive() runs a program of test/gateway.  The TAP that it prints becomes tests here, and a line
# that begins with "!" asks for something to be done (see test/gateway/lib.mjs).  At the end of a
# test at the latest, its gateways are stopped with SIGTERM.  They must then end with status 0, and
# no sanitizer may have found anything.
package EdaGateway;

use strict;
use warnings;

use Encode ();
use File::Spec;
use HTTP::Tiny;
use IO::Socket::INET;
use IPC::Open2;
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes ();

my $json = JSON::PP->new->utf8->allow_nonref;
my $test = File::Spec->rel2abs($0) =~ m{([^/]*)\.pl$} ? $1 : 'gateway';
my %alive;    # process ids of what was started here

sub program
{
	return $ENV{EDA_GATEWAY} || "$ENV{EDA_SOURCE}/gateway/eda-gateway";
}

# The gateway that is built with sanitizers if there is one, else the usual one.
sub checked_program
{
	my $checked = $ENV{EDA_GATEWAY_ASAN} || "$ENV{EDA_SOURCE}/gateway/eda-gateway-asan";
	return -x $checked ? $checked : program();
}

# Skip the whole file without a gateway, or without node and its packages.
sub needed
{
	plan skip_all => 'no eda-gateway (make -C gateway)' unless -x program();
	plan skip_all => 'no packages for nodejs (test/install-consumer.sh, EDA_CONSUMER)'
	  unless -d ($ENV{EDA_CONSUMER} || '') . '/node_modules/ws';
	return;
}

# Whether some code returns true within a time, 180 s unless given.
sub becomes_true
{
	my ($ask, $seconds) = @_;
	my $end = Time::HiRes::time() + ($seconds || 180);
	while (Time::HiRes::time() < $end)
	{
		return 1 if $ask->();
		select undef, undef, undef, 0.02;
	}
	return 0;
}

# ------------------------------------------------------------------------
# A gateway
# ------------------------------------------------------------------------

# A running gateway.  Options: db, role (that it connects as), tokens ({ token => role }), listen,
# args, program, wait (0: do not wait until it answers), conninfo (more parameters of it).
sub start_new
{
	my ($class, $server, $name, %options) = @_;
	my $log = "$PostgreSQL::Test::Utils::log_path/${test}_$name";
	my $self = bless { name => $name, server => $server, out => "$log.out", err => "$log.err", san => "$log.sanitizer" }, $class;
	my @command = (
		$options{program} || program(),
		'--db', $server->connstr($options{db} || 'postgres') . ' user=' . ($options{role} || 'postgres') . ' ' . ($options{conninfo} || ''),
		'--listen', $options{listen} || '127.0.0.1:0',
		'--www', "$ENV{EDA_SOURCE}/gateway/www");

	if ($options{tokens})
	{
		$self->{tokens} = "$log.tokens";
		$self->write_tokens($options{tokens});
		push @command, '--tokens', $self->{tokens};
	}
	push @command, @{ $options{args} || [] };
	$self->{pid} = fork;
	die "fork: $!" unless defined $self->{pid};
	if ($self->{pid} == 0)
	{
		local $ENV{ASAN_OPTIONS} = "log_path=$self->{san}:exitcode=99:detect_leaks=1";
		local $ENV{UBSAN_OPTIONS} = "log_path=$self->{san}:print_stacktrace=1:halt_on_error=0";
		local $ENV{LSAN_OPTIONS} = "exitcode=99";
		open STDIN, '<', '/dev/null';
		open STDOUT, '>', $self->{out};
		open STDERR, '>', $self->{err};
		# Each connection takes a file descriptor, so raise the limit as far as allowed.
		exec 'sh', '-c', 'ulimit -n $(ulimit -Hn); exec "$@"', 'sh', @command or POSIX::_exit(127);
	}
	$alive{ $self->{pid} } = $self;
	becomes_true(sub { $self->{url} = $self->address or $self->is_gone }) or die "$name says nothing: " . $self->log;
	die "$name does not start: " . $self->log if $self->is_gone && !$options{may_fail};
	return $self if $self->is_gone;
	($self->{port}) = $self->{url} =~ /:(\d+)$/;
	if (!defined $options{wait} || $options{wait})
	{
		(my $near = $self->{url}) =~ s/0\.0\.0\.0/127.0.0.1/;
		becomes_true(sub { HTTP::Tiny->new(timeout => 5)->get("$near/health")->{status} == 200 })
		  or die "$name does not answer: " . $self->log;
	}
	return $self;
}

# Wait until the gateway says that the database is up: from then on it sends every change.  Returns
# whether that came true.
sub is_live
{
	my ($self) = @_;
	my $stream = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{port}) or die "$self->{url}: $!";
	my $said = '';

	print $stream "GET /api/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
	$stream->blocking(0);
	return becomes_true(sub {
		sysread $stream, $said, 4096, length $said;
		return $said =~ /"database":"up"/;
	});
}

sub address
{
	my ($self) = @_;
	return -e $self->{out} && PostgreSQL::Test::Utils::slurp_file($self->{out}) =~ m{^eda-gateway listening on (https?://\S+)$}m ? $1 : undef;
}

sub log
{
	my ($self) = @_;
	return join '', map { -e $_ ? PostgreSQL::Test::Utils::slurp_file($_) : '' } $self->{out}, $self->{err}, $self->sanitizer_logs;
}

sub sanitizer_logs
{
	my ($self) = @_;
	return glob "'$self->{san}.*'";
}

# Write the file of tokens, with the permissions "mode".
sub write_tokens
{
	my ($self, $tokens, $mode) = @_;
	my $new = "$self->{tokens}.new";
	unlink $new;
	open my $file, '>', $new or die "$new: $!";
	chmod 0600, $new;
	print $file "# who may come\n", map { "$_ $tokens->{$_}\n" } sort keys %$tokens;
	close $file;
	chmod $mode, $new if defined $mode;
	rename $new, $self->{tokens} or die "$self->{tokens}: $!";
	return;
}

# Whether the gateway's process has ended.  Its status is then in {status}.
sub is_gone
{
	my ($self) = @_;
	return 1 if exists $self->{status};
	return 0 unless waitpid($self->{pid}, POSIX::WNOHANG()) == $self->{pid};
	$self->{status} = $?;
	delete $alive{ $self->{pid} };
	return 1;
}

# Send SIGTERM, and test that the gateway ends well and that no sanitizer has found anything.
sub stop
{
	my ($self, %how) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;

	return if $self->{stopped}++;
	kill $how{signal} || 'TERM', $self->{pid} unless $self->is_gone;
	if (!becomes_true(sub { $self->is_gone }))
	{
		kill 'KILL', $self->{pid};
		becomes_true(sub { $self->is_gone });
	}
	if ($how{killed})
	{
		is($self->{status} & 127, POSIX::SIGKILL(), "$self->{name} is killed");
	}
	else
	{
		is($self->{status}, $how{status} || 0, "$self->{name} ends with status 0") or diag($self->log);
	}
	my @said = $self->sanitizer_logs;
	is(scalar @said, 0, "$self->{name}: no sanitizer found anything") or diag(map { PostgreSQL::Test::Utils::slurp_file($_) } @said);
	return;
}

sub resident_kb
{
	my ($self) = @_;
	return PostgreSQL::Test::Utils::slurp_file("/proc/$self->{pid}/status") =~ /^VmRSS:\s+(\d+) kB/m ? $1 : undef;
}

END
{
	my $status = $?;
	for my $gateway (values %alive)
	{
		kill 'KILL', $gateway->{pid};
		waitpid $gateway->{pid}, 0;
	}
	$? = $status;
}

# ------------------------------------------------------------------------
# A program in node
# ------------------------------------------------------------------------

# What a program can ask for, apart from what is done to gateways and sessions.
my %verbs = (
	sql => sub { my ($d, $sql, $db) = @_; return Encode::decode('UTF-8', $d->{server}->safe_psql($db || 'postgres', Encode::encode('UTF-8', $sql))) },
	runs => sub { my ($d) = @_; $d->{server}->runs; return 1 },
	engine_pid => sub { my ($d) = @_; return $d->{server}->engine_pid },
	kill_engine => sub {
		my ($d) = @_;
		my $pid = $d->{server}->engine_pid;
		# Not SIGKILL, because the whole server would restart.
		kill 'TERM', $pid;
		return $pid;
	},
	# Work until every event of the flow type "flow" has ended, without a test.
	work_off => sub {
		my ($d) = @_;
		for (1 .. 120)
		{
			my $n = $d->{server}->ask("SELECT count(*) FROM eda.event_state WHERE flow_type = 'flow' AND state NOT IN ('succeeded', 'failed', 'expired', 'canceled')");
			return 1 if $n eq '0';
			$d->{server}->psql('postgres', "CALL test.work('flow', $n)");
		}
		die "events are left\n";
	},
	server_stop => sub { my ($d, $mode) = @_; $d->{server}->stop($mode); return 1 },
	server_start => sub { my ($d) = @_; $d->{server}->start; return 1 },
	server_reload => sub { my ($d) = @_; $d->{server}->reload; return 1 },
	session => sub { my ($d, $name) = @_; $d->{sessions}{$name} = $d->{server}->background_psql('postgres'); return 1 },
	session_run => sub { my ($d, $name, $sql) = @_; return $d->{sessions}{$name}->query_safe($sql) },
	session_end => sub { my ($d, $name) = @_; (delete $d->{sessions}{$name})->quit; return 1 },
	gateway => sub {
		my ($d, $options) = @_;
		my $name = $options->{name} || 'gateway_' . (1 + keys %{ $d->{gateways} });
		my $gateway = EdaGateway->start_new($d->{server}, $name, program => $d->{program}, %$options);
		$d->{gateways}{$name} = $gateway;
		return { name => $name, url => $gateway->{url}, port => 0 + ($gateway->{port} || 0), pid => $gateway->{pid}, gone => $gateway->is_gone ? JSON::PP::true : JSON::PP::false };
	},
	gateway_stop => sub { my ($d, $name, $how) = @_; $d->{gateways}{$name}->stop(%{ $how || {} }); return $d->{gateways}{$name}{status} },
	gateway_signal => sub { my ($d, $name, $signal) = @_; kill $signal, $d->{gateways}{$name}{pid}; return 1 },
	gateway_gone => sub { my ($d, $name) = @_; return $d->{gateways}{$name}->is_gone ? { status => $d->{gateways}{$name}{status} } : undef },
	gateway_log => sub { my ($d, $name) = @_; return Encode::decode('UTF-8', $d->{gateways}{$name}->log) },
	gateway_memory => sub { my ($d, $name) = @_; return $d->{gateways}{$name}->resident_kb },
	gateway_tokens => sub { my ($d, $name, $tokens, $mode) = @_; $d->{gateways}{$name}->write_tokens($tokens, $mode); return 1 },
	finish => sub { my ($d) = @_; $d->{finished} = 1; return 1 },
);

# Run a program of test/gateway; options: program (the gateway's).
sub drive
{
	my ($server, $script, %options) = @_;
	my $driver = { server => $server, gateways => {}, sessions => {}, program => $options{program} || program() };

	local $ENV{EDA_GATEWAY_PROGRAM} = $driver->{program};
	my $pid = open2(my $out, my $in, 'node', "$ENV{EDA_SOURCE}/test/gateway/$script");
	my $good = 1;
	$in->autoflush(1);
	while (my $line = <$out>)
	{
		chomp $line;
		if ($line =~ /^(not )?ok - (.*)/) { $good = ok(!$1, $2) }
		elsif ($line =~ /^# ?(.*)/) { $good ? note($1) : diag($1) }
		elsif ($line =~ /^!(.*)/) { print $in answer($driver, $json->decode($1)), "\n" }
		else { diag("$script: $line") }
	}
	waitpid $pid, 0;
	is($?, 0, "$script comes to its end");
	ok($driver->{finished}, 'and has done all of it');
	$_->quit for values %{ $driver->{sessions} };
	$driver->{gateways}{$_}->stop for sort keys %{ $driver->{gateways} };
	return;
}

sub answer
{
	my ($driver, $asked) = @_;
	my $result = eval { my $verb = $verbs{ $asked->{verb} } or die "unknown verb $asked->{verb}\n"; $verb->($driver, @{ $asked->{args} }) };
	return $json->encode({ id => $asked->{id}, $@ ne '' ? (error => "$asked->{verb}: $@") : (result => $result) });
}

1;
