#!/usr/bin/env bash
# Install packages with apt, without a question.  What apt says is shown only if it fails.
#
# When a server package of PostgreSQL is installed for the first time, Debian and Ubuntu make a
# cluster "main" for it and start that.  Nobody asked for one here, so for as long as this runs
# a file in /etc/postgresql-common/createcluster.d tells them not to.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive

folder=/etc/postgresql-common/createcluster.d
file=$folder/zz-eda.conf
log=$(mktemp)

clean_up() {
	rm -f "$file" "$log"
	rmdir --ignore-fail-on-non-empty -p "$folder" 2>/dev/null || true
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

mkdir -p "$folder"
echo 'create_main_cluster = false' >"$file"

install() {
	apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "$@" >"$log" 2>&1
}

# The package lists may name versions that are gone from the mirror, so there is a second try
# with new lists.
install "$@" || { apt-get update -q >"$log" 2>&1 && install "$@"; } || { tail -n 20 "$log" >&2; exit 1; }
