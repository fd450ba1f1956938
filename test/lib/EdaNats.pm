# nats-servers with JetStream for tests, a client that looks into them, workers, and a proxy that loses things.
#
# All of it in core Perl: what the tests see of a stream was read by nobody's client
# library.  Servers are on loopback, each with a folder and ports of its own; whatever is
# started here is killed when the test ends.
package EdaNats;

use strict;
use warnings;

use File::Basename;
use File::Spec;
use IO::Socket::INET;
use JSON::PP;
use Digest::SHA;
use Socket ();
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes qw(time);

our $json = JSON::PP->new->utf8->canonical;
my %alive;    # process ids of what was started here
my $test = basename($0, '.pl');

# Where the nats-server of a name (old: Debian's own, new: with message TTL) is; undef: nowhere.
sub program
{
	my ($which) = @_;
	my $path = ($ENV{EDA_NATS} || '') . "/$which/nats-server";
	return -x $path ? $path : undef;
}

# The versions that are there, for tests that go through all of them; "old" only where it is older than message TTL.
sub versions
{
	return grep { program($_) && ($_ eq 'new' || `$ENV{EDA_NATS}/old/nats-server --version` =~ /v2\.(?:\d|10)\./) } qw(old new);
}

# Whether it lets messages have a time to live: 2.11 and later.
sub has_ttl
{
	my ($program) = @_;
	my ($major, $minor) = `$program --version` =~ /v(\d+)\.(\d+)/ or die "$program has no version";
	return $major > 2 || $minor >= 11;
}

# A new folder, by its whole path.
sub folder
{
	return File::Spec->rel2abs(PostgreSQL::Test::Utils::tempdir());
}

# Skip the whole file without a server.
sub needed
{
	plan skip_all => 'no nats-server (test/install-nats.sh, EDA_NATS)' unless versions();
	return;
}

# ------------------------------------------------------------------------
# Servers
# ------------------------------------------------------------------------

# A server, not started.  Options: version (old, new), conf (lines of its configuration), client (what our
# client says in CONNECT; undef: it cannot get in), jetstream (0: without).
sub new
{
	my ($class, $name, %options) = @_;
	my $version = $options{version} || (versions())[-1];
	my $self = bless {
		name => $name,
		version => $version,
		program => program($version),
		port => PostgreSQL::Test::Cluster::get_free_port(),
		http => PostgreSQL::Test::Cluster::get_free_port(),
		folder => folder(),
		ttl => has_ttl(program($version)),
		conf => $options{conf} || '',
		jetstream => $options{jetstream} // 1,
		connect => exists $options{client} ? $options{client} : {},
	}, $class;

	$self->{log} = "$PostgreSQL::Test::Utils::log_path/${test}_nats_$name.log";
	return $self;
}

sub start_new
{
	my ($class, @args) = @_;
	my $self = $class->new(@args);

	$self->start;
	return $self;
}

# Three servers that make one cluster, started.
sub start_cluster
{
	my ($class, $name, %options) = @_;
	my @servers = map { $class->new("$name$_", %options) } 1 .. 3;
	my @routes = map { PostgreSQL::Test::Cluster::get_free_port() } @servers;
	my $routes = join ', ', map { "nats-route://127.0.0.1:$_" } @routes;

	$servers[$_]->{conf} .= "cluster { name: $name, listen: \"127.0.0.1:$routes[$_]\", routes: [ $routes ], no_advertise: true }\n"
	  for 0 .. $#servers;
	$_->launch for @servers;
	$_->await for @servers;
	return @servers;
}

# host:port, or with a user and password before it, as in eda.nats_url.
sub url
{
	my ($self, $user) = @_;
	return 'nats://' . (defined $user ? "$user\@" : '') . "127.0.0.1:$self->{port}";
}

sub write_conf
{
	my ($self) = @_;
	my $jetstream = $self->{jetstream} ? "{ store_dir: \"$self->{folder}/store\", max_memory_store: 64MB, max_file_store: 1GB }" : 'false';

	open my $file, '>', "$self->{folder}/conf" or die "$self->{folder}/conf: $!";
	print $file <<CONF;
server_name: $self->{name}
listen: "127.0.0.1:$self->{port}"
http: "127.0.0.1:$self->{http}"
log_file: "$self->{log}"
jetstream: $jetstream
$self->{conf}
CONF
	close $file;
	return;
}

