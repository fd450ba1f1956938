# shellcheck shell=bash
# Sourced: an apt of its own that knows newer suites of Debian, in a folder; the apt of the
# machine stays as it is.
#
#	newer_apt FOLDER SUITE...	from here on apt-get works there, until APT_CONFIG is unset
#	debian_mirror			where packages come from

# The Debian mirror that this machine uses; empty where the machine is not a Debian.
debian_mirror() {
	apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(REPO_URI)' |
		sed -n 's/^Debian main //p' | grep -v -- -security | head -n 1 || true
}

newer_apt() {
	local folder=$1 mirror suite
	shift
	mirror=$(debian_mirror)
	mkdir -p "$folder"/{etc,state/lists/partial,cache/archives/partial,none}
	: >"$folder/state/status"
	for suite in "$@"; do
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main"
	done >"$folder/etc/sources.list"
	# A mirror that does not answer is not waited for.
	cat >"$folder/apt.conf" <<-CONF
		Dir::Etc "$folder/etc";
		Dir::Etc::sourceparts "$folder/none";
		Dir::Etc::preferencesparts "$folder/none";
		Dir::State "$folder/state";
		Dir::State::status "$folder/state/status";
		Dir::Cache "$folder/cache";
		Acquire::Languages "none";
		Acquire::Check-Valid-Until "false";
		Acquire::http::Timeout "30";
		Acquire::Retries "2";
		Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
		Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
		APT::Sandbox::User "root";
		Dir::Etc::parts "$folder/none";
	CONF
	export APT_CONFIG=$folder/apt.conf
	apt-get update -qq || echo "not all of these suites can be read now: $*"
}
