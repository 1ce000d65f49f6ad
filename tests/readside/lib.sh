# What the parts of tests/readside/run share. Sourced, not run.
#
#   SCRATCH   a directory of this run, removed at its end
#   at_exit   what to do at the end, last added first
#   outcome   counts a check; suite runs cargo tests and counts theirs
#   check     compares what was found with a pattern; same with what was found elsewhere

passed=0
failed=0
ending=()

# outcome NAME STATUS: counts one check.
outcome() {
    if (($2 == 0)); then
        passed=$((passed + 1))
        echo "ok      $1"
    else
        failed=$((failed + 1))
        echo "FAILED  $1 (exit $2)"
    fi
}

# check NAME WANTED FOUND: FOUND matches the pattern WANTED.
check() {
    # shellcheck disable=SC2053 # a pattern
    if [[ "$3" == $2 ]]; then
        outcome "$1" 0
    else
        printf '        wanted %s\n        found  %s\n' "$2" "$3"
        outcome "$1" 1
    fi
}

# alike ONE OTHER: both say something, and the same. Two commands that print nothing agree about nothing.
alike() {
    [[ -n "$1" && "$1" == "$2" ]]
}

# same NAME WANTED FOUND: a check that they are alike.
same() {
    local status=0
    alike "$2" "$3" || {
        status=1
        printf '        wanted %s\n        found  %s\n' "${2:-something}" "$3"
    }
    outcome "$1" "$status"
}

# built CARGO-TEST-COMMAND...: builds what a suite runs, so that it is not the suite that takes long.
built() {
    local status=0
    timeout --kill-after=10 "$BUILD_LIMIT" "$@" --no-run >"$SCRATCH/build.out" 2>&1 || status=$?
    ((status == 0)) && return
    tail -n 60 "$SCRATCH/build.out"
    outcome "the tests are built" "$status"
    return "$status"
}

# suite NAME COMMAND...: runs cargo tests, and counts those that passed and failed.
suite() {
    local name="$1" log="$SCRATCH/$1.out" status=0
    shift
    timeout --kill-after=10 "$PART_LIMIT" "$@" >"$log" 2>&1 || status=$?
    grep -E '^(test |skipped: )' "$log" || true
    local counts
    counts="$(awk '/^test result:/ { passed += $4; failed += $6 } END { print passed + 0, failed + 0 }' "$log")"
    passed=$((passed + ${counts% *}))
    failed=$((failed + ${counts#* }))
    if ((status != 0)); then
        tail -n 60 "$log"
        ((${counts#* } > 0)) || outcome "$name: it ended early" "$status"
    elif grep -q '^skipped: ' "$log"; then
        # The server is there: a test that does not see it has not tested anything.
        outcome "$name: nothing is skipped" 1
    fi
}

# checks NAME COMMAND...: runs a program whose last line says how many of its checks passed and failed.
checks() {
    local name="$1" log="$SCRATCH/$1.out" status=0 counts
    shift
    timeout --kill-after=10 "$PART_LIMIT" "$@" >"$log" 2>&1 || status=$?
    read -ra counts <<<"$(tail -n 1 "$log")"
    if [[ "${counts[1]:-} ${counts[3]:-}" == "passed, failed" ]]; then
        sed '$d' "$log"
        passed=$((passed + counts[0]))
        failed=$((failed + counts[2]))
    else
        tail -n 60 "$log"
        outcome "$name: it ended early" "${status/#0/1}"
    fi
}

# at_exit COMMAND...: done at the end of the run.
at_exit() {
    ending=("$(printf '%q ' "$@")" "${ending[@]}")
}

finish() {
    local command
    for command in "${ending[@]}"; do
        eval "$command" || true
    done
    rm -rf "$SCRATCH"
}

# installed PART PACKAGE PROGRAM: whether the program is there, installed from Debian if need be; says
# why not.
installed() {
    if [[ -x "$3" ]] || command -v "$3" >/dev/null; then
        return
    fi
    if ! command -v apt-get >/dev/null; then
        echo "skipped: $1: $2 is not installed, and there is no apt-get"
        return 1
    fi
    # A package that starts its server at once would take the port and the memory.
    local policy="/usr/sbin/policy-rc.d" ours="" status=0
    if [[ ! -e "$policy" ]]; then
        ours=1
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    {
        timeout "$INSTALL_LIMIT" apt-get install --yes --no-install-recommends "$2" || {
            timeout "$INSTALL_LIMIT" apt-get update &&
                timeout "$INSTALL_LIMIT" apt-get install --yes --no-install-recommends "$2"
        }
    } >"$SCRATCH/apt-$2.out" 2>&1 || status=$?
    [[ -z "$ours" ]] || rm -f "$policy"
    if ((status != 0)); then
        echo "skipped: $1: $2 cannot be installed: $(tail -n 1 "$SCRATCH/apt-$2.out")"
        return 1
    fi
}

# is_root PART: servers are run as their own users.
is_root() {
    if ((EUID != 0)); then
        echo "skipped: $1: needs root, to run a server as its own user"
        return 1
    fi
}

# free_port: a TCP port of the loopback that nobody listens on.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# as USER COMMAND...
as() {
    local user="$1"
    shift
    setpriv --reuid="$user" --regid="$user" --init-groups env --chdir=/ "$@"
}

# eventually SECONDS COMMAND...: waits until the command succeeds.
eventually() {
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < until)) || return 1
        sleep 0.1
    done
}