# Run something in a process of its own that ends with the test.
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

# Wait for a process that was started here, after sending it a signal, if any.
sub reap
{
	my ($pid, @signals) = @_;

	return unless $alive{$pid};
	kill $_, $pid for @signals;
	waitpid $pid, 0;
	delete $alive{$pid};
	return;
}

# Start without waiting for it.
sub launch
{
	my ($self) = @_;

	die "$self->{name} runs" if $self->{pid};
	$self->write_conf;
	$self->{pid} = spawn(sub {
		open STDIN, '<', '/dev/null';
		open STDOUT, '>>', $self->{log};
		open STDERR, '>&', \*STDOUT;
		exec $self->{program}, '-c', "$self->{folder}/conf" or die "$self->{program}: $!";
	});
	return;
}

# Wait until it answers, and JetStream with it.
sub await
{
	my ($self) = @_;
	my $give_up = time + $PostgreSQL::Test::Utils::timeout_default;

	while (time < $give_up)
	{
		my $answer = eval { $self->{connect} && $self->{jetstream} ? $self->client->api('INFO', undef, 2) : $self->monitor('healthz') };
		return if $answer && !$answer->{error};
		select undef, undef, undef, 0.05;
	}
	die "nats-server $self->{name} does not answer, see $self->{log}";
}

sub start
{
	my ($self) = @_;

	$self->launch;
	$self->await;
	return;
}

sub stop { my ($self) = @_; return $self->end('CONT', 'TERM'); }
sub kill9 { my ($self) = @_; return $self->end('KILL'); }

sub end
{
	my ($self, @signals) = @_;

	reap(delete $self->{pid}, @signals) if $self->{pid};
	return;
}

sub restart
{
	my ($self) = @_;

	$self->stop;
	$self->start;
	return;
}

# Stand still: connections stay, and nothing is answered.
sub hang { my ($self) = @_; return kill 'STOP', $self->{pid}; }
sub go_on { my ($self) = @_; return kill 'CONT', $self->{pid}; }

# Take other lines of configuration, while it runs.
sub reconfigure
{
	my ($self, $conf) = @_;

	$self->{conf} = $conf;
	$self->write_conf;
	kill 'HUP', $self->{pid} if $self->{pid};
	return;
}

# A new connection of our client.
sub client
{
	my ($self, %connect) = @_;
	return EdaNats::Client->new($self->{port}, %{ $self->{connect} }, %connect);
}

# What the monitoring port says, such as monitor('connz?auth=1').
sub monitor
{
	my ($self, $path) = @_;
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $self->{http}, Timeout => 5) or die "monitor: $!";

	print $socket "GET /$path HTTP/1.0\r\n\r\n";
	my $answer = do { local $/; <$socket> };
	$answer =~ s/.*?\r\n\r\n//s;
	return $json->decode($answer);
}

END
{
	my $status = $?;
	kill 'KILL', keys %alive;
	waitpid $_, 0 for keys %alive;
	$? = $status;
}

# ------------------------------------------------------------------------
# The stream, each time by a new connection
# ------------------------------------------------------------------------

sub api { my ($self, @args) = @_; return $self->client->api(@args); }

sub stream_info
{
	my ($self, $stream) = @_;
	return $self->api('STREAM.INFO.' . ($stream || 'EDA'));
}

sub count
{
	my ($self, $stream) = @_;
	my $info = $self->stream_info($stream);
	return $info->{error} ? 0 : $info->{state}{messages};
}

sub messages { my ($self, @args) = @_; return $self->client->messages(@args); }

# Poll until the code is true (not longer than a minute), and test that it was.
sub becomes
{
	my ($code, $name) = @_;
	my $give_up = time + $PostgreSQL::Test::Utils::timeout_default;
	my $met;

	until ($met = eval { $code->() } or time > $give_up)
	{
		select undef, undef, undef, 0.05;
	}
	ok($met, $name);
	return $met;
}

# ------------------------------------------------------------------------
# The PostgreSQL side
# ------------------------------------------------------------------------

