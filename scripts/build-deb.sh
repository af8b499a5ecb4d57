#!/usr/bin/env bash
# Builds the Debian package: ./scripts/build-deb.sh [--binary FILE] [--out FOLDER]
#
# Made by dpkg-deb alone, so that it builds wherever cargo does. The service is neither enabled nor started: it has no
# brokers yet. The package depends on nothing but the libraries of the binary; a static one (--binary with that of
# build-image.sh) needs none.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh

binary=""
out=${CARGO_TARGET_DIR:-target}/debian
while [ $# -gt 0 ]; do
    case $1 in
    --binary) binary=$2 && shift 2 ;;
    --out) out=$2 && shift 2 ;;
    *) sed -n 2,6p "$0" >&2 && exit 64 ;;
    esac
done
need dpkg-deb=dpkg objdump=binutils
if [ -z "$binary" ]; then
    cargo build --locked --release --bin tidegate
    binary=${CARGO_TARGET_DIR:-target}/release/tidegate
fi

version=$("$binary" version | sed 's/^tidegate //')
architecture=$(dpkg --print-architecture)
depends=""
libraries=$(ldd "$binary" 2>/dev/null || true)
if [[ $libraries == *"=> /"* ]]; then
    # The newest symbol version that the binary asks for.
    libc=$(objdump -T "$binary" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
    depends="Depends: libc6 (>= ${libc#GLIBC_}), libgcc-s1"
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 0755 "$root"
install -D -m 0755 "$binary" "$root/usr/bin/tidegate"
strip "$root/usr/bin/tidegate"
install -D -m 0644 config/tidegate.toml "$root/etc/tidegate/tidegate.toml"
install -D -m 0644 deploy/systemd/tidegate.service "$root/lib/systemd/system/tidegate.service"
install -D -m 0644 deploy/systemd/90-tidegate.conf "$root/usr/share/doc/tidegate/examples/90-tidegate.conf"
install -D -m 0644 config/minimal.toml "$root/usr/share/doc/tidegate/examples/minimal.toml"
install -m 0644 README.md "$root/usr/share/doc/tidegate/README.md"
install -m 0644 LICENSE "$root/usr/share/doc/tidegate/copyright"
gzip -9n <CHANGELOG.md >"$root/usr/share/doc/tidegate/changelog.gz"
chmod 0644 "$root/usr/share/doc/tidegate/changelog.gz"

mkdir "$root/DEBIAN"
printf '/etc/tidegate/tidegate.toml\n' >"$root/DEBIAN/conffiles"
cat >"$root/DEBIAN/control" <<CONTROL
Package: tidegate
Version: $version
Architecture: $architecture
Maintainer: tidegate
Section: net
Priority: optional
Installed-Size: $(du -ks "$root" | cut -f1)
${depends:+$depends
}Description: clustered load balancer for MQTT
 Several instances find the brokers by DNS, tell each other what they see and
 balance as one: each new client goes to the broker with the fewest
 connections over the whole tier.
CONTROL
cat >"$root/DEBIAN/postinst" <<'POSTINST'
#!/bin/sh
set -e
if [ "$1" = configure ]; then
    # Who may read keys and certificates. They are the operator's to make: `tidegate keygen`.
    getent group tidegate-keys >/dev/null || groupadd --system tidegate-keys
    if [ -d /run/systemd/system ]; then
        systemctl daemon-reload || true
        # An upgrade: a running one goes on with the new binary, after its drain; but not if that does not take the file.
        if systemctl is-active --quiet tidegate.service; then
            if tidegate check >/dev/null; then
                systemctl try-restart tidegate.service || true
            else
                echo "tidegate was not restarted: the new version does not take /etc/tidegate/tidegate.toml" >&2
            fi
        fi
    fi
fi
POSTINST
cat >"$root/DEBIAN/prerm" <<'PRERM'
#!/bin/sh
set -e
if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    systemctl disable --now tidegate.service || true
fi
PRERM
cat >"$root/DEBIAN/postrm" <<'POSTRM'
#!/bin/sh
set -e
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || true
fi
if [ "$1" = purge ]; then
    # Keys that the operator put there stay, and with them the folder and the group: its number must not become another's.
    rmdir --ignore-fail-on-non-empty /etc/tidegate 2>/dev/null || true
fi
POSTRM
chmod 0755 "$root"/DEBIAN/postinst "$root"/DEBIAN/prerm "$root"/DEBIAN/postrm

mkdir -p "$out"
package=$out/tidegate_${version}_$architecture.deb
dpkg-deb --root-owner-group --build "$root" "$package" >/dev/null
printf '%s: %s bytes\n' "$package" "$(stat -c %s "$package")"
