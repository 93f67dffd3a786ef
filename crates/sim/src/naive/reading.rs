//! How the oracle reads a frame: the protobuf message as it stands, and the chain as PROTOCOL §7.3 defines it.

use prost::Message as _;
use waypost_codec::{frame::Record, inbox};
use waypost_runtime::ports::Delivery;
use waypost_types::{Position, Role, Timestamp, WorkspaceId};
use xxhash_rust::xxh3::xxh3_64;

/// A run of records, and where it stands in its partition channel.
#[derive(Debug)]
pub(super) struct Run {
    /// Source role and partition, number of the first record, chain after the last.
    pub(super) source: Option<(Role, u32, u64, u64)>,
    pub(super) records: Vec<Record>,
}

/// The runs of a delivered frame.
pub(super) fn runs(delivery: &Delivery) -> Result<Vec<Run>, String> {
    let frame = inbox::Frame::decode(delivery.payload.clone()).map_err(|e| format!("not a frame: {e}"))?;
    frame.sections.into_iter().map(run).collect()
}

fn run(section: inbox::Section) -> Result<Run, String> {
    let source = match section.source {
        None => None,
        Some(source) => {
            let role = Role::KEYED.into_iter().find(|role| role.number() == source.role);
            Some((role.ok_or("a source that is no keyed role")?, source.partition, source.first, source.chain))
        }
    };
    Ok(Run { source, records: section.records.into_iter().map(record).collect::<Result<_, _>>()? })
}

fn record(record: inbox::Record) -> Result<Record, String> {
    let inbox::Record { kind, workspace, id, key, said, at, via, cause_offset, cause_index, eng_min, trace, body } = record;
    Ok(Record {
        kind,
        workspace: WorkspaceId::new(workspace),
        id: id.as_ref().try_into().map_err(|_| "a record id that is not 16 bytes")?,
        key,
        said: Timestamp::from_millis(said),
        at: (at != 0).then_some(Timestamp::from_millis(at)),
        via,
        cause: Position { offset: cause_offset, index: cause_index },
        eng_min,
        trace,
        body,
    })
}

/// `chain(c, record) = xxh3_64(c ‖ kind ‖ key ‖ body)`.
pub(super) fn chain(before: u64, kind: u32, key: &[u8], body: &[u8]) -> u64 {
    xxh3_64(&[&before.to_be_bytes()[..], &kind.to_be_bytes()[..], key, body].concat())
}