# What workers need in the database, besides EdaServer::helpers().
sub helpers
{
	return <<'SQL';
-- Finish attempts, each with its effect in the same transaction, and a part of them with an error.
CREATE FUNCTION test.finish(events uuid[], tokens integer[], fail_part double precision) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. cardinality(events) LOOP
		IF random() < fail_part THEN
			PERFORM eda.fail(events[i], 'bad luck', token => tokens[i]);
		ELSE
			INSERT INTO test.effect VALUES (events[i]);
			PERFORM eda.succeed(events[i], tokens[i]);
		END IF;
	END LOOP;
END $$;

CREATE VIEW test.unfinished AS
	SELECT * FROM eda.event_state WHERE state NOT IN ('succeeded', 'failed', 'expired', 'canceled');
SQL
}

# EdaServer's set_up with T delivered by NATS, and the workers' helpers.
sub set_up
{
	my ($server, $db, %rules) = @_;

	$server->set_up($db, delivery => "'nats'", max_dispatched => 100000, %rules);
	$server->safe_psql($db, helpers());
	return;
}

# Change settings (such as nats_url => ...) of a running server.
sub set
{
	my ($server, %settings) = @_;

	$server->safe_psql('postgres', join '', map { "ALTER SYSTEM SET eda.$_ = '$settings{$_}';\n" } sort keys %settings);
	$server->reload;
	return;
}

# Test that the engine's broker comes to a state.
sub broker_becomes
{
	my ($server, $state, $name, %options) = @_;
	return $server->becomes("SELECT broker = '$state' FROM eda.engine_status", $name || "the broker is $state", %options);
}

# Test that nothing is left to do, and that all the effects are there.
sub all_end
{
	my ($server, $name, %options) = @_;

	$server->becomes('SELECT NOT EXISTS (SELECT FROM test.unfinished)', $name || 'every event comes to its end', %options)
	  or diag($server->ask('SELECT state, count(*), min(wake_at) FROM test.unfinished GROUP BY 1', $options{db}));
	return;
}

# The lines about the broker in the server's log, from an offset on; without what differs from line to line.
sub log_lines
{
	my ($server, $offset) = @_;
	my $log = PostgreSQL::Test::Utils::slurp_file($server->logfile, $offset || 0);
	my @lines = $log =~ /LOG:  (eda engine of database \d+: broker.*)/g;
	return @lines;
}

# Threads of the engine's process.
sub threads
{
	my ($server, $db) = @_;
	my @tasks = glob '/proc/' . $server->engine_pid($db) . '/task/*';
	return scalar @tasks;
}

# How many of them, the engine's own aside, do not block the signals that PostgreSQL uses.
sub threads_that_take_signals
{
	my ($server, $db) = @_;
	my $pid = $server->engine_pid($db);
	my $wanted = 0;

	$wanted |= 1 << $_ - 1 for POSIX::SIGTERM, POSIX::SIGINT, POSIX::SIGHUP, POSIX::SIGQUIT, POSIX::SIGUSR1, POSIX::SIGUSR2, POSIX::SIGALRM;
	my @tasks = grep { !m{/$pid$} } glob "/proc/$pid/task/*";
	return scalar grep { PostgreSQL::Test::Utils::slurp_file("$_/status") =~ /^SigBlk:\s*(\w+)/m && (hex($1) & $wanted) != $wanted } @tasks;
}

# ------------------------------------------------------------------------
# Workers
# ------------------------------------------------------------------------

# A worker in a process of its own: messages from a durable consumer, acquire, acknowledge, effect and succeed.
# It lives through restarts of both servers.  Options: db, stream, durable, subject, fail (part of the attempts),
# batch, brokers (several servers to choose from).
sub worker
{
	my ($self, $server, %options) = @_;
	my $log = "$PostgreSQL::Test::Utils::log_path/${test}_workers.log";
	my @psql = ($server->installed_command('psql'), '-XqAt', '-v', 'VERBOSITY=sqlstate', '-d', $server->connstr($options{db} || 'postgres'));
	my @brokers = @{ $options{brokers} || [$self] };
	my $pid = spawn(sub {
		my ($parent) = @_;
		open STDERR, '>>', $log;
		my $worker = bless { psql => \@psql, brokers => \@brokers, stream => 'EDA', durable => 'worker', batch => 100, fail => 0, %options },
		  'EdaNats::Worker';
		$worker->run while getppid == $parent;
	});
	return bless { pid => $pid, log => $log }, 'EdaNats::WorkerProcess';
}

# Test that no worker has met an error that it should not: a lease that has run out, and what is to be tried again, it may.
sub workers_did_well
{
	my $log = PostgreSQL::Test::Utils::slurp_file("$PostgreSQL::Test::Utils::log_path/${test}_workers.log");
	my @errors = grep { /^ERROR: / && !/^ERROR:  (ED002|ED003|40...)/ || /^worker / } split /\n/, $log;
	is(join("\n", @errors), '', 'no worker met an error that it should not');
	return;
}

