#!/usr/bin/env bash
# A broker that hangs (SIGSTOP): the kernel still accepts for it, so only the missing CONNACK tells. New clients are
# served by the others after one CONNACK time-out at most; the last eligible endpoint is never ejected.
set -euo pipefail
# shellcheck source=scripts/acceptance/lib.sh
. "$(dirname "$0")/lib.sh"

connack_timeout_ms=2000
slack_ms=1000
seconds=15
if [ "$QUICK" = yes ]; then seconds=8; fi
for last in 21 22 23 24; do
    start_mosquitto "mosquitto-$last" "127.0.0.$last" 1883
done
start_tidegate <<TOML
[admin]
bind = "$ADMIN"
[[listeners]]
name = "three"
bind = "127.0.0.10:1883"
protocol = "mqtt"
pool = "three"
[[listeners]]
name = "one"
bind = "127.0.0.10:1884"
protocol = "mqtt"
pool = "one"
[pools.three]
endpoints = ["127.0.0.21:1883", "127.0.0.22:1883", "127.0.0.23:1883"]
connect_timeout = "1s"
connack_timeout = "${connack_timeout_ms}ms"
health = { probe = "tcp", interval = "1s", timeout = "500ms" }
outlier = { ejection = "2s", ejection_max = "4s" }
[pools.one]
endpoints = ["127.0.0.24:1883"]
connect_timeout = "1s"
connack_timeout = "500ms"
health = { probe = "tcp", interval = "1s", timeout = "500ms" }
outlier = { failures = 2 }
TOML
must "four endpoints are up" wait_for 10 all_up 4

taking() { [ "$(endpoint_connections "$1")" -gt 0 ]; }
finished() { grep -q '"connected"' "$work/$1.log"; }
report() { tail -n 1 "$work/$1.log"; }

start rate "${clients[@]}" rate --target 127.0.0.10:1883 --rate 100 --seconds "$seconds" --hold 1 --timeout 15
must "the victim holds clients" wait_for 10 taking 127.0.0.23:1883
signal mosquitto-23 STOP
check "a hung broker is taken out" wait_for 10 endpoint_is 127.0.0.23:1883 '.eligible == false or .state == "half_open"'
printf '      why: %s\n' "$(endpoints 'map(select(.address == "127.0.0.23:1883") | .why) | first')"
must "the clients end" wait_for 60 finished rate
check "no connect failed: $(report rate)" grep -q '"failed": 0,' "$work/rate.log"
slowest=$(report rate | jq '.max_ms | floor')
check "the slowest waited $slowest ms, at most one CONNACK time-out of $connack_timeout_ms ms" \
    test "$slowest" -le $((connack_timeout_ms + slack_ms))

# With the hang known, new clients do not meet it but for the trials.
start rate-known "${clients[@]}" rate --target 127.0.0.10:1883 --rate 100 --seconds 4 --hold 1 --timeout 15
must "the clients end" wait_for 60 finished rate-known
check "while it is out: $(report rate-known)" test "$(report rate-known | jq '.failed == 0 and .p50_ms < 100')" = true

signal mosquitto-23 CONT
start rate-back "${clients[@]}" rate --target 127.0.0.10:1883 --rate 50 --seconds 20 --hold 1
check "awake, it is re-admitted" wait_for 20 endpoint_is 127.0.0.23:1883 '.state == "up" and .own_connections > 0'
stop rate-back

# Alone, it stays eligible however many attempts fail. Few clients: their attempts, and the probes that each failure
# asks for, must not fill the stopped process's backlog of 100, or the TCP probe finds it down: another kind of verdict.
signal mosquitto-24 STOP
start rate-one "${clients[@]}" rate --target 127.0.0.10:1884 --rate 2 --seconds 3 --hold 1 --timeout 10
ejected=no
for _ in $(seq 40); do
    endpoint_is 127.0.0.24:1883 '.eligible and .state == "up"' || ejected=yes
    sleep 0.1
done
attempts_failed=$(endpoints 'map(select(.address == "127.0.0.24:1883") | .failures_total) | add')
check "the last eligible endpoint is never ejected, after $attempts_failed failures where 2 would do" \
    test "$ejected:$((attempts_failed >= 10))" = no:1
must "the clients end" wait_for 60 finished rate-one
check "its clients are told so: $(report rate-one)" test "$(report rate-one | jq -c .why)" = '{"connack 0x88":6}'
signal mosquitto-24 CONT
start rate-last "${clients[@]}" rate --target 127.0.0.10:1884 --rate 20 --seconds 1 --hold 1
must "the clients end" wait_for 60 finished rate-last
check "awake, it serves at once: $(report rate-last)" grep -q '"failed": 0,' "$work/rate-last.log"
finish
