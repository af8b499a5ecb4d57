#!/usr/bin/env bash
# Makes what deploy/compose.yaml mounts, in deploy/secrets: a CA, a server certificate, gossip keys and an admin token.
#   ./scripts/gen-certs.sh [NAME ...]     names and addresses of the certificate; default: localhost 127.0.0.1
#
# For trying out and for closed networks. Files that are there already are kept, so running it twice changes nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 077
folder=deploy/secrets
mkdir -p "$folder"
cd "$folder"

names=()
for name in "${@:-localhost}"; do
    case $name in
    *:* | *[0-9].[0-9]*.[0-9]*.[0-9]*) names+=("IP:$name") ;;
    *) names+=("DNS:$name") ;;
    esac
done
[ $# -gt 0 ] || names+=("IP:127.0.0.1")
# What other containers call the tier.
names+=("DNS:tidegate")

if [ ! -e ca.crt ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=tidegate example CA" \
        -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
        -keyout ca.key -out ca.crt 2>/dev/null
fi
if [ ! -e server.crt ]; then
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=${names[0]#*:}" \
        -keyout server.key -out server.csr 2>/dev/null
    # 825 days: Apple's clients refuse longer ones.
    openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 825 -out server.crt -extfile <(
        IFS=,
        printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\nkeyUsage=critical,digitalSignature\n' "${names[*]}"
        printf 'basicConstraints=critical,CA:FALSE\n'
    ) 2>/dev/null
    rm -f server.csr ca.srl
fi
[ -e gossip.keys ] || openssl rand -base64 32 >gossip.keys
[ -e admin.token ] || openssl rand -hex 32 >admin.token
# The containers read these as user 65532, whom the host does not know. The folder stays closed to everybody else. The
# CA's key is for nobody but the one who runs this.
chmod 0644 server.crt server.key ca.crt gossip.keys admin.token
printf '%s: ' "$folder"
openssl x509 -in server.crt -noout -ext subjectAltName | tail -n 1 | sed 's/^ *//'
