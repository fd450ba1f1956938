# Whatever happens to the NATS servers, each message gets one receipt, and acknowledged messages are in the stream in order; sanitizers find nothing.
use strict;
use warnings;
use EdaNats;
use EdaNats::Proxy;
use EdaProcess;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils ();
use Test::More;
use Time::HiRes qw(time);

EdaNats::needed();
my $source = $ENV{EDA_SOURCE};
my $folder = PostgreSQL::Test::Utils::tempdir();

# The driver is built twice.  The scenarios with the newest server use the thread sanitizer, the
# others the address and undefined behaviour sanitizers.  Findings in nats.c, which is not
# instrumented, are ignored; a finding in our code makes the driver exit with status 66.
sub build
{
	my ($sanitizers) = @_;
	my $program = "$folder/driver_" . $sanitizers =~ s/\W/_/gr;
	my $said = `gcc -std=gnu11 -D_GNU_SOURCE -DDESTROY_WAIT=60 -g -O1 -fsanitize=$sanitizers -I$source/src -o $program $source/test/broker/driver.c $source/src/broker/*.c -lnats -ljansson -lpthread 2>&1`;

	is($?, 0, "the driver can be built with $sanitizers") or BAIL_OUT($said);
	return $program;
}
my %drivers = (new => build('thread'), old => build('address,undefined'));
my $driver;
$ENV{TSAN_OPTIONS} = 'ignore_noninstrumented_modules=1 exitcode=66';
$ENV{UBSAN_OPTIONS} = 'halt_on_error=1';
my %settings = (stream => 'EDA', subjects => 'event-engine.>', max_age => 3600, duplicate_window => 120, replicas => 1);

# ------------------------------------------------------------------------
# The driver
# ------------------------------------------------------------------------

package Driver {
	use IPC::Open3;

	my $drivers = 0;

	sub new
	{
		my ($class) = @_;
		my $self = bless { errors => "$PostgreSQL::Test::Utils::log_path/300_broker_driver" . ++$drivers . '.log' }, $class;

		open my $errors, '>', $self->{errors} or die "$self->{errors}: $!";
		$self->{pid} = open3($self->{in}, $self->{out}, '>&' . fileno $errors, $driver);
		$self->{in}->autoflush(1);
		return $self;
	}

	sub ask
	{
		my ($self, $command) = @_;

		local $SIG{PIPE} = 'IGNORE';
		print { $self->{in} } "$command\n";
		my $answer = readline $self->{out};
		die "the driver has ended: " . PostgreSQL::Test::Utils::slurp_file($self->{errors}) unless defined $answer;
		chomp $answer;
		return $answer;
	}

	# Configure the broker with %settings and these options; servers is a list of EdaNats and URLs,
	# or a text.
	sub configure
	{
		my ($self, %options) = @_;

		$options{servers} = join ',', map { ref $_ ? $_->url : $_ } @{ $options{servers} } if ref $options{servers};
		my %all = (%settings, %options);
		return $self->ask(join ' ', 'configure', map { "$_=$all{$_}" } sort keys %all);
	}

	sub publish { my ($self, @words) = @_; return $self->ask(join ' ', 'publish', @words); }

	# All that the driver knows, as a hash.
	sub status
	{
		my ($self) = @_;
		my %status;

		my $answer = $self->ask('status');
		$status{$1} = $2 while $answer =~ /(\w+)=(\{[^}]*\}|\S*)/g;
		s/^\{(.*)\}$/$1/ for values %status;
		return \%status;
	}

	# Poll for at most a minute until the code, which gets the status, returns true; test that it
	# did.
	sub becomes
	{
		my ($self, $code, $name) = @_;
		my $status;

		my $met = EdaNats::becomes(sub { $status = $self->status; local $_ = $status; $code->($status) }, $name);
		$met or Test::More::diag(join ' ', map { "$_=$status->{$_}" } sort keys %$status);
		return $met;
	}

	sub is_state
	{
		my ($self, $state, $name) = @_;
		return $self->becomes(sub { $_->{state} eq $state }, $name || $state);
	}

	# Wait until n messages are acknowledged and none waits; test that this happens.
	sub all_acknowledged
	{
		my ($self, $n, $name) = @_;
		return $self->becomes(sub { $_->{acknowledged} == $n && $_->{left} == 0 && $_->{unacknowledged} == 0 }, $name);
	}

	# End the broker, and test that it ended well.
	sub ends
	{
		my ($self, $name, %options) = @_;
		my ($how, $ms) = split / /, $self->ask('destroy');

		waitpid $self->{pid}, 0;
		my $status = $?;
		Test::More::note("$name: the broker ended after $ms ms");
		Test::More::is($how, 'ended', "$name: the threads of the broker end") unless $options{may_hang};
		Test::More::is($status, 0, "$name: no race, no leak, no receipt too many")
		  or Test::More::diag(PostgreSQL::Test::Utils::slurp_file($self->{errors}));
		return;
	}
}

