#!/bin/bash
#
# demo.sh
#	Rides from request to payment, on a server that this script starts and removes again.
#
#	make demo			new rides and the dashboard, until Ctrl-C
#	make demo RIDES=20	twenty rides to their end, and the outcome of each; exit
#						status 0 only if every ride has ended and followed the rules
#	make demo BROKER=nats ...	the workers get messages from a NATS server of the demo's own
#
# The script prints the address of a web page that shows the rides and on which one can
# request a ride (PORT=8480; a free port is chosen if that one is in use).
#
# The script installs the packages that are missing (Debian or Ubuntu, as root or with sudo), builds
# the extension, installs it into a new folder, and starts a server there, which is reachable only
# through a socket in that folder (gateway and nats-server: on ports of 127.0.0.1).  It does not
# touch other servers on the machine.
#
# The demo uses the PostgreSQL of the pg_config in the PATH.  PG_CONFIG=/path/to/pg_config chooses
# another one, and PG_MAJOR=17 another package of Debian or Ubuntu.
#
set -euo pipefail
unset MAKEFLAGS MAKELEVEL MFLAGS
for name in $(compgen -e PG); do
	[[ $name = PG_CONFIG || $name = PG_MAJOR ]] || unset "$name"
done

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
# shellcheck source=../../test/lib/postgresql.sh
. "$top/test/lib/postgresql.sh"
rides=${RIDES:-}
broker=${BROKER:-}
workers=${WORKERS:-4}
work_ms=${WORK_MS:-150}
fail=${FAIL:-0.12}
port=${PORT:-8480}

# With a locale of another character set than UTF-8, the dashboard is plain ASCII.
case "${LC_ALL:-${LC_CTYPE:-${LANG:-}}}" in
	'' | C | POSIX | *[Uu][Tt][Ff]*8*) ;;
	*) export PGCLIENTENCODING=SQL_ASCII ;;
esac

bin=
dir=
as=()	# the command that runs another one as the server's user, who cannot be root
worker=worker
worker_pids=()
publisher_pid=
nats_server=${NATS_SERVER:-}
nats_pid=
nats_url=
gateway_pid=
page=
screen=
interrupted=
installed=	# packages that were missing
installed_in=	# where the extension was installed, if not in $dir

say() { printf '%s\n' "$*" >&2; }
die() { say "demo: $*"; exit 1; }

[[ $rides =~ ^([1-9][0-9]{0,4})?$ ]] || die "RIDES must be a number from 1 to 99999, not \"$rides\""
[[ $broker =~ ^(nats)?$ ]] || die "BROKER must be \"nats\", or left out, not \"$broker\""
[[ $port =~ ^[0-9]{1,5}$ ]] || die "PORT must be a number, not \"$port\""
[[ $workers =~ ^[1-9][0-9]?$ ]] || die "WORKERS must be a number from 1 to 99, not \"$workers\""

# ------------------------------------------------------------------------
# The end: stop what was started, by pid, and remove the folder
# ------------------------------------------------------------------------

# Each process has five seconds to end by itself; then it is killed.
stop_processes() {
	local pid i
	for pid in "$@"; do
		kill "$pid" 2>/dev/null || true
	done
	for pid in "$@"; do
		for ((i = 0; i < 50; i++)); do
			kill -0 "$pid" 2>/dev/null || break
			sleep 0.1
		done
		kill -KILL "$pid" 2>/dev/null || true
	done
}

cleanup() {
	local status=$?
	trap '' INT TERM HUP
	[ -z "$screen" ] || printf '\033[?25h\033[?7h'
	if [ -n "$dir" ]; then
		[ -z "$interrupted" ] || say "" "Stopping ..."
		stop_processes $publisher_pid $gateway_pid "${worker_pids[@]}"
		if [ -s "$dir/data/postmaster.pid" ]; then
			as_server "$bin/pg_ctl" -D "$dir/data" -m fast -w -t 20 stop >/dev/null 2>&1 ||
				as_server "$bin/pg_ctl" -D "$dir/data" -m immediate -w -t 20 stop >/dev/null 2>&1 ||
				say "demo: the server in $dir does not stop; please stop it, and remove the folder"
		fi
		stop_processes $nats_pid
		if [ $status -ne 0 ] && [ -z "$interrupted" ] && [ -f "$dir/log" ]; then
			say "The last lines of the server's log:"
			tail -n 20 "$dir/log" >&2
		fi
		[ -s "$dir/data/postmaster.pid" ] || rm -rf "$dir"
		say_what_stays
	fi
	exit "$status"
}

