# A worker that gets its events from NATS, in a process of its own.
#
# It reads messages from a durable consumer, acquires their events, acknowledges the messages,
# and ends each attempt together with an effect in the database.  It goes on when the
# nats-server or PostgreSQL is restarted.
package EdaNats::Worker;

use strict;
use warnings;

use EdaProcess;
use File::Basename;
use IPC::Open2;
use PostgreSQL::Test::Utils ();
use Test::More;

# All workers of a test write to one file what goes wrong.
sub log_file
{
	return "$PostgreSQL::Test::Utils::log_path/" . basename($0, '.pl') . '_workers.log';
}

# Start a worker.  Options: db, stream, durable (the consumer's name), subject, fail (the part of
# the attempts that fail), batch, brokers (nats-servers, of which the worker picks one at random).
sub start
{
	my ($class, $nats, $server, %options) = @_;
	my @psql = ($server->installed_command('psql'), '-XqAt', '-v', 'VERBOSITY=sqlstate', '-d', $server->connstr($options{db} || 'postgres'));
	my $worker = bless { psql => \@psql, brokers => [$nats], stream => 'EDA', durable => 'worker', batch => 100, fail => 0, %options }, $class;

	$worker->{process} = EdaProcess::spawn(sub {
		my ($parent) = @_;
		open STDERR, '>>', log_file();
		$worker->run while getppid == $parent;
	});
	return $worker;
}

sub stop { my ($self) = @_; return EdaProcess::reap($self->{process}, 'TERM'); }
sub kill9 { my ($self) = @_; return EdaProcess::reap($self->{process}, 'KILL'); }

# Test that no worker met an error, but for those that workers must expect: a lease that has run
# out, and what PostgreSQL asks to be tried again.
sub all_did_well
{
	my $said = PostgreSQL::Test::Utils::slurp_file(log_file());
	my @errors = grep { /^ERROR: / && !/^ERROR:  (ED002|ED003|40...)/ || /^worker / } split /\n/, $said;
	is(join("\n", @errors), '', 'no worker met an error that it should not');
	return;
}

# ------------------------------------------------------------------------
# In the process of the worker
# ------------------------------------------------------------------------

# Work until a server cannot be reached.
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

# Get a batch of messages, and work on them.  If there are none, wait for the first one.
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
	# If one attempt cannot be ended, such as one whose lease has run out, end each one alone.
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

# What a statement prints; undef if it fails, or if the server cannot be reached.
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
	# psql has ended, because it lost the server or did not find it.
	close $self->{in};
	waitpid $self->{pid}, 0;
	delete $self->{in};
	select undef, undef, undef, 0.1;
	return;
}

1;