package EdaNats::WorkerProcess;

sub stop { my ($self) = @_; return EdaNats::reap($self->{pid}, 'TERM'); }
sub kill9 { my ($self) = @_; return EdaNats::reap($self->{pid}, 'KILL'); }

package EdaNats::Worker;

use IPC::Open2;

# Work until something breaks.
sub run
{
	my ($self) = @_;

	eval {
		$self->{nats} = $self->{brokers}[ rand @{ $self->{brokers} } ]->client;
		$self->make_consumer;
		$self->consume while 1;
	};
	print STDERR "worker $$: $@" unless $@ =~ /^(connect|lost|no consumer)/;
	select undef, undef, undef, 0.05;
	return;
}

# A batch of messages: those that are there, or the first that comes.
sub consume
{
	my ($self) = @_;
	my ($nats, $consumer) = ($self->{nats}, "$self->{stream}.$self->{durable}");
	my $batch = $self->{idle} ? '{"batch": 1, "expires": 500000000}' : "{\"batch\": $self->{batch}, \"no_wait\": true}";
	my @messages = $nats->pull("\$JS.API.CONSUMER.MSG.NEXT.$consumer", $batch, $self->{idle} ? 1 : $self->{batch});

	if (@messages && $messages[-1]{status})
	{
		my $status = pop(@messages)->{status};
		die "no consumer\n" if $status == 503;
	}
	$self->{idle} = !@messages;
	return unless @messages;

	my @ids = map { $_->{body} =~ /"id": *"([0-9a-f-]{36})"/ ? $1 : die "no id in $_->{body}\n" } @messages;
	my $taken = $self->sql("SELECT a.event_id, a.token FROM unnest('{@{[join ',', @ids]}}'::uuid[]) i, eda.acquire(i, 'worker $$') a");
	return unless defined $taken;
	$nats->publish($_->{reply}, '') for @messages;
	$nats->flush;
	my @taken = map { [ split /\|/ ] } split /\n/, $taken;
	return unless @taken;
	# One that fails (a lease that has run out meanwhile) must not take the others with it.
	defined $self->finish(@taken) or map { $self->finish($_) } @taken;
	return;
}

sub make_consumer
{
	my ($self) = @_;
	my $answer = $self->{nats}->api("CONSUMER.DURABLE.CREATE.$self->{stream}.$self->{durable}", {
		stream_name => $self->{stream},
		config => { durable_name => $self->{durable}, ack_policy => 'explicit', deliver_policy => 'all', replay_policy => 'instant',
			ack_wait => 5e9, max_ack_pending => 10000, filter_subject => $self->{subject} || 'event-engine.*' } });
	die "no consumer: $answer->{error}{description}\n" if $answer->{error};
	return;
}

sub finish
{
	my ($self, @taken) = @_;
	my $ids = join ',', map { $_->[0] } @taken;
	my $tokens = join ',', map { $_->[1] } @taken;
	return $self->sql("SELECT test.finish('{$ids}', '{$tokens}', $self->{fail})");
}

# What a statement prints; undef if it fails.  Waits for a server that is not there.
sub sql
{
	my ($self, $statement) = @_;

	if (!$self->{in})
	{
		$self->{pid} = open2($self->{out}, $self->{in}, @{ $self->{psql} });
		$self->{in}->autoflush(1);
	}
	print { $self->{in} } "$statement;\n\\echo end :ERROR\n";
	my $result = '';
	while (defined(my $line = readline $self->{out}))
	{
		return $1 eq 'true' ? undef : $result if $line =~ /^end (\w+)/;
		$result .= $line;
	}
	# psql has ended, as it had no connection.
	close $self->{in};
	waitpid $self->{pid}, 0;
	delete $self->{in};
	select undef, undef, undef, 0.1;
	return;
}

# ------------------------------------------------------------------------
# The client
# ------------------------------------------------------------------------

package EdaNats::Client;

use Time::HiRes qw(time);

my $inboxes = 0;

