#!/usr/bin/env bash
# Everything that a change has to pass, on a laptop as in CI: ./scripts/test.sh
#
# One profile (dev) throughout: clippy, docs, tests and the demo share their dependencies' builds, and a cold run stays
# within 20 minutes on two cores. The release build, which the demo's own command asks for, would compile all of it a
# second time; what differs in it is speed, and speed is measured elsewhere.
#
# TEST_ACCEPTANCE=no leaves out the runs against real brokers and proxies, TEST_CLUSTER=no those in containers.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh
export PATH=$PATH:/usr/sbin:/sbin

section "packages"
need make=make mosquitto=mosquitto mosquitto_pub=mosquitto-clients dnsmasq=dnsmasq-base haproxy=haproxy nginx=nginx \
    ip=iproute2 ss=iproute2 curl=curl jq=jq openssl=openssl python3=python3 shellcheck=shellcheck
if [ ! -e /usr/lib/nginx/modules/ngx_stream_module.so ]; then
    # No command tells whether a module is there.
    need nginx-stream-module=libnginx-mod-stream
fi

section "scripts"
find scripts .ci -type f \( -name '*.sh' -o -name run \) -print0 | xargs -0 shellcheck --external-sources --source-path=SCRIPTDIR
python3 -c 'import ast, sys; [ast.parse(open(name).read(), name) for name in sys.argv[1:]]' scripts/*.py scripts/*/*.py

section "format"
cargo fmt --all --check

section "clippy"
cargo clippy --locked --all-targets -- -D warnings

section "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

section "tests"
cargo test --locked

# What the sections below run: what they look at, the debug build shows as well as another.
cargo build --locked
debug=$(realpath "${CARGO_TARGET_DIR:-target}/debug")

section "system calls per message"
need strace=strace taskset=util-linux
# Allocations and heap bytes are counted by tests/cost.rs.
TIDEGATE=$debug/tidegate LOADGEN=$debug/examples/loadgen ./scripts/bench.sh --only 'syscalls-*' --contenders tidegate \
    --rounds 1 --check --out "$debug/../cost"

section "demo"
cargo run --locked --example demo -- --once

section "fuzz targets"
./scripts/fuzz.sh --build

if command -v cargo-deny >/dev/null; then
    section "deny"
    cargo deny --locked check
else
    printf '\ncargo-deny is not installed: deny.toml was not checked\n'
fi

if [ "${TEST_ACCEPTANCE:-yes}" = yes ]; then
    section "acceptance, quick"
    TIDEGATE=$debug/tidegate ./scripts/acceptance/all.sh --quick
fi

section "deploy"
./scripts/check-deploy.sh --binary "$debug/tidegate"

section "Debian package"
./scripts/test-deb.sh --binary "$debug/tidegate"

# The same tier in containers, and what happens when parts of it go: six minutes. TEST_CLUSTER=no leaves it out.
if [ "${TEST_CLUSTER:-yes}" = yes ] && engine; then
    section "cluster of containers"
    ./scripts/test-cluster.sh --binary "$debug/tidegate"
fi

section_end
printf '\nall sections passed in %d s\n' "$SECONDS"