package main;

# Test that a stream has messages m<from> .. m<to>, each once, in this order.
sub in_order
{
	my ($server, $from, $to, $name, @options) = @_;
	my @ids = map { $_->{body} =~ /^m(\d+) / ? $1 : 0 } $server->messages(@options);
	my $wrong = grep { $ids[$_] != $from + $_ } 0 .. $#ids;

	is(scalar @ids, $to - $from + 1, "$name: every message is in the stream once");
	is($wrong, 0, "$name: in order");
	return;
}

# Create a stream.  Retry while the server (2.15) is still removing an earlier one.
sub create
{
	my ($server, $name, %config) = @_;
	my $error = 'not tried';

	for (1 .. 100)
	{
		$error = $server->api("STREAM.CREATE.$name", { name => $name, %config })->{error} or last;
		select undef, undef, undef, 0.05;
	}
	die "stream $name: $error->{description}" if $error;
	return;
}

# ------------------------------------------------------------------------
# Scenarios
# ------------------------------------------------------------------------

# The broker starts no thread until a server is set.  All signals are blocked in its threads.
sub threads
{
	my ($server) = @_;
	my $d = Driver->new;

	is($d->ask('threads'), 'threads=1 open_to_signals=0', 'no thread before a server is set');
	is($d->configure(servers => ''), 'done', 'settings without a server are accepted');
	is($d->ask('threads'), 'threads=1 open_to_signals=0', 'there is still no thread');
	is($d->status->{state}, 'off', 'the state is off');
	is($d->ask('covers anything.at.all'), 'yes', 'every subject is covered while nothing is known of the stream');

	$d->configure(servers => [$server]);
	$d->is_state('ready');
	$d->publish(100);
	$d->all_acknowledged(100, 'messages are acknowledged');
	like($d->ask('threads'), qr/^threads=\d+ open_to_signals=0$/, 'all signals are blocked in all threads of the broker');
	$d->configure(servers => '');
	$d->is_state('off');
	# The thread sanitizer has a thread of its own, which does not end.
	EdaNats::becomes(sub { $d->ask('threads') =~ /^threads=[12] / }, 'the threads end when no server is set');
	is($d->status->{room}, 0, 'there is no room while the broker is off');
	$d->publish(10);
	is($d->status->{unacknowledged}, 10, 'messages that are handed over nevertheless wait');
	$d->configure(servers => [$server]);
	$d->all_acknowledged(110, 'they go out when a server is set again');
	is($d->status->{reconnects}, 1, 'reconnects are counted');
	$d->ends('threads');
	in_order($server, 1, 110, 'threads');
	return;
}

