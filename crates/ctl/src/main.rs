//! `waypostctl`: the control API from a shell. Tables for people, `-o json` for machines.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "answers go to stdout, talk to stderr")]

mod cli;
mod commands;
mod files;
mod output;

use std::process::ExitCode;

use clap::Parser as _;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let is_diff = matches!(cli.command, cli::Command::Diff { .. });
    match commands::run(cli).await {
        Ok(done) => {
            if !done.stdout.is_empty() {
                println!("{}", done.stdout.trim_end());
            }
            ExitCode::from(u8::from(done.differs))
        }
        Err(error) => {
            eprintln!("{}", output::error(&error));
            // kubectl's codes: a failed `diff` is above 1, so that 1 can mean "different".
            ExitCode::from(if is_diff { 2 } else { 1 })
        }
    }
}
