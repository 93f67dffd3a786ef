//! The stored profile, or the tombstone of one that moved.

use bytes::Bytes;
use prost::Message as _;
use waypost_codec::{
    state::SegmentProfile,
    stored,
    wire::{self, blocks, each, number, text},
};
use waypost_engine::segment::{self, Judged, Timer};
use waypost_runtime::processor::{Entity, Wakeups};
use waypost_types::EntityId;

const VERSION: u16 = 1;
/// Room that most profiles do with; more is found as it is needed.
const ROOM: usize = 2_048;

/// One profile: what is stored, and what is known of it in memory only.
#[derive(Clone, Debug, Default)]
pub struct Profile(pub SegmentProfile, pub(crate) Judged);

// === impl Profile ===

impl Profile {
    /// Whether it has moved into another.
    pub fn is_tombstone(&self) -> bool {
        !self.0.moved_to.is_empty()
    }

    /// Whether its person has been forgotten.
    pub fn is_erased(&self) -> bool {
        self.0.erased
    }
}

impl From<SegmentProfile> for Profile {
    fn from(stored: SegmentProfile) -> Self {
        Self(stored, Judged::default())
    }
}

impl PartialEq for Profile {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Entity for Profile {
    fn decode(_id: &EntityId, bytes: &Bytes) -> Result<Self, String> {
        let (version, body) = stored::open(bytes).map_err(|e| e.to_string())?;
        if version != VERSION {
            return Err(format!("segment profile of version {version}; this engine reads {VERSION}"));
        }
        SegmentProfile::decode(body).map(Self::from).map_err(|e| e.to_string())
    }

    fn encode(&self) -> Option<Bytes> {
        (!self.is_nothing()).then(|| stored::seal(VERSION, &encoded(&self.0)))
    }

    fn is_nothing(&self) -> bool {
        self.0 == SegmentProfile::default()
    }

    fn wakeups(&self) -> Wakeups {
        match segment::next_timer(&self.0) {
            None => Wakeups::default(),
            Some(Timer::MarkGoes(due) | Timer::DrainEnds(due)) => Wakeups { plain: Some(due), absent: None },
            Some(Timer::Flips(due)) => Wakeups { plain: None, absent: Some(due) },
        }
    }
}

/// What `state.encode_to_vec()` gives, in one pass.
fn encoded(state: &SegmentProfile) -> Vec<u8> {
    let SegmentProfile {
        moved_to,
        erased,
        person,
        ids,
        losers,
        now,
        created_at,
        last_event_at,
        events,
        draining,
        draining_since,
        erased_at,
        suppress,
    } = state;
    let mut buf = Vec::with_capacity(ROOM);
    text(1, moved_to, &mut buf);
    number(2, u64::from(*erased), &mut buf);
    each(3, person.as_slice(), &mut buf, wire::person);
    blocks(4, ids, &mut buf);
    blocks(5, losers, &mut buf);
    number(6, now.cast_unsigned(), &mut buf);
    number(7, created_at.cast_unsigned(), &mut buf);
    number(8, last_event_at.cast_unsigned(), &mut buf);
    number(9, *events, &mut buf);
    blocks(10, draining, &mut buf);
    number(11, draining_since.cast_unsigned(), &mut buf);
    number(12, erased_at.cast_unsigned(), &mut buf);
    number(13, u64::from(*suppress), &mut buf);
    buf
}

#[cfg(test)]
mod tests {
    use waypost_codec::inbox::Person;

    use super::*;

    #[test]
    fn the_bytes_are_those_that_prost_makes() {
        let ids = vec![Bytes::from_static(b"id"), Bytes::new()];
        let person = Person { removed_carts: vec!["k".repeat(200)], ..Person::default() };
        let full = SegmentProfile {
            moved_to: ids[0].clone(),
            erased: true,
            person: Some(person),
            ids: ids.clone(),
            losers: ids.clone(),
            now: -1,
            created_at: 1,
            last_event_at: i64::MAX,
            events: u64::MAX,
            draining: ids,
            draining_since: 300,
            erased_at: 128,
            suppress: true,
        };
        for state in [full, SegmentProfile { person: Some(Person::default()), ..SegmentProfile::default() }, SegmentProfile::default()] {
            assert_eq!(encoded(&state), state.encode_to_vec());
        }
    }
}
