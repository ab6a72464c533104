#!/bin/sh
# The whole benchmark in tiny: does every experiment give its result, is the page written, are
# missing tools named, and is nothing left running when it is stopped?
# Does not: look at the numbers; other tests run at the same time.
#
# usage: tests/bench_smoke.sh        in the manner of a Check program
#   BUILD_DIR   where the servers are (build)
set -u
cd "$(dirname "$0")/.." || exit 1
build=${BUILD_DIR:-build}
dir=$(mktemp -d "${TMPDIR:-/tmp}/bench-smoke.XXXXXX") || exit 1
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM HUP
checks=0
failures=0

# check WHAT COMMAND...: one check.
check() {
    what=$1
    shift
    checks=$((checks + 1))
    "$@" || {
        failures=$((failures + 1))
        echo "FAILED: $what"
    }
}

has() {
    for name in "$@"; do
        [ -s "$dir/report/$name" ] || {
            echo "no $name"
            return 1
        }
    done
}

# Processes of this script's own runs, told by a word in their environment.
strays() {
    grep -lszx "BENCH_SMOKE=$dir" /proc/[0-9]*/environ 2>/dev/null | tr -dc '0-9\n' |
        while read -r id; do
            # This very pipeline is among them, and grep, which is gone by now.
            case $(tr '\0' ' ' <"/proc/$id/cmdline" 2>/dev/null) in
            *"$build"/* | *wrk* | *nginx* | *select.php* | *run.py*) echo "$id" ;;
            esac
        done
}

nothing_left() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        [ -n "$(strays)" ] || return 0
        sleep 0.2
    done
    echo "left running: $(strays)"
    return 1
}

run() {
    BENCH_SMOKE=$dir bench/run.py --smoke --build "$build" --report "$dir/report" "$@" \
        >"$dir/out" 2>&1
}

# ---- all experiments ----

began=$(date +%s)
run
status=$?
echo "note: the whole benchmark in tiny: $(($(date +%s) - began)) s"
[ $status = 0 ] || cat "$dir/out"
check "the benchmark ended with status $status" [ $status = 0 ]
check "files are missing" has index.html results.json environment.json keep-alive.svg cost.svg \
    slow-upstream.svg slow-among-fast.svg
check "there is no table of models" grep -q '^One handler that waits' "$dir/out"
check "something was left running" nothing_left
check "it is not said how quiet the machine was" grep -q '^The machine was ' "$dir/out"
check "the server in PHP is neither measured nor missing" grep -q '^PHP select\|^note: PHP' "$dir/out"

# ---- a tool that is missing ----

mkdir "$dir/bin"
for tool in env setpriv taskset prlimit; do
    ln -s "$(command -v $tool)" "$dir/bin/$tool"
done
ln -s "$(python3 -c 'import sys; print(sys.executable)')" "$dir/bin/python3"
PATH=$dir/bin run --only level-edge
status=$?
check "without strace the status is $status, not 1" [ $status = 1 ]
check "strace is not named as missing" /bin/grep -q 'SKIPPED: strace .*(package strace)' "$dir/out"

# ---- Ctrl-C ----

BENCH_SMOKE=$dir python3 bench/run.py --smoke --build "$build" --report "$dir/report" \
    --only silent-clients fd-cliff >"$dir/out" 2>&1 &
pid=$!
sleep 1
kill -TERM $pid
wait $pid
status=$?
check "a stopped benchmark ends with status $status, not 130" [ $status = 130 ]
check "a stopped benchmark left something running" nothing_left

echo "$((100 * (checks - failures) / checks))%: Checks: $checks, Failures: $failures, Errors: 0"
[ "$failures" = 0 ]
