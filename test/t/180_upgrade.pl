# Each released version of eda can be upgraded under load: every event comes to its end, and the
# catalog is then the same as after a fresh install.
#
# What is upgraded from are the versions in sql/releases, each with the library that is built from
# its tag, and a made-up version 0.0: today's sources, whose install script is changed at its end.
# For each of these changes, an upgrade script that forgets to undo it is found out.
use strict;
use warnings;
use EdaProcess;
use EdaServer;
use File::Copy;
use File::Path qw(make_path);
use PostgreSQL::Test::Utils qw(append_to_file slurp_file);
use Test::More;

my $conf = slurp_file($ENV{TEMP_CONFIG});
plan skip_all => 'needs a folder to install into (INSTALLED is set)' unless $conf;

# Servers of this test load eda from a folder of their own, whose scripts and library it changes.
my $folder = PostgreSQL::Test::Utils::tempdir();
my $install = "$folder/install";
my ($scripts, $library) = map { chomp(my $path = `pg_config --$_`); "$install$path" } qw(sharedir pkglibdir);
$scripts .= '/extension';
$library .= '/eda.so';
system_ok('cp', '-r', $ENV{EDA_INSTALL}, $install);
$conf =~ s/\Q$ENV{EDA_INSTALL}\E/$install/g;

my ($today) = slurp_file("$scripts/eda.control") =~ /^default_version = '(.*)'/m;
my @releases = map { m{/eda--([\d.]+)\.sql$} ? $1 : () } glob "$ENV{EDA_SOURCE}/sql/releases/*.sql";

sub system_ok
{
	my (@command) = @_;
	return system(@command) == 0 || BAIL_OUT("@command");
}

# ------------------------------------------------------------------------
# The made-up version
# ------------------------------------------------------------------------

# How version 0.0 differs from today's: a name, SQL at the end of its install script, and SQL that
# undoes it.  The catalog of a fresh database has what the latter needs of today's definitions.
sub differences
{
	my ($fresh) = @_;
	my $function = 'eda_http.errors(integer)';
	my ($definition, $comment, $clock, $said, $view, $index) = map { $fresh->("SELECT $_") }
	  "pg_get_functiondef('$function'::regprocedure)", "quote_literal(obj_description('$function'::regprocedure))",
	  "pg_get_functiondef('eda.clock()'::regprocedure)", "quote_literal(obj_description('eda.clock()'::regprocedure))",
	  "rtrim(pg_get_viewdef('eda.error_log'::regclass), ';')", "pg_get_indexdef('eda.transition_3_error'::regclass)";
	my $extra = 'FUNCTION eda.made_up() RETURNS integer LANGUAGE sql RETURN 1';

	return (
		[ 'a function is missing', "DROP FUNCTION $function;", "$definition; COMMENT ON FUNCTION $function IS $comment;" ],
		[ 'a function too many', "CREATE $extra;", 'DROP FUNCTION eda.made_up();' ],
		[ 'another definition of a function', 'ALTER FUNCTION eda.clock() COST 7;', "$clock;" ],
		[ 'another comment', "COMMENT ON FUNCTION eda.clock() IS 'old words';", "COMMENT ON FUNCTION eda.clock() IS $said;" ],
		[ 'a column too many', 'ALTER TABLE eda.segment ADD COLUMN note text;', 'ALTER TABLE eda.segment DROP COLUMN note;' ],
		[ 'another default', "ALTER TABLE eda.segment ALTER COLUMN ends_at SET DEFAULT 'now';",
			"ALTER TABLE eda.segment ALTER COLUMN ends_at SET DEFAULT 'infinity';" ],
		[ 'another index', 'DROP INDEX eda.transition_3_error; CREATE INDEX transition_3_error ON eda.transition_3 (at, version);',
			"DROP INDEX eda.transition_3_error; $index;" ],
		[ 'a constraint too many', 'ALTER TABLE eda.segment ADD CONSTRAINT made_up CHECK (segment > 0);', 'ALTER TABLE eda.segment DROP CONSTRAINT made_up;' ],
		[ 'a trigger is disabled', 'ALTER TABLE eda.event_type DISABLE TRIGGER refuse_write;', 'ALTER TABLE eda.event_type ENABLE ALWAYS TRIGGER refuse_write;' ],
		[ 'another view', "CREATE OR REPLACE VIEW eda.error_log AS SELECT * FROM ($view) x;", "CREATE OR REPLACE VIEW eda.error_log AS $view;" ],
		[ 'a grant too many', 'GRANT SELECT ON eda.config TO PUBLIC;', 'REVOKE SELECT ON eda.config FROM PUBLIC;' ],
		[ 'a storage option', 'ALTER TABLE eda.transition_16 SET (fillfactor = 50);', 'ALTER TABLE eda.transition_16 RESET (fillfactor);' ],
		[ 'another condition of what is dumped', "SELECT pg_extension_config_dump('eda.segment', 'WHERE segment > 1');", "SELECT pg_extension_config_dump('eda.segment', '');" ]);
}

