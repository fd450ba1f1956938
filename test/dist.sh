#!/usr/bin/env bash
# META.json is right, and what `make dist` packs has the tracked files, no others, and builds.
#
# Installs what is missing (Debian).  The last line is "N passed, N failed".
set -uo pipefail
cd "$(dirname "$0")/.." || exit

test/install-deps.sh git python3-jsonschema unzip || exit
passed=0 failed=0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Count a command as a test, by its exit status; tell what it printed if it failed.
check() {
	local what=$1
	shift
	if "$@" >"$folder/output" 2>&1; then
		passed=$((passed + 1))
		echo "ok - $what"
	else
		failed=$((failed + 1))
		echo "not ok - $what"
		tail -n 20 "$folder/output" | sed 's/^/#   /'
	fi
}

same_files() {
	diff <(git -c safe.directory="$PWD" ls-tree -r --name-only HEAD | sort) \
		<(cd "$folder/$name" && find . \( -type f -o -type l \) | sed 's|^\./||' | sort)
}

check "META.json, and what is refused of it" test/meta.py
rm -f build/eda-*.zip
check "make dist" make --no-print-directory dist
name=$(basename build/eda-*.zip .zip)
check "it unpacks" unzip -q "build/$name.zip" -d "$folder"
check "into one folder, with its name and version" test "$(ls -A "$folder")" = "$name"$'\n'output
check "it has the tracked files, and no others" same_files
check "it builds" make --no-print-directory -C "$folder/$name" -j "$(nproc)"
check "it installs" make --no-print-directory -C "$folder/$name" install DESTDIR="$folder/root"
for file in eda.so eda.control "eda--$(sed -n "s/^default_version = '\(.*\)'/\1/p" eda.control).sql"; do
	check "it installs $file" grep -q . <(find "$folder/root" -name "$file")
done

echo "$passed passed, $failed failed"
[ $failed = 0 ]
