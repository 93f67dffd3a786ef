//! A backup of one partition as bytes: says what it is of, and whether it is whole (PROTOCOL §13.3).
//!
//! ```text
//! "WAYPOST BACKUP\n" · length u32 · header (JSON) · sequences · timers · entities · xxh3-128 of all before
//! ```
//! Lengths are big-endian; the header says how many of each follow.

use bytes::{Buf as _, Bytes};
use serde::{Deserialize, Serialize};
use waypost_types::{EntityId, PartitionId, Timestamp};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    ports::{Install, Meta, Offset},
    upkeep::Snapshot,
};

const MAGIC: &[u8] = b"WAYPOST BACKUP\n";
/// Raised with every change of this format; a reader takes those it knows.
const VERSION: u32 = 1;
const CHECKSUM: usize = 16;

/// A snapshot with its place and time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Which partition.
    pub partition: PartitionId,
    /// When it was taken, by the clock of whoever took it.
    pub taken: Timestamp,
    /// What it holds.
    pub snapshot: Snapshot,
}

/// Why bytes are no backup.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackupError {
    /// Something else, or the first bytes are damaged.
    #[error("this is no backup of a partition")]
    Foreign,
    /// Cut short or changed.
    #[error("the backup is damaged: its checksum does not fit; take an older one")]
    Damaged,
    /// Written by a later release.
    #[error("the backup has format {0}, this binary reads up to {VERSION}: use the release that wrote it")]
    Version(u32),
    /// Whole, but not what a release of ours writes.
    #[error("the backup cannot be read: {0}")]
    Malformed(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    version: u32,
    role: String,
    partition: u32,
    taken_ms: i64,
    install: String,
    layout: u16,
    format: u16,
    off: Offset,
    clk: i64,
    wm: i64,
    ochain: u64,
    digest: String,
    eng: u32,
    defv: String,
    leader: u64,
    lastrec: String,
    sequences: usize,
    timers: usize,
    entities: usize,
}

// === impl Backup ===

impl Backup {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let Snapshot { install, off, meta, sequences, timers, entities } = &self.snapshot;
        let header = Header {
            version: VERSION,
            role: self.partition.role.to_string(),
            partition: self.partition.index,
            taken_ms: self.taken.millis(),
            install: install.id.clone(),
            layout: install.layout,
            format: install.format,
            off: *off,
            clk: meta.clk.millis(),
            wm: meta.wm.millis(),
            ochain: meta.ochain,
            digest: hex::encode(&meta.digest),
            eng: meta.eng,
            defv: meta.defv.clone(),
            leader: meta.leader,
            lastrec: meta.lastrec.clone(),
            sequences: sequences.len(),
            timers: timers.len(),
            entities: entities.len(),
        };
        let mut out = MAGIC.to_vec();
        // a struct of texts and numbers always has a JSON form
        put(&mut out, &serde_json::to_vec(&header).unwrap_or_default());
        for (field, value) in sequences {
            put(&mut out, field.as_bytes());
            out.extend_from_slice(value);
        }
        for (id, due) in timers {
            put(&mut out, id.as_bytes());
            out.extend_from_slice(&due.millis().to_be_bytes());
        }
        for (id, blob) in entities {
            put(&mut out, id.as_bytes());
            put(&mut out, blob);
        }
        let checksum = xxh3_128(&out);
        out.extend_from_slice(&checksum.to_be_bytes());
        out
    }

    /// From its bytes; blobs share them.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn decode(bytes: &Bytes) -> Result<Self, BackupError> {
        let Some(body) = bytes.len().checked_sub(CHECKSUM).filter(|_| bytes.starts_with(MAGIC)) else { return Err(BackupError::Foreign) };
        if xxh3_128(&bytes[..body]).to_be_bytes() != bytes[body..] {
            return Err(BackupError::Damaged);
        }
        let mut rest = bytes.slice(MAGIC.len()..body);
        let header = take(&mut rest)?;
        // first the version alone: a later header may have other fields
        let version: serde_json::Value = serde_json::from_slice(&header).map_err(|e| malformed(&e))?;
        match version["version"].as_u64().and_then(|v| u32::try_from(v).ok()) {
            Some(VERSION) => {}
            Some(other) => return Err(BackupError::Version(other)),
            None => return Err(malformed(&"no version")),
        }
        let h: Header = serde_json::from_slice(&header).map_err(|e| malformed(&e))?;
        let install = Install { id: h.install, layout: h.layout, format: h.format };
        let meta = Meta {
            ochain: h.ochain,
            clk: Timestamp::from_millis(h.clk),
            wm: Timestamp::from_millis(h.wm),
            digest: hex::decode(&h.digest).map_err(|e| malformed(&e))?.into(),
            eng: h.eng,
            defv: h.defv,
            leader: h.leader,
            lastrec: h.lastrec,
        };
        let mut snapshot = Snapshot { off: h.off, meta, ..Snapshot::empty(install) };
        for _ in 0..h.sequences {
            let field = String::from_utf8(take(&mut rest)?.to_vec()).map_err(|e| malformed(&e))?;
            snapshot.sequences.insert(field, fixed(&mut rest)?);
        }
        for _ in 0..h.timers {
            let id = EntityId::from_bytes(&take(&mut rest)?);
            snapshot.timers.insert(id, Timestamp::from_millis(i64::from_be_bytes(fixed(&mut rest)?)));
        }
        for _ in 0..h.entities {
            let id = EntityId::from_bytes(&take(&mut rest)?);
            snapshot.entities.insert(id, take(&mut rest)?);
        }
        if !rest.is_empty() {
            return Err(malformed(&"something stands behind the last entity"));
        }
        let role = h.role.parse().map_err(|e: String| malformed(&e))?;
        let partition = PartitionId { role, index: h.partition };
        Ok(Self { partition, taken: Timestamp::from_millis(h.taken_ms), snapshot })
    }

    /// Why it cannot be put in place of `partition` of `install`, whose inbox has these first and next offsets;
    /// none if it can. What it says is for people.
    pub fn refusal(&self, partition: PartitionId, install: &Install, watermarks: (Offset, Offset)) -> Option<String> {
        let (start, end) = watermarks;
        let (own, off) = (&self.snapshot.install, self.snapshot.off);
        if self.partition != partition {
            return Some(format!("it is of {}, not of {partition}", self.partition));
        }
        if own != install {
            return Some(format!("it is of {own}; this one is {install}"));
        }
        if off < start {
            return Some(format!(
                "it ends at offset {off} and the inbox begins at {start}: what came between is gone and cannot be folded again; take a newer backup"
            ));
        }
        (off > end).then(|| format!("it ends at offset {off} and the inbox already at {end}: the log has lost its tail, or is another one"))
    }
}

