//! A registry in memory: the development registry and the test double.
//!
//! Ids are global and belong to a text (two subjects with the same schema share one); versions count
//! per subject; the level is the subject's, else the registry's, `FULL_TRANSITIVE` unless changed.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use async_trait::async_trait;

use super::{Level, Registered, Schema, Schemas, SchemasError, Verdict, committed, compatibility};

/// A registry in memory.
#[derive(Debug)]
pub struct MemorySchemas {
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    /// By id − 1.
    schemas: Vec<Arc<Schema>>,
    /// Versions in order, as ids.
    subjects: BTreeMap<String, Vec<u32>>,
    level: Level,
    levels: BTreeMap<String, Level>,
}

// === impl MemorySchemas ===

impl Default for MemorySchemas {
    fn default() -> Self {
        Self::new()
    }
}

impl MemorySchemas {
    /// An empty one.
    pub fn new() -> Self {
        let state = State { schemas: Vec::new(), subjects: BTreeMap::new(), level: Level::FullTransitive, levels: BTreeMap::new() };
        Self { state: RwLock::new(state) }
    }

    /// One that holds the committed schemas of the public topics.
    ///
    /// # Panics
    /// Never: a test registers them all.
    pub fn with_committed() -> Self {
        let schemas = Self::new();
        for c in committed() {
            schemas.add(c.subject, c.text).expect("the committed schemas are compatible, as a test proves");
        }
        schemas
    }

    /// See [`Schemas::register`].
    pub fn add(&self, subject: &str, text: &str) -> Result<u32, SchemasError> {
        let identity = identity(text)?;
        let mut state = self.write();
        if let Some(known) = state.find(subject, &identity) {
            return Ok(known.schema.id);
        }
        let verdict = state.check(subject, text, state.level_of(subject))?;
        if !verdict.is_compatible() {
            return Err(SchemasError::Incompatible(verdict.reasons));
        }
        let known = state.schemas.iter().find(|s| s.text == identity).map(|s| s.id);
        let id = if let Some(id) = known {
            id
        } else {
            let id = u32::try_from(state.schemas.len() + 1).map_err(|_| SchemasError::Invalid("the registry is full".to_owned()))?;
            state.schemas.push(Arc::new(Schema::parse(id, &identity)?));
            id
        };
        state.subjects.entry(subject.to_owned()).or_default().push(id);
        Ok(id)
    }

    /// The version of `subject` whose schema is `text`.
    pub fn find(&self, subject: &str, text: &str) -> Result<Registered, SchemasError> {
        let identity = identity(text)?;
        self.read().find(subject, &identity).ok_or(SchemasError::NotFound)
    }

    /// The schema of an id.
    pub fn schema(&self, id: u32) -> Result<Arc<Schema>, SchemasError> {
        self.read().schema(id).ok_or(SchemasError::NotFound)
    }

    /// The schema of a GUID, as [`MemorySchemas::guid`] names it.
    pub fn schema_by_guid(&self, guid: [u8; 16]) -> Result<Arc<Schema>, SchemasError> {
        self.read().schemas.iter().find(|s| Self::guid(s) == guid).cloned().ok_or(SchemasError::NotFound)
    }

    /// A schema's GUID: a hash of its text.
    pub fn guid(schema: &Schema) -> [u8; 16] {
        xxhash_rust::xxh3::xxh3_128(schema.text.as_bytes()).to_be_bytes()
    }

    /// All subjects, sorted.
    pub fn names(&self) -> Vec<String> {
        self.read().subjects.keys().cloned().collect()
    }

    /// A subject's versions, oldest first; empty: no such subject.
    pub fn versions(&self, subject: &str) -> Vec<Registered> {
        let state = self.read();
        let ids = state.subjects.get(subject).map_or(0, Vec::len);
        (1..=ids).filter_map(|v| state.version(subject, u32::try_from(v).ok()?)).collect()
    }

    /// Whether `text` may become the next version, judged against all versions the level names, or
    /// against `version` alone.
    pub fn verdict(&self, subject: &str, text: &str, version: Option<u32>) -> Result<Verdict, SchemasError> {
        let state = self.read();
        let level = state.level_of(subject);
        let Some(version) = version else { return state.check(subject, text, level) };
        let old = state.version(subject, version).ok_or(SchemasError::NotFound)?;
        Ok(compatibility::check(level, &Schema::parse(0, text)?.avro, &[&old.schema.avro]))
    }

    /// The level of a subject, or of the registry; none: the subject has none of its own.
    pub fn level(&self, subject: Option<&str>) -> Option<Level> {
        let state = self.read();
        match subject {
            None => Some(state.level),
            Some(subject) => state.levels.get(subject).copied(),
        }
    }

    /// Sets the level of a subject, or of the registry.
    pub fn put_level(&self, subject: Option<&str>, level: Level) {
        let mut state = self.write();
        match subject {
            None => state.level = level,
            Some(subject) => {
                state.levels.insert(subject.to_owned(), level);
            }
        }
    }

