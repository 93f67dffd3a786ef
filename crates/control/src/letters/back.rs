//! What a letter becomes when it is put back: which record, into which inbox (PROTOCOL §11.6).
//!
//! A new record id names the letter, because the old one may have been seen. Log time stays: it is still the event
//! that happened then. What belongs to the order of a partition channel, or was proposed by a partition to itself,
//! cannot be put back one by one.

use prost::Message as _;
use waypost_codec::{frame::Record, inbox, kind};
use waypost_types::{ContentHash, Position, Role};

use super::Letter;

/// Where a letter goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    /// Into an inbox.
    Inbox(Role, Box<Record>),
    /// To the public topic that it came from, as it lay there, under its own message id.
    Door,
}

/// What becomes of the letter; `before` counts how often it was put back.
///
/// # Errors
/// Why it cannot be put back, and what to do instead.
pub(crate) fn back(letter: &Letter, before: usize) -> Result<Back, String> {
    if letter.door == "kafka" {
        return Ok(Back::Door);
    }
    if let Some(size) = letter.truncated {
        return Err(cut(size));
    }
    if letter.bytes.is_empty() {
        return Err("there is no record in it: it was a timer, and timers are armed anew by the next record of their entity".to_owned());
    }
    let role = match letter.door.as_str() {
        "http" => return Err("its caller was told at once what to change: it is sent again there, under its own message id".to_owned()),
        door => door.parse::<Role>().map_err(|_| format!("`{door}` is no door of this release"))?,
    };
    let record = letter.record().ok_or("its bytes are no record: nobody can fold them")?;
    let (role, record) = route(role, record)?;
    let id = *ContentHash::of(format!("redrive {} {before}", letter.id).as_bytes()).as_bytes();
    Ok(Back::Inbox(role, Box::new(Record { id, cause: Position::default(), ..record })))
}

/// Why what is not there whole cannot be put back.
pub(crate) fn cut(size: u64) -> String {
    format!("only a part of its {size} bytes was kept: send the original again")
}

fn route(role: Role, record: Record) -> Result<(Role, Record), String> {
    match (role, record.kind) {
        (
            Role::Identity,
            kind::EVENT | kind::LINK | kind::RECEIPT | kind::EMIT | kind::ERASE | kind::DETACH | kind::EXPIRE | kind::RUN_COMMAND,
        )
        | (Role::Segmenter, kind::ITEM | kind::RUN_ITEM)
        | (Role::Sender, kind::DISPATCH | kind::RECALL | kind::SUPPRESS | kind::UNSUPPRESS | kind::FEEDBACK | kind::ERASE_ADDRESS) => {
            Ok((role, record))
        }
        // `wp1.journey` has one source: an item goes there behind what the segmenter knows by now. Its old delta would
        // put back what has changed since.
        (Role::Orchestrator, kind::JOURNEY_ITEM | kind::JOURNEY_RUN_ITEM) => {
            let body = inbox::JourneyItem::decode(record.body.clone()).map_err(|e| format!("its body cannot be read: {e}"))?;
            let item = body.item.ok_or("it has no item")?;
            let kind = if record.kind == kind::JOURNEY_RUN_ITEM { kind::RUN_ITEM } else { kind::ITEM };
            let body = inbox::SegmentItem { first: false, ..item }.encode_to_vec().into();
            Ok((Role::Segmenter, Record { kind, body, ..record }))
        }
        (_, other) => Err(format!(
            "a record of kind {other} at {role} belongs to the order of its partition channel, or to the partition itself: put back alone it would mean something else"
        )),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waypost_types::{Timestamp, WorkspaceId};

    use super::super::LetterId;
    use super::*;

    fn letter(door: &str, kind: u32, body: Bytes) -> Letter {
        let key = Bytes::from_static(b"key");
        let record = Record {
            at: Some(Timestamp::from_millis(4)),
            via: 1,
            ..Record::new(kind, WorkspaceId::new(1), [3; 16], key, Timestamp::from_millis(3), body)
        };
        let id = LetterId { partition: 3, offset: 9 };
        let (reason, origin, detail) = (String::new(), String::new(), String::new());
        Letter {
            id,
            reason,
            door: door.to_owned(),
            origin,
            detail,
            workspace: 1,
            at: 5,
            truncated: None,
            position: None,
            bytes: record.to_proto().encode_to_vec().into(),
        }
    }

    #[test]
    fn a_record_goes_back_under_a_new_id_with_its_log_time() {
        let letter = letter("segmenter", kind::ITEM, Bytes::from_static(b"body"));
        let Ok(Back::Inbox(Role::Segmenter, first)) = back(&letter, 0) else { panic!("to the segmenter") };
        assert_eq!((first.at, first.via, &first.key[..], &first.body[..]), (Some(Timestamp::from_millis(4)), 1, &b"key"[..], &b"body"[..]));
        assert_ne!(first.id, [3; 16]);
        assert_eq!(back(&letter, 0), Ok(Back::Inbox(Role::Segmenter, first.clone())), "the same attempt has the same name");
        let Ok(Back::Inbox(_, second)) = back(&letter, 1) else { panic!("to the segmenter") };
        assert_ne!(first.id, second.id);
    }

    #[test]
    fn an_item_of_the_orchestrator_goes_through_the_segmenter_without_its_old_delta() {
        let item = inbox::SegmentItem { node: Bytes::from_static(b"n"), body: None, first: true };
        let whole = inbox::JourneyItem { item: Some(item.clone()), delta: Some(inbox::Person::default()) };
        let Ok(Back::Inbox(Role::Segmenter, record)) = back(&letter("orchestrator", kind::JOURNEY_ITEM, whole.encode_to_vec().into()), 0)
        else {
            panic!("to the segmenter")
        };
        assert_eq!(record.kind, kind::ITEM);
        assert_eq!(inbox::SegmentItem::decode(record.body), Ok(inbox::SegmentItem { first: false, ..item }));
    }

    #[test]
    fn what_cannot_be_put_back_says_why() {
        let plain = |door: &str, kind| letter(door, kind, Bytes::new());
        assert_eq!(back(&plain("kafka", 1), 0), Ok(Back::Door));
        for (letter, says) in [
            (plain("http", 1), "sent again there"),
            (Letter { truncated: Some(7), ..plain("sender", 1) }, "part of its 7 bytes"),
            (Letter { bytes: Bytes::new(), ..plain("sender", 1) }, "timer"),
            (Letter { bytes: Bytes::from_static(b"\xff"), ..plain("sender", 1) }, "no record"),
            (plain("segmenter", kind::MERGE_STATE), "order"),
            (plain("orchestrator", kind::PASS), "order"),
            (plain("sender", kind::ATTEMPT), "the partition itself"),
            (plain("elsewhere", 1), "no door"),
        ] {
            let why = back(&letter, 0).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }
}
