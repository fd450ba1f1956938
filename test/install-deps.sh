#!/usr/bin/env bash
# Install with apt what building and testing need and this machine lacks.  Prints nothing and
# asks no network when all is there.
#
#	test/install-deps.sh [--list] [NAME...]
#
# NAME: "pgtap"; "gateway", for building the gateway; "browser", for testing its page; or any
# package.  --list: do not install, print the packages that are missing.
set -euo pipefail

list=
[ "${1:-}" != --list ] || { list=1; shift; }

packages=(make gcc libc6-dev libpq-dev libnats-dev libjansson-dev libipc-run-perl procps util-linux)

installed() { [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]; }

# The PostgreSQL of this Debian (12: PostgreSQL 15), unless PG_MAJOR names another.
major=${PG_MAJOR:-}
if [ -z "$major" ]; then
	[ -n "$(apt-cache depends postgresql 2>/dev/null)" ] || apt-get update -qq
	major=$(apt-cache depends postgresql | sed -n 's/.*Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -n 1)
fi
packages+=("postgresql-$major" "postgresql-server-dev-$major")

for name in "$@"; do
	case $name in
		pgtap) packages+=("postgresql-$major-pgtap") ;;
		gateway) packages+=(pkg-config libwebsockets-dev libwebsockets-evlib-uv libuv1-dev libssl-dev libjs-chart.js) ;;
		browser) packages+=(chromium) ;;
		*) packages+=("$name") ;;
	esac
done

missing=()
for package in "${packages[@]}"; do
	installed "$package" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0
[ -z "$list" ] || { echo "${missing[*]}"; exit; }

echo "installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive
# A second try with a new package list: the old one may name versions that are gone.
install() { apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null; }
install 2>/dev/null || { apt-get update -qq && install; }
