# What a message says is the event's: subject, headers and a CloudEvents body, and nothing that a publisher writes can break it.
use strict;
use warnings;
use EdaNats;
use EdaServer;
use Test::More;

EdaNats::needed();
my $server = EdaServer->start_new('messages');
EdaNats::set_up($server, 'postgres');
$server->ask(<<'SQL');
SELECT FROM eda.configure('PLACES', 'Flow_B', delivery => 'nats', subject => 'event-engine.{database}.{flow_type}.{event_type}.{flow_id}');
SELECT FROM eda.configure('TEMPLATE', 'flow', delivery => 'nats', subject => 'event-engine.all-{event_type}.of.{flow_type}');
SELECT FROM eda.configure('MORTAL', 'flow', delivery => 'nats', lifespan => '1 hour', max_attempts => 1, attempt_delays => '{0 s}');
SELECT FROM eda.configure('UNSAID', 'flow', delivery => 'nats', attempt_delays => '{0 s}');
SQL

# The message of an event, as the stream has it, with its body decoded; and what the database says.
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
	EdaNats::set($server, nats_url => $nats->url);
	EdaNats::broker_becomes($server, 'ready', "$version: the broker is ready");

	# Everything that an event can have
	my $parent = $server->ask("SELECT eda.publish('UNSAID', 'parent')");
	my $id = $server->ask(qq{SELECT eda.publish('T', E'za\\u017c\\u00f3\\u0142\\u0107 "1"', E'{"text": "g\\u0119\\u015bl\\u0105 \\\\\\\\ \\\\n", "n": 12345678901234567890, "list": [1, null]}',
		correlation_id => 'corr', parent_id => '$parent',
		headers => '{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=b", "X-Own": "it is: mine", "content-type": "text/html"}')});
	EdaNats::becomes(sub { $nats->count == 2 }, "$version: both messages come");
	my $m = message_of($nats, $id);
	is($m->{subject}, 'event-engine.flow', 'the subject is the flow type\'s');
	is(header($m, 'Nats-Msg-Id'), "$id-$m->{dispatched}", 'the message id is event id and version');
	is(header($m, 'Content-Type'), 'application/cloudevents+json', 'the content type is that of the body, and the only one');
	ok(!exists $m->{headers}{'content-type'}, 'whatever the publisher says of it');
	is(header($m, 'traceparent'), '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', 'traceparent');
	is(header($m, 'tracestate'), 'a=b', 'tracestate');
	is(header($m, 'X-Own'), 'it is: mine', 'a header of the publisher\'s own');
	ok(!exists $m->{headers}{$_}, "no $_: it does not expire") for 'Nats-TTL', 'Eda-Expires-At';

	my $e = $m->{event};
	is_deeply([ sort keys %$e ], [ sort qw(specversion id type source subject time datacontenttype flowtype attempt edaversion correlationid parentid
				traceparent tracestate data) ], 'the attributes of the body');
	is(join(' ', @$e{qw(specversion id type source datacontenttype flowtype attempt edaversion correlationid parentid traceparent tracestate)}),
		"1.0 $id T /eda/postgres application/json flow 1 $m->{dispatched} corr $parent 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 a=b",
		'are the event\'s');
	is($e->{subject}, "za\x{17c}\x{f3}\x{142}\x{107} \"1\"", 'a flow id of any letters');
	is($e->{time}, $server->ask("SELECT to_char(created_at AT TIME ZONE 'UTC', $rfc3339) FROM eda.event WHERE id = '$id'"), 'the time');
	is($e->{data}{text}, "g\x{119}\x{15b}l\x{105} \\ \n", 'the payload: text');
	like($m->{body}, qr/12345678901234567890/, 'the payload: a number that no double holds');
	is_deeply($e->{data}{list}, [ 1, undef ], 'the payload: a list');
	is(scalar(grep { /[^a-z0-9]/ } keys %$e), 0, 'attributes are named as CloudEvents names them');
	$m = message_of($nats, $parent);
	is_deeply([ sort keys %{ $m->{event} } ], [ sort qw(specversion id type source subject time datacontenttype flowtype attempt edaversion data) ],
		'what an event has not, its message has not');
	is_deeply($m->{event}{data}, {}, 'nor a payload');

	# The second attempt
	$server->ask("SELECT eda.fail(event_id, 'again', token => token) FROM eda.acquire('$id')");
	EdaNats::becomes(sub { $nats->count == 3 }, 'after a failed attempt there is another message');
	$m = message_of($nats, $id);
	is("$m->{event}{attempt} $m->{event}{edaversion} " . header($m, 'Nats-Msg-Id'), "2 $m->{dispatched} $id-$m->{dispatched}", 'for attempt 2, with an id of its own');
	cmp_ok($m->{dispatched}, '>', 2, 'as it is another version');

	# Subjects
	my %subjects = (
		'order-7_a~' => 'order-7_a~', 'order 7.a' => 'order%207%2Ea', '>' => '%3E', '*.>' => '%2A%2E%3E', '100%' => '100%25',
		'a/b' => 'a%2Fb', '$JS.API' => '%24JS%2EAPI', "\x{17c}" => '%C5%BC', "tab\tcr\r\n" => 'tab%09cr%0D%0A');
	for my $flow (sort keys %subjects)
	{
		my $hex = unpack 'H*', do { my $bytes = $flow; utf8::encode($bytes); $bytes };
		$id = $server->ask("SELECT eda.publish('PLACES', convert_from('\\x$hex', 'UTF8'))");
		EdaNats::becomes(sub { $nats->messages(subject => "event-engine.postgres.flow_b.places.$subjects{$flow}") == 1 },
			"a flow id in a subject: $subjects{$flow}");
		is(message_of($nats, $id)->{event}{subject}, $flow, 'in the body it is itself');
	}
	$id = $server->ask("SELECT eda.publish('TEMPLATE', 'x')");
	EdaNats::becomes(sub { $nats->messages(subject => 'event-engine.all-template.of.flow') == 1 }, 'words of a template may be made of several parts');

	# What expires
	$id = $server->ask("SELECT eda.publish('MORTAL', 'x')");
	EdaNats::becomes(sub { eval { message_of($nats, $id) } }, 'a message that expires');
	$m = message_of($nats, $id);
	my $expiry = $server->ask("SELECT to_char(expires_at AT TIME ZONE 'UTC', $rfc3339) FROM eda.event WHERE id = '$id'");
	is(header($m, 'Eda-Expires-At'), $expiry, 'says when');
	is($m->{event}{expirytime}, $expiry, 'in the body too');
	if ($nats->{ttl})
	{
		my ($ttl) = header($m, 'Nats-TTL') =~ /^(\d+)s?$/;
		ok($ttl && $ttl > 3500 && $ttl <= 3601, 'the server knows for how long to keep it');
		$server->ask("SELECT FROM eda.configure('MORTAL', lifespan => '3 s')");
		my $last = $server->ask("SELECT eda.publish('MORTAL', 'short')");
		my $seq = $nats->stream_info->{state}{last_seq};
		EdaNats::becomes(sub { $nats->stream_info->{state}{last_seq} > $seq }, 'one that lives for three seconds comes');
		EdaNats::becomes(sub { !grep { $_->{body} =~ /"id":\s*"$last"/ } $nats->messages(subject => 'event-engine.flow') }, 'and goes');
		$server->ask("SELECT FROM eda.configure('MORTAL', lifespan => '1 hour')");
	}
	else
	{
		ok(!exists $m->{headers}{'Nats-TTL'}, 'a server that knows no TTL is not told one');
	}
	is(scalar(grep { $_->{copies} != 1 } map { message_of($nats, $_) } split /\n/, $server->ask("SELECT id FROM eda.event WHERE event_type = 'PLACES' ORDER BY id DESC LIMIT 9")),
		0, 'each message is there once');
	$nats->stop;
}

# What would command the broker is refused at publish.
for my $header ('Nats-Rollup', 'nats-expected-stream', 'Eda-Expires-At', 'a b', "a\\r\\nNats-Rollup", '')
{
	like($server->refusal("SELECT eda.publish('T', 'x', headers => E'{\"$header\": \"all\"}')"), qr/ERROR/, "header \"$header\" is refused");
}
like($server->refusal(q[SELECT eda.publish('T', 'x', headers => E'{"A": "b\\r\\nNats-Rollup: all"}')]), qr/ERROR/, 'and a value with more than one line');
like($server->refusal("SELECT eda.configure('T', subject => '$_')"), qr/ERROR.*subject/, "subject \"$_\" is refused")
  for 'a b', 'a..b', '.a', 'a.*', 'event-engine.>', 'a.{nothing}', 'event-engine._DLQ.flow', '$JS.API.STREAM.DELETE.EDA', '_INBOX.x';
$server->ends_well;

done_testing();
