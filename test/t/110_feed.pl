# The feed publishes every transition once and in order, in messages below 8,000 bytes, without
# gaps in their numbers.
use strict;
use warnings;
use EdaServer;
use JSON::PP;
use Test::More;

my $server = EdaServer->start_new('feed');
$server->set_up('postgres');
my $long = 'Long-' . 'x' x 58;
$server->ask("SELECT FROM eda.configure('OTHER', flow_type => 'Other_Flow'); SELECT FROM eda.configure('LONG', flow_type => '$long')");

my @channels = ('eda_events', 'eda_flow', 'eda_other_flow', substr('eda_' . lc $long, 0, 63));
my $listener = $server->background_psql('postgres');
$listener->query_safe("LISTEN \"$_\"") for @channels;
my (%told, %messages, %senders);
my $json = JSON::PP->new->utf8;

# Read notifications until n transitions have come on the channel eda_events.
sub hear
{
	my ($n) = @_;
	for (1 .. 1800)
	{
		my $out = $listener->query('SELECT 1');
		while ($out =~ /notification "([^"]*)" with payload "(.*)" received from server process with PID (\d+)/g)
		{
			push @{ $messages{$1} }, $2;
			push @{ $told{$1} }, @{ $json->decode($2) };
			$senders{$3} = 1;
		}
		return if @{ $told{eda_events} || [] } >= $n;
		select undef, undef, undef, 0.1;
	}
}

$server->ask("SELECT test.publish('T', 'flow', 300);
	SELECT eda.publish('OTHER', 'zażółć \"quoted\" \\ and ' || repeat('long ', 40));
	SELECT eda.publish('LONG', 'x')");
$server->ask("BEGIN; SELECT eda.publish('T', 'rolled back'); ROLLBACK;");
$server->ask("CALL test.work('flow', 300, 0.1); CALL test.work('Other_Flow', 1); CALL test.work('$long', 1)");
my $all = $server->ask('SELECT count(*) FROM eda.transition');
hear($all);

is(scalar @{ $told{eda_events} }, $all, 'every transition is told, and none that was rolled back');
is_deeply([ keys %senders ], [ $server->engine_pid ], 'by the engine only');
is(scalar(grep { length($_) >= 8000 } map { @$_ } values %messages), 0, 'no message has 8000 bytes');
cmp_ok(scalar @{ $messages{eda_events} }, '<', $all / 4, 'many transitions share a message');

my %by_flow = map { $_ => scalar @{ $told{$_} || [] } } @channels[ 1 .. 3 ];
my $flows = $server->ask("SELECT string_agg(n::text, ' ' ORDER BY f) FROM (SELECT 1 + (f = 'Other_Flow')::int + 2 * (f ~ '^L')::int AS f, count(*) AS n
	FROM (SELECT e.flow_type f FROM eda.transition t JOIN eda.event e ON e.id = t.event_id) s GROUP BY 1) s");
is("@by_flow{@channels[1 .. 3]}", $flows, 'each flow type has its own channel, in lower case, cut to 63 bytes');

for my $channel (@channels)
{
	my @seq = map { $_->{seq} } @{ $told{$channel} };
	my $gaps = grep { $seq[$_][0] != $seq[ $_ - 1 ][0] || $seq[$_][1] != $seq[ $_ - 1 ][1] + 1 } 1 .. $#seq;
	is($gaps, 0, "$channel: seq counts up without a gap");
}
my (%last, $disorder);
for my $t (@{ $told{eda_events} })
{
	$disorder++ if $t->{version} != ($last{ $t->{event_id} } || 0) + 1;
	$last{ $t->{event_id} } = $t->{version};
}
is($disorder || 0, 0, 'the versions of each event are told in order');
my ($t) = grep { $_->{flow_type} eq 'Other_Flow' && $_->{version} == 1 } @{ $told{eda_events} };
is(join(',', sort grep { $_ ne 'snapshot' } keys %$t), 'at,attempt,event_id,event_type,flow_id,flow_type,seq,state,version', 'what a transition tells');
is($t->{event_type} . ' ' . $t->{state}, 'OTHER awaiting_processing', 'its values');
my $flow_id = $server->ask("SELECT flow_id FROM eda.event WHERE event_type = 'OTHER'");
utf8::decode($flow_id);
is($t->{flow_id}, $flow_id, 'a flow id of any letters comes through');

# What the values of eda.feed include.
for my $level (qw(ids off full))
{
	$server->ask("ALTER SYSTEM SET eda.feed = $level");
	$server->reload;
	$server->poll_query_until('postgres', "SELECT current_setting('eda.feed') = '$level'");
	$server->ticks;
	%told = %messages = ();
	my $id = $server->ask("SELECT eda.publish('T', 'level $level')");
	$server->ask("CALL test.work('flow', 1)");
	next if $level eq 'off'; # what comes after it on the channel is the proof that this did not
	hear(4);
	my @mine = grep { $_->{event_id} eq $id } @{ $told{eda_events} };
	is(join(',', map { $_->{state} } @mine), 'awaiting_processing,dispatched,being_processed,succeeded', "$level: the steps are told");
	is(join(',', sort grep { $_ ne 'snapshot' } keys %{ $mine[0] }), $level eq 'ids' ? 'event_id,seq,state,version'
		: 'at,attempt,event_id,event_type,flow_id,flow_type,seq,state,version', "$level: no more than it says");
	is(scalar(grep { $_->{event_id} ne $id } @{ $told{eda_events} }), 0, 'nothing was told while it was off') if $level eq 'full';
}

# The longest possible flow id, of characters that take six bytes each in JSON.
%told = %messages = ();
my $id = $server->ask("SELECT eda.publish('T', repeat(E'\x01', 512))");
$server->ask("CALL test.work('flow', 1)");
hear(1);
$server->becomes("SELECT state = 'succeeded' FROM eda.event_state WHERE id = '$id'", 'an event whose telling is long goes its way');
$server->ask("SELECT eda.publish('T', 'next')");
$server->work_off('postgres');
hear(8);
is(scalar(grep { length($_) >= 8000 } map { @$_ } values %messages), 0, 'and no message is too long');

# A new engine begins a new count.
my $epoch = $told{eda_events}[-1]{seq}[0];
$listener->quit;
$server->restart;
$server->runs;
$listener = $server->background_psql('postgres');
$listener->query_safe('LISTEN eda_events');
%told = ();
$server->ask("SELECT eda.publish('T', 'after the restart')");
$server->work_off('postgres');
hear(4);
cmp_ok($told{eda_events}[0]{seq}[0], '>=', $epoch, 'after a restart seq names the new engine');
$listener->quit;
$server->ends_well;

done_testing();
