//! The doors from outside: fixtures, HTTP, Kafka, arbitrary input.

mod any_input;
mod events;
mod fixtures;
mod http;
mod support;
