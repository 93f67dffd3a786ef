//! Journeys by story: what comes in at which time, and what is decided then.

mod commands;
mod concern;
mod draining;
mod gates;
mod harness;
mod holding;
mod merging;
mod properties;
mod stories;
mod versions;
