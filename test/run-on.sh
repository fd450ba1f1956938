#!/usr/bin/env bash
# Run the tests, or another command, on another Debian, and so with another PostgreSQL.
#
#	test/run-on.sh SYSTEM [COMMAND...]
#
# SYSTEM    bookworm (Debian 12, PostgreSQL 15), trixie (Debian 13, PostgreSQL 17),
#           sid (PostgreSQL 18), or experimental: sid with the newest PostgreSQL that Debian's
#           experimental suite has (19)
# COMMAND   what to run there, from the top of the tree; "make check" where none is given,
#           or for instance: make demo RIDES=20
#
# This makes a bare system in build/SYSTEM, copies the working tree into it, and runs the
# command there as root, with mounts and processes of its own.  It needs root, a few minutes,
# and debootstrap, which it installs where it is missing.  A system that has been made is
# used again the next time, with the packages that it has by then; build/SYSTEM can be
# removed at any time.
#
# Where the system cannot be made, because its mirror cannot be read or has packages that do
# not fit together now, the last line says so and the exit status is 75.
set -euo pipefail
cd "$(dirname "$0")/.."

system=${1:?which system?}
shift
[ $# -gt 0 ] || set -- make --no-print-directory check
root=$PWD/build/$system
# shellcheck source=test/newer-apt.sh
. test/newer-apt.sh

# The system cannot be had.
skip() {
	[ ! -s "$root.log" ] || tail -n 20 "$root.log"
	echo "$system: $1, so nothing was run there"
	echo "0 passed, 0 failed, 1 skipped"
	exit 75
}

say() { printf '\n== %s: %s (%d s)\n' "$system" "$*" "$SECONDS"; }

# ------------------------------------------------------------------------
# A bare system
# ------------------------------------------------------------------------

choose_mirror() {
	sources=()
	mirror=$(debian_mirror)
	[ -n "$mirror" ] || skip "this machine knows no mirror of Debian"
	case $system in
		experimental)
			suite=sid
			sources=("deb $mirror sid main" "deb $mirror experimental main")
			;;
		*)
			suite=$system
			;;
	esac
}

make_system() {
	say "a bare system from $mirror"
	command -v debootstrap >/dev/null || { apt-get update -qq && apt-get install -y -qq --no-install-recommends debootstrap; } \
		>"$root.log" 2>&1 || skip "debootstrap cannot be installed"
	rm -rf "$root"
	mkdir -p "$root"
	timeout 600 debootstrap --variant=minbase --include=ca-certificates \
		"$suite" "$root" "$mirror" >"$root.log" 2>&1 || skip "debootstrap cannot make it from $mirror"
	[ ${#sources[@]} = 0 ] || printf '%s\n' "${sources[@]}" >"$root/etc/apt/sources.list"
	# A mirror may be behind the date until which it vouches for its lists, and one that does not
	# answer is not to be waited for.
	cat >"$root/etc/apt/apt.conf.d/eda" <<-CONF
		Acquire::Check-Valid-Until "false";
		Acquire::http::Timeout "30";
		Acquire::Retries "2";
	CONF
	touch "$root/ready"
}

# ------------------------------------------------------------------------
# What is done in it
# ------------------------------------------------------------------------

# Run a command in the system, as its root.
inside() {
	# shellcheck disable=SC2016 # expanded inside
	unshare --mount --pid --fork --kill-child bash -c '
		root=$1
		shift
		mount --make-rprivate /
		mount -t proc proc "$root/proc"
		mount --rbind /dev "$root/dev"
		mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
		exec chroot "$root" env -i HOME=/root TERM=dumb PATH=/usr/sbin:/usr/bin:/sbin:/bin \
			DEBIAN_FRONTEND=noninteractive NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt \
			"$@"' bash "$root" "$@" </dev/null
}

# Of a package in experimental apt takes nothing on its own, so the newest PostgreSQL is told to it.
choose_postgresql() {
	major=$(inside apt-cache pkgnames postgresql- | sed -n 's/^postgresql-\([0-9]*\)$/\1/p' | sort -n | tail -n 1)
	printf '%s\n' "Package: src:postgresql-$major" "Pin: release a=experimental" "Pin-Priority: 990" \
		>"$root/etc/apt/preferences.d/eda"
}

# Debian builds no pgTAP for a PostgreSQL in experimental.  What it has for another is the same SQL.
borrow_pgtap() {
	# shellcheck disable=SC2016 # expanded inside
	inside bash -ec '
		folder=/usr/share/postgresql/$1/extension
		[ ! -e "$folder/pgtap.control" ] || exit 0
		package=$(apt-cache pkgnames postgresql- | grep -x "postgresql-[0-9]*-pgtap" | sort -V | tail -n 1)
		cd "$(mktemp -d)"
		apt-get download -qq "$package"
		dpkg-deb -x "$package"_*.deb .
		mkdir -p "$folder"
		cp usr/share/postgresql/*/extension/pgtap* "$folder"' bash "$major"
}

# The files of a checkout that git knows or does not ignore; without git, all but build/.
list_tree() {
	git -c safe.directory='*' ls-files -co --exclude-standard -z 2>/dev/null ||
		find . -path ./build -prune -o \( -type f -o -type l \) -print0
}

copy_tree() {
	rm -rf "$root/root/eda"
	mkdir -p "$root/root/eda"
	list_tree | xargs -0 cp -P --parents -t "$root/root/eda"
}

# Run a command in the copy of the tree.
in_tree() {
	inside env ${major:+PG_MAJOR="$major"} bash -c 'cd /root/eda && exec "$@"' bash "$@"
}

choose_mirror
[ -e "$root/ready" ] || make_system
cp /etc/resolv.conf /etc/hosts "$root/etc/"
# The system trusts whom this machine trusts: a proxy on the way to npm's registry, perhaps.
cp /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/"

say "its packages"
inside apt-get update -qq >"$root.log" 2>&1 || skip "the lists of its packages cannot be read"
major=
packages=(make)
if [ "$system" = experimental ]; then
	choose_postgresql
	borrow_pgtap >"$root.log" 2>&1 || skip "no package has pgTAP"
	# pkg-config wants it to be there for libpq 19, whose package does not ask for it.
	packages+=(libcurl4-openssl-dev)
fi
inside apt-get install -y -qq --no-install-recommends "${packages[@]}" >"$root.log" 2>&1 ||
	skip "${packages[*]} cannot be installed"
copy_tree
case $system in
	sid | experimental)
		# These change every day, and may have packages that cannot be installed together.
		in_tree test/install-deps.sh pgtap gateway browser nodejs npm >"$root.log" 2>&1 ||
			skip "its packages cannot be installed"
		;;
esac

say "$*"
in_tree env WERROR=1 "$@"
