# shellcheck shell=bash
# Sourced by test/run and the demo: which PostgreSQL to use, and how it finds an eda that is
# installed in a folder.

# Set PG_CONFIG, and PG_MAJOR if it is a Debian's.  The caller's PG_CONFIG or PG_MAJOR goes
# first; else it is the PostgreSQL that pg_config in the PATH belongs to.
find_postgresql() {
	if [ -z "${PG_CONFIG:-}" ]; then
		: "${PG_MAJOR:=$(pg_config --version 2>/dev/null | sed 's/[^0-9]*\([0-9]*\).*/\1/')}"
		PG_CONFIG=/usr/lib/postgresql/$PG_MAJOR/bin/pg_config
		[ -x "$PG_CONFIG" ] || PG_CONFIG=$(command -v pg_config) || PG_CONFIG=
	fi
	[[ $PG_CONFIG != /usr/lib/postgresql/* ]] || PG_MAJOR=$(cut -d / -f 5 <<<"$PG_CONFIG")
	: "${PG_MAJOR:=}"
	export PG_CONFIG PG_MAJOR
}

# Print the lines of postgresql.conf with which a server finds the eda that was installed
# with DESTDIR=$1.  This is the only place that knows which PostgreSQL can do that, and how:
# from 18 on each of them; before, Debian's.  The exit status of another one is 1.
find_installed() {
	local folder=$1 settings
	settings=$("$("$PG_CONFIG" --bindir)/postgres" --describe-config | cut -f 1)
	if grep -qx extension_control_path <<<"$settings"; then
		echo "extension_control_path = '$folder$("$PG_CONFIG" --sharedir):\$system'"
	elif grep -qx extension_destdir <<<"$settings"; then
		echo "extension_destdir = '$folder'"
	else
		return 1
	fi
	# For shared_preload_libraries, too.
	echo "dynamic_library_path = '$folder$("$PG_CONFIG" --pkglibdir):\$libdir'"
}
