#!/usr/bin/env bash
# A CycloneDX list of everything that is linked into `waypost` and `waypostctl`, under target/sbom.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
if command -v cargo-cyclonedx >/dev/null; then
  TOOL=cargo-cyclonedx
else
  TOOL=$PWD/.stack/tools/bin/cargo-cyclonedx
  [ -x "$TOOL" ] || cargo install --quiet --locked --root .stack/tools cargo-cyclonedx@0.5.9
fi
mkdir -p target/sbom
for crate in app:waypost ctl:waypostctl; do
  name=${crate#*:}
  "$TOOL" cyclonedx --manifest-path "crates/${crate%%:*}/Cargo.toml" --format json --spec-version 1.5 --override-filename "$name.cdx" --quiet
  # without this machine's paths
  sed "s|file://$PWD/|file:///|g" "crates/${crate%%:*}/$name.cdx.json" >"target/sbom/$name.cdx.json"
  # the tool writes one beside each crate of the workspace that the binary has
  find crates tests -name "$name.cdx.json" -delete
  echo "sbom: target/sbom/$name.cdx.json"
done
