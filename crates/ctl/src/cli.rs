//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::{
    advice,
    operations::OperationCommand,
    revisions::{Delete, History, Planned, Rollback},
    runs::RunCommand,
    skips::SkipCommand,
    sources::SourceCommand,
    stats::Stats,
    tails::{EventArgs, TailArgs},
    workspaces::WorkspaceCommand,
};

/// Administers a Waypost installation.
#[derive(Debug, Parser)]
#[command(name = "waypostctl", version, max_term_width = 120, after_help = advice::EXIT_CODES)]
pub(crate) struct Cli {
    /// Use this context instead of the current one: flags win over variables, and these over the context
    #[arg(long, global = true, env = "WAYPOST_CONTEXT", value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// Address of the control API; without it port 7070 of this computer
    #[arg(long, global = true, env = "WAYPOST_SERVER", value_name = "URL")]
    pub(crate) server: Option<String>,
    /// Workspace; without it `default`
    #[arg(long, short = 'w', global = true, env = "WAYPOST_WORKSPACE", value_name = "NAME")]
    pub(crate) workspace: Option<String>,
    /// File with the token that says who calls; the variable `WAYPOST_TOKEN` may hold the token itself
    #[arg(long, global = true, env = "WAYPOST_TOKEN_FILE", value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Authorities (PEM) of the server's certificate; without it this computer's
    #[arg(long, global = true, env = "WAYPOST_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Client certificate (PEM) that says who calls
    #[arg(long, global = true, env = "WAYPOST_CERT_FILE", value_name = "FILE")]
    pub(crate) cert_file: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, global = true, env = "WAYPOST_KEY_FILE", value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Form of the answer
    #[arg(long, short = 'o', global = true, env = "WAYPOST_OUTPUT", value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Who asks, for the audit topic of a server that asks nobody who they are; without it the user of this computer
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
    /// The same, easier to read
    Yaml,
    /// Resource names only
    Name,
}

/// Of a command that changes something.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct DryRun {
    /// Only check, and show what would be done
    #[arg(id = "dry_run", long = "dry-run", value_enum, num_args = 0..=1, default_value_t = Check::None, default_missing_value = "server")]
    check: Check,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Check {
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
        /// Also delete what is not there, of each kind that is: what is still read stays, a live journey refuses the whole
        #[arg(long)]
        prune: bool,
        #[command(flatten)]
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
    /// What a definition is: versions, what is in force, what its draft changes; of a journey its entries, steps and templates
    Describe {
        /// `journey/cart-recovery`
        #[arg(value_name = "KIND/NAME")]
        definition: String,
    },
    /// Change a definition in $VISUAL or $EDITOR; what is saved is checked, compared and applied
    Edit {
        /// `journey/cart-recovery`
        #[arg(value_name = "KIND/NAME")]
        definition: String,
    },
    /// Put a journey's draft in force, with its templates
    Publish(Change),
    /// Let no more profiles enter a journey; runs finish
    Archive(Change),
    /// Delete a definition that nothing reads: all its versions
    Delete(Delete),
    /// What a publish would do now to the journey in force: the diff, its templates, the runs that stay
    Plan(Planned),
    /// What a journey has done: entries, exits, messages and what became of them, counted by the hour
    Stats(Stats),
    /// What each change made of a definition, newest first; with --from the diff
    History(History),
    /// Put an earlier version's content in force again, as a new version
    Rollback(Rollback),
    /// Hold a journey up: nobody enters and messages wait; clocks, exits and goals go on
    Pause(Change),
    /// Let a paused journey go on; messages that waited go over the next 15 minutes, if they are still valid
    Resume(Change),
    /// End a journey and its runs for good: each ends at its next event or timer, and no more messages go out; --yes does it
    Kill {
        #[command(flatten)]
        change: Change,
        /// Do it
        #[arg(long)]
        yes: bool,
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
    /// Runs of a person: her ways through journeys
    Run {
        #[command(subcommand)]
        what: RunCommand,
    },
    /// What is decided about people
    Decisions {
        #[command(subcommand)]
        what: DecisionsCommand,
    },
    /// What comes in at the Kafka door
    Events {
        #[command(subcommand)]
        what: EventsCommand,
    },
    /// What becomes of messages
    Messages {
        #[command(subcommand)]
        what: MessagesCommand,
    },
    /// Workspaces: what each has, and may have
    Workspace {
        #[command(subcommand)]
        what: WorkspaceCommand,
    },
    /// Inputs that were set aside: why, and putting them back
    Deadletter {
        #[command(subcommand)]
        what: DeadletterCommand,
    },
    /// Work that outlasts its command: how far it is, waiting for it, ending it
    Operation {
        #[command(subcommand)]
        what: OperationCommand,
    },
    /// Sources of events
    Source {
        #[command(subcommand)]
        what: SourceCommand,
    },
    /// The partitions of the keyed roles: who owns each, how far it is, what is wrong with it
    Partitions {
        /// Only of this role: identity, segmenter, orchestrator or sender
        #[arg(long)]
        role: Option<String>,
        /// Only those that are not led, are halted, have diverged or wait behind a gap
        #[arg(long)]
        troubled: bool,
    },
    /// Records that kill every process which folds them: set aside by two people, or tried again
    Skip {
        #[command(subcommand)]
        what: SkipCommand,
    },
    /// Where the pipeline stands, a line a role, drawn again and again until q or ^C
    Top {
        /// Seconds between two looks
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=3600))]
        every: u16,
        /// Only one look, over that time
        #[arg(long)]
        once: bool,
    },
    /// Who the server takes you for, and what that allows
    Whoami,
    /// What was changed, and by whom
    Audit {
        #[command(subcommand)]
        what: AuditCommand,
    },
    /// A script that completes commands and flags, for standard output; each shell says where it wants it
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Servers by name, in `~/.config/waypost/config.toml` (`WAYPOST_CONTEXTS` names another file)
    Context {
        #[command(subcommand)]
        what: ContextCommand,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Lines of the audit topic, newest first; of the workspace given by -w or the context, else of all that you may see
    List(AuditList),
}

