//! The command line of `waypost`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use waypost_types::Role;

/// Customer journeys on Kafka: events in, messages out, once, at the right moment, never after they should have stopped.
#[derive(Debug, Parser)]
#[command(name = "waypost", version, max_term_width = 120)]
pub(crate) struct Cli {
    /// Settings file; every setting also has a `WAYPOST_<SECTION>_<KEY>` variable (`waypost config print` lists them)
    #[arg(long, global = true, env = "WAYPOST_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// All roles in this one process, in memory: nothing else needed, nothing kept
    Dev(Dev),
    /// Run roles against Kafka and Redis
    Serve(Serve),
    /// Create topics and state of a new installation; does nothing where they exist
    Init,
    /// Check Kafka, Redis and the installation, and say what to change
    Doctor,
    /// Write the state of partitions to files, beside running processes
    ///
    /// One file a partition, each of one instant; partitions need not agree with each other. A backup is good for
    /// as long as the inboxes keep what came after it. The files hold people's data: keep them as you keep Redis.
    Backup(Backup),
    /// Put backups in the place of what Redis holds; running processes notice, fold again from there, and send nothing twice
    Restore(Restore),
    /// A development schema registry, in memory, filled from the committed schemas
    Registry {
        /// Where it is served; port 0 takes a free one
        #[arg(long, default_value = "127.0.0.1:8081")]
        listen: String,
    },
    /// Settings
    Config {
        #[command(subcommand)]
        what: ConfigCommand,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Play a script in virtual time, check what it did, and stop; without it, stay up in real time
    #[arg(long, value_name = "NAME")]
    pub(crate) script: Option<Script>,
    /// Same seed, same story
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
    /// How many shoppers the script has
    #[arg(long, default_value_t = 300)]
    pub(crate) shoppers: usize,
    /// Folder with journeys, segments, templates and settings to apply at start
    #[arg(long, default_value = "journeys", value_name = "DIR")]
    pub(crate) journeys: PathBuf,
    /// Where messages that went out are kept as files
    #[arg(long, default_value = ".waypost/mail", value_name = "DIR")]
    pub(crate) mail: PathBuf,
    /// Where the door, the caught mail and the schema registry are served; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(crate) listen: String,
    /// Where the gRPC control API is served
    #[arg(long, default_value = "127.0.0.1:7070")]
    pub(crate) control: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Script {
    /// A sample shop: several days, a few hundred shoppers
    Shop,
}

#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Roles of this process, separated by commas: ingest identity segmenter orchestrator sender control; `all` for all of them
    #[arg(long, value_delimiter = ',', default_value = "all", value_parser = roles)]
    pub(crate) role: Vec<Roles>,
}

/// Some partitions.
#[derive(Args, Debug)]
pub(crate) struct Which {
    /// Only of this role: identity, segmenter, orchestrator or sender
    #[arg(long)]
    pub(crate) role: Option<Role>,
    /// Only of this number
    #[arg(long, value_name = "P")]
    pub(crate) partition: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Folder for the files; files that are there are never replaced
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) which: Which,
}

#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// A folder that `waypost backup` wrote, or one of its files
    #[arg(long, value_name = "PATH")]
    pub(crate) from: PathBuf,
    #[command(flatten)]
    pub(crate) which: Which,
    /// Only check, and say what would be done
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
}

/// One role or all of them.
#[derive(Clone, Debug)]
pub(crate) struct Roles(pub(crate) Vec<Role>);

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// The default file: every setting with its meaning
    Print,
    /// Check the settings that a run with these flags and variables would use
    Check,
}

fn roles(text: &str) -> Result<Roles, String> {
    if text == "all" { Ok(Roles(Role::ALL.to_vec())) } else { text.parse().map(|role| Roles(vec![role])) }
}
