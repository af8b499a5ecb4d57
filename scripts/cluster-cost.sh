#!/usr/bin/env bash
# What the tier costs: CPU and bytes per instance, age of records. scripts/cluster-cost.sh [--quick] [--members N]...
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/experiment/namespace.sh
. "$here/experiment/namespace.sh"
exec python3 "$here/cluster_cost.py" "$@"
