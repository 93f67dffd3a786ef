#!/usr/bin/env bash
# The upgrade test with a real release before this one: upgrade.sh OLD_REF. Builds `waypost` of that commit, once, into
# .stack/upgrade, and runs tests/it/upgrading.rs with it as N and the working tree as N+1. Crates of registries are shared with the
# builds of the working tree, so a first time takes as long as the workspace's own crates do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
[ $# = 1 ] || { echo "upgrade.sh OLD_REF: which commit is the release before this one?" >&2; exit 2; }
COMMIT=$(git rev-parse --verify --quiet "$1^{commit}") || { echo "upgrade.sh: there is no commit $1" >&2; exit 2; }
HOME_OF_IT=$PWD/.stack/upgrade/$COMMIT
if [ ! -x "$HOME_OF_IT/waypost" ]; then
  rm -rf "$HOME_OF_IT"
  mkdir -p "$HOME_OF_IT/source"
  git archive "$COMMIT" | tar -x -C "$HOME_OF_IT/source"
  # The binary lies where this tree's own does until it is built again, which the test does.
  CARGO_INCREMENTAL=0 cargo build --manifest-path "$HOME_OF_IT/source/Cargo.toml" --target-dir target -p waypost
  cp target/debug/waypost "$HOME_OF_IT/waypost"
  rm -rf "$HOME_OF_IT/source"
fi
echo "upgrade.sh: the release before is $("$HOME_OF_IT/waypost" --version) of $(git log -1 --format='%h, %cs' "$COMMIT")"
export WAYPOST_OLD_BIN=$HOME_OF_IT/waypost
exec deploy/local/test.sh -p waypost-tests --test it upgrading
