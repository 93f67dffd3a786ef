//! Frames, sections, records (PROTOCOL §3.4): what Kafka carries and what is folded.

use std::borrow::Borrow;

use bytes::Bytes;
use prost::{Message as _, encoding::message};
use waypost_types::{Position, Role, Timestamp, WorkspaceId, hash::hash64};

use crate::{
    inbox,
    view::{Field, fields},
    wire::{each, number, text},
};

/// What is folded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// See [`crate::kind`].
    pub kind: u32,
    /// Workspace; 0 for records of the installation.
    pub workspace: WorkspaceId,
    /// 128-bit id.
    pub id: [u8; 16],
    /// Routing key.
    pub key: Bytes,
    /// The producer's clock.
    pub said: Timestamp,
    /// Log time; none where the record enters here.
    pub at: Option<Timestamp>,
    /// Tombstones passed.
    pub via: u32,
    /// Position of its cause in the source's inbox.
    pub cause: Position,
    /// Lowest engine that reads it.
    pub eng_min: u32,
    /// W3 trace context.
    pub trace: Bytes,
    /// Body, by kind.
    pub body: Bytes,
}

/// Where a section's records stand in their partition channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Source role.
    pub role: Role,
    /// Source partition.
    pub partition: u32,
    /// Sequence of the first record.
    pub first: u64,
    /// Chain after the last.
    pub chain: u64,
}

/// A run of records of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// None: a door's, control's, or self-proposed records.
    pub source: Option<Source>,
    /// In order.
    pub records: Vec<Record>,
}

/// One Kafka record of an inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// In order.
    pub sections: Vec<Section>,
}

/// Why bytes are not a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a frame: {0}")]
pub struct FrameError(String);

/// `chain(c, record) = xxh3_64(c ‖ kind ‖ key ‖ body)`.
pub fn chain(before: u64, kind: u32, key: &[u8], body: &[u8]) -> u64 {
    hash64(&[&before.to_be_bytes(), &kind.to_be_bytes(), key, body])
}

/// The canonical bytes of a frame of these sections: those that prost makes of [`inbox::Frame`], without making one first.
pub fn encode<R: Borrow<Record>>(sections: &[(Option<Source>, Vec<R>)]) -> Bytes {
    /// What stands around key and body of a record, about.
    const AROUND: usize = 64;
    let size = |record: &R| AROUND + record.borrow().key.len() + record.borrow().body.len();
    let mut buf = Vec::with_capacity(sections.iter().flat_map(|(_, records)| records).map(size).sum());
    each(1, sections, &mut buf, |(source, records), buf| {
        if let Some(Source { role, partition, first, chain }) = *source {
            message::encode(1, &inbox::Source { role: role.number(), partition, first, chain }, buf);
        }
        each(2, records, buf, |record, buf| record.borrow().write(buf));
    });
    buf.into()
}

// === impl Record ===

impl Record {
    /// A record of a door, of control, or self-proposed: no log time, no cause.
    pub fn new(kind: u32, workspace: WorkspaceId, id: [u8; 16], key: Bytes, said: Timestamp, body: Bytes) -> Self {
        Self { kind, workspace, id, key, said, at: None, via: 0, cause: Position::default(), eng_min: 0, trace: Bytes::new(), body }
    }

    /// Its protobuf form.
    pub fn to_proto(&self) -> inbox::Record {
        inbox::Record {
            kind: self.kind,
            workspace: self.workspace.number(),
            id: Bytes::copy_from_slice(&self.id),
            key: self.key.clone(),
            said: self.said.millis(),
            at: self.at.map_or(0, Timestamp::millis),
            via: self.via,
            cause_offset: self.cause.offset,
            cause_index: self.cause.index,
            eng_min: self.eng_min,
            trace: self.trace.clone(),
            body: self.body.clone(),
        }
    }

    /// Its protobuf form.
    fn write(&self, buf: &mut Vec<u8>) {
        let Self { kind, workspace, id, key, said, at, via, cause, eng_min, trace, body } = self;
        number(1, u64::from(*kind), buf);
        number(2, u64::from(workspace.number()), buf);
        text(3, id, buf);
        text(4, key, buf);
        number(5, said.millis().cast_unsigned(), buf);
        number(6, at.map_or(0, Timestamp::millis).cast_unsigned(), buf);
        number(7, u64::from(*via), buf);
        number(8, cause.offset, buf);
        number(9, u64::from(cause.index), buf);
        number(10, u64::from(*eng_min), buf);
        text(11, trace, buf);
        text(12, body, buf);
    }