fn malformed(why: &dyn std::fmt::Display) -> BackupError {
    BackupError::Malformed(why.to_string())
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    // a blob is far below 4 GiB: the largest record is 256 KiB
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn take(rest: &mut Bytes) -> Result<Bytes, BackupError> {
    if rest.len() < 4 {
        return Err(malformed(&"it ends too early"));
    }
    let length = rest.get_u32() as usize;
    if rest.len() < length {
        return Err(malformed(&"it ends too early"));
    }
    Ok(rest.split_to(length))
}

fn fixed<const N: usize>(rest: &mut Bytes) -> Result<[u8; N], BackupError> {
    let mut value = [0; N];
    if rest.len() < N {
        return Err(malformed(&"it ends too early"));
    }
    rest.copy_to_slice(&mut value);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use waypost_types::{Role, WorkspaceId};

    use super::*;

    const P: PartitionId = PartitionId { role: Role::Segmenter, index: 3 };

    fn backup() -> Backup {
        let install = Install { id: "ab".repeat(16), layout: 1, format: 1 };
        let id = |key: &[u8]| EntityId::new(WorkspaceId::new(1), b'p', key);
        let mut snapshot = Snapshot::empty(install);
        snapshot.off = 42;
        snapshot.meta = Meta { ochain: u64::MAX, digest: Bytes::from_static(b"\0\xff"), defv: "3:abc".into(), eng: 1, ..Meta::default() };
        snapshot.sequences.insert("x:orchestrator:3".into(), [7; 16]);
        snapshot.timers.insert(id(b"a"), Timestamp::from_millis(1_700_000_000_000));
        snapshot.entities.insert(id(b"a"), Bytes::from_static(b"\x01\x02"));
        snapshot.entities.insert(id(b""), Bytes::new());
        Backup { partition: P, taken: Timestamp::from_millis(9), snapshot }
    }

    #[test]
    fn a_backup_comes_back() {
        assert_eq!(Backup::decode(&backup().encode().into()), Ok(backup()));
        let empty = Backup { snapshot: Snapshot::empty(backup().snapshot.install), ..backup() };
        assert_eq!(Backup::decode(&empty.encode().into()), Ok(empty));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let whole = backup().encode();
        for length in 0..whole.len() {
            assert!(Backup::decode(&Bytes::copy_from_slice(&whole[..length])).is_err(), "cut at {length}");
        }
        for place in 0..whole.len() {
            let mut changed = whole.clone();
            changed[place] ^= 1;
            assert!(Backup::decode(&changed.into()).is_err(), "changed at {place}");
        }
    }

    #[test]
    fn a_later_format_is_named() {
        let whole = String::from_utf8_lossy(&backup().encode()).into_owned();
        assert!(whole.contains("\"version\":1"));
        let mut out = MAGIC.to_vec();
        put(&mut out, b"{\"version\":2,\"news\":true}");
        let checksum = xxh3_128(&out).to_be_bytes();
        out.extend_from_slice(&checksum);
        assert_eq!(Backup::decode(&out.into()), Err(BackupError::Version(2)));
    }

    #[test]
    fn what_cannot_be_replayed_or_is_of_another_is_refused() {
        let backup = backup();
        let install = &backup.snapshot.install;
        let refused = |partition, install: &Install, marks| backup.refusal(partition, install, marks).unwrap_or_default();
        assert_eq!(refused(P, install, (0, 50)), "");
        assert_eq!(refused(P, install, (42, 42)), "");
        assert!(refused(P, install, (43, 50)).contains("take a newer backup"));
        assert!(refused(P, install, (0, 41)).contains("lost its tail"));
        assert!(refused(PartitionId { index: 4, ..P }, install, (0, 50)).contains("segmenter/3, not of segmenter/4"));
        for other in [Install { id: "cd".repeat(16), ..install.clone() }, Install { layout: 2, ..install.clone() }] {
            assert!(refused(P, &other, (0, 50)).contains("installation"));
        }
    }
}