#[derive(Debug, Args)]
pub(crate) struct AuditList {
    /// Only what begins so, as `workspaces/shop/journeys/`
    #[arg(long, value_name = "PREFIX")]
    pub(crate) subject: Option<String>,
    /// Only of this caller
    #[arg(long, value_name = "NAME")]
    pub(crate) by: Option<String>,
    /// Only this, as `journey.publish`
    #[arg(long)]
    pub(crate) act: Option<String>,
    /// Only since then: an instant, as 2026-11-23T08:00:00Z, or so long ago, as 2h
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Only before then
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
    /// So many at most
    #[arg(long, default_value_t = 100)]
    pub(crate) limit: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ContextCommand {
    /// Which there are; the current one is marked
    List,
    /// Make one the current one
    Use {
        /// As `list` shows it
        name: String,
    },
    /// Keep what the flags and variables of this call say (--server, --workspace, --token-file, --ca-file, --cert-file, --key-file)
    /// under a name; what they do not say stays as it was
    Set {
        /// New or known
        name: String,
    },
    /// Forget one
    Delete {
        /// As `list` shows it
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileCommand {
    /// The profile behind an identifier, with its runs
    Show {
        /// `email:…`, `user_id:…`, `phone:…`, `device:…`, `anonymous:…`, `custom:<name>:…`, a profile id, or a bare e-mail address
        identifier: String,
    },
    /// What the roles hold of a person, as one JSON document for that person; it is noted in the audit topic
    ///
    /// Identity, segmenter, orchestrator and sender are asked for all they hold. Topics, inboxes and backups hold more for a while:
    /// docs/guide/people.md says what.
    Export(Export),
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
pub(crate) struct Export {
    /// `email:…`, `user_id:…`, `phone:…`, `device:…`, `anonymous:…`, `custom:<name>:…`, a profile id, or a bare e-mail address
    pub(crate) identifier: String,
    /// A new file that only its owner may read; without it to standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Person {
    /// `email:…`, `user_id:…`, `phone:…`, `device:…`, `anonymous:…`, `custom:<name>:…`, or a bare e-mail address
    pub(crate) identifier: String,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

/// What becomes of a journey.
#[derive(Debug, Args)]
pub(crate) struct Change {
    /// Journey
    pub(crate) journey: String,
    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DecisionsCommand {
    /// Rows of the decisions topic as they are written, each once; without --follow of the last ten minutes
    Tail(TailArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// Records of the events topic, as producers write them to Kafka; without --follow of the last ten minutes. Events that come by HTTP
    /// are not there
    Tail(EventArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum MessagesCommand {
    /// Rows of the messages topic as they are written, each once; without --follow of the last ten minutes
    Tail(TailArgs),
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
        /// Also those that were discarded
        #[arg(long)]
        discarded: bool,
    },
    /// One letter, with what is in it; values are masked
    Show {
        /// As `list` shows it
        id: String,
    },
    /// Put one back through its inbox, or all of a reason or source that were not put back before, nor discarded; under a new
    /// record id
    ///
    /// All of them are an operation, which goes on at the server whatever becomes of this command.
    Redrive(Redrive),
    /// Be done with one, or with all of a reason or source: lists pass over them, nothing is taken out of the topic.
    /// First says how many; --yes does it
    Discard(Discard),
}

/// One letter, or all of a kind.
#[derive(Clone, Debug, Args)]
pub(crate) struct Letters {
    /// As `list` shows it
    #[arg(required_unless_present_any = ["reason", "source"], conflicts_with_all = ["reason", "source"])]
    pub(crate) id: Option<String>,
    /// All of this reason
    #[arg(long)]
    pub(crate) reason: Option<String>,
    /// All of this door (http, kafka), role, role/partition, or source of events
    #[arg(long)]
    pub(crate) source: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Redrive {
    #[command(flatten)]
    pub(crate) letters: Letters,
    /// Also what was put back before, or discarded
    #[arg(long)]
    pub(crate) again: bool,
    /// Do not wait for all of them: only say what the operation is called
    #[arg(long = "async", conflicts_with = "id")]
    pub(crate) is_async: bool,
    #[command(flatten)]
    pub(crate) dry_run: DryRun,
}

#[derive(Debug, Args)]
pub(crate) struct Discard {
    #[command(flatten)]
    pub(crate) letters: Letters,
    /// Why, for whoever asks later: a line of the audit topic
    #[arg(long, value_name = "TEXT", required_if_eq("yes", "true"))]
    pub(crate) because: Option<String>,
    /// Do it
    #[arg(long)]
    pub(crate) yes: bool,
}

// === impl DryRun ===

impl DryRun {
    /// Whether nothing is to be changed.
    pub(crate) fn is_dry(self) -> bool {
        self.check == Check::Server
    }
}
