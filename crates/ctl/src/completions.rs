//! `completions`: a shell's script, made from the command line itself.

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{cli::Cli, commands::Done};

/// The script for a shell.
pub(crate) fn of(shell: Shell) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "waypostctl", &mut script);
    Done { stdout: String::from_utf8_lossy(&script).into_owned(), ..Done::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_gets_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::PowerShell] {
            let script = of(shell).stdout;
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell}: {}", command.get_name());
            }
        }
    }
}