# A stream that the broker creates is as the settings say, and its messages are what was handed
# over.
sub made
{
	my ($server) = @_;
	my $d = Driver->new;
	my $ttl = $server->{version} eq 'new';

	$server->api('STREAM.DELETE.EDA');
	$d->configure(servers => [$server]);
	$d->is_state('ready');
	my $config = $server->stream_info->{config};
	is_deeply($config->{subjects}, ['event-engine.>'], 'the stream has the subjects of the settings');
	is(join(' ', @$config{qw(storage discard retention num_replicas max_age duplicate_window)}),
		'file new limits 1 3600000000000 120000000000', 'it has their storage, limits and windows');
	my $status = $d->status;
	is($status->{server}, "127.0.0.1:$server->{port}", 'the status names the server');
	is($status->{max_message}, 1048576, 'the status has the size of the largest message');
	is($status->{ttl}, $ttl ? 1 : 0, 'messages may have a time to live if the server supports it');
	is($status->{notice}, '', 'there is no notice');
	is($d->ask('covers event-engine.x'), 'yes', 'a subject of the stream is covered');
	is($d->ask('covers other.x'), 'no', 'another subject is not covered');

	$d->publish(1, 'event-engine.plain');
	$d->publish(1, 'event-engine.expires', 10, 3000);
	$d->publish(1, 'event-engine.expired', 10, -5);
	$d->publish(1, 'event-engine.large', 1048576);
	$d->publish(1, 'event-engine.full', 1048000);
	$d->publish(1, 'other.subject');
	$d->publish(1, 'event-engine.last');
	$d->becomes(sub { $_->{acknowledged} == 4 }, 'four of seven messages can be sent');
	$status = $d->status;
	is(join(' ', @$status{qw(expired rejected uncovered unacknowledged)}), '1 1 1 0', 'the others get receipts that say why not');
	my @messages = $server->messages;
	is(join(' ', map { $_->{subject} } @messages),
		'event-engine.plain event-engine.expires event-engine.full event-engine.last', 'the messages have their subjects');
	is_deeply($messages[0]{headers}, { 'Nats-Msg-Id' => ['m1'], 'Content-Type' => ['text/plain'], 'X-One' => ['1'] }, 'and their headers');
	is($messages[0]{body}, 'm1 ', 'and their bodies');
	like(join(' ', @{ $messages[1]{headers}{'Nats-TTL'} || ['none'] }), $ttl ? qr/^(3000|2999)s$/ : qr/^none$/, 'an expiring message has Nats-TTL if the stream takes it');

	# The stream's limit becomes smaller than the server's after the broker has checked it.
	$config->{max_msg_size} = 2000;
	ok(!$server->api('STREAM.UPDATE.EDA', $config)->{error}, 'the stream now takes small messages only');
	$d->publish(1, 'event-engine.x', 5000);
	$d->publish(1, 'event-engine.x', 10);
	$d->becomes(sub { $_->{rejected} == 2 && $_->{acknowledged} == 5 && $_->{state} eq 'ready' }, 'the stream rejects a large message and takes the next');
	like($d->status->{receipt}, qr/message size exceeds/, 'the receipt of the large message says why');

	# The stream gets another subject, which the broker notices without sending a message.
	my $changes = $d->status->{subject_changes};
	$config->{subjects} = [ 'event-engine.>', 'other.*' ];
	$server->api('STREAM.UPDATE.EDA', $config);
	$d->becomes(sub { $_->{subject_changes} > $changes }, 'the broker notices the new subject');
	is($d->ask('covers other.x'), 'yes', 'the new subject is covered');
	is($d->ask('covers other.x.y'), 'no', 'its wildcard matches one word only');
	$d->publish(1, 'other.x');
	$d->all_acknowledged(6, 'a message to it is taken');
	is($d->status->{max_message}, 2000, 'the broker has noticed the new limit too');
	$d->ends('made');
	return;
}

# The server is killed while messages go out, and started again, three times.
sub killed
{
	my ($server) = @_;
	my $d = Driver->new;

	$server->api('STREAM.DELETE.EDA');
	$d->configure(servers => [$server]);
	$d->is_state('ready');
	$d->publish(60000);
	for my $n (5000, 20000, 40000)
	{
		$d->becomes(sub { $_->{acknowledged} >= $n }, "$n messages are acknowledged");
		$server->kill9;
		$d->is_state('unreachable', 'the broker notices that the server is killed');
		is($d->status->{room}, 0, 'there is no room meanwhile');
		$server->start;
	}
	$d->all_acknowledged(60000, 'all messages are acknowledged');
	my $status = $d->status;
	is($status->{state}, 'ready', 'the broker is ready again');
	is($status->{reconnects}, 3, 'it connected three more times');
	is($status->{published}, 60000, 'it counts the acknowledgements');
	like($status->{error}, qr/127\.0\.0\.1/, 'it keeps the last error');
	$d->ends('killed');
	in_order($server, 1, 60000, 'killed');
	return;
}

