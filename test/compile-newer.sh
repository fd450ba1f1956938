#!/usr/bin/env bash
# Compile the sources, warnings as errors, against newer versions of PostgreSQL and nats.c.
#
# Only the headers are needed: they are taken from Debian's newer suites into
# build/newer, with an apt state of their own, and nothing is installed.  Debian
# has PostgreSQL 17 and nats.c 3.10 in trixie, 18 and the newest nats.c in sid, and
# PostgreSQL 19 in experimental.  No suite of Debian has PostgreSQL 16.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/build/newer
# shellcheck source=test/newer-apt.sh
. test/newer-apt.sh
newer_apt "$folder" trixie sid experimental

# Their libc has these, and PostgreSQL's headers rely on it; this machine's may be older.
cat >"$folder/libc.h" <<'C'
#include <stddef.h>
extern size_t strlcpy(char *, const char *, size_t);
extern size_t strlcat(char *, const char *, size_t);
C

passed=0 failed=0 skipped=0

# Unpack a package's headers.
fetch() {
	local package=$1 name=$2
	rm -rf "${folder:?}/$name"
	if ! (cd "$folder/cache" && rm -f -- *.deb && apt-get download -qq "$package"); then
		echo "$name: no longer in these suites"
		skipped=$((skipped + 1))
		return 1
	fi
	dpkg-deb -x "$folder"/cache/*.deb "$folder/$name"
}

# Compile objects with some flags in front, and say how that went.
compile() {
	local what=$1 objects=$2 status=ok object
	shift 2
	for object in $objects; do
		# shellcheck disable=SC2046 # flags are words
		gcc -c -O2 -fPIC $(make -s print-WARNINGS) -Werror -Isrc -D_GNU_SOURCE "$@" -o /dev/null "${object%.o}.c" || status=FAILED
	done
	echo "$what: $status"
	if [ $status = ok ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

objects=$(make -s print-OBJS)
for major in 17 18 19; do
	fetch "postgresql-server-dev-$major" "postgresql-$major" || continue
	include=$folder/postgresql-$major/usr/include/postgresql/$major/server
	compile "PostgreSQL $(sed -n 's/^#define PG_VERSION "\(.*\)"/\1/p' "$include/pg_config.h")" "$objects" \
		-include "$folder/libc.h" -I"$include"
done
for suite in trixie sid; do
	fetch "libnats-dev/$suite" "nats-$suite" || continue
	include=$folder/nats-$suite/usr/include
	compile "nats.c $(sed -n 's/^#define NATS_VERSION_STRING *"\(.*\)"/\1/p' "$include/nats/version.h")" \
		"$(tr ' ' '\n' <<<"$objects" | grep '^src/broker/')" -I"$include" -I"$include/nats"
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
