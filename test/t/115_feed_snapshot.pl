# The feed says how far it has come: exactly the transitions that the snapshot of a tick's last
# message sees were published or counted.
use strict;
use warnings;
use EdaServer;
use JSON::PP;
use Test::More;

my $server = EdaServer->start_new('feed_snapshot', conf => "max_prepared_transactions = 320\n");
$server->set_up('postgres');

$server->ask(<<'SQL');
CREATE FUNCTION test.sees(s pg_snapshot, xid bigint) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
	SELECT pg_visible_in_snapshot(xid::text::xid8, s);
$$;
-- Publish with a subtransaction that is rolled back, and two that are not.
CREATE FUNCTION test.publish_in_parts(n integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1..n LOOP
		BEGIN
			PERFORM eda.publish('T', 'part ' || i);
			IF i % 3 = 0 THEN
				RAISE EXCEPTION 'not this one';
			END IF;
		EXCEPTION WHEN raise_exception THEN
		END;
	END LOOP;
END $$;
SQL

my $json = JSON::PP->new->utf8;
my $listener = $server->background_psql('postgres');
$listener->query_safe('LISTEN eda_events; LISTEN eda_flow');
my (@told, @told_to_flow);

sub hear
{
	my $out = $listener->query('SELECT 1');
	while ($out =~ /notification "([^"]*)" with payload "(.*)" received from server process/g)
	{
		push @{ $1 eq 'eda_flow' ? \@told_to_flow : \@told }, @{ $json->decode($2) };
	}
	return;
}

# Read notifications until the number of the last transition is the count of all transitions in
# the log, with or without a gap before it.
sub hear_to_the_end
{
	my ($name) = @_;
	my ($total, $last) = (0, 0);
	for (1 .. 1800)
	{
		$total = $server->ask('SELECT count(*) FROM eda.transition');
		hear();
		$last = @told ? $told[-1]{seq}[1] : 0;
		last if $last == $total;
		select undef, undef, undef, 0.1;
	}
	is($last, $server->ask('SELECT count(*) FROM eda.transition'), $name);
	return;
}

# Compare the snapshots of some notifications with the log.  Returns what is wrong with them.
sub compare
{
	my ($name, $exact, @positions) = @_;
	my %wrong = map { $_ => [] } qw(counted missing twice);

	for my $i (@positions)
	{
		my $s = $told[$i]{snapshot};
		my %before = map { ("$_->{event_id} $_->{version}" => 1) } @told[ 0 .. $i ];
		my @since = split /\n/, $server->ask("SELECT event_id || ' ' || version FROM eda.changes('$s', 1000000)");
		my $seen = $server->ask("SELECT count(*) FROM eda.transition WHERE test.sees('$s', xid)");
		my $all = $server->ask('SELECT count(*) FROM eda.transition');

		push @{ $wrong{counted} }, "$s: $seen" if $exact ? $seen != $told[$i]{seq}[1] : $seen > $told[$i]{seq}[1];
		push @{ $wrong{twice} }, $s if $exact && grep { $before{$_} } @since;
		$before{$_} = 1 for @since;
		push @{ $wrong{missing} }, $s if keys(%before) != $all;
	}
	cmp_ok(scalar @positions, '>', 0, "$name: there are snapshots to compare");
	is("@{ $wrong{counted} }", '', "$name: the number of a tick's last element is how many its snapshot sees");
	is("@{ $wrong{twice} }", '', "$name: nothing is told before a snapshot that it does not see");
	return \%wrong;
}

sub with_snapshot
{
	return grep { defined $told[$_]{snapshot} } @_;
}

# Publishers and workers run at the same time, with short and long transactions, subtransactions
# and prepared transactions, of which some commit late.
my @late = map { $server->background_psql('postgres') } 1 .. 3;
$_->query_safe("BEGIN; SELECT eda.publish('T', 'late')") for @late;
$late[2]->query_safe('SAVEPOINT a; SELECT test.publish_in_parts(5)');
$server->ask("BEGIN; SELECT eda.publish('T', 'prepared $_'); PREPARE TRANSACTION 'p$_'") for 1, 2;
my @clients = map { $server->client('postgres', $_) } (
	"SELECT eda.publish('T', 'flow');\n" x 300,
	"SELECT eda.publish('T', 'flow');\n" x 300,
	"SELECT test.publish_in_parts(7);\n" x 40,
	"CALL test.work('flow', 500, 0.2, 5);\n");
