#!/bin/bash
# Within a machine that systemd has booted with server/deploy/systemd: the steps of
# docs/operations.md, "Install", and whether the unit keeps what it says. Its last line counts
# checks. Run by tests/deploy/run.
set -uo pipefail

readonly URL=https://localhost:2113 WAIT=60
passed=0 failed=0

check() { # NAME COMMAND...
    local name="$1" said
    shift
    if said="$("$@" 2>&1)"; then
        passed=$((passed + 1))
        echo "ok      systemd: $name"
    else
        failed=$((failed + 1))
        echo "FAILED  systemd: $name"
        echo "$said" | tail -n 20 | sed 's/^/        /'
    fi
}

eventually() {
    local until=$((SECONDS + WAIT))
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < until)) || { "$@"; return 1; }
        sleep 0.1
    done
}

ready() { daybook health --url "$URL" --ca "/etc/daybook/${1:-ca}.crt"; }
as_admin() { daybook "$1" --url "$URL" --ca /etc/daybook/ca.crt --user admin --password-file /etc/daybook/admin-password "${@:2}"; }
of_unit() { systemctl show daybook --property "$1" --value; }
pid() { of_unit MainPID; }
in_status() { [[ "$(awk -v field="$1:" '$1 == field { print $2 }' "/proc/$(pid)/status")" == "$2" ]]; }
works() { as_admin append orders-1 OrderPlaced '{}'; }
there() { as_admin read orders-1 | grep -q OrderPlaced; }
# The server's view of the file system: what it may write.
sees() { nsenter --target "$(pid)" --mount -- "$@"; }
read_only() { ! sees touch "$1/a-file" 2>/dev/null; }
hidden() { [[ -z "$(sees ls -A "$1")" ]]; }

# What the unit has said is in the journal; a journal that is empty would tell of no refusal either.
said() { journalctl --sync && journalctl --unit daybook --no-pager --output cat; }
says() { [[ "$(said)" == *"$1"* ]]; }
silent() { [[ -n "$(said)" ]] && ! said | grep -i "$1"; }

files() {
    grep '^Max open files' "/proc/$(pid)/limits"
    # 4,096 connections and 1,024 files of the store; what the unit asks for is bounded by the
    # machine around this.
    (($(awk '/^Max open files/ { print $4 }' "/proc/$(pid)/limits") >= 5120))
}

javascript() {
    local status
    status="$(curl --silent --output /dev/null --write-out '%{http_code}' --cacert /etc/daybook/ca.crt \
        --user "admin:$(cat /etc/daybook/admin-password)" --request POST \
        --data 'fromAll().when({ $init: () => ({n: 0}), OrderPlaced: (s) => { s.n += 1; return s } })' \
        "$URL/projections/continuous?name=orders&type=js")"
    [[ "$status" == 201 ]] && eventually counted
}
counted() {
    curl --silent --cacert /etc/daybook/ca.crt --user "admin:$(cat /etc/daybook/admin-password)" "$URL/metrics" |
        grep -q '^daybook_script_running{projection="orders"} 1'
}

renew() {
    local before
    before="$(pid)"
    cp /etc/daybook/next.crt /etc/daybook/tls.crt
    cp /etc/daybook/next.key /etc/daybook/tls.key
    systemctl reload daybook
    eventually ready next-ca && [[ "$(pid)" == "$before" ]]
}

dies() {
    local before
    before="$(pid)"
    kill -KILL "$before"
    eventually ready next-ca && [[ "$(pid)" != "$before" ]]
}

check "it is started when it is ready, with TLS and users" ready
check "it is the user daybook" in_status Uid "$(id -u daybook)"
check "it has no capability" in_status CapEff 0000000000000000
check "it can gain none" in_status CapBnd 0000000000000000
check "it can gain no rights" in_status NoNewPrivs 1
check "its calls are filtered" in_status Seccomp 2
check "it may open as many files as its connections want" files
check "it takes events" works
check "it runs JavaScript, though it may make no code" javascript
for place in /etc /usr /var /; do check "it cannot write $place" read_only "$place"; done
check "it sees no home" hidden /root
check "its data are its own" test "$(stat --format '%a %U' /var/lib/daybook)" == "700 daybook"
cp /etc/daybook/ca.crt /etc/daybook/old-ca.crt
check "a renewed certificate is served after a reload, by the same process" renew
cp /etc/daybook/next-ca.crt /etc/daybook/ca.crt
check "a stop drains and ends well" bash -c \
    'systemctl stop daybook; [[ $(systemctl show daybook --property Result --value) == success ]]'
check "it starts again" systemctl start daybook
check "and is ready at once" ready
check "what was appended is there" there
check "one that is killed is started again" dies
check "and has everything" there
check "the journal has what it says" says "certificates were changed"
check "no call was refused" silent "operation not permitted"
echo "$passed passed, $failed failed"
