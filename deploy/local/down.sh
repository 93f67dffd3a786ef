#!/usr/bin/env bash
# Stops what up.sh started: the roles drain, then Kafka, Redis and the registry. Data stays; `--wipe` forgets it.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$HERE/../.."
export STACK_DIR=${STACK_DIR:-.stack/up}
for pidfile in "$STACK_DIR"/roles/*.pid; do
  [ -f "$pidfile" ] || continue
  kill "$(cat "$pidfile")" 2>/dev/null || true
done
for pidfile in "$STACK_DIR"/roles/*.pid; do
  [ -f "$pidfile" ] || continue
  pid=$(cat "$pidfile")
  # a call to a provider may take as long as the roles' grace
  for _ in $(seq 350); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
  rm -f "$pidfile"
done
"$HERE/stack.sh" down "$@"
