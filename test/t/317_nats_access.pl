# When a server refuses the engine, the status says why and events wait; a reload with the right credentials lets them go out.
use strict;
use warnings;
use EdaBroker;
use EdaNats;
use EdaNats::Credentials;
use EdaServer;
use Test::More;

EdaNats::needed();
my $server = EdaServer->start_new('access');
EdaBroker::set_up($server, 'postgres');
my $published = 0;

# Test that with these settings the broker is not ready, and events wait.
sub refused
{
	my ($name, %settings) = @_;
	my $state = delete $settings{state} || 'refused';

	# Without a broker in between, it may be in the same state as with the settings before, and
	# the engine, which logs changes, may not see that there was another one for a moment.
	$settings{nats_url} //= $server->ask('SHOW eda.nats_url');
	EdaBroker::set($server, nats_url => '');
	EdaBroker::becomes($server, 'off', "$name: there is no broker at first");
	my $offset = -s $server->logfile;
	EdaBroker::set($server, %settings);
	EdaBroker::becomes($server, $state, "$name: $state");
	$server->ask("SELECT eda.publish('T', 'refused')");
	$published++;
	isnt($server->ask('SELECT broker_error FROM eda.engine_status'), '', "$name: the status has an error");
	note($server->ask('SELECT broker_error FROM eda.engine_status'));
	cmp_ok($server->ask("SELECT count(*) FROM eda.event_state WHERE state = 'awaiting_processing'"), '>', 0, "$name: events wait");
	$server->wait_for_log(qr/broker $state/, $offset);
	is(scalar(grep { /broker $state/ } EdaBroker::log_lines($server, $offset)), 1, "$name: the log says it once");
	return;
}

# Test that with these settings the broker is ready, and all events are dispatched.
sub admitted
{
	my ($name, $nats, %settings) = @_;

	EdaBroker::set($server, %settings);
	EdaBroker::becomes($server, 'ready', "$name: admitted");
	$server->ask("SELECT eda.publish('T', 'admitted')");
	$published++;
	$server->becomes("SELECT count(*) = $published FROM eda.event_state WHERE state = 'dispatched'", "$name: all events are dispatched");
	return;
}

my %none = map { $_ => '' } qw(nats_url nats_credentials nats_tls_ca_file nats_tls_cert_file nats_tls_key_file);
for my $version (EdaNats::versions())
{
	# A user with a password
	my $nats = EdaNats->start_new("password_$version", version => $version, conf => 'authorization { user: eda, password: "se:cr/et" }',
		client => { user => 'eda', pass => 'se:cr/et' });
	refused("$version, no password", %none, nats_url => $nats->url);
	refused("$version, wrong password", nats_url => $nats->url('eda:WRONGPASS'));
	admitted("$version, password", $nats, nats_url => $nats->url('eda:se%3Acr%2Fet'));
	$nats->stop;

	# A token
	$nats = EdaNats->start_new("token_$version", version => $version, conf => 'authorization { token: "s3cr3t" }', client => { auth_token => 's3cr3t' });
	refused("$version, wrong token", %none, nats_url => $nats->url('WRONGTOKEN'));
	admitted("$version, token", $nats, nats_url => $nats->url('s3cr3t'));
	$nats->stop;

	# A user who may not publish
	$nats = EdaNats->start_new("permission_$version", version => $version, conf => <<'CONF', client => { user => 'admin', pass => 'a' });
authorization { users: [
	{ user: admin, password: a },
	{ user: reader, password: r, permissions: { publish: "nothing", subscribe: ">" } }
] }
CONF
	EdaBroker::set($server, %none, nats_url => $nats->url('reader:r'));
	$server->becomes("SELECT broker IN ('refused', 'blocked') FROM eda.engine_status", "$version: the broker is not ready for a user without permissions");
	note($server->ask('SELECT broker, broker_error FROM eda.engine_status'));
	admitted("$version, permissions", $nats, nats_url => $nats->url('admin:a'));
	$nats->stop;
}

