//! The stored identifier: all its lives, the message ids it has seen, and the items that wait.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    inbox::segment_item::Body,
    state::{HeldItem, IdentifierState},
    stored,
};
use waypost_engine::identity;
use waypost_runtime::processor::{Entity, Wakeups};
use waypost_types::EntityId;

/// One from before version 2 keeps a message id beside its time.
const VERSION: u16 = 2;
/// While a command about runs waits: a binary that does not know commands must not take it for nothing.
const WITH_COMMANDS: u16 = 3;

/// One identifier.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Identifier(pub IdentifierState);

// === impl Identifier ===

impl Entity for Identifier {
    fn decode(_id: &EntityId, bytes: &Bytes) -> Result<Self, String> {
        let (version, body) = stored::open(bytes).map_err(|e| e.to_string())?;
        if !(1..=WITH_COMMANDS).contains(&version) {
            return Err(format!("identifier of version {version}; this engine reads 1 to {WITH_COMMANDS}"));
        }
        let mut state = IdentifierState::decode(body).map_err(|e| e.to_string())?;
        // Of version 1; a state holds one form.
        for seen in std::mem::take(&mut state.seen) {
            state.seen_at.push(seen.at);
            state.seen_hash.push(seen.hash);
        }
        if state.seen_at.len() != state.seen_hash.len() {
            return Err(format!("{} times of {} message ids", state.seen_at.len(), state.seen_hash.len()));
        }
        if !state.seen_at.is_sorted() {
            return Err("message ids out of order".to_owned());
        }
        Ok(Self(state))
    }

    fn encode(&self) -> Option<Bytes> {
        let is_command = |held: &HeldItem| held.item.as_ref().is_some_and(|item| matches!(item.body, Some(Body::Command(_))));
        let version = if self.0.held.iter().any(is_command) { WITH_COMMANDS } else { VERSION };
        (!self.is_nothing()).then(|| stored::seal(version, &self.0.encode_to_vec()))
    }

    fn is_nothing(&self) -> bool {
        self.0 == IdentifierState::default()
    }

    fn wakeups(&self) -> Wakeups {
        Wakeups { plain: identity::held_since(&self.0).map(|since| since.plus(identity::HELD_FOR)), absent: None }
    }
}

#[cfg(test)]
mod tests {
    use waypost_codec::inbox::NamedCount;
    use waypost_types::WorkspaceId;

    use super::*;

    /// An address with a cookie below and a user id above it, as it was stored before identifiers had names and while each
    /// message id stood beside its time.
    const NAMELESS: &str = "\
     00013eacd97408021287010a1f02020202020202020202020202020202020001000000000000000900000002121f010101010101\
     010101010101010101010100010000000000000009000000021a1f02020202020202020202020202020202020001000000000000\
     00090000000222140805121005050505050505050505050505050505280148035a0600010000020060011a0b0908070605040302\
     01100a200a";
    /// The same with its message ids in two lists.
    const NAMELESS_NOW: &str = "\
     00028851f79e08021287010a1f02020202020202020202020202020202020001000000000000000900000002121f0101010101\
     01010101010101010101010100010000000000000009000000021a1f0202020202020202020202020202020202000100000000\
     000000090000000222140805121005050505050505050505050505050505280148035a060001000002006001200a3a080a0000\
     000000000042080807060504030201";
    /// A card with another and a CRM id below it.
    const NAMED: &str = "\
     0001f8a083dc08061282010a1f06060606060606060606060606060606060001000000000000000900000002121f060606060606\
     060606060606060606060600010000000000000009000000021a1f06060606060606060606060606060606060001000000000000\
     00090000000248035a06000000000003600172080a0463617264100272070a0363726d1001200a320463617264";

    fn bytes(hex: &str) -> Bytes {
        let digit = |c: u8| u8::try_from(char::from(c).to_digit(16).unwrap()).unwrap();
        hex.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    }

    #[test]
    fn stored_identifiers_are_read_and_written_as_they_stand_here() {
        let id = EntityId::new(WorkspaceId::new(1), b'i', &[2; 16]);
        let no_ids: [(i64, u64); 0] = [];
        let (one_id, counts) = ([(10, 0x0102_0304_0506_0708)], [0, 1, 0, 0, 2, 0]);
        for (stored, written, class, custom, counts, names, ids) in [
            (NAMELESS, NAMELESS_NOW, 2, "", counts, vec![], &one_id[..]),
            (NAMELESS_NOW, NAMELESS_NOW, 2, "", counts, vec![], &one_id[..]),
            (NAMED, NAMED, 6, "card", [0, 0, 0, 0, 0, 3], vec![("card", 2), ("crm", 1)], &no_ids[..]),
        ] {
            let identifier = Identifier::decode(&id, &bytes(stored)).unwrap();
            let state = &identifier.0;
            assert_eq!((state.class, state.custom.as_str(), state.now, state.generations.len()), (class, custom, 10, 1));
            let node = &state.generations[0];
            assert_eq!((node.size, &node.counts[..], node.sent), (3, &counts[..], true));
            let names: Vec<_> = names.into_iter().map(|(name, count)| NamedCount { name: name.to_owned(), count }).collect();
            assert_eq!(node.custom_counts, names);
            assert_eq!(state.seen_at.iter().copied().zip(state.seen_hash.iter().copied()).collect::<Vec<_>>(), ids);
            let (_, body) = stored::open(&bytes(written)).unwrap();
            assert_eq!(identifier.encode(), Some(stored::seal(VERSION, &body)));
        }
    }
}