# Write sources of version 0.0 and upgrade scripts to today's: 0.0's own, and for each difference
# that of a version 0.0.N, which is the same and whose upgrade script forgets it.
sub make_up_version
{
	my ($source, @differences) = @_;
	make_path($source);
	system_ok('cp', '-r', map({ "$ENV{EDA_SOURCE}/$_" } qw(Makefile eda.control src sql)), $source);
	system_ok('find', $source, '-name', '*.o', '-delete');
	system_ok('sed', '-i', "s/^default_version = .*/default_version = '0.0'/", "$source/eda.control");
	chomp(my $pieces = `make -s -C $source print-SQL`);
	my $last = (split ' ', $pieces)[-1];
	append_to_file("$source/$last", join "\n", '', map { $_->[1] } @differences);

	append_to_file("$scripts/eda--0.0--$today.sql", join "\n", map { $_->[2] } @differences);
	for my $n (0 .. $#differences)
	{
		append_to_file("$scripts/eda--0.0.$n--$today.sql", join "\n", map { $_ == $n ? () : $differences[$_][2] } 0 .. $#differences);
	}
	return;
}

# Build the library and the install script of a version, and make them known to the servers.
sub build
{
	my ($version, $source) = @_;
	PostgreSQL::Test::Utils::command_ok([ 'make', '-s', '-j', 2, '-C', $source, 'COPT=-O0', 'install', "DESTDIR=$folder/$version" ],
		"version $version is built");
	(my $built = "$scripts/eda--$version.sql") =~ s/^\Q$install\E/$folder\/$version/;
	copy($built, $scripts) or die "$built: $!" unless -e "$scripts/eda--$version.sql";
	return;
}

# Have the servers load the library of a version when they start.  It is not overwritten: the old
# one is mapped into memory.
sub load_library
{
	my ($version) = @_;
	(my $from = $library) =~ s/^\Q$install\E/$folder\/$version/;
	$from = $ENV{EDA_INSTALL} . substr $library, length $install if $version eq $today;
	copy($from, "$library.new") or die "$from: $!";
	rename "$library.new", $library or die "$library: $!";
	return;
}

# ------------------------------------------------------------------------
# The upgrade
# ------------------------------------------------------------------------

my $server = EdaServer->new('upgrade');
$server->init;
$server->append_conf('postgresql.conf', "${conf}shared_preload_libraries = 'eda'\neda.max_databases = 64\nmax_worker_processes = 80\n");
$server->start;

# What the catalog says of the extension in a database.
sub catalog
{
	my ($db) = @_;
	return $server->ask(slurp_file("$ENV{EDA_SOURCE}/test/lib/catalog.sql"), $db);
}

# The lines of two catalogs that only one of them has.
sub different_lines
{
	my ($one, $other) = @_;
	my (%one, %other);
	@one{ split /\n/, $one } = ();
	@other{ split /\n/, $other } = ();
	return join "\n", map({ "- $_" } grep { !exists $other{$_} } sort keys %one), map({ "+ $_" } grep { !exists $one{$_} } sort keys %other);
}

# Events in every state, and an open lease, a dead letter and an idempotency key.
my $fill = <<'SQL';
SELECT eda.configure('DUE', 'idle'), eda.configure('PAUSED', 'paused'), eda.configure('SHORT', 'short', lifespan => '1 s'),
	eda.configure('KEYED', 'keyed', attempt_delays => '{1 hour}');
SELECT test.publish('T', 'done', 200);
CALL test.work('flow', 150, 0.3);
SELECT test.publish('DUE', 'dispatched', 20), test.publish('T', 'later', 20, eda.clock() + '1 hour');
SELECT eda.publish('SHORT', 'expired');
SELECT eda.publish('KEYED', 'keyed', idempotency_key => 'once');
SELECT eda.suspend(eda.publish('KEYED', 'suspended')), eda.cancel(eda.publish('KEYED', 'canceled'));
SELECT eda.suspend_event_type('PAUSED');
SELECT test.publish('PAUSED', 'backlog', 20);
SELECT count(*) FROM eda.acquire_next('flow', 5);
SQL

# Upgrade a database that has a version, while publishers and workers go on.
sub upgrades_under_load
{
	my ($version) = @_;
	my $db = "from_$version" =~ s/\W/_/gr;
	load_library($version);
	$server->restart;
	$server->ask("CREATE DATABASE $db");
	$server->set_up($db, version => $version, lease => "'20 s'");
	is($server->ask('SELECT eda.library_version()', $db), $version, "$version: its own library is loaded");
	$server->ask($fill, $db);
	$server->ask("SELECT eda.fail(a.event_id, 'hopeless', token => a.token, retry => false) FROM eda.acquire_next('flow', 1, '60 s') a", $db);
	$server->becomes("SELECT count(DISTINCT state) = 8 FROM eda.event_state", "$version: there are events in all eight states", db => $db)
	  or diag($server->ask('SELECT state, count(*) FROM eda.event_state GROUP BY 1', $db));

	my @load = ((map { repeat("SELECT test.publish('T', 'load', 3)", $db) } 1 .. 2), (map { repeat("CALL test.work('flow', 20, 0.1)", $db) } 1 .. 2));
	load_library($today);
	$server->restart;
	$server->becomes("SELECT state LIKE '%library is version $today, the extension $version' FROM eda.engine_status",
		"$version: with today's library the engine is idle, and says why", db => $db);
	my $count = "SELECT count(*) FROM eda.event WHERE flow_id LIKE 'load%'";
	my $published = $server->ask($count, $db);
	$server->becomes("SELECT ($count) > $published", "$version: publishing goes on", db => $db);
	$server->ask('ALTER EXTENSION eda UPDATE', $db);
	is($server->ask("SELECT extversion FROM pg_extension WHERE extname = 'eda'", $db), $today, "$version: upgraded");
	$server->runs($db);
	my $succeeded = $server->ask("SELECT count(*) FROM eda.event_state WHERE state = 'succeeded'", $db);
	$server->becomes("SELECT count(*) > $succeeded + 20 FROM eda.event_state WHERE state = 'succeeded'", "$version: workers get events again", db => $db);
	EdaProcess::reap($_, 'TERM') for @load;

	ok($server->ask("SELECT eda.publish('KEYED', 'keyed', idempotency_key => 'once') = (SELECT id FROM eda.event WHERE flow_id = 'keyed')", $db),
		"$version: an idempotency key is known");
	$server->ask("SELECT eda.move_clock('61 min'); SELECT eda.unsuspend_event_type('PAUSED'), eda.resume(id) FROM eda.event WHERE flow_id = 'suspended'", $db);
	$server->becomes("SELECT count(*) = 0 FROM eda.event_state WHERE state = 'being_processed'", "$version: the old leases run out", db => $db);
	my $left = "FROM eda.event_state WHERE state NOT IN ('succeeded', 'failed', 'expired', 'canceled')";
	for my $try (1 .. 20)
	{
		my @flows = split /\n/, $server->ask("SELECT flow_type, count(*) $left GROUP BY 1", $db) or last;
		$server->ask("CALL test.work('$_->[0]', $_->[1])", $db) for map { [ split /\|/ ] } @flows;
	}
	is($server->ask("SELECT flow_type, state, count(*) $left GROUP BY 1, 2", $db), '', "$version: every event comes to its end");
	$server->ends_well($db);
	is(different_lines(catalog($db), catalog('fresh')), '', "$version: the catalog is that of a fresh install");
	return;
}

# Run a statement again and again, in a process of its own that ends with the test.  It goes on
# when the server restarts.
sub repeat
{
	my ($sql, $db) = @_;
	my @psql = ($server->installed_command('psql'), '-XqAt', '-d', $server->connstr($db), '-c', $sql);
	return EdaProcess::spawn(sub {
		my ($parent) = @_;
		open STDOUT, '>', '/dev/null';
		open STDERR, '>', '/dev/null';
		while (getppid == $parent)
		{
			system @psql;
			select undef, undef, undef, 0.05;
		}
	});
}

# Without load: install a version in a new database, upgrade it, and compare.
sub lines_after_upgrade
{
	my ($version) = @_;
	$server->ask('CREATE DATABASE upgraded');
	$server->ask("CREATE EXTENSION eda VERSION '$version'; ALTER EXTENSION eda UPDATE", 'upgraded');
	my $lines = different_lines(catalog('upgraded'), catalog('fresh'));
	$server->ask('DROP DATABASE upgraded');
	return $lines;
}

$server->ask('CREATE DATABASE fresh');
$server->ask('CREATE EXTENSION eda', 'fresh');
$server->ask('CREATE DATABASE again');
$server->ask('CREATE EXTENSION eda', 'again');
cmp_ok(scalar(split /\n/, catalog('fresh')), '>', 500, 'the catalog says much of the extension');
is(different_lines(catalog('again'), catalog('fresh')), '', 'two fresh installs are the same');

my @differences = differences(sub { $server->ask($_[0], 'fresh') });
make_up_version("$folder/sources", @differences);
build('0.0', "$folder/sources");
copy("$scripts/eda--0.0.sql", "$scripts/eda--0.0.$_.sql") or die "eda--0.0.$_.sql: $!" for 0 .. $#differences;

is(lines_after_upgrade('0.0'), '', 'a made-up version, upgraded, is like a fresh install');
for my $n (0 .. $#differences)
{
	isnt(my $lines = lines_after_upgrade("0.0.$n"), '', "what an upgrade script forgets is found: $differences[$n][0]");
	note($lines);
}
upgrades_under_load('0.0');

# ------------------------------------------------------------------------
# The releases
# ------------------------------------------------------------------------

for my $version (@releases)
{
	if ($version eq $today)
	{
		is(slurp_file("$ENV{EDA_SOURCE}/sql/releases/eda--$today.sql"), slurp_file("$ENV{EDA_INSTALL}" . substr("$scripts/eda--$today.sql", length $install)),
			"the install script of $today has not changed since its release");
		next;
	}
	is(lines_after_upgrade($version), '', "$version, upgraded, is like a fresh install");
	my $source = "$ENV{EDA_SOURCE}/releases/$version";
	SKIP:
	{
		skip "there is no tag v$version here to build the library of", 1 unless -d $source;
		build($version, $source);
		upgrades_under_load($version);
	}
}

done_testing();
