#!/usr/bin/env bash
# The simulation in full size, optimised, with the figures that it reached: ./scripts/sim.sh [SEEDS [FILTER]]
#
# SEEDS: random runs (default 5000; `cargo test` runs 256). FILTER: a part of a test's name.
set -euo pipefail
cd "$(dirname "$0")/.."

export TIDEGATE_SIM_SEEDS=${1:-5000}
# Invariants are debug assertions in the library: they stay on.
export CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true
exec cargo test --locked --release --test sim ${2:+"$2"} -- --nocapture
