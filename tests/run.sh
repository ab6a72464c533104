#!/bin/sh
# Run test programs: one line each as they end, the output of the failing ones in full, and as
# last line the sums: "N passed, N failed". Status 0 only if something passed and nothing failed.
# Does not: build, know what is tested.
#
# usage: tests/run.sh "PROGRAM [ARGUMENT...]"... [-- "PROGRAM [ARGUMENT...]"...]
#
# What stands behind -- runs after the others and alone: whatever counts and may not be disturbed.
#
# A program tells its counts by Check's summary line ("100%: Checks: 3, Failures: 0, Errors: 0")
# or by "3 passed, 0 failed". Lines "note: ..." of its output are shown even if it passes: for
# figures worth a look.
#
# From the environment:
#   BUILD_DIR     logs go to $BUILD_DIR/tests/NAME.log                    (default: build)
#   JOBS          so many programs at a time                              (default: 2)
#   TIME_LIMIT    seconds after which a program is ended and has failed   (default: 240)
#   TIME_SCALE    the limit is multiplied by this: valgrind is slow       (default: 1)
#   WRAPPER       put before a program: valgrind and its options          (default: nothing)
#   UNWRAPPED     names of programs to run without it: they only drive servers, which they
#                 start under $SERVER_WRAPPER                             (default: none)
set -u

dir=${BUILD_DIR:-build}/tests
limit=$((${TIME_LIMIT:-240} * ${TIME_SCALE:-1}))

# ---- One program: this script calls itself with --one COMMAND ------------------------------

# Write "STATUS CHECKS FAILED" for the sums, print the line.
report() {
    counts=$(tr -d , <"$log" | awk '
        /^[0-9]+%: Checks: [0-9]+ Failures: [0-9]+ Errors: [0-9]+$/ { c += $3; f += $5 + $7 }
        /^[0-9]+ passed [0-9]+ failed$/ { c += $1 + $3; f += $3 }
        END { print c + 0, f + 0 }')
    checks=${counts% *}
    failed=${counts#* }
    verdict="$checks checks, $failed failed"
    if [ "$status" = 124 ] || { [ "$status" = 137 ] && [ "$ms" -ge $((limit * 1000)) ]; }; then
        verdict="$verdict; ended after $limit s"
    elif [ "$checks" = 0 ]; then
        verdict="no check ran (status $status)"
    elif [ "$status" != 0 ] && [ "$failed" = 0 ]; then
        verdict="$verdict; but status $status"
    fi
    # Whatever went wrong outside of the checks counts as one more that failed.
    case $verdict in
    *\;* | no*)
        failed=$((failed + 1))
        checks=$((checks + 1))
        ;;
    esac
    echo "$failed $checks" >"$dir/$name.result"
    printf '%s %-28s %6s s   %s\n' "$([ "$failed" = 0 ] && echo 'ok  ' || echo FAIL)" \
        "$name" "$(awk "BEGIN { printf \"%.1f\", $ms / 1000 }")" "$verdict"
    sed -n 's/^note: /         /p' "$log"
}

if [ "${1-}" = --one ]; then
    command=$2
    name=${command#python3 }
    case $name in env\ *) name=${name#env * } ;; esac
    name=${name%% *}
    name=${name##*/}
    log=$dir/$name.log
    wrapper=${WRAPPER-}
    case " ${UNWRAPPED-} " in *" $name "*) wrapper='' ;; esac
    case $name in *.sh | *.py) wrapper='' ;; esac
    began=$(date +%s%N)
    # timeout(1) makes a process group of its own and ends all of it, the servers too.
    # shellcheck disable=SC2086 # a list of words
    timeout -k 5 "$limit" $wrapper $command >"$log" 2>&1 </dev/null &
    pid=$!
    trap 'kill "$pid" 2>/dev/null; wait "$pid"; exit 130' INT TERM HUP
    wait "$pid"
    status=$?
    ms=$((($(date +%s%N) - began) / 1000000))
    line=$(report)
    printf '%s\n' "$line" # in one write, so that two programs' lines never mix
    exit 0
fi

# ---- All of them --------------------------------------------------------------------------

# Processes of this run are told from all others by this word in their environment.
TEST_RUN=run-$$-$(date +%s)
export TEST_RUN

# Print the ids of processes that this run started and that are still there, but for zombies.
strays() {
    grep -lszx "TEST_RUN=$TEST_RUN" /proc/[0-9]*/environ 2>/dev/null | tr -dc '0-9\n' |
        while read -r id; do
            # grep and tr found themselves, too; they are gone by now, or zombies, which have
            # no environment.
            grep -szxq "TEST_RUN=$TEST_RUN" "/proc/$id/environ" 2>/dev/null && echo "$id"
        done
}

end_strays() {
    for id in $(strays); do
        kill -KILL "$id" 2>/dev/null
    done
}

[ $# -gt 0 ] || {
    echo "run.sh: no test programs" >&2
    echo "0 passed, 0 failed"
    exit 1
}

mkdir -p "$dir"
rm -f "$dir"/*.log "$dir"/*.result
trap 'exit 130' INT TERM HUP
trap 'end_strays' EXIT

programs=0
jobs=${JOBS:-2}
while [ $# -gt 0 ]; do
    together=''
    while [ $# -gt 0 ] && [ "$1" != -- ]; do
        together="$together$1
"
        programs=$((programs + 1))
        shift
    done
    [ $# -eq 0 ] || shift
    printf %s "$together" | xargs -r -d '\n' -P "$jobs" -n 1 "$0" --one
    jobs=1
done

# A server that outlives its test is a failure of its own. Those that were told to stop may
# need a moment.
left=$(strays)
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -n "$left" ] || break
    sleep 0.2
    left=$(strays)
done
extra=0
if [ -n "$left" ]; then
    extra=1
    echo "FAIL left running by the tests:"
    # shellcheck disable=SC2086 # a list of words
    ps -o pid,ppid,stat,etime,args -p "$(echo $left | tr ' ' ,)"
fi

for result in "$dir"/*.result; do
    read -r failed _ <"$result"
    [ "$failed" = 0 ] && continue
    log=${result%.result}.log
    printf '\n---- %s\n' "$log"
    sed 's/^/  /' "$log" # so that no line of it can be taken for the sums
done
echo

# A program without a result was not even started.
cat "$dir"/*.result | awk -v programs=$programs -v extra="$extra" '
    { failed += $1; checks += $2 }
    END {
        failed += extra + programs - NR
        passed = checks + extra + programs - NR - failed
        printf "%d passed, %d failed\n", passed, failed
        exit failed > 0 || passed == 0
    }'
