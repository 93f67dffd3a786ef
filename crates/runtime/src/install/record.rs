//! The install record: one JSON line on `wp1.control`, the first one holds.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waypost_types::Layout;

use super::{CONTROL, InitSettings, InstallError};
use crate::ports::{Entropy, Install, Log};

/// What an installation is for all its life.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallRecord {
    kind: Kind,
    /// 32 hex digits; its text is also the key of all identifier hashes.
    pub id: String,
    /// Counts relayouts.
    pub layout: u16,
    /// Version of what lies in the store.
    pub format: u16,
    /// Partitions of each inbox (V).
    pub partitions: u32,
    /// Partitions of each public topic of ours.
    pub public_partitions: u32,
    /// Suffix of each group's hash tag; empty on a store that is no cluster.
    #[serde(default)]
    pub tags: Vec<String>,
}

/// Tells the record from the others on its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Install,
}

// === impl InstallRecord ===

impl InstallRecord {
    /// A new installation's.
    pub fn draw(entropy: &mut dyn Entropy, settings: &InitSettings) -> Self {
        Self {
            kind: Kind::Install,
            id: format!("{:016x}{:016x}", entropy.next(), entropy.next()),
            layout: 1,
            format: 1,
            partitions: settings.partitions,
            public_partitions: settings.public_partitions,
            tags: Vec::new(),
        }
    }

    /// What every claim compares.
    pub fn install(&self) -> Install {
        Install { id: self.id.clone(), layout: self.layout, format: self.format }
    }

    /// How keys fall to partitions.
    pub fn layout(&self) -> Layout {
        Layout { number: self.layout, partitions: self.partitions }
    }

    /// The key of all identifier hashes: the 32 digits of the install id as they are written.
    pub fn hash_key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        for (into, byte) in key.iter_mut().zip(self.id.bytes()) {
            *into = byte;
        }
        key
    }

    /// As it is stored.
    pub fn to_bytes(&self) -> Bytes {
        // a struct of texts and numbers always has a JSON form
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// From a record of the control topic; none if it is another kind.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let record: Self = serde_json::from_slice(bytes).ok()?;
        let digits = record.id.len() == 32 && record.id.bytes().all(|b| b.is_ascii_hexdigit());
        (digits && record.partitions > 0).then_some(record)
    }
}

// The id is a secret.
impl fmt::Debug for InstallRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstallRecord").field("install", &self.install()).field("partitions", &self.partitions).finish_non_exhaustive()
    }
}

/// The installation under `prefix`.
///
/// # Errors
/// [`InstallError::Absent`] where `init` has not run.
pub async fn load_install(log: &dyn Log, prefix: &str) -> Result<InstallRecord, InstallError> {
    let topic = format!("{prefix}{CONTROL}");
    let absent = || InstallError::Absent(prefix.to_owned());
    if log.describe(&topic).await?.is_none() {
        return Err(absent());
    }
    let (start, end) = log.watermarks(&topic, 0).await?;
    if start == end {
        return Err(absent());
    }
    let mut tail = log.tail(&topic, 0, start).await?;
    while let Some(delivery) = tail.next().await? {
        if let Some(record) = InstallRecord::from_bytes(&delivery.payload) {
            return Ok(record);
        }
    }
    Err(absent())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_shown_to_nobody() {
        let id = "5eaf00d15eaf00d15eaf00d15eaf00d1";
        let of = |id: &str| Install { id: id.to_owned(), layout: 1, format: 1 };
        let shown = of(id).to_string();
        assert!(!shown.contains(&id[..8]) && shown.ends_with(", layout 1, format 1"), "{shown}");
        assert_ne!(shown, of(&"0".repeat(32)).to_string(), "two installations can be told apart");
        let record = format!(r#"{{"kind": "install", "id": "{id}", "layout": 1, "format": 1, "partitions": 4, "public_partitions": 4}}"#);
        let record = InstallRecord::from_bytes(record.as_bytes()).unwrap();
        assert!(!format!("{record:?} {:?}", record.install()).contains(&id[..8]));
    }
}
