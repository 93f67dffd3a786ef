//! Definitions in force, compiled: what journeys, segments, templates, topics and channels mean to a fold.
//!
//! A [`DefinitionSet`] is numbered, named by the content hash of its manifest, and never changes.

mod journeys;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use waypost_types::{ContentHash, Currency, Span, WorkspaceId};

pub use self::journeys::{Concern, JourneyVersions, Journeys};
use crate::{condition::Program, segment::Plan};

/// Everything in force at one number, by workspace.
#[derive(Clone, Debug)]
pub struct DefinitionSet {
    /// Rises by one with each activation.
    pub number: u64,
    /// Content hash of the set's manifest.
    pub hash: ContentHash,
    /// By workspace.
    pub workspaces: BTreeMap<WorkspaceId, Arc<Workspace>>,
    /// Their segments, made ready once for all partitions.
    plans: BTreeMap<WorkspaceId, Plan>,
}

/// One workspace's definitions.
#[derive(Clone, Debug)]
pub struct Workspace {
    /// Number.
    pub id: WorkspaceId,
    /// Name in resource names.
    pub name: String,
    /// The workspace's one policy; its default where none was applied.
    pub policy: Policy,
    /// By name.
    pub topics: BTreeMap<String, Topic>,
    /// By name.
    pub channels: BTreeMap<String, Channel>,
    /// By name, in dependency order within [`Workspace::segment_order`].
    pub segments: BTreeMap<String, Segment>,
    /// Names, each behind those it reads.
    pub segment_order: Vec<String>,
    /// By content hash: runs are pinned to the template's body their version was published with.
    pub templates: BTreeMap<ContentHash, Arc<Template>>,
    /// By name, then version.
    pub journeys: Journeys,
    /// By name.
    pub sources: BTreeMap<String, Source>,
}

/// Workspace-wide settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Base currency.
    pub currency: Currency,
    /// IANA name.
    pub timezone: String,
    /// ISO country for national phone numbers.
    pub phone_region: String,
    /// Where carts are restored.
    pub restore_url: Option<String>,
    /// Prefix of product pages.
    pub product_url: Option<String>,
    /// For the footer of marketing mail.
    pub postal_address: Option<String>,
    /// History is complete from here on; `None`: from each profile's first event.
    pub covered_since: Option<waypost_types::Timestamp>,
    /// Names behind `custom:` that identifiers may have.
    pub custom_identifiers: BTreeSet<String>,
}

/// A subject one consents to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// For people.
    pub title: String,
    /// Marketing or transactional.
    pub class: Class,
    /// Default per channel; absent is `opt_in`.
    pub defaults: BTreeMap<String, ConsentDefault>,
    /// Whether a grant of the whole channel covers it.
    pub inherit: bool,
}

/// What holds where nothing was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsentDefault {
    /// No message without a grant.
    OptIn,
    /// Messages until a denial.
    OptOut,
}

/// Which gates apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// All of them.
    Marketing,
    /// Only those that PRODUCT §7.6 leaves.
    Transactional,
}

/// A way out: provider and sender address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Name.
    pub name: String,
    /// `email`; other types are not yet supported.
    pub kind: String,
    /// `smtp`, `http` or `catcher`.
    pub provider: String,
    /// `Shop <hello@news.shop.example>`.
    pub from: String,
    /// Name of the file with the provider's credentials: of workspace 1 as the definition has it, of others behind the
    /// workspace's name and a dot.
    pub secret: Option<String>,
    /// Whether `channel: email` means this one.
    pub default: bool,
    /// Where `provider: http` hands messages over, and what is promised there.
    pub http: Option<HttpChannel>,
    /// Content hash of the body.
    pub hash: ContentHash,
}

/// A provider over HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpChannel {
    /// Messages are posted here; a look-up is a GET of `{url}/{dispatch id}`.
    pub url: String,
    /// How it honours `Idempotency-Key`, if it does.
    pub key: Option<Idempotency>,
    /// Whether it can be asked what became of a dispatch.
    pub lookup: bool,
}

/// What a provider makes of an idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// For how long it knows a key.
    pub window: Span,
    /// What a repeat gets.
    pub on_repeat: OnRepeat,
}

/// What a provider does with a repeated key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRepeat {
    /// Answers as it did the first time.
    Replay,
    /// Answers with an error that means "done already".
    Error,
}

/// A condition over traits.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Name.
    pub name: String,
    /// For people.
    pub describe: String,
    /// Version, counted up by content.
    pub version: u32,
    /// The condition.
    pub condition: Arc<Program>,
}

/// A write key's owner and rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name.
    pub name: String,
    /// `browser server kafka`.
    pub kind: String,
    /// Whether it may grant consent; a browser never may.
    pub may_grant: bool,
    /// Identifier classes it may assert, as `email` or `custom:crm`; empty: all, of a browser `device` and `anonymous`.
    pub may_assert: Vec<String>,
}

