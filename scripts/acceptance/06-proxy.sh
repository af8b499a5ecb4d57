#!/usr/bin/env bash
# PROXY headers, judged by parsers that are not ours: HAProxy (accept-proxy) and NGINX (listen ... proxy_protocol), both
# logging what they read, over IPv4 and IPv6, v1 and v2. The TLVs, which these two show in part or not at all, are read by
# fake_broker.py, written after the specification's text.
set -euo pipefail
# shellcheck source=scripts/acceptance/lib.sh
. "$(dirname "$0")/lib.sh"

make_certs
start_mosquitto mosquitto 127.0.0.21 1883

cat >"$work/haproxy.cfg" <<'CFG'
global
    log stdout format raw local0
defaults
    mode tcp
    log global
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend proxied
    bind 127.0.0.31:1883 accept-proxy
    log-format "haproxy src=%[src]|%[src_port] dst=%[dst]|%[dst_port] authority=%[fc_pp_authority]"
    default_backend broker
backend broker
    server broker 127.0.0.21:1883
CFG
start haproxy haproxy -db -f "$work/haproxy.cfg"
must "haproxy listens" wait_for 10 listens 127.0.0.31 1883

cat >"$work/nginx.conf" <<CFG
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
master_process off;
pid $work/nginx.pid;
error_log stderr;
events { worker_connections 512; }
stream {
    log_format proxied 'nginx src=\$proxy_protocol_addr|\$proxy_protocol_port '
                       'dst=\$proxy_protocol_server_addr|\$proxy_protocol_server_port';
    access_log $work/nginx-access.log proxied;
    server {
        listen 127.0.0.32:1883 proxy_protocol;
        proxy_pass 127.0.0.21:1883;
    }
}
CFG
start nginx nginx -p "$work" -c "$work/nginx.conf"
must "nginx listens" wait_for 10 listens 127.0.0.32 1883
start_fake raw 127.0.0.33:1883 serve --proxy

# One pool per judge and version, two plain listeners and a TLS one for each.
declare -A address_of=([haproxy]=127.0.0.31 [nginx]=127.0.0.32 [raw]=127.0.0.33)
declare -A port_of=()
port=2000
{
    printf '[admin]\nbind = "%s"\n' "$ADMIN"
    for judge in haproxy nginx raw; do
        for version in v1 v2; do
            pool=$judge-$version
            port=$((port + 1))
            port_of[$pool]=$port
            for bind in 127.0.0.10 '[::1]'; do
                printf '[[listeners]]\nname = "%s"\nbind = "%s:%d"\nprotocol = "mqtt"\npool = "%s"\n' \
                    "$pool-${bind//[^0-9]/}" "$bind" "$port" "$pool"
            done
            printf '[[listeners]]\nname = "%s-tls"\nbind = "127.0.0.10:%d"\nprotocol = "mqtt"\npool = "%s"\n' \
                "$pool" $((port + 1000)) "$pool"
            printf 'tls = { cert = "listener.pem", key = "listener.key", client_ca = "ca.pem", client_auth = "optional" }\n'
            printf '[pools.%s]\nendpoints = ["%s:1883"]\nproxy_protocol = "%s"\n' "$pool" "${address_of[$judge]}" "$version"
            printf 'health = { probe = "tcp", interval = "1s", timeout = "500ms" }\n'
        done
    done
} >"$work/generated.toml"
start_tidegate <"$work/generated.toml"
must "six endpoints are up" wait_for 10 all_up 6

# visit RUN PORT OPTION...: one client, in and out; prints "ready {...}" with its own address.
visit() {
    local run=$1 target=$2
    shift 2
    start "$run" "${clients[@]}" idle --target "$target" --count 1 "$@"
    wait_for 10 grep -q '^ready' "$work/$run.log" || true
    stop "$run"
    grep -q '"open": 1' "$work/$run.log"
}

# own RUN: the client's own address as ADDRESS|PORT.
own() {
    sed -n 's/^ready //p' "$work/$1.log" | jq -r '"\(.client[0])|\(.client[1])"'
}

logged() {
    grep -Fq "$2" "$work/$1"
}

for judge in haproxy nginx; do
    log=haproxy.log
    if [ "$judge" = nginx ]; then log=nginx-access.log; fi
    for version in v1 v2; do
        port=${port_of[$judge-$version]}
        run=visit-$judge-$version-4
        check "$judge $version IPv4: the client gets in" visit "$run" "127.0.0.10:$port" --source 127.0.0.77
        line="$judge src=$(own "$run") dst=127.0.0.10|$port"
        check "$line" wait_for 5 logged "$log" "$line"
        run=visit-$judge-$version-6
        check "$judge $version IPv6: the client gets in" visit "$run" "[::1]:$port"
        line="$judge src=$(own "$run") dst=::1|$port"
        check "$line" wait_for 5 logged "$log" "$line"
    done
