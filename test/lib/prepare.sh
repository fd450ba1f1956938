# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other files
# Sourced by test/run: installs what is missing, builds, and installs eda into build/install.

# Whether a file among the chosen tests matches a pattern.
tests_want() {
	# shellcheck disable=SC2048,SC2086 # paths without spaces
	(cd test && grep -qsE "$1" ${chosen[*]} /dev/null)
}

# Whether we can make root install something.
can_install() {
	[ "$(id -u)" = 0 ] || { [ -n "$install" ] && command -v sudo >/dev/null; }
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo --preserve-env=PG_CONFIG,PG_MAJOR "$@"; fi
}

prepare() {
	say "packages"
	find_postgresql
	install_packages
	find_postgresql
	[ -n "$PG_CONFIG" ] || die "There is no pg_config in the PATH; set PG_CONFIG to that of a PostgreSQL."
	install_programs
	say "build and install into build/install, for $("$PG_CONFIG" --version)"
	mkdir -p build
	exec {build_lock}>build/lock
	flock "$build_lock"
	build
}

# Debian's packages.  With a PostgreSQL of somebody's own making it is left to them to have
# all that is needed.
install_packages() {
	local groups=() missing
	command -v dpkg-query >/dev/null || return 0
	[ -z "$PG_CONFIG" ] || [ -n "$PG_MAJOR" ] || return 0
	[ -z "${chosen[pgtap]}" ] || groups+=(pgtap)
	if tests_want 'use EdaGateway'; then groups+=(gateway); fi
	if tests_want EDA_CHROMIUM; then groups+=(browser); fi
	missing=$(test/install-deps.sh --list "${groups[@]}")
	[ -n "$missing" ] || return 0
	can_install || die "These packages are missing: $missing
To install them, run as root: test/install-deps.sh ${groups[*]}"
	as_root test/install-deps.sh "${groups[@]}"
}

# What comes otherwise.  A test that lacks one of these is left out, and says so.
install_programs() {
	can_install || return 0
	if tests_want 'use EdaNats'; then as_root test/install-nats.sh; fi
	if tests_want EDA_PROMTOOL; then as_root test/install-promtool.sh; fi
	if tests_want 'use EdaGateway|EDA_CONSUMER'; then as_root test/install-consumer.sh; fi
}

build() {
	make --no-print-directory -s -j "$(nproc)" all
	rm -rf build/install
	make --no-print-directory -s install DESTDIR="$PWD/build/install" >/dev/null
	tests_want 'use EdaGateway' || return 0
	make --no-print-directory -s -j "$(nproc)" -C gateway
	tests_want checked_program || return 0
	make --no-print-directory -s -j "$(nproc)" -C gateway SANITIZE=1
}
