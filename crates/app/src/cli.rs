//! The command line of `waypost`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use waypost_types::Role;

/// Customer journeys on Kafka: events in, messages out, once, at the right moment, never after they should have stopped.
#[derive(Debug, Parser)]
#[command(name = "waypost", version, max_term_width = 120)]
pub(crate) struct Cli {
    /// Settings file, of several the later one wins; every setting also has a `WAYPOST_<SECTION>_<KEY>` variable (`waypost config
    /// print` lists them)
    #[arg(long, global = true, env = "WAYPOST_CONFIG", value_name = "FILE", value_delimiter = ',')]
    pub(crate) config: Vec<PathBuf>,
    /// One setting, as `kafka.brokers=kafka:9092`; beats files and variables
    #[arg(long = "set", global = true, value_name = "SECTION.KEY=VALUE")]
    pub(crate) flags: Vec<String>,
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
    ///
    /// Where inboxes hold records of which Redis has no state, it refuses: that is a loss.
    Init(Init),
    /// Check Kafka, Redis and the installation, and say what to change
    Doctor,
    /// Write the state of partitions to files, beside running processes
    ///
    /// One file a partition, each of one instant; partitions need not agree with each other. A backup is good for
    /// as long as the inboxes keep what came after it. The files hold people's data: keep them as you keep Redis.
    Backup(Backup),
    /// Put backups in the place of what Redis holds; running processes notice, fold again from there, and send nothing twice
    Restore(Restore),
    /// Fold a partition's recorded log again and compare with what Redis holds; exit code 0 same, 1 different, 2 could not
    ///
    /// Nothing is published, called or stored. A log whose beginning is gone needs --from.
    Refold(Refold),
    /// Show gaps in partition channels that stay, and fill one from its source's own log
    ///
    /// A gap stays where a log has lost records that it had acknowledged. Without --role, --partition and --channel the
    /// gaps are listed; exit code 1 if there are any. Filling one may run beside the owner, and twice.
    Repair(Repair),
    /// Set aside a record that kills every process that folds it: one proposes, another approves
    Skip {
        #[command(subcommand)]
        what: SkipCommand,
    },
    /// Print the rights that Waypost's user of Redis needs, as a command for redis-cli
    ///
    /// It allows what the processes send, with the keys of this installation, and nothing else; the user keeps its passwords, so set
    /// one apart. The right to read the server's settings, passwords among them, is left out where `redis.settings_asserted_by` is set.
    RedisAcl(RedisAcl),
    /// A development schema registry, in memory, filled from the committed schemas
    Registry {
        /// Where it is served; port 0 takes a free one
        #[arg(long, default_value = "127.0.0.1:8081")]
        listen: String,
    },
    /// Measure this installation with its own journeys: rate, lag, latency; made-up people, erased afterwards
    ///
    /// People with a random user id each look around, sign up, fill carts and order, at a steady rate that does not wait for answers,
    /// beside whoever else is there. Their events go straight to the inbox of identity, as ingest would put them there. Told
    /// are the rate that was taken, the lag of every inbox, and percentiles of the time from when an event was meant to be sent to
    /// when what a journey in force decided on it (ENTERED, EXITED) was read back. All shoppers do the same, so what a journey
    /// decides on one of them it has to decide on all, once; exit code 1 where something is lost or doubled.
    ///
    /// Nothing is sent to anybody: nobody here has an address or a consent, so every send stops with `CONSENT_MISSING` or
    /// `ADDRESS_MISSING` before the sender hears of it.
    ///
    /// At the end, also after ^C and SIGTERM, everybody is erased as by `waypostctl profile erase`, and it is asked whether it is
    /// done. What stays: a mark an erased profile, bytes in inboxes and backups until their retention has passed, and rows in the
    /// public topics, with the run in the keys of carts and the profiles listed by --json.
    #[command(args_conflicts_with_subcommands = true)]
    Bench(Bench),
    /// Which version of the engine folds
    Engine {
        #[command(subcommand)]
        what: EngineCommand,
    },
    /// Make a token for the control API, and the entry of the access file that knows it
    Token(Token),
    /// Ask a process on this machine, at admin.listen, whether it is alive; exit code 0 yes, 1 no
    Health {
        /// Whether it is ready for work, and what it lacks
        #[arg(long)]
        ready: bool,
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
    /// Behave as a release whose last engine is this one: for the test of upgrades
    #[arg(long, hide = true, value_name = "ENGINE")]
    pub(crate) engines_to: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// State that is gone from Redis is made anew, to be folded from the beginning of the inboxes; refuses where they have lost their beginning
    #[arg(long)]
    pub(crate) fold_again: bool,
    /// Who lets it be folded again, for the audit topic; without it the user of this computer
    #[arg(long = "as", env = "WAYPOST_AS", value_name = "NAME")]
    pub(crate) who: Option<String>,
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
    #[arg(long, value_name = "DIR", required_unless_present = "under")]
    pub(crate) out: Option<PathBuf>,
    /// Folder in which this backup gets one of its own, by the time in UTC: for a job that comes again and again
    #[arg(long, value_name = "DIR", conflicts_with = "out")]
    pub(crate) under: Option<PathBuf>,
    /// Once this backup of every partition is whole, remove those under the same folder that are older
    #[arg(long, value_name = "DAYS", requires = "under", conflicts_with_all = ["role", "partition"], value_parser = clap::value_parser!(i64).range(1..=21))]
    pub(crate) keep_days: Option<i64>,
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
    /// Who does it, for the audit topic; without it the user of this computer
    #[arg(long = "as", env = "WAYPOST_AS", value_name = "NAME")]
    pub(crate) who: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Refold {
    /// identity, segmenter, orchestrator or sender
    #[arg(long)]
    pub(crate) role: Role,
    /// Which of its partitions
    #[arg(long, value_name = "P")]
    pub(crate) partition: u32,
    /// A backup to begin at, or a folder of them; without it the fold begins at offset 0
    #[arg(long, value_name = "PATH")]
    pub(crate) from: Option<PathBuf>,
    /// Fold only up to here, without comparing
    #[arg(long, value_name = "OFFSET")]
    pub(crate) to: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Repair {
    /// Only list the gaps; so it does without a channel
    #[arg(long, conflicts_with_all = ["role", "partition", "channel", "from"])]
    pub(crate) list: bool,
    /// Role of the source
    #[arg(long, requires = "channel")]
    pub(crate) role: Option<Role>,
    /// Partition of the source
    #[arg(long, value_name = "P", requires = "role")]
    pub(crate) partition: Option<u32>,
    /// The receiver, as segmenter/3
    #[arg(long, value_name = "DEST", requires = "partition")]
    pub(crate) channel: Option<String>,
    /// A backup of the source from before the gap, or a folder of them; without it the fold begins at offset 0
    #[arg(long, value_name = "PATH", requires = "channel")]
    pub(crate) from: Option<PathBuf>,
    /// Who does it, for the audit topic; without it the user of this computer
    #[arg(long = "as", env = "WAYPOST_AS", value_name = "NAME")]
    pub(crate) who: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub(crate) what: Option<BenchCommand>,
    /// Events a second; one in 60 is an order
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub(crate) rate: u32,
    /// For how long
    #[arg(long, default_value_t = 60, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) seconds: u32,
    /// So many people at a time, each with twelve events; without it a quarter of the rate: an event of each every quarter of a second
    #[arg(long, value_name = "P", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) people: Option<u64>,
    /// Whose journeys
    #[arg(long, short = 'w', env = "WAYPOST_WORKSPACE", default_value = "default")]
    pub(crate) workspace: String,
    /// The figures as JSON, with the profiles that were made up
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
    /// Who does it, for the audit topic; without it the user of this computer
    #[arg(long = "as", env = "WAYPOST_AS", value_name = "NAME")]
    pub(crate) who: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Erase the people of a run that was killed before it could
    Clean {
        /// As the run told it when it began
        #[arg(long, value_name = "ID")]
        run: String,
        /// Who does it, for the audit topic; without it the user of this computer
        #[arg(long = "as", env = "WAYPOST_AS", value_name = "NAME")]
        who: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SkipCommand {
    /// Propose to skip a record of the frame at a partition's present offset
    Propose {
        #[command(flatten)]
        record: SkipRecord,
        /// Why, for those who come after; no personal data
        #[arg(long)]
        reason: String,
        /// Who proposes; without it the user of this computer
        #[arg(long = "as", env = "WAYPOST_AS", value_name = "NAME")]
        who: Option<String>,
    },
    /// Approve what somebody else has proposed; the record folds to a dead letter from then on
    Approve {
        #[command(flatten)]
        record: SkipRecord,
        /// Who approves; without it the user of this computer
        #[arg(long = "as", env = "WAYPOST_AS", value_name = "NAME")]
        who: Option<String>,
    },
    /// Let a partition that halted at a record try it again, once there is more memory or a newer binary
    Retry {
        /// identity, segmenter, orchestrator or sender
        #[arg(long)]
        role: Role,
        /// Which of its partitions
        #[arg(long, value_name = "P")]
        partition: u32,
        /// Who does it, for the audit topic; without it the user of this computer
        #[arg(long = "as", env = "WAYPOST_AS", value_name = "NAME")]
        who: Option<String>,
    },
    /// What was proposed, and what is skipped
    List,
}

#[derive(Debug, Args)]
pub(crate) struct SkipRecord {
    /// identity, segmenter, orchestrator or sender
    #[arg(long)]
    pub(crate) role: Role,
    /// Which of its partitions
    #[arg(long, value_name = "P")]
    pub(crate) partition: u32,
    /// Offset of the frame: where the partition stands
    #[arg(long)]
    pub(crate) offset: u64,
    /// Index of the record in the frame, from 0
    #[arg(long)]
    pub(crate) index: u32,
}

/// One role or all of them.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "stack"), expect(dead_code, reason = "without Kafka and Redis no role is run"))]
pub(crate) struct Roles(pub(crate) Vec<Role>);

#[derive(Debug, Subcommand)]
pub(crate) enum EngineCommand {
    /// Let every partition fold with this engine from now on; refuses while a process that runs does not have it
    Activate {
        /// Its number
        number: u32,
        /// Who does it, for the audit topic; without it the user of this computer
        #[arg(long = "as", env = "WAYPOST_AS", value_name = "NAME")]
        who: Option<String>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Token {
    /// Whose it is; what they do stands under this name in the audit topic
    #[arg(long)]
    pub(crate) name: String,
    /// What they may do: viewer, editor, publisher, operator, privacy, admin; several with commas
    #[arg(long, required = true, value_delimiter = ',')]
    pub(crate) role: Vec<waypost_control::access::Role>,
    /// Where; several with commas, `*` for all
    #[arg(long, short = 'w', required = true, value_delimiter = ',')]
    pub(crate) workspace: Vec<String>,
    /// Write the token to a new file that its owner alone reads, instead of showing it
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct RedisAcl {
    /// The user's name in Redis
    #[arg(long)]
    pub(crate) user: String,
    /// With what `waypost backup` and `waypost restore` need besides, for a user of its own
    #[arg(long)]
    pub(crate) administration: bool,
}

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

/// Who does something, for the journal and the audit topic: as given, else the user of this computer.
#[cfg(feature = "stack")]
pub(crate) fn who(given: Option<&str>) -> String {
    let user = || std::env::vars().find(|(name, _)| name == "USER").map(|(_, user)| user);
    let name = given.map(ToOwned::to_owned).or_else(user).unwrap_or_default();
    if name.is_empty() { "unknown".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    /// Old backups of everything never go for a new one of a part.
    #[test]
    fn a_backup_of_a_part_removes_no_old_ones() {
        let asked = |more: &[&str]| Cli::try_parse_from(["waypost", "backup", "--under", "D", "--keep-days", "1"].iter().chain(more));
        assert!(asked(&[]).is_ok());
        for part in [["--role", "identity"], ["--partition", "3"]] {
            assert_eq!(asked(&part).unwrap_err().kind(), ErrorKind::ArgumentConflict, "{part:?}");
        }
    }
}
