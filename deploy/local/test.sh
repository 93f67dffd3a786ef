#!/usr/bin/env bash
# All tests, on a real Kafka and a real Redis of their own, which are stopped again at the end.
#   deploy/local/test.sh [arguments of cargo test]     without arguments: the whole workspace
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$HERE/../.."
export STACK_DIR=.stack/test
trap '"$HERE/stack.sh" down --wipe >/dev/null 2>&1 || true' EXIT
trap 'exit 130' INT TERM
"$HERE/stack.sh" openssl
"$HERE/stack.sh" up --secure
. "$STACK_DIR/env"
cargo build -p waypost -p waypostctl
export WAYPOST_BIN=$PWD/target/debug/waypost WAYPOSTCTL_BIN=$PWD/target/debug/waypostctl
if [ $# -gt 0 ]; then
  cargo test "$@"
else
  "$HERE/stack.sh" profiler
  cargo test --workspace --exclude waypost-tests
  # The oracle of the faults, before it judges.
  cargo test -p waypost-tests --lib
  # Two minutes of faults, on servers of their own.
  MINUTES=2 SEED=${CHAOS_SEED:-2198} BROKERS=1 deploy/local/chaos.sh
  # The whole-process tests last, so that their summary closes the run.
  cargo test -p waypost-tests --test it
fi
