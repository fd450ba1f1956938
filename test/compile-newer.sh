#!/usr/bin/env bash
# Compile the sources, warnings as errors, against newer versions of PostgreSQL.
#
# Only the headers are needed: they are taken from Debian's newer suites into
# build/newer, with an apt state of their own, and nothing is installed.  Debian
# has 17 in trixie and 18 in sid; no suite has 16.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$PWD/build/newer
# shellcheck source=test/newer-apt.sh
. test/newer-apt.sh
newer_apt "$folder" trixie sid

# Their libc has these, and PostgreSQL's headers rely on it; this machine's may be older.
cat >"$folder/libc.h" <<'C'
#include <stddef.h>
extern size_t strlcpy(char *, const char *, size_t);
extern size_t strlcat(char *, const char *, size_t);
C

passed=0 failed=0 skipped=0
for major in 17 18; do
	rm -rf "$folder/$major"
	if ! (cd "$folder/cache" && rm -f -- *.deb && apt-get download -qq "postgresql-server-dev-$major"); then
		echo "PostgreSQL $major: no longer in these suites"
		skipped=$((skipped + 1))
		continue
	fi
	dpkg-deb -x "$folder"/cache/postgresql-server-dev-"$major"_*.deb "$folder/$major"
	include=$folder/$major/usr/include/postgresql/$major/server
	status=ok
	for object in $(make -s print-OBJS); do
		# shellcheck disable=SC2046 # flags are words
		gcc -c -O2 -fPIC $(make -s print-WARNINGS) -Werror -include "$folder/libc.h" -I"$include" -o /dev/null "${object%.o}.c" || status=FAILED
	done
	echo "PostgreSQL $(sed -n 's/^#define PG_VERSION "\(.*\)"/\1/p' "$include/pg_config.h"): $status"
	if [ $status = ok ]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