# The server is stopped (SIGSTOP) for a short time, and then until the broker gives up the
# connection.
sub hanging
{
	my ($server) = @_;
	my $d = Driver->new;

	$server->api('STREAM.DELETE.EDA');
	$d->configure(servers => [$server]);
	$d->is_state('ready');
	$d->publish(30000);
	$d->becomes(sub { $_->{acknowledged} >= 3000 }, 'messages are acknowledged');
	$server->hang;
	$d->becomes(sub { $_->{state} eq 'blocked' && $_->{error} =~ /no acknowledgement/ }, 'the broker notices that no acknowledgement comes');
	$d->ask('withdraw 25000');
	$server->go_on;
	$d->becomes(sub { $_->{acknowledged} == 29999 || $_->{acknowledged} == 30000 }, 'the server goes on, and takes the messages');
	$d->is_state('ready');

	$server->hang;
	$d->publish(100);
	$d->becomes(sub { $_->{state} eq 'unreachable' }, 'the broker gives up the connection in the end');
	$d->ask("withdraw $_") for 30001 .. 30010;
	$server->go_on;
	$d->becomes(sub { $_->{unacknowledged} == 0 }, 'the server goes on again');
	$d->is_state('ready');
	my @ids = map { $_->{body} =~ /^m(\d+) / ? $1 : 0 } $server->messages;
	is(scalar(grep { $ids[ $_ - 1 ] >= $ids[$_] } 1 .. $#ids), 0, 'hanging: the messages are in order, each once');
	is($ids[-1], 30100, 'hanging: the last message is there');
	# The withdrawn messages may have reached the server before it was stopped.
	cmp_ok(scalar @ids, '>=', 30089, 'hanging: only withdrawn messages are missing');
	$d->ends('hanging');
	return;
}

# The broker ends although the server is stopped: while idle, while its socket is full, and while
# it connects.
sub destroyed
{
	my ($server) = @_;

	for my $size (0, 4000)
	{
		my $d = Driver->new;

		$d->configure(servers => [$server]);
		$d->is_state('ready');
		# The first message of a connection is sent alone: have that behind us.
		$d->publish(1);
		$d->all_acknowledged(1, 'the first message is acknowledged');
		$server->hang;
		$d->publish(8000, 'event-engine.x', $size) if $size;
		$d->becomes(sub { $_->{unacknowledged} > 100 }, 'messages go to a stopped server') if $size;
		$d->ends("stopped server, messages of $size bytes");
		$server->go_on;
	}
	my $d = Driver->new;
	$server->hang;
	$d->configure(servers => [$server]);
	$d->ends('connecting to a stopped server');
	$d = Driver->new;
	$d->configure(servers => [$server]);
	$d->is_state('unreachable');
	$d->ends('waiting for a stopped server');
	$server->go_on;
	return;
}

# The broker creates a deleted stream again, and a full stream takes messages when it has room.
sub stream_lost
{
	my ($server) = @_;
	my $d = Driver->new;

	$server->api('STREAM.DELETE.EDA');
	$d->configure(servers => [$server]);
	$d->is_state('ready');
	$d->publish(40000);
	$d->becomes(sub { $_->{acknowledged} >= 5000 }, 'messages are acknowledged');
	$server->api('STREAM.DELETE.EDA');
	$d->all_acknowledged(40000, 'the stream is deleted; the broker creates it and sends all messages');
	my @ids = map { $_->{body} =~ /^m(\d+) / ? $1 : 0 } $server->messages;
	is(scalar(grep { $ids[ $_ - 1 ] + 1 != $ids[$_] } 1 .. $#ids), 0, 'stream deleted: the new stream has its messages in order');
	is($ids[-1], 40000, 'stream deleted: the last message is there');

	create($server, 'FULL', subjects => ['full.>'], storage => 'file', discard => 'new', max_msgs => 100,
		num_replicas => 1, max_age => 0, duplicate_window => 120e9);
	$d->configure(servers => [$server], stream => 'FULL', subjects => 'full.>', max_age => 0);
	$d->is_state('ready');
	$d->publish(250, 'full.x');
	$d->becomes(sub { $_->{state} eq 'blocked' && $_->{error} =~ /FULL.*maximum messages/ }, 'the broker notices that the stream is full');
	is($d->status->{room}, 0, 'there is no room');
	is($server->count('FULL'), 100, 'the stream has as many messages as it may');
	$server->api('STREAM.PURGE.FULL');
	EdaNats::becomes(sub { $server->count('FULL') == 100 }, 'purged, the stream takes messages until it is full again');
	$server->api('STREAM.PURGE.FULL');
	$d->all_acknowledged(40250, 'purged once more, it takes the rest');
	is($server->count('FULL'), 50, 'the rest is in the stream');
	$d->is_state('ready');

	# All waiting messages are withdrawn, so the broker has none to try with.
	$d->publish(60, 'full.x');
	$d->is_state('blocked', 'the stream is full once more');
	$d->ask("withdraw $_") for 40251 .. 40310;
	$d->is_state('ready', 'the broker is ready when all waiting messages are withdrawn');
	$d->ends('stream lost');
	$server->api('STREAM.DELETE.FULL');
	return;
}

# Another server is set while the first one is stopped; then a list of servers.
sub moved
{
	my ($server, $other) = @_;
	my $d = Driver->new;

	$server->api('STREAM.DELETE.EDA');
	$d->configure(servers => [$server]);
	$d->is_state('ready');
	$server->hang;
	$d->publish(1000);
	$d->becomes(sub { $_->{unacknowledged} == 1000 }, 'messages wait for a stopped server');
	$d->configure(servers => [$other]);
	$d->all_acknowledged(1000, 'they go to the other server');
	is($d->status->{server}, "127.0.0.1:$other->{port}", 'the status names the other server');
	my $reconnects = $d->status->{reconnects};
	$d->configure(servers => [$other]);
	$d->publish(10);
	$d->all_acknowledged(1010, 'the same settings are set again');
	is($d->status->{reconnects}, $reconnects, 'which does not make the broker connect again');
	$server->go_on;

	$server->kill9;
	$d->configure(servers => [ $server, $other ]);
	$d->is_state('ready', 'one of two servers is running');
	$d->publish(10);
	$d->all_acknowledged(1020, 'it takes messages');
	$server->start;
	$other->kill9;
	$d->publish(10);
	$d->all_acknowledged(1030, 'then only the other server is running');
	is($d->status->{server}, "127.0.0.1:$server->{port}", 'the status names that server');
	$other->start;
	$d->ends('moved');
	in_order($other, 1, 1020, 'moved');
	return;
}

# A server that refuses the broker makes it say why, without secrets; it connects when the server
# allows it.
sub refused
{
	my $right = "authorization { users: [ { user: me, password: secret1 } ] }\n";
	my $server = EdaNats->start_new('locked', conf => $right, client => { user => 'me', pass => 'secret1' });
	my $d = Driver->new;

	$d->configure(servers => $server->url('me:wrong9'));
	$d->becomes(sub { $_->{state} eq 'refused' && $_->{error} =~ /uthorization/i }, 'a wrong password is refused');
	unlike($d->ask('status'), qr/wrong9/, 'the status does not show it');
	$d->configure(servers => $server->url('me:secret1'));
	$d->is_state('ready', 'the right password is accepted');
	unlike($d->ask('status'), qr/secret1/, 'the status does not show it either');
	$server->reconfigure("authorization { users: [ { user: me, password: other }, { user: you, password: x } ] }\n");
	$d->is_state('refused', 'the server changes the password');
	$server->reconfigure($right);
	$d->is_state('ready', 'the server changes it back');
	$d->configure(servers => $server->url('me:secret1'), credentials => "$folder/missing");
	$d->becomes(sub { $_->{state} eq 'refused' && $_->{error} =~ /missing/ }, 'the credentials file is missing');
	unlike($d->ask('status'), qr/secret1/, 'the status does not show the password');
	$d->configure(servers => 'nats://me:secret1@127.0.0.1:notaport');
	$d->becomes(sub { $_->{state} =~ /refused|unreachable/ && $_->{error} ne '' }, 'the URL has no port number');
	unlike($d->ask('status'), qr/secret1/, 'the status does not show the password');

	# The server denies a subject.  The broker says so, and tries the subject again from time to
	# time.
	my $denied = "authorization { users: [ { user: me, password: secret1 }, { user: some, password: x, permissions: {\n"
	  . "publish: { allow: [ \"event-engine.allowed\", \"\$JS.API.>\" ] }, subscribe: \"_INBOX.>\" } } ] }\n";
	$server->reconfigure($denied);
	$d->configure(servers => $server->url('some:x'));
	$d->is_state('ready');
	$d->publish(10, 'event-engine.allowed');
	$d->all_acknowledged(10, 'messages to an allowed subject are acknowledged');
	$d->publish(10, 'event-engine.secret');
	$d->publish(10, 'event-engine.allowed');
	$d->becomes(sub { $_->{uncovered} == 10 && $_->{acknowledged} == 20 && $_->{unacknowledged} == 0 }, 'messages to a denied subject hold up no others');
	like($d->status->{error}, qr/Permissions Violation.*event-engine\.secret/, 'the error names the denied subject');
	$d->is_state('ready', 'the broker stays ready');
	$d->publish(5, 'event-engine.secret');
	$d->becomes(sub { $_->{uncovered} == 15 }, 'the broker does not try the denied subject again for a while');
	$server->reconfigure($right =~ s/ \] \}/, { user: some, password: x } ] }/r);
	$d->publish(10, 'event-engine.secret');
	$d->becomes(sub { $_->{acknowledged} >= 20 && $_->{left} == 0 && $_->{unacknowledged} == 0 }, 'the server allows the subject, and all messages get receipts');
	EdaNats::becomes(sub { $d->publish(1, 'event-engine.secret'); $d->status->{acknowledged} > 20 }, 'messages to it go out');
	$d->is_state('ready');
	$d->becomes(sub { $_->{left} == 0 && $_->{unacknowledged} == 0 }, 'all messages have a receipt');
	my $acknowledged = $d->status->{acknowledged};
	$d->ends('refused');
	is($server->count, $acknowledged, 'refused: all acknowledged messages are in the stream');
	$server->stop;
	return;
}