    /// From its bytes, which lie in those of its frame; none where they are not as they are written here.
    fn read(frame: &Bytes, record: &[u8]) -> Option<Self> {
        let mut read = Self::new(0, WorkspaceId::new(0), [0; 16], Bytes::new(), Timestamp::ZERO, Bytes::new());
        let mut has_id = false;
        let small = |number: u64| u32::try_from(number).ok();
        fields(record, &[], |tag, field| {
            match (tag, field) {
                (1, Field::Number(kind)) => read.kind = small(kind)?,
                (2, Field::Number(workspace)) => read.workspace = WorkspaceId::new(small(workspace)?),
                (3, Field::Block(id)) => (read.id, has_id) = (id.try_into().ok()?, true),
                (4, Field::Block(key)) => read.key = frame.slice_ref(key),
                (5, Field::Number(said)) => read.said = Timestamp::from_millis(said.cast_signed()),
                (6, Field::Number(at)) => read.at = (at != 0).then(|| Timestamp::from_millis(at.cast_signed())),
                (7, Field::Number(via)) => read.via = small(via)?,
                (8, Field::Number(offset)) => read.cause.offset = offset,
                (9, Field::Number(index)) => read.cause.index = small(index)?,
                (10, Field::Number(engine)) => read.eng_min = small(engine)?,
                (11, Field::Block(trace)) => read.trace = frame.slice_ref(trace),
                (12, Field::Block(body)) => read.body = frame.slice_ref(body),
                _ => return None,
            }
            Some(())
        })?;
        has_id.then_some(read)
    }

    /// From its protobuf form.
    pub fn from_proto(record: inbox::Record) -> Result<Self, FrameError> {
        let id = record.id.as_ref().try_into().map_err(|_| FrameError("record id is not 16 bytes".into()))?;
        Ok(Self {
            kind: record.kind,
            workspace: WorkspaceId::new(record.workspace),
            id,
            key: record.key,
            said: Timestamp::from_millis(record.said),
            at: (record.at != 0).then(|| Timestamp::from_millis(record.at)),
            via: record.via,
            cause: Position { offset: record.cause_offset, index: record.cause_index },
            eng_min: record.eng_min,
            trace: record.trace,
            body: record.body,
        })
    }
}

// === impl Source ===

impl Source {
    fn from_proto(source: inbox::Source) -> Result<Self, FrameError> {
        let inbox::Source { role, partition, first, chain } = source;
        let role = Role::from_number(role).ok_or_else(|| FrameError(format!("unknown source role {role}")))?;
        Ok(Self { role, partition, first, chain })
    }
}

// === impl Section ===

impl Section {
    fn read(frame: &Bytes, section: &[u8]) -> Option<Self> {
        /// What most records have at least.
        const LEAST: usize = 128;
        let mut source = None;
        let mut records = Vec::with_capacity(section.len() / LEAST + 1);
        fields(section, &[2], |tag, field| {
            match (tag, field) {
                (1, Field::Block(said)) => source = Some(Source::from_proto(inbox::Source::decode(said).ok()?).ok()?),
                (2, Field::Block(record)) => records.push(Record::read(frame, record)?),
                _ => return None,
            }
            Some(())
        })?;
        Some(Self { source, records })
    }
}

// === impl Frame ===

impl Frame {
    /// Canonical bytes.
    pub fn encode(&self) -> Bytes {
        let sections: Vec<(_, Vec<&Record>)> =
            self.sections.iter().map(|section| (section.source, section.records.iter().collect())).collect();
        encode(&sections)
    }

    /// From bytes; record bodies share them.
    pub fn decode(bytes: Bytes) -> Result<Self, FrameError> {
        Self::read(&bytes).map_or_else(|| Self::derived(bytes), Ok)
    }

    /// By the derived decoder.
    fn derived(bytes: Bytes) -> Result<Self, FrameError> {
        let frame = inbox::Frame::decode(bytes).map_err(|e| FrameError(e.to_string()))?;
        let mut sections = Vec::with_capacity(frame.sections.len());
        for section in frame.sections {
            let source = section.source.map(Source::from_proto).transpose()?;
            let records = section.records.into_iter().map(Record::from_proto).collect::<Result<_, _>>()?;
            sections.push(Section { source, records });
        }
        Ok(Self { sections })
    }

