#!/usr/bin/env bash
# What a connection, a message and a byte cost, in CPU and in memory, beside HAProxy and NGINX with one worker each.
#   scripts/bench.sh                       everything, three rounds: about 45 minutes
#   scripts/bench.sh --acceptance          the rows with a target
#   scripts/bench.sh --only 'qos1-tls*'    some rows; --list names them
#   scripts/bench.sh --quick               one short round, for looking whether it works
#   scripts/bench.sh --scale               how cost grows with connections, endpoints and members
# TIDEGATE is the binary that is measured, by default the release build of this checkout. TIDEGATE_B is a second one, to
# be compared with it: --contenders tidegate,tidegate-b. Results are kept in --out (target/bench), row by row: a run
# replaces the rows that it measured, and table, JSON and picture show all of them.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/lib.sh
. "$here/lib.sh"
if [ -z "${TIDEGATE_NAMESPACE:-}" ]; then
    need haproxy=haproxy nginx=nginx ip=iproute2 openssl=openssl python3=python3 taskset=util-linux strace=strace
    if [ ! -e /usr/lib/nginx/modules/ngx_stream_module.so ]; then
        need nginx-stream-module=libnginx-mod-stream
    fi
    # Two builds, because one would give the program the features that only examples ask for.
    cd "$here/.."
    [ -n "${TIDEGATE:-}" ] || cargo build --release --locked --quiet --bin tidegate
    [ -n "${LOADGEN:-}" ] || cargo build --release --locked --quiet --example loadgen
    cd "$OLDPWD"
fi
# shellcheck source=scripts/experiment/namespace.sh
. "$here/experiment/namespace.sh"
# Short connections by the ten thousand leave as many in TIME_WAIT, and looking for a free port among them would become
# the larger part of a connect. Above this many the kernel forgets them.
sysctl -qw net.ipv4.tcp_max_tw_buckets=4096 2>/dev/null || true
exec python3 "$here/bench/run.py" "$@"
