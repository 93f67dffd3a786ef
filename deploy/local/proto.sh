#!/usr/bin/env bash
# Lints the .proto files and looks for changes that would break a client, by buf, which npm brings (93 MB, once).
#   deploy/local/proto.sh [REF]     what to compare with; without it the newest release, or the commit before where there is none
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
VERSION=1.75.0
BUF=$(command -v buf || true)
if [ -z "$BUF" ]; then
  BUF=$PWD/.stack/buf/node_modules/.bin/buf
  if [ ! -x "$BUF" ]; then
    command -v npm >/dev/null || { echo "proto: needs buf, or npm to fetch it" >&2; exit 1; }
    mkdir -p .stack/buf
    npm install --silent --no-fund --no-audit --prefix .stack/buf "@bufbuild/buf@$VERSION"
  fi
fi
AGAINST=${1:-$(git describe --tags --abbrev=0 2>/dev/null || echo HEAD~1)}
cd proto
"$BUF" lint
"$BUF" breaking --against "../.git#subdir=proto,ref=$(git rev-parse "$AGAINST")"
echo "proto: linted, and nothing breaks since $AGAINST"
