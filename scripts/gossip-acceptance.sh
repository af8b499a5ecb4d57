#!/usr/bin/env bash
# Gossip under attack, in two halves, and with a path that is broken for one member: scripts/gossip_acceptance.py has
# the runs. Needs root for raw sockets and the packet filter: [TIDEGATE=path] scripts/gossip-acceptance.sh [--quick]
set -euo pipefail
scripts=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/experiment/namespace.sh
. "$scripts/experiment/namespace.sh"
if [ -z "${TIDEGATE_NAMESPACE:-}" ] || [ "$(id -u)" -ne 0 ]; then
    printf 'skipped: needs a network namespace\n'
    exit 0
fi
exec python3 "$scripts/gossip_acceptance.py" "$@"
