//! Schemas that were found once.

use std::{collections::BTreeMap, sync::Arc};

use super::{Schema, Schemas, SchemasError};
use crate::avro::SchemaRef;

const MAX_CACHED: usize = 10_000;

/// Writers' schemas by how records name them: they never change, so what was found once is kept.
#[derive(Debug, Default)]
pub struct SchemaCache {
    by_id: BTreeMap<u32, Arc<Schema>>,
    by_guid: BTreeMap<[u8; 16], Arc<Schema>>,
}

// === impl SchemaCache ===

impl SchemaCache {
    /// The schema that a record names, from the registry where it is asked for the first time.
    ///
    /// # Errors
    /// What the registry says.
    pub async fn schema(&mut self, schemas: &dyn Schemas, reference: SchemaRef) -> Result<Arc<Schema>, SchemasError> {
        if self.by_id.len() + self.by_guid.len() > MAX_CACHED {
            *self = Self::default();
        }
        match reference {
            SchemaRef::Id(id) => {
                if let Some(schema) = self.by_id.get(&id) {
                    return Ok(Arc::clone(schema));
                }
                let schema = schemas.by_id(id).await?;
                self.by_id.insert(id, Arc::clone(&schema));
                Ok(schema)
            }
            SchemaRef::Guid(guid) => {
                if let Some(schema) = self.by_guid.get(&guid) {
                    return Ok(Arc::clone(schema));
                }
                let schema = schemas.by_guid(guid).await?;
                self.by_guid.insert(guid, Arc::clone(&schema));
                Ok(schema)
            }
        }
    }
}