/// The content of a message.
#[derive(Clone, Debug)]
pub struct Template {
    /// Name.
    pub name: String,
    /// Content hash of the body.
    pub hash: ContentHash,
    /// Version, counted up by content.
    pub version: u32,
    /// Paths that must be present when the send is decided (`run.key`).
    pub requires: Vec<String>,
    /// Paths with their declared fallback.
    pub optional: BTreeMap<String, String>,
    /// Computed when the send is decided, frozen with it.
    pub data: Vec<(String, Arc<Program>)>,
    /// The call to action: label and url, both templates.
    pub action: Option<(String, String)>,
    /// E-mail body.
    pub email: Option<EmailBody>,
}

/// E-mail content; every field is a MiniJinja template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailBody {
    /// Subject.
    pub subject: String,
    /// Preview text.
    pub preheader: Option<String>,
    /// MJML or HTML source.
    pub source: String,
    /// Whether `source` is MJML.
    pub mjml: bool,
}

/// One unchangeable version of a journey.
#[derive(Clone, Debug)]
pub struct Journey {
    /// Name.
    pub name: String,
    /// Version.
    pub version: u32,
    /// At most 80 characters.
    pub title: String,
    /// What it does.
    pub describe: String,
    /// Who is alarmed.
    pub owner: String,
    /// Which gates apply.
    pub class: Class,
    /// Consent topic; required for marketing.
    pub topic: Option<String>,
    /// 0–100.
    pub priority: u32,
    /// Paths that must be present at entry.
    pub requires: Vec<String>,
    /// IANA name, or none for the profile's.
    pub timezone: Option<String>,
    /// An entry event older than this when folded does not enter.
    pub late_allow: Span,
    /// Then exit `MAX_AGE`.
    pub max_age: Span,
    /// Must be yes before each send of these classes.
    pub guards: Vec<Guard>,
    /// No entry and no send while a run of one of these is live.
    pub yields_to: Vec<String>,
    /// In order.
    pub entries: Vec<Entry>,
    /// In order.
    pub exit_on: Vec<ExitRule>,
    /// Success.
    pub goal: Option<Goal>,
    /// The first is the start; ids unique.
    pub steps: Vec<Step>,
    /// Names of events that any exit, goal, wait or entry of this version matches, sorted.
    pub event_names: Vec<String>,
    /// Dotted property paths read of `event` and `entry`, sorted: what entries and facts keep.
    pub event_paths: Vec<String>,
    /// The same with what its gates and templates read of `entry`: what a run keeps of it.
    pub entry_paths: BTreeSet<String>,
    /// Whether an exit, the goal or a wait looks at what holds, not only for events.
    pub looks_at_states: bool,
    /// Content hash of the body.
    pub hash: ContentHash,
    /// Whether its runs go on.
    pub standing: Standing,
}

/// Whether the runs of a journey's version go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// They do.
    #[default]
    Running,
    /// Nobody enters and sends wait; everything else goes on.
    Paused,
    /// They end.
    Killed,
}

/// A condition with an id.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Id.
    pub id: String,
    /// Must be yes.
    pub when: Arc<Program>,
    /// Applies to sends of these.
    pub classes: Vec<Class>,
}

/// A decision to start.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Id.
    pub id: String,
    /// Event names.
    pub names: Vec<String>,
    /// Must be yes.
    pub filter: Option<Arc<Program>>,
    /// Text; one run per profile without it.
    pub key: Option<Arc<Program>>,
    /// When the key has a live run.
    pub while_live: WhileLive,
    /// Index into steps.
    pub start: usize,
}

/// What a trigger does to a live run of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhileLive {
    /// Nothing.
    Skip,
    /// Until the run's first accepted send it starts over on the new event; afterwards only `entry` is replaced.
    Rearm,
}

/// What ends a run, in any step.
#[derive(Clone, Debug)]
pub struct ExitRule {
    /// Its reason.
    pub id: String,
    /// When.
    pub on: Match,
}

/// Success.
#[derive(Clone, Debug)]
pub struct Goal {
    /// When.
    pub on: Match,
    /// From entry, also after exit.
    pub within: Span,
    /// Whether reaching it ends the run.
    pub exit: bool,
    /// Value of the goal.
    pub value: Option<Arc<Program>>,
}

/// What an exit rule, a goal or a wait arm looks for.
#[derive(Clone, Debug)]
pub enum Match {
    /// One of these events, with an optional filter.
    Event {
        /// Names.
        names: Vec<String>,
        /// Must be yes.
        filter: Option<Arc<Program>>,
    },
    /// A membership.
    Segment {
        /// Name.
        name: String,
        /// In, or out.
        is_in: bool,
    },
    /// A condition.
    When(Arc<Program>),
}

