//! What a condition may name, by where it stands: segments see `profile`, journeys see all.

use std::collections::{BTreeMap, BTreeSet};

use waypost_types::Currency;

use super::Type;

/// Where a path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Root {
    /// Fields, traits and records.
    Profile,
    /// The event being folded.
    Event,
    /// The run's entry event, or its latest update.
    Entry,
    /// The journey's variables.
    Vars,
    /// The workspace's variables.
    Global,
    /// The run.
    Run,
}

/// A set of roots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roots(u8);

/// What a condition may name.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Which roots.
    pub roots: Roots,
    /// Names of events that are known to occur; empty where nothing is known about that.
    pub event_names: Vec<String>,
    /// Variables of the journey with their types.
    pub vars: BTreeMap<String, Type>,
    /// Segments of the workspace.
    pub segments: BTreeSet<String>,
    /// The workspace's currency, for `money`.
    pub currency: Currency,
}

// === impl Root ===

impl Root {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Profile, Self::Event, Self::Entry, Self::Vars, Self::Global, Self::Run];

    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Event => "event",
            Self::Entry => "entry",
            Self::Vars => "vars",
            Self::Global => "global",
            Self::Run => "run",
        }
    }

    /// The root with this word.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|r| r.as_str() == word)
    }
}

// === impl Roots ===

impl Roots {
    /// These.
    pub fn of(roots: &[Root]) -> Self {
        Self(roots.iter().fold(0, |set, root| set | 1 << (*root as u8)))
    }

    /// Whether `root` is among them.
    pub const fn contains(self, root: Root) -> bool {
        self.0 & (1 << (root as u8)) != 0
    }

    /// Their words.
    pub fn names(self) -> Vec<&'static str> {
        Root::ALL.into_iter().filter(|r| self.contains(*r)).map(Root::as_str).collect()
    }
}

// === impl Scope ===

impl Scope {
    /// Of a segment: `profile`, and other segments.
    pub fn segment(currency: Currency, segments: BTreeSet<String>) -> Self {
        Self { roots: Roots::of(&[Root::Profile]), ..Self::journey(currency, segments) }
    }

    /// Of a journey: everything.
    pub fn journey(currency: Currency, segments: BTreeSet<String>) -> Self {
        Self { roots: Roots::of(&Root::ALL), event_names: Vec::new(), vars: BTreeMap::new(), segments, currency }
    }

    /// Of a template's `data`: what a journey sees when a send is decided.
    pub fn template(currency: Currency, segments: BTreeSet<String>) -> Self {
        Self::journey(currency, segments)
    }

    /// The same with these variables.
    #[must_use]
    pub fn with_vars(mut self, vars: BTreeMap<String, Type>) -> Self {
        self.vars = vars;
        self
    }
}
