//! The machine as its roles and drivers see it: over a toy role, without faults, under scripts that stop
//! it between any two steps, and in a seeded world that breaks everything it may.

mod embedded;
mod script;
mod toy;
mod world;
mod worlds;