    // A thread that panicked left no half-done change: every write is one push or insert at the end.
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Schemas for MemorySchemas {
    async fn by_id(&self, id: u32) -> Result<Arc<Schema>, SchemasError> {
        self.schema(id)
    }

    async fn by_guid(&self, guid: [u8; 16]) -> Result<Arc<Schema>, SchemasError> {
        self.schema_by_guid(guid)
    }

    async fn latest(&self, subject: &str) -> Result<Registered, SchemasError> {
        self.versions(subject).pop().ok_or(SchemasError::NotFound)
    }

    async fn check(&self, subject: &str, schema: &str) -> Result<Verdict, SchemasError> {
        self.verdict(subject, schema, None)
    }

    async fn register(&self, subject: &str, schema: &str) -> Result<u32, SchemasError> {
        self.add(subject, schema)
    }

    async fn subjects(&self) -> Result<Vec<String>, SchemasError> {
        Ok(self.names())
    }

    async fn set_level(&self, subject: &str, level: Level) -> Result<(), SchemasError> {
        self.put_level(Some(subject), level);
        Ok(())
    }
}

// === impl State ===

impl State {
    fn schema(&self, id: u32) -> Option<Arc<Schema>> {
        self.schemas.get(usize::try_from(id).ok()?.checked_sub(1)?).cloned()
    }

    fn version(&self, subject: &str, version: u32) -> Option<Registered> {
        let id = *self.subjects.get(subject)?.get(usize::try_from(version).ok()?.checked_sub(1)?)?;
        Some(Registered { subject: subject.to_owned(), version, schema: self.schema(id)? })
    }

    fn find(&self, subject: &str, identity: &str) -> Option<Registered> {
        let count = u32::try_from(self.subjects.get(subject)?.len()).ok()?;
        (1..=count).filter_map(|v| self.version(subject, v)).find(|r| r.schema.text == identity)
    }

    fn level_of(&self, subject: &str) -> Level {
        self.levels.get(subject).copied().unwrap_or(self.level)
    }

    fn check(&self, subject: &str, text: &str, level: Level) -> Result<Verdict, SchemasError> {
        let new = Schema::parse(0, text)?;
        let earlier: Vec<_> = self.subjects.get(subject).into_iter().flatten().filter_map(|id| self.schema(*id)).collect();
        let earlier: Vec<_> = earlier.iter().map(|s| &s.avro).collect();
        Ok(compatibility::check(level, &new.avro, &earlier))
    }
}

/// The text without insignificant white space: equal schemas with other white space are one schema.
fn identity(text: &str) -> Result<String, SchemasError> {
    let parsed: serde_json::Value = serde_json::from_str(text).map_err(|e| SchemasError::Invalid(e.to_string()))?;
    Schema::parse(0, text)?;
    Ok(parsed.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"}]}"#;
    const TWO: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string"},{"name":"b","type":"long","default":0}]}"#;
    const BAD: &str = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"long"}]}"#;

    #[test]
    fn a_schema_has_one_id_whatever_its_subjects_and_white_space() {
        let schemas = MemorySchemas::new();
        let id = schemas.add("x-value", ONE).unwrap();
        assert_eq!(schemas.add("y-value", &ONE.replace(',', " ,\n")), Ok(id));
        assert_eq!(schemas.add("x-value", ONE), Ok(id));
        assert_eq!(schemas.versions("x-value").len(), 1);
        assert_eq!(schemas.add("x-value", TWO), Ok(id + 1));
        assert_eq!(schemas.find("x-value", TWO).unwrap().version, 2);
        assert_eq!(schemas.find("y-value", TWO).unwrap_err(), SchemasError::NotFound);
        assert_eq!(schemas.names(), ["x-value", "y-value"]);
        let guid = MemorySchemas::guid(&schemas.schema(id).unwrap());
        assert_eq!(schemas.schema_by_guid(guid).unwrap().id, id);
    }

    #[test]
    fn the_level_decides_what_may_be_registered() {
        let schemas = MemorySchemas::new();
        schemas.add("x-value", ONE).unwrap();
        assert!(matches!(schemas.add("x-value", BAD), Err(SchemasError::Incompatible(_))));
        assert!(!schemas.verdict("x-value", BAD, Some(1)).unwrap().is_compatible());
        schemas.put_level(Some("x-value"), Level::None);
        assert!(schemas.add("x-value", BAD).is_ok());
        assert!(matches!(schemas.add("x-value", "{"), Err(SchemasError::Invalid(_))));
        assert!(matches!(schemas.add("x-value", r#"{"type":"nothing"}"#), Err(SchemasError::Invalid(_))));
    }

    #[test]
    fn a_version_that_is_absent_is_not_found() {
        let schemas = MemorySchemas::with_committed();
        assert_eq!(schemas.names().len(), 4);
        assert_eq!(schemas.schema(0).unwrap_err(), SchemasError::NotFound);
        assert_eq!(schemas.schema(5).unwrap_err(), SchemasError::NotFound);
        assert_eq!(schemas.verdict("nothing", ONE, Some(1)), Err(SchemasError::NotFound));
        assert_eq!(schemas.verdict("nothing", ONE, None), Ok(Verdict::default()));
    }
}
