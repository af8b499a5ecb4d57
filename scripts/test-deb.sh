#!/usr/bin/env bash
# Builds the Debian package and lives its life: ./scripts/test-deb.sh [--binary FILE]
#
# Installs it into a Debian of its own that has systemd as its init (a container without a network), in front of
# Debian's mosquitto: start, a message over TLS, hardening as the kernel sees it, a renewed certificate by reload, a
# crash, a hang that the watchdog ends, a wrong configuration, an upgrade, remove and purge. Then the unit's security
# score. About a minute; the first time on a machine another one, for the container's image.
#
# --binary FILE  packs this binary; without it a release is built
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/lib.sh
. scripts/lib.sh
export PATH=$PATH:/usr/sbin:/sbin

binary=()
while [ $# -gt 0 ]; do
    case $1 in
    --binary) binary=(--binary "$2") && shift 2 ;;
    *) sed -n 2,10p "$0" >&2 && exit 64 ;;
    esac
done

engine || exit 0
need mmdebstrap=mmdebstrap openssl=openssl systemd-analyze=systemd

packages=systemd,systemd-sysv,mosquitto,mosquitto-clients,openssl,procps
# Another list is another image.
image=tidegate-test-init:$(printf '%s' "$packages" | cksum | cut -d ' ' -f 1)
box=tidegate-test-init
state=$(mktemp -d)
# shellcheck disable=SC2317,SC2329 # Called by the trap.
finish() {
    local status=$?
    if [ "$status" -ne 0 ]; then
        within journalctl --no-pager --lines 40 --unit tidegate 2>/dev/null || true
    fi
    docker rm --force "$box" >/dev/null 2>&1 || true
    rm -rf "$state"
}
trap finish EXIT

within() { docker exec "$box" "$@"; }
step() { printf -- '- %s\n' "$1"; }
fail() { printf 'FAILED: %s\n' "$1" >&2 && exit 1; }
# wait_until WHAT COMMAND...: asks until it is so, at most 20 s.
wait_until() {
    local what=$1 end=$((SECONDS + 20))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || fail "not within 20 s: $what"
        sleep 0.1
    done
}
main_pid() { within systemctl show --property MainPID --value tidegate; }
# Another process than $1 has the service, and says that it is ready.
succeeded() { [ "$(main_pid)" != "$1" ] && within systemctl is-active --quiet tidegate && within tidegate status; }
serial() {
    within sh -c 'openssl s_client -connect 127.0.0.1:8883 </dev/null 2>/dev/null | openssl x509 -noout -serial'
}
serves() { [ "$(serial)" = "$1" ]; }
certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -set_serial "$1" \
        -addext 'subjectAltName=DNS:localhost' -keyout "$state/server.key" -out "$state/server.crt" 2>/dev/null
    chmod 0640 "$state/server.key" "$state/server.crt"
    docker cp --quiet "$state/server.key" "$box:/etc/tidegate/server.key"
    docker cp --quiet "$state/server.crt" "$box:/etc/tidegate/server.crt"
    within chgrp tidegate-keys /etc/tidegate/server.key /etc/tidegate/server.crt
}
# A message through the tier over TLS to the real broker and back, with QoS 1.
message() {
    within timeout 10 sh -c 'mosquitto_sub -h localhost -p 8883 --cafile /etc/tidegate/server.crt -t t -q 1 -C 1 >/tmp/got & sleep 0.3
        mosquitto_pub -h localhost -p 8883 --cafile /etc/tidegate/server.crt -t t -q 1 -m hello && wait && grep -q hello /tmp/got'
}