# Servers and streams that the broker cannot use, or that differ from the settings.
sub unfit
{
	my ($server) = @_;
	my $plain = EdaNats->new('plain');
	my $d = Driver->new;

	# Without JetStream.
	my $log = "$PostgreSQL::Test::Utils::log_path/300_broker_plain.log";
	$plain->{pid} = EdaProcess::spawn(sub {
		open STDOUT, '>', $log;
		open STDERR, '>&', \*STDOUT;
		exec $plain->{program}, '-a', '127.0.0.1', '-p', $plain->{port} or die;
	});
	$d->configure(servers => [$plain]);
	$d->becomes(sub { $_->{state} eq 'refused' && $_->{error} =~ /JetStream is not enabled/ }, 'a server has no JetStream');
	$plain->stop;

	$server->api('STREAM.DELETE.EDA');
	create($server, 'TAKEN', subjects => ['event-engine.a'], storage => 'file');
	$d->configure(servers => [$server]);
	$d->becomes(sub { $_->{state} eq 'refused' && $_->{error} =~ /overlap/ }, 'another stream has the subjects of the settings');
	$server->api('STREAM.DELETE.TAKEN');
	$d->is_state('ready', 'the other stream is deleted');
	$d->configure(servers => [$server], replicas => 3, stream => 'THREE', subjects => 'three.>');
	$d->becomes(sub { $_->{state} eq 'refused' && $_->{error} =~ /replicas/ }, 'replicas need a cluster');
	$d->configure(servers => [$server], stream => 'no.name');
	$d->becomes(sub { $_->{state} eq 'refused' && $_->{error} =~ /not a valid stream name/ }, 'the name of the stream is not valid');

	$server->api('STREAM.DELETE.EDA');
	create($server, 'EDA', subjects => ['event-engine.a'], storage => 'memory', max_age => 0, duplicate_window => 5e9);
	$d->configure(servers => [$server]);
	$d->is_state('ready', 'a stream that differs from the settings is used');
	my $notice = $d->status->{notice};
	like($notice, qr/$_/, "the notice says: $_") for 'does not take all of "event-engine', 'memory', 'max_age is 0 s, not 3600 s',
	  'duplicate_window is 5 s, not 120 s';
	is($server->stream_info->{config}{storage}, 'memory', 'the stream is not altered');
	$d->publish(5, 'event-engine.b');
	$d->publish(5, 'event-engine.a');
	$d->becomes(sub { $_->{uncovered} == 5 && $_->{acknowledged} == 5 }, 'messages to subjects that the stream does not have get receipts');

	$server->api('STREAM.DELETE.EDA');
	create($server, 'EDA', subjects => ['event-engine.>'], storage => 'file', no_ack => \1);
	$d->configure(servers => [$server], max_age => 0);
	$d->becomes(sub { $_->{state} eq 'refused' && $_->{error} =~ /no_ack/ }, 'a stream that acknowledges nothing is not used');
	$server->api('STREAM.DELETE.EDA');
	$d->is_state('ready', 'that stream is deleted');
	$d->ends('unfit');
	return;
}

