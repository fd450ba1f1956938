#!/usr/bin/env bash
# Put what test/consumer needs into build/consumer/node_modules, with npm.
# Prints nothing and asks no network when all is there.  Where npm's registry cannot be
# reached it says so, and the test that needs it is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=build/consumer

if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
	test/install-deps.sh nodejs npm
fi
# The list of what is wanted is copied last: it says that all of it is there.
if cmp -s test/consumer/package-lock.json "$folder/done"; then exit 0; fi

mkdir -p "$folder"
rm -f "$folder/done"
cp test/consumer/package.json test/consumer/package-lock.json "$folder"
if ! npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel=error \
	>"$folder/log" 2>&1; then
	tail -n 5 "$folder/log"
	echo "the packages of test/consumer cannot be had from npm now: the test with a client of npm's is left out"
	rm -rf "$folder/node_modules"
	exit 0
fi
chmod -R a+rX "$folder"
cp "$folder/package-lock.json" "$folder/done"
