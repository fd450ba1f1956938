#!/usr/bin/env bash
# Put promtool, which checks what GET /metrics says, into build/promtool.  It comes in a
# package of its own, before Debian 14 in that of Prometheus, which is unpacked there and not
# installed: it would start a server.  Prints nothing and asks no network when it is there.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=build/promtool
[ ! -x "$folder/promtool" ] || exit 0

rm -rf "$folder"
mkdir -p "$folder/deb"
get() { (cd "$folder/deb" && for name in promtool prometheus; do ! apt-get download -qq "$name" >/dev/null 2>&1 || return 0; done; false); }
get || { apt-get update -qq && get; }
dpkg-deb -x "$folder"/deb/*.deb "$folder/root"
mv "$folder/root/usr/bin/promtool" "$folder/promtool"
rm -rf "$folder/deb" "$folder/root"
