//! What is asked of every event, without reading the rest of it.
//!
//! The segmenter has read all of it, and set aside what cannot be read.

use std::borrow::Cow;

use bytes::Bytes;
use waypost_codec::{inbox::Event, view};
use waypost_runtime::processor::Poison;

use super::decode;

/// Of an event, what says whether it concerns anybody.
#[derive(Debug)]
pub(super) struct Peeked<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) source: Cow<'a, str>,
}

// === impl Peeked ===

impl<'a> Peeked<'a> {
    pub(super) fn of(event: &'a Bytes) -> Result<Self, Poison> {
        if let Some((name, source)) = view::name_and_source(event) {
            return Ok(Self { name: name.into(), source: source.into() });
        }
        let Event { name, source, .. } = decode(event)?;
        Ok(Self { name: name.into(), source: source.into() })
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn a_peek_finds_what_the_whole_event_says() {
        let event = Event { message_id: "m1".to_owned(), name: "Page Viewed".to_owned(), source: "web".to_owned(), ..Event::default() };
        let bytes = event.encode_to_vec();
        // the other way round it is decoded
        let (id_and_name, source) = bytes.split_at(bytes.len() - 5);
        for bytes in [bytes.clone(), [source, id_and_name].concat()] {
            let bytes = bytes.into();
            let peeked = Peeked::of(&bytes).unwrap();
            assert_eq!((&*peeked.name, &*peeked.source), ("Page Viewed", "web"));
        }
        let peeked = Bytes::new();
        let peeked = Peeked::of(&peeked).unwrap();
        assert_eq!((&*peeked.name, &*peeked.source), ("", ""));
    }

    #[test]
    fn what_is_no_event_is_poison() {
        assert!(Peeked::of(&Bytes::from_static(b"\xff\xff")).is_err());
        assert!(Peeked::of(&Bytes::from_static(b"\x12\x01\xff")).is_err());
    }
}
