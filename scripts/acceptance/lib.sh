# shellcheck shell=bash
# shellcheck disable=SC2034 # the scripts use what is set here
# What the acceptance scripts share; sourced by each of them after `set -euo pipefail`.
#
# Every run has a network namespace of its own where the kernel lets it: own ports, no connection tracking by a Docker
# engine's rules (which drops packets under many short connections), nothing left behind. Without that right it runs on
# the machine's loopback addresses.

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
export PATH=$PATH:/usr/sbin:/sbin

QUICK=no
for argument in "$@"; do
    case $argument in
    --quick) QUICK=yes ;;
    *)
        printf 'usage: [TIDEGATE=path/to/tidegate] %s [--quick]\n' "$0" >&2
        exit 64
        ;;
    esac
done

enter_namespace() {
    if [ -n "${TIDEGATE_NAMESPACE:-}" ]; then
        ip link set lo up
        return
    fi
    local how
    for how in "--net" "--user --map-root-user --net"; do
        # shellcheck disable=SC2086 # several words on purpose
        if unshare $how true 2>/dev/null; then
            # shellcheck disable=SC2086
            TIDEGATE_NAMESPACE=own exec unshare $how "$0" "$@"
        fi
    done
    printf 'no right to a network namespace: on the plain loopback\n'
}

find_binary() {
    TIDEGATE=${TIDEGATE:-${CARGO_TARGET_DIR:-$repository/target}/release/tidegate}
    if [ ! -x "$TIDEGATE" ]; then
        (cd "$repository" && cargo build --release --locked)
    fi
    TIDEGATE=$(realpath "$TIDEGATE")
    export TIDEGATE
}

find_binary
enter_namespace "$@"

work=$(mktemp -d)
declare -A pid_of=()
failures=0
checks=0
clients=("python3" "$here/clients.py")

cleanup() {
    local status=$? name
    for name in "${!pid_of[@]}"; do
        kill -CONT "${pid_of[$name]}" 2>/dev/null || true
        kill -KILL "${pid_of[$name]}" 2>/dev/null || true
    done
    wait 2>/dev/null || true
    if [ "$status" -ne 0 ] || [ "${KEEP:-no}" = yes ]; then
        printf 'logs are in %s\n' "$work"
    else
        rm -rf "$work"
    fi
}
trap cleanup EXIT

ok() {
    checks=$((checks + 1))
    printf 'ok    %s\n' "$*"
}

fail() {
    checks=$((checks + 1))
    failures=$((failures + 1))
    printf 'FAIL  %s\n' "$*"
}

# check DESCRIPTION COMMAND...: ok when the command succeeds.
check() {
    local description=$1
    shift
    if "$@"; then ok "$description"; else fail "$description"; fi
}

# Last line of every script.
finish() {
    printf '%s: %d checks, %d failed\n' "$(basename "$0")" "$checks" "$failures"
    [ "$failures" -eq 0 ]
}

# start NAME COMMAND...: in the background, output in $work/NAME.log.
start() {
    local name=$1
    shift
    "$@" >>"$work/$name.log" 2>&1 &
    pid_of[$name]=$!
}

# stop NAME [SIGNAL]: and waits for its end.
stop() {
    local pid=${pid_of[$1]}
    unset "pid_of[$1]"
    kill "-${2:-TERM}" "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
}

# signal NAME SIGNAL: without an end.
signal() {
    kill "-$2" "${pid_of[$1]}"
}

now_ms() {
    date +%s%3N
}

# wait_for SECONDS COMMAND...: polls every 50 ms; fails quietly when the time is over.
wait_for() {
    local deadline=$(($(now_ms) + $1 * 1000))
    shift
    until "$@" >/dev/null 2>&1; do
        if [ "$(now_ms)" -gt "$deadline" ]; then
            return 1
        fi
        sleep 0.05
    done
}