    /// The same where it is as it is written here; none otherwise.
    fn read(bytes: &Bytes) -> Option<Self> {
        let mut sections = Vec::new();
        fields(bytes, &[1], |tag, field| {
            let (1, Field::Block(section)) = (tag, field) else { return None };
            sections.push(Section::read(bytes, section)?);
            Some(())
        })?;
        Some(Self { sections })
    }

    /// A frame of one section without source.
    pub fn unsourced(records: Vec<Record>) -> Self {
        Self { sections: vec![Section { source: None, records }] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(body: &'static [u8]) -> Record {
        Record::new(1, WorkspaceId::new(1), [3; 16], Bytes::from_static(b"key"), Timestamp::from_millis(5), Bytes::from_static(body))
    }

    #[test]
    fn frames_come_back() {
        let frame = Frame {
            sections: vec![
                Section {
                    source: Some(Source { role: Role::Identity, partition: 3, first: 7, chain: 99 }),
                    records: vec![record(b"a"), record(b"b")],
                },
                Section { source: None, records: vec![Record { at: Some(Timestamp::from_millis(4)), via: 2, ..record(b"c") }] },
            ],
        };
        assert_eq!(Frame::decode(frame.encode()), Ok(frame));
    }

    #[test]
    fn the_bytes_are_those_that_prost_makes() {
        let long = |n: usize| Bytes::from(vec![b'x'; n]);
        let full = |n: usize| Record {
            key: long(n),
            at: Some(Timestamp::from_millis(-1)),
            via: 300,
            cause: Position { offset: u64::MAX, index: 128 },
            eng_min: 127,
            trace: long(n / 2),
            body: long(10 * n),
            ..record(b"")
        };
        let source = Source { role: Role::Segmenter, partition: 200, first: 1 << 40, chain: u64::MAX };
        for (sources, sizes) in [(0, vec![]), (1, vec![]), (1, vec![0]), (2, vec![1, 13, 31, 200, 5_000])] {
            let section = |source| Section { source, records: sizes.iter().map(|n| full(*n)).chain([record(b"")]).collect() };
            let frame = Frame { sections: [None].into_iter().chain((0..sources).map(|_| Some(source))).map(section).collect() };
            let source = |s: Source| inbox::Source { role: s.role.number(), partition: s.partition, first: s.first, chain: s.chain };
            let proto = |section: &Section| inbox::Section {
                source: section.source.map(source),
                records: section.records.iter().map(Record::to_proto).collect(),
            };
            let proto = inbox::Frame { sections: frame.sections.iter().map(proto).collect() };
            assert_eq!(frame.encode(), proto.encode_to_vec());
        }
    }

    #[test]
    fn a_frame_says_what_the_derived_decoder_says_or_nothing() {
        let full = Record {
            at: Some(Timestamp::from_millis(-1)),
            via: 300,
            cause: Position { offset: u64::MAX, index: 128 },
            eng_min: 127,
            trace: Bytes::from_static(b"trace"),
            ..record(b"a body")
        };
        let source = Source { role: Role::Segmenter, partition: 200, first: 1 << 40, chain: u64::MAX };
        let sections = vec![
            Section { source: Some(source), records: vec![full, record(b"")] },
            Section { source: None, records: vec![record(b"b")] },
            Section::default(),
        ];
        let frame = Frame { sections };
        let bytes = frame.encode();
        assert_eq!(Frame::read(&bytes), Some(frame));
        let mut damaged: Vec<Vec<u8>> = (0..bytes.len()).map(|end| bytes[..end].to_vec()).collect();
        for at in 0..bytes.len() {
            damaged.push([&bytes[..at], &bytes[at + 1..]].concat());
            damaged.extend((0..8).map(|bit| [&bytes[..at], &[bytes[at] ^ (1 << bit)], &bytes[at + 1..]].concat()));
        }
        for bytes in damaged.into_iter().map(Bytes::from) {
            if let Some(read) = Frame::read(&bytes) {
                assert_eq!(Ok(read), Frame::derived(bytes.clone()), "{bytes:?}");
            }
        }
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(Frame::decode(Bytes::from_static(b"\xff\xff\xff")).is_err());
    }

    #[test]
    fn chain_depends_on_everything_before() {
        let one = chain(0, 1, b"k", b"a");
        assert_ne!(chain(one, 1, b"k", b"b"), chain(0, 1, b"k", b"b"));
    }
}
