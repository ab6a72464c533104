#!/bin/sh
# The long forms of the tests of process control: reloads, killed workers, descriptors. About
# three minutes. Prints what it counts; last line: "N passed, N failed". Status 0: none failed.
# Does not: build. The short forms are tests/control/.
#
# usage: tests/soak.sh [BUILD_DIR [STAGE]]      (default: build stage4)
#
# From the environment:
#   RELOADS    how many in each load's minute      (default: 20)
#   PACE       seconds between two of them         (default: 3)
#   REQUESTS   the least that must be served       (default: 100000)
#   KILLS      workers that get SIGKILL            (default: 50)
#   REPEATS    reloads between two looks at fds    (default: 100)
set -u

build=$(cd "${1:-build}" && pwd) || exit 2
reloads=${RELOADS:-20}
pace=${PACE:-3}
requests=${REQUESTS:-100000}
kills=${KILLS:-50}
repeats=${REPEATS:-100}
server=$(echo "$build/${2:-stage4}"*)
crowd=$build/bench/crowd
passed=0
failed=0

for program in "$server" "$crowd"; do
    [ -x "$program" ] || {
        echo "soak.sh: no $program; make it first" >&2
        echo "0 passed, 0 failed"
        exit 1
    }
done

XDG_RUNTIME_DIR=$(mktemp -d) || exit 1
export XDG_RUNTIME_DIR

# Servers are daemons: whatever happens, none stays.
# shellcheck disable=SC2317,SC2329 # called by trap
clean_up() {
    for file in "$XDG_RUNTIME_DIR"/*.pid; do
        [ -f "$file" ] && kill -KILL "$(head -n 1 "$file")" 2>/dev/null
    done
    rm -rf "$XDG_RUNTIME_DIR"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# ---- What is looked at ---------------------------------------------------------------------

number() { sed -n "s/.*\"$1\":\\([0-9]*\\).*/\\1/p" | head -n 1; } # of JSON on stdin

# verdict NAME CONDITION-STATUS TEXT
verdict() {
    if [ "$2" = 0 ]; then
        passed=$((passed + 1))
        echo "ok   $1: $3"
    else
        failed=$((failed + 1))
        echo "FAIL $1: $3"
    fi
}

# Start a daemon with these options; sets $port and $master.
start() {
    port=$("$server" start -d -p 0 -w 2 "$@" | sed -n 's/.* on 127.0.0.1:\([0-9]*\).*/\1/p')
    [ -n "$port" ] || exit 1
    master=$(head -n 1 "$XDG_RUNTIME_DIR/${server##*/}-$port.pid")
}

stop() { "$server" stop -p "$port" >/dev/null; }

children() { pgrep -P "$1"; }
zombies() { ps -o stat= --ppid "$1" | tr -dc Z | wc -c; }
fds() { find "/proc/$1/fd" -mindepth 1 -maxdepth 1 | wc -l; }

# ---- Reloads under load --------------------------------------------------------------------

# load BEHAVIOUR: its account goes to a file of that name
load() {
    "$crowd" -p "$port" -n 16 -b "$1" --seconds $((reloads * pace + 1)) |
        tail -n 1 >"$XDG_RUNTIME_DIR/$1"
}

# One after the other, $reloads of them; the master stays, all workers are new.
reload_all() {
    bad=0
    for i in $(seq "$reloads"); do
        sleep "$pace"
        before=$(children "$master")
        "$server" reload -p "$port" >/dev/null || bad=$((bad + 1))
        for pid in $before; do
            kill -0 "$pid" 2>/dev/null && bad=$((bad + 1))
        done
    done
    kill -0 "$master" || bad=$((bad + 1))
}

account() {
    served=$(number served <"$XDG_RUNTIME_DIR/$1")
    lost=$(number failed <"$XDG_RUNTIME_DIR/$1")
    refused=$(number refused <"$XDG_RUNTIME_DIR/$1")
    [ "${served:-0}" -ge "$requests" ] && [ "$lost" = 0 ] && [ "$refused" = 0 ] &&
        [ "$bad" = 0 ]
    verdict "$1" $? "$reloads reloads ($bad bad), $served served, $lost failed, $refused refused"
}

start
load short &
reload_all
wait
account short
stop

# Two servers and loads at a time; they have a minute, too.
start
load keep-alive &
load pipelined &
reload_all
wait
account keep-alive
account pipelined
stop

# ---- Killed workers ------------------------------------------------------------------------

# Wait, ten seconds at most, until the master has its two workers.
two_workers() {
    for _ in $(seq 1000); do
        [ "$(children "$master" | wc -l)" = 2 ] && return 0
        sleep 0.01
    done
    return 1
}

# What is open in a worker when it dies may be lost; nothing else.
kill_workers() {
    open=0
    for i in $(seq "$kills"); do
        two_workers || return 1
        victim=$(children "$master" | sed -n "$((i % 2 + 1))p")
        kill -STOP "$victim" # so that it takes no more clients while they are counted
        n=$("$server" connections --json -p "$port" | grep -c "\"pid\":$victim,")
        open=$((open + ${n:-0}))
        kill -KILL "$victim"
    done
}

start
"$crowd" -p "$port" -n 16 -b short --seconds 300 >"$XDG_RUNTIME_DIR/kills" &
load=$!
kill_workers
survived=$?
two_workers || survived=1
kill -TERM "$load"
wait "$load"
served=$(tail -n 1 "$XDG_RUNTIME_DIR/kills" | number served)
lost=$(tail -n 1 "$XDG_RUNTIME_DIR/kills" | number failed)
refused=$(tail -n 1 "$XDG_RUNTIME_DIR/kills" | number refused)
dead=$(zombies "$master")
[ "$survived" = 0 ] && [ "${served:-0}" -gt 0 ] && [ "$lost" -le "$open" ] &&
    [ "$refused" = 0 ] && [ "$dead" = 0 ]
verdict kill $? "$kills workers killed with $open connections open, $served served, \
$lost failed, $refused refused, $dead zombies"
stop

# ---- Descriptors ---------------------------------------------------------------------------

look() { echo "$(fds "$master") $(for pid in $(children "$master"); do fds "$pid"; done | xargs)"; }

start --watch
"$server" reload -p "$port" >/dev/null # the first may open what stays open
two_workers
first=$(look)
bad=0
for i in $(seq "$repeats"); do
    "$server" reload -p "$port" >/dev/null || bad=$((bad + 1))
done
two_workers
last=$(look)
[ "$first" = "$last" ] && [ "$bad" = 0 ]
verdict descriptors $? "master and workers had $first, after $repeats reloads ($bad bad) $last"
stop

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