# must WHAT COMMAND...: a step without which the rest makes no sense.
must() {
    local what=$1
    shift
    if ! "$@"; then
        fail "$what"
        tail -n 20 "$work"/*.log >&2 || true
        exit 1
    fi
}

listens() {
    [ -n "$(ss -Hltn "src $1 and sport = :$2")" ]
}

# start_mosquitto NAME ADDRESS PORT [LINE...]: one broker, in memory, anonymous; more lines for its configuration.
start_mosquitto() {
    local name=$1 address=$2 port=$3
    shift 3
    {
        printf 'user root\nlistener %s %s\nallow_anonymous true\npersistence false\nlog_dest stderr\n' "$port" "$address"
        if [ "$#" -gt 0 ]; then printf '%s\n' "$@"; fi
    } >"$work/$name.conf"
    start "$name" mosquitto -c "$work/$name.conf"
    must "$name listens" wait_for 10 listens "$address" "$port"
}

# start_fake NAME ADDRESS:PORT MODE [OPTION...]: fake_broker.py; set_fake NAME MODE changes it for new connections.
start_fake() {
    local name=$1 bind=$2 mode=$3
    shift 3
    printf '%s\n' "$mode" >"$work/$name.mode"
    start "$name" python3 -u "$here/fake_broker.py" --bind "$bind" --mode-file "$work/$name.mode" "$@"
    must "$name listens" wait_for 10 grep -q listening "$work/$name.log"
}

set_fake() {
    printf '%s\n' "$2" >"$work/$1.mode.new"
    mv "$work/$1.mode.new" "$work/$1.mode"
}

# start_tidegate: configuration on standard input, admin API on $ADMIN.
ADMIN=127.0.0.10:9090
start_tidegate() {
    cat >"$work/tidegate.toml"
    must "the configuration is valid" "$TIDEGATE" check -c "$work/tidegate.toml"
    start tidegate "$TIDEGATE" run -c "$work/tidegate.toml"
    must "tidegate is alive" wait_for 10 curl -sf -o "$work/healthz" "http://$ADMIN/healthz"
}

api() {
    curl -sS --fail --max-time 5 "http://$ADMIN$1"
}

# endpoints FILTER: a jq filter over the list of all endpoints of all pools.
endpoints() {
    api /api/v1/pools | jq -r "[.. | objects | select(has(\"address\") and has(\"own_connections\"))] | $1"
}

# endpoint_is ADDRESS FILTER: whether the jq filter holds for this endpoint.
endpoint_is() {
    [ "$(endpoints "map(select(.address == \"$1\")) | length > 0 and all(.[]; $2)")" = true ]
}

endpoint_connections() {
    endpoints "map(select(.address == \"$1\") | .own_connections) | add // 0"
}

all_up() {
    [ "$(endpoints "length == $1 and all(.[]; .state == \"up\")")" = true ]
}

connections_are() {
    [ "$(endpoints 'map(.own_connections) | add // 0')" -eq "$1" ]
}

# metric NAME LABEL...: the sum of the samples that carry all the labels, e.g. metric x_total 'reason="not_mqtt"'.
metric() {
    local name=$1 label lines
    shift
    lines=$(api /metrics | grep "^${name}[{ ]" || true)
    for label in "$@"; do
        lines=$(grep -F "$label" <<<"$lines" || true)
    done
    awk '{ sum += $NF } END { printf "%d\n", sum }' <<<"$lines"
}

rss_kib() {
    awk '/^VmRSS/ { print $2 }' "/proc/${pid_of[tidegate]}/status"
}

# make_certs: an authority, a listener's certificate for the addresses in use, a client's with CN meter-7.
make_certs() {
    local subject
    (
        cd "$work" || exit 1
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=acceptance authority' \
            -keyout ca.key -out ca.pem -addext basicConstraints=critical,CA:TRUE
        for subject in listener meter-7; do
            openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$subject" \
                -keyout "$subject.key" -out "$subject.csr"
            printf 'subjectAltName=DNS:localhost,DNS:mqtt.example.test,IP:127.0.0.10,IP:::1\n' >"$subject.ext"
            openssl x509 -req -in "$subject.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                -extfile "$subject.ext" -out "$subject.pem"
        done
    ) >"$work/openssl.log" 2>&1
}
