#!/usr/bin/env bash
# The rivals of `make bench`, workload cart-1, from their sources: target/rival/{classes,libs}. Needs Maven and a JDK; nothing else
# in the repository does, so nothing but that workload calls this.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
SOURCE=$ROOT/crates/bench/rivals/kafka-streams
TARGET=$ROOT/target/rival
PLUGIN=org.apache.maven.plugins

die() { echo "rival: $*" >&2; exit 1; }
for tool in mvn javac java; do
  command -v "$tool" >/dev/null 2>&1 ||
    die "--workload cart-1 builds a Kafka Streams application and there is no $tool: install Maven and a JDK, 17 or newer (Debian, Ubuntu:" \
      "sudo apt-get install -y --no-install-recommends maven openjdk-17-jdk-headless), or leave the workload out"
done
[ -z "$(find "$SOURCE" "${BASH_SOURCE[0]}" -newer "$TARGET/.complete" -type f 2>/dev/null | head -1)" ] && [ -f "$TARGET/.complete" ] && exit 0
echo "rival: building Kafka Streams' CART-1 (its jars are 90 MB, once)" >&2
rm -rf "$TARGET" && mkdir -p "$TARGET"
mvn -q -B -f "$SOURCE/pom.xml" -Drival.target="$TARGET" "$PLUGIN:maven-compiler-plugin:3.13.0:compile" \
  "$PLUGIN:maven-dependency-plugin:3.8.1:copy-dependencies" -DincludeScope=runtime -DoutputDirectory="$TARGET/libs" >"$TARGET/mvn.log" 2>&1 ||
  { tail -n 20 "$TARGET/mvn.log" >&2; die "Maven failed; its log is $TARGET/mvn.log"; }
cp "$HERE/kafka/log4j2.properties" "$TARGET"
: >"$TARGET/.complete"
