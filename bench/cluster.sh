# shellcheck shell=bash
# cluster.sh
#	Starts a server with eda for one measurement; the scripts of this folder source it.
#
#	cluster_start [SETTING=VALUE ...]	start it, with a database "bench" that has eda
#	as_server PROGRAM ...				run a program as the user of the server
#	cluster_build FILE.c [-lLIB ...]	compile a client, and print the path of the program
#
# Settings are PostgreSQL's defaults (so commits are flushed to disk), but for those
# given.  The folder is in $BENCH_DIR, or /tmp.  Server and folder are gone when the
# script ends, however it ends.

set -euo pipefail

bench_source=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
pg_config=${PG_CONFIG:-$(command -v pg_config || ls /usr/lib/postgresql/*/bin/pg_config | tail -n 1)}
bindir=$("$pg_config" --bindir)
dir=

as_server() {
	if [ "$(id -u)" = 0 ]; then
		runuser -u postgres -- env PATH="$bindir:/usr/bin:/bin" PGHOST="$dir" PGPORT=5432 PGUSER=bench PGDATABASE=bench "$@"
	else
		env PATH="$bindir:$PATH" PGHOST="$dir" PGPORT=5432 PGUSER=bench PGDATABASE=bench "$@"
	fi
}

cluster_stop() {
	[ -n "$dir" ] || return 0
	if [ -f "$dir/data/postmaster.pid" ]; then
		(cd / && as_server pg_ctl -D "$dir/data" -m fast -w stop >/dev/null) || true
	fi
	rm -rf "$dir"
	dir=
}
trap cluster_stop EXIT
trap 'exit 130' INT TERM

cluster_start() {
	local setting
	if [ ! -f "$("$pg_config" --pkglibdir)/eda.so" ]; then
		echo "eda is not installed for $("$pg_config" --version); run: make && make install" >&2
		exit 1
	fi
	dir=$(mktemp -d "${BENCH_DIR:-/tmp}/eda-bench.XXXXXX")
	[ "$(id -u)" != 0 ] || chown postgres "$dir"
	cd "$dir"
	as_server initdb -D "$dir/data" -U bench -A trust -E UTF8 --locale=C.UTF-8 --no-instructions >/dev/null
	{
		echo "shared_preload_libraries = 'eda'"
		echo "listen_addresses = ''"
		echo "unix_socket_directories = '$dir'"
		for setting in "$@"; do
			echo "${setting%%=*} = '${setting#*=}'"
		done
	} >>"$dir/data/postgresql.conf"
	as_server pg_ctl -D "$dir/data" -l "$dir/log" -w start >/dev/null || { cat "$dir/log" >&2; exit 1; }
	as_server createdb -O bench bench
	as_server psql -Xqc 'CREATE EXTENSION eda'
	echo "# $("$pg_config" --version), $(nproc) x $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), eda $(as_server psql -XAtqc 'SELECT eda.library_version()')"
}

cluster_build() {
	local program
	program=$dir/$(basename "$1" .c)
	${CC:-cc} -O2 -Wall -Wextra -o "$program" "$bench_source/$1" -I"$("$pg_config" --includedir)" \
		-L"$("$pg_config" --libdir)" -lpq -lpthread "${@:2}"
	echo "$program"
}
