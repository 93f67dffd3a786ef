//! What Waypost wrote itself and reads back: frames of the inboxes, state of the store, backups, the control topic.

use bytes::Bytes;
use waypost_codec::frame::{Frame, chain};
use waypost_control::Journal;
use waypost_identity::Identifier;
use waypost_orchestrator::Profile as JourneyProfile;
use waypost_runtime::{backup::Backup, install::InstallRecord, ports::Install, processor::Entity};
use waypost_segmenter::Profile as SegmentProfile;
use waypost_sender::SenderEntity;
use waypost_types::{EntityId, PartitionId, Role};
use xxhash_rust::xxh3::xxh3_128;

use crate::shop::SHOP;

/// A frame of an inbox; what is read in is written as bytes that read the same.
pub(crate) fn frame(data: &[u8]) -> bool {
    let Ok(read) = Frame::decode(Bytes::copy_from_slice(data)) else { return false };
    let written = read.encode();
    let again = Frame::decode(written.clone()).expect("what was written can be read");
    assert_eq!(again.encode(), written, "one value has one form");
    for section in &again.sections {
        section.records.iter().fold(0, |before, record| chain(before, record.kind, &record.key, &record.body));
    }
    again.sections.iter().any(|section| !section.records.is_empty())
}

/// State of an entity: the first byte says of which kind, the rest is a blob whose seal is good or not.
pub(crate) fn state(data: &[u8]) -> bool {
    let Some((selector, body)) = data.split_first() else { return false };
    let sealed = selector & 0x80 == 0;
    let blob = if sealed { waypost_codec::stored::seal(1, body) } else { Bytes::copy_from_slice(body) };
    match selector % 5 {
        0 => same::<Identifier>(b'i', &blob),
        1 => same::<SegmentProfile>(b'p', &blob),
        2 => same::<JourneyProfile>(b'p', &blob),
        3 => same::<SenderEntity>(b'd', &blob),
        _ => same::<SenderEntity>(b'a', &blob),
    }
}

fn same<E: Entity + PartialEq>(kind: u8, blob: &Bytes) -> bool {
    let id = EntityId::new(SHOP, kind, &[7; 31]);
    let Ok(read) = E::decode(&id, blob) else { return false };
    let _: waypost_runtime::processor::Wakeups = read.wakeups();
    if let Some(written) = read.encode() {
        let again = E::decode(&id, &written).expect("what was written can be read");
        assert_eq!(again.encode(), Some(written), "one value has one form");
    }
    true
}

/// A backup of a partition, without its checksum where the first byte is even: damage beyond that is found by
/// the decoder alone.
pub(crate) fn backup(data: &[u8]) -> bool {
    let Some((selector, body)) = data.split_first() else { return false };
    let mut bytes = body.to_vec();
    if selector & 1 == 0 {
        bytes.extend_from_slice(&xxh3_128(body).to_be_bytes());
    }
    let Ok(read) = Backup::decode(&bytes.into()) else { return false };
    assert_eq!(Backup::decode(&read.encode().into()).as_ref(), Ok(&read), "what was written reads the same");
    let snapshot = &read.snapshot;
    assert_eq!(read.refusal(read.partition, &snapshot.install, (0, u64::MAX)), None, "its own partition takes it");
    let (other, nobody) = (PartitionId { role: Role::Identity, index: u32::MAX }, Install { id: String::new(), layout: 0, format: 0 });
    assert!(read.refusal(other, &nobody, (0, u64::MAX)).is_some(), "nobody else does");
    true
}

/// The control topic, a record a line: who the installation is, and what the journal says.
pub(crate) fn control(data: &[u8]) -> bool {
    let lines = || data.split(|byte| *byte == b'\n');
    for record in lines().filter_map(InstallRecord::from_bytes) {
        assert_eq!(InstallRecord::from_bytes(&record.to_bytes()).as_ref(), Some(&record), "what was written reads the same");
        let layout = record.layout();
        assert!(layout.partition(SHOP, &record.hash_key()) < layout.partitions, "a partition that does not exist");
        assert_eq!(record.install().id, record.id);
    }
    let folded = || {
        let mut journal = Journal::default();
        for (offset, line) in (0..).zip(lines()) {
            journal.fold(offset, line);
        }
        journal
    };
    let journal = folded();
    assert_eq!(folded(), journal, "the same lines, another journal");
    assert_eq!(journal.last, journal.valid.last().copied(), "the last valid line is the last");
    assert!(journal.valid.iter().all(|offset| *offset < journal.next));
    for (partition, _) in journal.skipped() {
        assert!(Role::KEYED.contains(&partition.role), "{partition} folds nothing");
    }
    journal.last.is_some()
}
