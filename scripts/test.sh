#!/usr/bin/env bash
# Everything that a change has to pass, on a laptop as in CI: ./scripts/test.sh
#
# One profile (dev) throughout: clippy, docs, tests and the demo share their dependencies' builds, and a cold run stays
# within 15 minutes on two cores. The release build, which the demo's own command asks for, would compile all of it a
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
python3 -c 'import ast, sys; [ast.parse(open(name).read(), name) for name in sys.argv[1:]]' scripts/acceptance/*.py scripts/bench/*.py scripts/cluster/*.py

section "format"
cargo fmt --all --check

section "clippy"
cargo clippy --locked --all-targets -- -D warnings

section "docs"
RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

section "tests"
cargo test --locked

section "system calls per message"
cargo build --locked
need strace=strace taskset=util-linux
# Counts, so that the debug build tells as much as another. Allocations and heap bytes are counted by tests/cost.rs.
debug=$(realpath "${CARGO_TARGET_DIR:-target}/debug")
TIDEGATE=$debug/tidegate LOADGEN=$debug/examples/loadgen ./scripts/bench.sh --only 'syscalls-*' --contenders tidegate \
    --rounds 1 --check --out "$debug/../cost"

if [ -e examples/demo.rs ]; then
    section "demo"
    cargo run --locked --example demo -- --once
fi

if [ -e scripts/fuzz.sh ]; then
    section "fuzz targets"
    ./scripts/fuzz.sh --build
fi

if command -v cargo-deny >/dev/null; then
    section "deny"
    cargo deny --locked check
else
    printf '\ncargo-deny is not installed: deny.toml was not checked\n'
fi

if [ "${TEST_ACCEPTANCE:-yes}" = yes ] && [ -e examples/demo.rs ]; then
    section "acceptance, quick"
    cargo build --locked
    TIDEGATE=${CARGO_TARGET_DIR:-target}/debug/tidegate ./scripts/acceptance/all.sh --quick
fi

section "deploy"
need promtool=prometheus
(cd deploy/prometheus && promtool check rules rules.yml && promtool test rules rules.test.yml &&
    promtool check config --syntax-only prometheus.yml)
if command -v kubectl >/dev/null; then
    kubectl kustomize deploy/kubernetes >/dev/null
fi

# TEST_CLUSTER=yes adds seven minutes: the same tier in containers, and what happens when parts of it go.
if [ "${TEST_CLUSTER:-no}" = yes ]; then
    section "cluster of containers"
    cargo build --locked
    ./scripts/test-cluster.sh --binary "${CARGO_TARGET_DIR:-target}/debug/tidegate"
fi

section_end
printf '\nall sections passed in %d s\n' "$SECONDS"