# A stream that takes Nats-TTL is replaced by a stream that does not.
sub without_ttl
{
	my ($server) = @_;
	my $d = Driver->new;

	$server->api('STREAM.DELETE.EDA');
	$d->configure(servers => [$server]);
	$d->is_state('ready');
	$d->publish(1, 'event-engine.x', 10, 3000);
	$d->all_acknowledged(1, 'a message with a time to live is acknowledged');
	$server->api('STREAM.DELETE.EDA');
	create($server, 'EDA', subjects => ['event-engine.>'], storage => 'file', max_age => 3600e9,
		duplicate_window => 120e9, num_replicas => 1);
	$d->publish(10, 'event-engine.x', 10, 3000);
	$d->all_acknowledged(11, 'without Nats-TTL the messages are acknowledged by the new stream');
	is($d->status->{ttl}, 0, 'the status says that there is no time to live');
	is($d->status->{state}, 'ready', 'the broker is ready');
	$d->ends('without time to live');
	in_order($server, 2, 11, 'without time to live');
	return;
}

# Acknowledgements are lost, and connections are cut again and again.
sub lossy
{
	my ($server) = @_;
	my $proxy = EdaNats::Proxy->start($server);
	my $d = Driver->new;

	$server->api('STREAM.DELETE.EDA');
	$d->configure(servers => $proxy->url);
	$d->is_state('ready');
	# The first message of a connection is sent alone: have that behind us.
	$d->publish(1);
	$d->all_acknowledged(1, 'the first message is acknowledged');
	$proxy->mode('deaf');
	$d->publish(2999);
	$d->is_state('blocked', 'the broker notices that no acknowledgement comes');
	EdaNats::becomes(sub { $server->count == 3000 }, 'all messages arrive');
	cmp_ok($proxy->mode('pass'), '>', 0, 'the proxy has dropped acknowledgements');
	$d->all_acknowledged(3000, 'when the proxy lets them through, all messages are acknowledged');
	$d->publish(60000);
	for my $n (1 .. 6)
	{
		$d->becomes(sub { $_->{acknowledged} >= 3000 + $n * 8000 }, 'messages are acknowledged');
		$proxy->mode('cut');
	}
	$d->all_acknowledged(63000, 'all messages are acknowledged although connections are cut');
	cmp_ok($d->status->{reconnects}, '>=', 5, 'the broker connected again');
	$d->ends('lossy');
	in_order($server, 1, 63000, 'lossy');
	$proxy->stop;
	return;
}

