#!/usr/bin/env bash
# Faults on a real Kafka and a real Redis, then an oracle (tests/src/chaos.rs). The run starts its own servers on
# free ports and ends them, however it ends.
#
#   MINUTES=10 SEED=7 BROKERS=3 RATE=8 ONLY=kill,broker deploy/local/chaos.sh
#
# Without SEED one is drawn and printed. BROKERS is 3 where 6 GB are free, else 1. Exit code 0 only where nothing was
# lost, doubled, early, after a stop or unexplained, all came to rest and enough happened; else the logs stay in CHAOS_DIR
# (default .stack/chaos/<seed>).
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
cd "$ROOT"
"$HERE/stack.sh" fetch
eval "$("$HERE/stack.sh" tools)"
if [ -z "${WAYPOST_BIN:-}" ]; then
  cargo build -p waypost -p waypostctl
  export WAYPOST_BIN=$ROOT/target/debug/waypost WAYPOSTCTL_BIN=$ROOT/target/debug/waypostctl
fi
cargo build -p waypost-tests --bin chaos
export CHAOS_MINUTES=${MINUTES:-10} CHAOS_RATE=${RATE:-8} CHAOS_ONLY=${ONLY:-}
export CHAOS_SEED=${SEED:-$((RANDOM * 32768 + RANDOM))}
free_kb=$(awk '/^MemAvailable/ {print $2}' /proc/meminfo 2>/dev/null || echo 0)
export CHAOS_BROKERS=${BROKERS:-$([ "$free_kb" -gt 6000000 ] && echo 3 || echo 1)}
export CHAOS_DIR=${CHAOS_DIR:-$ROOT/.stack/chaos/$CHAOS_SEED}
rm -rf "$CHAOS_DIR"
code=0
"$ROOT/target/debug/chaos" || code=$?
if [ "$code" = 0 ]; then rm -rf "$CHAOS_DIR"; fi
exit "$code"
