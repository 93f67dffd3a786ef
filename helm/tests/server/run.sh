#!/usr/bin/env bash
# The chart against a real API server of Kubernetes, which validates, defaults and admits like a cluster; no pod runs.
# Builds kube-apiserver and, where there is none, etcd from their Go modules into .stack/kube: once, some 13 minutes on two cores
# and 9 GB of Go's caches. Not part of `make test`. Needs Go, openssl, and what helm/tests/run.sh needs.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../../.." && pwd)
KUBE=$ROOT/.stack/kube
KUBERNETES=1.36.3
ETCD=3.7.3

die() { echo "helm/tests/server/run.sh: $*" >&2; exit 1; }
say() { echo "helm/tests/server/run.sh: $*" >&2; }
command -v go >/dev/null || die "there is no go on the PATH to build an API server with: install Go 1.26 or newer"
command -v openssl >/dev/null || die "openssl is needed for a service account's key"

build_apiserver() {
  local minor=${KUBERNETES#*.} upstream prefix=k8s.io/component-base/version
  say "building kube-apiserver $KUBERNETES (once, some 13 minutes)"
  mkdir -p "$KUBE/apiserver" && cp "$HERE/apiserver/main.go" "$KUBE/apiserver/"
  cd "$KUBE/apiserver"
  rm -f go.mod go.sum
  upstream=$(go mod download -json "k8s.io/kubernetes@v$KUBERNETES" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
  # its own parts are named by v0.0.0, which exists nowhere
  {
    echo 'module waypost.dev/apiserver'
    grep '^go ' "$upstream"
    echo "require k8s.io/kubernetes v$KUBERNETES"
    sed -n "s/^\t\(k8s\.io\/[a-z-]*\) v0\.0\.0\$/replace \1 => \1 v0.$minor/p" "$upstream"
  } >go.mod
  go mod tidy
  CGO_ENABLED=0 go build -ldflags "-s -w -X $prefix.gitVersion=v$KUBERNETES -X $prefix.gitMajor=1 -X $prefix.gitMinor=${minor%%.*}" -o kube-apiserver .
}

build_etcd() {
  say "building etcd $ETCD (once, a minute)"
  mkdir -p "$KUBE/etcd" && cp "$HERE/etcd/main.go" "$KUBE/etcd/"
  cd "$KUBE/etcd"
  rm -f go.mod go.sum
  printf 'module waypost.dev/etcd\ngo 1.26.0\nrequire go.etcd.io/etcd/server/v3 v%s\n' "$ETCD" >go.mod
  go mod tidy
  CGO_ENABLED=0 go build -ldflags '-s -w' -o etcd .
}

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

wait_for() { # what, log, pid, command…
  local what=$1 log=$2 pid=$3 _
  shift 3
  for _ in $(seq 600); do
    "$@" >/dev/null 2>&1 && return
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 20 "$log" >&2
  die "$what does not answer; its log is $log"
}

[ -x "$KUBE/apiserver/kube-apiserver" ] || (build_apiserver)
ETCD_BIN=$(command -v etcd || echo "$KUBE/etcd/etcd")
[ -x "$ETCD_BIN" ] || (build_etcd)

RUN=$(mktemp -d "$KUBE/run.XXXXXX")
ETCD_PID='' API_PID=''
# the API server first: etcd waits for its clients
end() {
  for pid in $API_PID $ETCD_PID; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$RUN"
}
trap end EXIT
trap 'exit 130' INT TERM
E=$(free_port) P=$(free_port) A=$(free_port) TOKEN=$(openssl rand -hex 16)
openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out "$RUN/sa.key" 2>/dev/null
openssl pkey -in "$RUN/sa.key" -pubout -out "$RUN/sa.pub"
(umask 077 && echo "$TOKEN,admin,1,system:masters" >"$RUN/tokens.csv")
"$ETCD_BIN" --data-dir "$RUN/etcd" --listen-client-urls "http://127.0.0.1:$E" --advertise-client-urls "http://127.0.0.1:$E" \
  --listen-peer-urls "http://127.0.0.1:$P" >"$RUN/etcd.log" 2>&1 &
ETCD_PID=$!
"$KUBE/apiserver/kube-apiserver" --etcd-servers="http://127.0.0.1:$E" --secure-port="$A" --bind-address=127.0.0.1 --cert-dir="$RUN/certs" \
  --authorization-mode=RBAC --token-auth-file="$RUN/tokens.csv" --service-account-issuer=https://waypost.example \
  --service-account-key-file="$RUN/sa.pub" --service-account-signing-key-file="$RUN/sa.key" \
  --service-cluster-ip-range=10.0.0.0/24 >"$RUN/apiserver.log" 2>&1 &
API_PID=$!
wait_for "the API server" "$RUN/apiserver.log" "$API_PID" curl -sfk -H "Authorization: Bearer $TOKEN" "https://127.0.0.1:$A/readyz"

export KUBE_SERVER=https://127.0.0.1:$A KUBE_TOKEN=$TOKEN KUBE_CA=$RUN/certs/apiserver.crt KUBECONFIG=$RUN/kubeconfig
(umask 077 && cat >"$KUBECONFIG" <<C
apiVersion: v1
kind: Config
current-context: test
clusters: [{name: test, cluster: {server: "$KUBE_SERVER", insecure-skip-tls-verify: true}}]
users: [{name: test, user: {token: "$TOKEN"}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
C
)
"$HERE/../run.sh" server/checks.py "$@"
