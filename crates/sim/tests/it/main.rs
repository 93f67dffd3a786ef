//! Worlds, and holes in them.

mod common;
mod switches;
mod worlds;
