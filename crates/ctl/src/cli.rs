//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Administers a Waypost installation.
#[derive(Debug, Parser)]
#[command(name = "waypostctl", version, max_term_width = 120)]
pub(crate) struct Cli {
    /// Address of the control API
    #[arg(long, global = true, env = "WAYPOST_SERVER", default_value = "http://127.0.0.1:7070")]
    pub(crate) server: String,
    /// Workspace
    #[arg(long, short = 'w', global = true, env = "WAYPOST_WORKSPACE", default_value = "default")]
    pub(crate) workspace: String,
    /// Form of the answer
    #[arg(long, short = 'o', global = true, env = "WAYPOST_OUTPUT", value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Who asks, for the audit topic; without it the user of this computer
    #[arg(long = "as", global = true, env = "WAYPOST_AS", value_name = "NAME")]
    pub(crate) who: Option<String>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    Table,
    /// For machines
    Json,
    /// Resource names only
    Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    /// Change it
    None,
    /// Check it there, change nothing
    Server,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Apply the manifests of a file or folder, all or nothing; journeys and templates become drafts
    Apply {
        /// File or folder
        #[arg(short, long, required = true)]
        filename: Vec<PathBuf>,
        /// Only check
        #[arg(long, value_enum, default_value_t = DryRun::None)]
        dry_run: DryRun,
    },
    /// Show what applying would change; exit code 0 same, 1 different, 2 error
    Diff {
        /// File or folder
        #[arg(short, long, required = true)]
        filename: Vec<PathBuf>,
    },
    /// List definitions, or show one: `get`, `get journey`, `get journey cart-recovery`
    Get {
        /// Journey, Segment, Template, Topic, Channel, Policy, Source
        kind: Option<String>,
        /// Name
        name: Option<String>,
    },
    /// Put a journey's draft in force, with its templates
    Publish {
        /// Journey
        journey: String,
    },
    /// Let no more profiles enter a journey; runs finish
    Archive {
        /// Journey
        journey: String,
    },
    /// People
    Profile {
        #[command(subcommand)]
        what: ProfileCommand,
    },
    /// Why somebody did or did not get a message
    Explain {
        /// `email:…`, `user_id:…`, `phone:…`, `device:…`, `anonymous:…`, `custom:<name>:…`, a profile id, or a bare e-mail address
        identifier: String,
        /// Journey; all of them without it
        journey: Option<String>,
    },
    /// Inputs that were set aside: why, and putting them back
    Deadletter {
        #[command(subcommand)]
        what: DeadletterCommand,
    },
    /// Sources of events
    Source {
        #[command(subcommand)]
        what: SourceCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// The profile behind an identifier, with its runs
    Show {
        /// `email:…`, `user_id:…`, `phone:…`, `device:…`, `anonymous:…`, `custom:<name>:…`, a profile id, or a bare e-mail address
        identifier: String,
    },
    /// Forget the person behind an identifier, for good; the addresses are never written to again
    ///
    /// Done in the person's place of the queue, behind every event accepted before. Bytes stay in inboxes and
    /// backups until their retention has passed.
    Erase(Person),
    /// Give an identifier a new, empty profile; the old one goes on without it
    Detach(Person),
    /// Forget the person behind an identifier; the addresses stay usable
    Expire(Person),
}

#[derive(Debug, Args)]
pub(crate) struct Person {
    /// `email:…`, `user_id:…`, `phone:…`, `device:…`, `anonymous:…`, `custom:<name>:…`, or a bare e-mail address
    pub(crate) identifier: String,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadletterCommand {
    /// What was set aside, newest first
    List {
        /// Only of this reason, as `DECODE_FAILED`
        #[arg(long)]
        reason: Option<String>,
        /// Only of this door (http, kafka), role, role/partition, or source of events
        #[arg(long)]
        source: Option<String>,
        /// So many at most
        #[arg(long, default_value_t = 100)]
        limit: u16,
    },
    /// One letter, with what is in it; values are masked
    Show {
        /// As `list` shows it
        id: String,
    },
    /// Put one back through its inbox, or all of a reason, under a new record id
    Redrive {
        /// As `list` shows it
        #[arg(required_unless_present = "reason", conflicts_with = "reason")]
        id: Option<String>,
        /// All of this reason that were not put back before
        #[arg(long)]
        reason: Option<String>,
        /// Also what was put back before
        #[arg(long)]
        again: bool,
        /// Only check
        #[arg(long, value_enum, default_value_t = DryRun::None)]
        dry_run: DryRun,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// A new write key; the old one stops working. Shown once
    RotateKey {
        /// Source
        source: String,
    },
}
