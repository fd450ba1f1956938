# A consumer that knows only NATS and CloudEvents, and nothing of eda, reads every message of
# the stream, and each is a valid CloudEvent.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaServer;
use IPC::Run;
use JSON::PP;
use Test::More;

EdaNats::needed();
plan skip_all => 'no client for nodejs (test/install-consumer.sh, EDA_CONSUMER)' unless -d ($ENV{EDA_CONSUMER} || '') . '/node_modules/nats';
$ENV{NODE_PATH} = "$ENV{EDA_CONSUMER}/node_modules";

my $json = JSON::PP->new->utf8->canonical->allow_nonref;
my $db = 'Käufe & mehr';
my $source = '/eda/K%C3%A4ufe%20%26%20mehr';

# Run test/consumer/consume.js; what it printed, decoded.
sub node
{
	my ($stdin, @args) = @_;
	my ($out, $err) = ('', '');
	IPC::Run::run([ 'node', "$ENV{EDA_SOURCE}/test/consumer/consume.js", @args ], '<', \$stdin, '>', \$out, '2>', \$err)
	  or die "consume.js @args: $err";
	return map { $json->decode($_) } split /\n/, $out;
}

# The events: many, and some of each kind of content.
my $events = <<'SQL';
SELECT eda.configure('Mail', flow_type => 'Post-Mail', delivery => 'nats', subject => 'event-engine.{flow_type}.{event_type}.{flow_id}',
	attempt_delays => '{0 s}', lifespan => '1 hour');
SELECT eda.publish('Mail', 'to: ü.> "*" \ ' || n, headers => '{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
	"tracestate": "a=1", "X-Tenant": "42 b"}', payload => '{"größe": [1, null, {"a": "\"\\\n\t\u0007"}], "": ""}') FROM generate_series(1, 5) n;
SELECT eda.publish('T', 'odd ' || ordinality, payload, correlation_id => 'c ' || ordinality)
FROM jsonb_array_elements('[null, true, "text", "", [], {}, 12345678901234567890.12345, "𝄞 \u20ac \u2028"]') WITH ORDINALITY a (payload, ordinality);
SELECT test.publish('T', 'many', 200);
SQL

# What messages there should be, and what there are where they differ.
my $differences = <<SQL;
WITH sent AS (
	SELECT e.*, e.id || '-' || t.version AS message_id, t.expires_at AS dies_at,
		jsonb_strip_nulls(jsonb_build_object('specversion', '1.0', 'id', e.id, 'type', e.event_type, 'source', '$source',
			'subject', e.flow_id, 'time', test.rfc3339(e.created_at), 'datacontenttype', 'application/json', 'flowtype', e.flow_type,
			'attempt', t.attempt + 1, 'edaversion', t.version, 'correlationid', e.correlation_id, 'parentid', e.parent_id,
			'expirytime', test.rfc3339(t.expires_at), 'traceparent', e.headers ->> 'traceparent', 'tracestate', e.headers ->> 'tracestate'))
			|| jsonb_build_object('data', e.payload) AS body
	FROM eda.transition t JOIN eda.event e ON e.id = t.event_id WHERE t.state = 'dispatched'
), message AS (
	SELECT line ->> 'subject' AS subject, line -> 'headers' AS headers, (line ->> 'body')::jsonb AS body FROM test.message
	WHERE line ->> 'subject' NOT LIKE 'event-engine.\\_DLQ.%'
)
SELECT coalesce(s.message_id, m.headers ->> 'Nats-Msg-Id'), s.body AS expected, m.*
FROM sent s FULL JOIN message m ON m.headers ->> 'Nats-Msg-Id' = s.message_id
WHERE s.body IS DISTINCT FROM m.body
OR m.headers ->> 'Content-Type' IS DISTINCT FROM 'application/cloudevents+json'
OR m.headers ->> 'Eda-Expires-At' IS DISTINCT FROM test.rfc3339(s.dies_at)
OR NOT m.headers @> coalesce(s.headers, '{}')
SQL

