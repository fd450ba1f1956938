# A client of NATS in core Perl, with which tests look into streams: what they see there does not
# depend on the client library that eda uses.
package EdaNats::Client;

use strict;
use warnings;

use IO::Socket::INET;
use JSON::PP;
use Time::HiRes qw(time);

my $json = JSON::PP->new->utf8->canonical;
my $inboxes = 0;

# Connect and log in.  Options: fields of CONNECT (user, pass, auth_token), or credentials (an
# EdaNats::Credentials).
sub new
{
	my ($class, $port, %connect) = @_;
	my $credentials = delete $connect{credentials};
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 5) or die "connect: $!\n";
	my $self = bless { socket => $socket, buffer => '', out => '', inbox => '_INBOX.' . join('_', $$, int(rand 1e9), ++$inboxes), requests => 0 }, $class;
	my $info = $self->next_frame(time + 5);

	%connect = (%connect, $credentials->answer($info->{info}{nonce})) if $credentials;
	$self->send('CONNECT ' . $json->encode({ verbose => \0, pedantic => \0, lang => 'perl', version => '0', headers => \1,
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

# The next frame that the server sends, without pings; undef if none comes until a time.
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

# The next frame of what has been read; undef if it is not whole yet.
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
		$frame->{info} = $json->decode($args);
	}
	substr $self->{buffer}, 0, $start + $size, '';
	return $frame;
}

# The messages that answer a pull request: n of them, or fewer and then one with a status.
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
		# A message of an earlier request that was given up comes again.
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
		return $json->decode($frame->{body});
	}
	die "lost: no answer to $subject\n";
}

# JetStream's API: api('STREAM.INFO.EDA'); its answer, which may be an error.
sub api
{
	my ($self, $subject, $request, $seconds) = @_;
	return $self->request("\$JS.API.$subject", defined $request ? $json->encode($request) : '', $seconds);
}

# The messages of a stream in order, each with subject, headers (a list for each name), body and
# seq.  Options: stream, from (a sequence number), subject.
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

1;
