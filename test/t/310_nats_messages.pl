# A message has its event's subject, headers and CloudEvents body, and nothing that a publisher writes can break it.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $server = EdaServer->start_new('messages');
EdaBroker::set_up($server, 'postgres');
$server->ask(<<'SQL');
SELECT FROM eda.configure('PLACES', 'Flow_B', delivery => 'nats', subject => 'event-engine.{database}.{flow_type}.{event_type}.{flow_id}');
SELECT FROM eda.configure('TEMPLATE', 'flow', delivery => 'nats', subject => 'event-engine.all-{event_type}.of.{flow_type}');
SELECT FROM eda.configure('MORTAL', 'flow', delivery => 'nats', lifespan => '1 hour', max_attempts => 1, attempt_delays => '{0 s}');
SELECT FROM eda.configure('UNSAID', 'flow', delivery => 'nats', attempt_delays => '{0 s}');
SQL

# The newest message of an event in the stream, with its decoded body and the version that the
# database says was dispatched.
sub message_of
{
	my ($nats, $id) = @_;
	my @mine = grep { $_->{body} =~ /"id":\s*"\Q$id\E"/ } $nats->messages;
	my %m = %{ $mine[-1] || die "no message of $id" };

	$m{copies} = @mine;
	$m{event} = $EdaNats::json->decode($m{body});
	$m{dispatched} = $server->ask("SELECT max(version) FROM eda.transition WHERE event_id = '$id' AND state = 'dispatched'");
	return \%m;
}

sub header { my ($m, $name) = @_; return join '|', @{ $m->{headers}{$name} || [] }; }

my $rfc3339 = q('YYYY-MM-DD"T"HH24:MI:SS.US"Z"');

