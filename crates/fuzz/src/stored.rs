//! What Waypost wrote itself and reads back: frames of the inboxes, state of the store.

use bytes::Bytes;
use waypost_codec::frame::{Frame, chain};
use waypost_identity::Identifier;
use waypost_orchestrator::Profile as JourneyProfile;
use waypost_runtime::processor::Entity;
use waypost_segmenter::Profile as SegmentProfile;
use waypost_sender::SenderEntity;
use waypost_types::EntityId;

use crate::shop::SHOP;

/// A frame of an inbox; what is read in is written as bytes that read the same.
pub(crate) fn frame(data: &[u8]) {
    let Ok(read) = Frame::decode(Bytes::copy_from_slice(data)) else { return };
    let written = read.encode();
    let again = Frame::decode(written.clone()).expect("what was written can be read");
    assert_eq!(again.encode(), written, "one value has one form");
    for section in &again.sections {
        section.records.iter().fold(0, |before, record| chain(before, record.kind, &record.key, &record.body));
    }
}

/// State of an entity: the first byte says of which kind, the rest is a blob whose seal is good or not.
pub(crate) fn state(data: &[u8]) {
    let Some((selector, body)) = data.split_first() else { return };
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

fn same<E: Entity + PartialEq>(kind: u8, blob: &Bytes) {
    let id = EntityId::new(SHOP, kind, &[7; 31]);
    let Ok(read) = E::decode(&id, blob) else { return };
    let _: waypost_runtime::processor::Wakeups = read.wakeups();
    if let Some(written) = read.encode() {
        let again = E::decode(&id, &written).expect("what was written can be read");
        assert_eq!(again.encode(), Some(written), "one value has one form");
    }
}
