#!/usr/bin/env bash
# Rehearses failures on a cluster of containers: ./scripts/test-cluster.sh [--binary FILE] [--keep] [SCENARIO ...]
#
# Builds the images (no registry is asked), starts deploy/compose.test.yaml, runs the scenarios of
# scripts/cluster/scenarios.py, prints a table and takes everything down again. About 6 minutes. Needs a Docker engine,
# docker-compose or the compose plugin, and Debian's mosquitto and python3, whose files become images.
#
# --binary FILE  tests this binary; without it a static release is built
# --keep         leaves the cluster running when a scenario fails
# SCENARIO       only these, in their order; `--list` names them
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh
export PATH=$PATH:/usr/sbin:/sbin

binary=()
keep=no
scenarios=()
while [ $# -gt 0 ]; do
    case $1 in
    --binary) binary=(--binary "$2") && shift 2 ;;
    --keep) keep=yes && shift ;;
    --list) exec python3 scripts/cluster/scenarios.py --list ;;
    -*) sed -n 2,10p "$0" >&2 && exit 64 ;;
    *) scenarios+=("$1") && shift ;;
    esac
done

docker info >/dev/null 2>&1 || { printf 'no Docker engine answers\n' >&2 && exit 1; }
need mosquitto=mosquitto python3=python3
if docker compose version >/dev/null 2>&1; then
    export COMPOSE="docker compose"
else
    need docker-compose=docker-compose
    export COMPOSE="docker-compose"
fi

state=$(mktemp -d)
export COMPOSE_PROJECT_NAME=tidegate-test COMPOSE_FILE=deploy/compose.test.yaml
export TIDEGATE_IMAGE=tidegate:test TIDEGATE_TEST_CONFIG=$state/config
# shellcheck disable=SC2317,SC2329 # Called by the trap.
finish() {
    local status=$?
    docker rm --force tidegate-test-clients >/dev/null 2>&1 || true
    if [ "$status" -ne 0 ] && [ "$keep" = yes ]; then
        printf 'kept: the containers of project %s, and %s\n' "$COMPOSE_PROJECT_NAME" "$state"
    else
        if [ "$status" -ne 0 ]; then
            $COMPOSE logs --no-color --tail 60 tidegate 2>/dev/null || true
        fi
        $COMPOSE down --volumes --timeout 1 >/dev/null 2>&1 || true
        rm -rf "$state"
    fi
    section_end
}
trap finish EXIT

# image NAME COMMAND...: a scratch image of the folder $state/NAME.
image() {
    local name=$1 words
    shift
    words=$(printf '"%s",' "$@")
    printf 'FROM scratch\nCOPY . /\nSTOPSIGNAL SIGTERM\nENTRYPOINT [%s]\n' "${words%,}" >"$state/$name.dockerfile"
    build_image "tidegate-test-$name:latest" "$state/$name.dockerfile" "$state/$name"
    rm -rf "${state:?}/$name"
}

section "images"
./scripts/build-image.sh "${binary[@]}" --tag "$TIDEGATE_IMAGE"

root=$state/broker
mosquitto=$(command -v mosquitto)
install -D "$mosquitto" "$root/mosquitto"
install -m 0644 scripts/cluster/mosquitto.conf "$root/mosquitto.conf"
copy_libraries "$root" "$mosquitto"
# It asks for its own user by name.
mkdir -p "$root/etc"
printf 'root:x:0:0::/:\nmosquitto:x:65533:65533::/:\n' >"$root/etc/passwd"
printf 'root:x:0:\nmosquitto:x:65533:\n' >"$root/etc/group"
image broker /mosquitto -c /mosquitto.conf

# Debian's python3, not what PATH may name: its files are where the package put them.
root=$state/clients
version=$(/usr/bin/python3 -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
install -D "/usr/bin/$version" "$root/usr/bin/$version"
mkdir -p "$root/usr/lib/$version"
tar -C "/usr/lib/$version" --exclude=__pycache__ --exclude=./test --exclude=./ensurepip --exclude=./lib2to3 \
    --exclude='./config-*' --exclude=./pydoc_data --exclude=./distutils -cf - . | tar -C "$root/usr/lib/$version" -xf -
copy_libraries "$root" "/usr/bin/$version" "/usr/lib/$version"/lib-dynload/*.so
install -m 0644 scripts/cluster/clients.py "$root/clients.py"
image clients "/usr/bin/$version" -I -B /clients.py

section "cluster"
$COMPOSE --file deploy/compose.yaml --profile observe config --quiet
mkdir -p "$TIDEGATE_TEST_CONFIG"
install -m 0644 scripts/cluster/tidegate.toml "$TIDEGATE_TEST_CONFIG/tidegate.toml"
head -c 32 /dev/urandom | base64 >"$TIDEGATE_TEST_CONFIG/gossip.keys"
# The instances run as another user than this script; the folder above is closed to everybody else.
chmod 0644 "$TIDEGATE_TEST_CONFIG/gossip.keys"
chmod 0755 "$TIDEGATE_TEST_CONFIG"
$COMPOSE down --volumes --timeout 1 >/dev/null 2>&1 || true
up=$($COMPOSE up -d --scale broker=3 --scale tidegate=3 2>&1) || { printf '%s\n' "$up" >&2 && exit 1; }
docker create --interactive --name tidegate-test-clients --network "${COMPOSE_PROJECT_NAME}_front" tidegate-test-clients:latest >/dev/null
docker network connect "${COMPOSE_PROJECT_NAME}_back" tidegate-test-clients

section "scenarios"
python3 scripts/cluster/scenarios.py "${scenarios[@]}"
