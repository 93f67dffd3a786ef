#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET…]: each decoder for so long under libFuzzer, from the committed seeds.
# What it finds lies in .fuzz/artifacts/<target>; put it into crates/fuzz/seeds/<target> and a test keeps it found.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}
shift || true
command -v cargo-fuzz >/dev/null || cargo install --locked cargo-fuzz
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's/^name = "\([a-z_]*\)"$/\1/p' crates/fuzz/cargo-fuzz/Cargo.toml)
# Without a sanitizer the stable compiler is enough: the code under fire is safe Rust.
fuzz=(cargo fuzz)
flags=(--fuzz-dir crates/fuzz/cargo-fuzz -s none --target-dir target/fuzz)
"${fuzz[@]}" build "${flags[@]}"
failed=()
for target in "${targets[@]}"; do
    corpus=.fuzz/corpus/$target
    artifacts=.fuzz/artifacts/$target
    mkdir -p "$corpus" "$artifacts"
    echo "== $target: $seconds s"
    if ! "${fuzz[@]}" run "${flags[@]}" "$target" "$corpus" "crates/fuzz/seeds/$target" -- \
        -max_total_time="$seconds" -max_len=16384 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$artifacts/" >"$artifacts/log" 2>&1; then
        failed+=("$target")
        tail -20 "$artifacts/log"
    fi
    grep -E '^stat::(number_of_executed_units|new_units_added)|cov: ' "$artifacts/log" | tail -3
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "found something: ${failed[*]}; see .fuzz/artifacts"
    exit 1
fi
echo "${#targets[@]} targets, $seconds s each: nothing found"
