#!/bin/sh
# Make sure that what a group of targets needs is installed; silent when it is.
# Does not: build anything, touch versions that are there already, talk to the network when
# nothing is missing.
#
# usage: common/setup/setup.sh GROUP...     (build test valgrind lint fuzz bench docs)
#
# As root, or with sudo that asks for no password, it installs the distribution's packages.
# Otherwise it prints the command that does and stops with status 1.
set -eu
export LC_ALL=C

# What is looked for is the thing itself, not the package: whoever built libevent from source
# needs no package of it. The last column is the package that holds it on Debian and Ubuntu.
needs() {
    cat <<'END'
build     command  gcc                   gcc
build     command  make                  make
build     header   stdio.h               libc6-dev
build     header   linux/sockios.h       linux-libc-dev
build     header   event2/event.h        libevent-dev
build     library  event_core            libevent-dev
test      command  pkg-config            pkg-config
test      header   check.h               check
test      library  event_extra           libevent-dev
test      header   http_parser.h         libhttp-parser-dev
test      library  http_parser           libhttp-parser-dev
test      command  curl                  curl
test      command  ab                    apache2-utils
test      command  wrk                   wrk
test      command  strace                strace
test      command  ps                    procps
test      command  diff                  diffutils
test      command  python3               python3
valgrind  command  valgrind              valgrind
lint      command  clang-format          clang-format
lint      command  clang-tidy            clang-tidy
lint      command  cppcheck              cppcheck
lint      command  shellcheck            shellcheck
lint      command  pyflakes3             pyflakes3
lint      command  mypy                  mypy
fuzz      command  clang                 clang
fuzz      runtime  fuzzer                CLANG_RUNTIME
bench     command  wrk                   wrk
bench     command  gnuplot               gnuplot-nox
bench     command  nginx                 nginx
bench     command  php                   php-cli
bench     command  python3               python3
bench     command  strace                strace
docs      command  pandoc                pandoc
docs      command  python3               python3
docs      command  nc                    netcat-openbsd
docs      command  ss                    iproute2
docs      command  nstat                 iproute2
docs      command  gdb                   gdb
END
}

say() {
    printf 'setup: %s\n' "$*" >&2
}

# ---- Is it there? -----------------------------------------------------------------------

has_command() {
    command -v "$1" >/dev/null
}

compiler() {
    command -v gcc || command -v cc || command -v clang
}

# A list of headers costs one run of the preprocessor, not one each.
has_header() {
    for header in "$@"; do
        echo "#include <$header>"
    done | "$(compiler)" -E -x c - >/dev/null 2>&1
}

# Where it finds a library the compiler prints its full path, else the name it was given.
has_library() {
    for suffix in so a; do
        case $("$(compiler)" -print-file-name="lib$1.$suffix") in
        /*) return 0 ;;
        esac
    done
    return 1
}

# Clang names the runtimes it would link; see whether they are there.
has_runtime() {
    has_command clang || return 1
    runtimes=$(clang "-fsanitize=$1,address,undefined" -x c /dev/null -o /dev/null '-###' 2>&1 |
        tr -d '"' | tr ' ' '\n' | grep 'libclang_rt.*\.a$') || return 1
    for runtime in $runtimes; do
        [ -e "$runtime" ] || return 1
    done
}

# Set $missing (names, to be read) and $packages (to be installed) for the groups in "$@".
look() {
    missing=''
    packages=''
    wanted=$(needs | while read -r group need; do
        case " $* " in *" $group "*) echo "$need" ;; esac
    done | sort -u)
    if compiler >/dev/null; then
        # Most often all headers are there, and one look tells.
        headers=$(echo "$wanted" | sed -n 's/^header *\([^ ]*\) .*/\1/p')
        # shellcheck disable=SC2086 # a list of words
        if [ -n "$headers" ] && has_header $headers; then
            wanted=$(echo "$wanted" | grep -v '^header ' || true)
        fi
    fi
    while read -r kind name package; do
        case $kind in
        '') continue ;;
        header | library)
            # Without a compiler nobody can tell: name the package, apt knows whether it is there.
            if ! compiler >/dev/null; then
                add "$package" "$package"
                continue
            fi
            ;;
        esac
        "has_$kind" "$name" || add "$name" "$package"
    done <<END
$wanted
END
}

add() {
    case " $missing " in *" $1 "*) ;; *) missing="$missing${missing:+ }$1" ;; esac
    case " $packages " in *" $2 "*) ;; *) packages="$packages${packages:+ }$2" ;; esac
}

# ---- Put it there -------------------------------------------------------------------------

