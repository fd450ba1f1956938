# nats-servers with JetStream for tests.  Each listens on loopback, has a folder and ports of its
# own, and is killed when the test ends.
#
# In files of their own: EdaNats::Client, which looks into streams; EdaNats::Worker;
# EdaNats::Proxy, which loses what the engine and the server say to each other;
# EdaNats::Credentials; and EdaBroker, the engine's side.
package EdaNats;

use strict;
use warnings;

use EdaNats::Client;
use EdaNats::Worker;
use EdaProcess;
use File::Basename;
use File::Spec;
use IO::Socket::INET;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes qw(time);

our $json = JSON::PP->new->utf8->canonical;
my $test = basename($0, '.pl');

# Where the nats-server of a name (old: Debian's own, new: with message TTL) is; undef: nowhere.
sub program
{
	my ($which) = @_;
	my $path = ($ENV{EDA_NATS} || '') . "/$which/nats-server";
	return -x $path ? $path : undef;
}

# The versions that tests have to go through: "new", and "old" if it does not know message TTL.
sub versions
{
	return grep { program($_) && ($_ eq 'new' || `$ENV{EDA_NATS}/old/nats-server --version` =~ /v2\.(?:\d|10)\./) } qw(old new);
}

# Whether messages of this nats-server can have a time to live: from version 2.11 on.
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

# A server, not started.  Options: version (old, new), conf (lines of its configuration), client
# (options of EdaNats::Client for this server; undef: tests cannot log in), jetstream (0: without).
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

# Start without waiting for it.
sub launch
{
	my ($self) = @_;

	die "$self->{name} runs" if $self->{pid};
	$self->write_conf;
	$self->{pid} = EdaProcess::spawn(sub {
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

	EdaProcess::reap(delete $self->{pid}, @signals) if $self->{pid};
	return;
}

sub restart
{
	my ($self) = @_;

	$self->stop;
	$self->start;
	return;
}

# Stop the process: connections stay open, and nothing is answered.
sub hang { my ($self) = @_; return kill 'STOP', $self->{pid}; }
sub go_on { my ($self) = @_; return kill 'CONT', $self->{pid}; }

# Change the lines of the configuration; a running server reads them again.
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

# Poll until the code is true, but not for ever, and test that it was.
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

# A worker that reads its messages from this server, see EdaNats::Worker.
sub worker { my ($self, @args) = @_; return EdaNats::Worker->start($self, @args); }

1;
