#!/bin/sh
# The switch of stage 7 in all its forms: for this processor, ucontext, and for aarch64 under
# qemu, if a compiler for it and qemu are installed.
# Does not: build anything that others use. The last line: "N passed, N failed".
#
# usage: tests/coroutines/switch.sh BUILD
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build}/tests/switch
stage=$(echo stage*_coroutines)
passed=0
failed=0
mkdir -p "$build"

# try NAME COMPILER RUNNER FLAG...: build switch_alone with these flags, and run it.
try() {
    name=$1
    cc=$2
    runner=$3
    shift 3
    "$cc" -std=gnu17 -D_GNU_SOURCE "$@" -o "$build/$name" tests/coroutines/switch_alone.c \
        "$stage/switch_prepare.c" "$stage/switch_ucontext.c" "$stage/switch.S"
    if $runner "$build/$name" >"$build/$name.log" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "$name:"
        cat "$build/$name.log"
    fi
}

# forms NAME COMPILER RUNNER FLAG...: all that this compiler can build.
forms() {
    name=$1
    cc=$2
    runner=$3
    shift 3
    for level in -O0 -O2; do
        try "$name$level" "$cc" "$runner" "$level" "$@"
        try "$name$level-ret" "$cc" "$runner" "$level" -DSWITCH_RET "$@"
        try "$name$level-ucontext" "$cc" "$runner" "$level" -DSWITCH_UCONTEXT "$@"
    done
}

forms native "${CC:-cc}" ''
if command -v aarch64-linux-gnu-gcc >/dev/null && command -v qemu-aarch64 >/dev/null; then
    forms aarch64 aarch64-linux-gnu-gcc qemu-aarch64 -static
else
    echo 'note: not tried on aarch64: apt-get install gcc-aarch64-linux-gnu qemu-user'
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