for my $version (EdaNats::versions())
{
	my $nats = EdaNats->start_new("nats_$version", version => $version);
	my $server = EdaServer->start_new("consumer_$version", conf => "eda.nats_url = '" . $nats->url . "'\n");

	$server->safe_psql('postgres', qq(CREATE DATABASE "$db"));
	EdaBroker::set_up($server, $db);
	$server->safe_psql($db, <<'SQL');
CREATE TABLE test.message (line jsonb);
CREATE FUNCTION test.rfc3339(at timestamptz) RETURNS text LANGUAGE sql
	RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
SQL
	$server->safe_psql($db, $events);
	$server->becomes("SELECT sum(events) = 213 FROM eda.queue_metrics WHERE state = 'dispatched'", "$version: all are dispatched", db => $db);

	# One event goes through a second attempt and has a child, one is a dead letter.
	$server->safe_psql($db, <<'SQL');
CREATE TABLE test.taken AS SELECT a.* FROM eda.event e, eda.acquire(e.id, 'worker é') a WHERE e.flow_id IN ('odd 1', 'odd 2', 'odd 3');
SELECT eda.fail(event_id, 'once "more"', token => token) FROM test.taken WHERE flow_id = 'odd 1';
SELECT eda.fail(event_id, 'no good', token => token, retry => false) FROM test.taken WHERE flow_id = 'odd 2';
SELECT eda.succeed(event_id, token, spinoffs => '[{"event_type": "T", "payload": {"child": 1}}]') FROM test.taken WHERE flow_id = 'odd 3';
SQL
	my $sent = "(SELECT count(*) FROM eda.transition WHERE state = 'dispatched') + (SELECT count(*) FROM eda.dead_letter)";
	$server->becomes("SELECT broker_published = 216 AND $sent = 216 FROM eda.engine_status", "$version: 216 messages are published", db => $db);

	# Two processes, one after the other, share a durable consumer: no message comes twice.
	my @consumer = ($nats->url, 'EDA', 'reader', 'event-engine.>');
	my @lines = (node('', @consumer, 60), node('', @consumer, 156));
	is(scalar @lines, 216, "$version: the nats client gets all of them");
	is_deeply([ grep { defined $_->{error} } @lines ], [], "$version: each is a CloudEvent by the JSON schema");
	my $state = $nats->api('CONSUMER.INFO.EDA.reader');
	is("$state->{num_pending} $state->{num_ack_pending} $state->{num_redelivered}", '0 0 0', "$version: none is left or came twice");

	$server->safe_psql($db, 'INSERT INTO test.message SELECT jsonb_array_elements($lines$' . $json->encode(\@lines) . '$lines$)');
	is($server->ask("$differences LIMIT 3", $db), '', "$version: they say what the log says");
	is($server->ask("SELECT count(*) FROM test.message WHERE line -> 'headers' ? 'Nats-TTL'", $db),
		$version eq 'new' ? '5' : '0', "$version: those that expire say so to a server that can delete them");
	my $encoded = $server->ask("SELECT DISTINCT regexp_replace(line ->> 'subject', '[1-5]\$', 'N') FROM test.message"
		. " WHERE line -> 'headers' ? 'X-Tenant'", $db);
	is($encoded, 'event-engine.post-mail.mail.to%3A%20%C3%BC%2E%3E%20%22%2A%22%20%5C%20N', "$version: a flow id is one token of a subject");
	is($server->ask(<<'SQL', $db), 'eda.dead_letter|t|failed|no good|1|4', "$version: the dead letter has its history");
SELECT b ->> 'type', (b ->> 'id') ~ ('^' || d.id || '-\d+$'), b #>> '{data,state}', b #>> '{data,error}', b #>> '{data,attempts}',
	jsonb_array_length(b #> '{data,history}')
FROM test.message, jsonb((line ->> 'body')::jsonb) b, eda.dead_letter d WHERE line ->> 'subject' = 'event-engine._DLQ.flow'
SQL

	# The checks above could find something.
	my $good = JSON::PP->new->decode($lines[0]{body});
	my %broken = (
		(map { my %copy = %$good; delete $copy{$_}; ("without $_" => \%copy) } qw(specversion id type source)),
		'of another version' => { %$good, specversion => '0.3' },
		'with an empty subject' => { %$good, subject => '' },
		'with a time that is none' => { %$good, time => 'yesterday' },
		'with a source that is no URI' => { %$good, source => '/eda/K ufe' },
		'with a number for a type' => { %$good, type => 7 },
		'with an attribute that may not be called so' => { %$good, flow_type => 'x' });
	my @names = sort keys %broken;
	my @verdicts = node(join('', map { $json->encode($_) . "\n" } $good, @broken{@names}), 'check');
	ok(!defined((shift @verdicts)->{error}), "$version: a message that is read back is good");
	ok(defined $verdicts[$_]{error}, "$version: one $names[$_] is not") for 0 .. $#names;
	$server->ends_well($db);
	$server->stop;
	$nats->stop;
}

done_testing();