# Connect and log in; options are fields of CONNECT (user, pass, auth_token), or credentials => EdaNats::Credentials.
sub new
{
	my ($class, $port, %connect) = @_;
	my $credentials = delete $connect{credentials};
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5) or die "connect: $!\n";
	my $self = bless { socket => $socket, buffer => '', out => '', inbox => '_INBOX.' . join('_', $$, int(rand 1e9), ++$inboxes), requests => 0 }, $class;
	my $info = $self->next_frame(time + 5);

	%connect = (%connect, $credentials->answer($info->{info}{nonce})) if $credentials;
	$self->send('CONNECT ' . $EdaNats::json->encode({ verbose => \0, pedantic => \0, lang => 'perl', version => '0', headers => \1,
		no_responders => \1, protocol => 1, %connect }) . "\r\nPING\r\nSUB $self->{inbox}.* 1\r\n");
	$self->flush;
	my $frame = $self->next_frame(time + 5);
	die "connect: refused\n" unless $frame && $frame->{op} eq 'PONG';
	return $self;
}

sub send
{
	my ($self, $bytes) = @_;
	$self->{out} .= $bytes;
	return;
}

sub flush
{
	my ($self) = @_;

	while (length $self->{out})
	{
		my $n = syswrite $self->{socket}, $self->{out};
		die "lost: $!\n" unless $n;
		substr $self->{out}, 0, $n, '';
	}
	return;
}

sub publish
{
	my ($self, $subject, $body, $reply) = @_;
	$self->send("PUB $subject " . (defined $reply ? "$reply " : '') . length($body) . "\r\n$body\r\n");
	return;
}

# The next thing that the server says, pings aside; undef: nothing until then.
sub next_frame
{
	my ($self, $until) = @_;

	while (1)
	{
		my $frame = $self->parse;
		if (!$frame)
		{
			return unless $self->read_more($until);
		}
		elsif ($frame->{op} eq 'PING')
		{
			$self->send("PONG\r\n");
			$self->flush;
		}
		elsif ($frame->{op} eq '-ERR')
		{
			die "lost: $frame->{args}\n";
		}
		elsif ($frame->{op} ne 'INFO' || !$self->{info})
		{
			$self->{info} = $frame->{info} if $frame->{info};
			return $frame;
		}
	}
}

sub read_more
{
	my ($self, $until) = @_;
	my $bits = '';

	vec($bits, fileno $self->{socket}, 1) = 1;
	my $left = $until - time;
	return unless $left > 0 && select($bits, undef, undef, $left) > 0;
	my $n = sysread $self->{socket}, $self->{buffer}, 1 << 20, length $self->{buffer};
	die "lost: connection closed\n" unless $n;
	return 1;
}

# The next frame of what has been read, if it is whole.
sub parse
{
	my ($self) = @_;

	return unless $self->{buffer} =~ /^([^\r\n]*)\r\n/;
	my ($line, $start) = ($1, $+[0]);
	my ($op, $args) = split / +/, $line, 2;
	my $frame = { op => uc $op, args => $args };
	my $size = 0;

	if ($frame->{op} eq 'MSG' || $frame->{op} eq 'HMSG')
	{
		my @args = split / +/, $args;
		my $body_size = pop @args;
		my $head_size = $frame->{op} eq 'HMSG' ? pop @args : 0;
		$size = $body_size + 2;
		return if length $self->{buffer} < $start + $size;
		@$frame{qw(subject sid reply)} = @args;
		$frame->{head} = substr $self->{buffer}, $start, $head_size;
		$frame->{body} = substr $self->{buffer}, $start + $head_size, $body_size - $head_size;
		$frame->{status} = $1 if $frame->{head} =~ /^NATS\/1\.0 (\d+)/;
	}
	elsif ($frame->{op} eq 'INFO')
	{
		$frame->{info} = $EdaNats::json->decode($args);
	}
	substr $self->{buffer}, 0, $start + $size, '';
	return $frame;
}

# The messages that answer a pull request: so many, or up to one with a status.
sub pull
{
	my ($self, $subject, $body, $n) = @_;
	my $inbox = "$self->{inbox}." . ++$self->{requests};
	my @messages;

	$self->publish($subject, $body, $inbox);
	$self->flush;
	while (@messages < $n)
	{
		my $frame = $self->next_frame(time + 5) or die "lost: no answer\n";
		# Of an earlier request that was given up: it comes again.
		next unless $frame->{op} =~ /MSG/ && ($frame->{subject} eq $inbox || $frame->{reply});
		push @messages, $frame;
		last if $frame->{status};
	}
	return @messages;
}

