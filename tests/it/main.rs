//! Whole-process tests and the rules of the repository.
//!
//! Run by `make test`, which starts a Kafka and a Redis for them and says where the binaries are. Each
//! `Shop` is an installation of its own: a topic prefix, a schema registry and one process a role.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on ends with the place")]
#![expect(clippy::disallowed_methods, reason = "these tests watch real processes: time and environment are theirs")]

mod access;
mod alerts;
mod backups;
mod benches;
mod canaries;
mod cluster;
mod collector;
mod compose;
mod definitions;
mod desk;
mod dev;
mod doors;
mod erasing;
mod holding;
mod http;
mod letters;
mod link_keys;
mod metrics;
mod operations;
mod operator;
mod partitions;
mod public;
mod rebalancing;
mod redis;
mod runs;
mod secure;
mod shop;
mod smtp_sink;
mod stack;
mod stats;
mod story;
mod tidy;
mod traces;
mod under_faults;
mod upgrading;
mod workspaces;