sub openssl
{
	my (@args) = @_;
	my $out = `openssl @args 2>&1`;
	die "openssl @args: $out" if $?;
	return;
}

# Start a server that was killed.  Returns whether it is up to date again within a minute.
sub rejoins
{
	my ($server) = @_;
	my $is_current = sub { 3 == 1 + grep { $_->{current} } @{ $server->stream_info->{cluster}{replicas} } };
	my $give_up = time + 60;

	$server->start;
	select undef, undef, undef, 0.1 until eval { $is_current->() } or time > $give_up;
	return eval { $is_current->() };
}

# Three servers with a replica each.  First the server that we are connected to is killed, then the
# stream's leader.
sub clustered
{
	my %servers = map { $_->{name} => $_ } EdaNats->start_cluster('c');
	my ($first) = sort keys %servers;
	my $d = Driver->new;

	$d->configure(servers => [ map { $servers{$_} } sort keys %servers ], replicas => 3);
	$d->is_state('ready');
	$d->publish(30000);
	$d->becomes(sub { $_->{acknowledged} >= 5000 }, 'messages are acknowledged');
	$servers{$first}->kill9;
	$d->all_acknowledged(30000, 'all messages are acknowledged although a server is killed');
	isnt($d->status->{server}, "127.0.0.1:$servers{$first}{port}", 'another server acknowledged them');
	# Now and then a nats-server cannot read its own store after being killed, and stays behind.
	# If we then killed the leader too, there would be no majority, and nothing of ours to test.
	# 380_nats_cluster.pl kills leaders as well.
	if (not rejoins($servers{$first}))
	{
		diag "nats-server $first stays behind its stream after a kill: no leader is killed";
		$d->ends('cluster');
		$_->stop for values %servers;
		return;
	}

	$d->publish(30000);
	$d->becomes(sub { $_->{acknowledged} >= 35000 }, 'messages are acknowledged');
	my $leader = $servers{$first}->stream_info->{cluster}{leader};
	$servers{$leader}->kill9;
	$d->all_acknowledged(60000, 'all messages are acknowledged although the leader is killed');
	$d->is_state('ready');
	$d->ends('cluster');
	my ($other) = grep { $_ ne $leader } sort keys %servers;
	my %ids = map { /^m(\d+) / ? ($1 => 1) : () } map { $_->{body} } $servers{$other}->messages;
	is(scalar keys %ids, 60000, 'cluster: every message is in the stream');
	$_->stop for values %servers;
	return;
}