# A request's answer, decoded; dies if there is none.
sub request
{
	my ($self, $subject, $body, $seconds) = @_;
	my $inbox = "$self->{inbox}." . ++$self->{requests};
	my $until = time + ($seconds || 10);

	$self->publish($subject, $body, $inbox);
	$self->flush;
	while (my $frame = $self->next_frame($until))
	{
		next unless $frame->{op} =~ /MSG/ && $frame->{subject} eq $inbox;
		die "no consumer: nobody answers $subject\n" if ($frame->{status} || '') eq '503';
		return $EdaNats::json->decode($frame->{body});
	}
	die "lost: no answer to $subject\n";
}

# JetStream's API: api('STREAM.INFO.EDA'); its answer, which may be an error.
sub api
{
	my ($self, $subject, $request, $seconds) = @_;
	return $self->request("\$JS.API.$subject", defined $request ? $EdaNats::json->encode($request) : '', $seconds);
}

# All messages of a stream in order, or those from a sequence number on: subject, headers (a list for each name), body, seq.
sub messages
{
	my ($self, %options) = @_;
	my $stream = $options{stream} || 'EDA';
	my $made = $self->api("CONSUMER.CREATE.$stream", {
		stream_name => $stream,
		config => { ack_policy => 'none', replay_policy => 'instant', inactive_threshold => 60e9,
			$options{from} ? (deliver_policy => 'by_start_sequence', opt_start_seq => $options{from}) : (deliver_policy => 'all'),
			$options{subject} ? (filter_subject => $options{subject}) : () } });
	die "stream $stream: $made->{error}{description}\n" if $made->{error};
	my $n = $made->{num_pending};
	my @messages = $n ? $self->pull("\$JS.API.CONSUMER.MSG.NEXT.$stream.$made->{name}", "{\"batch\": $n, \"no_wait\": true}", $n) : ();

	die "only @{[scalar @messages]} of $n messages came\n" if @messages < $n || grep { $_->{status} } @messages;
	for my $message (@messages)
	{
		my @numbers = split /\./, $message->{reply};
		$message->{seq} = $numbers[ @numbers > 9 ? 7 : 5 ];
		$message->{headers} = headers($message->{head});
	}
	$self->api("CONSUMER.DELETE.$stream.$made->{name}");
	return @messages;
}

sub headers
{
	my ($head) = @_;
	my %headers;

	push @{ $headers{$1} }, $2 while $head =~ /^([^:\r\n]+): ?(.*?)\r$/mg;
	return \%headers;
}

# ------------------------------------------------------------------------
# A proxy between the engine and a server
# ------------------------------------------------------------------------

package EdaNats::Proxy;

# Listens on a port of its own.  Modes: pass; deaf: messages from the server to the client (so all acknowledgements) are
# dropped, the rest of the protocol goes through; hang: nothing goes anywhere; closed: connections are refused.
# A mode cut closes all connections, and passes from then on.
sub start
{
	my ($class, $nats) = @_;
	my $self = bless { port => PostgreSQL::Test::Cluster::get_free_port(), control => undef }, $class;

	socketpair $self->{control}, my $other, Socket::AF_UNIX(), Socket::SOCK_STREAM(), 0 or die "socketpair: $!";
	my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $self->{port}, Listen => 16, ReuseAddr => 1) or die "listen: $!";
	$self->{pid} = EdaNats::spawn(sub {
		close $self->{control};
		run({ listener => $listener, control => $other, port => $nats->{port}, mode => 'pass', pairs => [] });
	});
	close $other;
	close $listener;
	return $self;
}

sub url { my ($self) = @_; return "nats://127.0.0.1:$self->{port}"; }
sub stop { my ($self) = @_; return EdaNats::reap($self->{pid}, 'KILL'); }

# Change the mode; returns when it is so.  What it answers: how many messages it has dropped.
sub mode
{
	my ($self, $mode) = @_;

	syswrite $self->{control}, "$mode\n";
	sysread $self->{control}, my $answer, 100;
	chomp $answer;
	return $answer;
}

# The proxy's process.
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

# Pass on whole frames only, so that one can be left out at any time.
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

# ------------------------------------------------------------------------
# Keys: an operator, an account and a user, as nsc would make them
# ------------------------------------------------------------------------

package EdaNats::Credentials;

use MIME::Base64 qw(encode_base64url);

