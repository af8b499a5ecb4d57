#!/usr/bin/env bash
# Checks what people deploy, without deploying it: ./scripts/check-deploy.sh [--binary FILE]
#
# Alert rules with promtool; the compose files with docker-compose 1.29 and as the Compose specification; the Helm chart
# with Helm's engine; kustomize; what both render against the schemas of the Kubernetes API and against each other; each
# configuration inside with `tidegate check`. Tools come from Debian, and from PyPI into target/deploy-tools.
#
# --binary FILE  asks this tidegate; without it the debug build
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh
export PATH=$PATH:/usr/sbin:/sbin

binary=""
while [ $# -gt 0 ]; do
    case $1 in
    --binary) binary=$(realpath "$2") && shift 2 ;;
    *) sed -n 2,8p "$0" >&2 && exit 64 ;;
    esac
done
if [ -z "$binary" ]; then
    cargo build --locked --bin tidegate
    binary=$(realpath "${CARGO_TARGET_DIR:-target}/debug/tidegate")
fi

need promtool=prometheus docker-compose=docker-compose python3=python3 openssl=openssl
(cd deploy/prometheus && promtool check rules rules.yml && promtool test rules rules.test.yml &&
    promtool check config --syntax-only prometheus.yml)

for files in "compose.yaml" "compose.yaml --profile observe" "compose.test.yaml" "compose.yaml --file deploy/compose.test.yaml"; do
    # shellcheck disable=SC2086 # Words on purpose.
    docker-compose --file deploy/$files config --quiet
    printf 'docker-compose %s: deploy/%s\n' "$(docker-compose version --short)" "$files"
    if docker compose version >/dev/null 2>&1; then
        # shellcheck disable=SC2086 # As above.
        docker compose --file deploy/$files config --quiet
        printf 'docker compose %s: deploy/%s\n' "$(docker compose version --short)" "$files"
    fi
done

tools=${CARGO_TARGET_DIR:-target}/deploy-tools
if ! cmp -s scripts/deploy/requirements.txt "$tools/requirements.txt"; then
    rm -rf "$tools"
    python3 -c 'import ensurepip' 2>/dev/null || need venv=python3-venv
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: --requirement scripts/deploy/requirements.txt
    cp scripts/deploy/requirements.txt "$tools/requirements.txt"
fi
"$tools/bin/python" -B scripts/deploy/check.py "$binary" "$tools/bin/kubectl"
