#!/usr/bin/env bash
# How level the brokers stay: real instances, stand-in brokers and clients, figure against bound, a picture of each run.
#
#   scripts/fairness.sh [--quick] [--local] [--haproxy] [--out FOLDER] [RUN...]
#
# --local and --haproxy draw the same runs beside it: instances that do not talk, and HAProxy with leastconn. RUN is a
# number of the list that --help prints. Runs in a network namespace of its own where it may.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/experiment/namespace.sh
. "$here/experiment/namespace.sh"
exec python3 "$here/fairness.py" "$@"
