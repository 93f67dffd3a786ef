//! Erasing (PROTOCOL §10.7): nothing of a person stays but the mark that they are gone.

use bytes::Bytes;
use waypost_codec::{
    inbox::{Address, Truth},
    state::SegmentProfile,
};
use waypost_types::{Span, Timestamp};

use super::{Change, add_sorted};

/// How long the mark stays: as long as an inbox keeps records that may still be on their way to the profile (R).
pub const MARK: Span = Span::from_days(10);

/// What a profile was, as far as others have to know to forget it too.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wiped {
    /// Its nodes.
    pub ids: Vec<Bytes>,
    /// Profiles that had moved into it, whose tombstones stand.
    pub losers: Vec<Bytes>,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// Segments it was in.
    pub changes: Vec<Change>,
}

/// Wipes the profile with this id and leaves the mark; so does the burial of a tombstone, of which nothing comes back.
pub fn erase(profile: &mut SegmentProfile, id: &Bytes, suppress: bool, now: Timestamp) -> Wiped {
    let now = now.millis().max(profile.now);
    let mark = SegmentProfile { erased: true, erased_at: now, now, suppress, ..SegmentProfile::default() };
    let was = std::mem::replace(profile, mark);
    if !was.moved_to.is_empty() {
        return Wiped::default();
    }
    let mut wiped = wiped(was);
    // The node that founded it may have sent nothing itself.
    add_sorted(&mut wiped.ids, id);
    wiped
}

/// The same of a state that came when the profile it was to join had been erased.
pub fn erase_late(moved: SegmentProfile, loser: &Bytes) -> Wiped {
    let mut wiped = wiped(moved);
    add_sorted(&mut wiped.losers, loser);
    add_sorted(&mut wiped.ids, loser);
    wiped
}

/// When the mark of an erased profile goes.
pub(super) fn mark_goes(profile: &SegmentProfile) -> Option<Timestamp> {
    profile.erased.then(|| Timestamp::from_millis(profile.erased_at).plus(MARK))
}

fn wiped(was: SegmentProfile) -> Wiped {
    let person = was.person.unwrap_or_default();
    let left = person.memberships.iter().filter(|m| m.truth() == Truth::Yes);
    let changes = left.map(|m| Change { segment: m.segment.clone(), version: m.version, before: Truth::Yes, after: Truth::No });
    let mut wiped = Wiped { changes: changes.collect(), addresses: person.addresses, ..Wiped::default() };
    for node in was.ids.iter().chain(&was.draining) {
        add_sorted(&mut wiped.ids, node);
    }
    for loser in &was.losers {
        add_sorted(&mut wiped.losers, loser);
    }
    wiped
}
