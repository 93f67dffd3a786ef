//! `waypostctl`: the control API from a shell. Tables for people, `-o json` and `-o yaml` for machines.

mod advice;
mod audits;
mod cli;
mod commands;
mod completions;
mod connection;
mod contexts;
mod describe;
mod edit;
mod files;
mod journey;
mod letters;
mod operations;
mod output;
mod partitions;
mod people;
mod progress;
#[cfg(test)]
mod reference;
mod revisions;
mod runs;
mod skips;
mod sources;
mod stats;
mod tails;
mod terminal;
mod workspaces;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let is_diff = matches!(cli.command, cli::Command::Diff { .. } | cli::Command::History(_));
    match commands::run(cli).await {
        Ok(done) => {
            if !done.stdout.is_empty() {
                // A reader that has gone, as `head` does, is no error.
                writeln!(std::io::stdout(), "{}", done.stdout.trim_end()).unwrap_or_default();
            }
            ExitCode::from(u8::from(done.differs))
        }
        Err(error) => {
            writeln!(std::io::stderr(), "{}", output::error(&error)).unwrap_or_default();
            // kubectl's codes: a failed `diff` is above 1, so that 1 can mean "different".
            ExitCode::from(if is_diff { 2 } else { 1 })
        }
    }
}
