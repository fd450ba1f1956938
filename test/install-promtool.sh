#!/usr/bin/env bash
# Put promtool, which checks what GET /metrics says, into build/promtool.  It comes in
# Debian's package of Prometheus, which is unpacked there and not installed: it would
# start a server.  Prints nothing and asks no network when it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=build/promtool
[ ! -x "$folder/promtool" ] || exit 0

rm -rf "$folder"
mkdir -p "$folder/deb"
get() { (cd "$folder/deb" && apt-get download -qq prometheus >/dev/null 2>&1); }
get || { apt-get update -qq && get; }
dpkg-deb -x "$folder"/deb/prometheus_*.deb "$folder/root"
mv "$folder/root/usr/bin/promtool" "$folder/promtool"
rm -rf "$folder/deb" "$folder/root"
