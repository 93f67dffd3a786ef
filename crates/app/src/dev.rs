//! `waypost dev`: all roles in this one process, in memory. With `--script` it plays a story in virtual time,
//! holds the outcome against the reference, and stops; without, it stays up in real time.

mod page;
mod reference;
mod script;
mod serve;
mod shop;
mod tale;
mod world;

use std::process::ExitCode;

use crate::cli::{Dev, Script};

/// Runs it.
///
/// # Errors
/// What could not be set up; a script whose check failed is an exit code, not an error.
pub(crate) fn run(args: &Dev) -> anyhow::Result<ExitCode> {
    match args.script {
        Some(Script::Shop) => script::play(args),
        None => serve::stay(args),
    }
}
