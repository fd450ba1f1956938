#!/usr/bin/env bash
# Run the whole test suite on another Debian, and so on another PostgreSQL.
#
#	test/run-on.sh SUITE	bookworm (15), trixie (17), sid (18)
#
# Makes a bare system of that suite in build/SUITE, copies the working tree into it
# and runs `make check` there, with mounts and processes of its own.  Needs root,
# debootstrap and a few minutes.  build/SUITE can be kept, and is used again.
set -euo pipefail
cd "$(dirname "$0")/.."

suite=${1:?which suite?}
root=$PWD/build/$suite
# shellcheck source=test/newer-apt.sh
. test/newer-apt.sh
mirror=$(debian_mirror)

if [ ! -e "$root/ready" ]; then
	rm -rf "$root"
	mkdir -p "$root"
	debootstrap --variant=minbase --include=ca-certificates "$suite" "$root" "$mirror" >"$root.log" ||
		{ tail -n 20 "$root.log"; exit 1; }
	touch "$root/ready"
fi
# A mirror may be behind the date until which it vouches for its lists.
echo 'Acquire::Check-Valid-Until "false";' >"$root/etc/apt/apt.conf.d/eda"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
rm -rf "$root/root/eda"
mkdir -p "$root/root/eda"
git ls-files -co --exclude-standard -z | xargs -0 cp --parents -t "$root/root/eda"

# shellcheck disable=SC2016 # expanded inside
unshare --mount --pid --fork bash -c '
	mount --make-rprivate /
	mount -t proc proc "$1/proc"
	mount --rbind /dev "$1/dev"
	mount -t tmpfs -o mode=1777 shm "$1/dev/shm"
	exec chroot "$1" env -i HOME=/root TERM=dumb PATH=/usr/sbin:/usr/bin:/sbin:/bin WERROR=1 bash -c "
		apt-get update -qq && apt-get install -y -qq --no-install-recommends make >/dev/null 2>&1
		make --no-print-directory -C /root/eda check"
' bash "$root" </dev/null
