# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other files
# Sourced by test/run: a folder that the tests' user can use, and a server in it.

# A copy of what the tests need, as their user may not be allowed where we are.
make_scratch() {
	scratch=$(mktemp -d /tmp/eda-test.XXXXXX)
	chmod 755 "$scratch"
	trap remove_scratch EXIT
	trap 'exit 130' INT TERM

	mkdir -p "$scratch"/{regress,isolation,results,logs,tap}
	cp -r README.md docs examples gateway sql src test expected Makefile eda.control build/install "$scratch"
	for program in nats promtool consumer; do
		[ ! -e "build/$program" ] || cp -r "build/$program" "$scratch"
	done
	flock --unlock "$build_lock"
	unpack_releases

	bindir=$("$PG_CONFIG" --bindir)
	harness=$(dirname "$("$PG_CONFIG" --pgxs)")/../test
	pg_regress=$(realpath "$harness/regress/pg_regress")
	pg_isolation_regress=$(realpath "$harness/isolation/pg_isolation_regress")
	if [ -n "${INSTALLED:-}" ]; then
		: >"$scratch/install.conf"
	else
		find_installed "$scratch/install" >"$scratch/install.conf" || die \
			"This $("$bindir/postgres" --version) finds extensions only where it is installed itself, as it has
neither the setting extension_control_path (18 and later) nor Debian's extension_destdir.
Run \"make install\", and then the tests with INSTALLED=1."
	fi
	[ "$(id -u)" != 0 ] || chown -R postgres "$scratch"
}

# The sources of the versions in sql/releases, from which the test of upgrades builds their
# libraries; where git does not know their tags, it does without.
unpack_releases() {
	local script version
	for script in sql/releases/eda--*.sql; do
		[ -e "$script" ] || continue
		version=$(basename "$script" .sql) version=${version#eda--}
		mkdir -p "$scratch/releases/$version"
		git -c safe.directory="$PWD" archive "v$version" 2>/dev/null | tar -xC "$scratch/releases/$version" 2>/dev/null ||
			rm -r "$scratch/releases/$version"
	done
}

# Stop what runs in the folder, however test/run ends, and remove it.
remove_scratch() {
	local file
	end_children $$
	while read -r file; do
		kill -QUIT "$(head -n 1 "$file")" 2>/dev/null || true
	done < <(find "$scratch" -name postmaster.pid)
	rm -rf "$scratch"
}

# End the processes below a process, the lowest first.
end_children() {
	local child
	for child in $(pgrep -P "$1"); do
		end_children "$child"
		kill "$child" 2>/dev/null || true
	done
}

# Run a command as the tests' user and with a time limit, in an environment that is the
# same for everybody.
as_tester() {
	local seconds=$1 user=() path=$PATH
	shift
	if [ "$(id -u)" = 0 ]; then
		user=(runuser -u postgres --)
		path=/usr/local/bin:/usr/bin:/bin
	fi
	"${user[@]}" env -i -C "$scratch" PATH="$bindir:$path" LC_ALL=C TZ=UTC \
		PGHOST="$scratch" PGPORT=5432 PGUSER=postgres PG_REGRESS="$pg_regress" TEMP_CONFIG="$scratch/install.conf" \
		PG_TEST_PORT_DIR="/tmp/eda-test-ports.${user[2]:-$(id -un)}" PG_TEST_TIMEOUT_DEFAULT=180 \
		TESTDIR="$scratch/tap" TESTDATADIR="$scratch/tap/tmp_check" TESTLOGDIR="$scratch/tap/tmp_check/log" \
		PERL5LIB="$harness/perl:$scratch/test/lib" EDA_SOURCE="$scratch" EDA_INSTALL="$scratch/install" \
		EDA_NATS="$scratch/nats" EDA_CONSUMER="$scratch/consumer" EDA_PROMTOOL="$scratch/promtool/promtool" \
		${RIDES:+RIDES="$RIDES"} ${FUZZ_SEED:+FUZZ_SEED="$FUZZ_SEED"} timeout -k 10 "$seconds" "$@"
}

# The server that all suites share, but for TAP tests, which have their own.
start_server() {
	as_tester 60 initdb -D "$scratch/data" -U postgres -A trust --encoding UTF8 --no-locale --no-sync --no-instructions \
		>"$scratch/logs/initdb"
	cat "$scratch/install.conf" - >>"$scratch/data/postgresql.conf" <<-CONF
		shared_preload_libraries = 'eda'
		listen_addresses = ''
		unix_socket_directories = '$scratch'
		fsync = off
		eda.max_databases = 8
		eda.lock_wait = '60 s'
		max_prepared_transactions = 10
		log_line_prefix = '%m [%p] %b %d '
	CONF
	as_tester 60 pg_ctl -D "$scratch/data" -l "$scratch/logs/server" -w start >/dev/null
}

stop_server() {
	as_tester 60 pg_ctl -D "$scratch/data" -m fast -w stop >/dev/null
}