hear(), select undef, undef, undef, 0.05 while grep { $_->pumpable } @clients;
# On a slow machine a few ticks may have been enough for all of that.
for (1 .. 60)
{
	last if with_snapshot(0 .. $#told) > 40;
	$server->ask("SELECT eda.publish('T', 'one more')");
	hear();
}
$late[0]->query_safe('COMMIT');
$server->ask("COMMIT PREPARED 'p1'");
$late[1]->query_safe('ROLLBACK');
$server->ask("ROLLBACK PREPARED 'p2'");
$_->finish for @clients;
$late[2]->query_safe("RELEASE a; SELECT eda.publish('T', 'later')");
$late[2]->query_safe('COMMIT');
$_->quit for @late;
$server->work_off('postgres');
hear_to_the_end('all is told');

my @positions = with_snapshot(0 .. $#told);
cmp_ok(scalar @positions, '>=', 20, scalar @positions . ' ticks have told how far');
is($positions[-1], $#told, 'the last element has a snapshot');
is(scalar(grep { defined $_->{snapshot} } @told_to_flow), 0, 'those on the channel of a flow type have none');
my $lists = grep { $told[$_]{snapshot} =~ /:\d+:\d/ } @positions;
cmp_ok($lists, '>', 20, "$lists of the snapshots name transactions that were running");
my @some = @positions[ map { int($_ * $#positions / 40) } 0 .. 40 ];
my $wrong = compare('quiet', 1, @some);
is("@{ $wrong->{missing} }", '', 'what was told before a snapshot, and what it does not see, is everything');
is(scalar(keys %{ { map { ("$_->{event_id} $_->{version}" => 1) } @told } }), scalar @told, 'nothing is told twice');

# More transactions are running than a message has room for.  Its snapshot then sees less than
# the real one.
my $from = @told;
$server->ask("BEGIN; SELECT eda.publish('T', 'late in the crowd'); PREPARE TRANSACTION 'late'");
$server->ask(join ';', map { "BEGIN; SELECT pg_current_xact_id(); PREPARE TRANSACTION 'many $_'" } 1 .. 300);
$server->ask("SELECT test.publish('T', 'crowd', 20)");
$server->work_off('postgres');
hear_to_the_end('many running transactions: all is told');
my @short = with_snapshot($from .. $#told);
$server->ask("COMMIT PREPARED 'late'");
hear_to_the_end('the late one too');
is(scalar(grep { $told[$_]{snapshot} !~ /^(\d+):\1:$/ } @short), 0, 'many running transactions: the snapshots are lower bounds');
$wrong = compare('many running transactions', 0, @short);
is("@{ $wrong->{missing} }", '', 'nothing is lost by it');
$server->work_off('postgres');
hear_to_the_end('and what became of it');
$server->ask(join ';', map { "ROLLBACK PREPARED 'many $_'" } 1 .. 300);

# With eda.feed = ids, messages have snapshots, too.
$server->ask('ALTER SYSTEM SET eda.feed = ids');
$server->reload;
$server->poll_query_until('postgres', "SELECT current_setting('eda.feed') = 'ids'");
$server->ticks;
$from = @told;
$server->ask("SELECT eda.publish('T', 'ids')");
$server->work_off('postgres');
hear_to_the_end('ids: all is told');
$wrong = compare('ids', 1, with_snapshot($from .. $#told));
is("@{ $wrong->{missing} }", '', 'ids: nothing is lost');
is(join(',', sort keys %{ $told[-1] }), 'event_id,seq,snapshot,state,version', 'ids: what the last element tells');
$server->ask('ALTER SYSTEM RESET eda.feed');
$server->reload;
$server->poll_query_until('postgres', "SELECT current_setting('eda.feed') = 'full'");
$server->ticks;

# More transitions than the feed publishes.  The numbers have a gap, even if nothing happens
# after it, and what a snapshot from before the gap does not see are just the transitions from
# then on.
my $before = $told[-1];
$server->ask("SELECT test.publish('T', 'burst', 30000)");
$server->becomes("SELECT sum(events) FILTER (WHERE state = 'dispatched') = 1000 FROM eda.queue_metrics", 'a burst is dispatched as far as it goes');
$from = @told;
hear_to_the_end('after a burst and silence the last one is told');
my @new = @told[ $from .. $#told ];
my $number = $before->{seq}[1];
my $gaps = 0;
for my $t (@new)
{
	$gaps++ if $t->{seq}[1] != $number + 1;
	$number = $t->{seq}[1];
}
cmp_ok($gaps, '>', 0, 'what was not told is a gap');
compare('burst', 1, with_snapshot($from .. $#told));
my $since = $server->ask("SELECT count(*) FROM eda.transition WHERE NOT test.sees('$before->{snapshot}', xid)");
is($since, $told[-1]{seq}[1] - $before->{seq}[1], 'a snapshot from before the gap does not see just what it hides');

# A new engine begins a new count, and its snapshots go on where those of the old one ended.  It
# is paused, so it reads and publishes and moves no event.
$server->ask("ALTER SYSTEM SET eda.engine = paused");
$server->reload;
$server->becomes("SELECT state = 'paused' FROM eda.engine_status", 'the engine pauses');
hear_to_the_end('and all is told');
$listener->quit;
my $seen_last = $told[-1]{snapshot};
$server->restart;
$server->becomes("SELECT state = 'paused' FROM eda.engine_status", 'so does a new one');
$listener = $server->background_psql('postgres');
$listener->query_safe('LISTEN eda_events');
@told = ();
my $last = $server->ask("SELECT eda.publish('T', 'after')");
for (1 .. 1800)
{
	hear();
	last if grep { $_->{event_id} eq $last && $_->{snapshot} } @told;
	select undef, undef, undef, 0.1;
}
my ($new) = grep { $_->{event_id} eq $last && $_->{snapshot} } @told;
is($server->ask("SELECT string_agg(DISTINCT event_id || ' ' || version, ',') FROM eda.transition
	WHERE NOT test.sees('$seen_last', xid) AND test.sees('$new->{snapshot}', xid)"), "$last 1", 'from the last one before the restart to the first one after it');
$listener->quit;
$server->ends_well;

done_testing();
