//! The [`Store`](waypost_runtime::ports::Store) on Redis or Valkey: per partition one meta hash, one
//! timer set, one sequence hash and sixteen state buckets, changed by the scripts of PROTOCOL §5.1 and by commits
//! between WATCH and EXEC only.
//!
//! Every key of four neighbouring partitions carries one hash tag, so that a Redis Cluster keeps them together; each call goes to one
//! server: the only one, the master that sentinels name, or the master of the partition's slot. What Redis answers is told apart as PROTOCOL §5.3 does:
//! our own replies are values, "nothing was written" is `Refused`, silence is `Unknown`.

mod acl;
mod connection;
mod doctor;
mod exclusive;
mod keys;
mod reply;
mod scripts;
mod sentinel;
mod server;
mod shards;
mod slots;
mod store;
mod upkeep;

pub use acl::{Rights, set_user};
pub use doctor::Accepts;
pub use keys::Keys;
pub use server::{Sentinels, Server};
pub use store::RedisStore;
