#!/usr/bin/perl
# What README, the reference and the operations page say about eda is so.
# Every ```sql block runs; the reference's tables name every function, setting, move and error
# code; README's history is the one that its lines make, and its rates are those of
# docs/performance.md.
#
# Needs a server with eda preloaded, found by PGHOST, PGPORT, PGUSER (a superuser);
# makes a database of its own, and leaves it to those who check its tables.
use strict;
use warnings;
use File::Basename qw(dirname);
use File::Temp qw(tempfile);
use Test::More;

my $top = dirname(__FILE__) . '/..';
my $database = 'readme_eda';
my @roles = qw(shop_web shop_worker);
my @documents = qw(README.md docs/reference.md docs/operations.md);

sub slurp
{
	my ($file) = @_;
	open my $fh, '<', $file or die "$file: $!";
	local $/;
	return scalar <$fh>;
}

# Run psql; its output and exit status.
sub psql
{
	my ($in_database, @arguments) = @_;
	open my $fh, '-|', 'psql', '-XqAt', '-v', 'ON_ERROR_STOP=1', '-d', $in_database, @arguments
		or die "psql: $!";
	my $output = join '', <$fh>;
	close $fh;
	chomp $output;
	return wantarray ? ($output, $? >> 8) : $output;
}

sub query { return psql($database, '-c', $_[0]) }

sub clean_up
{
	psql('postgres', '-c', 'SET client_min_messages = warning', '-c', "DROP DATABASE IF EXISTS $database WITH (FORCE)");
	psql('postgres', '-c', 'SET client_min_messages = warning', '-c', 'DROP ROLE IF EXISTS ' . join(', ', @roles));
}

# ------------------------------------------------------------------------
# The blocks, in order, in one session
# ------------------------------------------------------------------------

my ($script, $script_name) = tempfile('eda-readme-XXXXXX', TMPDIR => 1, SUFFIX => '.sql', UNLINK => 1);
my @blocks;
print $script "\\o /dev/null\nSET statement_timeout = '300 s';\n";
foreach my $document (@documents)
{
	my ($inside, $number) = (0, 0);
	foreach my $line (split /^/, slurp("$top/$document"))
	{
		$number++;
		if (!$inside && $line =~ /^```sql$/)
		{
			$inside = 1;
			push @blocks, "$document, line $number";
		}
		elsif ($inside && $line =~ /^```$/)
		{
			$inside = 0;
			print $script "\\echo ran $#blocks\n";
		}
		elsif ($inside)
		{
			print $script $line;
		}
	}
}
close $script;

clean_up();
psql('postgres', '-c', "CREATE DATABASE $database");
my ($output) = psql($database, '-f', $script_name);
my %ran = map { $_ => 1 } $output =~ /^ran (\d+)$/mg;
ok($ran{$_}, "$blocks[$_] runs") for 0 .. $#blocks;
cmp_ok(scalar(@blocks), '>', 5, 'there were blocks to run');

# What README says that the ten lines show, but for the times.
my @history;
foreach my $row (slurp("$top/README.md") =~ /^( +\d \| .*)$/mg)
{
	my @cell = map { s/^\s+|\s+$//gr } split /\|/, $row, -1;
	push @history, join '|', @cell[ 0 .. 3, 5 ];
}
is( join("\n", @history),
	query("SELECT h.version, h.state, h.attempt, h.token, h.detail FROM eda.event_state s CROSS JOIN eda.history(s.id) h
		WHERE event_type = 'ORDER_PLACED' AND flow_id = 'order-7' ORDER BY h.version"),
	'the life of an event');
is(query('SELECT order_id, cents FROM ledger ORDER BY cents'), "order-9|900\norder-8|1250", 'work that counts');

# ------------------------------------------------------------------------
# The tables
# ------------------------------------------------------------------------

my $reference = slurp("$top/docs/reference.md");

# The arguments of each function, as the reference has them in `name(a, [b])`, and as they are.
my %described;
$described{$1}{ $2 =~ s/[\[\]]//gr } = 1 while $reference =~ /`(\w+)\(([\w\s,\[\]]*)\)`/g;
foreach my $row (
	split /\n/,
	query("SELECT DISTINCT p.proname, array_to_string(p.proargnames[1:p.pronargs], ', ')
		FROM eda.access_objects() a JOIN pg_proc p ON p.oid = a.object::regprocedure WHERE a.kind = 'FUNCTION'
		AND p.proname NOT IN ('lifecycle_moves', 'type_metrics', 'type_counters', 'engine_info', 'library_version', 'last_step',
			'event_type_named', 'current_snapshot', 'event_report', 'newest_dead_letters', 'steps') ORDER BY 1, 2"))
{
	my ($name, $arguments) = split /\|/, $row, -1;
	next if $name =~ /^(succeed|fail|heartbeat|release)_many$/ && $reference =~ /`$name`/;
	$arguments = '' if $name =~ /^(dashboard|clock)$/;
	ok($described{$name}{$arguments}, "function $name($arguments)");
}
foreach my $view (split /\n/, query("SELECT object FROM eda.access_objects() WHERE kind = 'TABLE' ORDER BY 1"))
{
	like($reference, qr/`\Q$view\E`/, $view);
}

my %settings = $reference =~ /^\| `(eda\.\w+)` \| `(\w+|'')` \|/mg;
foreach my $row (split /\n/, query(
		"SELECT name, boot_val, coalesce(unit, '') FROM pg_settings WHERE name LIKE 'eda.%' ORDER BY name"))
{
	my ($name, $boot, $unit) = split /\|/, $row, -1;
	my %in_unit = ('' => 1, kB => 1, min => 60, MB => 1024, s => 1, ms => 1, d => 86400);
	my $is = $settings{$name} // '(not there)';
	$is = '' if $is eq "''";
	# "5s" where the unit is ms: 5000
	if ($is =~ /^(\d+)([a-zA-Z]*)$/)
	{
		$is = $1 * $in_unit{$2};
		$is *= 1000 if $unit eq 'ms' && $2 eq 's';
	}
	is($is, $boot, "default of $name");
}

# All four columns of the table of moves, as the view has them; code font does not count.
my @moves = grep { !/^from\|to\|/ } map { /^\| (\(nothing\)|\w+) \| (\w+) \| ([^|]+) \| ([^|]+) \|$/ ? "$1|$2|$3|$4" =~ s/`//gr : () }
	split /\n/, $reference;
is( join("\n", sort @moves),
	join("\n", sort split /\n/, query("SELECT coalesce(from_state, '(nothing)'), to_state, made_by, happens FROM eda.lifecycle")),
	'the moves');

like($reference, qr/^\| $_ \|/m, "error $_") for map { sprintf 'ED%03d', $_ } 1 .. 11;

# The cells of a table's row, without what is in brackets.
sub cells { return map { s/^\s+|\s*(\[.*)?$//gr } (split /\|/, $_[0], -1)[1 .. 7] }

# README's table of rates has the medians of the table "Jobs a second", without the bare table.
my ($measured) = slurp("$top/docs/performance.md") =~ /^\*\*Jobs a second\*\*\n\n(.*?)\n\n/ms;
my ($shown) = slurp("$top/README.md") =~ /^(\| work \| eda \|.*?)\n\n/ms;
is( join("\n", map { join '|', map { $_ eq '-' ? '' : $_ } (cells($_))[ 0 .. 5 ] } (split /\n/, $shown)[ 2 .. 7 ]),
	join("\n", map { join '|', (cells($_))[ 0, 1, 3 .. 6 ] } (split /\n/, $measured)[ 2 .. 7 ]),
	'the rates that README shows');

done_testing();
