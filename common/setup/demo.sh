#!/bin/sh
# Show the stages at work: start each on a free port, fetch / from it, show the answer and the
# processes with what each of them sleeps in, stop it and see that it ends well.
# Does not: build, leave anything running.
#
# usage: common/setup/demo.sh PROGRAM...
set -eu

pid=''
dir=${TMPDIR:-/tmp}/demo.$$

# By its id, and waited for: also when Ctrl-C ends the demo half way.
stop_server() {
    [ -n "$pid" ] || return 0
    kill -TERM "$pid" 2>/dev/null || true
    status=0
    wait "$pid" || status=$?
    pid=''
    return "$status"
}

trap 'stop_server || true; rm -rf "$dir"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
mkdir -m 700 "$dir"

fail() {
    printf 'demo: %s\n' "$*" >&2
    [ ! -s "$dir/stderr" ] || cat "$dir/stderr" >&2
    exit 1
}

# Wait for the first line of stdout, for ten seconds at most; set $line.
await_line() {
    for _ in $(seq 200); do
        # read fails on a line without its end: the server is still writing it.
        if read -r line <"$dir/stdout"; then
            return 0
        fi
        kill -0 "$pid" 2>/dev/null || fail "$name ended before it was ready"
        sleep 0.05
    done
    fail "$name did not say that it listens"
}

show() {
    printf '  %s\n' "$1"
    sed 's/\r$//; s/^/      /' | cut -c 1-80
}

for program; do
    name=$(basename "$program")
    printf '\n== %s\n' "$name"
    : >"$dir/stdout"
    "$program" --port 0 >"$dir/stdout" 2>"$dir/stderr" </dev/null &
    pid=$!
    await_line
    printf '%s\n' "$line" | show '$ build/'"$name --port 0"
    url=http://$(printf '%s\n' "$line" | sed 's/.*listening on \([^ ,;]*\).*/\1/')/
    curl -s -i --max-time 10 "$url" >"$dir/answer" || fail "no answer from $url"
    printf '\n' >>"$dir/answer"
    show "$ curl -i $url" <"$dir/answer"
    # WCHAN is the kernel's function that the process sleeps in: the stages differ in it.
    ps --forest -o pid,stat,wchan:22,args -p "$pid" --ppid "$pid" | sed "s|${program%/*}/||" |
        show "$ ps --forest -o pid,stat,wchan:22,args -p $pid --ppid $pid"
    server=$pid
    stop_server || fail "$name ended with status $? after SIGTERM"
    printf '  $ kill %s    # ended with status 0\n' "$server"
done
printf '\nAll %d stages answered, and none is left running.\n' "$#"