# Keys and claims in a folder: {conf} is for the server, {file} for eda.nats_credentials.
sub make
{
	my ($class) = @_;
	my $self = bless { folder => EdaNats::folder() }, $class;
	my %all = map { $_ => -1 } qw(subs data payload imports exports conn leaf);
	my %jetstream = map { $_ => -1 } qw(mem_storage disk_storage streams consumer max_ack_pending);

	$self->key($_->[0], $_->[1]) for [ operator => 14 ], [ account => 0 ], [ system => 0 ], [ user => 20 ];
	my $operator = $self->claims('operator', 'operator', { type => 'operator', version => 2 });
	my $account = $self->claims('account', 'operator', { type => 'account', version => 2, limits => { %all, %jetstream, wildcards => JSON::PP::true } });
	my $system = $self->claims('system', 'operator', { type => 'account', version => 2, limits => { %all, wildcards => JSON::PP::true } });
	$self->{jwt} = $self->claims('user', 'account', { type => 'user', version => 2, subs => -1, data => -1, payload => -1, pub => {}, sub => {} });
	$self->{conf} = <<CONF;
operator: $operator
system_account: $self->{public}{system}
resolver: MEMORY
resolver_preload: { $self->{public}{account}: $account, $self->{public}{system}: $system }
CONF
	$self->{file} = "$self->{folder}/user.creds";
	PostgreSQL::Test::Utils::append_to_file($self->{file}, <<CREDS);
-----BEGIN NATS USER JWT-----
$self->{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
$self->{seed}{user}
------END USER NKEY SEED------
CREDS
	return $self;
}

# What our own client answers to the server's nonce.
sub answer
{
	my ($self, $nonce) = @_;
	return (jwt => $self->{jwt}, sig => encode_base64url($self->signature('user', $nonce)));
}

sub openssl
{
	my (@args) = @_;
	open my $pipe, '-|', 'openssl', @args or die "openssl: $!";
	binmode $pipe;
	my $out = do { local $/; <$pipe> };
	close $pipe or die "openssl @args failed";
	return $out;
}

sub key
{
	my ($self, $name, $kind) = @_;
	my $file = "$self->{folder}/$name.pem";
	my $prefix = $kind << 3;

	openssl('genpkey', '-algorithm', 'ed25519', '-out', $file);
	my $seed = substr openssl('pkey', '-in', $file, '-outform', 'DER'), -32;
	my $public = substr openssl('pkey', '-in', $file, '-pubout', '-outform', 'DER'), -32;
	$self->{public}{$name} = checked(chr($prefix) . $public);
	$self->{seed}{$name} = checked(chr(18 << 3 | $prefix >> 5) . chr(($prefix & 31) << 3) . $seed);
	return;
}

sub signature
{
	my ($self, $name, $text) = @_;
	my $file = "$self->{folder}/signed";

	open my $out, '>', $file or die "$file: $!";
	print $out $text;
	close $out;
	return openssl('pkeyutl', '-sign', '-rawin', '-inkey', "$self->{folder}/$name.pem", '-in', $file);
}

sub claims
{
	my ($self, $name, $issuer, $nats) = @_;
	my $claims = { iat => time, iss => $self->{public}{$issuer}, sub => $self->{public}{$name}, name => $name, nats => $nats };

	$claims->{jti} = base32(Digest::SHA::sha256($EdaNats::json->encode($claims)));
	my $text = encode_base64url('{"typ":"JWT","alg":"ed25519-nkey"}') . '.' . encode_base64url($EdaNats::json->encode($claims));
	return $text . '.' . encode_base64url($self->signature($issuer, $text));
}

# With a checksum (CRC-16, XMODEM) and in base 32, as NATS writes keys.
sub checked
{
	my ($bytes) = @_;
	my $crc = 0;

	for my $byte (unpack 'C*', $bytes)
	{
		$crc ^= $byte << 8;
		$crc = ($crc & 0x8000 ? $crc << 1 ^ 0x1021 : $crc << 1) & 0xffff for 1 .. 8;
	}
	return base32($bytes . pack 'v', $crc);
}

sub base32
{
	my ($bytes) = @_;
	my $bits = unpack 'B*', $bytes;

	$bits .= '0' x (-length($bits) % 5);
	return join '', map { ('A' .. 'Z', 2 .. 7)[ oct "0b$_" ] } $bits =~ /.{5}/g;
}

1;
