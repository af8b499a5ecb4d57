#!/usr/bin/env bash
# Brokers from DNS, served by dnsmasq: added, removed, NXDOMAIN, an empty answer, a dead and a hung DNS server, and a
# start while DNS is down.
set -euo pipefail
# shellcheck source=scripts/acceptance/lib.sh
. "$(dirname "$0")/lib.sh"

ttl=2
name=brokers.example.test
for last in 21 22 23; do
    start_mosquitto "mosquitto-$last" "127.0.0.$last" 1883
done

# hosts ADDRESS...: what the name stands for. dnsmasq reads the file again on SIGHUP.
hosts() {
    local address
    for address in "$@"; do printf '%s %s\n' "$address" "$name"; done >"$work/hosts"
    if [ -n "${pid_of[dnsmasq]:-}" ]; then signal dnsmasq HUP; fi
}

start_dnsmasq() {
    start dnsmasq dnsmasq --keep-in-foreground --conf-file=/dev/null --port=5353 --listen-address=127.0.0.53 \
        --bind-interfaces --no-resolv --no-hosts --addn-hosts="$work/hosts" --local-ttl="$ttl" --local=/example.test/ \
        --user=root --pid-file= --log-facility=- --log-queries "$@"
    must "dnsmasq listens" wait_for 10 dns_listens
}
dns_listens() { [ -n "$(ss -Hlun 'src 127.0.0.53 and sport = :5353')" ]; }

start_tidegate <<TOML
[admin]
bind = "$ADMIN"
[dns]
servers = ["127.0.0.53:5353"]
timeout = "500ms"
ttl_floor = "500ms"
ttl_ceiling = "10s"
retry = "500ms"
[[listeners]]
name = "mqtt"
bind = "127.0.0.10:1883"
protocol = "mqtt"
pool = "brokers"
[pools.brokers]
discover = "dns+a://$name:1883"
health = { probe = "tcp", interval = "500ms", timeout = "500ms" }
TOML

no_endpoints() { [ "$(endpoints length)" -eq 0 ]; }
check "DNS down at the start: tidegate runs, without endpoints" no_endpoints
hosts 127.0.0.21 127.0.0.22
start_dnsmasq
begin=$(now_ms)
check "DNS comes up: two endpoints" wait_for 15 all_up 2
printf '      after %d ms\n' "$(($(now_ms) - begin))"

start rate "${clients[@]}" rate --target 127.0.0.10:1883 --rate 50 --seconds 600 --hold 3
taking() { [ "$(endpoint_connections "$1")" -gt 0 ]; }
must "clients are coming" wait_for 10 taking 127.0.0.21:1883

# Added: connections within TTL + 1 s.
begin=$(now_ms)
hosts 127.0.0.21 127.0.0.22 127.0.0.23
check "an added broker takes connections" wait_for 10 taking 127.0.0.23:1883
took=$(($(now_ms) - begin))
check "within TTL + 1 s: $took ms" test "$took" -le $((ttl * 1000 + 1000))

# Removed: no new ones, and the old ones stay.
start held "${clients[@]}" idle --target 127.0.0.10:1883 --count 30
must "held clients are in" wait_for 10 grep -q ready "$work/held.log"
hosts 127.0.0.22 127.0.0.23
gone() { endpoint_is 127.0.0.21:1883 '.eligible == false'; }
check "a removed broker is no longer eligible" wait_for 10 gone
# Clients of the rate run stay 3 s; after that the held ones alone are left on it.
drained_to_held() { [ "$(endpoint_connections 127.0.0.21:1883)" -le 12 ]; }
check "its short connections end" wait_for 10 drained_to_held
check "its held connections stay: $(endpoint_connections 127.0.0.21:1883)" test "$(endpoint_connections 127.0.0.21:1883)" -ge 5
hosts 127.0.0.21 127.0.0.22 127.0.0.23
three_eligible() { [ "$(endpoints 'map(select(.eligible)) | length')" -eq 3 ]; }
check "back in DNS: eligible again" wait_for 10 three_eligible

# undisturbed WHAT SECONDS: the set of eligible endpoints does not change meanwhile.
undisturbed() {
    local what=$1 deadline=$(($(now_ms) + $2 * 1000)) steady=yes
    while [ "$(now_ms)" -lt "$deadline" ]; do
        three_eligible || steady=no
        sleep 0.1
    done
    check "$what: nothing changes in $2 s" test "$steady" = yes
}
long=$((ttl * 3))
if [ "$QUICK" = yes ]; then long=$((ttl * 2)); fi
hosts
undisturbed "NXDOMAIN" "$long"
stop dnsmasq
start_dnsmasq --txt-record="$name,here"
undisturbed "an empty answer" "$long"
stop dnsmasq KILL
undisturbed "a dead DNS server" "$long"
hosts 127.0.0.21 127.0.0.22 127.0.0.23
start_dnsmasq
signal dnsmasq STOP
undisturbed "a hung DNS server" "$long"
signal dnsmasq CONT

hosts 127.0.0.22 127.0.0.23
check "after all that DNS is heard again" wait_for 25 gone
signal rate TERM
rate_is_done() { grep -q '"connected"' "$work/rate.log"; }
wait_for 15 rate_is_done || true
check "no connect failed: $(tail -n 1 "$work/rate.log")" grep -q '"failed": 0,' "$work/rate.log"
stop held
check "no held client was lost" grep -q '"lost": 0' "$work/held.log"
finish
