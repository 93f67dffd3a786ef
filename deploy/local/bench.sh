#!/usr/bin/env bash
# What one event costs (crates/bench/src/stack): release binaries on a Kafka and a Redis of their own, which are ended and
# forgotten however the run ends. Arguments go to `bench`; `deploy/local/bench.sh --help` lists them.
#
#   deploy/local/bench.sh --workload backlog --events 300000 --json figures.json
#   deploy/local/bench.sh --full --report docs/measured     everything, longer, and a report (make bench-full)
#
# STACK_DIR (default .stack/bench) holds the servers and the logs of the roles.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
cd "$ROOT"
case ${STACK_DIR:-.stack/bench} in /*) export STACK_DIR ;; *) export STACK_DIR=$ROOT/${STACK_DIR:-.stack/bench} ;; esac
if [ "${1:-}" = --full ]; then
  shift
  # Where an option comes twice the later one counts, so that any of these can be said otherwise.
  set -- --workload backlog,steady,latency,hot-key,kill,red-b,http,timers,burst --events 2000000 --raw-events 1000000 --window 30 \
    --run-in 10 --steps 6 --timers-rate 2000 --burst 200000 \
    --red-events 300000 --red-intervals 100,1000,5000 --http-seconds 30 --report target/bench-report "$@"
fi
case " $* " in *cart-1*) "$HERE/rival.sh" ;; esac
export STACK_KAFKA_HEAP=${STACK_KAFKA_HEAP:-1g} STACK_KAFKA_JIT=full STACK_REDIS_MEMORY=${STACK_REDIS_MEMORY:-8gb}
BUILT=${CARGO_TARGET_DIR:-$ROOT/target}/release
if [ -z "${WAYPOST_BIN:-}" ]; then
  cargo build --release -p waypost -p waypostctl
  export WAYPOST_BIN=$BUILT/waypost WAYPOSTCTL_BIN=$BUILT/waypostctl
fi
cargo build --release -p waypost-bench --bin bench --bin hyper
case " $* " in *" --help "* | *" -h "*) WAYPOST_KAFKA='' WAYPOST_REDIS='' exec "$BUILT/bench" --help ;; esac

trap '"$HERE/stack.sh" down --wipe' EXIT
"$HERE/stack.sh" down --wipe
rm -rf "$STACK_DIR/roles"
"$HERE/stack.sh" up
. "$STACK_DIR/env"
"$BUILT/bench" --stack "$STACK_DIR" --hyper "$BUILT/hyper" "$@"
