#!/usr/bin/env bash
# Builds the fuzz targets with the stable toolchain and runs each of them for a while.
#
#   scripts/fuzz.sh [seconds] [target...]   default: 60 seconds for each target
#   scripts/fuzz.sh --build                 builds only
#
# cargo-fuzz wants a nightly compiler for its sanitizers. Our decoders are safe code, so coverage is all that the
# fuzzer needs, and LLVM's pass for it is reachable from stable. Needs a C++ compiler for libFuzzer itself.
# Exit code: 0 nothing found, 1 a finding (its input lies in fuzz/artifacts/).
set -euo pipefail
cd "$(dirname "$0")/.."

all="connect first_reply proxy_header"
seconds=60
build_only=false
case "${1-}" in
    --build) build_only=true; shift ;;
    [0-9]*) seconds=$1; shift ;;
esac
# shellcheck disable=SC2086 # a list of words
[ $# -gt 0 ] || set -- $all

for target in "$@"; do
    case " $all " in
        *" $target "*) ;;
        *) echo "fuzz.sh: no target '$target'; there are: $all" >&2; exit 64 ;;
    esac
done

command -v c++ >/dev/null || { echo "fuzz.sh: no C++ compiler (Debian: apt-get install g++)" >&2; exit 1; }

# With --target the flags reach the targets and their libraries, and not build scripts and procedural macros.
host=$(rustc -vV | sed -n 's/^host: //p')
coverage="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-pc-table"
coverage="$coverage -Cllvm-args=-sanitizer-coverage-trace-compares"
RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 $coverage" CARGO_TARGET_DIR=fuzz/target \
    cargo build --quiet --locked --release --manifest-path fuzz/Cargo.toml --target "$host"
if $build_only; then
    exit 0
fi

failed=0
for target in "$@"; do
    mkdir -p "fuzz/corpus/$target" "fuzz/artifacts/$target"
    seeds=$(find "fuzz/seeds/$target" -type f | wc -l)
    [ "$seeds" -gt 0 ] || { echo "fuzz.sh: fuzz/seeds/$target is empty" >&2; exit 1; }
    echo "== $target: $seconds s, $seeds seeds"
    # The first directory takes what is new; seeds are only read.
    "fuzz/target/$host/release/$target" "fuzz/corpus/$target" "fuzz/seeds/$target" \
        -max_total_time="$seconds" -max_len=1024 -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
        -verbosity=0 -artifact_prefix="fuzz/artifacts/$target/" || { echo "== $target: FOUND something" >&2; failed=1; }
done
exit $failed
