#!/usr/bin/env bash
# Twelve broken configuration files: exit code 64, and errors that name the file, the key, the value and what is allowed.
set -euo pipefail
# shellcheck source=scripts/acceptance/lib.sh
. "$(dirname "$0")/lib.sh"

good='[[listeners]]
name = "mqtt"
bind = "127.0.0.1:1883"
protocol = "mqtt"
pool = "brokers"
[pools.brokers]
endpoints = ["127.0.0.11:1883"]'

# refused NAME TEXT WORD...: every word stands in the error.
refused() {
    local name=$1 word status=0 missing=()
    printf '%s\n' "$2" >"$work/$name.toml"
    shift 2
    "$TIDEGATE" check -c "$work/$name.toml" >"$work/$name.out" 2>&1 || status=$?
    for word in "$name.toml" "$@"; do
        grep -Fq -- "$word" "$work/$name.out" || missing+=("$word")
    done
    if [ "$status" -eq 64 ] && [ "${#missing[@]}" -eq 0 ]; then
        ok "$name"
    else
        fail "$name: exit $status, not said: ${missing[*]:-nothing}"
    fi
    sed 's/^/      /' "$work/$name.out"
}

printf '%s\n' "$good" >"$work/good.toml"
check "the file that the others are made from is good" "$TIDEGATE" check -c "$work/good.toml"

refused syntax "${good/\[\[listeners\]\]/[[listeners]}" "1"
refused unknown-key "$good"$'\nhealt = { probe = "tcp" }' "pools.brokers.healt" "health"
refused unknown-table "$good"$'\n[clutser]\nbind = "127.0.0.1:1"' "clutser" "cluster"
refused bad-duration "$good"$'\nhealth = { interval = "2 parsecs" }' "pools.brokers.health.interval" "2 parsecs"
refused out-of-range "$good"$'\nhealth = { rise = 0 }' "pools.brokers.health.rise" "0" "1" "100"
refused bad-address "${good/127.0.0.11:1883/127.0.0.999:1883}" "pools.brokers.endpoints" "127.0.0.999:1883"
refused no-such-pool "${good/pool = \"brokers\"/pool = \"broker\"}" "listeners" "pool" "broker" "brokers"
refused wrong-word "$good"$'\npolicy = "least-conections"' "pools.brokers.policy" "least-conections" "least-connections"
refused wrong-type "$good"$'\nmax_connections = "many"' "pools.brokers.max_connections" "many"
refused no-source "${good/endpoints*/policy = \"round-robin\"}" "pools.brokers" "discover" "endpoints"
# In a variable: a closing brace would end the substitution.
secured='protocol = "mqtt"
tls = { cert = "none.pem", key = "none.key" }'
refused missing-file "${good/protocol = \"mqtt\"/"$secured"}" "listeners[0].tls.cert" "none.pem" "listeners[0].tls.key" "none.key"
refused many-at-once "$good"$'\npolicy = "fair"\nhealth = { rise = 0, intervall = "1s" }\n[admin]\nbind = "here"' \
    "pools.brokers.policy" "pools.brokers.health.rise" "intervall" "admin.bind"
finish
