# shellcheck shell=bash disable=SC2034,SC2154 # variables of the other files
# Sourced by test/run: how the tests of each suite are run and counted.  Every test, or
# suite, leaves "passed failed" in the file results/NAME of the scratch folder.

run_suite() {
	local tests
	read -ra tests <<<"${chosen[$1]}"
	if [ "$1" = tap ]; then
		check_log
		run_tap "${tests[@]}"
	else
		say "$1"
		[ -e "$scratch/data" ] || start_server
		"run_$1" "${tests[@]}"
	fi
}

# ------------------------------------------------------------------------
# pg_regress and pg_isolation_regress
# ------------------------------------------------------------------------

# "setup" comes first and "moves" last; for "moves" alone, all others have to run.
run_regress() {
	local names=() moves=
	[[ " $* " != *" sql/moves.sql "* ]] || { set -- test/sql/*.sql; moves=moves; }
	mapfile -t names < <(printf '%s\n' "$@" | sed 's,.*/\(.*\)\.sql,\1,' | grep -vx -e setup -e moves)
	run_pg_regress regress "$pg_regress" --dbname=regress_eda setup "${names[@]}" $moves
}

run_isolation() {
	local names=()
	mapfile -t names < <(printf '%s\n' "$@" | sed 's,.*/\(.*\)\.spec,\1,' | grep -vx iso_setup)
	run_pg_regress isolation "$pg_isolation_regress" --dbname=isolation_eda --launcher="$scratch/test/mask-ids" \
		iso_setup "${names[@]}"
}

run_pg_regress() {
	local suite=$1 program=$2 out=$scratch/logs/$1 folder=$scratch/$1 passed failed
	shift 2
	as_tester "$LIMIT" "$program" --inputdir="$scratch/test" --outputdir="$folder" --bindir="$bindir" "$@" 2>&1 |
		tee "$out" || keep_differences "$suite"
	# "test name ... ok 12 ms" before PostgreSQL 16, "ok 1 - name 12 ms" since then.
	passed=$(grep -cE '^(test)? +.*\.\.\. ok |^ok [0-9]' "$out" || true)
	failed=$(grep -cE '^(test)? +.*\.\.\. FAILED|^not ok [0-9]' "$out" || true)
	[ $((passed + failed)) -gt 0 ] || failed=1
	count "$suite" "$passed" "$failed"
}

keep_differences() {
	head -n 200 "$scratch/$1/regression.diffs" 2>/dev/null || true
	keep "$1" "$scratch/$1"/{regression.diffs,results} "$scratch/logs/server"
}

# ------------------------------------------------------------------------
# Files that print TAP
# ------------------------------------------------------------------------

run_pgtap() {
	local file database
	if [ "$(ask postgres "SELECT count(*) FROM pg_available_extensions WHERE name = 'pgtap'")" = 0 ]; then
		echo "   skipped: pgtap is not installed for this PostgreSQL"
		return 0
	fi
	for file in "$@"; do
		database=pgtap_$(basename "$file" .sql)
		ask postgres "CREATE DATABASE $database"
		ask "$database" 'CREATE EXTENSION pgtap; CREATE EXTENSION eda'
		run_tap_file "$database" psql -XqAt -d "$database" -v ON_ERROR_STOP=1 -P pager=off -f "test/$file"
	done
}

# The snippets and tables of the documentation.
run_readme() {
	run_tap_file readme perl "test/$1"
}

run_tap() {
	local file
	say "tap, $JOBS at a time"
	for file in "$@"; do
		while [ "$(jobs -rp | wc -l)" -ge "$JOBS" ]; do wait -n || true; done
		run_tap_file "$(basename "$file" .pl)" perl "test/$file" &
	done
	wait
}

# Run one file that prints TAP, and say in a line how it went.
run_tap_file() {
	local name=$1 start=$SECONDS status=0 passed failed plan out=$scratch/logs/$1
	shift
	as_tester "$LIMIT" "$@" >"$out" 2>"$out.err" </dev/null || status=$?
	if grep -q '^1\.\.0 # SKIP' "$out"; then
		echo "   $name skipped: $(sed -n 's/^1\.\.0 # SKIP//p' "$out")"
		return 0
	fi
	passed=$(grep -c '^ok' "$out" || true)
	failed=$(grep -c '^not ok' "$out" || true)
	plan=$(sed -n 's/^1\.\.\([0-9]*\).*/\1/p' "$out" | tail -n 1)
	# It may have died, run out of time, or done less than it had planned.
	if [ "$failed" = 0 ] && { [ $status != 0 ] || [ "${plan:-none}" != "$passed" ]; }; then
		failed=1
	fi
	count "$name" "$passed" "$failed"
	if [ "$failed" = 0 ]; then
		echo "   $name ok ($passed tests, $((SECONDS - start)) s)"
	else
		echo "   $name FAILED (exit status $status, $passed passed, $failed failed, $((SECONDS - start)) s)"
		show_failure "$name"
	fi
}

show_failure() {
	local out=$scratch/logs/$1 logs=$scratch/tap/tmp_check/log
	{
		grep '^not ok' "$out" || true
		tail -qn 25 "$out.err" "$logs/regress_log_$1" 2>/dev/null || true
	} | cut -c 1-300 | sed 's/^/      /'
	keep . "$out" "$out.err" "$logs"/*"$1"*
}

# ------------------------------------------------------------------------
# What all suites use
# ------------------------------------------------------------------------

ask() {
	as_tester 60 psql -XqAt -d "$1" -v ON_ERROR_STOP=1 -c "$2"
}

# Copy what a failed test left behind into a folder of build/test.
keep() {
	mkdir -p "$kept/$1"
	cp -r "${@:2}" "$kept/$1" 2>/dev/null || true
}

count() {
	echo "$2 $3" >"$scratch/results/$1"
}

# After the suites that share a server: every table and index of the log is sound, in every
# database that they used.  Then the server is stopped.
check_log() {
	[ -e "$scratch/data/postmaster.pid" ] || return 0
	say "amcheck"
	if as_tester "$LIMIT" pg_amcheck --all --install-missing --heapallindexed --schema=eda; then
		count amcheck 1 0
	else
		count amcheck 0 1
	fi
	stop_server
}

# The last line, and whether all is well.
sum_up() {
	local passed=0 failed=0 result ok not_ok
	for result in "$scratch"/results/*; do
		[ -e "$result" ] || continue
		read -r ok not_ok <"$result"
		passed=$((passed + ok)) failed=$((failed + not_ok))
	done
	[ $failed = 0 ] || echo "what the failed tests left is in $kept"
	echo "$passed passed, $failed failed"
	[ $failed = 0 ]
}
