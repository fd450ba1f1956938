# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other files
# Sourced by test/run: which tests there are, and which of them were asked for.

# In the order in which they run.
suites=(regress isolation pgtap readme tap)

# The chosen tests of each suite, as paths below test/ with a space behind each.
declare -A chosen=([regress]='' [isolation]='' [pgtap]='' [readme]='' [tap]='')

# Every test, as a path below test/.
all_tests() {
	(cd test && printf '%s\n' sql/*.sql specs/*.spec pgtap/*.sql readme.t t/*.pl)
}

suite_of() {
	case $1 in
		sql/*) echo regress ;;
		specs/*) echo isolation ;;
		pgtap/*) echo pgtap ;;
		t/*) echo tap ;;
		*) echo readme ;;
	esac
}

# The sentence at the head of a test: its first comment lines, up to a full stop or an empty line.
sentence_of() {
	sed -nE '/^#!/d; s/^(#|--) ?//; t text
		q
		:text
		/^$/q
		p
		/[.!?]$/q' "test/$1" | paste -sd ' '
}

list_tests() {
	local test
	for test in $(all_tests); do
		printf '%-28s %s\n' "$test" "$(sentence_of "$test")"
	done
}

# Fill "chosen" from names of suites and parts of paths.
select_tests() {
	local name test found
	[ $# -gt 0 ] || set -- "${suites[@]}"
	for name in "$@"; do
		name=${name#test/} found=
		for test in $(all_tests); do
			if [[ -v "chosen[$name]" ]]; then
				[ "$(suite_of "$test")" = "$name" ] || continue
			else
				[[ $test == *"$name"* ]] || continue
			fi
			found=1
			choose "$test"
		done
		[ -n "$found" ] || die "no test has \"$name\" in its name; make tests lists all"
	done
}

choose() {
	local suite
	suite=$(suite_of "$1")
	[[ " ${chosen[$suite]}" == *" $1 "* ]] || chosen[$suite]+="$1 "
}
