#!/usr/bin/env bash
# The real stack on this machine: Kafka, Redis, a schema registry, then `waypost` as built, one process a role.
# Writes .stack/up/env and .stack/up/write-key; a second call starts only what does not run. `make down` is its end.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
cd "$ROOT"
export STACK_DIR=${STACK_DIR:-.stack/up}
BIN=${WAYPOST_BIN:-target/debug/waypost}
CTL=${WAYPOSTCTL_BIN:-target/debug/waypostctl}
[ -x "$BIN" ] || { echo "up: $BIN is not built; run make up" >&2; exit 1; }

"$HERE/stack.sh" up --registry
. "$STACK_DIR/env"
mkdir -p "$STACK_DIR/roles"
export WAYPOST_KAFKA_BROKERS=$WAYPOST_KAFKA WAYPOST_REDIS_URL=$WAYPOST_REDIS
export WAYPOST_REGISTRY_URL=${WAYPOST_SCHEMA_REGISTRY_URL:-}
export WAYPOST_INSTALL_PARTITIONS=${WAYPOST_INSTALL_PARTITIONS:-16}
export WAYPOST_MAIL_CATCHER_DIR=${WAYPOST_MAIL_CATCHER_DIR:-$ROOT/.waypost/mail}
export WAYPOST_INGEST_LISTEN=${WAYPOST_INGEST_LISTEN:-127.0.0.1:8080}
# `make figures` is one caller with one key.
export WAYPOST_INGEST_KEY_RATE=${WAYPOST_INGEST_KEY_RATE:-0} WAYPOST_INGEST_ADDRESS_RATE=${WAYPOST_INGEST_ADDRESS_RATE:-0}
export WAYPOST_INGEST_PUBLIC_URL=${WAYPOST_INGEST_PUBLIC_URL:-http://$WAYPOST_INGEST_LISTEN}
export WAYPOST_CONTROL_LISTEN=${WAYPOST_CONTROL_LISTEN:-127.0.0.1:7070}

"$BIN" init
for role in identity segmenter orchestrator sender control ingest; do
  pidfile=$STACK_DIR/roles/$role.pid
  if [ -f "$pidfile" ] && kill -0 "$(cat "$pidfile")" 2>/dev/null; then continue; fi
  nohup "$BIN" serve --role "$role" >"$STACK_DIR/roles/$role.log" 2>&1 &
  echo $! >"$pidfile"
done

export WAYPOST_SERVER=http://$WAYPOST_CONTROL_LISTEN
for _ in $(seq 100); do "$CTL" get >/dev/null 2>&1 && break; sleep 0.2; done
"$CTL" get >/dev/null || { echo "up: the control role does not answer; see $STACK_DIR/roles/control.log" >&2; exit 1; }
if [ -z "$("$CTL" -o name get)" ]; then
  "$CTL" apply -f journeys
  "$CTL" publish cart-recovery
  "$CTL" publish welcome
fi
env | grep -E '^WAYPOST_(KAFKA|REDIS|REGISTRY|INGEST|CONTROL|SERVER|MAIL|INSTALL|SCHEMA|TEST)' | sed 's/^/export /' | sort >"$STACK_DIR/env"
if [ ! -s "$STACK_DIR/write-key" ]; then (umask 077; "$CTL" source rotate-key shop-backend --yes >"$STACK_DIR/write-key"); fi
cat <<TEXT

Waypost is up: one process a role, logs in $STACK_DIR/roles.

  . $STACK_DIR/env; WRITE_KEY=\$(cat $STACK_DIR/write-key)
  curl -u "\$WRITE_KEY:" -H 'content-type: application/json' $WAYPOST_INGEST_PUBLIC_URL/v1/track \\
       -d '{"event": "Product Added", "userId": "u1", "properties": {"cart_id": "k1", "product_id": "p1", "price": "89.00"}}'
  $CTL profile show user_id:u1

Stop it with: make down
TEXT