for my $version (EdaNats::versions())
{
	my $nats = EdaNats->start_new("messages_$version", version => $version);
	EdaBroker::set($server, nats_url => $nats->url);
	EdaBroker::becomes($server, 'ready', "$version: the broker is ready");

	# An event with everything that an event can have
	my $parent = $server->ask("SELECT eda.publish('UNSAID', 'parent')");
	my $id = $server->ask(qq{SELECT eda.publish('T', E'za\\u017c\\u00f3\\u0142\\u0107 "1"', E'{"text": "g\\u0119\\u015bl\\u0105 \\\\\\\\ \\\\n", "n": 12345678901234567890, "list": [1, null]}',
		correlation_id => 'corr', parent_id => '$parent',
		headers => '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=b", "X-Own": "it is: mine", "content-type": "text/html"}')});
	EdaNats::becomes(sub { $nats->count == 2 }, "$version: both messages come");
	my $m = message_of($nats, $id);
	is($m->{subject}, 'event-engine.flow', 'the subject is that of the flow type');
	is(header($m, 'Nats-Msg-Id'), "$id-$m->{dispatched}", 'the message id is event id and version');
	is(header($m, 'Content-Type'), 'application/cloudevents+json', 'the content type is that of the body');
	ok(!exists $m->{headers}{'content-type'}, 'the publisher\'s content type is left out');
	is(header($m, 'traceparent'), '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', 'the header traceparent is passed on');
	is(header($m, 'tracestate'), 'a=b', 'the header tracestate is passed on');
	is(header($m, 'X-Own'), 'it is: mine', 'a header of the publisher\'s own is passed on');
	ok(!exists $m->{headers}{$_}, "an event that does not expire has no header $_") for 'Nats-TTL', 'Eda-Expires-At';

	my $e = $m->{event};
	is_deeply([ sort keys %$e ], [ sort qw(specversion id type source subject time datacontenttype flowtype attempt edaversion correlationid parentid
				traceparent tracestate data) ], 'the body has these attributes');
	is(join(' ', @$e{qw(specversion id type source datacontenttype flowtype attempt edaversion correlationid parentid traceparent tracestate)}),
		"1.0 $id T /eda/postgres application/json flow 1 $m->{dispatched} corr $parent 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 a=b",
		'the attributes have the event\'s values');
	is($e->{subject}, "za\x{17c}\x{f3}\x{142}\x{107} \"1\"", 'a flow id may have any letters');
	is($e->{time}, $server->ask("SELECT to_char(created_at AT TIME ZONE 'UTC', $rfc3339) FROM eda.event WHERE id = '$id'"), 'the time is that of the event');
	is($e->{data}{text}, "g\x{119}\x{15b}l\x{105} \\ \n", 'payload: text is unchanged');
	like($m->{body}, qr/12345678901234567890/, 'payload: a number too large for a double is unchanged');
	is_deeply($e->{data}{list}, [ 1, undef ], 'payload: a list is unchanged');
	is(scalar(grep { /[^a-z0-9]/ } keys %$e), 0, 'names of attributes have the letters that CloudEvents allows');
	$m = message_of($nats, $parent);
	is_deeply([ sort keys %{ $m->{event} } ], [ sort qw(specversion id type source subject time datacontenttype flowtype attempt edaversion data) ],
		'the message of a plain event has no further attributes');
	is_deeply($m->{event}{data}, {}, 'its payload is empty');

	# The message of a second attempt
	$server->ask("SELECT eda.fail(event_id, 'again', token => token) FROM eda.acquire('$id')");
	EdaNats::becomes(sub { $nats->count == 3 }, 'after a failed attempt there is another message');
	$m = message_of($nats, $id);
	is("$m->{event}{attempt} $m->{event}{edaversion} " . header($m, 'Nats-Msg-Id'), "2 $m->{dispatched} $id-$m->{dispatched}", 'it is for attempt 2 and has an id of its own');
	cmp_ok($m->{dispatched}, '>', 2, 'because it is for another version');

	# Flow ids in subjects
	my %subjects = (
		'order-7_a~' => 'order-7_a~', 'order 7.a' => 'order%207%2Ea', '>' => '%3E', '*.>' => '%2A%2E%3E', '100%' => '100%25',
		'a/b' => 'a%2Fb', '$JS.API' => '%24JS%2EAPI', "\x{17c}" => '%C5%BC', "tab\tcr\r\n" => 'tab%09cr%0D%0A');
	for my $flow (sort keys %subjects)
	{
		my $hex = unpack 'H*', do { my $bytes = $flow; utf8::encode($bytes); $bytes };
		$id = $server->ask("SELECT eda.publish('PLACES', convert_from('\\x$hex', 'UTF8'))");
		EdaNats::becomes(sub { $nats->messages(subject => "event-engine.postgres.flow_b.places.$subjects{$flow}") == 1 },
			"a flow id in a subject: $subjects{$flow}");
		is(message_of($nats, $id)->{event}{subject}, $flow, 'the body has the flow id as it is');
	}
	$id = $server->ask("SELECT eda.publish('TEMPLATE', 'x')");
	EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.all-template.of.flow') == 1 }, 'a word of a subject may have several parts of a template');

	# A message that expires
	$id = $server->ask("SELECT eda.publish('MORTAL', 'x')");
	EdaNats::becomes(sub { eval { message_of($nats, $id) } }, 'the message of an event that expires comes');
	$m = message_of($nats, $id);
	my $expiry = $server->ask("SELECT to_char(expires_at AT TIME ZONE 'UTC', $rfc3339) FROM eda.event WHERE id = '$id'");
	is(header($m, 'Eda-Expires-At'), $expiry, 'a header says when it expires');
	is($m->{event}{expirytime}, $expiry, 'the body says so too');
	if ($nats->{ttl})
	{
		my ($ttl) = header($m, 'Nats-TTL') =~ /^(\d+)s?$/;
		ok($ttl && $ttl > 1800 && $ttl <= 3601, 'Nats-TTL tells the server how long to keep it');
		$server->ask("SELECT FROM eda.configure('MORTAL', lifespan => '3 s')");
		my $seq = $nats->stream_info->{state}{last_seq};
		my $last = $server->ask("SELECT eda.publish('MORTAL', 'short')");
		EdaNats::becomes(sub { $nats->stream_info->{state}{last_seq} > $seq }, 'the message of an event that expires after three seconds comes');
		EdaNats::becomes(sub { !grep { $_->{body} =~ /"id":\s*"$last"/ } $nats->messages(subject => 'event-engine.flow') }, 'and the server deletes it');
		$server->ask("SELECT FROM eda.configure('MORTAL', lifespan => '1 hour')");
	}
	else
	{
		ok(!exists $m->{headers}{'Nats-TTL'}, 'there is no Nats-TTL for a server that does not know it');
	}
	is(scalar(grep { $_->{copies} != 1 } map { message_of($nats, $_) } split /\n/, $server->ask("SELECT id FROM eda.event WHERE event_type = 'PLACES' ORDER BY id DESC LIMIT 9")),
		0, 'each message is in the stream once');
	$nats->stop;
}

# eda.publish refuses headers that are commands to NATS, and eda.configure refuses invalid
# subjects.
for my $header ('Nats-Rollup', 'nats-expected-stream', 'Eda-Expires-At', 'a b', "a\\r\\nNats-Rollup", '')
{
	like($server->refusal("SELECT eda.publish('T', 'x', headers => E'{\"$header\": \"all\"}')"), qr/ERROR/, "header \"$header\" is refused");
}
like($server->refusal(q[SELECT eda.publish('T', 'x', headers => E'{"A": "b\\r\\nNats-Rollup: all"}')]), qr/ERROR/, 'a header value with a line break is refused');
like($server->refusal("SELECT eda.configure('T', subject => '$_')"), qr/ERROR.*subject/, "subject \"$_\" is refused")
  for 'a b', 'a..b', '.a', 'a.*', 'event-engine.>', 'a.{nothing}', 'event-engine._DLQ.flow', '$JS.API.STREAM.DELETE.EDA', '_INBOX.x';
$server->ends_well;

done_testing();
