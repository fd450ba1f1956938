# A server with eda preloaded, for one test, and what the TAP tests ask of it.
#
# Nothing here sleeps for a fixed time; it polls until a query is true.  A test ends with
# ends_well(), which checks the whole log of every database: its tables and indexes (amcheck), the
# history of each event, and the engine's counters against a recount.
package EdaServer;

use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils ();
use Test::More;

our @ISA = ('PostgreSQL::Test::Cluster');

# Whoever runs the tests, the superuser is postgres.
$ENV{PGUSER} = 'postgres';

sub init
{
	my ($self, %options) = @_;
	return $self->SUPER::init(%options, extra => [ '--username', 'postgres', '--encoding', 'UTF8' ]);
}

# A running server.  Options: streaming, conf (lines of postgresql.conf).
sub start_new
{
	my ($class, $name, %options) = @_;
	my $self = $class->new($name);

	$self->init(allows_streaming => $options{streaming} || 0);
	$self->append_conf('postgresql.conf', <<CONF . ($options{conf} || ''));
shared_preload_libraries = 'eda'
restart_after_crash = on
log_statement = none
max_connections = 40
eda.lock_wait = '60 s'
max_prepared_transactions = 10
shared_buffers = 32MB
CONF
	$self->start;
	return $self;
}

# CREATE EXTENSION, an event type T in flow type flow, and helpers; waits for the engine.
# The rules of T can be given, and a version of eda other than today's.
sub set_up
{
	my ($self, $db, %rules) = @_;
	my $version = exists $rules{version} ? ' VERSION \'' . delete($rules{version}) . '\'' : '';
	my %args = (
		flow_type => "'flow'", max_attempts => 100, attempt_delays => "'{0 s}'",
		lease => "'10 min'", dispatch_timeout => "'10 min'", %rules);
	my $args = join ', ', map { "$_ => $args{$_}" } sort keys %args;

	$self->safe_psql($db, "CREATE EXTENSION eda$version; SELECT FROM eda.configure('T', $args)");
	$self->safe_psql($db, helpers());
	$self->runs($db);
	return;
}

# SQL functions for tests.  Their bodies are text, so that they do not depend on the extension and
# DROP EXTENSION needs no CASCADE.
sub helpers
{
	return <<'SQL';
CREATE SCHEMA test;
CREATE TABLE test.effect (event_id uuid);

CREATE FUNCTION test.publish(event_type text, flow text, n integer, scheduled_at timestamptz DEFAULT NULL) RETURNS integer
LANGUAGE sql VOLATILE AS $$
	SELECT cardinality(eda.publish_many(event_type, array(SELECT flow || ' ' || i FROM generate_series(1, n) i),
		scheduled_at => scheduled_at));
$$;

-- A worker: acquire events, and for each record its effect and end it in one transaction, a part of
-- them with an error; until n have succeeded, or no event has come for 20 s.
CREATE PROCEDURE test.work(flow_type text, n integer, fail_part double precision DEFAULT 0, max_events integer DEFAULT 100)
LANGUAGE plpgsql AS $$
DECLARE
	done integer := 0;
	a record;
	last_seen timestamptz := clock_timestamp();
BEGIN
	WHILE done < n AND clock_timestamp() < last_seen + interval '60 s' LOOP
		FOR a IN SELECT * FROM eda.acquire_next(flow_type, least(max_events, n - done), '1 s') LOOP
			last_seen := clock_timestamp();
			IF random() < fail_part THEN
				PERFORM eda.fail(a.event_id, 'bad luck', token => a.token);
			ELSE
				INSERT INTO test.effect VALUES (a.event_id);
				PERFORM eda.succeed(a.event_id, a.token);
				done := done + 1;
			END IF;
		END LOOP;
		COMMIT;
	END LOOP;
END $$;

-- What is wrong with the log; no row if it is sound.
CREATE FUNCTION test.violation() RETURNS SETOF text LANGUAGE sql STABLE AS $$
	WITH life AS MATERIALIZED (
		SELECT t.*, lag(t.version) OVER w AS last_version, lag(t.state) OVER w AS last_state, lag(t.at) OVER w AS last_at
		FROM eda.transition t WINDOW w AS (PARTITION BY t.event_id ORDER BY t.version))
	SELECT format('event %s: version %s follows %s', event_id, version, coalesce(last_version, 0))
	FROM life WHERE version <> coalesce(last_version, 0) + 1
	UNION ALL
	SELECT format('event %s: version %s says it comes from %s, it was %s', event_id, version, prev_state, last_state)
	FROM life WHERE prev_state IS DISTINCT FROM last_state
	UNION ALL
	SELECT format('event %s: version %s moved from %s to %s', event_id, version, prev_state, state)
	FROM life l WHERE NOT EXISTS (SELECT FROM eda.lifecycle m
		WHERE m.from_state IS NOT DISTINCT FROM l.prev_state::text AND m.to_state = l.state::text)
	UNION ALL
	SELECT format('event %s: version %s at %s, after %s', event_id, version, at, last_at) FROM life WHERE at < last_at
	UNION ALL
	SELECT format('event %s has no transition', id) FROM eda.event e
	WHERE NOT EXISTS (SELECT FROM life l WHERE l.event_id = e.id AND l.segment = e.segment)
	UNION ALL
	SELECT format('transition of no event %s', event_id) FROM life l
	WHERE NOT EXISTS (SELECT FROM eda.event e WHERE l.event_id = e.id AND l.segment = e.segment)
	UNION ALL
	SELECT format('event %s had its effect %s times', event_id, count(*)) FROM test.effect
	GROUP BY event_id HAVING count(*) > 1
	UNION ALL
	SELECT format('event %s had an effect and is %s', f.event_id, s.state) FROM test.effect f
	LEFT JOIN eda.event_state s ON s.id = f.event_id WHERE s.state IS DISTINCT FROM 'succeeded';
$$;

-- Where the counters differ from the log.
CREATE FUNCTION test.miscount() RETURNS SETOF text LANGUAGE sql VOLATILE AS $$
	SELECT format('%s %s: counted %s, there are %s', event_type, state, coalesce(m.events, 0), coalesce(r.events, 0))
	FROM (SELECT event_type, state, events FROM eda.queue_metrics WHERE events <> 0) m
	FULL JOIN (SELECT event_type, state, count(*) AS events FROM eda.event_state GROUP BY 1, 2) r USING (event_type, state)
	WHERE m.events IS DISTINCT FROM r.events;
$$;
SQL
}

