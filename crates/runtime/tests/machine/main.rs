//! The machine as its roles and drivers see it: over a toy role, without faults, under scripts that stop
//! it between any two steps, and in a seeded world that breaks everything it may.

#![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a script names the few cases it is about")]

mod channels;
mod dying;
mod embedded;
mod engines;
mod figures;
mod held;
mod looking;
mod refolding;
mod script;
mod timing;
mod toy;
mod world;
mod worlds;
