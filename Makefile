# The one entry to everything. `make help` lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

CARGO ?= cargo
SEED ?= 7
SEEDS ?= 2000

.PHONY: openssl chart chart-server deploy-check examples bench bench-full stages scaling guards-update figures help demo up down build check test test-unit test-it upgrade-check sim chaos fuzz lint sbom fmt codegen

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## a sample shop in memory, several days in under a minute; needs only a Rust toolchain and a C compiler
	$(CARGO) run --quiet -p waypost --no-default-features -- dev --script shop --seed $(SEED)

up: ## the real stack on this computer: Kafka, Redis, a schema registry, one process a role
	$(CARGO) build -p waypost -p waypostctl
	deploy/local/up.sh

down: ## its end
	deploy/local/down.sh

# librdkafka's TLS is built against the system's OpenSSL; `--features waypost/vendored-openssl` brings one of its own.
up build check deploy-check test-unit test-it upgrade-check chaos bench bench-full figures lint: openssl
openssl:
	@deploy/local/stack.sh openssl

build: ## release binaries under target/release
	$(CARGO) build --release -p waypost -p waypostctl

check: ## fast type check of everything
	$(CARGO) check --workspace --all-targets

test: ## all tests, on a real Apache Kafka and a real Redis that it installs, starts and stops
	deploy/local/test.sh

chart: ## tests the Helm chart: lint, renders, schemas
	helm/tests/run.sh

chart-server: ## the chart against a real API server of Kubernetes, which is built once (13 minutes, needs Go); not part of `make test`
	helm/tests/server/run.sh

test-unit: ## the tests that need no servers
	$(CARGO) test --workspace --exclude waypost-kafka --exclude waypost-redis --exclude waypost-tests
	$(CARGO) test -p waypost-tests --lib

upgrade-check: ## the upgrade and the way back with the binary of an earlier commit as the release before: OLD=<git ref>
	deploy/local/upgrade.sh $(OLD)

test-it: ## the whole-process tests only
	deploy/local/test.sh -p waypost-tests --test it

sim: ## SEEDS worlds under faults on all cores, with what happened in them; a seed that fails is made smaller and printed
	$(CARGO) run --quiet --release -p waypost-sim -- --seeds $(SEEDS)

chaos: ## MINUTES=10 of faults on a real Kafka and Redis, then the oracle; SEED= repeats a run, BROKERS= is 1 or 3
	deploy/local/chaos.sh

fuzz: ## the decoders of foreign and stored bytes under a coverage-guided fuzzer, SECONDS each; what it finds lies in .fuzz/artifacts
	deploy/local/fuzz.sh $(or $(SECONDS),60)

stages: ## what an event costs each role, in memory, on one thread; ARGS="--help"
	$(CARGO) run --quiet --release -p waypost-bench --bin stages -- $(ARGS)

scaling: ## how that grows with journeys, segments, profiles, timers, partitions, workspaces; about ten minutes; ARGS="--help"
	$(CARGO) run --quiet --release -p waypost-bench --bin scaling -- $(ARGS)

guards-update: ## measure the noise-free figures that `make test` compares (crates/bench/guards.txt) and write them anew
	deploy/local/stack.sh profiler
	WAYPOST_GUARDS=write $(CARGO) test -p waypost-bench --test allocations --test scaling --test instructions
	git --no-pager diff --stat -- crates/bench/guards.txt

bench: ## what an event costs on a real Kafka and Redis, beside a chain of consumers that decides nothing; ARGS="--help"
	deploy/local/bench.sh $(ARGS)

bench-full: ## everything that `bench` can measure, for about an hour, and a report in REPORT=target/bench-report; more in ARGS
	deploy/local/bench.sh --full $(if $(REPORT),--report $(REPORT)) $(ARGS)

figures: ## first figures of the stack that `make up` started: latency of a stop, events a second
	set -a; . .stack/up/env; WRITE_KEY=$$(cat .stack/up/write-key); set +a; $(CARGO) run --quiet --release -p waypost-tests --bin figures

deploy-check: ## checks the image, compose, dashboards, alerts and runbooks without a container engine
	$(CARGO) build -p waypost -p waypostctl
	deploy/tests/run.sh

examples: ## walk through the user guide, command by command, with its clients in Python, Node, Java and Rust, on a stack of its own
	docs/examples/test.sh

lint: ## clippy with warnings as errors, of the embedded build too, format check, .proto files, dependencies where cargo-deny is installed
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) clippy -p waypost --no-default-features -- -D warnings
	deploy/local/proto.sh
	deploy/local/deny.sh

sbom: ## what is linked into the binaries, as CycloneDX under target/sbom; installs cargo-cyclonedx into .stack, once
	deploy/local/sbom.sh

fmt: ## format
	$(CARGO) fmt --all

codegen: ## write the generated protobuf code, and the references of the API and of waypostctl, anew
	WAYPOST_CODEGEN=write $(CARGO) test --quiet -p waypost-proto --test codegen --test reference
	WAYPOST_CODEGEN=write $(CARGO) test --quiet -p waypostctl reference
