# Keys and claims of NATS: an operator, an account and a user, as the tool nsc would make them.
package EdaNats::Credentials;

use strict;
use warnings;

use Digest::SHA;
use File::Spec;
use JSON::PP;
use MIME::Base64 qw(encode_base64url);
use PostgreSQL::Test::Utils ();

my $json = JSON::PP->new->utf8->canonical;

# Make keys and claims in a folder: {conf} is for the server's configuration, {file} for the
# setting eda.nats_credentials.
sub make
{
	my ($class) = @_;
	my $self = bless { folder => File::Spec->rel2abs(PostgreSQL::Test::Utils::tempdir()) }, $class;
	my %all = map { $_ => -1 } qw(subs data payload imports exports conn leaf);
	my %jetstream = map { $_ => -1 } qw(mem_storage disk_storage streams consumer max_ack_pending);

	$self->key($_->[0], $_->[1]) for [ operator => 14 ], [ account => 0 ], [ system => 0 ], [ user => 20 ];
	my $operator = $self->claims('operator', 'operator', { type => 'operator', version => 2 });
	my $account = $self->claims('account', 'operator', { type => 'account', version => 2, limits => { %all, %jetstream, wildcards => JSON::PP::true } });
	my $system = $self->claims('system', 'operator', { type => 'account', version => 2, limits => { %all, wildcards => JSON::PP::true } });
	$self->{jwt} = $self->claims('user', 'account', { type => 'user', version => 2, subs => -1, data => -1, payload => -1, pub => {}, sub => {} });
	$self->{conf} = <<CONF;
operator: $operator
system_account: $self->{public}{system}
resolver: MEMORY
resolver_preload: { $self->{public}{account}: $account, $self->{public}{system}: $system }
CONF
	$self->{file} = "$self->{folder}/user.creds";
	PostgreSQL::Test::Utils::append_to_file($self->{file}, <<CREDS);
-----BEGIN NATS USER JWT-----
$self->{jwt}
------END NATS USER JWT------

-----BEGIN USER NKEY SEED-----
$self->{seed}{user}
------END USER NKEY SEED------
CREDS
	return $self;
}

# The fields of CONNECT with which EdaNats::Client answers the server's nonce.
sub answer
{
	my ($self, $nonce) = @_;
	return (jwt => $self->{jwt}, sig => encode_base64url($self->signature('user', $nonce)));
}

sub openssl
{
	my (@args) = @_;
	open my $pipe, '-|', 'openssl', @args or die "openssl: $!";
	binmode $pipe;
	my $out = do { local $/; <$pipe> };
	close $pipe or die "openssl @args failed";
	return $out;
}

sub key
{
	my ($self, $name, $kind) = @_;
	my $file = "$self->{folder}/$name.pem";
	my $prefix = $kind << 3;

	openssl('genpkey', '-algorithm', 'ed25519', '-out', $file);
	my $seed = substr openssl('pkey', '-in', $file, '-outform', 'DER'), -32;
	my $public = substr openssl('pkey', '-in', $file, '-pubout', '-outform', 'DER'), -32;
	$self->{public}{$name} = checked(chr($prefix) . $public);
	$self->{seed}{$name} = checked(chr(18 << 3 | $prefix >> 5) . chr(($prefix & 31) << 3) . $seed);
	return;
}

sub signature
{
	my ($self, $name, $text) = @_;
	my $file = "$self->{folder}/signed";

	open my $out, '>', $file or die "$file: $!";
	print $out $text;
	close $out;
	return openssl('pkeyutl', '-sign', '-rawin', '-inkey', "$self->{folder}/$name.pem", '-in', $file);
}

sub claims
{
	my ($self, $name, $issuer, $nats) = @_;
	my $claims = { iat => time, iss => $self->{public}{$issuer}, sub => $self->{public}{$name}, name => $name, nats => $nats };

	$claims->{jti} = base32(Digest::SHA::sha256($json->encode($claims)));
	my $text = encode_base64url('{"typ":"JWT","alg":"ed25519-nkey"}') . '.' . encode_base64url($json->encode($claims));
	return $text . '.' . encode_base64url($self->signature($issuer, $text));
}

# Bytes with a checksum (CRC-16, XMODEM) and in base 32, as NATS writes keys.
sub checked
{
	my ($bytes) = @_;
	my $crc = 0;

	for my $byte (unpack 'C*', $bytes)
	{
		$crc ^= $byte << 8;
		$crc = ($crc & 0x8000 ? $crc << 1 ^ 0x1021 : $crc << 1) & 0xffff for 1 .. 8;
	}
	return base32($bytes . pack 'v', $crc);
}

sub base32
{
	my ($bytes) = @_;
	my $bits = unpack 'B*', $bytes;

	$bits .= '0' x (-length($bits) % 5);
	return join '', map { ('A' .. 'Z', 2 .. 7)[ oct "0b$_" ] } $bits =~ /.{5}/g;
}

1;
