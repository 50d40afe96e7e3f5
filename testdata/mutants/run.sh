#!/usr/bin/env bash
# Breaks the code on purpose, one patch at a time, and fails unless the test
# each patch names goes red. See README.md beside this file.
#
#	testdata/mutants/run.sh [NAME...]     NAME is a patch without .patch
#	MUTANT_SHARE=N testdata/mutants/run.sh     one in N of all, by the commit
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

patches=()
if [ $# -eq 0 ]; then
	shopt -s nullglob
	patches=("$here"/*.patch)
	[ ${#patches[@]} -gt 0 ] || { echo "no patches in $here" >&2; exit 1; }
	# Which share it is, the commit's hash says: another one at every landing.
	if [ "${MUTANT_SHARE:-1}" -gt 1 ]; then
		all=("${patches[@]}") patches=()
		turn=$((16#$(git -C "$root" rev-parse HEAD | cut -c 1-8)))
		for ((i = turn % MUTANT_SHARE; i < ${#all[@]}; i += MUTANT_SHARE)); do patches+=("${all[i]}"); done
		echo "${#patches[@]} of ${#all[@]} mutants, those of turn $((turn % MUTANT_SHARE)) of $MUTANT_SHARE"
	fi
else
	for name in "$@"; do
		patches+=("$here/${name%.patch}.patch")
		[ -f "${patches[-1]}" ] || { echo "no mutant ${name%.patch}; there are:" >&2; (cd "$here" && ls -- *.patch) >&2; exit 1; }
	done
fi

# header PATCH WORD prints what follows "# WORD:" before the patch's first hunk.
header() { sed -n -e '/^\(diff \|--- \)/q' -e "s/^# $2: *//p" "$1" | head -n 1; }

# One worker per processor, since much of a mutant is one linker at work. Those
# of one test stay together, so that it is seen to pass but once.
workers=${MUTANT_WORKERS:-$(getconf _NPROCESSORS_ONLN)}
if [ "$workers" -gt 1 ] && [ ${#patches[@]} -gt 1 ]; then
	declare -A worker_of=()
	shares=() next=0
	for patch in "${patches[@]}"; do
		test=$(header "$patch" test)
		[ -n "${worker_of[x$test]:-}" ] || worker_of[x$test]=$((next++ % workers))
		shares[worker_of[x$test]]+=" $(basename "$patch" .patch)"
	done
	pids=() failed=0
	for share in "${shares[@]}"; do
		# shellcheck disable=SC2086 # names of patches hold no spaces
		MUTANT_WORKERS=1 "$here/run.sh" $share &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do wait "$pid" || failed=1; done
	exit $failed
fi

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
# Neither git nor go may take the copy for part of a repository above it.
GIT_CEILING_DIRECTORIES=$(dirname "$tree")
export GIT_CEILING_DIRECTORIES
# Without paths the build cache serves every copy, and without debugging
# information linking takes half the time.
export GOFLAGS="-trimpath -ldflags=-w ${GOFLAGS:-}"

# The work tree as it stands, uncommitted changes included.
(cd "$root" && git ls-files -co --exclude-standard -z |
	while IFS= read -r -d '' f; do [ ! -e "$f" ] || printf '%s\0' "$f"; done |
	tar --null -T - -cf - ) | tar -xf - -C "$tree"

# run_test PACKAGE NAME: 0 it ran and passed, 1 it ran and failed, 2 it did not
# run or did not compile. It is built with $tags; the output is in $out.
run_test() {
	local rc=0 pattern
	pattern="^${2//\//\$/^}\$"
	out=$(cd "$tree" && go test -vet=off -tags "$tags" -count=1 -timeout 2m -v -run "$pattern" "$1" 2>&1 </dev/null | tr -d '\0') || rc=$?
	grep -qE "^ *=== RUN +$2\$" <<<"$out" || return 2
	[ $rc -ne 0 ] || return 0
	grep -qE "^ *--- FAIL: $2 |^panic: " <<<"$out" || return 2
	return 1
}

declare -A sound # tests that pass on the code as it is

# mutate PATCH sets outcome to "killed" or to what went wrong.
mutate() {
	local pkg name rc=0
	read -r pkg name <<<"$(header "$1" test)" || true
	promise=$(header "$1" promise) test="$pkg $name" tags=$(header "$1" tags) out=
	if [ -z "$promise" ] || [ -z "${name:-}" ]; then
		outcome="no '# promise: N' and '# test: ./package TestName' above the patch"
		return
	fi
	if [ -z "${sound[$test]:-}" ]; then
		run_test "$pkg" "$name" || { outcome="the test does not pass without the patch"; return; }
		sound[$test]=yes
	fi
	if ! out=$(git -C "$tree" apply "$1" 2>&1); then
		outcome="does not apply"
		return
	fi
	run_test "$pkg" "$name" || rc=$?
	git -C "$tree" apply -R "$1"
	case $rc in
	0) outcome="SURVIVED" ;;
	1) outcome="killed" ;;
	*) outcome="not compiled, or the test did not run" ;;
	esac
}

bad=0
printf '%-40s %7s %7s  %-8s %s\n' mutant promise seconds outcome test
for patch in "${patches[@]}"; do
	start=$SECONDS
	mutate "$patch"
	printf '%-40s %7s %7d  %-8s %s\n' "$(basename "$patch" .patch)" "$promise" $((SECONDS - start)) "$outcome" "$test"
	if [ "$outcome" != killed ]; then
		bad=$((bad + 1))
		[ -z "$out" ] || tail -n 20 <<<"$out" | sed 's/^/    /'
	fi
done
printf '%d mutants, %d killed, %d s\n' "${#patches[@]}" $((${#patches[@]} - bad)) "$SECONDS"
[ $bad -eq 0 ]