# A server without JetStream
my $nats = EdaNats->start_new('plain', jetstream => 0);
refused('no JetStream', %none, nats_url => $nats->url);
like($server->ask('SELECT broker_error FROM eda.engine_status'), qr/JetStream/, 'no JetStream: the error says so');
$nats->stop;

# A credentials file
my ($right, $wrong) = map { EdaNats::Credentials->make } 1 .. 2;
$nats = EdaNats->start_new('credentials', conf => $right->{conf}, client => { credentials => $right });
refused('no credentials', %none, nats_url => $nats->url);
refused('other credentials', nats_credentials => $wrong->{file});
EdaBroker::set($server, nats_credentials => '/nonexistent');
$server->becomes("SELECT broker NOT IN ('off', 'ready') AND broker_error ~ 'nonexistent|file|credentials' FROM eda.engine_status", 'the error names a credentials file that does not exist');
note($server->ask('SELECT broker, broker_error FROM eda.engine_status'));
admitted('credentials', $nats, nats_credentials => $right->{file});
$nats->stop;

# TLS, with certificates of a CA of our own
my $folder = EdaNats::folder();
sub openssl { system('openssl', @_) == 0 or die "openssl @_"; }
for my $ca (qw(ca other))
{
	openssl(qw(req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2), '-subj', "/CN=$ca", '-keyout', "$folder/$ca.key", '-out', "$folder/$ca.pem");
}
PostgreSQL::Test::Utils::append_to_file("$folder/names", "subjectAltName = IP:127.0.0.1, DNS:localhost\n");
for my $name (qw(server client))
{
	openssl(qw(req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes), '-subj', "/CN=$name", '-keyout', "$folder/$name.key", '-out', "$folder/$name.csr");
	openssl(qw(x509 -req -days 2 -CAcreateserial), '-in', "$folder/$name.csr", '-CA', "$folder/ca.pem", '-CAkey', "$folder/ca.key", '-extfile', "$folder/names",
		'-out', "$folder/$name.pem");
}
for my $version (EdaNats::versions())
{
	$nats = EdaNats->start_new("tls_$version", version => $version, client => undef, conf => <<CONF);
tls { cert_file: "$folder/server.pem", key_file: "$folder/server.key", ca_file: "$folder/ca.pem", verify: true }
CONF
	(my $url = $nats->url) =~ s/^nats/tls/;
	refused("$version, TLS by a CA that we do not know", %none, nats_url => $url);
	refused("$version, TLS by another CA", nats_tls_ca_file => "$folder/other.pem");
	# The server only closes the connection, with TLS 1.3 after the handshake.
	refused("$version, TLS without our certificate", nats_tls_ca_file => "$folder/ca.pem", state => 'unreachable');
	like($server->ask('SELECT broker_error FROM eda.engine_status'), qr/certificate/, "$version, TLS without our certificate: the error asks whether the server wants one");
	admitted("$version, TLS", $nats, nats_tls_cert_file => "$folder/client.pem", nats_tls_key_file => "$folder/client.key");
	like(join(' ', map { $_->{tls_version} || '' } grep { ($_->{name} || '') =~ /^eda/ } @{ $nats->monitor('connz')->{connections} }), qr/^1\.[23]$/, 'the connection is encrypted');
	admitted("$version, a CA file is enough to ask for TLS", $nats, nats_url => $nats->url);
	like(join(' ', map { $_->{tls_version} || '' } grep { ($_->{name} || '') =~ /^eda/ } @{ $nats->monitor('connz')->{connections} }), qr/^1\.[23]$/, 'that connection is encrypted too');
	$nats->stop;
}

# No secret is in the log or in the status.  (PostgreSQL itself logs the settings that a reload
# changes.)
my $told = PostgreSQL::Test::Utils::slurp_file($server->logfile) . $server->ask('SELECT s::text FROM eda.engine_status s');
$told =~ s/^.* parameter "eda\.nats_url" changed to .*$//mg;
unlike($told, qr/$_/, "\"$_\" is in neither") for 'WRONGPASS', 'cr%2Fet', 'cr/et', 'WRONGTOKEN', 's3cr3t', $right->{seed}{user};
$server->ask("SELECT eda.cancel(id) FROM eda.event_state");
$server->ends_well;

done_testing();
