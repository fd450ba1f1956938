#!/usr/bin/env bash
# Install with apt what building and testing need and this machine lacks (Debian, Ubuntu).
# Prints nothing and asks no network when all is there.
#
#	test/install-deps.sh [--list] [NAME...]
#
# NAME: "pgtap"; "gateway", for building the gateway; "browser", for testing its page; or any
# package.  --list: do not install, print the packages that are missing.  Where a system has
# no package for "pgtap" or "browser", as Ubuntu has none for the latter, this goes without it,
# and so do the tests.
set -euo pipefail
cd "$(dirname "$0")/.."

list=
[ "${1:-}" != --list ] || { list=1; shift; }

packages=(make gcc libc6-dev libpq-dev libnats-dev libjansson-dev libipc-run-perl procps util-linux)

installed() { [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]; }

# Whether apt knows a package that it could install.
offered() { [ -n "$(apt-cache --no-all-versions show "$1" 2>/dev/null | sed -n 's/^Filename: //p')" ]; }

# Packages that are left out where apt knows others, but not them.
optional() {
	local package
	for package in "$@"; do
		if installed "$package" || offered "$package" || ! offered postgresql; then packages+=("$package"); fi
	done
}

# The PostgreSQL of this system (Debian 12: 15, Ubuntu 24.04: 16), unless PG_MAJOR names another.
major=${PG_MAJOR:-}
if [ -z "$major" ]; then
	offered postgresql || apt-get update -qq
	major=$(apt-cache depends postgresql | sed -n 's/.*Depends: postgresql-\([0-9][0-9]*\)$/\1/p' | head -n 1)
fi
packages+=("postgresql-$major" "postgresql-server-dev-$major")

for name in "$@"; do
	case $name in
		pgtap) optional "postgresql-$major-pgtap" ;;
		gateway) packages+=(pkg-config libwebsockets-dev libwebsockets-evlib-uv libuv1-dev libssl-dev libjs-chart.js) ;;
		browser) optional chromium ;;
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
exec test/apt-install.sh "${missing[@]}"
