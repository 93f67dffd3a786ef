//! The port to a schema registry, and what every registry must mean by it (CONVENTIONS §3.3).
//!
//! The compatibility check and the in-memory registry are pure code; the HTTP client of other
//! registries is an adapter.

use std::{fmt, str::FromStr, sync::Arc};

use async_trait::async_trait;

pub use cache::SchemaCache;
pub use committed::{Committed, committed};
pub use memory::MemorySchemas;

mod cache;
mod committed;
pub mod compatibility;
mod memory;

/// A parsed Avro schema with its registry's id.
#[derive(Clone, Debug)]
pub struct Schema {
    /// The registry's id; names this text for ever.
    pub id: u32,
    /// As it was registered.
    pub text: String,
    /// Parsed.
    pub avro: apache_avro::Schema,
}

/// One version of a subject.
#[derive(Clone, Debug)]
pub struct Registered {
    /// `<topic>-value`.
    pub subject: String,
    /// Counts from 1.
    pub version: u32,
    /// Its schema.
    pub schema: Arc<Schema>,
}

/// Answer of a compatibility check.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why not; empty: compatible.
    pub reasons: Vec<String>,
}

/// What a new version may do to the earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Anything.
    None,
    /// It reads the latest.
    Backward,
    /// It reads all.
    BackwardTransitive,
    /// The latest reads it.
    Forward,
    /// All read it.
    ForwardTransitive,
    /// Both ways, with the latest.
    Full,
    /// Both ways, with all.
    FullTransitive,
}

/// Why a registry did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemasError {
    /// A definite "there is none": subject, version or id.
    #[error("not found in the schema registry")]
    NotFound,
    /// No answer, or none that means anything. Hold and ask again.
    #[error("schema registry unavailable: {0}")]
    Unavailable(String),
    /// The subject's level forbids this version.
    #[error("incompatible schema: {}", .0.join("; "))]
    Incompatible(Vec<String>),
    /// Not an Avro schema.
    #[error("invalid schema: {0}")]
    Invalid(String),
}

/// Why a word is not a level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a compatibility level: one of NONE BACKWARD BACKWARD_TRANSITIVE FORWARD FORWARD_TRANSITIVE FULL FULL_TRANSITIVE")]
pub struct LevelError;

/// A schema registry.
#[async_trait]
pub trait Schemas: Send + Sync + 'static {
    /// The schema of an id. Callers may keep it for ever.
    async fn by_id(&self, id: u32) -> Result<Arc<Schema>, SchemasError>;

    /// The schema of a GUID (framing V1, header mode). A registry that has no GUIDs knows none.
    async fn by_guid(&self, _guid: [u8; 16]) -> Result<Arc<Schema>, SchemasError> {
        Err(SchemasError::NotFound)
    }

    /// The newest version of a subject.
    async fn latest(&self, subject: &str) -> Result<Registered, SchemasError>;

    /// Whether `schema` may become the subject's next version; a subject that is absent takes any.
    async fn check(&self, subject: &str, schema: &str) -> Result<Verdict, SchemasError>;

    /// Makes `schema` the subject's next version, or finds it among its versions; its id.
    async fn register(&self, subject: &str, schema: &str) -> Result<u32, SchemasError>;

    /// All subjects, sorted.
    async fn subjects(&self) -> Result<Vec<String>, SchemasError>;

    /// Sets a subject's level.
    async fn set_level(&self, subject: &str, level: Level) -> Result<(), SchemasError>;
}

// === impl Schema ===

impl Schema {
    /// Parses `text`.
    pub fn parse(id: u32, text: &str) -> Result<Self, SchemasError> {
        let avro = apache_avro::Schema::parse_str(text).map_err(|e| SchemasError::Invalid(e.to_string()))?;
        Ok(Self { id, text: text.to_owned(), avro })
    }
}

// === impl Verdict ===

impl Verdict {
    /// Whether the level allows it.
    pub fn is_compatible(&self) -> bool {
        self.reasons.is_empty()
    }
}

// === impl Level ===

impl Level {
    /// All, weakest first.
    pub const ALL: [Self; 7] =
        [Self::None, Self::Backward, Self::BackwardTransitive, Self::Forward, Self::ForwardTransitive, Self::Full, Self::FullTransitive];

    /// Its word in the registries' API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Backward => "BACKWARD",
            Self::BackwardTransitive => "BACKWARD_TRANSITIVE",
            Self::Forward => "FORWARD",
            Self::ForwardTransitive => "FORWARD_TRANSITIVE",
            Self::Full => "FULL",
            Self::FullTransitive => "FULL_TRANSITIVE",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Level {
    type Err = LevelError;

    fn from_str(word: &str) -> Result<Self, LevelError> {
        Self::ALL.into_iter().find(|l| l.as_str() == word).ok_or(LevelError)
    }
}