# The package of clang's runtimes carries clang's version: the one that is here, or will be.
clang_runtime() {
    version=$(clang -dumpversion 2>/dev/null | cut -d. -f1)
    [ -n "$version" ] ||
        version=$(apt-cache depends clang 2>/dev/null | sed -n 's/.*Depends: clang-//p' | head -n 1)
    if [ -z "$version" ]; then
        # The package lists are still to be fetched; then this shell command has the answer.
        echo "libclang-rt-\$(apt-cache depends clang | sed -n 's/.*Depends: clang-//p')-dev"
    elif apt-cache show "libclang-rt-$version-dev" >/dev/null 2>&1; then
        echo "libclang-rt-$version-dev"
    else
        echo "libclang-common-$version-dev" # until LLVM 13 it was in there
    fi
}

package_list() {
    for package in $packages; do
        case $package in
        CLANG_RUNTIME) clang_runtime ;;
        *) echo "$package" ;;
        esac
    done | tr '\n' ' ' | sed 's/ $//'
}

# Debian starts a daemon when it installs it, and again at every boot. Nobody who asked for a
# benchmark wants nginx on port 80. policy-rc.d(8) is what both invoke-rc.d and
# deb-systemd-invoke ask before they start anything; ours says no to nginx alone and passes
# every other question on to the one that was there. It stays only while apt-get runs.
policy=/usr/sbin/policy-rc.d

policy_is_ours() {
    grep -q 'Made by common/setup/setup.sh' "$policy" 2>/dev/null
}

policy_begin() {
    if [ -e "$policy" ] && ! policy_is_ours; then
        as_root mv "$policy" "$policy.before-setup"
    fi
    as_root tee "$policy" >/dev/null <<'END'
#!/bin/sh
# Made by common/setup/setup.sh while it installs nginx, and removed afterwards.
for word; do
    case $word in nginx | nginx.service) exit 101 ;; esac
done
[ ! -x "$0.before-setup" ] || exec "$0.before-setup" "$@"
END
    as_root chmod 755 "$policy"
}

policy_end() {
    policy_is_ours || return 0
    as_root rm -f "$policy"
    if [ -e "$policy.before-setup" ]; then
        as_root mv "$policy.before-setup" "$policy"
    fi
}

# Not at the next boot either. We come here only when nginx was not installed before.
disable_nginx() {
    if has_command systemctl; then
        as_root systemctl disable nginx.service >/dev/null 2>&1 || true
    fi
    if has_command update-rc.d; then
        as_root update-rc.d nginx disable >/dev/null 2>&1 || true
    fi
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

can_be_root() {
    [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null
}

apt() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 "$@" \
        >>"$log" 2>&1 </dev/null
}

install_packages() {
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    trap 'exit 130' INT TERM
    say "missing: $missing"
    say "fetching the package lists"
    apt update -q || true # one dead mirror among many is no reason to stop; install will tell
    list=$(package_list)
    say "installing: $list"
    case " $packages " in
    *" nginx "*)
        trap 'policy_end; rm -f "$log"' EXIT
        policy_begin
        ;;
    esac
    # shellcheck disable=SC2086 # a list of words
    if ! apt install -q -y --no-install-recommends $list; then
        tail -n 20 "$log" >&2
        say "apt-get could not install that; its last words are above"
        exit 1
    fi
    case " $packages " in
    *" nginx "*) disable_nginx ;;
    esac
}

# The command to type; nginx is left to this script, which keeps it from being started.
tell_packages() {
    say "missing: $missing"
    say "it takes root to install that. Please run"
    others=$(package_list | tr ' ' '\n' | grep -vx nginx | tr '\n' ' ' | sed 's/ $//')
    if [ -n "$others" ]; then
        printf '    sudo apt-get update && sudo apt-get install -y %s\n' "$others" >&2
    fi
    case " $packages " in
    *" nginx "*) printf '    sudo %s bench\n' "$0" >&2 ;;
    esac
    say "and then the same again."
}

# Words on the command line are checked against the table: a misspelt group is no empty one.
groups=$(needs | cut -d ' ' -f 1 | sort -u | tr '\n' ' ' | sed 's/ $//')
[ $# -gt 0 ] || {
    say "usage: $0 GROUP... (groups: $groups)"
    exit 2
}
for group; do
    case " $groups " in
    *" $group "*) ;;
    *)
        say "no group '$group' (groups: $groups)"
        exit 2
        ;;
    esac
done

# An unprivileged user's PATH on Debian lacks the directories of the daemons.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

look "$@"
[ -n "$missing" ] || exit 0

if ! has_command apt-get; then
    say "missing: $missing"
    say "this system has no apt-get; please install that by its own means, then the same again."
    exit 1
fi
if ! can_be_root; then
    tell_packages
    exit 1
fi
install_packages
look "$@"
[ -z "$missing" ] || {
    say "still missing after the installation: $missing"
    exit 1
}
