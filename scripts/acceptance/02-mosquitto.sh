#!/usr/bin/env bash
# Real brokers and real clients: three mosquitto, mosquitto_pub and mosquitto_sub through a plain and a TLS listener in
# every version, QoS and size; then 1000 idle clients, level over the brokers.
#
# The brokers do not know each other, so each message has three subscribers: least connections puts one on each broker,
# and exactly one of them hears the publisher.
set -euo pipefail
# shellcheck source=scripts/acceptance/lib.sh
. "$(dirname "$0")/lib.sh"

make_certs
for last in 21 22 23; do
    start_mosquitto "mosquitto-$last" "127.0.0.$last" 1883
done
start_tidegate <<TOML
[admin]
bind = "$ADMIN"
[[listeners]]
name = "plain"
bind = "127.0.0.10:1883"
protocol = "mqtt"
pool = "brokers"
[[listeners]]
name = "tls"
bind = "127.0.0.10:8883"
protocol = "mqtt"
pool = "brokers"
tls = { cert = "listener.pem", key = "listener.key" }
[pools.brokers]
endpoints = ["127.0.0.21:1883", "127.0.0.22:1883", "127.0.0.23:1883"]
health = { probe = "tcp", interval = "500ms", timeout = "500ms" }
TOML
must "three endpoints are up" wait_for 10 all_up 3

: >"$work/empty"
head -c 786432 /dev/urandom | base64 -w0 >"$work/megabyte"

subscribed() {
    [ "$(grep -c 'received SUBACK' "$work"/sub-?.log | awk -F: '{ n += $2 > 0 } END { print n }')" -eq 3 ]
}

# pass LISTENER VERSION QOS PAYLOAD
pass() {
    local listener=$1 version=$2 qos=$3 payload=$4 n got
    local reach=(-h 127.0.0.10 -p 1883)
    if [ "$listener" = tls ]; then reach=(-h 127.0.0.10 -p 8883 --cafile "$work/ca.pem"); fi
    must "nobody is connected" wait_for 10 connections_are 0
    rm -f "$work"/sub-?.log
    for n in 1 2 3; do
        start "sub-$n" stdbuf -oL mosquitto_sub "${reach[@]}" -V "$version" -q "$qos" -t "t/$qos" -d -C 1 -W 20 -F 'MESSAGE %q %l %p'
    done
    must "three subscribers at $listener $version" wait_for 10 subscribed
    mosquitto_pub "${reach[@]}" -V "$version" -q "$qos" -t "t/$qos" -f "$work/$payload" >"$work/pub.log" 2>&1 || true
    wait_for 10 one_heard || true
    got=$(cat "$work"/sub-?.log | grep -a '^MESSAGE ' || true)
    for n in 1 2 3; do stop "sub-$n"; done
    [ "$got" = "MESSAGE $qos $(wc -c <"$work/$payload") $(cat "$work/$payload")" ]
}

one_heard() {
    [ "$(cat "$work"/sub-?.log | grep -ac '^MESSAGE ')" -ge 1 ]
}

for listener in plain tls; do
    for version in mqttv31 mqttv311 mqttv5; do
        for qos in 0 1 2; do
            for payload in empty megabyte; do
                # Quick: the small payload on the one listener, the large one on the other.
                if [ "$QUICK" = yes ] && { [ "$listener" = tls ] && [ "$payload" = empty ] || [ "$listener" = plain ] && [ "$payload" = megabyte ]; }; then
                    continue
                fi
                check "$listener $version QoS $qos, $(wc -c <"$work/$payload") B" pass "$listener" "$version" "$qos" "$payload"
            done
        done
    done
done

# 1000 clients, half of them over TLS, arriving 50 at a time.
must "nobody is connected" wait_for 10 connections_are 0
start idle-plain "${clients[@]}" idle --target 127.0.0.10:1883 --count 500
start idle-tls "${clients[@]}" idle --target 127.0.0.10:8883 --count 500 --ca "$work/ca.pem"
must "1000 clients are in" wait_for 60 grep -q ready "$work/idle-tls.log"
must "1000 clients are in" wait_for 60 grep -q ready "$work/idle-plain.log"
wait_for 10 connections_are 1000 || true
counts=$(endpoints 'map(.own_connections) | sort | map(tostring) | join("/")')
spread=$(endpoints 'map(.own_connections) | max - min')
check "1000 clients: $counts by the API" test "$spread" -le 1

kernel_counts() {
    local last
    for last in 21 22 23; do
        ss -Htn state established "src 127.0.0.$last and sport = :1883" | wc -l
    done | sort -n | paste -sd/
}
kernel_agrees() { [ "$(kernel_counts)" = "$counts" ]; }
# A health check may be on its way while the kernel counts.
wait_for 5 kernel_agrees || true
check "1000 clients: $(kernel_counts) by the kernel" kernel_agrees
stop idle-plain
stop idle-tls
check "no client was lost" test "$(cat "$work"/idle-*.log | grep -c '"lost": 0')" -eq 2
check "all connections are gone" wait_for 10 connections_are 0
finish