# The result of a query, as text.
sub ask
{
	my ($self, $sql, $db) = @_;
	return $self->safe_psql($db || 'postgres', $sql);
}

# The error that a statement raises, with code, detail and hint.
sub refusal
{
	my ($self, $sql, $db) = @_;
	my ($out, $err) = ('', '');
	$self->psql($db || 'postgres', $sql, stdout => \$out, stderr => \$err, extra_params => [ '-v', 'VERBOSITY=verbose' ]);
	return $err;
}

# As in PostgreSQL's own class, but go on when psql could not even connect: while the server
# recovers, psql may end before it has read the query, and IPC::Run dies of the broken pipe.
sub poll_query_until
{
	my ($self, @query) = @_;
	for my $try (1 .. 100)
	{
		my $met = eval { $self->SUPER::poll_query_until(@query) };
		return $met unless $@;
		die $@ if $@ !~ /Broken pipe/ || $try == 100;
		select undef, undef, undef, 0.1;
	}
}

# Test that a query becomes true, or what the option "is" says.
sub becomes
{
	my ($self, $sql, $name, %options) = @_;
	my $db = $options{db} || 'postgres';
	my $met = $self->poll_query_until($db, $sql, defined $options{is} ? $options{is} : 't');

	ok($met, $name);
	diag($self->ask('SELECT s::text FROM eda.engine_status s', $db)) unless $met;
	return $met;
}

# Wait until another engine runs than the one with this process id, which was ended or killed.
sub another_runs
{
	my ($self, $pid, $db) = @_;
	$self->poll_query_until($db || 'postgres', "SELECT state = 'running' AND pid <> $pid FROM eda.engine_status")
	  or die "no other engine than $pid runs";
	return;
}

# Wait until the engine has begun two more ticks: it has then noticed all that was set before.
sub ticks
{
	my ($self) = @_;
	my $ticks = $self->ask('SELECT ticks FROM eda.engine_status');
	$self->poll_query_until('postgres', "SELECT ticks >= $ticks + 2 FROM eda.engine_status") or die 'the engine stands still';
	return;
}

# Wait until the engine runs, such as after a start or a crash.
sub runs
{
	my ($self, $db) = @_;
	$self->poll_query_until($db || 'postgres', "SELECT state = 'running' FROM eda.engine_status")
	  or die 'the engine does not run: ' . $self->ask('SELECT state FROM eda.engine_status', $db);
	return;
}

sub engine_pid
{
	my ($self, $db) = @_;
	return $self->ask('SELECT pid FROM eda.engine_status', $db);
}

# Start psql with some SQL in the background.  The caller has to finish() it, and can then read
# the file {output}.
sub client
{
	my ($self, $db, $sql) = @_;
	my $dir = PostgreSQL::Test::Utils::tempdir();
	PostgreSQL::Test::Utils::append_to_file("$dir/sql", $sql);
	my $client = IPC::Run::start(
		[ $self->installed_command('psql'), '-XqAt', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/sql", '-d', $self->connstr($db) ],
		'<', '/dev/null', '>', "$dir/output", '2>', "$dir/errors");
	$client->{output} = "$dir/output";
	return $client;
}

# The event ids that a client's publish() calls have returned.
sub published_by
{
	my ($self, @clients) = @_;
	return map { PostgreSQL::Test::Utils::slurp_file($_->{output}) =~ /^([0-9a-f-]{36})$/mg } @clients;
}

# Run a worker until nothing is left to do.
sub work_off
{
	my ($self, $db, $name) = @_;
	my $left = "SELECT count(*) FROM eda.event_state WHERE state NOT IN ('succeeded', 'failed', 'expired', 'canceled')";

	for my $try (1 .. 60)
	{
		my $n = $self->ask($left, $db);
		last if $n eq '0';
		$self->psql($db, "CALL test.work('flow', $n)");
	}
	is($self->ask($left, $db), '0', $name || 'every event comes to its end');
	return;
}

# The last tests of every file: the log of each of these databases is sound, and the counters agree.
sub ends_well
{
	my ($self, @databases) = @_;

	@databases = ('postgres') unless @databases;
	for my $db (@databases)
	{
		$self->becomes('SELECT NOT EXISTS (SELECT FROM test.miscount())', "$db: the counters are a recount of the log", db => $db)
		  or diag($self->ask('SELECT * FROM test.miscount()', $db));
		is($self->ask('SELECT * FROM test.violation() LIMIT 10', $db), '', "$db: every event's history is sound");
		$self->log_is_clean($db);
	}
	return;
}

# verify_heapam and bt_index_check (heapallindexed) on every leaf.
sub log_is_clean
{
	my ($self, $db) = @_;
	my ($out, $err) = ('', '');
	local %ENV = $self->_get_env;
	my $ok = IPC::Run::run([ 'pg_amcheck', '--install-missing', '--heapallindexed', '--schema=eda', $db ],
		'>', \$out, '2>', \$err);

	ok($ok, "$db: amcheck finds nothing") or diag("$out$err");
	return;
}

1;
