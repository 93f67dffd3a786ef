#!/usr/bin/env bash
# What may be linked (deny.toml): licences, sources, banned crates; and known vulnerabilities, where their list can be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
command -v cargo-deny >/dev/null || { echo "deny: cargo-deny is not installed (cargo install --locked cargo-deny): skipped"; exit 0; }
cargo deny check bans licenses sources
if timeout 60 cargo deny fetch db >/dev/null 2>&1; then
  cargo deny check advisories
else
  echo "deny: the list of advisories cannot be had from here: not checked"
fi
