#!/usr/bin/env bash
# Put two nats-servers under build/nats: old/nats-server, of this machine's Debian, and
# new/nats-server, of the newest Debian, which has message TTL (2.11 or later).
#
# Unpacked, not installed: the package would start a service on every address.  Prints
# nothing and asks no network when both are there.  Exits 0 without "new" where it cannot
# be had, and says so; tests then leave out what needs it.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=test/newer-apt.sh
. test/newer-apt.sh

folder=$PWD/build/nats

version() { "$1" --version | sed -n 's/.*v\([0-9][0-9.]*\).*/\1/p'; }
has() { [ -x "$folder/$1/nats-server" ]; }

# Unpack the package that apt-get knows; which one depends on APT_CONFIG.
unpack() {
	local scratch
	scratch=$(mktemp -d "$folder/XXXXXX")
	if (cd "$scratch" && apt-get download -qq nats-server) &&
		dpkg-deb -x "$scratch"/nats-server_*.deb "$scratch/root" &&
		version "$scratch/root/usr/sbin/nats-server" >/dev/null; then
		mkdir -p "$folder/$1"
		install -m 755 "$scratch/root/usr/sbin/nats-server" "$folder/$1/nats-server.part"
		mv "$folder/$1/nats-server.part" "$folder/$1/nats-server"
	fi
	rm -rf "$scratch"
	has "$1"
}

if has old && has new; then exit 0; fi
mkdir -p "$folder"
exec 9>"$folder/lock"
flock 9

# A second try with a new package list: the old one may name a version that is gone.
has old || unpack old 2>/dev/null || { apt-get update -qq && unpack old; } || echo "this Debian has no nats-server"
if ! has new; then
	newer_apt "$folder/apt" sid
	unpack new || true
	if has new && ! dpkg --compare-versions "$(version "$folder/new/nats-server")" ge 2.11; then
		has old || mv "$folder/new" "$folder/old"
		rm -rf "$folder/new"
	fi
	has new || echo "no nats-server with message TTL (2.11 or later) can be had now: what needs it is not tested"
	rm -rf "$folder/apt"
fi
if ! has old; then
	has new || { echo "no nats-server can be had" >&2; exit 1; }
	mkdir -p "$folder/old"
	cp -p "$folder/new/nats-server" "$folder/old/nats-server"
fi