/// One place in the graph.
#[derive(Clone, Debug)]
pub struct Step {
    /// Id.
    pub id: String,
    /// For people.
    pub title: Option<String>,
    /// Funnel label.
    pub stage: Option<String>,
    /// Following step; `None` ends the run.
    pub next: Option<usize>,
    /// What it does.
    pub kind: StepKind,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum StepKind {
    /// Waits for a time.
    Delay(Delay),
    /// Waits for something to happen, with a deadline.
    Wait(Wait),
    /// First case that is yes.
    Branch {
        /// In order.
        cases: Vec<(Arc<Program>, Option<usize>)>,
        /// Else.
        otherwise: Option<usize>,
    },
    /// One message.
    Send(Send),
    /// Ends the run.
    Exit {
        /// Exit reason.
        reason: String,
    },
}

/// When a delay ends.
#[derive(Clone, Debug)]
pub enum Delay {
    /// A span from the previous step's end or from entry, at least `min` after arrival.
    For {
        /// How long.
        span: Span,
        /// From the entry (event time) instead of the previous step.
        from_entry: bool,
        /// From arrival.
        min: Option<Span>,
    },
    /// The next such local time.
    Until {
        /// Minutes after local midnight.
        minute: u32,
        /// Allowed weekdays, Monday 1; empty: all.
        days: Vec<u32>,
    },
}

/// A wait.
#[derive(Clone, Debug)]
pub struct Wait {
    /// Arms; `any` only.
    pub arms: Vec<Arm>,
    /// The deadline.
    pub timeout: Delay,
    /// Where the deadline leads.
    pub on_timeout: Option<usize>,
}

/// One arm of a wait.
#[derive(Clone, Debug)]
pub struct Arm {
    /// Id.
    pub id: String,
    /// What it looks for.
    pub on: Match,
    /// Where it leads.
    pub then: Option<usize>,
}

/// A send step.
#[derive(Clone, Debug)]
pub struct Send {
    /// Name of the Channel definition.
    pub channel: String,
    /// `email`.
    pub channel_kind: String,
    /// The template's body.
    pub template: ContentHash,
    /// Its name.
    pub template_name: String,
    /// Class of this send.
    pub class: Class,
    /// Topic of this send.
    pub topic: Option<String>,
    /// From arrival at the step.
    pub valid_for: Span,
    /// `cart`, `order`.
    pub fresh: Vec<Fresh>,
    /// Outcome → step, for `accepted stopped failed unknown`; not mapped: `next`.
    pub then: BTreeMap<String, Option<usize>>,
}

/// What must still hold when a send is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fresh {
    /// `cart_open(entry.cart_id)`.
    Cart,
    /// The order is neither cancelled, fully refunded nor returned.
    Order,
}

// === impl DefinitionSet ===

impl DefinitionSet {
    /// Of these workspaces.
    pub fn new(number: u64, hash: ContentHash, workspaces: BTreeMap<WorkspaceId, Arc<Workspace>>) -> Self {
        let plans = workspaces.iter().map(|(id, workspace)| (*id, Plan::new(hash, Arc::clone(workspace)))).collect();
        Self { number, hash, workspaces, plans }
    }

    /// A workspace's segments, ready to be evaluated.
    pub fn plan(&self, id: WorkspaceId) -> Option<&Plan> {
        self.plans.get(&id)
    }
}

// === impl Workspace ===

impl Workspace {
    /// A workspace in which nothing was applied yet.
    pub fn empty(id: WorkspaceId) -> Self {
        Self {
            id,
            name: String::new(),
            policy: Policy::default(),
            topics: BTreeMap::new(),
            channels: BTreeMap::new(),
            segments: BTreeMap::new(),
            segment_order: Vec::new(),
            templates: BTreeMap::new(),
            journeys: Journeys::default(),
            sources: BTreeMap::new(),
        }
    }
}

// === impl Class ===

impl Class {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Marketing => "marketing",
            Self::Transactional => "transactional",
        }
    }
}

// === impl Match ===

impl Match {
    /// The events it looks for; none where it looks for something else.
    pub fn names(&self) -> &[String] {
        match self {
            Self::Event { names, .. } => names,
            Self::Segment { .. } | Self::When(_) => &[],
        }
    }
}

// === impl Policy ===

impl Default for Policy {
    fn default() -> Self {
        Self {
            currency: Currency::EUR,
            timezone: "UTC".to_owned(),
            phone_region: String::new(),
            restore_url: None,
            product_url: None,
            postal_address: None,
            covered_since: None,
            custom_identifiers: BTreeSet::new(),
        }
    }
}
