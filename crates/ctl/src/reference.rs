//! `docs/waypostctl.md` has every command and flag as they are, written from the command line itself.
//!
//! `WAYPOST_CODEGEN=write cargo test -p waypostctl reference` writes it anew.

use std::{fs, path::Path};

use clap::{Arg, ArgAction, Command, CommandFactory as _, builder::PossibleValue};

use crate::{advice, cli::Cli};

/// What follows is written.
const MARK: &str = "<!-- what follows is written by `make codegen` -->\n";

#[test]
fn the_page_of_commands_is_current() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/waypostctl.md");
    let page = fs::read_to_string(&target).unwrap();
    let (written, _) = page.split_once(MARK).expect("the page has its mark");
    let fresh = format!("{written}{MARK}\n{}\n", reference(Cli::command()).trim_end());
    if page == fresh {
        return;
    }
    let write = std::env::vars().any(|(name, value)| name == "WAYPOST_CODEGEN" && value == "write");
    assert!(write, "docs/waypostctl.md is stale; run `make codegen`");
    fs::write(&target, fresh).unwrap();
}

#[test]
fn help_says_the_exit_codes() {
    let help = Cli::command().render_help().to_string();
    assert!(help.contains(advice::EXIT_CODES), "{help}");
}

fn reference(mut root: Command) -> String {
    root.build();
    let mut page = vec![format!("## Exit codes\n\n```text\n{}\n```\n", advice::EXIT_CODES)];
    page.push(format!("## Flags of every command\n\n{}", table(root.get_arguments().filter(|arg| !is_own(arg)))));
    page.push("## Commands\n".to_owned());
    for command in root.get_subcommands().filter(|command| command.get_name() != "help") {
        commands(command, root.get_name(), &mut page);
    }
    page.join("\n")
}

fn commands(command: &Command, before: &str, page: &mut Vec<String>) {
    let name = format!("{before} {}", command.get_name());
    if command.has_subcommands() {
        for further in command.get_subcommands().filter(|command| command.get_name() != "help") {
            commands(further, &name, page);
        }
        return;
    }
    let positionals = command.get_positionals().map(ToString::to_string);
    let usage = [name.clone()].into_iter().chain(positionals).collect::<Vec<_>>().join(" ");
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    page.push(format!("### `{usage}`\n\n{about}.\n", about = about.trim_end_matches('.')));
    let own: Vec<_> = command.get_arguments().filter(|arg| is_own(arg)).collect();
    if !own.is_empty() {
        page.push(table(own.into_iter()));
    }
}

/// Whether it is of one command alone.
fn is_own(arg: &Arg) -> bool {
    !arg.is_global_set() && !matches!(arg.get_id().as_str(), "help" | "version")
}

fn table<'a>(arguments: impl Iterator<Item = &'a Arg>) -> String {
    let rows = arguments.map(|arg| {
        let short = arg.get_short().map(|short| format!("`-{short}` ")).unwrap_or_default();
        let env = arg.get_env().map(|env| format!("`{}`", env.to_string_lossy())).unwrap_or_default();
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default().replace('|', "\\|");
        let values = arg.get_possible_values();
        let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        let values: Vec<_> = values.iter().filter(|_| takes).map(PossibleValue::get_name).collect();
        let values = if values.is_empty() { String::new() } else { format!("; one of {}", values.join(", ")) };
        let default: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = if default.is_empty() || !takes { String::new() } else { format!("; without it {}", default.join(", ")) };
        format!("| {short}`{arg}` | {env} | {help}{values}{default} |")
    });
    format!("| | variable | |\n|---|---|---|\n{}\n", rows.collect::<Vec<_>>().join("\n"))
}
