#!/usr/bin/env bash
# The user guide, walked through on a stack of its own: every command of docs/guide, with the clients under docs/examples.
# A client whose tools are not here is skipped, and said to be. STACK_DIR (default .stack/examples) keeps what was installed.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
cd "$ROOT"
export STACK_DIR=.stack/examples
WALK=$ROOT/$STACK_DIR/walk
PIDS=()
PASSED=0 FAILED=0 SKIPPED=0

say() { echo "examples: $*"; }
has() { command -v "$1" >/dev/null 2>&1; }
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

finish() {
  local pid
  for pid in "${PIDS[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${PIDS[@]}"; do
    for _ in $(seq 350); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    kill -9 "$pid" 2>/dev/null || true
  done
  deploy/local/stack.sh down --wipe >/dev/null 2>&1 || true
}

start() { # name, arguments of waypost…
  local name=$1
  shift
  target/debug/waypost "$@" >"$WALK/$name.log" 2>&1 </dev/null &
  PIDS+=($!)
}

until_ok() { # what, command…
  local what=$1
  shift
  for _ in $(seq 300); do
    if "$@" >/dev/null 2>&1; then return; fi
    sleep 0.2
  done
  say "no $what within a minute; logs:"
  tail -n 20 "$WALK"/*.log
  exit 1
}

walk() { # guide, sections…
  local guide=$1 began=$SECONDS
  shift
  if (cd "$WALK" && python3 docs/examples/walk.py "docs/guide/$guide" "$@"); then
    PASSED=$((PASSED + 1))
    say "ok in $((SECONDS - began)) s"
  else
    FAILED=$((FAILED + 1))
    say "FAILED in $((SECONDS - began)) s"
  fi
}

skip() { # what, why
  SKIPPED=$((SKIPPED + 1))
  say "skipped: $1 ($2)"
}

if ! has python3; then
  skip "the whole guide" "no python3, which walks through it (Debian, Ubuntu: apt-get install python3)"
  echo "0 passed, 0 failed, 1 skipped"
  exit 0
fi

trap finish EXIT
trap 'exit 130' INT TERM
cargo build -p waypost -p waypostctl
deploy/local/stack.sh up

# The reader's folder: the repository's, where this stack stands in for that of `make up`.
rm -rf "$WALK/my-shop" "$WALK/.waypost" "$WALK"/*.state
mkdir -p "$WALK/.stack/up"
ln -sfn "$ROOT/docs" "$WALK/docs"
ln -sfn "$ROOT/target" "$WALK/target"
make() { :; }
export -f make

. "$STACK_DIR/env"
INGEST=$(port) CONTROL=$(port) REGISTRY=$(port)
export WAYPOST_KAFKA_BROKERS=$WAYPOST_KAFKA WAYPOST_REDIS_URL=$WAYPOST_REDIS WAYPOST_INSTALL_PARTITIONS=4
export WAYPOST_REGISTRY_URL=http://127.0.0.1:$REGISTRY WAYPOST_INGEST_LISTEN=127.0.0.1:$INGEST
export WAYPOST_INGEST_PUBLIC_URL=http://127.0.0.1:$INGEST WAYPOST_CONTROL_LISTEN=127.0.0.1:$CONTROL
export WAYPOST_SERVER=http://127.0.0.1:$CONTROL WAYPOST_MAIL_CATCHER_DIR=$WALK/.waypost/mail
env | grep -E '^WAYPOST_(KAFKA|REGISTRY|INGEST|SERVER|MAIL)' | sed 's/^/export /' | sort >"$WALK/.stack/up/env"

start registry registry --listen "127.0.0.1:$REGISTRY"
until_ok "registry" curl -sf "$WAYPOST_REGISTRY_URL/subjects"
target/debug/waypost init >"$WALK/init.log" 2>&1 || { tail -n 20 "$WALK/init.log"; exit 1; }
start serve serve --role all
until_ok "control API" target/debug/waypostctl get
target/debug/waypostctl apply -f journeys >/dev/null
target/debug/waypostctl publish cart-recovery >/dev/null
target/debug/waypostctl publish welcome >/dev/null

walk first-journey.md

# what Waypost was built of is not built again
export CARGO_TARGET_DIR=$ROOT/target
producers() { walk producers.md "Before you start" "$@"; }
if python3 -c 'import venv, ensurepip' 2>/dev/null; then
  producers "Over HTTP" "Over HTTP: Segment's SDK for Python"
  producers "Avro over Kafka: Python"
  walk decisions.md
else
  skip "Python: Segment's SDK, producer, consumer" "no venv (Debian, Ubuntu: apt-get install python3-venv)"
fi
if has node && has npm; then
  producers "Over HTTP" "Over HTTP: Segment's SDK for Node"
else
  skip "Node: Segment's SDK" "no node or no npm (Debian, Ubuntu: apt-get install nodejs npm)"
fi
if has mvn && has javac; then
  producers "Avro over Kafka: Java"
else
  skip "Java: producer" "no mvn or no javac (Debian, Ubuntu: apt-get install maven openjdk-17-jdk-headless)"
fi
producers "Avro over Kafka: Rust"

[ "$FAILED" = 0 ] || { say "the end of what the roles said:"; tail -n 40 "$WALK/serve.log"; }
echo "$PASSED passed, $FAILED failed, $SKIPPED skipped"
[ "$FAILED" = 0 ]
