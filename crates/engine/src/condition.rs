//! Conditions: the typed, bounded subset of CEL (PRODUCT §6.3), three-valued, every answer with the
//! instant at which time alone may flip it (§6.4).

/// A compiled condition.
#[derive(Clone, Debug)]
pub struct Program {
    source: String,
}

impl Program {
    /// The text it was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }
}
