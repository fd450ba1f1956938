# Sourced: an apt of its own that knows Debian's newer suites, in a folder; the machine's stays as it is.
#
#	newer_apt FOLDER SUITE...	from here on apt-get works there, until APT_CONFIG is unset

# The mirror that this machine uses.
debian_mirror() {
	apt-get indextargets --format '$(ORIGIN) $(COMPONENT) $(REPO_URI)' |
		sed -n 's/^Debian main //p' | grep -v -- -security | head -n 1
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
	cat >"$folder/apt.conf" <<-CONF
		Dir::Etc "$folder/etc";
		Dir::Etc::sourceparts "$folder/none";
		Dir::Etc::preferencesparts "$folder/none";
		Dir::State "$folder/state";
		Dir::State::status "$folder/state/status";
		Dir::Cache "$folder/cache";
		Acquire::Languages "none";
		Acquire::Check-Valid-Until "false";
		Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
		Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
		APT::Sandbox::User "root";
		Dir::Etc::parts "$folder/none";
	CONF
	export APT_CONFIG=$folder/apt.conf
	apt-get update -qq || echo "not all of these suites can be read now: $*"
}
