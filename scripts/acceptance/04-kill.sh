#!/usr/bin/env bash
# Brokers that die or refuse under 200 new connections a second. No client may see a failed connect: kill -9, a broker
# that accepts and closes (its max_connections), one that answers CONNACK 0x97 or, to 3.x clients, 3.
set -euo pipefail
# shellcheck source=scripts/acceptance/lib.sh
. "$(dirname "$0")/lib.sh"

seconds=15
if [ "$QUICK" = yes ]; then seconds=8; fi
for last in 21 22; do
    start_mosquitto "mosquitto-$last" "127.0.0.$last" 1883
done
start_mosquitto mosquitto-23 127.0.0.23 1883
start_tidegate <<TOML
[admin]
bind = "$ADMIN"
[[listeners]]
name = "kill"
bind = "127.0.0.10:1883"
protocol = "mqtt"
pool = "kill"
[[listeners]]
name = "odd"
bind = "127.0.0.10:1884"
protocol = "mqtt"
pool = "odd"
[pools.kill]
endpoints = ["127.0.0.21:1883", "127.0.0.22:1883", "127.0.0.23:1883"]
health = { probe = "tcp", interval = "1s", timeout = "500ms" }
outlier = { ejection = "2s" }
[pools.odd]
endpoints = ["127.0.0.21:1883", "127.0.0.22:1883", "127.0.0.24:1883"]
health = { probe = "tcp", interval = "1s", timeout = "500ms" }
outlier = { ejection = "2s", ejection_max = "4s" }
TOML
must "endpoints are up" wait_for 10 endpoint_is 127.0.0.23:1883 '.state == "up"'

taking() { [ "$(endpoint_connections "$1")" -gt 0 ]; }
not_eligible() { endpoint_is "$1" '.eligible == false'; }
finished() { grep -q '"connected"' "$work/$1.log"; }
report() { tail -n 1 "$work/$1.log"; }

# kill -9, then back.
start rate-kill "${clients[@]}" rate --target 127.0.0.10:1883 --rate 200 --seconds "$seconds" --hold 1
must "the victim holds clients" wait_for 10 taking 127.0.0.23:1883
sleep 1
held=$(endpoint_connections 127.0.0.23:1883)
begin=$(now_ms)
stop mosquitto-23 KILL
check "a killed broker with $held clients is out" wait_for 10 not_eligible 127.0.0.23:1883
printf '      after %d ms\n' "$(($(now_ms) - begin))"
start_mosquitto mosquitto-23 127.0.0.23 1883
check "restarted, it takes clients again" wait_for 30 taking 127.0.0.23:1883
must "the clients end" wait_for 60 finished rate-kill
check "kill -9: no connect failed: $(report rate-kill)" grep -q '"failed": 0,' "$work/rate-kill.log"

# odd MODE VERSION WHAT: a broker that refuses, is bypassed, ejected, and comes back when it is well.
odd() {
    local mode=$1 version=$2 what=$3 run
    run=rate-${mode//[^a-z0-9]/-}-$version
    set_fake fake "$mode"
    start "$run" "${clients[@]}" rate --target 127.0.0.10:1884 --rate 200 --seconds $((seconds + 12)) --hold 1 --version "$version"
    check "$what: ejected" wait_for 10 endpoint_is 127.0.0.24:1883 '.state == "ejected" or .state == "full" or .state == "half_open"'
    printf '      why: %s\n' "$(endpoints 'map(select(.address == "127.0.0.24:1883") | .why) | first')"
    sleep 3
    check "$what: its trials do not let it back" not_taking 127.0.0.24:1883
    set_fake fake serve
    check "$what: well again, re-admitted" wait_for 15 taking 127.0.0.24:1883
    sleep 2
    signal "$run" TERM
    must "the clients end" wait_for 60 finished "$run"
    check "$what: no connect failed: $(report "$run")" grep -q '"failed": 0,' "$work/$run.log"
}
not_taking() { ! endpoint_is "$1" '.state == "up"'; }

start_fake fake 127.0.0.24:1883 serve
must "the fake broker is up" wait_for 10 endpoint_is 127.0.0.24:1883 '.state == "up"'
odd close 5 "accepts and closes"
odd connack:0x97 5 "CONNACK 0x97"
if [ "$QUICK" = no ]; then
    odd connack:0x97 311 "3.1.1 return code 3"
fi
printf '      retries: %s\n' "$(metric tidegate_connect_retries_total)"
finish