step "package"
./scripts/build-deb.sh "${binary[@]}" --out "$state"
package=$(echo "$state"/*.deb)

if [ -z "$(docker image ls --quiet "$image")" ]; then
    step "a Debian with an init"
    suite=$(. /etc/os-release && printf '%s' "$VERSION_CODENAME")
    mmdebstrap --quiet --variant=minbase --include="$packages" "$suite" - 2>"$state/log" |
        docker import - "$image" >/dev/null || { cat "$state/log" >&2 && exit 1; }
fi
# What systemd needs to be an init, and no more. In a place without CAP_SYS_RESOURCE the unit's limit of descriptors is
# lowered by systemd, and its OOM score left out.
docker rm --force "$box" >/dev/null 2>&1 || true
docker run --detach --name "$box" --network none --cgroupns host --cap-add SYS_ADMIN --cap-add NET_ADMIN \
    --security-opt seccomp=unconfined --security-opt apparmor=unconfined --env container=docker \
    --tmpfs /run --tmpfs /run/lock --volume /sys/fs/cgroup:/sys/fs/cgroup:rw "$image" /sbin/init >/dev/null
wait_until "an init that runs" within systemctl is-system-running
within systemctl start mosquitto

step "install: neither enabled nor started, its files are root's"
docker cp --quiet "$package" "$box:/tidegate.deb"
within dpkg --install /tidegate.deb >"$state/log" 2>&1 || { cat "$state/log" >&2 && fail "dpkg --install"; }
within sh -c 'systemctl is-enabled tidegate || systemctl is-active tidegate' >/dev/null && fail "enabled or started by the installation"
within tidegate check -c /etc/tidegate/tidegate.toml >/dev/null || fail "the configuration that comes with it is not good"
[ -z "$(within sh -c 'dpkg --listfiles tidegate | xargs stat -c "%U:%G %n" | grep -v ^root:root')" ] || fail "files that are not root's"

step "unit: systemd-analyze"
within systemd-analyze verify tidegate.service
# 2.0 of 10: below what systemd calls OK.
within systemd-analyze security --threshold=20 --no-pager tidegate.service | tail -n 1

step "start: notify, a message over TLS"
certificate 11
cat >"$state/tidegate.toml" <<'TOML'
[drain]
delay = "0s"
grace = "1s"
timeout = "5s"

[[listeners]]
name = "mqtts"
bind = "0.0.0.0:8883"
tls = { cert = "/etc/tidegate/server.crt", key = "/etc/tidegate/server.key" }

[pools.local]
endpoints = ["127.0.0.1:1883"]
health = { probe = "mqtt", interval = "500ms" }
TOML
chmod 0644 "$state/tidegate.toml"
docker cp --quiet "$state/tidegate.toml" "$box:/etc/tidegate/tidegate.toml"
within systemctl enable --quiet --now tidegate
wait_until "ready" within tidegate status
within tidegate status
message || fail "a message over TLS"

step "hardening, as the kernel sees it"
pid=$(main_pid)
status=$(within cat "/proc/$pid/status")
for line in $'CapEff:\t0000000000000000' $'CapBnd:\t0000000000000000' $'NoNewPrivs:\t1' $'Seccomp:\t2'; do
    grep -qF "$line" <<<"$status" || fail "not so: $line"
done
[ "$(within stat -c %u "/proc/$pid")" -ge 61184 ] || fail "not a dynamic user: $(within stat -c %U "/proc/$pid")"
[ "$(within sh -c "awk '/open files/ { print \$4, \$5 }' /proc/$pid/limits | tr ' ' '\n' | sort -u | wc -l")" -eq 1 ] ||
    fail "soft and hard limit of descriptors differ"

step "reload: a renewed certificate, the process stays"
certificate 22
within systemctl reload tidegate
wait_until "the renewed certificate" serves serial=16
[ "$(main_pid)" = "$pid" ] || fail "reload started another process"

step "reload with a wrong key changes nothing, and the log names it"
within sh -c 'printf "\n[drian]\n" >>/etc/tidegate/tidegate.toml && systemctl reload tidegate'
wait_until "its line in the journal" within sh -c 'journalctl --unit tidegate | grep -q drian'
message || fail "a message after a bad reload"

step "restart with it is refused, and not tried again and again"
within systemctl restart tidegate 2>/dev/null && fail "started with a wrong configuration"
# Longer than RestartSec.
sleep 2.5
[ "$(within systemctl show --property ActiveState --value tidegate)" = failed ] || fail "it is still trying"
[ "$(within systemctl show --property NRestarts --value tidegate)" = 0 ] || fail "started over and over"
within sh -c 'sed -i /drian/d /etc/tidegate/tidegate.toml && systemctl reset-failed tidegate && systemctl start tidegate'

step "killed: back by itself"
pid=$(main_pid)
within kill -KILL "$pid"
wait_until "another process" succeeded "$pid"

step "hung: the watchdog ends it"
within sh -c 'mkdir -p /run/systemd/system/tidegate.service.d && cd /run/systemd/system/tidegate.service.d &&
    printf "[Service]\nWatchdogSec=2s\nTimeoutAbortSec=1s\n" >short.conf && systemctl daemon-reload && systemctl restart tidegate'
pid=$(main_pid)
within kill -STOP "$pid"
wait_until "another process" succeeded "$pid"
within sh -c 'journalctl --unit tidegate | grep -q "Watchdog timeout"' || fail "it was not the watchdog"
message || fail "a message after all that"

step "upgrade: the running service goes over to it"
pid=$(main_pid)
within dpkg --install /tidegate.deb >/dev/null
wait_until "another process" succeeded "$pid"

step "remove: stopped, disabled, the configuration stays"
within dpkg --remove tidegate >/dev/null
within sh -c 'pgrep -x tidegate || test -e /usr/bin/tidegate || test -e /lib/systemd/system/tidegate.service ||
    ls /etc/systemd/system/*.wants/tidegate.service 2>/dev/null' && fail "something is left that should not be"
within test -e /etc/tidegate/tidegate.toml || fail "the configuration is gone"

step "purge: nothing left but the operator's keys"
within dpkg --purge tidegate >/dev/null
[ "$(within sh -c 'ls /etc/tidegate')" = $'server.crt\nserver.key' ] || fail "in /etc/tidegate: $(within ls /etc/tidegate)"
printf 'the package was installed, run, broken, upgraded and removed\n'
