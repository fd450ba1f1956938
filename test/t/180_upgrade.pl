# The oldest version, upgraded, has the same catalog as a fresh install.
use strict;
use warnings;
use EdaServer;
use Test::More;

my $server = EdaServer->start_new('upgrade');
my @versions = split /\n/, $server->ask("SELECT version FROM pg_available_extension_versions WHERE name = 'eda' ORDER BY string_to_array(version, '.')::int[]");
if (@versions < 2)
{
	plan skip_all => "there is one version so far: @versions";
}

# Everything that belongs to the extension, with its definition.
sub catalog
{
	my ($db) = @_;
	return $server->ask(<<'SQL', $db);
SELECT format('%s %s | %s | %s', i.type, i.identity,
	CASE i.type
		WHEN 'function' THEN pg_get_functiondef(d.objid)
		WHEN 'view' THEN pg_get_viewdef(d.objid)
		WHEN 'table' THEN (SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull), ', ' ORDER BY attnum)
			FROM pg_attribute WHERE attrelid = d.objid AND attnum > 0 AND NOT attisdropped)
			|| (SELECT coalesce(string_agg(pg_get_indexdef(indexrelid), ', ' ORDER BY indexrelid::regclass::text), '') FROM pg_index WHERE indrelid = d.objid)
			|| (SELECT coalesce(string_agg(pg_get_constraintdef(oid), ', ' ORDER BY conname), '') FROM pg_constraint WHERE conrelid = d.objid)
			|| (SELECT coalesce(string_agg(pg_get_triggerdef(oid), ', ' ORDER BY tgname), '') FROM pg_trigger WHERE tgrelid = d.objid)
	END,
	obj_description(d.objid, d.classid::regclass::name))
FROM pg_depend d, pg_identify_object(d.classid, d.objid, d.objsubid) i
WHERE d.refclassid = 'pg_extension'::regclass AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'eda') AND d.deptype = 'e'
ORDER BY i.type, i.identity
SQL
}

$server->ask('CREATE DATABASE fresh');
$server->ask('CREATE EXTENSION eda', 'fresh');
$server->ask('CREATE DATABASE upgraded');
$server->ask("CREATE EXTENSION eda VERSION '$versions[0]'; ALTER EXTENSION eda UPDATE", 'upgraded');
is(catalog('upgraded'), catalog('fresh'), "from $versions[0] to $versions[-1]");

done_testing();
