#!/bin/sh
# The lessons: what a stage changes against its neighbour, held to a budget of lines: its facts
# name both.
# Does not: judge the lines.
#
# usage: tests/diff.sh              check all budgets, in the manner of a Check program
#        tests/diff.sh FROM TO      print the diff from stage FROM to stage TO: 1 2, 2 3, 4 6
#        tests/diff.sh select poll  print the diff of a stage's two waits
set -u
cd "$(dirname "$0")/.." || exit 1

# fact KEY FILE: what stands behind "KEY: "
fact() {
    sed -n "s/^$1: //p" "$2"
}

# The sources without the lines that only name a place for the tutorial: /* [stage1.loop] */
copy=$(mktemp -d) || exit 1
trap 'rm -rf "$copy"' EXIT
for file in stage*/*.[ch]; do
    mkdir -p "$copy/${file%/*}"
    sed '/^ *\/\* \[[a-z0-9.-]*\] \*\/$/d' "$file" >"$copy/$file"
    touch -r "$file" "$copy/$file"
done

# A file that only the later stage has is new, and counts. One that only the earlier stage has
# is named, no more. wait_poll.c is left out: against wait_select.c it is a lesson of its own.
# If the later stage's facts have a line "lesson: FILE", that file alone is compared.
diff_stages() (
    from=$(echo "stage$1"_*)
    to=$(echo "stage$2"_*)
    file=$(fact lesson "$to/facts")
    cd "$copy" || exit 2
    shift 2
    diff --unidirectional-new-file -x wait_poll.c "$@" "$from/$file" "$to/$file"
)

case $# in
0) ;;
2)
    case $1 in
    [0-9]*) diff_stages "$1" "$2" -u ;;
    *) (cd "$copy" && diff -u stage*/"wait_$1.c" stage*/"wait_$2.c") ;;
    esac
    [ $? -le 1 ] # that they differ is no failure
    exit
    ;;
*)
    sed -n 's/^# *usage: //p' "$0" >&2
    exit 2
    ;;
esac

checks=0
failures=0
for facts in stage*/facts; do
    from=$(fact neighbour "$facts")
    [ -n "$from" ] || continue # the first
    budget=$(fact budget "$facts")
    to=${facts#stage}
    to=${to%%_*}
    checks=$((checks + 1))
    # In changed lines: each - and each + is one.
    lines=$(diff_stages "$from" "$to" | grep -c '^[<>]')
    echo "note: $from-$to: $lines of $budget lines"
    if [ "$lines" = 0 ] || [ "$lines" -gt "$budget" ]; then
        echo "stage $to changes $lines lines of stage $from; the budget is 1 to $budget." \
            "See make diff-$from-$to."
        failures=$((failures + 1))
    fi
done
[ "$checks" -gt 0 ] || exit 1
echo "$((100 * (checks - failures) / checks))%: Checks: $checks, Failures: $failures, Errors: 0"
[ "$failures" = 0 ]
