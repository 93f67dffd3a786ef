//! Worlds, and holes in them.

mod common;
mod regressions;
mod switches;
mod worlds;