done
run=visit-haproxy-authority
check "haproxy v2 TLS: the client gets in" visit "$run" "127.0.0.10:$((port_of[haproxy-v2] + 1000))" \
    --ca "$work/ca.pem" --sni mqtt.example.test
line="haproxy src=$(own "$run") dst=127.0.0.10|$((port_of[haproxy-v2] + 1000)) authority=mqtt.example.test"
check "$line" wait_for 5 logged haproxy.log "$line"

# raw_header RUN FILTER: whether the header that the fake broker read for this client fulfils the jq filter.
raw_header() {
    local source
    source=$(own "$1")
    grep '^{' "$work/raw.log" | jq -se --arg source "$source" \
        "map(select(.header.source == \$source)) | length == 1 and (.[0].header | $2)" >/dev/null
}

run=visit-raw-v1
check "raw v1: the client gets in" visit "$run" "127.0.0.10:${port_of[raw-v1]}" --source 127.0.0.77
check "raw v1: the header is v1, TCP4" raw_header "$run" '.version == 1 and .family == "TCP4"'
run=visit-raw-v2
check "raw v2: the client gets in" visit "$run" "127.0.0.10:${port_of[raw-v2]}" --source 127.0.0.77
check "raw v2: PROXY, TCP over IPv4, nothing about TLS" raw_header "$run" \
    '.version == 2 and .command == "PROXY" and .family == 17 and (.tlvs | has("ssl") or has("authority") | not)'
run=visit-raw-v2-6
check "raw v2 IPv6: the client gets in" visit "$run" "[::1]:${port_of[raw-v2]}"
check "raw v2 IPv6: TCP over IPv6" raw_header "$run" '.family == 33'

tls_port=$((port_of[raw-v2] + 1000))
for tls in 1.2 1.3; do
    run=visit-raw-tls-$tls
    check "raw v2 TLS $tls, client certificate: the client gets in" visit "$run" "127.0.0.10:$tls_port" --tls-max "$tls" \
        --ca "$work/ca.pem" --sni mqtt.example.test --alpn mqtt --cert "$work/meter-7.pem" --key "$work/meter-7.key"
    seen=$(sed -n 's/^ready //p' "$work/$run.log")
    printf '      client: %s\n' "$seen"
    printf '      header: %s\n' "$(grep '^{' "$work/raw.log" | tail -n 1 | jq -c .header.tlvs)"
    check "TLS $tls: version, CN, ALPN, AUTHORITY, verified" raw_header "$run" \
        ".tlvs.ssl.version == \"TLSv$tls\" and .tlvs.ssl.cn == \"meter-7\" and .tlvs.alpn == \"mqtt\"
         and .tlvs.authority == \"mqtt.example.test\" and .tlvs.ssl.client == 7 and .tlvs.ssl.verify == 0"
    # Specification, 2.2.5: the cipher's name as an ASCII string, e.g. ECDHE-RSA-AES128-GCM-SHA256.
    check "TLS $tls: the cipher is the client's" raw_header "$run" ".tlvs.ssl.cipher == \"$(jq -r .cipher <<<"$seen")\""
    # Specification, 2.2.5: bit 1 is for a certificate on this connection, bit 2 for one in its TLS session.
    run=visit-raw-tls-$tls-resumed
    "${clients[@]}" resume --target "127.0.0.10:$tls_port" --tls-max "$tls" --ca "$work/ca.pem" --sni mqtt.example.test \
        --cert "$work/meter-7.pem" --key "$work/meter-7.key" >"$work/$run.log" 2>&1 || true
    check "raw v2 TLS $tls: the client is back with its session" grep -q '"reused": true' "$work/$run.log"
    check "TLS $tls: CN of the session, none on this connection" raw_header "$run" \
        ".tlvs.ssl.client == 5 and .tlvs.ssl.verify == 0 and .tlvs.ssl.cn == \"meter-7\""
done
run=visit-raw-tls-bare
check "raw v2 TLS without SNI, ALPN, certificate: the client gets in" visit "$run" "127.0.0.10:$tls_port" --ca "$work/ca.pem"
check "TLS bare: flag SSL alone, no CN, no ALPN" raw_header "$run" \
    '.tlvs.ssl.client == 1 and .tlvs.ssl.verify != 0 and (.tlvs.ssl | has("cn") | not) and (.tlvs | has("alpn") | not)'

local_header() {
    grep '^{' "$work/raw.log" | jq -se 'any(.[]; .header.command == "LOCAL" and (.header.tlvs | has("noop")))' >/dev/null
}
check "health checks: v2 LOCAL with a NOOP" local_header
check "no header was broken" test "$(grep -c broken "$work/raw.log")" -eq 0
check "haproxy found no bad header" test "$(grep -ciE 'invalid|malformed|proxy header' "$work/haproxy.log")" -eq 0
check "nginx found no bad header" test "$(grep -ci 'broken header' "$work/nginx.log")" -eq 0
finish
