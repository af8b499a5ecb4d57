#!/usr/bin/env bash
# Builds the static binary and the container image: ./scripts/build-image.sh [--binary FILE] [--tag TAG]
#
# --binary FILE takes a binary that is there already. One that is not static brings its libraries into the image: good
# for trying out a debug build, not for shipping.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

binary=""
tag=tidegate:latest
while [ $# -gt 0 ]; do
    case $1 in
    --binary) binary=$2 && shift 2 ;;
    --tag) tag=$2 && shift 2 ;;
    *) sed -n 2,5p "$0" >&2 && exit 64 ;;
    esac
done

if [ -z "$binary" ]; then
    host=$(rustc -vV | sed -n 's/^host: //p')
    # With --target the flag reaches the program but not build scripts and procedural macros, which cannot be static.
    RUSTFLAGS="-C target-feature=+crt-static" cargo build --locked --release --bin tidegate --target "$host"
    binary=${CARGO_TARGET_DIR:-target}/$host/release/tidegate
fi

context=$(mktemp -d)
trap 'rm -rf "$context"' EXIT
mkdir -p "$context/rootfs/etc/tidegate"
install -m 0755 "$binary" "$context/rootfs/tidegate"
copy_libraries "$context/rootfs" "$binary"
install -m 0644 deploy/image/tidegate.toml "$context/rootfs/etc/tidegate/tidegate.toml"
authorities=/etc/ssl/certs/ca-certificates.crt
[ -e "$authorities" ] || need ca-certificates=ca-certificates
install -D -m 0644 "$authorities" "$context/rootfs$authorities"
# Whoever builds, the folders are for everybody to enter.
find "$context/rootfs" -type d -exec chmod 0755 {} +
build_image "$tag" deploy/Dockerfile "$context"
if [ "$tag" = tidegate:latest ]; then
    # What the manifests for Kubernetes ask for.
    docker tag "$tag" "tidegate:$("$binary" version | sed 's/^tidegate //')"
fi
printf '%s: %s bytes\n' "$tag" "$(docker image inspect --format '{{.Size}}' "$tag")"
