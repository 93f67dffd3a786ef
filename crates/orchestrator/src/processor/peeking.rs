//! What is asked of every event, without reading the rest of it.
//!
//! The segmenter has read all of it, and set aside what cannot be read.

use bytes::Bytes;
use prost::Message;
use waypost_runtime::processor::Poison;

use super::{decode, malformed};

/// Fields of `waypost.inbox.v1.Event`, by the same numbers.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Peeked {
    #[prost(bytes = "bytes", tag = "2")]
    name: Bytes,
    #[prost(bytes = "bytes", tag = "10")]
    source: Bytes,
}

// === impl Peeked ===

impl Peeked {
    pub(super) fn of(event: &Bytes) -> Result<Self, Poison> {
        decode(event)
    }

    pub(super) fn name(&self) -> Result<&str, Poison> {
        text(&self.name)
    }

    pub(super) fn source(&self) -> Result<&str, Poison> {
        text(&self.source)
    }
}

fn text(bytes: &Bytes) -> Result<&str, Poison> {
    str::from_utf8(bytes).map_err(|e| malformed(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use waypost_codec::inbox::Event;

    use super::*;

    #[test]
    fn a_peek_finds_what_the_whole_event_says() {
        let event = Event { message_id: "m1".to_owned(), name: "Page Viewed".to_owned(), source: "web".to_owned(), ..Event::default() };
        let peeked = Peeked::of(&event.encode_to_vec().into()).unwrap();
        assert_eq!((peeked.name(), peeked.source()), (Ok("Page Viewed"), Ok("web")));
        let peeked = Peeked::of(&Event::default().encode_to_vec().into()).unwrap();
        assert_eq!((peeked.name(), peeked.source()), (Ok(""), Ok("")));
    }

    #[test]
    fn what_is_no_event_is_poison() {
        assert!(Peeked::of(&Bytes::from_static(b"\xff\xff")).is_err());
        assert!(Peeked::of(&Bytes::from_static(b"\x12\x01\xff")).unwrap().name().is_err());
    }
}
