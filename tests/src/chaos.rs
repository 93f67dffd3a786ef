//! Faults on a real Kafka and a real Redis: `make chaos`.
//!
//! A run starts its own servers and every role in two processes, lets people come at a steady rate, breaks things
//! drawn from a seed, lets everything come to rest, and asks an oracle that knows the plots and not the product.

pub mod chance;
pub mod door;
pub mod faults;
pub mod fleet;
pub mod holdings;
pub mod kafka;
pub mod link;
pub mod oracle;
pub mod people;
pub mod recovery;
pub mod redis;
pub mod relay;
pub mod resp;
pub mod run;
pub mod settings;
pub mod sink;
pub mod story;
pub mod told;
pub mod workload;

use crate::process;