say_what_stays() {
	say ""
	say "All servers and workers of the demo are stopped, and their data is removed.  The compiled files stay in $top."
	[ -z "$installed" ] || say "These packages were installed, and stay: $installed"
	[ -z "$installed_in" ] || say "The extension was installed into $installed_in, and stays there."
}

trap cleanup EXIT
# Ctrl-C is how a demo without end ends.
trap 'interrupted=1; [ -n "$rides" ] && exit 130; exit 0' INT
trap 'interrupted=1; exit 143' TERM HUP

# ------------------------------------------------------------------------
# What is needed
# ------------------------------------------------------------------------

# Exit with instructions if root is needed, and this is neither root nor able to use sudo.
require_root() {
	[ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null || return 0
	die "$1 needs root, and there is no sudo.
  Run \"make demo\" as root, or have this done once by somebody who is:
    $2"
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo --preserve-env=PG_CONFIG,PG_MAJOR "$@"; fi
}

# Run as the owner of the source tree, so that a build by root leaves no files that the owner
# cannot change.
as_owner() {
	local uid gid
	uid=$(stat -c %u "$top")
	gid=$(stat -c %g "$top")
	if [ "$(id -u)" = 0 ] && [ "$uid" != 0 ]; then
		setpriv --reuid "$uid" --regid "$gid" --clear-groups "$@"
	else
		"$@"
	fi
}

# Run as the user of the server, in / because that user may have no access to the current folder.
as_server() {
	(cd / && exec "${as[@]}" "$@")
}

# Install the missing packages of Debian or Ubuntu.  For a PostgreSQL that comes from no package,
# the user has to install what is needed.
install_packages() {
	local missing
	find_postgresql
	command -v dpkg-query >/dev/null || return 0
	[ -z "$PG_CONFIG" ] || [ -n "$PG_MAJOR" ] || return 0
	missing=$("$top/test/install-deps.sh" --list gateway)
	[ -n "$missing" ] || return 0
	require_root "installing $missing" "$top/test/install-deps.sh gateway"
	say "Installing $missing ..."
	as_root "$top/test/install-deps.sh" gateway 2>"$dir/apt.log" || { cat "$dir/apt.log" >&2; die "apt-get could not install these packages"; }
	installed=$missing
	find_postgresql
}

# Find the nats-server that the tests use, too; it is unpacked below build/ and not installed.
find_nats_server() {
	local candidate
	if [ -n "$nats_server" ]; then
		[ -x "$nats_server" ] || die "NATS_SERVER is \"$nats_server\", which is not a program"
		return
	fi
	if ! ls "$top"/build/nats/*/nats-server >/dev/null 2>&1; then
		say "Fetching a nats-server ..."
		as_owner "$top/test/install-nats.sh" >"$dir/nats-server.log" 2>&1 || tail -n 20 "$dir/nats-server.log" >&2
	fi
	for candidate in "$top"/build/nats/{new,old}/nats-server; do
		[ ! -x "$candidate" ] || { nats_server=$candidate; return; }
	done
	die "there is no package with a nats-server; give the path of one: NATS_SERVER=/path/to/nats-server"
}

build() {
	say "Building the extension for $("$PG_CONFIG" --version) ..."
	as_owner make -s -j "$(nproc)" -C "$top" PG_CONFIG="$PG_CONFIG" >"$dir/build.log" 2>&1 ||
		{ tail -n 30 "$dir/build.log" >&2; die "the build failed"; }
	install_extension
	as_owner make -s -j "$(nproc)" -C "$top/gateway" >"$dir/build.log" 2>&1 ||
		{ tail -n 30 "$dir/build.log" >&2; die "the gateway does not compile"; }
	make -s -C "$here" BIN="$dir" PG_CONFIG="$PG_CONFIG" "$dir/$worker" >"$dir/build.log" 2>&1 ||
		{ cat "$dir/build.log" >&2; die "the worker does not compile"; }
}

# Install the extension into the demo's folder, if this PostgreSQL can find it there, and otherwise
# among its other extensions.  Without root's rights, that works only if it is installed there already.
install_extension() {
	local lib share
	if find_installed "$dir/install" >"$dir/install.conf"; then
		make -s -C "$top" PG_CONFIG="$PG_CONFIG" DESTDIR="$dir/install" install >"$dir/build.log" 2>&1 ||
			{ tail -n 30 "$dir/build.log" >&2; die "the installation failed"; }
		return
	fi
	lib=$("$PG_CONFIG" --pkglibdir)
	share=$("$PG_CONFIG" --sharedir)/extension
	if ! cmp -s "$top/eda.so" "$lib/eda.so" || ! cmp -s "$top/eda.control" "$share/eda.control" ||
		! (cd "$top" && for f in eda--*.sql; do cmp -s "$f" "$share/$f" || exit 1; done); then
		require_root "installing the extension" "make -C $top PG_CONFIG=$PG_CONFIG all install"
		as_root make -s -C "$top" PG_CONFIG="$PG_CONFIG" install >"$dir/build.log" 2>&1 ||
			{ tail -n 30 "$dir/build.log" >&2; die "the installation failed"; }
		installed_in=$lib
	fi
}

# ------------------------------------------------------------------------
# The server and the workers
# ------------------------------------------------------------------------

start_nats() {
	local i
	say "Starting nats-server in $dir ..."
	cp "$nats_server" "$dir/nats-server"
	"${as[@]}" "$dir/nats-server" -a 127.0.0.1 -p -1 -js -sd "$dir/nats" --ports_file_dir "$dir" -l "$dir/nats.log" &
	nats_pid=$!
	for ((i = 0; i < 100; i++)); do
		nats_url=$(sed -n 's|.*"\(nats://[^"]*\)".*|\1|p' "$dir"/nats-server_*.ports 2>/dev/null | head -n 1) || true
		[ -z "$nats_url" ] || return 0
		kill -0 "$nats_pid" 2>/dev/null || break
		sleep 0.1
	done
	tail -n 20 "$dir/nats.log" >&2
	die "nats-server does not start"
}

start_server() {
	say "Starting a server in $dir ..."
	as_server "$bin/initdb" -D "$dir/data" -U postgres -A trust --locale=C --encoding=UTF8 --no-sync \
		>"$dir/initdb.log" 2>&1 || { cat "$dir/initdb.log" >&2; die "initdb failed"; }
	cat "$dir/install.conf" - >>"$dir/data/postgresql.conf" <<-CONF
		shared_preload_libraries = 'eda'
		listen_addresses = ''
		unix_socket_directories = '$dir'
		fsync = off
		log_min_messages = warning
		eda.nats_url = '$nats_url'
	CONF
	as_server "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -t 60 start >/dev/null || die "the server does not start"
	export PGHOST=$dir PGUSER=postgres PGDATABASE=ride PGOPTIONS='-c client_min_messages=warning'
	"$bin/createdb" ride
	"$bin/psql" -Xq -o /dev/null -v delivery="${broker:-pull}" -f "$here/setup.sql"
}

# The gateway serves the page and the API.  Its role may publish, work, operate and monitor.
start_gateway() {
	local i try
	cp -r "$top/gateway/eda-gateway" "$top/gateway/www" "$dir"
	for try in "$port" 0; do
		: >"$dir/gateway.out" # the background process may create it after the first look
		"${as[@]}" "$dir/eda-gateway" --db "user=ride_gateway" --www "$dir/www" --listen "127.0.0.1:$try" \
			--log-level warn >"$dir/gateway.out" 2>>"$dir/gateway.log" &
		gateway_pid=$!
		for ((i = 0; i < 300; i++)); do
			page=$(sed -n 's/.*listening on //p' "$dir/gateway.out")
			[ -z "$page" ] || return 0
			kill -0 "$gateway_pid" 2>/dev/null || break
			sleep 0.1
		done
	done
	tail -n 20 "$dir/gateway.log" >&2
	die "the gateway does not start"
}

# Start worker number $1, or start it again.
start_worker() {
	NATS_URL=$nats_url "${as[@]}" "$dir/$worker" --name "worker-$1" --work-ms "$work_ms" --fail "$fail" \
		--crash "${CRASH:-0.002}" "user=ride_worker" 2>>"$dir/workers.log" &
	worker_pids[$1]=$!
}

# Workers die at random, on purpose: their leases end, and this function starts new workers.
keep_workers() {
	local i
	for ((i = 1; i <= workers; i++)); do
		if [ -z "${worker_pids[$i]:-}" ] || ! kill -0 "${worker_pids[$i]}" 2>/dev/null; then
			start_worker "$i"
		fi
	done
}

query() { "$bin/psql" -XqAt -v ON_ERROR_STOP=1 "$@"; }

# ------------------------------------------------------------------------
# Output
# ------------------------------------------------------------------------

show_dashboard() {
	local text rows
	text=$(query -c 'SELECT * FROM eda.dashboard()') || return 0
	if [ -z "$screen" ]; then
		printf '%s\n\n' "$text"
		return
	fi
	text+=$'\n\n'" $1"
	rows=$(tput lines 2>/dev/null || echo 40)
	# Success is green and failure is red; flow types and headings are bold.
	printf '\033[H%s\033[J' "$(head -n "$((rows - 1))" <<<"$text" | sed \
		-e $'s/\\(●\\|\\*\\) engine running/\033[32m\\1\033[0m engine running/;t lamp' \
		-e $'s/\\(●\\|\\*\\) engine/\033[31m\\1\033[0m engine/;:lamp' \
		-e $'s/\\(█\\)\\+/\033[32m&\033[0m/g; s/\\(▓\\)\\+/\033[36m&\033[0m/g' \
		-e $'s/\\(▒\\)\\+/\033[34m&\033[0m/g; s/\\(░\\)\\+/\033[33m&\033[0m/g' \
		-e $'s/\\(✗\\)\\+/\033[31m&\033[0m/g; s/^ [A-Z].*$/\033[1m&/; s/$/\033[0m\033[K/')"
}

# On a terminal, clear the screen, and switch line wrap and cursor off.
open_screen() {
	if [ -t 1 ] && [ "${TERM:-dumb}" != dumb ]; then
		screen=1
		printf '\033[?7l\033[?25l\033[H\033[J'
	fi
}

run_without_end() {
	# The publisher has a role of its own, ride_app, as an application would.
	"$bin/psql" -Xq -U ride_app -o /dev/null <<-'SQL' 2>>"$dir/workers.log" &
		SELECT count(ride.request()) FROM generate_series(1, 1 + floor(random() * 3)::integer) \watch 0.7
	SQL
	publisher_pid=$!
	local look="psql -h $dir -U postgres ride"
	[ "$(id -u)" != 0 ] || [ -z "${SUDO_USER:-}" ] || look="sudo -u postgres $look"
	[ -t 1 ] || say "New rides are requested until the demo is stopped.  The page: $page/ and $page/rides; the database: $look"
	open_screen
	while :; do
		keep_workers
		show_dashboard "The page:  $page/  and  $page/rides    Ctrl-C ends the demo."$'\n'" The database:  $look"
		if [ -n "$screen" ]; then sleep 1; else sleep 5; fi
	done
}

run_to_the_end() {
	local start=$SECONDS left over bad
	local deadline=$((start + 120 + rides))
	query -U ride_app -o /dev/null -c "SELECT ride.request() FROM generate_series(1, $rides)"
	open_screen
	while :; do
		keep_workers
		left=$(query -c "SELECT count(*) FROM ride.outcome WHERE outcome = 'under way'")
		over=$((rides - left))
		if [ -n "$screen" ]; then
			show_dashboard "$over of $rides rides have ended."
		else
			say "$over of $rides rides have ended"
		fi
		[ "$left" -gt 0 ] && [ "$SECONDS" -lt "$deadline" ] || break
		sleep 1
	done
	if [ -n "$screen" ]; then
		printf '\033[?25h\033[?7h\n\n'
		screen=
	fi

	"$bin/psql" -Xq -P pager=off -P footer=off -c 'SELECT * FROM ride.outcome ORDER BY ride'
	query -c "SELECT count(*) || CASE count(*) WHEN 1 THEN ' ride: ' ELSE ' rides: ' END
		|| count(*) FILTER (WHERE outcome = 'paid') || ' paid, '
		|| count(*) FILTER (WHERE outcome NOT IN ('paid', 'under way')) || ' ended early by the rules, '
		|| count(*) FILTER (WHERE outcome = 'under way') || ' still under way after ' || $((SECONDS - start)) || ' s'
		FROM ride.outcome"
	[ -z "$broker" ] || query -c "SELECT format('%s messages went through NATS, %s were sent again',
		broker_published, broker_resent) FROM eda.engine_status"
	bad=$(query -f "$here/verify.sql")
	if [ -n "$bad" ]; then
		printf '%s\n' "These histories violate the rules:" "$bad"
		return 1
	fi
	[ "$(query -c 'SELECT count(*) FROM ride.outcome')" -eq "$rides" ] || { say "demo: not every ride that was requested has events"; return 1; }
	echo "The histories prove that every event is final and that every step was done exactly once."
}

# Not in $TMPDIR, because the server's user needs access to it, and the path of a socket must be short.
dir=$(mktemp -d /tmp/eda-demo.XXXXXX)
install_packages
[ -n "$PG_CONFIG" ] || die "there is no pg_config in the PATH; give the path of one: PG_CONFIG=/path/to/pg_config"
bin=$("$PG_CONFIG" --bindir)
[ -x "$bin/initdb" ] || die "PostgreSQL's server is missing: $bin/initdb"
if [ -n "$broker" ]; then
	worker="worker-nats"
	find_nats_server
fi
build
if [ "$(id -u)" = 0 ]; then
	as=(setpriv --reuid postgres --regid postgres --init-groups)
	chown postgres: "$dir"
fi
[ -z "$broker" ] || start_nats
start_server
start_gateway
say "The page is at $page/ and $page/rides"
keep_workers
if [ -n "$rides" ]; then run_to_the_end; else run_without_end; fi