# TLS, with right and with wrong certificates.
sub secured
{
	my $server = EdaNats->new('secured');
	my $d = Driver->new;

	for my $name (qw(ca other))
	{
		openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-subj', "/CN=$name", '-keyout', "$folder/$name.key",
			'-out', "$folder/$name.pem");
	}
	for my $name (qw(localhost elsewhere client))
	{
		PostgreSQL::Test::Utils::append_to_file("$folder/$name.ext", "subjectAltName=DNS:$name\n");
		openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', "/CN=$name", '-keyout', "$folder/$name.key",
			'-out', "$folder/$name.csr");
		openssl('x509', '-req', '-in', "$folder/$name.csr", '-CA', "$folder/ca.pem", '-CAkey', "$folder/ca.key",
			'-CAcreateserial', '-days', '2', '-extfile', "$folder/$name.ext", '-out', "$folder/$name.pem");
	}
	my $tls = sub {
		my ($name, $more) = @_;
		return "tls { cert_file: \"$folder/$name.pem\", key_file: \"$folder/$name.key\" $more }\n";
	};
	my $url = "tls://localhost:$server->{port}";
	$server->{conf} = $tls->('localhost', ", ca_file: \"$folder/ca.pem\", verify: true");
	$server->launch;
	$d->configure(servers => $url, tls_ca_file => "$folder/ca.pem", tls_cert_file => "$folder/client.pem", tls_key_file => "$folder/client.key");
	$d->is_state('ready', 'the broker connects by TLS with certificates');
	$d->publish(20000);
	$d->all_acknowledged(20000, 'messages go through TLS');
	$d->configure(servers => $url, tls_ca_file => "$folder/ca.pem");
	$d->becomes(sub { $_->{state} ne 'ready' && $_->{error} ne '' }, 'the server refuses a client without a certificate');
	$server->stop;
	$server->{conf} = $tls->('localhost', '');
	$server->launch;
	$d->is_state('ready', 'another server does not ask for a certificate');
	$d->configure(servers => $url, tls_ca_file => "$folder/other.pem");
	$d->becomes(sub { $_->{state} eq 'refused' && $_->{error} =~ /certificate/ }, 'the broker refuses the certificate of an unknown authority');
	$server->stop;
	$server->{conf} = $tls->('elsewhere', '');
	$server->launch;
	$d->configure(servers => $url, tls_ca_file => "$folder/ca.pem");
	$d->becomes(sub { $_->{state} eq 'refused' && $_->{error} =~ /mismatch|certificate/i }, 'the broker refuses a certificate for another name');
	$server->stop;
	$server->{conf} = '';
	$server->launch;
	$d->becomes(sub { $_->{state} eq 'refused' && $_->{error} =~ /secure/i }, 'the broker refuses a server without TLS');
	$d->ends('TLS');
	$server->stop;
	return;
}

# ------------------------------------------------------------------------

my $only = $ARGV[0] || '';
my $last = (EdaNats::versions())[-1];
for my $version (EdaNats::versions())
{
	my $server = EdaNats->start_new($version, version => $version);
	$driver = $drivers{ $version eq $last ? 'new' : 'old' };
	my %scenarios = (
		threads => \&threads, made => \&made, killed => \&killed, stream_lost => \&stream_lost, hanging => \&hanging, destroyed => \&destroyed,
		unfit => \&unfit, lossy => \&lossy, refused => \&refused, secured => \&secured, clustered => \&clustered, without_ttl => \&without_ttl,
		moved => sub { my $other = EdaNats->start_new("other_$version", version => $version); moved(@_, $other); $other->stop; },
	);
	# Run all scenarios with the newest version, and with others those where the server's version
	# matters.
	my @order = $version eq $last ? qw(threads made killed stream_lost hanging destroyed moved refused unfit lossy clustered secured) : qw(threads made killed stream_lost unfit);
	push @order, 'without_ttl' if $version eq 'new';
	for my $scenario (grep { !$only || $only eq $_ } @order)
	{
		my $start = time;
		note("$scenario, $version");
		$scenarios{$scenario}->($server);
		note(sprintf '%s took %.1f s', $scenario, time - $start);
	}
	$server->stop;
}

done_testing();
