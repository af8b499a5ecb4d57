# shellcheck shell=bash
# Sourced by the experiments after `set -euo pipefail`: finds the programs, and enters a network namespace.
#
# Without one, connection tracking by a container engine's rules drops packets under many short connections.
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
export PATH=$PATH:/usr/sbin:/sbin
release=${CARGO_TARGET_DIR:-$repository/target}/release
TIDEGATE=${TIDEGATE:-$release/tidegate}
LOADGEN=${LOADGEN:-$release/examples/loadgen}
if [ ! -x "$TIDEGATE" ] || [ ! -x "$LOADGEN" ]; then
    # Two builds, because one would give the program the features that only examples ask for.
    (cd "$repository" && cargo build --release --locked --bin tidegate && cargo build --release --locked --example loadgen)
fi
export TIDEGATE LOADGEN

if [ -z "${TIDEGATE_NAMESPACE:-}" ]; then
    for how in "--net" "--user --map-root-user --net"; do
        # shellcheck disable=SC2086 # several words on purpose
        if unshare $how true 2>/dev/null; then
            # shellcheck disable=SC2086
            TIDEGATE_NAMESPACE=own exec unshare $how "$0" "$@"
        fi
    done
    printf 'no right to a network namespace: on the plain loopback\n'
else
    ip link set lo up
    # Tens of thousands of connections from one address.
    sysctl -qw net.ipv4.ip_local_port_range='1025 65000' net.ipv4.tcp_tw_reuse=1 net.core.somaxconn=4096 \
        net.ipv4.tcp_max_syn_backlog=8192 2>/dev/null || true
    # Debian's default, or the plain one where a host's policy keeps cubic from namespaces. BBR paces with a timer per
    # connection, for which every proxy pays per message, and which says nothing about any of them.
    for control in cubic reno; do
        sysctl -qw net.ipv4.tcp_congestion_control=$control 2>/dev/null && break
    done
fi
ulimit -n "$(ulimit -Hn)"
