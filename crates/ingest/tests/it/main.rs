//! The doors from outside: fixtures, HTTP, Kafka, arbitrary input.
#![expect(clippy::unwrap_used, reason = "tests")]

mod any_input;
mod events;
mod fixtures;
mod http;
mod limits;
mod pages;
mod sockets;
mod support;
