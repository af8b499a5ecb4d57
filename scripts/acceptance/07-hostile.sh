#!/usr/bin/env bash
# Clients that no listener should trust: each is closed, counted by its reason, and memory stays flat.
set -euo pipefail
# shellcheck source=scripts/acceptance/lib.sh
. "$(dirname "$0")/lib.sh"

preface_timeout_s=2
rounds=10
at_once=50
if [ "$QUICK" = yes ]; then rounds=3; fi
start_mosquitto mosquitto 127.0.0.21 1883
start_tidegate <<TOML
[admin]
bind = "$ADMIN"
[[listeners]]
name = "mqtt"
bind = "127.0.0.10:1883"
protocol = "mqtt"
pool = "brokers"
preface_timeout = "${preface_timeout_s}s"
[pools.brokers]
endpoints = ["127.0.0.21:1883"]
health = { probe = "tcp", interval = "1s", timeout = "500ms" }
TOML
must "the endpoint is up" wait_for 10 all_up 1

closed_total() {
    metric tidegate_connections_closed_total 'listener="mqtt"' "reason=\"$1\""
}

# attack KIND COUNT: prints the attackers' own report.
attack() {
    "${clients[@]}" hostile --target 127.0.0.10:1883 --kind "$1" --count "$2" --timeout $((preface_timeout_s + 5))
}

no_attackers() {
    [ -z "$(pgrep -f -P $$ "hostile --target" || true)" ]
}

grew() {
    [ "$(closed_total "$1")" -ge "$2" ]
}

# hostile KIND REASON COUNT WHAT
hostile() {
    local kind=$1 reason=$2 count=$3 what=$4 before report
    before=$(closed_total "$reason")
    report=$(attack "$kind" "$count")
    check "$what: $count closed within $(jq .max_s <<<"$report") s, answered $(jq -c .answers <<<"$report")" \
        test "$(jq ".closed == $count and .max_s < $((preface_timeout_s + 2))" <<<"$report")" = true
    check "$what: counted as $reason" wait_for 5 grew "$reason" $((before + count))
}

hostile garbage not_mqtt "$at_once" "random bytes"
hostile publish not_mqtt "$at_once" "a PUBLISH first"
hostile half preface_timeout "$at_once" "half a CONNECT"
hostile huge preface_too_large 10 "a CONNECT of 100 MB"
hostile tls tls_on_plain_port "$at_once" "a TLS hello on the plain port"
hostile nothing preface_timeout "$at_once" "nothing"
hostile malformed malformed_connect "$at_once" "a CONNECT with the reserved flag"
hostile level unsupported_version "$at_once" "protocol level 9"

# The first round has set up what stays; from here on it must not grow.
before=$(rss_kib)
for _ in $(seq "$rounds"); do
    for kind in garbage half tls nothing malformed level; do
        attack "$kind" "$at_once" >/dev/null &
    done
    attack huge 10 >/dev/null
    # The broker's and tidegate's own jobs do not end, so the attackers are waited for by their number.
    wait_for 30 no_attackers || true
done
after=$(rss_kib)
check "memory after $((rounds * (6 * at_once + 10))) more: $before -> $after KiB" test "$after" -le $((before + 4096))
all_counted() {
    [ "$(metric tidegate_connections_accepted_total)" -eq "$(metric tidegate_connections_closed_total)" ]
}
check "each of the $(metric tidegate_connections_accepted_total) connections has one reason" wait_for 5 all_counted
check "the listener still serves" mosquitto_pub -h 127.0.0.10 -p 1883 -t t -m x
finish
